//! The transaction handle: what SQL holds of a transaction, and its life from the first read to the
//! commit. Reads are in [`crate::gateway::read`], large transactions in [`crate::gateway::intents`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::mvcc::SeqNum;
use smallvec::smallvec;

use crate::db::Target;
use crate::gateway::buffer::{WriteBuffer, Written};
use crate::gateway::held_locks::HeldLocks;
use crate::gateway::intents::Intents;
use crate::gateway::read_set::ReadSet;
use crate::gateway::remote_txn::RemoteTxn;
use crate::leaseholder::commit::{
    CommitRequest, KeyWrite, TxnIdentity, changed_leaseholder, concurrent_update,
};
use crate::leaseholder::live::{LiveTxns, Pin};
use crate::leaseholder::lock::Patience;
use crate::leaseholder::lock_table::Requester;
use crate::leaseholder::slot::KeyHash;
use crate::leaseholder::watched::Watch;
use crate::leaseholder::{Leaseholder, Own};
use crate::{Db, TxnError};

/// Largest key and value together (R8): a write must fit a command with room for its frame.
pub const MAX_WRITE_BYTES: usize = (4 << 20) - (128 << 10);

/// Longest key: it is stored in several places and copied often.
pub const MAX_KEY_BYTES: usize = 64 << 10;

/// A value as read: owned bytes.
pub type Value = Bytes;

/// SQL's isolation levels (READ UNCOMMITTED is READ COMMITTED).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// A snapshot per statement.
    ReadCommitted,
    /// One snapshot; write-write conflicts fail.
    RepeatableRead,
    /// As if one after the other.
    #[default]
    Serializable,
}

/// How a key is locked in the leaseholder's lock table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockStrength {
    /// Coexists with its like.
    Shared,
    /// Excludes all others.
    Exclusive,
}

/// Set from outside to cancel the running statement; checked at every wait and every chunk of a
/// scan.
#[derive(Clone, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    notify: Arc<tokio::sync::Notify>,
}

