//! Garbage collection: how the replicated thresholds rise (R3, R4), and VACUUM.
//!
//! Nothing may commit at or below a threshold once it has been proposed: [`stop_commits_until`].

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::effects::{ClearSpan, EFFECTS_FORMAT, Effects, ThresholdUpdate, Thresholds};
use cairn_kv::engine::{Cf, Engine};
use cairn_kv::seam;
use cairn_kv::version::{self, physical_end};

use crate::closed::stop_commits_until;
use crate::leaseholder::admit::unless_canceled;
use crate::leaseholder::propose::no_timestamp;
use crate::leaseholder::tenure::after;
use crate::leaseholder::{Leaseholder, Own};
use crate::{CancelToken, DbConfig, TxnError};

/// Bytes of tables for which a compaction is worth it: it writes those at the span's ends anew, with what
/// else is in them, up to 64 MiB each.
const WORTH_COMPACTING: u64 = 1 << 20;

/// How often the background looks whether a threshold is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The background task: keeps each threshold its lag behind now while there is something to collect.
/// It ends with the tenure.
pub async fn raise_thresholds(leaseholder: Weak<Leaseholder>, config: DbConfig) {
    while let Some(leaseholder) = after(LOOK_EVERY, &leaseholder).await {
        if let Err(error) = raise_due(&leaseholder, &config).await {
            tracing::warn!(%error, "thresholds of garbage collection could not be raised");
        }
    }
}

/// Raises what is due. A threshold moves in steps of a quarter of its lag, and not at all once it has
/// passed the last commit: an idle node writes nothing.
async fn raise_due(leaseholder: &Arc<Leaseholder>, config: &DbConfig) -> Result<(), TxnError> {
    let last_commit = leaseholder.last_commit();
    let present = leaseholder.store.thresholds();
    let at = |now: Timestamp| {
        let step = |present: Timestamp, lag: u64| {
            let wanted = now.sub_micros(lag);
            let due = present < last_commit && wanted >= present.add_micros((lag / 4).max(1_000_000));
            if due { wanted } else { Timestamp::ZERO }
        };
        Thresholds {
            gc: step(present.gc, config.gc_ttl_micros),
            tombstone: step(present.tombstone, config.tombstone_lag_micros),
            marker: step(present.marker, config.marker_lag_micros),
        }
    };
    let wall = leaseholder.store.env().clock.wall_micros();
    if at(Timestamp::from_micros(wall)) == Thresholds::default() {
        return Ok(());
    }
    // The clock must be ahead of every threshold: whoever writes later gets a timestamp above it.
    let now = leaseholder.store.now().await.map_err(no_timestamp)?;
    raise(leaseholder, at(now)).await
}

/// Raises the thresholds; that of garbage collection no further than live transactions allow.
async fn raise(leaseholder: &Arc<Leaseholder>, wanted: Thresholds) -> Result<(), TxnError> {
    let gc =
        if wanted.gc.is_zero() { Timestamp::ZERO } else { leaseholder.live.raise_gc_threshold(wanted.gc) };
    leaseholder.raise_gc_threshold(gc);
    stop_commits_until(leaseholder, gc.max(wanted.tombstone)).await?;
    let update = ThresholdUpdate { gc: gc.0, tombstone: wanted.tombstone.0, marker: wanted.marker.0 };
    let effects = Effects { format: EFFECTS_FORMAT, thresholds: Some(update), ..Effects::default() };
    let lease = leaseholder.lease()?;
    leaseholder.propose(lease, effects, None).await
}

/// VACUUM of some spans. Canceling leaves alone what is not begun.
pub async fn collect(
    leaseholder: &Arc<Leaseholder>,
    spans: &[(Bytes, Bytes)],
    cancel: &CancelToken,
) -> Result<(), TxnError> {
    let store = &leaseholder.store;
    let now = store.now().await.map_err(no_timestamp)?;
    // Commit markers keep their lag: resends do not know of VACUUM.
    let wanted = Thresholds { gc: now, tombstone: now, marker: Timestamp::ZERO };
    unless_canceled(cancel, raise(leaseholder, wanted)).await??;
    unless_canceled(cancel, flush(leaseholder)).await??;
    for (start, end) in spans {
        for cf in [Cf::Data, Cf::History] {
            let (from, to) = (start.clone(), end.clone());
            let work = move |engine: &dyn Engine| match cf {
                Cf::History if !has_history(engine, &from, &to)? => Ok(()),
                Cf::Data if !has_dead_data(engine, &from, &to)? => Ok(()),
                _ => engine.compact(cf, &from, &to),
            };
            unless_canceled(cancel, with_engine(leaseholder, "vacuum", work)).await??;
        }
    }
    Ok(())
}

/// Whether superseded versions lie in the span.
fn has_history(engine: &dyn Engine, start: &[u8], end: &[u8]) -> cairn_kv::Result<bool> {
    let mut iter = engine.iter(Cf::History, start, &physical_end(end))?;
    iter.seek_to_first();
    iter.status()?;
    Ok(iter.valid())
}

