//! Effects: what a replicated command does to the column families. Commands are evaluated once, at
//! the leaseholder, into effects; applying them is deterministic (DESIGN §3).
//!
//! Encoded with protocol buffers, so that fields can be added; `format` refuses what a binary does
//! not know.

use bytes::Bytes;

use crate::engine::{Engine, WriteBatch};
use crate::{Result, Timestamp};

/// Newest effect format this binary applies.
pub const EFFECTS_FORMAT: u32 = 1;

/// A committed version of a key.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct VersionWrite {
    /// User key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Commit timestamp.
    #[prost(uint64, tag = "2")]
    pub ts: u64,
    /// The value; absent for a tombstone.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub value: Option<Bytes>,
    /// `data` holds no version of this key (neither value nor tombstone), so apply need not look.
    #[prost(bool, tag = "4")]
    pub fresh: bool,
}

/// Sets or removes a raw key of the `lock` or `local` family.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RawWrite {
    /// Key within the family.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// New value; absent removes.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<Bytes>,
}

/// Resolves every intent and lock of one transaction in a span: moves the provisional values to
/// `data` (and what they supersede to `history`) when committed, drops them when aborted.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResolveSpan {
    /// First user key.
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    /// First user key not resolved.
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
    /// Transaction.
    #[prost(bytes = "bytes", tag = "3")]
    pub txn_id: Bytes,
    /// Commit timestamp; zero when aborted.
    #[prost(uint64, tag = "4")]
    pub commit_ts: u64,
    /// Rolled-back sequence number intervals, as pairs first, last.
    #[prost(uint32, repeated, tag = "5")]
    pub ignored_seqs: Vec<u32>,
}

/// Replicated thresholds (R3); zero leaves one as it is; they only rise.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ThresholdUpdate {
    /// Reads below it fail.
    #[prost(uint64, tag = "1")]
    pub gc: u64,
    /// Reads below it merge history for dropped tombstones.
    #[prost(uint64, tag = "2")]
    pub tombstone: u64,
    /// Commit markers below it are gone.
    #[prost(uint64, tag = "3")]
    pub marker: u64,
}

/// Everything one command does, applied in field order.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Effects {
    /// [`EFFECTS_FORMAT`] of the writer.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Committed versions; keys distinct.
    #[prost(message, repeated, tag = "2")]
    pub writes: Vec<VersionWrite>,
    /// Raw writes to `lock`.
    #[prost(message, repeated, tag = "3")]
    pub locks: Vec<RawWrite>,
    /// Spans to resolve.
    #[prost(message, repeated, tag = "4")]
    pub resolves: Vec<ResolveSpan>,
    /// Raw writes to `local` (records, markers).
    #[prost(message, repeated, tag = "5")]
    pub local: Vec<RawWrite>,
    /// Threshold changes.
    #[prost(message, optional, tag = "6")]
    pub thresholds: Option<ThresholdUpdate>,
}

/// The replicated thresholds in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Reads below it fail.
    pub gc: Timestamp,
    /// Tombstones of `data` at or below it may be gone.
    pub tombstone: Timestamp,
    /// Commit markers at or below it may be gone.
    pub marker: Timestamp,
}

/// Adds what `effects` does, against the present state of `engine`, to `batch`. The batch must be
/// written before the next effects are applied: apply reads the versions it moves to `history`.
/// An error here stops the node.
pub fn apply(engine: &dyn Engine, effects: &Effects, batch: &mut WriteBatch) -> Result<()> {
    let _ = (engine, effects, batch);
    todo!("kv: apply")
}

/// The thresholds in `engine`'s `local` family.
pub fn thresholds(engine: &dyn Engine) -> Result<Thresholds> {
    let _ = engine;
    todo!("kv: thresholds")
}