impl CancelToken {
    /// Cancels; wakes a waiting statement.
    pub fn cancel(&self) {
        self.flag.store(true, std::sync::atomic::Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// Whether canceled since the last [`CancelToken::reset`].
    pub fn is_canceled(&self) -> bool {
        self.flag.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Forgets an earlier cancellation: a new statement begins.
    pub fn reset(&self) {
        self.flag.store(false, std::sync::atomic::Ordering::SeqCst);
    }

    /// Completes when canceled.
    pub async fn canceled(&self) {
        loop {
            let notified = self.notify.notified();
            if self.is_canceled() {
                return;
            }
            notified.await;
        }
    }
}

/// How a transaction begins.
#[derive(Clone, Default)]
pub struct TxnOptions {
    /// Isolation level.
    pub isolation: Isolation,
    /// Writes are refused.
    pub read_only: bool,
    /// `AS OF SYSTEM TIME`: reads at this timestamp, read-only.
    pub as_of: Option<Timestamp>,
    /// Who to name in conflict messages.
    pub session: u64,
    /// Cancellation of the session's running statement.
    pub cancel: CancelToken,
    /// `lock_timeout`; none: wait for ever (deadlocks are found).
    pub lock_timeout: Option<Duration>,
}

/// A scan of `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// First key.
    pub start: Bytes,
    /// First key not scanned.
    pub end: Bytes,
    /// Descending.
    pub reverse: bool,
}

/// A point to which writes can be rolled back (R13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(pub SeqNum);

impl Savepoint {
    /// Before all writes.
    pub const START: Savepoint = Savepoint(0);
}

/// Where a statement reads that goes on after others (R13): a portal fetched in pieces.
#[derive(Clone, Copy, Debug)]
pub struct View {
    seq: SeqNum,
    /// The statement's own snapshot, at READ COMMITTED; at the other levels it is the transaction's,
    /// wherever that moves.
    snapshot: Option<Timestamp>,
}

/// Where reads stood before [`Txn::enter`].
#[must_use = "reads must return to where they stood"]
pub struct Left {
    read_seq: SeqNum,
    read_ts: Timestamp,
    wants_snapshot: bool,
    statement_has_read: bool,
}

/// A transaction: buffered writes, locks, and the spans it read. Dropping it unfinished rolls it
/// back.
pub struct Txn {
    pub(crate) db: Arc<Db>,
    /// Where its leaseholder is: the tenure that it belongs to, if that is on this node.
    pub(crate) target: Target,
    pub(crate) options: TxnOptions,
    pub(crate) who: Requester,
    pub(crate) finished: bool,
    /// Zero until the first operation.
    pub(crate) read_ts: Timestamp,
    /// The first read timestamp; zero until there is one.
    pub(crate) start_ts: Timestamp,
    /// Keeps `read_ts`, and what was seen under locks before it, from being collected.
    pub(crate) pin: Option<Pin>,
    /// What others may have committed into the watched span before a snapshot that is of use.
    pub(crate) expected: Option<Watch>,
    /// READ COMMITTED: the next read draws a new snapshot.
    pub(crate) wants_snapshot: bool,
    /// READ COMMITTED: a statement's snapshot is still read, so that the pin stays where it is.
    pub(crate) has_view: bool,
    /// Number of what is written now.
    pub(crate) write_seq: SeqNum,
    /// Reads see own writes up to it.
    pub(crate) read_seq: SeqNum,
    /// Writes of the running statement have higher numbers.
    pub(crate) statement_start: SeqNum,
    /// The running statement has read something at its snapshot.
    pub(crate) statement_has_read: bool,
    pub(crate) buffer: WriteBuffer,
    /// What earlier statements read.
    pub(crate) earlier_reads: ReadSet,
    /// What the running statement read.
    pub(crate) reads: ReadSet,
    pub(crate) locks: HeldLocks,
    /// What has outgrown the buffer.
    pub(crate) intents: Option<Box<Intents>>,
    /// The last span admitted, at which timestamp: further chunks of it need no admission.
    pub(crate) admitted: Option<(Bytes, Bytes, Timestamp)>,
    pub(crate) rows_since_yield: usize,
    pub(crate) scratch: Vec<u8>,
    /// Set where the leaseholder is on another node.
    pub(crate) remote: Option<Box<RemoteTxn>>,
}

impl Txn {
    pub(crate) fn new(db: Arc<Db>, options: TxnOptions) -> Txn {
        let target = db.target();
        Txn {
            who: requester(&target, &options),
            remote: RemoteTxn::new(&target, &options),
            target,
            db,
            options,
            finished: false,
            read_ts: Timestamp::ZERO,
            start_ts: Timestamp::ZERO,
            pin: None,
            expected: None,
            wants_snapshot: true,
            has_view: false,
            write_seq: 1,
            read_seq: 0,
            statement_start: 0,
            statement_has_read: false,
            buffer: WriteBuffer::default(),
            earlier_reads: ReadSet::default(),
            reads: ReadSet::default(),
            locks: HeldLocks::default(),
            intents: None,
            admitted: None,
            rows_since_yield: 0,
            scratch: Vec::new(),
        }
    }

    /// Goes to where the leaseholder is now, if it has done nothing elsewhere.
    fn rebind(&mut self) {
        let is_elsewhere = match &self.target {
            Target::Local(leaseholder) => leaseholder.is_over(),
            Target::Remote(_) => self.db.has_lease(),
        };
        let has_begun = self.pin.is_some()
            || self.has_writes()
            || self.locks.iter().next().is_some()
            || self.remote.as_ref().is_some_and(|remote| remote.has_begun());
        if is_elsewhere && !has_begun {
            self.target = self.db.target();
            self.who = requester(&self.target, &self.options);
            self.remote = RemoteTxn::new(&self.target, &self.options);
        }
    }

    /// What other gateways have committed into the watched span, as the leaseholder said with its last answer to
    /// this transaction.
    pub fn watch(&self) -> Watch {
        match (&self.target, &self.remote) {
            (Target::Local(leaseholder), _) => leaseholder.watched.watch(self.db.node),
            (Target::Remote(link), remote) => remote.as_ref().map_or_else(|| link.watch(), |r| r.watch()),
        }
    }

    /// A snapshot that is drawn or moved from now on is of use only if others have committed to the watched span
    /// what `watch` says and nothing is in flight there; else the operation that needs it fails
    /// ([`TxnError::Stale`]). So what was read of the span at that watch holds at that snapshot.
    pub fn expect(&mut self, watch: Watch) {
        self.expected = Some(watch);
    }

    /// The timestamp at which this transaction (READ COMMITTED: this statement) reads; chosen now
    /// if it was not yet.
    pub async fn read_ts(&mut self) -> Result<Timestamp, TxnError> {
        self.snapshot().await
    }

    /// The timestamp at which this transaction (READ COMMITTED: this statement) reads, if it was chosen.
    pub fn drawn(&self) -> Option<Timestamp> {
        (!self.wants_snapshot).then_some(self.read_ts)
    }

    /// A statement begins: its reads see what was written before it and not what it writes itself
    /// (Halloween protection); READ COMMITTED takes a new snapshot. Remembers where
    /// [`Txn::restart_statement`] goes back to.
    pub async fn begin_statement(&mut self) -> Result<(), TxnError> {
        self.check_running()?;
        if self.start_ts.is_zero() && !self.db.store().is_alone() {
            self.rebind();
        }
        self.earlier_reads.append(&mut self.reads);
        self.step();
        self.statement_start = self.read_seq;
        self.statement_has_read = false;
        if self.options.isolation == Isolation::ReadCommitted
            && self.options.as_of.is_none()
            && (self.read_ts.is_zero() || !self.db.config.faults.one_snapshot)
        {
            self.wants_snapshot = true;
        }
        Ok(())
    }

    /// Makes the running statement's own writes so far visible to its further reads (checks behind
    /// its writes, several commands in one statement).
    pub fn step(&mut self) {
        self.read_seq = self.write_seq;
        self.write_seq = self.write_seq.checked_add(1).expect("four billion steps are not reached");
    }

    /// The running statement sees own writes up to `point` only, though others followed.
    pub fn read_as_of(&mut self, point: Savepoint) {
        self.read_seq = point.0;
    }

    /// Where the running statement reads, for it to go on there after others.
    pub async fn view(&mut self) -> Result<View, TxnError> {
        let mut snapshot = None;
        if self.options.isolation == Isolation::ReadCommitted && self.options.as_of.is_none() {
            snapshot = Some(self.snapshot().await?);
            self.has_view = true;
        }
        Ok(View { seq: self.read_seq, snapshot })
    }

    /// Reads from here on where the statement of `view` does, up to [`Txn::leave`].
    pub fn enter(&mut self, view: View) -> Left {
        let left = Left {
            read_seq: self.read_seq,
            read_ts: self.read_ts,
            wants_snapshot: self.wants_snapshot,
            statement_has_read: self.statement_has_read,
        };
        self.read_seq = view.seq;
        if let Some(ts) = view.snapshot {
            self.read_ts = ts;
            self.wants_snapshot = false;
            // The snapshot has been read at, so it does not move.
            self.statement_has_read = true;
        }
        left
    }

    /// Returns to where reads stood.
    pub fn leave(&mut self, left: Left) {
        self.read_seq = left.read_seq;
        if self.has_view {
            self.read_ts = left.read_ts;
            self.wants_snapshot = left.wants_snapshot;
            self.statement_has_read = left.statement_has_read;
        }
    }

    /// After [`TxnError::Retry`] inside a statement none of whose output was shown: drops the
    /// statement's reads and writes, refreshes the earlier reads to now. Then the statement may
    /// run again. An error means that only a replay of the whole transaction can help.
    pub async fn restart_statement(&mut self) -> Result<(), TxnError> {
        self.check_running()?;
        match (&self.target, &self.remote) {
            (Target::Local(leaseholder), _) => leaseholder.check_tenure()?,
            (_, Some(remote)) if remote.is_lost() => return Err(changed_leaseholder()),
            _ => {}
        }
        self.reads.clear();
        self.rollback_to(Savepoint(self.statement_start));
        self.step();
        self.statement_start = self.read_seq;
        self.statement_has_read = false;
        match self.options.isolation {
            Isolation::ReadCommitted => {
                self.wants_snapshot = true;
                Ok(())
            }
            Isolation::RepeatableRead if self.read_ts.is_zero() => Ok(()),
            Isolation::RepeatableRead => Err(concurrent_update(b"")),
            Isolation::Serializable => self.move_snapshot().await,
        }
    }

    /// Moves the read timestamp to `ts` or later if nothing read has changed (R16: past a newer
    /// descriptor). REPEATABLE READ cannot move its snapshot once it has read: [`TxnError::Retry`].
    pub async fn refresh_to(&mut self, ts: Timestamp) -> Result<(), TxnError> {
        if self.snapshot().await? >= ts {
            return Ok(());
        }
        if self.options.as_of.is_some() {
            return Err(TxnError::ReadOnly);
        }
        self.db.store().hlc().observe(ts);
        match self.options.isolation {
            Isolation::ReadCommitted if !self.statement_has_read => {
                self.wants_snapshot = true;
                self.snapshot().await.map(|_| ())
            }
            Isolation::Serializable => self.move_snapshot().await,
            Isolation::ReadCommitted | Isolation::RepeatableRead => Err(concurrent_update(b"")),
        }
    }

    /// Locks a key (also one that is absent, or an object's) in the lock table, waiting for others.
    pub async fn lock(&mut self, key: &[u8], strength: LockStrength) -> Result<(), TxnError> {
        self.check_running()?;
        self.lock_hashed(key, KeyHash::of(key), strength).await
    }

    pub(crate) async fn lock_hashed(
        &mut self,
        key: &[u8],
        hash: KeyHash,
        strength: LockStrength,
    ) -> Result<(), TxnError> {
        if self.options.read_only && strength == LockStrength::Exclusive || self.options.as_of.is_some() {
            return Err(TxnError::ReadOnly);
        }
        if self.locks.are_enough(key, hash, strength) {
            return Ok(());
        }
        if self.remote.is_some() {
            return Box::pin(self.lock_remotely(key, hash, strength)).await;
        }
        let key = Bytes::copy_from_slice(key);
        let own = self.own().holder;
        let taken = self.leaseholder().lock(self.who, own, &key, hash, strength, self.patience()).await?;
        if let Some(taken) = taken {
            taken.keep();
        }
        self.locks.took(key, hash, strength);
        Ok(())
    }

    /// Buffers a write; the key should be locked (by [`Txn::get_for_update`]) unless nobody else
    /// can write it. Large buffers go out as intents here, which may wait.
    pub async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), TxnError> {
        self.write(key, Written::Value(value)).await
    }

    /// Buffers a deletion.
    pub async fn delete(&mut self, key: Bytes) -> Result<(), TxnError> {
        self.write(key, Written::Deleted).await
    }

    async fn write(&mut self, key: Bytes, value: Written) -> Result<(), TxnError> {
        self.check_writable()?;
        let len = check_size(&key, value.value().map_or(0, Bytes::len))?;
        if self.buffer.bytes() + len > self.db.config.max_buffer_bytes {
            self.flush_buffer().await?;
        }
        let hash = KeyHash::of(&key);
        self.buffer.write(key, hash, self.write_seq, value);
        Ok(())
    }

    /// Marks the present point.
    pub fn savepoint(&mut self) -> Savepoint {
        let here = Savepoint(self.write_seq);
        // Later writes, also those of the running statement, have a higher number.
        self.write_seq = self.write_seq.checked_add(1).expect("four billion savepoints are not reached");
        here
    }

    /// Takes back every write since.
    pub fn rollback_to(&mut self, savepoint: Savepoint) {
        self.buffer.rollback_to(savepoint.0);
        if let Some(intents) = &mut self.intents {
            intents.ignore(savepoint.0 + 1, self.write_seq);
        }
        self.write_seq = self.write_seq.checked_add(1).expect("four billion savepoints are not reached");
    }

    /// Whether anything was written.
    pub fn has_writes(&self) -> bool {
        !self.buffer.is_empty() || self.intents.is_some()
    }

    /// Commits; returns the commit timestamp (the read timestamp when nothing was written). After
    /// an error other than `Ambiguous` it is rolled back.
    pub async fn commit(&mut self) -> Result<Timestamp, TxnError> {
        let result = match self.check_running() {
            Ok(()) => self.commit_writes().await,
            Err(canceled) => Err(canceled),
        };
        if result.is_err() {
            self.abort().await;
        }
        self.intents = None;
        self.finish();
        result
    }

    /// Nothing is committed any more.
    async fn abort(&mut self) {
        if self.remote.is_some() {
            // Where this fails, it goes on behind the handle's back.
            let _ = Box::pin(self.end_remotely(false)).await;
        } else {
            self.abort_intents().await;
        }
    }

    async fn commit_writes(&mut self) -> Result<Timestamp, TxnError> {
        if self.intents.is_some() {
            return self.commit_intents().await;
        }
        if self.buffer.is_empty() && self.remote.is_some() {
            let confirms = self.has_seen_under_locks();
            Box::pin(self.end_remotely(confirms)).await?;
            return Ok(self.read_ts);
        }
        if self.buffer.is_empty() {
            if self.locks.iter().any(|lock| lock.seen.is_some()) {
                // Reads under locks were not recorded (they would push this transaction's own writes):
                // it is made up for before the locks go.
                let (own, patience) = (Own::default(), self.patience());
                self.leaseholder().confirm_locks(self.locks.iter(), self.read_ts, own, patience).await?;
            }
            return Ok(self.read_ts);
        }
        let writes = self.take_writes();
        self.commit_keys(writes, false).await
    }

    /// Commits `writes`, ascending and not none, by one command; `absent`: none of the keys may exist.
    async fn commit_keys(&mut self, writes: Vec<KeyWrite>, absent: bool) -> Result<Timestamp, TxnError> {
        let read_ts = self.snapshot().await?;
        let identity = self.new_identity(writes[0].key.clone());
        if self.remote.is_some() {
            return Box::pin(self.commit_keys_remotely(&identity, writes, absent)).await;
        }
        self.earlier_reads.append(&mut self.reads);
        let Target::Local(leaseholder) = &self.target else { unreachable!("it is not remote") };
        let leaseholder = Arc::clone(leaseholder);
        let request = CommitRequest {
            who: self.who,
            node: self.db.node,
            identity: identity.clone(),
            isolation: self.options.isolation,
            read_ts,
            writes,
            absent,
            locks: self.locks.iter(),
            reads: &mut self.earlier_reads,
            patience: Patience { cancel: &self.options.cancel, timeout: self.options.lock_timeout },
        };
        let outcome = leaseholder.commit(request).await;
        self.settled(&leaseholder, &identity, outcome).await
    }

    /// The outcome of a commit at a local leaseholder. Where that cannot say, because the store lost the lease and the
    /// place where it would have seen the commit take effect, the next one can.
    pub(crate) async fn settled(
        &self,
        leaseholder: &Leaseholder,
        identity: &TxnIdentity,
        outcome: Result<Timestamp, TxnError>,
    ) -> Result<Timestamp, TxnError> {
        match outcome {
            Err(TxnError::Ambiguous(reason)) if !self.db.store().is_closed() => {
                let lease = leaseholder.lease.sequence;
                Box::pin(self.db.link.find_commit(identity, lease, reason)).await
            }
            outcome => outcome,
        }
    }

    /// Commits a transaction that does nothing but insert many keys, ascending and distinct, in one
    /// command, which they must fit. None may exist ([`TxnError::Exists`] names one that does); this
    /// is found out for all together, without locks. Returns the commit timestamp.
    pub async fn commit_new(mut self, rows: Vec<(Bytes, Bytes)>) -> Result<Timestamp, TxnError> {
        assert!(!self.has_writes() && self.locks.iter().next().is_none(), "it has done nothing before");
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "ascending and distinct");
        let result = self.commit_rows(rows).await;
        self.finish();
        result
    }

