//! The transaction handle.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::mvcc::SeqNum;

use crate::TxnError;

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
#[derive(Clone, Debug)]
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

/// A transaction: buffered writes, locks, and the spans it read. Dropping it unfinished rolls it
/// back.
pub struct Txn {
    _options: TxnOptions,
}

impl Txn {
    /// The timestamp at which this transaction (READ COMMITTED: this statement) reads; chosen now
    /// if it was not yet.
    pub async fn read_ts(&mut self) -> Result<Timestamp, TxnError> {
        todo!("txn: read_ts")
    }

    /// A statement begins: its reads see what was written before it and not what it writes itself
    /// (Halloween protection); READ COMMITTED takes a new snapshot. Remembers where
    /// [`Txn::restart_statement`] goes back to.
    pub async fn begin_statement(&mut self) -> Result<(), TxnError> {
        todo!("txn: begin_statement")
    }

    /// Makes the running statement's own writes so far visible to its further reads (checks behind
    /// its writes, several commands in one statement).
    pub fn step(&mut self) {
        todo!("txn: step")
    }

    /// After [`TxnError::Retry`] inside a statement none of whose output was shown: drops the
    /// statement's reads and writes, refreshes the earlier reads to now. Then the statement may
    /// run again. An error means that only a replay of the whole transaction can help.
    pub async fn restart_statement(&mut self) -> Result<(), TxnError> {
        todo!("txn: restart_statement")
    }

    /// Moves the read timestamp to `ts` or later if nothing read has changed (R16: past a newer
    /// descriptor).
    pub async fn refresh_to(&mut self, ts: Timestamp) -> Result<(), TxnError> {
        let _ = ts;
        todo!("txn: refresh_to")
    }

    /// Reads a key. The read is remembered for refresh and validation.
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Value>, TxnError> {
        let _ = key;
        todo!("txn: get")
    }

    /// Reads several keys (an index join); `row` is called in order of `keys` with the position
    /// and the value.
    pub async fn get_many(
        &mut self,
        keys: &[Bytes],
        row: &mut (dyn FnMut(usize, Option<&[u8]>) + Send),
    ) -> Result<(), TxnError> {
        let _ = (keys, row);
        todo!("txn: get_many")
    }

    /// Locks a key exclusively, waiting for its holder, and reads it. Where a newer version than
    /// the transaction's snapshot has been committed meanwhile: SERIALIZABLE and READ COMMITTED
    /// move the snapshot past it if nothing read before has changed, else [`TxnError::Retry`];
    /// REPEATABLE READ gets `Retry`.
    pub async fn get_for_update(&mut self, key: &[u8]) -> Result<Option<Value>, TxnError> {
        let _ = key;
        todo!("txn: get_for_update")
    }

    /// Locks a key (also one that is absent, or an object's) in the lock table, waiting for others.
    pub async fn lock(&mut self, key: &[u8], strength: LockStrength) -> Result<(), TxnError> {
        let _ = (key, strength);
        todo!("txn: lock")
    }

    /// Scans a span: calls `row` with each key and value, own writes included, until it returns
    /// false or a chunk is full. Returns where to go on (the `start`, or for a reverse scan the
    /// `end`, of the next call), `None` at the end of the span. Only what was passed to `row` is
    /// remembered as read.
    pub async fn scan(
        &mut self,
        scan: &Scan,
        row: &mut (dyn FnMut(&[u8], &[u8]) -> bool + Send),
    ) -> Result<Option<Bytes>, TxnError> {
        let _ = (scan, row);
        todo!("txn: scan")
    }

    /// Buffers a write; the key should be locked (by [`Txn::get_for_update`]) unless nobody else
    /// can write it. Large buffers go out as intents here, which may wait.
    pub async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), TxnError> {
        let _ = (key, value);
        todo!("txn: put")
    }

    /// Buffers a deletion.
    pub async fn delete(&mut self, key: Bytes) -> Result<(), TxnError> {
        let _ = key;
        todo!("txn: delete")
    }

    /// Marks the present point.
    pub fn savepoint(&mut self) -> Savepoint {
        todo!("txn: savepoint")
    }

    /// Takes back every write since.
    pub fn rollback_to(&mut self, savepoint: Savepoint) {
        let _ = savepoint;
        todo!("txn: rollback_to")
    }

    /// Whether anything was written.
    pub fn has_writes(&self) -> bool {
        todo!("txn: has_writes")
    }

    /// Commits; returns the commit timestamp (the read timestamp when nothing was written). After
    /// an error other than `Ambiguous` it is rolled back.
    pub async fn commit(&mut self) -> Result<Timestamp, TxnError> {
        todo!("txn: commit")
    }

    /// Rolls back and releases all locks.
    pub async fn rollback(&mut self) {
        todo!("txn: rollback")
    }
}
