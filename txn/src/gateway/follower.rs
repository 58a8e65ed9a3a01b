//! Reads of the past at a node without the lease, from its own replica: below its closed timestamp it has all
//! that was ever committed there ([`cairn_raft::Complete`]).

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::mvcc::{self, Scanner};
use cairn_raft::Store;
use cairn_raft::store::FIRST_RANGE;

use crate::TxnError;
use crate::leaseholder::admit::behind;
use crate::leaseholder::read::merge;
use crate::leaseholder::serve::{ANSWER_BYTES, Filling, ROW_OVERHEAD};
use crate::wire::{Body, Chunk, FoundPoint, FoundPoints, Outcome, Points, Rows};

/// Answers a look at the past as the leaseholder would, if that can be done here. Where an intent is met, which
/// may be committed and not resolved yet, it cannot.
pub fn read_here(store: &Store, look: &Body) -> Result<Option<Outcome>, TxnError> {
    let read_ts = match look {
        Body::Points(Points { read_ts, .. }) | Body::Chunk(Chunk { read_ts, .. }) => Timestamp(*read_ts),
        _ => return Ok(None),
    };
    let Some(complete) = store.complete(FIRST_RANGE).filter(|complete| read_ts <= complete.upto) else {
        return Ok(None);
    };
    let found = match look {
        Body::Points(points) => read_points(store, points, read_ts)?,
        Body::Chunk(chunk) => read_chunk(store, chunk, read_ts)?,
        _ => None,
    };
    // Asked after all iterators were open (R4).
    let threshold = store.thresholds().gc;
    if read_ts < threshold {
        return Err(TxnError::SnapshotTooOld { read_ts, threshold });
    }
    Ok(found.filter(|_| store.is_still(FIRST_RANGE, complete)))
}

/// Whether nothing in `[start, end)` is locked or about to change. Asked before `data` is looked at: what is
/// resolved meanwhile is there then.
fn is_settled(store: &Store, start: &[u8], end: &[u8]) -> Result<bool, TxnError> {
    Ok(mvcc::locks(&**store.engine(), start, end, 1)?.is_empty())
}

fn read_points(store: &Store, points: &Points, read_ts: Timestamp) -> Result<Option<Outcome>, TxnError> {
    let (mut found, mut bytes, mut value) = (Vec::with_capacity(points.keys.len()), 0, Vec::new());
    for key in &points.keys {
        if !is_settled(store, key, &behind(key))? {
            return Ok(None);
        }
        let exists = mvcc::get(&**store.engine(), key, read_ts, &mut value)?.exists;
        bytes += if exists { value.len() } else { 0 } + ROW_OVERHEAD;
        if bytes > ANSWER_BYTES && !found.is_empty() {
            break;
        }
        // Nobody refreshes what was read in the past: no stamp is needed.
        found.push(FoundPoint {
            value: exists.then(|| Bytes::copy_from_slice(&value)),
            stamp: 0,
            is_own: false,
        });
    }
    Ok(Some(Outcome::Points(FoundPoints { points: found, read_ts: read_ts.0 })))
}

fn read_chunk(store: &Store, chunk: &Chunk, read_ts: Timestamp) -> Result<Option<Outcome>, TxnError> {
    let (start, end) = (&chunk.span.start, &chunk.span.end);
    if !is_settled(store, start, end)? {
        return Ok(None);
    }
    let mut scanner = Scanner::new(&**store.engine(), start, end, read_ts, chunk.reverse)?;
    let mut filling = Filling::new(chunk.max_rows);
    let mut row = |key: &[u8], value: &[u8]| filling.take(key, value);
    let nothing = std::iter::empty();
    let read = merge((start, end), chunk.reverse, nothing, &mut row, |visit| {
        scanner.for_each(visit).map_err(TxnError::from)
    })?;
    Ok(Some(Outcome::Rows(Rows { rows: filling.rows, resume: read.resume, read_ts: read_ts.0 })))
}