    async fn commit_rows(&mut self, rows: Vec<(Bytes, Bytes)>) -> Result<Timestamp, TxnError> {
        self.check_writable()?;
        if rows.is_empty() {
            return self.snapshot().await;
        }
        let writes = rows.into_iter().map(|(key, value)| {
            check_size(&key, value.len())?;
            let (hash, values) = (KeyHash::of(&key), smallvec![(self.write_seq, Written::Value(value))]);
            Ok(KeyWrite { key, hash, values, locked: false, seen: None })
        });
        let writes = writes.collect::<Result<_, TxnError>>()?;
        self.commit_keys(writes, true).await
    }

    /// Takes the buffered writes out, each with what is known under its lock.
    fn take_writes(&mut self) -> Vec<KeyWrite> {
        let entries = self.buffer.take();
        let writes = entries.into_iter().map(|(key, entry)| {
            let lock = self.locks.find(&key, entry.hash);
            KeyWrite {
                hash: entry.hash,
                values: entry.values,
                locked: lock.is_some_and(|lock| lock.strength == LockStrength::Exclusive),
                seen: lock.and_then(|lock| lock.seen.clone()),
                key,
            }
        });
        writes.collect()
    }

    /// An identity anchored at one of its keys.
    pub(crate) fn new_identity(&self, anchor: Bytes) -> TxnIdentity {
        let rng = &self.db.store().env().rng;
        let mut txn_id = [0; 16];
        txn_id[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
        txn_id[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
        TxnIdentity { txn_id, anchor, start_ts: self.start_ts }
    }

    /// Rolls back and releases all locks.
    pub async fn rollback(&mut self) {
        self.abort().await;
        self.finish();
    }

    /// Lets go of everything in memory.
    fn finish(&mut self) {
        self.finished = true;
        if let Target::Local(leaseholder) = &self.target {
            let locks = self.locks.iter().map(|lock| (&lock.key, lock.hash));
            leaseholder.locks.release_all(self.who.owner, locks);
        }
        self.locks.take();
        self.buffer.take();
        self.reads.clear();
        self.earlier_reads.clear();
        if let Some(pin) = self.pin.take() {
            self.live().unpin(pin);
        }
        // Ends what is left of the session.
        self.remote = None;
    }

    /// The local leaseholder.
    #[inline]
    pub(crate) fn leaseholder(&self) -> &Arc<Leaseholder> {
        match &self.target {
            Target::Local(leaseholder) => leaseholder,
            Target::Remote(_) => unreachable!("asked where the leaseholder is local"),
        }
    }

    /// Read timestamps in use.
    #[inline]
    pub(crate) fn live(&self) -> &LiveTxns {
        match &self.target {
            Target::Local(leaseholder) => &leaseholder.live,
            Target::Remote(link) => &link.live,
        }
    }

    /// Whose requests these are.
    pub(crate) fn own(&self) -> Own<'_> {
        Own { latch: None, holder: self.intents.as_ref().and_then(|intents| intents.holder.as_ref()) }
    }

    /// How long its requests may wait.
    #[inline]
    pub(crate) fn patience(&self) -> Patience<'_> {
        Patience { cancel: &self.options.cancel, timeout: self.options.lock_timeout }
    }

