//! Transactions that outgrow one command.
//!
//! When the buffer is full, it goes out as intents in sorted commands; with the first goes a pending
//! record. The commit flushes the rest and asks the leaseholder to decide
//! ([`crate::leaseholder::commit_intents`]).

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::mvcc::SeqNum;
use cairn_raft::store::MAX_COMMAND_BYTES;
use smallvec::smallvec;
use tokio::sync::oneshot;

use super::buffer::{Entry, Written};
use crate::db::Target;
use crate::leaseholder::commit::{KeyWrite, TxnIdentity};
use crate::leaseholder::commit_intents::CommitIntents;
use crate::leaseholder::intent_holder::IntentHolder;
use crate::leaseholder::lock::Patience;
use crate::leaseholder::read::OwnIntents;
use crate::leaseholder::slot::KeyHash;
use crate::leaseholder::write_intents::{IntentRequest, intent_bytes};
use crate::txn::check_size;
use crate::{LockStrength, Txn, TxnError};

/// A command's bytes that are kept free of intents: for its frame and the record.
const COMMAND_MARGIN: usize = 16 << 10;

/// What a transaction has written as intents.
pub struct Intents {
    /// The transaction's identity in them.
    pub identity: TxnIdentity,
    /// The transaction at the local leaseholder.
    pub holder: Option<Arc<IntentHolder>>,
    /// Rolled-back sequence numbers, both ends included.
    pub ignored: Vec<(SeqNum, SeqNum)>,
}

impl Intents {
    /// Sequence numbers from `first` to `last` were rolled back.
    pub fn ignore(&mut self, first: SeqNum, last: SeqNum) {
        if first > last {
            return;
        }
        // Rolling back to a savepoint covers the rollbacks after it.
        while self.ignored.last().is_some_and(|(earlier, _)| *earlier >= first) {
            self.ignored.pop();
        }
        self.ignored.push((first, last));
    }
}

