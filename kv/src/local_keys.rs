//! Keys and small values of the `local` family.
//!
//! A key is the layout's version, a kind, and what the kind is keyed by. Records and markers are
//! keyed by user key (the transaction's anchor), never by range, so that they travel with their
//! key when ranges split (DESIGN §2). Anchors are encoded, so that no key is another's prefix.

use bytes::Bytes;

use crate::effects::Thresholds;
use crate::encoding::{Direction, prefix_end, put_bytes, take_bytes};
use crate::mvcc::TxnId;
use crate::version::escape;
use crate::{Error, Result, Timestamp};

/// Newest store format that this binary reads and writes: layout of the families, of `local` keys
/// and of version values.
pub const STORE_FORMAT: u32 = 1;

const LAYOUT: u8 = 1;
const VALUE_FORMAT: u8 = 1;

const FORMAT: u8 = b'f';
const IDENT: u8 = b'i';
const RANGE_STATE: u8 = b'a';
const RANGE_DESCRIPTOR: u8 = b'd';
const THRESHOLDS: u8 = b't';
const TXN_RECORD: u8 = b'r';
const COMMIT_MARKER: u8 = b'm';

/// Key of the store's format, the first thing written and the first thing read. It has no layout
/// version of its own: every future layout keeps it.
pub const STORE_FORMAT_KEY: &[u8] = &[0, FORMAT];

/// Value of [`STORE_FORMAT_KEY`].
pub fn store_format_value() -> Bytes {
    Bytes::copy_from_slice(&STORE_FORMAT.to_be_bytes())
}

/// Checks the value of [`STORE_FORMAT_KEY`].
pub fn check_store_format(value: &[u8]) -> Result<()> {
    let found = u32::from_be_bytes(
        value.try_into().map_err(|_| Error::Corruption("local: bad store format entry".into()))?,
    );
    match found {
        0 => Err(Error::Corruption("local: store format 0 does not exist".into())),
        found if found > STORE_FORMAT => Err(Error::NewerFormat { found, supported: STORE_FORMAT }),
        _ => Ok(()),
    }
}

/// Key of the store's identity (cluster, node, store); the value is the store layer's.
pub fn ident() -> Bytes {
    Bytes::from_static(&[LAYOUT, IDENT])
}

/// Key of a range's applied state (log index, lease); the value is the Raft layer's.
pub fn range_state(range: u64) -> Bytes {
    keyed(RANGE_STATE, &range.to_be_bytes())
}

/// Prefix of all ranges' applied states.
pub fn range_states() -> Bytes {
    Bytes::from_static(&[LAYOUT, RANGE_STATE])
}

/// The range of a key made by [`range_state`].
pub fn parse_range_state(key: &[u8]) -> Result<u64> {
    key.strip_prefix(&[LAYOUT, RANGE_STATE])
        .and_then(|range| range.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| Error::Corruption(format!("local: bad range state key {}", escape(key))))
}

/// Key of the descriptor of the range that starts at `start`; the value is the Raft layer's.
pub fn range_descriptor(start: &[u8]) -> Bytes {
    let mut key = vec![LAYOUT, RANGE_DESCRIPTOR];
    put_bytes(&mut key, start, Direction::Asc);
    key.into()
}

/// Prefix of all range descriptors.
pub fn range_descriptors() -> Bytes {
    Bytes::from_static(&[LAYOUT, RANGE_DESCRIPTOR])
}

/// Key of the replicated thresholds of the range that starts at `start` (the first range: empty).
pub fn thresholds(start: &[u8]) -> Bytes {
    let mut key = vec![LAYOUT, THRESHOLDS];
    put_bytes(&mut key, start, Direction::Asc);
    key.into()
}

/// Value of a key made by [`thresholds`].
pub fn thresholds_value(thresholds: &Thresholds) -> Bytes {
    let mut value = vec![VALUE_FORMAT];
    for ts in [thresholds.gc, thresholds.tombstone, thresholds.marker] {
        value.extend_from_slice(&ts.0.to_be_bytes());
    }
    value.into()
}

