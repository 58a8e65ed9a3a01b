//! Reads at a timestamp over `lock`, `data` and `history`; the replicated locks' format.

use bytes::Bytes;

use crate::engine::Engine;
use crate::{Result, Timestamp};

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

/// Key of a lock in the `lock` family: user key, strength, transaction id.
pub fn lock_key(key: &[u8], strength: Strength, txn_id: &TxnId) -> Bytes {
    let _ = (key, strength, txn_id);
    todo!("kv: lock_key")
}

/// All replicated locks in `[start, end)`, up to `limit`. A point key `k` is `[k, k ++ 0x00)`.
pub fn locks(engine: &dyn Engine, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<FoundLock>> {
    let _ = (engine, start, end, limit);
    todo!("kv: locks")
}

/// What a point read found. `ts` is that of the version read, also for a tombstone; zero: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Timestamp of the version read (a tombstone's too); zero when there is none.
    pub ts: Timestamp,
    /// Whether there is a value (it is in `out`).
    pub exists: bool,
    /// Whether `data` holds a version newer than the read timestamp.
    pub newer: bool,
}

/// Reads the newest committed version of `key` at or below `ts` into `out`. Looks neither at locks
/// nor at the GC threshold: the caller has done the first and does the second *after* (R4).
pub fn get(engine: &dyn Engine, key: &[u8], ts: Timestamp, out: &mut Vec<u8>) -> Result<Found> {
    let _ = (engine, key, ts, out);
    todo!("kv: get")
}

/// The newest committed version of `key` without its value: timestamp (zero: none in `data`) and
/// whether it is a value rather than a tombstone.
pub fn newest(engine: &dyn Engine, key: &[u8]) -> Result<(Timestamp, bool)> {
    let _ = (engine, key);
    todo!("kv: newest")
}

/// A scan over committed versions of `[start, end)` at `ts`, merging `data` and `history`.
pub struct Scanner<'a> {
    _engine: &'a dyn Engine,
}

impl<'a> Scanner<'a> {
    /// Opens the iterators, `data` before `history`. The caller checks the GC threshold after.
    pub fn new(
        engine: &'a dyn Engine,
        start: &[u8],
        end: &[u8],
        ts: Timestamp,
        reverse: bool,
    ) -> Result<Scanner<'a>> {
        let _ = (engine, start, end, ts, reverse);
        todo!("kv: Scanner::new")
    }

    /// Calls `row` with key, value and version timestamp of each visible row in order until it
    /// returns false or the span ends; returns whether the span ended. May be called again to go
    /// on behind the last row shown.
    pub fn for_each(&mut self, row: &mut dyn FnMut(&[u8], &[u8], Timestamp) -> bool) -> Result<bool> {
        let _ = row;
        todo!("kv: Scanner::for_each")
    }
}

/// The first key in `[start, end)` that has a committed version (tombstones count) in
/// `(after, upto]`: what a refresh looks for. `None`: nothing changed.
pub fn changed_in(
    engine: &dyn Engine,
    start: &[u8],
    end: &[u8],
    after: Timestamp,
    upto: Timestamp,
) -> Result<Option<Bytes>> {
    let _ = (engine, start, end, after, upto);
    todo!("kv: changed_in")
}
