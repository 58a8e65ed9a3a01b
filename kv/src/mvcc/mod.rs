//! Reads at a timestamp over `lock`, `data` and `history`; the replicated locks' format.
//!
//! A read at now is a look into `data`, which holds each key's newest version; `history` is
//! consulted only
//!
//! - for a key whose newest version is newer than the read, and
//! - below the tombstone threshold, where a deletion may have gone from `data` while reads below
//!   it still see the value it deleted (R3).
//!
//! A version moves only from `data` to `history` and then goes, so a read looks at them in this
//! order, `lock` before both, and asks *afterwards* what the compaction filters may have dropped
//! ([`Engine::filter_thresholds`], R4): then it either knows that nothing it should see was
//! missing, or looks into `history`, or fails. The caller's check against the replicated GC
//! threshold gives the same answer on every replica; the check here keeps an answer from being
//! wrong.

use bytes::Bytes;

use crate::engine::{Cf, Engine, EngineIter};
use crate::version::{self, HEADER_LEN, escape, in_span, physical_end};
use crate::{Error, Result, Timestamp};

mod scan;

pub use scan::{RowVisitor, Scanner};

/// A transaction's identity: random, 16 bytes.
pub type TxnId = [u8; 16];

/// Order of writes within a transaction (R13).
pub type SeqNum = u32;

/// How strongly a replicated lock excludes others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Strength {
    /// FOR KEY SHARE / FOR SHARE: coexists with its like.
    Shared = 1,
    /// FOR UPDATE: excludes all.
    Exclusive = 2,
    /// With provisional values.
    Intent = 3,
}

/// One provisional value of an intent.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ProvisionalValue {
    /// Sequence number of the write.
    #[prost(uint32, tag = "1")]
    pub seq: u32,
    /// The value; absent for a deletion.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<Bytes>,
}

/// The value of an entry of the `lock` family.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct LockValue {
    /// Format version.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Key that the transaction's record is anchored at.
    #[prost(bytes = "bytes", tag = "2")]
    pub anchor: Bytes,
    /// The transaction's start timestamp.
    #[prost(uint64, tag = "3")]
    pub start_ts: u64,
    /// Timestamp at which the intent was written: it commits at or above it.
    #[prost(uint64, tag = "4")]
    pub write_ts: u64,
    /// Timestamp of the version seen when locking; zero: the key was absent.
    #[prost(uint64, tag = "5")]
    pub seen_ts: u64,
    /// Provisional values, ascending by sequence number; empty for a mere lock.
    #[prost(message, repeated, tag = "6")]
    pub values: Vec<ProvisionalValue>,
    /// When the intent was written `data` held no version of the key (neither value nor
    /// tombstone): none can have come since, so resolution need not look.
    #[prost(bool, tag = "7")]
    pub fresh: bool,
}

/// A replicated lock found by a read.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundLock {
    /// User key.
    pub key: Bytes,
    /// Strength.
    pub strength: Strength,
    /// Holder.
    pub txn_id: TxnId,
    /// Its value.
    pub value: LockValue,
}

/// Newest format of lock values.
pub const LOCK_FORMAT: u32 = 1;

/// Bytes behind the user key in a key of `lock`: strength and transaction.
const LOCK_SUFFIX_LEN: usize = 17;

/// Key of a lock in the `lock` family: user key, strength, transaction id.
pub fn lock_key(key: &[u8], strength: Strength, txn_id: &TxnId) -> Bytes {
    let mut out = Vec::with_capacity(key.len() + LOCK_SUFFIX_LEN);
    out.extend_from_slice(key);
    out.push(strength as u8);
    out.extend_from_slice(txn_id);
    out.into()
}

/// Splits a key made by [`lock_key`].
pub fn parse_lock_key(stored: &[u8]) -> Result<(&[u8], Strength, TxnId)> {
    let bad = || Error::Corruption(format!("lock: bad key {}", escape(stored)));
    let (key, suffix) = stored.split_last_chunk::<LOCK_SUFFIX_LEN>().ok_or_else(bad)?;
    let [strength, txn_id @ ..] = *suffix;
    let strength = match strength {
        1 => Strength::Shared,
        2 => Strength::Exclusive,
        3 => Strength::Intent,
        _ => return Err(bad()),
    };
    Ok((key, strength, txn_id))
}

/// Decodes the value of an entry of `lock`; `key` is named by the error.
pub fn decode_lock_value(key: &[u8], value: Bytes) -> Result<LockValue> {
    let value: LockValue = prost::Message::decode(value)
        .map_err(|error| Error::Corruption(format!("lock: bad value of {}: {error}", escape(key))))?;
    match value.format {
        LOCK_FORMAT => Ok(value),
        0 => Err(Error::Corruption(format!("lock: value of {} has no format", escape(key)))),
        found => Err(Error::NewerFormat { found, supported: LOCK_FORMAT }),
    }
}

