//! Reads of committed versions and of the reader's own intents.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::engine::Cf;
use cairn_kv::mvcc::{self, LockValue, RowVisitor, Scanner, SeqNum, Strength};
use cairn_kv::{Error as KvError, Timestamp};

use super::admit::behind;
use super::intent_holder::IntentHolder;
use super::slot::{KeyHash, Stamp};
use super::{Leaseholder, Own};
use crate::garbage;
use crate::gateway::buffer::Written;
use crate::{CancelToken, TxnError};

/// Rows after which a chunk of a scan ends, so that others run and cancellation is noticed.
pub const CHUNK_ROWS: usize = 4_096;

/// Own intents merged into one chunk of a scan.
const CHUNK_INTENTS: usize = 4_096;

/// Shown key and value of each row of a scan; says whether to go on.
pub type Row<'a> = dyn FnMut(&[u8], &[u8]) -> bool + Send + 'a;

/// What a transaction's read sees of its own intents.
#[derive(Clone, Copy)]
pub struct OwnIntents<'a> {
    /// The transaction.
    pub holder: &'a Arc<IntentHolder>,
    /// Rolled-back sequence numbers, both ends included.
    pub ignored: &'a [(SeqNum, SeqNum)],
    /// Writes up to this sequence number are seen.
    pub seq: SeqNum,
}

impl OwnIntents<'_> {
    /// What is seen of an intent.
    pub fn visible(&self, intent: LockValue) -> Option<Written> {
        let is_ignored = |seq| self.ignored.iter().any(|(first, last)| (*first..=*last).contains(&seq));
        let mut values = intent.values.into_iter().rev();
        let seen = values.find(|value| value.seq <= self.seq && !is_ignored(value.seq))?;
        Some(seen.value.map_or(Written::Deleted, Written::Value))
    }
}

/// What a read of a point found; the value is in the caller's buffer.
#[derive(Clone, Copy, Debug)]
pub struct FoundPoint {
    /// Whether there is one.
    pub exists: bool,
    /// While the slot still has it, the key has no version that the read did not see.
    pub stamp: Stamp,
}

/// What was found on a locked key; the value is in the caller's buffer.
#[derive(Clone, Copy, Debug)]
pub struct FoundLocked {
    /// Timestamp of the newest version, a tombstone's, too; zero: `data` has none.
    pub ts: Timestamp,
    /// Whether there is a value.
    pub exists: bool,
    /// Whether the key was written after the reader's snapshot.
    pub newer: bool,
    /// The slot's stamp before the read.
    pub stamp: Stamp,
}

/// A part of a span that was scanned.
pub struct Chunk {
    /// Rows shown.
    pub rows: usize,
    /// Where to go on: the start, or in reverse the end, of the next part. `None`: it is the last.
    pub resume: Option<Bytes>,
}

impl Leaseholder {
    /// Reads the version of `key` at `ts` into `out`; the read is recorded.
    #[inline]
    pub async fn read_point(
        &self,
        key: &[u8],
        hash: KeyHash,
        ts: Timestamp,
        own: Own<'_>,
        cancel: &CancelToken,
        out: &mut Vec<u8>,
    ) -> Result<FoundPoint, TxnError> {
        let stamp = loop {
            match self.admit_point(key, hash, ts, own) {
                Ok(stamp) => break stamp,
                Err(obstacle) => self.wait_for(obstacle, ts, cancel).await?,
            }
        };
        let found = mvcc::get(self.engine(), key, ts, out)?;
        self.check_not_collected(ts)?;
        self.confirm_read(ts).await?;
        let stamp = if found.newer { stamp.before_last_write() } else { stamp };
        Ok(FoundPoint { exists: found.exists, stamp })
    }

    /// Reads the newest version of a key that the reader, whose snapshot is `read_ts`, has locked
    /// exclusively, into `out`. Nobody writes the key while it is locked, so this is the version to
    /// change. The read is not recorded in the timestamp cache, where it would push the reader's own
    /// write; if it comes to none, the commit makes up for it. The caller has it confirmed
    /// ([`Leaseholder::confirm_newest`]).
    pub fn read_locked(
        &self,
        key: &[u8],
        hash: KeyHash,
        read_ts: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<FoundLocked, TxnError> {
        let stamp = self.slots.stamp(hash);
        let found = mvcc::get(self.engine(), key, Timestamp::MAX, out)?;
        let newer = found.ts > read_ts || (found.ts.is_zero() && self.is_forgotten_since(key, read_ts)?);
        Ok(FoundLocked { ts: found.ts, exists: found.exists, newer, stamp })
    }

    /// Whether a key that `data` lacks was deleted after `read_ts`, by a tombstone that is collected.
    fn is_forgotten_since(&self, key: &[u8], read_ts: Timestamp) -> Result<bool, TxnError> {
        // Asked after the look at `data`: a filter drops what lies below a threshold that is known here.
        if read_ts >= self.engine().filter_thresholds().tombstone {
            return Ok(false);
        }
        Ok(mvcc::changed_since(self.engine(), key, read_ts, &mut Vec::new())?)
    }

    /// Records a read of `[start, end)` at `ts`, waiting for what is in its way; then chunks of it may be
    /// read.
    pub async fn admit_scan(
        &self,
        start: &[u8],
        end: &[u8],
        ts: Timestamp,
        own: Own<'_>,
        cancel: &CancelToken,
    ) -> Result<(), TxnError> {
        while let Err(obstacle) = self.admit_span(start, end, ts, own) {
            self.wait_for(obstacle, ts, cancel).await?;
        }
        Ok(())
    }

    /// Reads a chunk of an admitted span: shows committed rows, with own intents and what the reader has
    /// `buffered` of the span (in the scan's order) merged in, later ones winning. The caller has it confirmed
    /// ([`Leaseholder::confirm_read`]).
    pub fn scan_chunk<'a>(
        self: &Arc<Leaseholder>,
        (start, end): (&Bytes, &Bytes),
        reverse: bool,
        read_ts: Timestamp,
        own: Option<OwnIntents<'_>>,
        buffered: impl Iterator<Item = (&'a Bytes, &'a Written)>,
        row: &mut Row<'_>,
    ) -> Result<Chunk, TxnError> {
        let Some(own) = own else {
            return self.merge_chunk((start, end), reverse, read_ts, buffered, row);
        };
        let (mut overlay, upto) = self.own_intents(own, (start, end), reverse, CHUNK_INTENTS)?;
        // Own intents are merged as far as they were loaded; the chunk ends there.
        let (start, end) = match (&upto, reverse) {
            (None, _) => (start, end),
            (Some(upto), false) => (start, upto),
            (Some(upto), true) => (upto, end),
        };
        let within = |key: &Bytes| key >= start && (end.is_empty() || key < end);
        for (key, written) in buffered.filter(|(key, _)| within(key)) {
            overlay.insert(key.clone(), written.clone());
        }
        let chunk = if reverse {
            self.merge_chunk((start, end), true, read_ts, overlay.iter().rev(), row)?
        } else {
            self.merge_chunk((start, end), false, read_ts, overlay.iter(), row)?
        };
        Ok(Chunk { rows: chunk.rows, resume: chunk.resume.or(upto) })
    }

