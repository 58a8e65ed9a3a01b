//! The storage engine: four column families behind one trait.
//!
//! Writes go without a write-ahead log: the Raft log is the only one (DESIGN §3). A batch is
//! atomic over the families, and so is a flush; a crash loses everything after the last flush and
//! nothing before it. The store decides when to flush.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::{Result, Timestamp};

mod ascending;
pub mod mem;
pub mod rocks;

pub use ascending::Ascending;
pub use mem::MemEngine;
pub use rocks::{RocksEngine, RocksOptions};

/// A column family (DESIGN §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cf {
    /// User key → newest committed version.
    Data,
    /// User key, timestamp descending → older version.
    History,
    /// User key, strength, transaction → replicated lock or intent.
    Lock,
    /// Range descriptors, applied state, transaction records, commit markers, thresholds.
    Local,
}

impl Cf {
    /// All families, in the order in which a read opens its iterators (R4) and `Local` last.
    pub const ALL: [Cf; 4] = [Cf::Lock, Cf::Data, Cf::History, Cf::Local];

    /// The family's name on disk and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Cf::Data => "data",
            Cf::History => "history",
            Cf::Lock => "lock",
            Cf::Local => "local",
        }
    }
}

/// One operation of a [`WriteBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Sets `key` to `value`.
    Put {
        /// Family.
        cf: Cf,
        /// Key.
        key: Bytes,
        /// Value.
        value: Bytes,
    },
    /// Removes `key`.
    Delete {
        /// Family.
        cf: Cf,
        /// Key.
        key: Bytes,
    },
    /// Removes every key in `[start, end)`.
    DeleteRange {
        /// Family.
        cf: Cf,
        /// First key.
        start: Bytes,
        /// First key not removed.
        end: Bytes,
    },
}

/// Operations that take effect together, in order.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// The operations.
    pub ops: Vec<WriteOp>,
}

impl WriteBatch {
    /// Appends a put.
    pub fn put(&mut self, cf: Cf, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(WriteOp::Put { cf, key: key.into(), value: value.into() });
    }

    /// Appends a removal.
    pub fn delete(&mut self, cf: Cf, key: impl Into<Bytes>) {
        self.ops.push(WriteOp::Delete { cf, key: key.into() });
    }

    /// Appends a removal of `[start, end)`.
    pub fn delete_range(&mut self, cf: Cf, start: impl Into<Bytes>, end: impl Into<Bytes>) {
        self.ops.push(WriteOp::DeleteRange { cf, start: start.into(), end: end.into() });
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        let bytes = self.ops.iter().map(|op| match op {
            WriteOp::Put { key, value, .. } => key.len() + value.len(),
            WriteOp::Delete { key, .. } => key.len(),
            WriteOp::DeleteRange { start, end, .. } => start.len() + end.len(),
        });
        bytes.sum()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// An iterator over `[lower, upper)` of one family, as of its creation. Starts unpositioned.
pub trait EngineIter {
    /// Positions at the first key ≥ `key`.
    fn seek(&mut self, key: &[u8]);
    /// Positions at the last key ≤ `key`.
    fn seek_for_prev(&mut self, key: &[u8]);
    /// Positions at the first key.
    fn seek_to_first(&mut self);
    /// Positions at the last key.
    fn seek_to_last(&mut self);
    /// Moves on.
    fn next(&mut self);
    /// Moves back.
    fn prev(&mut self);
    /// Whether positioned at an entry. False at either end and after an error: see
    /// [`EngineIter::status`].
    fn valid(&self) -> bool;
    /// The current key; only when valid.
    fn key(&self) -> &[u8];
    /// The current value; only when valid.
    fn value(&self) -> &[u8];
    /// Key and value, when valid: cheaper than asking for each.
    fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.valid().then(|| (self.key(), self.value()))
    }
    /// The error that ended the iteration, if one did.
    fn status(&self) -> Result<()>;
}

/// What the engine's compaction filters may drop (R3, R4). Only thresholds that are flushed may
/// be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterThresholds {
    /// History superseded at or below it may go.
    pub gc: Timestamp,
    /// Tombstones in `data` at or below it may go.
    pub tombstone: Timestamp,
    /// Commit markers whose commit timestamp is at or below it may go.
    pub marker: Timestamp,
}

/// The filter thresholds of an engine, shared with its compaction threads. They only rise.
#[derive(Debug, Default)]
pub(crate) struct SharedThresholds {
    gc: AtomicU64,
    tombstone: AtomicU64,
    marker: AtomicU64,
}

impl SharedThresholds {
    /// Raises what is lower.
    pub(crate) fn raise(&self, to: FilterThresholds) {
        self.gc.fetch_max(to.gc.0, Ordering::SeqCst);
        self.tombstone.fetch_max(to.tombstone.0, Ordering::SeqCst);
        self.marker.fetch_max(to.marker.0, Ordering::SeqCst);
    }

    /// Puts them to a value, lower or not: the engine's content went back.
    pub(crate) fn reset(&self, to: FilterThresholds) {
        self.gc.store(to.gc.0, Ordering::SeqCst);
        self.tombstone.store(to.tombstone.0, Ordering::SeqCst);
        self.marker.store(to.marker.0, Ordering::SeqCst);
    }