/// Whether enough of the span is dead for a compaction, which writes all of it anew: one key in
/// twenty is deleted, or the tables take clearly more than what is alive, which they compress.
fn has_dead_data(engine: &dyn Engine, start: &[u8], end: &[u8]) -> cairn_kv::Result<bool> {
    let mut iter = engine.iter(Cf::Data, start, end)?;
    let (mut keys, mut dead, mut live_bytes) = (0_u64, 0_u64, 0_u64);
    iter.seek_to_first();
    while let Some((key, value)) = iter.entry() {
        keys += 1;
        if version::header(key, value)?.tombstone {
            dead += 1;
        } else {
            live_bytes += (key.len() + value.len()) as u64;
        }
        iter.next();
    }
    iter.status()?;
    let table_bytes = engine.approximate_size(Cf::Data, start, end)?;
    Ok(dead > 0 && dead * 20 >= keys || table_bytes > live_bytes + WORTH_COMPACTING)
}

/// Removes everything in `[start, end)` for good: see [`ClearSpan`]. The caller knows that the span
/// was given up at or below the threshold of garbage collection.
pub async fn clear(leaseholder: &Arc<Leaseholder>, start: &[u8], end: &[u8]) -> Result<(), TxnError> {
    // Commits that are still moving what they wrote there to where it will be cleared end first.
    let now = leaseholder.store.now().await.map_err(no_timestamp)?;
    let never = CancelToken::default();
    while let Err(obstacle) = leaseholder.admit_span(start, end, now, Own::default()) {
        leaseholder.wait_for(obstacle, now, &never).await?;
    }
    let span = ClearSpan { start: Bytes::copy_from_slice(start), end: Bytes::copy_from_slice(end) };
    let effects = Effects { format: EFFECTS_FORMAT, clears: vec![span], ..Effects::default() };
    let lease = leaseholder.lease()?;
    leaseholder.propose(lease, effects, None).await?;
    leaseholder.slots.wrote_span();
    let engine = leaseholder.engine();
    let size = |cf| engine.approximate_size(cf, start, end);
    if size(Cf::Data)? + size(Cf::History)? < WORTH_COMPACTING {
        // The next compaction there drops it.
        return Ok(());
    }
    compact(leaseholder, start, end).await
}

/// Dead entries that one chunk of a scan may pass before their span is compacted.
const MAX_SKIPPED: u64 = 10_000;

/// Spans of which it is remembered when they were compacted for a scan.
const MAX_SWEPT: usize = 256;

/// What scans have had compacted.
#[derive(Default)]
pub struct Sweeps {
    /// One at a time: who comes meanwhile asks again with its next scan.
    is_busy: bool,
    /// Thresholds of the last compaction, by the span's start: before they rise another one is idle.
    swept: BTreeMap<Bytes, Timestamp>,
}

/// A scan has passed `skipped` dead entries in `[start, end)`. If these are many, the span is flushed
/// and compacted in the background: engines compact as they see fit, and rarely where nothing is
/// written any more.
pub fn passed_dead_entries(leaseholder: &Arc<Leaseholder>, start: &[u8], end: &[u8], skipped: u64) {
    if skipped <= MAX_SKIPPED {
        return;
    }
    let thresholds = leaseholder.store.thresholds();
    let threshold = thresholds.gc.max(thresholds.tombstone);
    let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
    {
        let mut sweeps = leaseholder.sweeps.lock();
        if sweeps.is_busy || sweeps.swept.get(&start).is_some_and(|swept| *swept >= threshold) {
            return;
        }
        if sweeps.swept.len() >= MAX_SWEPT {
            sweeps.swept.clear();
        }
        sweeps.is_busy = true;
        sweeps.swept.insert(start.clone(), threshold);
    }
    let sweeper = Arc::clone(leaseholder);
    let task = async move {
        if let Err(error) = compact(&sweeper, &start, &end).await {
            tracing::warn!(%error, "a span with many dead entries could not be compacted");
        }
        sweeper.sweeps.lock().is_busy = false;
    };
    leaseholder.store.env().runtime.spawn("compaction for a scan", Box::pin(task));
}

/// Flushes, then compacts `[start, end)`: what is gone leaves the disk.
async fn compact(leaseholder: &Arc<Leaseholder>, start: &[u8], end: &[u8]) -> Result<(), TxnError> {
    flush(leaseholder).await?;
    for cf in [Cf::Data, Cf::History] {
        let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
        let work = move |engine: &dyn Engine| engine.compact(cf, &start, &end);
        with_engine(leaseholder, "compaction", work).await?;
    }
    Ok(())
}

/// Compaction filters may act only on what is flushed.
async fn flush(leaseholder: &Arc<Leaseholder>) -> Result<(), TxnError> {
    leaseholder.store.flush().await.map_err(|error| TxnError::Unavailable(error.to_string()))
}

/// Work on the engine that takes long, away from the workers. Dropping the future does not stop it.
async fn with_engine(
    leaseholder: &Arc<Leaseholder>,
    name: &'static str,
    work: impl FnOnce(&dyn Engine) -> cairn_kv::Result<()> + Send + 'static,
) -> Result<(), TxnError> {
    let engine = Arc::clone(leaseholder.store.engine());
    let runtime = &*leaseholder.store.env().runtime;
    Ok(seam::blocking(runtime, name, move || work(&*engine)).await?)
}
