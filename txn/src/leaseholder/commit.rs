//! The commit of a transaction whose writes fit one command: validated, evaluated and replicated as
//! one entry; no lock is ever written.
//!
//! In order:
//!
//! 1. latch the written keys, making sure that nobody else holds one of those that are not locked;
//! 2. validate that each key seen under a lock, or read and then written, still has that version
//!    (R12). The stamp of its slot proves it without a look at the engine as long as nothing that
//!    shares the slot was written;
//! 3. choose the commit timestamp: the read timestamp where nobody has read the written keys at or
//!    above it, else now. The clock is ahead of every read it has handed a timestamp to, and whoever
//!    begins after the commit reads above it;
//! 4. if it moved, refresh what was read;
//! 5. replicate the new versions and the marker by which a resend would be recognized (R7).
//!
//! A transaction that reads at `read_ts` and commits there has nothing to refresh: this is what
//! locking reads aim at, which move the snapshot past what they find.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::effects::{EFFECTS_FORMAT, Effects, RawWrite, VersionWrite};
use cairn_kv::mvcc::TxnId;
use cairn_kv::{Timestamp, local_keys, mvcc};

use super::intent_holder::IntentHolder;
use super::latch::{HashedKey, LatchGuard};
use super::lock::{Patience, TakenLock};
use super::lock_table::Requester;
use super::propose::no_timestamp;
use super::refresh::{Refreshed, changed};
use super::slot::{KeyHash, Stamp};
use super::{Leaseholder, Own};
use crate::gateway::buffer::Values;
use crate::gateway::held_locks::{HeldLock, Seen};
use crate::gateway::read_set::ReadSet;
use crate::wire::NodeId;
use crate::{Isolation, LockStrength, TxnError};

/// What identifies a transaction in what it writes.
#[derive(Clone, Debug)]
pub struct TxnIdentity {
    /// Random.
    pub txn_id: TxnId,
    /// Its first written key: where its record and marker are kept.
    pub anchor: Bytes,
    /// Its first read timestamp.
    pub start_ts: Timestamp,
}

/// A key to write.
pub struct KeyWrite {
    /// The key.
    pub key: Bytes,
    /// Its hash.
    pub hash: KeyHash,
    /// The values by sequence number; never empty.
    pub values: Values,
    /// The transaction holds it exclusively in the lock table.
    pub locked: bool,
    /// What was seen under the lock.
    pub seen: Option<Seen>,
}

/// A transaction to commit.
pub struct CommitRequest<'a> {
    /// Who.
    pub who: Requester,
    /// The node of its gateway.
    pub node: NodeId,
    /// Its identity.
    pub identity: TxnIdentity,
    /// Its isolation level.
    pub isolation: Isolation,
    /// Where it read.
    pub read_ts: Timestamp,
    /// Ascending by key.
    pub writes: Vec<KeyWrite>,
    /// None of the keys may exist.
    pub absent: bool,
    /// Its locks: those that were read and are not written are confirmed.
    pub locks: std::slice::Iter<'a, HeldLock>,
    /// What it read.
    pub reads: &'a mut ReadSet,
    /// How long it may wait for others.
    pub patience: Patience<'a>,
}

impl Leaseholder {
    /// Commits; returns the commit timestamp.
    pub async fn commit(self: &Arc<Leaseholder>, request: CommitRequest<'_>) -> Result<Timestamp, TxnError> {
        let CommitRequest { who, node, identity, isolation, read_ts, mut writes, absent, .. } = request;
        let CommitRequest { locks, reads, patience, .. } = request;
        let lease = self.lease()?;
        // The locks taken on the way go when this function ends, behind the latches.
        let (mut latch, _taken) = self.latch_for_write(who, None, &mut writes, patience).await?;
        let last = &writes.last().expect("a commit writes").key;
        let is_watched = latch.watch(self.watched.begin(node, &writes[0].key, last));
        let own = Own { latch: Some(&latch), holder: None };
        let serializable = isolation == Isolation::Serializable;
        self.validate_writes(&writes, isolation, read_ts, None)?;
        if absent
            && !self.faults.blind_bulk
            && let Some(taken) = self.see_committed(&mut writes)?.iter().position(|exists| *exists)
        {
            self.confirm_newest().await?;
            return Err(TxnError::Exists { key: writes[taken].key.clone() });
        }
        if serializable {
            self.validate_written_reads(&writes, reads, read_ts)?;
        }
        // A blind write says nothing of the versions it supersedes: only now is surely above them.
        let may_stay = serializable
            && !is_watched
            && writes.iter().all(|write| write.seen.as_ref().is_some_and(|seen| seen.ts < read_ts));
        let commit_ts = self.choose_timestamp(&latch, may_stay.then_some(read_ts)).await?;
        for lock in locks {
            if let Some(seen) = &lock.seen
                && find(&writes, &lock.key).is_none()
            {
                self.confirm_lock(lock, seen, commit_ts, own, patience).await?;
            }
        }
        if serializable && commit_ts > read_ts {
            let written = |key: &[u8]| find(&writes, key).is_some();
            self.refresh(reads, (read_ts, commit_ts), own, patience.cancel, written).await?;
        }
        let effects = self.evaluate(writes, &identity, commit_ts);
        self.propose(lease, effects, Some(latch)).await?;
        self.committed(commit_ts);
        Ok(commit_ts)
    }