/// All replicated locks in `[start, end)`, up to `limit`. A point key `k` is `[k, k ++ 0x00)`.
pub fn locks(engine: &dyn Engine, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<FoundLock>> {
    let mut found = Vec::new();
    for_each_lock(engine, start, end, &mut |key, strength, txn_id, stored, value| {
        let value = decode_lock_value(stored, Bytes::copy_from_slice(value))?;
        found.push(FoundLock { key: Bytes::copy_from_slice(key), strength, txn_id, value });
        Ok(found.len() < limit)
    })?;
    Ok(found)
}

/// Called with user key, strength, transaction, stored key and stored value of a lock; says
/// whether to go on.
pub(crate) type LockVisitor<'a> = dyn FnMut(&[u8], Strength, TxnId, &[u8], &[u8]) -> Result<bool> + 'a;

/// Calls `visit` with each lock of the span until it returns false.
pub(crate) fn for_each_lock(
    engine: &dyn Engine,
    start: &[u8],
    end: &[u8],
    visit: &mut LockVisitor<'_>,
) -> Result<()> {
    let mut iter = engine.iter(Cf::Lock, start, &physical_end(end))?;
    iter.seek_to_first();
    while iter.valid() {
        let (key, strength, txn_id) = parse_lock_key(iter.key())?;
        if in_span(key, start, end) && !visit(key, strength, txn_id, iter.key(), iter.value())? {
            return Ok(());
        }
        iter.next();
    }
    iter.status()
}

/// What a point read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Timestamp of the version read (a tombstone's too, as far as it is still known); zero when
    /// there is none.
    pub ts: Timestamp,
    /// Whether there is a value (it is in `out`).
    pub exists: bool,
    /// Whether the key has a version newer than the read timestamp.
    pub newer: bool,
}

impl Found {
    const NOTHING: Found = Found { ts: Timestamp::ZERO, exists: false, newer: false };
}

/// Reads the newest committed version of `key` at or below `ts` into `out`. Looks neither at locks
/// nor at the replicated GC threshold: the caller has done the first and does the second *after*
/// (R4).
pub fn get(engine: &dyn Engine, key: &[u8], ts: Timestamp, out: &mut Vec<u8>) -> Result<Found> {
    if engine.get(Cf::Data, key, out)? {
        let header = version::header(key, out)?;
        if header.ts <= ts {
            if header.tombstone {
                out.clear();
            } else {
                out.drain(..HEADER_LEN);
            }
            return Ok(Found { ts: header.ts, exists: !header.tombstone, newer: false });
        }
        return get_in_history(engine, key, ts, true, out);
    }
    if ts < engine.filter_thresholds().tombstone {
        return get_in_history(engine, key, ts, false, out);
    }
    out.clear();
    Ok(Found::NOTHING)
}

/// Reads the version of `key` at `ts` from `history`. `newer`: `data` has a newer one.
fn get_in_history(
    engine: &dyn Engine,
    key: &[u8],
    ts: Timestamp,
    newer: bool,
    out: &mut Vec<u8>,
) -> Result<Found> {
    let mut iter = engine.iter(Cf::History, key, &crate::encoding::prefix_end(key))?;
    check_gc(engine, ts)?;
    out.clear();
    iter.seek(&version::history_key(key, ts));
    let mut found = Found { newer, ..Found::NOTHING };
    if let Some(past) = PastVersion::at(&*iter, key)? {
        if past.superseded_at > ts {
            out.extend_from_slice(past.payload);
            return Ok(Found { ts: past.ts, exists: true, newer: true });
        }
        found.ts = past.superseded_at; // a tombstone's
    }
    if !newer {
        // It may have been written later, deleted, and forgotten by `data`.
        iter.seek(&version::history_key(key, Timestamp::MAX));
        found.newer = PastVersion::at(&*iter, key)?.is_some_and(|past| past.superseded_at > ts);
    }
    Ok(found)
}

/// Fails when `history` may lack what a read at `ts` needs. Called after its iterator was opened.
fn check_gc(engine: &dyn Engine, read_ts: Timestamp) -> Result<()> {
    let threshold = engine.filter_thresholds().gc;
    if read_ts < threshold { Err(Error::BelowGcThreshold { read_ts, threshold }) } else { Ok(()) }
}

/// A version in `history`.
struct PastVersion<'a> {
    ts: Timestamp,
    superseded_at: Timestamp,
    payload: &'a [u8],
}

impl<'a> PastVersion<'a> {
    /// The one that `iter` stands at, if it is one of `key`.
    fn at(iter: &'a (dyn EngineIter + Send + '_), key: &[u8]) -> Result<Option<PastVersion<'a>>> {
        if !iter.valid() {
            iter.status()?;
            return Ok(None);
        }
        let (found, ts) = version::parse_history_key(iter.key())?;
        if found != key {
            return Ok(None);
        }
        let header = version::header(found, iter.value())?;
        Ok(Some(PastVersion { ts, superseded_at: header.ts, payload: &iter.value()[HEADER_LEN..] }))
    }
}

