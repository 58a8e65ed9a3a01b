//! Between what both sides work with and what is sent.

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::mvcc::{ProvisionalValue, SeqNum};

use super::message::{Identity, Level, OwnView, PointRead, Reads, Span, Write};
use crate::gateway::buffer::{Values, Written};
use crate::gateway::held_locks::HeldLocks;
use crate::gateway::read_set::ReadSet;
use crate::leaseholder::commit::{KeyWrite, TxnIdentity};
use crate::leaseholder::slot::{KeyHash, Slots, Stamp};
use crate::{Isolation, LockStrength, TxnError};

/// A request or an answer that no gateway or leaseholder sends.
pub fn malformed() -> TxnError {
    TxnError::Unavailable("a message from another node is malformed".into())
}

impl From<Isolation> for Level {
    fn from(isolation: Isolation) -> Level {
        match isolation {
            Isolation::ReadCommitted => Level::ReadCommitted,
            Isolation::RepeatableRead => Level::RepeatableRead,
            Isolation::Serializable => Level::Serializable,
        }
    }
}

impl From<Level> for Isolation {
    fn from(level: Level) -> Isolation {
        match level {
            Level::ReadCommitted => Isolation::ReadCommitted,
            Level::RepeatableRead => Isolation::RepeatableRead,
            Level::Serializable => Isolation::Serializable,
        }
    }
}

impl From<&TxnIdentity> for Identity {
    fn from(identity: &TxnIdentity) -> Identity {
        Identity {
            txn_id: Bytes::copy_from_slice(&identity.txn_id),
            anchor: identity.anchor.clone(),
            start_ts: identity.start_ts.0,
        }
    }
}

impl TryFrom<&Identity> for TxnIdentity {
    type Error = TxnError;

    fn try_from(identity: &Identity) -> Result<TxnIdentity, TxnError> {
        Ok(TxnIdentity {
            txn_id: identity.txn_id[..].try_into().map_err(|_| malformed())?,
            anchor: identity.anchor.clone(),
            start_ts: Timestamp(identity.start_ts),
        })
    }
}

/// Intervals of sequence numbers as they are sent.
pub fn flatten(ignored: &[(SeqNum, SeqNum)]) -> Vec<u32> {
    ignored.iter().flat_map(|(first, last)| [*first, *last]).collect()
}

/// Intervals of sequence numbers as they were sent.
pub fn intervals(ignored: &[u32]) -> Vec<(SeqNum, SeqNum)> {
    let (pairs, _) = ignored.as_chunks::<2>();
    pairs.iter().map(|[first, last]| (*first, *last)).collect()
}

impl OwnView {
    /// The intervals that were rolled back.
    pub fn ignored(&self) -> Vec<(SeqNum, SeqNum)> {
        intervals(&self.ignored)
    }
}

impl Write {
    /// A key's values; `last_only` where nobody will read those before the last.
    pub fn new(key: &Bytes, values: &Values, last_only: bool) -> Write {
        let skipped = if last_only { values.len() - 1 } else { 0 };
        let values = values[skipped..].iter();
        let values = values.map(|(seq, value)| ProvisionalValue { seq: *seq, value: value.value().cloned() });
        Write { key: key.clone(), values: values.collect() }
    }
}

/// Writes as they were sent, with what is known under the transaction's locks.
pub fn key_writes(writes: Vec<Write>, locks: &HeldLocks) -> Result<Vec<KeyWrite>, TxnError> {
    if writes.is_empty() || !writes.is_sorted_by(|a, b| a.key < b.key) {
        return Err(malformed());
    }
    let writes = writes.into_iter().map(|Write { key, values }| {
        let hash = KeyHash::of(&key);
        let lock = locks.find(&key, hash);
        let values: Values = values
            .into_iter()
            .map(|ProvisionalValue { seq, value }| (seq, value.map_or(Written::Deleted, Written::Value)))
            .collect();
        if values.is_empty() {
            return Err(malformed());
        }
        Ok(KeyWrite {
            hash,
            values,
            locked: lock.is_some_and(|lock| lock.strength == LockStrength::Exclusive),
            seen: lock.and_then(|lock| lock.seen.clone()),
            key,
        })
    });
    writes.collect()
}

/// What was read, cut into pieces of about `max_bytes`; `lease` is the one that its stamps belong to.
pub fn pieces(reads: &ReadSet, lease: u64, max_bytes: usize) -> Vec<Reads> {
    /// Frame of a point or span.
    const OVERHEAD: usize = 16;
    let empty = || Reads { lease, ..Reads::default() };
    let (mut pieces, mut piece, mut bytes) = (Vec::new(), empty(), 0);
    let mut room_for = |piece: &mut Reads, len: usize| {
        bytes += len + OVERHEAD;
        if bytes > max_bytes && !(piece.points.is_empty() && piece.spans.is_empty()) {
            pieces.push(std::mem::replace(piece, empty()));
            bytes = len + OVERHEAD;
        }
    };
    for index in 0..reads.point_count() {
        let point = reads.point(index);
        room_for(&mut piece, point.key.len());
        piece.points.push(PointRead { key: Bytes::copy_from_slice(point.key), stamp: point.stamp.0 });
    }
    for (start, end) in reads.spans() {
        room_for(&mut piece, start.len() + end.len());
        piece.spans.push(Span { start: start.clone(), end: end.clone() });
    }
    if !(piece.points.is_empty() && piece.spans.is_empty()) {
        pieces.push(piece);
    }
    pieces
}

/// Adds reads as they were sent to `set`, at a leaseholder whose lease is `lease`. Stamps of another one
/// say nothing: every key counts as written since.
pub fn add_reads(set: &mut ReadSet, reads: &Reads, lease: u64, slots: &Slots) {
    for PointRead { key, stamp } in &reads.points {
        let hash = KeyHash::of(key);
        let stamp = if reads.lease == lease { Stamp(*stamp) } else { slots.stamp(hash).before_last_write() };
        set.add_point(key, hash, stamp);
    }
    for Span { start, end } in &reads.spans {
        set.add_span(start, end);
    }
}
