//! Reads: points, locking points and scans, with the transaction's own writes merged in.

use bytes::Bytes;
use cairn_kv::Timestamp;

use super::buffer::Written;
use super::held_locks::Seen;
use crate::leaseholder::commit::concurrent_update;
use crate::leaseholder::read::{CHUNK_ROWS, Chunk, Row};
use crate::leaseholder::slot::KeyHash;
use crate::{Isolation, LockStrength, Scan, Txn, TxnError, Value};

impl Txn {
    /// Reads a key. The read is remembered for refresh and validation.
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Value>, TxnError> {
        self.check_running()?;
        if self.remote.is_some() {
            return Box::pin(self.get_remotely(key)).await;
        }
        let read_ts = self.snapshot().await?;
        if let Some(written) = self.own_write(key)? {
            return Ok(written.value().cloned());
        }
        let exists = self.read_point(key, KeyHash::of(key), read_ts).await?;
        Ok(exists.then(|| Bytes::copy_from_slice(&self.scratch)))
    }

    /// Reads several keys (an index join); `row` is called in order of `keys` with the position
    /// and the value, until it returns false. Returns how many were read.
    pub async fn get_many(
        &mut self,
        keys: &[Bytes],
        row: &mut (dyn FnMut(usize, Option<&[u8]>) -> bool + Send),
    ) -> Result<usize, TxnError> {
        if self.remote.is_some() {
            return Box::pin(self.get_many_remotely(keys, row)).await;
        }
        for (position, key) in keys.iter().enumerate() {
            self.check_running()?;
            self.breathe(1).await;
            let read_ts = self.snapshot().await?;
            let go_on = match self.own_write(key)? {
                Some(written) => row(position, written.value().map(|value| &value[..])),
                None => {
                    let exists = self.read_point(key, KeyHash::of(key), read_ts).await?;
                    row(position, exists.then_some(&self.scratch[..]))
                }
            };
            if !go_on {
                return Ok(position + 1);
            }
        }
        Ok(keys.len())
    }