    /// Merges committed rows with own writes, both in the scan's order; own writes win.
    fn merge_chunk<'a>(
        self: &Arc<Leaseholder>,
        (start, end): (&Bytes, &Bytes),
        reverse: bool,
        read_ts: Timestamp,
        own: impl Iterator<Item = (&'a Bytes, &'a Written)>,
        row: &mut Row<'_>,
    ) -> Result<Chunk, TxnError> {
        let mut scanner = Scanner::new(self.engine(), start, end, read_ts, reverse)?;
        self.check_not_collected(read_ts)?;
        let chunk =
            merge((start, end), reverse, own, row, |visit| scanner.for_each(visit).map_err(TxnError::from))?;
        let (from, to) = match &chunk.resume {
            Some(at) if reverse => (at, end),
            Some(at) => (start, at),
            None => (start, end),
        };
        garbage::passed_dead_entries(self, from, to, scanner.skipped());
        Ok(chunk)
    }

    /// The own intent on `key`, as the reader sees it.
    pub fn own_intent(&self, own: OwnIntents<'_>, key: &[u8]) -> Result<Option<Written>, TxnError> {
        if !own.holder.may_hold(key) {
            return Ok(None);
        }
        let mut stored = Vec::new();
        let lock_key = mvcc::lock_key(key, Strength::Intent, &own.holder.identity.txn_id);
        if !self.engine().get(Cf::Lock, &lock_key, &mut stored)? {
            return Ok(None);
        }
        Ok(own.visible(mvcc::decode_lock_value(key, stored.into())?))
    }

    /// What the reader sees of its intents in `[start, end)`, from the side where a scan begins, and up to
    /// where they were loaded, if that is not all.
    fn own_intents(
        &self,
        own: OwnIntents<'_>,
        (start, end): (&[u8], &[u8]),
        reverse: bool,
        limit: usize,
    ) -> Result<(BTreeMap<Bytes, Written>, Option<Bytes>), TxnError> {
        let mut visible = BTreeMap::new();
        if !own.holder.may_overlap(start, end) {
            return Ok((visible, None));
        }
        // Locks lie behind their keys: the bound must be behind the last key's locks.
        let upper = match end.split_last() {
            Some((0, key)) => cairn_kv::encoding::prefix_end(key),
            _ => end.to_vec(),
        };
        let mut iter = self.engine().iter(Cf::Lock, start, &upper)?;
        if reverse {
            iter.seek_to_last()
        } else {
            iter.seek_to_first()
        }
        let (mut loaded, mut upto) = (0, None);
        while iter.valid() {
            let (key, strength, txn_id) = mvcc::parse_lock_key(iter.key())?;
            let within = key >= start && (end.is_empty() || key < end);
            if within && strength == Strength::Intent && txn_id == own.holder.identity.txn_id {
                if loaded == limit {
                    // Forward the chunk ends before this key, in reverse behind it.
                    upto = Some(if reverse { behind(key).into() } else { Bytes::copy_from_slice(key) });
                    break;
                }
                loaded += 1;
                let intent = mvcc::decode_lock_value(key, Bytes::copy_from_slice(iter.value()))?;
                if let Some(written) = own.visible(intent) {
                    visible.insert(Bytes::copy_from_slice(key), written);
                }
            }
            if reverse { iter.prev() } else { iter.next() }
        }
        iter.status()?;
        Ok((visible, upto))
    }
}

/// Shows the rows of a span that `committed` visits, and own writes, both in the scan's order; own writes
/// win. `committed` says whether it came to its end.
pub fn merge<'a>(
    (start, end): (&Bytes, &Bytes),
    reverse: bool,
    own: impl Iterator<Item = (&'a Bytes, &'a Written)>,
    row: &mut Row<'_>,
    committed: impl FnOnce(&mut RowVisitor<'_>) -> Result<bool, TxnError>,
) -> Result<Chunk, TxnError> {
    let mut own: Peekable<_> = own.peekable();
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
    let ended = committed(&mut |key, value, _| {
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
    Ok(Chunk { rows, resume })
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