    /// Confirms what was seen under locks on keys that are not written, at `ts`: nobody has changed
    /// them, and nobody will at or below it.
    pub async fn confirm_locks(
        &self,
        locks: std::slice::Iter<'_, HeldLock>,
        ts: Timestamp,
        own: Own<'_>,
        patience: Patience<'_>,
    ) -> Result<(), TxnError> {
        for lock in locks {
            if let Some(seen) = &lock.seen {
                self.confirm_lock(lock, seen, ts, own, patience).await?;
            }
        }
        self.confirm_read(ts).await
    }

    async fn confirm_lock(
        &self,
        lock: &HeldLock,
        seen: &Seen,
        ts: Timestamp,
        own: Own<'_>,
        patience: Patience<'_>,
    ) -> Result<(), TxnError> {
        if self.faults.no_validation {
            return Ok(());
        }
        loop {
            match self.refresh_point(&lock.key, lock.hash, seen.stamp, (seen.upto, ts), own)? {
                Refreshed::Unchanged(_) => return Ok(()),
                Refreshed::Blocked(obstacle) => self.wait_for(obstacle, ts, patience.cancel).await?,
            }
        }
    }

    /// Latches the keys of `writes`. Keys that the transaction has not locked must not be locked by
    /// others, nor carry their intents: those are waited for, without latches, and locked for as long as
    /// the write is under way.
    pub(super) async fn latch_for_write(
        self: &Arc<Leaseholder>,
        who: Requester,
        own: Option<&Arc<IntentHolder>>,
        writes: &mut [KeyWrite],
        patience: Patience<'_>,
    ) -> Result<(LatchGuard, Vec<TakenLock>), TxnError> {
        let mut taken = Vec::new();
        let mut keys: Vec<HashedKey> = writes.iter().map(|write| (write.key.clone(), write.hash)).collect();
        loop {
            let latch = match self.latches.try_acquire(keys) {
                Ok(latch) => latch,
                Err((back, other)) => {
                    keys = back;
                    self.unless_over(patience.cancel, other.released()).await?;
                    if other.is_poisoned() {
                        return Err(self.outcome_unknown());
                    }
                    continue;
                }
            };
            let mut in_the_way = None;
            for (index, write) in writes.iter().enumerate().filter(|(_, write)| !write.locked) {
                if self.locks.is_held_by_other(who.owner, &write.key, write.hash)
                    || self.intent_of_other(&write.key, own)?.is_some()
                {
                    in_the_way = Some(index);
                    break;
                }
            }
            let Some(index) = in_the_way else { return Ok((latch, taken)) };
            keys = latch.keys().to_vec();
            drop(latch);
            let write = &mut writes[index];
            taken.extend(
                self.lock(who, own, &write.key, write.hash, LockStrength::Exclusive, patience).await?,
            );
            write.locked = true;
        }
    }

    /// Validates latched keys: what was seen under the lock is still the newest version (R12); under
    /// REPEATABLE READ nothing is newer than the snapshot.
    pub(super) fn validate_writes(
        &self,
        writes: &[KeyWrite],
        isolation: Isolation,
        read_ts: Timestamp,
        own: Option<&Arc<IntentHolder>>,
    ) -> Result<(), TxnError> {
        if self.faults.no_validation {
            return Ok(());
        }
        let mut scratch = Vec::new();
        for write in writes {
            let unchanged = match &write.seen {
                Some(seen) => {
                    self.is_unwritten(&write.key, write.hash, seen.stamp, own)
                        || !mvcc::changed_since(self.engine(), &write.key, seen.upto, &mut scratch)?
                }
                None if isolation == Isolation::RepeatableRead => {
                    !mvcc::changed_since(self.engine(), &write.key, read_ts, &mut scratch)?
                }
                None => true,
            };
            if !unchanged {
                return Err(concurrent_update(&write.key));
            }
        }
        Ok(())
    }

