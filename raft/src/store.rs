//! A store: one node's log, ranges and engine.

use std::sync::Arc;

use cairn_kv::Timestamp;
use cairn_kv::effects::{Effects, Thresholds};
use cairn_kv::engine::SharedEngine;
use cairn_kv::hlc::Hlc;
use cairn_kv::seam::Env;

/// Identity of a range; never reused.
pub type RangeId = u64;

/// The one range that exists until ranges split: it spans all keys.
pub const FIRST_RANGE: RangeId = 1;

/// Sizes and limits of a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Bytes of a log segment once the store is past its small first one.
    pub segment_bytes: u64,
    /// Log bytes since the last flush that cause one (R8, restart within a second).
    pub flush_log_bytes: u64,
    /// Keys written since the last flush that cause one.
    pub flush_keys: u64,
    /// Memtable bytes that cause a flush.
    pub flush_memtable_bytes: u64,
    /// How far ahead of use the HLC bound is made durable, microseconds (R11).
    pub hlc_lead_micros: u64,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            segment_bytes: 64 << 20,
            flush_log_bytes: 32 << 20,
            flush_keys: 100_000,
            flush_memtable_bytes: 64 << 20,
            hlc_lead_micros: 1_000_000,
        }
    }
}

/// The right to serve a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Rises with every new lease (R7).
    pub sequence: u64,
    /// Nothing was served under this lease below it: the floor of the timestamp cache.
    pub start: Timestamp,
}

/// Where a command took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Raft log index.
    pub index: u64,
}

/// Why a proposal has no known effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not applied: the lease changed or the store refuses new work.
    #[error("range is not available: {0}")]
    Unavailable(String),
    /// Above the limit of one command (R8).
    #[error("command of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// It may or may not take effect (the log failed under it): 40003.
    #[error("outcome unknown: {0}")]
    Ambiguous(String),
}

/// Why a store does not open or has stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A storage error.
    #[error(transparent)]
    Kv(#[from] cairn_kv::Error),
    /// The store belongs to another cluster, or its parts do not belong together.
    #[error("{0}")]
    Mismatch(String),
}

/// Largest encoded command (R8).
pub const MAX_COMMAND_BYTES: usize = 4 << 20;

/// One node's log, ranges and engine. Cheap to share.
pub struct Store {
    _env: Env,
    _engine: SharedEngine,
}

impl Store {
    /// Opens or creates the store on `env.disk` and `engine`: reads the log, refuses corruption,
    /// cuts a torn tail, replays what the engine has not flushed, elects itself and takes the
    /// lease of its ranges.
    pub async fn open(env: Env, engine: SharedEngine, config: StoreConfig) -> Result<Arc<Store>, StoreError> {
        let _ = (env, engine, config);
        todo!("raft: open")
    }

    /// A new timestamp; waits for the log where the HLC's durable bound must rise first (R11).
    pub async fn now(&self) -> Result<Timestamp, ProposeError> {
        todo!("raft: now")
    }

    /// The node's clock.
    pub fn hlc(&self) -> &Hlc {
        todo!("raft: hlc")
    }

    /// The engine, for reads at the leaseholder.
    pub fn engine(&self) -> &SharedEngine {
        todo!("raft: engine")
    }

    /// The seams.
    pub fn env(&self) -> &Env {
        todo!("raft: env")
    }

    /// The lease under which this store serves the range, if it does.
    pub fn lease(&self, range: RangeId) -> Option<Lease> {
        let _ = range;
        todo!("raft: lease")
    }

    /// The replicated thresholds as applied here.
    pub fn thresholds(&self) -> Thresholds {
        todo!("raft: thresholds")
    }

    /// Replicates and applies a command evaluated under `lease`; completes once applied here. On an
    /// idle store the caller itself steps Raft, syncs and applies (inline group commit); under
    /// load it joins a batch. Dropping the future does not take the command back.
    pub async fn propose(
        &self,
        range: RangeId,
        lease: Lease,
        effects: Effects,
    ) -> Result<Applied, ProposeError> {
        let _ = (range, lease, effects);
        todo!("raft: propose")
    }

    /// Flushes the engine and truncates the log behind it.
    pub async fn flush(&self) -> Result<(), StoreError> {
        todo!("raft: flush")
    }

    /// Flushes, then refuses further proposals. For a clean shutdown.
    pub async fn close(&self) -> Result<(), StoreError> {
        todo!("raft: close")
    }
}