/// Reads a value made by [`thresholds_value`].
pub fn parse_thresholds_value(value: &[u8]) -> Result<Thresholds> {
    let fields = body(value, "thresholds")?;
    let (chunks, rest) = fields.as_chunks::<8>();
    match (chunks, rest) {
        ([gc, tombstone, marker], []) => Ok(Thresholds {
            gc: Timestamp(u64::from_be_bytes(*gc)),
            tombstone: Timestamp(u64::from_be_bytes(*tombstone)),
            marker: Timestamp(u64::from_be_bytes(*marker)),
        }),
        _ => Err(Error::Corruption("local: bad thresholds entry".into())),
    }
}

/// Key of a transaction's record; the value is the transaction layer's.
pub fn txn_record(anchor: &[u8], txn_id: &TxnId) -> Bytes {
    let mut key = vec![LAYOUT, TXN_RECORD];
    put_bytes(&mut key, anchor, Direction::Asc);
    key.extend_from_slice(txn_id);
    key.into()
}

/// Prefix of all transaction records.
pub fn txn_records() -> Bytes {
    Bytes::from_static(&[LAYOUT, TXN_RECORD])
}

/// Anchor and transaction of a key made by [`txn_record`].
pub fn parse_txn_record(key: &[u8]) -> Result<(Bytes, TxnId)> {
    let bad = || Error::Corruption(format!("local: bad transaction record key {}", escape(key)));
    let mut rest = key.strip_prefix(&[LAYOUT, TXN_RECORD]).ok_or_else(bad)?;
    let anchor = take_bytes(&mut rest)?.ok_or_else(bad)?;
    let txn_id = TxnId::try_from(rest).map_err(|_| bad())?;
    Ok((Bytes::copy_from_slice(&anchor), txn_id))
}

/// Key of the marker that a one-range commit leaves for resends (R7).
pub fn commit_marker(anchor: &[u8], start_ts: Timestamp, txn_id: &TxnId) -> Bytes {
    let mut key = Vec::with_capacity(2 + anchor.len() + 3 + 8 + 16);
    key.extend_from_slice(&[LAYOUT, COMMIT_MARKER]);
    put_bytes(&mut key, anchor, Direction::Asc);
    key.extend_from_slice(&start_ts.0.to_be_bytes());
    key.extend_from_slice(txn_id);
    key.into()
}

/// Prefix of all commit markers.
pub fn commit_markers() -> Bytes {
    Bytes::from_static(&[LAYOUT, COMMIT_MARKER])
}

/// Where the records, and where the markers, of the transactions whose anchors are in `[start, end)` stand; an empty
/// `end` is no bound.
pub fn anchored_in(start: &[u8], end: &[u8]) -> [(Bytes, Bytes); 2] {
    [COMMIT_MARKER, TXN_RECORD].map(|kind| {
        let bound = |anchor: &[u8]| {
            let mut key = vec![LAYOUT, kind];
            put_bytes(&mut key, anchor, Direction::Asc);
            Bytes::from(key)
        };
        let last = if end.is_empty() { prefix_end(&[LAYOUT, kind]).into() } else { bound(end) };
        (bound(start), last)
    })
}

/// Value of a commit marker.
pub fn commit_marker_value(commit_ts: Timestamp) -> Bytes {
    let mut value = Vec::with_capacity(9);
    value.push(VALUE_FORMAT);
    value.extend_from_slice(&commit_ts.0.to_be_bytes());
    value.into()
}

/// The commit timestamp in a commit marker.
pub fn parse_commit_marker_value(value: &[u8]) -> Result<Timestamp> {
    let ts = body(value, "commit marker")?
        .try_into()
        .map_err(|_| Error::Corruption("local: bad commit marker".into()))?;
    Ok(Timestamp(u64::from_be_bytes(ts)))
}

/// Whether a key of `local` is a commit marker's.
pub fn is_commit_marker(key: &[u8]) -> bool {
    key.starts_with(&[LAYOUT, COMMIT_MARKER])
}

fn keyed(kind: u8, by: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(2 + by.len());
    key.extend_from_slice(&[LAYOUT, kind]);
    key.extend_from_slice(by);
    key.into()
}

/// What follows a value's format byte.
fn body<'a>(value: &'a [u8], what: &str) -> Result<&'a [u8]> {
    match value.split_first() {
        Some((&VALUE_FORMAT, rest)) => Ok(rest),
        Some((&found, _)) if found > VALUE_FORMAT => {
            Err(Error::NewerFormat { found: found.into(), supported: VALUE_FORMAT.into() })
        }
        _ => Err(Error::Corruption(format!("local: bad {what} entry"))),
    }
}