    pub(crate) fn check_writable(&self) -> Result<(), TxnError> {
        self.check_running()?;
        if self.options.read_only || self.options.as_of.is_some() {
            return Err(TxnError::ReadOnly);
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn check_running(&self) -> Result<(), TxnError> {
        assert!(!self.finished, "a finished transaction is not used any more");
        if self.options.cancel.is_canceled() { Err(TxnError::Canceled) } else { Ok(()) }
    }

    /// Whether reads must be found unchanged when the timestamp moves.
    #[inline]
    pub(crate) fn remembers_reads(&self) -> bool {
        self.options.isolation == Isolation::Serializable && self.options.as_of.is_none()
    }

    /// The read timestamp, drawn now where it must be.
    #[inline]
    pub(crate) async fn snapshot(&mut self) -> Result<Timestamp, TxnError> {
        if !self.wants_snapshot {
            return Ok(self.read_ts);
        }
        self.draw_snapshot().await
    }

    async fn draw_snapshot(&mut self) -> Result<Timestamp, TxnError> {
        self.check_running()?;
        if let Some(as_of) = self.options.as_of {
            let now = self.db.now().await?;
            if as_of > now {
                return Err(TxnError::Unavailable(format!("AS OF SYSTEM TIME {as_of} lies in the future")));
            }
            let pin = self.live().pin_at(as_of);
            let pin = pin.map_err(|threshold| TxnError::SnapshotTooOld { read_ts: as_of, threshold })?;
            self.pin = Some(pin);
            self.drew_snapshot(as_of);
        } else if self.draws_remotely() {
            Box::pin(self.draw_remotely()).await?;
        } else {
            let drawn = self.draw_here().await?;
            if let Target::Local(leaseholder) = &self.target {
                leaseholder.lease()?;
                leaseholder.expect(self.db.node, self.expected)?;
            }
            self.drew_snapshot(drawn);
        }
        Ok(self.read_ts)
    }

    /// Draws a snapshot from this node's clock, and pins it.
    async fn draw_here(&mut self) -> Result<Timestamp, TxnError> {
        let db = Arc::clone(&self.db);
        let hlc = db.store().hlc();
        loop {
            let keeps_pin = self.keeps_pin();
            let live = match &self.target {
                Target::Local(leaseholder) => &leaseholder.live,
                Target::Remote(link) => &link.live,
            };
            let drawn = match &self.pin {
                Some(_) if keeps_pin => hlc.try_now(),
                Some(pin) => live.repin_new(pin, || hlc.try_now()),
                None => live.pin_new(|| hlc.try_now()).map(|(pin, ts)| {
                    self.pin = Some(pin);
                    ts
                }),
            };
            if let Some(drawn) = drawn {
                return Ok(drawn);
            }
            // Raises the clock's durable bound.
            db.now().await?;
        }
    }

    /// The snapshot is `ts` from now on, which is pinned.
    pub(crate) fn drew_snapshot(&mut self, ts: Timestamp) {
        self.read_ts = ts;
        if self.start_ts.is_zero() {
            self.start_ts = ts;
        }
        self.wants_snapshot = false;
    }

    /// Whether the pin stays where it is when the snapshot moves.
    pub(crate) fn keeps_pin(&self) -> bool {
        self.has_view || self.has_seen_under_locks()
    }

    /// Whether the commit will ask what has changed since some lock was taken: garbage must not be
    /// collected up to the snapshot then, wherever that has moved.
    fn has_seen_under_locks(&self) -> bool {
        self.locks.iter().any(|lock| lock.seen.is_some())
    }

    /// Moves a SERIALIZABLE transaction's snapshot to now, if nothing that it read has changed.
    pub(crate) async fn move_snapshot(&mut self) -> Result<(), TxnError> {
        if self.wants_snapshot {
            return self.draw_snapshot().await.map(|_| ());
        }
        let now = self.db.now().await?;
        if self.remote.is_some() {
            Box::pin(self.refresh_remotely(self.read_ts, now)).await?;
        } else {
            self.refresh_locally(now).await?;
            self.leaseholder().expect(self.db.node, self.expected)?;
        }
        if !self.has_seen_under_locks() {
            self.live().repin_at(self.pin.as_ref().expect("a snapshot is pinned"), now);
        }
        self.read_ts = now;
        self.admitted = None;
        Ok(())
    }

    async fn refresh_locally(&mut self, upto: Timestamp) -> Result<(), TxnError> {
        let leaseholder = Arc::clone(self.leaseholder());
        let holder = self.intents.as_ref().and_then(|intents| intents.holder.clone());
        let own = Own { latch: None, holder: holder.as_ref() };
        for reads in [&mut self.earlier_reads, &mut self.reads] {
            leaseholder.refresh(reads, (self.read_ts, upto), own, &self.options.cancel, |_| false).await?;
        }
        Ok(())
    }
}

/// How a transaction names itself to its leaseholder.
fn requester(target: &Target, options: &TxnOptions) -> Requester {
    let owner = match target {
        Target::Local(leaseholder) => leaseholder.new_owner(),
        // The leaseholder names it.
        Target::Remote(_) => 0,
    };
    Requester { owner, session: options.session }
}

/// The bytes of a write, if they are within the limits.
pub(crate) fn check_size(key: &[u8], value_len: usize) -> Result<usize, TxnError> {
    let len = key.len() + value_len;
    if len > MAX_WRITE_BYTES || key.len() > MAX_KEY_BYTES {
        return Err(TxnError::TooLarge(format!(
            "a row or index entry of {len} bytes (key: {}) exceeds the limit of {MAX_WRITE_BYTES} (key: {MAX_KEY_BYTES})",
            key.len()
        )));
    }
    Ok(len)
}

impl Drop for Txn {
    fn drop(&mut self) {
        if !self.finished {
            self.abandon_intents();
            self.finish();
        }
    }
}