    /// Locks a key exclusively, waiting for its holder, and reads it. Where a newer version than
    /// the transaction's snapshot has been committed meanwhile: SERIALIZABLE and READ COMMITTED
    /// move the snapshot past it if nothing read before has changed, else [`TxnError::Retry`];
    /// REPEATABLE READ gets `Retry`.
    pub async fn get_for_update(&mut self, key: &[u8]) -> Result<Option<Value>, TxnError> {
        self.check_running()?;
        let hash = KeyHash::of(key);
        if self.remote.is_some() {
            return Box::pin(self.get_for_update_remotely(key, hash)).await;
        }
        // The lock before the snapshot: a transaction that begins with it reads above what it waited for.
        self.lock_hashed(key, hash, LockStrength::Exclusive).await?;
        self.snapshot().await?;
        if let Some(written) = self.own_write(key)? {
            return Ok(written.value().cloned());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let found = self.leaseholder().read_locked(key, hash, self.read_ts, &mut scratch);
        self.scratch = scratch;
        let found = found?;
        self.leaseholder().confirm_newest().await?;
        if found.newer {
            self.move_snapshot_past(key).await?;
            assert!(found.ts < self.read_ts, "now is above every commit");
        }
        self.statement_has_read = true;
        let value = found.exists.then(|| Bytes::copy_from_slice(&self.scratch));
        let seen = Seen { ts: found.ts, upto: self.read_ts, stamp: found.stamp, version: None };
        self.locks.saw(key, hash, seen, value.as_ref());
        Ok(value)
    }

    /// A locked key has a version newer than the snapshot.
    pub(super) async fn move_snapshot_past(&mut self, key: &[u8]) -> Result<(), TxnError> {
        match self.options.isolation {
            Isolation::Serializable => self.move_snapshot().await,
            Isolation::ReadCommitted if !self.statement_has_read => {
                self.wants_snapshot = true;
                self.snapshot().await.map(|_| ())
            }
            Isolation::ReadCommitted | Isolation::RepeatableRead => Err(concurrent_update(key)),
        }
    }

    /// Scans a span: calls `row` with each key and value, own writes included, until it returns
    /// false or a chunk is full. Returns where to go on (the `start`, or for a reverse scan the
    /// `end`, of the next call), `None` at the end of the span. Only what was passed to `row` is
    /// remembered as read.
    pub async fn scan(&mut self, scan: &Scan, row: &mut Row<'_>) -> Result<Option<Bytes>, TxnError> {
        self.check_running()?;
        self.breathe(0).await;
        if !scan.end.is_empty() && scan.start >= scan.end {
            return Ok(None);
        }
        let resume = if self.remote.is_some() {
            Box::pin(self.scan_remotely(scan, row)).await?
        } else {
            let read_ts = self.snapshot().await?;
            self.admit_scan(scan, read_ts).await?;
            let Chunk { rows, resume } = self.scan_chunk(scan, read_ts, row)?;
            self.leaseholder().confirm_read(read_ts).await?;
            self.rows_since_yield += rows;
            resume
        };
        self.statement_has_read = true;
        if self.remembers_reads() {
            match &resume {
                Some(at) if scan.reverse => self.reads.add_span(at, &scan.end),
                Some(at) => self.reads.add_span(&scan.start, at),
                None => self.reads.add_span(&scan.start, &scan.end),
            }
        }
        Ok(resume)
    }

    /// Records the whole span as read in the timestamp cache, though less of it may be: writers are
    /// pushed, which costs them a refresh and fails none. So further chunks are admitted already.
    async fn admit_scan(&mut self, scan: &Scan, read_ts: Timestamp) -> Result<(), TxnError> {
        if let Some((start, end, at)) = &self.admitted
            && *at == read_ts
            && *start <= scan.start
            && (end.is_empty() || (!scan.end.is_empty() && scan.end <= *end))
        {
            return Ok(());
        }
        let (own, cancel) = (self.own(), &self.options.cancel);
        self.leaseholder().admit_scan(&scan.start, &scan.end, read_ts, own, cancel).await?;
        self.admitted = Some((scan.start.clone(), scan.end.clone(), read_ts));
        Ok(())
    }

    fn scan_chunk(&self, scan: &Scan, read_ts: Timestamp, row: &mut Row<'_>) -> Result<Chunk, TxnError> {
        let (span, own) = ((&scan.start, &scan.end), self.own_intents(self.read_seq));
        let buffered = self.buffer.range(&scan.start, &scan.end, self.read_seq);
        if scan.reverse {
            self.leaseholder().scan_chunk(span, true, read_ts, own, buffered.rev(), row)
        } else {
            self.leaseholder().scan_chunk(span, false, read_ts, own, buffered, row)
        }
    }

    /// Reads a committed version into the scratch buffer; true if there is one.
    async fn read_point(&mut self, key: &[u8], hash: KeyHash, read_ts: Timestamp) -> Result<bool, TxnError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let (own, cancel) = (self.own(), &self.options.cancel);
        let found = self.leaseholder().read_point(key, hash, read_ts, own, cancel, &mut scratch).await;
        self.scratch = scratch;
        let found = found?;
        self.statement_has_read = true;
        if self.remembers_reads() {
            self.reads.add_point(key, hash, found.stamp);
        }
        Ok(found.exists)
    }

    /// What the transaction itself wrote to `key`, as its reads see it.
    fn own_write(&self, key: &[u8]) -> Result<Option<Written>, TxnError> {
        if !self.buffer.is_empty()
            && let Some(written) = self.buffer.get(key, self.read_seq)
        {
            return Ok(Some(written.clone()));
        }
        match self.own_intents(self.read_seq) {
            Some(own) => self.leaseholder().own_intent(own, key),
            None => Ok(None),
        }
    }

    /// Lets others run now and then; `rows` were just read.
    pub(super) async fn breathe(&mut self, rows: usize) {
        self.rows_since_yield += rows;
        if self.rows_since_yield >= CHUNK_ROWS {
            self.rows_since_yield = 0;
            self.db.store().env().runtime.yield_now().await;
        }
    }
}