    pub(crate) fn load(&self) -> FilterThresholds {
        FilterThresholds {
            gc: Timestamp(self.gc.load(Ordering::SeqCst)),
            tombstone: Timestamp(self.tombstone.load(Ordering::SeqCst)),
            marker: Timestamp(self.marker.load(Ordering::SeqCst)),
        }
    }
}

impl From<crate::effects::Thresholds> for FilterThresholds {
    fn from(thresholds: crate::effects::Thresholds) -> FilterThresholds {
        FilterThresholds { gc: thresholds.gc, tombstone: thresholds.tombstone, marker: thresholds.marker }
    }
}

/// A hash of a family's whole content, the same on every engine: to compare applied states. What
/// compaction filters may drop is not left out, so compare states collected alike.
pub fn digest(engine: &dyn Engine, cf: Cf) -> Result<u64> {
    let mut hash = Digest::default();
    let mut iter = engine.iter(cf, &[], &[])?;
    iter.seek_to_first();
    while iter.valid() {
        hash.entry(iter.key(), iter.value());
        iter.next();
    }
    iter.status()?;
    Ok(hash.finish())
}

/// FNV-1a over lengths and bytes of entries in order: not for adversaries, stable for ever.
pub(crate) struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    pub(crate) fn entry(&mut self, key: &[u8], value: &[u8]) {
        self.bytes(&(key.len() as u64).to_le_bytes());
        self.bytes(key);
        self.bytes(&(value.len() as u64).to_le_bytes());
        self.bytes(value);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0
    }
}

/// Sizes for flush decisions, EXPLAIN and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Bytes in memtables, all families.
    pub memtable_bytes: u64,
    /// Bytes of live table files, all families.
    pub table_bytes: u64,
}

/// What an engine held at a moment, whatever is written, compacted or collected since. It keeps what it shows from
/// being freed: not for ever.
pub trait EngineSnapshot: Send {
    /// The iterator over a whole family, positioned where it was left. All are opened with the snapshot: one opened
    /// later could miss what compaction filters have dropped meanwhile (R4).
    fn iter(&mut self, cf: Cf) -> &mut (dyn EngineIter + Send);
}

/// A table in the making, to be ingested later. Dropped unfinished it leaves nothing.
pub trait Stage: Send {
    /// What the engine holds in `[start, end)` goes when the table is ingested; the table's own entries do not.
    fn clear(&mut self, start: &[u8], end: &[u8]) -> Result<()>;
    /// Adds an entry; keys ascend.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    /// Makes the table durable under `name`, in place of one that is there. Blocks for long.
    fn finish(self: Box<Self>, name: &str) -> Result<()>;
}

/// A bound above every key that is ever stored, for spans without an end.
pub const BEYOND_ALL_KEYS: &[u8] = &[0xff; 64];

/// A storage engine.
pub trait Engine: Send + Sync {
    /// Reads `key`: replaces `out` by its value and returns true, or returns false.
    fn get(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool>;
    /// Like [`Engine::get`] over flushed state only.
    fn get_flushed(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool>;
    /// An iterator over `[lower, upper)`; an empty `upper` means no bound.
    fn iter<'a>(&'a self, cf: Cf, lower: &[u8], upper: &[u8]) -> Result<Box<dyn EngineIter + Send + 'a>>;
    /// Applies a batch atomically, without a log.
    fn write(&self, batch: &WriteBatch) -> Result<()>;
    /// Flushes all families atomically; returns when durable. Blocks for long.
    fn flush(&self) -> Result<()>;
    /// Compacts `[start, end)` of a family (empty `end`: no bound). Blocks for long.
    fn compact(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<()>;
    /// Tells the compaction filters what they may drop.
    fn set_filter_thresholds(&self, thresholds: FilterThresholds);
    /// What the compaction filters may have dropped so far: never less than what they have. A read
    /// asks *after* it has read or opened its iterator, and then knows whether something it should
    /// have seen may be missing (R4). An engine that opens with data starts from the thresholds
    /// stored in it.
    fn filter_thresholds(&self) -> FilterThresholds;
    /// What it holds now.
    fn snapshot(self: Arc<Self>) -> Result<Box<dyn EngineSnapshot>>;
    /// Begins a table for a family.
    fn stage(&self, cf: Cf) -> Result<Box<dyn Stage>>;
    /// Names of the finished tables that are not discarded, sorted.
    fn staged(&self) -> Result<Vec<String>>;
    /// Takes finished tables of a family, which do not overlap, into the engine: all of them, durably, with whatever
    /// was written before, or none. They stay staged, so it can be done again; each time they replace what is
    /// there. Blocks for long.
    fn ingest(&self, cf: Cf, names: &[String]) -> Result<()>;
    /// Forgets a finished table.
    fn discard(&self, name: &str) -> Result<()>;
    /// Approximate bytes on disk of `[start, end)`.
    fn approximate_size(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64>;
    /// Sizes.
    fn stats(&self) -> EngineStats;
}

/// An engine shared by the layers of a node.
pub type SharedEngine = Arc<dyn Engine>;