impl Txn {
    /// Writes the buffer out as intents.
    pub(crate) async fn flush_buffer(&mut self) -> Result<(), TxnError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.snapshot().await?;
        let (anchor, _) = self.buffer.iter().next().expect("not empty");
        self.enter_intents(anchor.clone());
        let entries: Vec<(Bytes, Entry)> = self.buffer.take().into_iter().collect();
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let part = self.next_part(rest);
            if let Err(error) = self.flush_part(&rest[..part], false).await {
                self.buffer.put_back(rest.iter().cloned().collect());
                return Err(error);
            }
            rest = &rest[part..];
        }
        Ok(())
    }

    /// Inserts many keys, ascending and distinct, at once: they become intents now. None may exist
    /// ([`TxnError::Exists`] names one that does); this is found out here, without locks taken before
    /// or held after. After an error some may have been written: the caller rolls back, at least to a
    /// savepoint. Meant for bulk; what was buffered before goes out first.
    pub async fn insert_new(&mut self, rows: Vec<(Bytes, Bytes)>) -> Result<(), TxnError> {
        self.check_writable()?;
        let [(anchor, _), ..] = rows.as_slice() else { return Ok(()) };
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "ascending and distinct");
        self.flush_buffer().await?;
        self.snapshot().await?;
        self.statement_has_read = true;
        self.enter_intents(anchor.clone());
        let seq = self.write_seq;
        let entries = rows.into_iter().map(|(key, value)| {
            check_size(&key, value.len())?;
            let entry = Entry { hash: KeyHash::of(&key), values: smallvec![(seq, Written::Value(value))] };
            Ok((key, entry))
        });
        let entries = entries.collect::<Result<Vec<_>, TxnError>>()?;
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let part = self.next_part(rest);
            self.flush_part(&rest[..part], true).await?;
            rest = &rest[part..];
        }
        Ok(())
    }

    /// Has intents from here on.
    fn enter_intents(&mut self, anchor: Bytes) {
        if self.intents.is_none() {
            let identity = self.new_identity(anchor);
            let holder = match &self.target {
                Target::Local(leaseholder) => Some(leaseholder.holders.enter(identity.clone(), self.who)),
                Target::Remote(_) => None,
            };
            self.intents = Some(Box::new(Intents { identity, holder, ignored: Vec::new() }));
        }
    }

    /// How many of `entries` fit a command; at least one.
    fn next_part(&self, entries: &[(Bytes, Entry)]) -> usize {
        let anchor = self.intents.as_ref().map_or(0, |intents| intents.identity.anchor.len());
        let mut bytes = 0;
        let fitting = entries.iter().take_while(|(key, entry)| {
            bytes += intent_bytes(key, &entry.values) + anchor;
            bytes <= MAX_COMMAND_BYTES - COMMAND_MARGIN
        });
        fitting.count().max(1)
    }

    async fn flush_part(&mut self, part: &[(Bytes, Entry)], new: bool) -> Result<(), TxnError> {
        if self.remote.is_some() {
            return Box::pin(self.write_intents_remotely(part, new)).await;
        }
        let writes = part.iter().map(|(key, entry)| {
            let lock = self.locks.find(key, entry.hash);
            KeyWrite {
                key: key.clone(),
                hash: entry.hash,
                values: entry.values.clone(),
                locked: lock.is_some_and(|lock| lock.strength == LockStrength::Exclusive),
                seen: lock.and_then(|lock| lock.seen.clone()),
            }
        });
        let writes = writes.collect();
        let own = self.own_intents(self.write_seq).expect("entered before the first part");
        let sees = |earlier| own.visible(earlier);
        let request = IntentRequest {
            holder: own.holder,
            isolation: self.options.isolation,
            read_ts: self.read_ts,
            writes,
            absent: if new { Some(&sees) } else { None },
            patience: self.patience(),
        };
        self.leaseholder().write_intents(request).await?;
        let is_flushed = |key: &Bytes| part.binary_search_by(|(flushed, _)| flushed.cmp(key)).is_ok();
        let Target::Local(leaseholder) = &self.target else { unreachable!("it is not remote") };
        leaseholder.release_flushed(self.who.owner, &mut self.locks, is_flushed);
        Ok(())
    }

    /// The own intents at the local leaseholder, if any, as reads up to `seq` see them.
    #[inline]
    pub(crate) fn own_intents(&self, seq: SeqNum) -> Option<OwnIntents<'_>> {
        let intents = self.intents.as_ref()?;
        Some(OwnIntents { holder: intents.holder.as_ref()?, ignored: &intents.ignored, seq })
    }

    /// Commits a transaction that has intents.
    pub(crate) async fn commit_intents(&mut self) -> Result<Timestamp, TxnError> {
        self.flush_buffer().await?;
        if self.remote.is_some() {
            return Box::pin(self.commit_intents_remotely()).await;
        }
        self.earlier_reads.append(&mut self.reads);
        let Target::Local(leaseholder) = &self.target else { unreachable!("it is not remote") };
        let intents = self.intents.as_ref().expect("it has intents");
        let request = CommitIntents {
            holder: intents.holder.as_ref().expect("its leaseholder is local"),
            node: self.db.node,
            ignored: &intents.ignored,
            isolation: self.options.isolation,
            read_ts: self.read_ts,
            locks: self.locks.iter(),
            reads: &mut self.earlier_reads,
            patience: Patience { cancel: &self.options.cancel, timeout: self.options.lock_timeout },
        };
        let (leaseholder, identity) = (Arc::clone(leaseholder), intents.identity.clone());
        let outcome = leaseholder.commit_intents(request).await;
        self.settled(&leaseholder, &identity, outcome).await
    }

    /// Aborts: removes the intents, unless the commit has decided about them.
    pub(crate) async fn abort_intents(&mut self) {
        if let Some(done) = self.begin_abort() {
            // A closed channel: the node is stopping, and recovery aborts.
            let _ = done.await;
        }
    }

    /// Aborts without waiting.
    pub(crate) fn abandon_intents(&mut self) {
        drop(self.begin_abort());
    }

    fn begin_abort(&mut self) -> Option<oneshot::Receiver<()>> {
        let holder = self.intents.take()?.holder?;
        self.leaseholder().abort_intents(&holder)
    }
}