/// The newest committed version of `key` without its value: timestamp (zero: none in `data`) and
/// whether it is a value rather than a tombstone.
pub fn newest(engine: &dyn Engine, key: &[u8]) -> Result<(Timestamp, bool)> {
    let mut out = Vec::new();
    if !engine.get(Cf::Data, key, &mut out)? {
        return Ok((Timestamp::ZERO, false));
    }
    let header = version::header(key, &out)?;
    Ok((header.ts, !header.tombstone))
}

/// Whether `key` has, or had, a committed version newer than `seen` (a tombstone counts): what
/// validation asks about a key that was read or locked at `seen`. Unlike [`newest`] it also knows
/// of a version that was written after `seen` and deleted so long ago that `data` has forgotten
/// the key. `scratch` is overwritten.
pub fn changed_since(
    engine: &dyn Engine,
    key: &[u8],
    seen: Timestamp,
    scratch: &mut Vec<u8>,
) -> Result<bool> {
    if engine.get(Cf::Data, key, scratch)? {
        return Ok(version::header(key, scratch)?.ts > seen);
    }
    if seen >= engine.filter_thresholds().tombstone {
        return Ok(false);
    }
    let mut iter = engine.iter(Cf::History, key, &crate::encoding::prefix_end(key))?;
    check_gc(engine, seen)?;
    iter.seek(&version::history_key(key, Timestamp::MAX));
    let newest = PastVersion::at(&*iter, key)?;
    Ok(newest.is_some_and(|past| past.superseded_at > seen))
}

/// The first key in `[start, end)` that has a committed version (tombstones count) in
/// `(after, upto]`: what a refresh looks for. `None`: nothing changed. A tombstone that was itself
/// superseded, or that deleted nothing and is forgotten, changed no read and does not count.
pub fn changed_in(
    engine: &dyn Engine,
    start: &[u8],
    end: &[u8],
    after: Timestamp,
    upto: Timestamp,
) -> Result<Option<Bytes>> {
    let mut data = engine.iter(Cf::Data, start, end)?;
    let merge = after < engine.filter_thresholds().tombstone;
    let mut history = None;
    let mut changed: Option<Bytes> = None;
    data.seek_to_first();
    while data.valid() {
        let key = data.key();
        let newest = version::header(key, data.value())?.ts;
        if newest > after {
            let hit = newest <= upto || {
                let history = match &mut history {
                    Some(history) => history,
                    None => history.insert(open_history(engine, start, end, after)?),
                };
                past_change(&mut **history, key, after, upto)?
            };
            if hit {
                changed = Some(Bytes::copy_from_slice(key));
                break;
            }
        }
        data.next();
    }
    data.status()?;
    if merge {
        // Keys that `data` has forgotten: any that changed before the one found?
        let mut history = match history {
            Some(history) => history,
            None => open_history(engine, start, end, after)?,
        };
        let end = changed.as_deref().unwrap_or(end);
        history.seek_to_first();
        while history.valid() {
            let (key, ts) = version::parse_history_key(history.key())?;
            if !end.is_empty() && key >= end {
                break;
            }
            let superseded_at = version::header(key, history.value())?.ts;
            if key >= start && touches(ts, superseded_at, after, upto) {
                return Ok(Some(Bytes::copy_from_slice(key)));
            }
            history.next();
        }
        history.status()?;
    }
    Ok(changed)
}

/// Opens `history` over a span of user keys for reads at or above `ts`.
fn open_history<'a>(
    engine: &'a dyn Engine,
    start: &[u8],
    end: &[u8],
    ts: Timestamp,
) -> Result<Box<dyn EngineIter + Send + 'a>> {
    let iter = engine.iter(Cf::History, start, &physical_end(end))?;
    check_gc(engine, ts)?;
    Ok(iter)
}

/// Whether a past version began or ended in `(after, upto]`.
fn touches(ts: Timestamp, superseded_at: Timestamp, after: Timestamp, upto: Timestamp) -> bool {
    (ts > after && ts <= upto) || (superseded_at > after && superseded_at <= upto)
}

/// Whether a past version of `key` began or ended in `(after, upto]`.
fn past_change(
    history: &mut (dyn EngineIter + Send + '_),
    key: &[u8],
    after: Timestamp,
    upto: Timestamp,
) -> Result<bool> {
    // The newest version at or below `upto` is the only one that can: an older one ends where a
    // newer one begins, or at a tombstone below it.
    history.seek(&version::history_key(key, upto));
    let past = PastVersion::at(history, key)?;
    Ok(past.is_some_and(|past| touches(past.ts, past.superseded_at, after, upto)))
}
