//! When the engine is flushed, and the log truncated behind it.
//!
//! The engine has no log of its own: what it has not flushed is replayed from ours. A flush is due
//! by the bytes and keys that a restart would replay and by memory. It runs beside the writers.
//!
//! | step | a crash after it |
//! |---|---|
//! | thresholds as applied are read | nothing has happened |
//! | the engine flushes, all families atomically | replay starts at the new applied index; the log still has more than it needs |
//! | the flushed applied index is read back from the engine's flushed state | the same |
//! | the compaction filters get the thresholds of the first step: they are flushed | the same; recovery sets the filters from flushed state |
//! | a record with the truncation point, and the end of markers of snapshots that were ingested before the flush began, is synced | entries up to it are ignored by recovery, their segments not yet recycled |
//! | segments are recycled, oldest first, each rename synced | older ones are gone; the rest follow at the next truncation |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_kv::engine::{Cf, Engine, FilterThresholds, SharedEngine};
use cairn_kv::seam::{self, Runtime};
use cairn_kv::{Error, Result, effects, local_keys};
use parking_lot::Mutex;

use crate::RangeId;
use crate::command::decode_range_state;
use crate::driver::Work;
use crate::store::{Inner, StoreError};

/// What has gathered since the last flush.
#[derive(Default)]
pub(crate) struct FlushState {
    /// Log bytes that a restart would read and decode.
    pub(crate) log_bytes: AtomicU64,
    /// Keys that a restart would write.
    pub(crate) keys: AtomicU64,
    /// Bytes written to the engine: more than the log's where intents are resolved, which moves values
    /// that stand in the log once.
    pub(crate) engine_bytes: AtomicU64,
    /// Engine bytes at which memory was looked at last.
    memory_checked_at: AtomicU64,
    /// Markers whose engine work is done, by range and number: the next flush ends them.
    pub(crate) done: Mutex<Vec<(RangeId, u64)>>,
    /// A flush that the policy asked for is under way.
    running: AtomicBool,
    /// One flush at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Engine bytes between two looks at the memtables.
const MEMORY_CHECK_BYTES: u64 = 1 << 20;

/// How many times the memtable bytes that cause a flush may be there while one is under way, before those
/// who write in bulk wait for it.
const MEMTABLES_WHILE_FLUSHING: u64 = 3;

impl Inner {
    /// Starts a flush if one is due. Called after every batch: cheap when none is.
    pub(crate) fn consider_flush(self: &Inner) {
        let FlushState { log_bytes, keys, engine_bytes, memory_checked_at, .. } = &self.flush;
        let mut due = log_bytes.load(Ordering::Relaxed) >= self.config.flush_log_bytes
            || keys.load(Ordering::Relaxed) >= self.config.flush_keys;
        let bytes = engine_bytes.load(Ordering::Relaxed);
        if !due && bytes >= memory_checked_at.load(Ordering::Relaxed) + MEMORY_CHECK_BYTES {
            memory_checked_at.store(bytes, Ordering::Relaxed);
            due = self.engine.stats().memtable_bytes >= self.config.flush_memtable_bytes;
        }
        if due {
            self.flush_in_background();
        }
    }

    /// Starts a flush, unless one is under way.
    pub(crate) fn flush_in_background(&self) {
        if !self.flush.running.swap(true, Ordering::AcqRel) {
            let inner = self.shared();
            let flush = async move {
                // A failure has stopped the store already.
                let _ = inner.flush_and_truncate().await;
                inner.flush.running.store(false, Ordering::Release);
            };
            self.env.runtime.spawn("flush", Box::pin(flush));
        }
    }

    /// Waits while memtables are so large that flushes do not keep up with what is written in bulk.
    pub(crate) async fn make_room(self: &Arc<Self>) -> Result<(), StoreError> {
        let limit = MEMTABLES_WHILE_FLUSHING * self.config.flush_memtable_bytes;
        if self.engine.stats().memtable_bytes < limit {
            return Ok(());
        }
        let _turn = self.flush.turn.lock().await;
        // The flush that was waited for may have been enough.
        if self.engine.stats().memtable_bytes < limit {
            return Ok(());
        }
        self.flush_or_fail().await
    }

    /// Flushes the engine and truncates the log behind it.
    pub(crate) async fn flush_and_truncate(self: &Arc<Self>) -> Result<(), StoreError> {
        let _turn = self.flush.turn.lock().await;
        self.flush_or_fail().await
    }

    async fn flush_or_fail(self: &Arc<Self>) -> Result<(), StoreError> {
        let result = self.flush_in_turn().await;
        // An engine that cannot be flushed or read must not be written to any more. Where the log
        // has stopped the store already, its reason stays.
        if let Err(error) = &result {
            self.fail(&format!("flush of the engine: {error}"));
        }
        result
    }

    async fn flush_in_turn(self: &Arc<Self>) -> Result<(), StoreError> {
        let faults = self.config.faults;
        // What is written from here on counts towards the next flush.
        self.flush.log_bytes.store(0, Ordering::Relaxed);
        self.flush.keys.store(0, Ordering::Relaxed);
        self.flush.engine_bytes.store(0, Ordering::Relaxed);
        self.flush.memory_checked_at.store(0, Ordering::Relaxed);

        let thresholds = effects::thresholds(&*self.engine)?;
        if faults.truncate_before_flush {
            self.truncate(read_applied(&*self.engine, false)?, Vec::new()).await?;
        }
        let ended = std::mem::take(&mut *self.flush.done.lock());
        flush_engine(&*self.env.runtime, &self.engine).await?;
        let flushed = read_applied(&*self.engine, true)?;
        let mut filter: FilterThresholds = thresholds.into();
        if faults.filter_ahead_of_threshold {
            let ahead = self.hlc.last();
            filter = FilterThresholds { gc: ahead, tombstone: ahead, marker: ahead };
        }
        self.engine.set_filter_thresholds(filter);
        self.truncate(flushed, ended).await?;
        self.stats.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn truncate(
        self: &Arc<Self>,
        points: Vec<(RangeId, u64)>,
        ended: Vec<(RangeId, u64)>,
    ) -> Result<(), StoreError> {
        let done = self.submit(|reply| Work::Truncate { points, ended, reply }).await;
        done.map(|_| ()).map_err(|e| StoreError::Kv(Error::Io(e.to_string())))
    }
}

/// Flushes away from the workers.
pub(crate) async fn flush_engine(runtime: &dyn Runtime, engine: &SharedEngine) -> Result<()> {
    let engine = Arc::clone(engine);
    seam::blocking(runtime, "flush", move || engine.flush()).await
}

/// The applied index of every range, as it stands or as it is flushed.
pub(crate) fn read_applied(engine: &dyn Engine, flushed: bool) -> Result<Vec<(RangeId, u64)>> {
    let mut applied = Vec::new();
    let prefix = local_keys::range_states();
    let mut iter = engine.iter(Cf::Local, &prefix, &cairn_kv::encoding::prefix_end(&prefix))?;
    iter.seek_to_first();
    let mut value = Vec::new();
    while iter.valid() {
        let range = local_keys::parse_range_state(iter.key())?;
        let found = if flushed {
            engine.get_flushed(Cf::Local, iter.key(), &mut value)?
        } else {
            engine.get(Cf::Local, iter.key(), &mut value)?
        };
        if found {
            applied.push((range, decode_range_state(range, &value)?.index));
        }
        iter.next();
    }
    iter.status()?;
    Ok(applied)
}
