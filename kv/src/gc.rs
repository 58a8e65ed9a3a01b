//! Garbage collection under thresholds (R3, R4).
//!
//! Garbage goes when the engine compacts: a filter drops what no permitted read can need any more,
//! as told by thresholds that are replicated, and flushed before a filter may use them.
//!
//! - `history` superseded at or below the GC threshold: reads below it are refused.
//! - Tombstones of `data` at or below the tombstone threshold: a read at or above it sees the key
//!   absent either way, a read below it also asks `history`, whose `superseded_at` says when the
//!   value was deleted.
//! - Commit markers at or below the marker threshold: an older resend is refused.
//!
//! What a filter has dropped on one replica and not on another is invisible to every read, so
//! replicas may differ in it.

use crate::engine::{Cf, Engine, FilterThresholds};
use crate::version::{self, in_span, physical_end};
use crate::{Result, local_keys};

/// Whether an entry may be dropped. A damaged entry is kept: whoever reads it reports it.
pub fn is_garbage(cf: Cf, key: &[u8], value: &[u8], thresholds: &FilterThresholds) -> bool {
    match cf {
        Cf::Data => version::header(key, value)
            .is_ok_and(|header| header.tombstone && header.ts <= thresholds.tombstone),
        Cf::History => version::header(key, value).is_ok_and(|header| header.ts <= thresholds.gc),
        Cf::Local => {
            local_keys::is_commit_marker(key)
                && local_keys::parse_commit_marker_value(value).is_ok_and(|ts| ts <= thresholds.marker)
        }
        Cf::Lock => false,
    }
}

/// Bytes of keys and values in a span, by what becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Newest versions.
    pub live_bytes: u64,
    /// Their number.
    pub live_rows: u64,
    /// Older versions still within reach of a read, and tombstones above their threshold.
    pub history_bytes: u64,
    /// What the next compaction drops.
    pub garbage_bytes: u64,
}

/// Reads a span of user keys and says what is live, kept and garbage under `thresholds`.
pub fn usage(engine: &dyn Engine, start: &[u8], end: &[u8], thresholds: &FilterThresholds) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut data = engine.iter(Cf::Data, start, end)?;
    data.seek_to_first();
    while data.valid() {
        let (key, value) = (data.key(), data.value());
        let bytes = (key.len() + value.len()) as u64;
        if is_garbage(Cf::Data, key, value, thresholds) {
            usage.garbage_bytes += bytes;
        } else if version::header(key, value)?.tombstone {
            usage.history_bytes += bytes;
        } else {
            usage.live_bytes += bytes;
            usage.live_rows += 1;
        }
        data.next();
    }
    data.status()?;
    let mut history = engine.iter(Cf::History, start, &physical_end(end))?;
    history.seek_to_first();
    while history.valid() {
        let (key, value) = (history.key(), history.value());
        if in_span(version::parse_history_key(key)?.0, start, end) {
            let bytes = (key.len() + value.len()) as u64;
            if is_garbage(Cf::History, key, value, thresholds) {
                usage.garbage_bytes += bytes;
            } else {
                usage.history_bytes += bytes;
            }
        }
        history.next();
    }
    history.status()?;
    Ok(usage)
}

/// Collects a span's garbage under the engine's present filter thresholds, the last step of
/// VACUUM: before it the caller raises the replicated thresholds, flushes the store, and so lets
/// the filters use them. Blocks for long. `local` is small and compacted as a whole.
pub fn collect(engine: &dyn Engine, start: &[u8], end: &[u8]) -> Result<()> {
    // `data` first: what a read finds missing there it looks for in `history`.
    engine.compact(Cf::Data, start, end)?;
    engine.compact(Cf::History, start, &physical_end(end))?;
    engine.compact(Cf::Lock, start, &physical_end(end))?;
    engine.compact(Cf::Local, &[], &[])
}
