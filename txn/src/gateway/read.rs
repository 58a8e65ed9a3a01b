//! Reads: points, locking points and scans, with the transaction's own writes merged in.

use std::iter::Peekable;

use bytes::Bytes;
use cairn_kv::mvcc::{self, Scanner};
use cairn_kv::{Error as KvError, Timestamp};

use super::buffer::Written;
use super::held_locks::Seen;
use crate::garbage;
use crate::leaseholder::admit::behind;
use crate::leaseholder::commit::concurrent_update;
use crate::leaseholder::slot::KeyHash;
use crate::{Isolation, LockStrength, Scan, Txn, TxnError, Value};

/// Rows after which a scan lets others run and looks whether it is canceled.
const CHUNK_ROWS: usize = 4_096;

/// Own intents merged into one chunk of a scan.
const CHUNK_INTENTS: usize = 4_096;

impl Txn {
    /// Reads a key. The read is remembered for refresh and validation.
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Value>, TxnError> {
        self.check_running()?;
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
        // The lock before the snapshot: a transaction that begins with it reads above what it waited for.
        self.lock_hashed(key, hash, LockStrength::Exclusive).await?;
        self.snapshot().await?;
        if let Some(written) = self.own_write(key)? {
            return Ok(written.value().cloned());
        }
        // Nobody writes the key while it is locked, so the newest version is the one to change. The read is
        // not recorded in the timestamp cache, where it would push this transaction's own write; if it
        // comes to none, the commit makes up for it.
        let stamp = self.leaseholder().slots.stamp(hash);
        let mut scratch = std::mem::take(&mut self.scratch);
        let found = mvcc::get(self.leaseholder().engine(), key, Timestamp::MAX, &mut scratch)?;
        self.scratch = scratch;
        if found.ts > self.read_ts || (found.ts.is_zero() && self.is_forgotten_since(key)?) {
            self.move_snapshot_past(key).await?;
            assert!(found.ts < self.read_ts, "now is above every commit");
        }
        self.statement_has_read = true;
        let seen = Seen { ts: found.ts, upto: self.read_ts, stamp };
        let lock = self.locks.find_mut(key, hash).expect("just locked");
        lock.seen.get_or_insert(seen);
        Ok(found.exists.then(|| Bytes::copy_from_slice(&self.scratch)))
    }

    /// Whether a key that `data` lacks was deleted after the snapshot, by a tombstone that is collected.
    fn is_forgotten_since(&self, key: &[u8]) -> Result<bool, TxnError> {
        let engine = self.leaseholder().engine();
        // Asked after the look at `data`: a filter drops what lies below a threshold that is known here.
        if self.read_ts >= engine.filter_thresholds().tombstone {
            return Ok(false);
        }
        Ok(mvcc::changed_since(engine, key, self.read_ts, &mut Vec::new())?)
    }