    /// Whether nothing has taken effect on a latched key since `stamp` was taken; false where only the
    /// engine knows.
    fn is_unwritten(&self, key: &[u8], hash: KeyHash, stamp: Stamp, own: Option<&Arc<IntentHolder>>) -> bool {
        // Stamps tell of resolved intents when all of a transaction's are resolved, before it leaves:
        // while one is in flight, the key may be resolved already.
        !self.holders.may_hold(key, own) && stamp == self.slots.stamp(hash)
    }

    /// Validates latched keys that were read and are written without having been locked.
    fn validate_written_reads(
        &self,
        writes: &[KeyWrite],
        reads: &ReadSet,
        read_ts: Timestamp,
    ) -> Result<(), TxnError> {
        if self.faults.no_validation {
            return Ok(());
        }
        let mut scratch = Vec::new();
        for index in 0..reads.point_count() {
            let read = reads.point(index);
            if let Some(write) = find(writes, read.key)
                && !self.is_unwritten(&write.key, write.hash, read.stamp, None)
                && mvcc::changed_since(self.engine(), read.key, read_ts, &mut scratch)?
            {
                return Err(concurrent_update(read.key));
            }
        }
        Ok(())
    }

    /// Chooses a timestamp above every read of the latched keys: `wanted` if it is, else now.
    pub async fn choose_timestamp(
        &self,
        latch: &LatchGuard,
        wanted: Option<Timestamp>,
    ) -> Result<Timestamp, TxnError> {
        loop {
            let chosen = latch.choose(|| {
                let wanted = wanted.filter(|wanted| {
                    let unread = |(key, hash): &HashedKey| self.cache.max_read(key, *hash, *wanted) < *wanted;
                    self.cache.floor() < *wanted && latch.keys().iter().all(unread)
                });
                wanted.or_else(|| self.store.hlc().try_now())
            });
            match chosen {
                Some(ts) => return Ok(ts),
                // Raises the clock's durable bound.
                None => self.store.now().await.map_err(no_timestamp)?,
            };
        }
    }

    fn evaluate(&self, writes: Vec<KeyWrite>, identity: &TxnIdentity, commit_ts: Timestamp) -> Effects {
        let trusted = !self.faults.no_validation;
        let writes = writes.into_iter().map(|write| {
            assert!(
                write.seen.as_ref().is_none_or(|seen| seen.ts < commit_ts),
                "a commit is above what it supersedes (R5)"
            );
            let seen = write.seen.filter(|_| trusted);
            VersionWrite {
                key: write.key,
                ts: commit_ts.0,
                value: write.values.last().expect("an entry has a value").1.value().cloned(),
                fresh: seen.as_ref().is_some_and(|seen| seen.ts.is_zero()),
                supersedes: seen.and_then(|seen| seen.version),
            }
        });
        Effects {
            format: EFFECTS_FORMAT,
            writes: writes.collect(),
            local: vec![marker(identity, commit_ts)],
            ..Effects::default()
        }
    }
}

/// The write of the marker by which a resend of a commit is recognized (R7).
pub fn marker(identity: &TxnIdentity, commit_ts: Timestamp) -> RawWrite {
    RawWrite {
        key: local_keys::commit_marker(&identity.anchor, identity.start_ts, &identity.txn_id),
        value: Some(local_keys::commit_marker_value(commit_ts)),
    }
}

fn find<'a>(writes: &'a [KeyWrite], key: &[u8]) -> Option<&'a KeyWrite> {
    writes.binary_search_by(|write| write.key.as_ref().cmp(key)).ok().map(|index| &writes[index])
}

/// Another transaction has changed what this one locked or wants to change.
pub fn concurrent_update(key: &[u8]) -> TxnError {
    let TxnError::Retry { key, other_session, .. } = changed(key) else { unreachable!("it is one") };
    TxnError::Retry {
        reason: "could not serialize access due to concurrent update".into(),
        key,
        other_session,
    }
}

/// The leaseholder knows nothing of a transaction (any more), so it is not committed.
pub fn changed_leaseholder() -> TxnError {
    TxnError::Retry {
        reason: "could not serialize access due to a change of the leaseholder".into(),
        key: None,
        other_session: None,
    }
}