    /// A locked key has a version newer than the snapshot.
    async fn move_snapshot_past(&mut self, key: &[u8]) -> Result<(), TxnError> {
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
    pub async fn scan(
        &mut self,
        scan: &Scan,
        row: &mut (dyn FnMut(&[u8], &[u8]) -> bool + Send),
    ) -> Result<Option<Bytes>, TxnError> {
        self.check_running()?;
        self.breathe(0).await;
        let read_ts = self.snapshot().await?;
        if !scan.end.is_empty() && scan.start >= scan.end {
            return Ok(None);
        }
        self.admit_scan(scan, read_ts).await?;
        let (rows, resume) = self.scan_chunk(scan, read_ts, row)?;
        self.rows_since_yield += rows;
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
        while let Err(obstacle) = self.leaseholder().admit_span(&scan.start, &scan.end, read_ts, self.own()) {
            self.leaseholder().wait_for(obstacle, read_ts, &self.options.cancel).await?;
        }
        self.admitted = Some((scan.start.clone(), scan.end.clone(), read_ts));
        Ok(())
    }

    /// One chunk; returns the rows shown and where to go on.
    fn scan_chunk(
        &self,
        scan: &Scan,
        read_ts: Timestamp,
        row: &mut (dyn FnMut(&[u8], &[u8]) -> bool + Send),
    ) -> Result<(usize, Option<Bytes>), TxnError> {
        if self.intents.is_some() {
            let own = self.own_intents(&scan.start, &scan.end, scan.reverse, CHUNK_INTENTS)?;
            // Own intents are merged as far as they were loaded; the chunk ends there.
            let (start, end) = match (&own.upto, scan.reverse) {
                (None, _) => (&scan.start, &scan.end),
                (Some(upto), false) => (&scan.start, upto),
                (Some(upto), true) => (upto, &scan.end),
            };
            let mut overlay = own.visible;
            for (key, written) in self.buffer.range(start, end, self.read_seq) {
                overlay.insert(key.clone(), written.clone());
            }
            let overlay = overlay.iter();
            let (rows, resume) = if scan.reverse {
                self.merge_chunk((start, end), true, read_ts, overlay.rev(), row)?
            } else {
                self.merge_chunk((start, end), false, read_ts, overlay, row)?
            };
            return Ok((rows, resume.or(own.upto)));
        }
        let span = (&scan.start, &scan.end);
        let buffered = self.buffer.range(&scan.start, &scan.end, self.read_seq);
        if scan.reverse {
            self.merge_chunk(span, true, read_ts, buffered.rev(), row)
        } else {
            self.merge_chunk(span, false, read_ts, buffered, row)
        }
    }

    /// Merges committed rows with own writes, both in the scan's order; own writes win.
    fn merge_chunk<'a>(
        &self,
        (start, end): (&Bytes, &Bytes),
        reverse: bool,
        read_ts: Timestamp,
        own: impl Iterator<Item = (&'a Bytes, &'a Written)>,
        row: &mut (dyn FnMut(&[u8], &[u8]) -> bool + Send),
    ) -> Result<(usize, Option<Bytes>), TxnError> {
        let mut own: Peekable<_> = own.peekable();
        let engine = self.leaseholder().engine();
        let mut scanner = Scanner::new(engine, start, end, read_ts, reverse)?;
        self.leaseholder().check_not_collected(read_ts)?;
        let mut rows = 0;
        // The last key shown; set where the scan stops.
        let mut stopped_at: Option<Bytes> = None;
        let mut show = |key: &[u8], value: &[u8]| {
            rows += 1;
            let go_on = row(key, value) && rows < CHUNK_ROWS;
            if !go_on {
                stopped_at = Some(Bytes::copy_from_slice(key));
            }
            go_on
        };
        let comes_before = |a: &[u8], b: &[u8]| if reverse { a > b } else { a < b };
        let ended = scanner.for_each(&mut |key, value, _| {
            while let Some((own_key, written)) = own.next_if(|(own_key, _)| comes_before(own_key, key)) {
                if let Some(own_value) = written.value()
                    && !show(own_key, own_value)
                {
                    return false;
                }
            }
            match own.next_if(|(own_key, _)| own_key.as_ref() == key) {
                Some((_, Written::Value(own_value))) => show(key, own_value),
                Some((_, Written::Deleted)) => true,
                None => show(key, value),
            }
        })?;
        if ended {
            for (own_key, written) in own {
                if let Some(own_value) = written.value()
                    && !show(own_key, own_value)
                {
                    break;
                }
            }
        }
        let resume = stopped_at.map(|key| if reverse { key } else { Bytes::from(behind(&key)) });
        // Behind the last key of the span there is nothing left to do.
        let resume = resume.filter(|at| if reverse { at > start } else { end.is_empty() || at < end });
        let (from, to) = match &resume {
            Some(at) if reverse => (at, end),
            Some(at) => (start, at),
            None => (start, end),
        };
        garbage::passed_dead_entries(self.leaseholder(), from, to, scanner.skipped());
        Ok((rows, resume))
    }

    /// Reads a committed version into the scratch buffer; true if there is one.
    async fn read_point(&mut self, key: &[u8], hash: KeyHash, read_ts: Timestamp) -> Result<bool, TxnError> {
        let stamp = loop {
            match self.leaseholder().admit_point(key, hash, read_ts, self.own()) {
                Ok(stamp) => break stamp,
                Err(obstacle) => {
                    self.leaseholder().wait_for(obstacle, read_ts, &self.options.cancel).await?;
                }
            }
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let found = mvcc::get(self.leaseholder().engine(), key, read_ts, &mut scratch);
        self.scratch = scratch;
        let found = found?;
        self.leaseholder().check_not_collected(read_ts)?;
        self.statement_has_read = true;
        if self.remembers_reads() {
            let stamp = if found.newer { stamp.before_last_write() } else { stamp };
            self.reads.add_point(key, hash, stamp);
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
        if self.intents.is_some() { self.own_intent(key) } else { Ok(None) }
    }

    /// Lets others run now and then; `rows` were just read.
    async fn breathe(&mut self, rows: usize) {
        self.rows_since_yield += rows;
        if self.rows_since_yield >= CHUNK_ROWS {
            self.rows_since_yield = 0;
            self.leaseholder().store.env().runtime.yield_now().await;
        }
    }
}

impl From<KvError> for TxnError {
    fn from(error: KvError) -> TxnError {
        match error {
            KvError::BelowGcThreshold { read_ts, threshold } => {
                TxnError::SnapshotTooOld { read_ts, threshold }
            }
            error => TxnError::Storage(error),
        }
    }
}
