//! The leaseholder's side of transactions: what one range's replica with the lease knows in memory
//! and how it turns requests into effects.
//!
//! - [`latch`]: reads and writes under way, and the proof that no read is missed (read this first)
//! - [`slot`], [`timestamp_cache`]: the highest read of every key
//! - [`lock_table`]: which transaction may change what
//! - [`intent_holder`]: transactions with intents, and how readers push them
//! - [`live`]: what garbage collection must leave readable
//! - requests, a file each: [`admit`] and [`read`], [`lock`], [`refresh`], [`commit`], [`write_intents`],
//!   [`commit_intents`], [`resolve`]
//! - [`record`], [`recovery`]: records of transactions with intents, and what a restart makes of them
//! - [`serve`], [`session`]: requests of other nodes' gateways
//! - [`tenure`], [`resume`]: from when to when all of this holds, and what outlives it
//! - [`watched`]: commits that gateways want to know of
//!
//! The local gateway calls it as functions on plain arguments ([`crate::wire`] tells of the others). There
//! is one range until ranges split.

pub mod admit;
pub mod commit;
pub mod commit_intents;
pub mod intent_holder;
pub mod latch;
pub mod live;
pub mod lock;
pub mod lock_table;
pub mod propose;
pub mod read;
pub mod record;
pub mod recovery;
pub mod refresh;
pub mod resolve;
pub mod resume;
pub mod serve;
pub mod session;
pub mod slot;
pub mod tenure;
pub mod timestamp_cache;
pub mod watched;
pub mod write_intents;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_kv::Timestamp;
use cairn_kv::engine::Engine;
use cairn_raft::{Lease, Store};
use parking_lot::Mutex;

use self::intent_holder::{IntentHolder, IntentHolders};
use self::latch::{LatchGuard, Latches};
use self::live::LiveTxns;
use self::lock_table::{LockTable, Owner};
use self::session::Gateways;
use self::slot::Slots;
use self::timestamp_cache::TimestampCache;
use self::watched::Watched;
use crate::garbage::Sweeps;
use crate::{CancelToken, DbConfig, Faults, TxnError};

/// What a range's leaseholder knows in memory.
pub struct Leaseholder {
    /// The store below.
    pub store: Arc<Store>,
    /// Reads and writes by hash.
    pub slots: Arc<Slots>,
    /// Highest reads.
    pub cache: TimestampCache,
    /// Requests under way.
    pub latches: Arc<Latches>,
    /// Locks.
    pub locks: Arc<LockTable>,
    /// Transactions with intents.
    pub holders: IntentHolders,
    /// Read timestamps in use.
    pub live: LiveTxns,
    /// Mistakes planted by tests.
    pub faults: Faults,
    /// The lease that all of this is gathered under.
    pub(crate) lease: Lease,
    /// Set when that is over.
    ended: CancelToken,
    /// Commits into the watched span.
    pub watched: Arc<Watched>,
    /// Reads below it fail (R4); only rises, ahead of the replicated one.
    gc_threshold: AtomicU64,
    /// Highest commit timestamp so far.
    last_commit: AtomicU64,
    /// Compactions that scans have asked for.
    pub sweeps: Mutex<Sweeps>,
    /// Other nodes' gateways, and the sessions of their transactions.
    pub gateways: Gateways,
    next_owner: AtomicU64,
}

/// Whose request it is: its own latches and intents are no obstacle.
#[derive(Clone, Copy, Default)]
pub struct Own<'a> {
    /// Its latches.
    pub latch: Option<&'a LatchGuard>,
    /// Its intents.
    pub holder: Option<&'a Arc<IntentHolder>>,
}

impl Leaseholder {
    /// Begins under `lease`.
    pub fn new(store: Arc<Store>, lease: Lease, config: &DbConfig) -> Leaseholder {
        let thresholds = store.thresholds();
        let floor = lease.start.max(thresholds.tombstone).max(thresholds.gc);
        let slots = Arc::new(Slots::default());
        Leaseholder {
            cache: TimestampCache::new(Arc::clone(&slots), floor),
            latches: Arc::new(Latches::new(Arc::clone(&slots))),
            locks: LockTable::new(),
            holders: IntentHolders::default(),
            live: LiveTxns::new(thresholds.gc),
            faults: config.faults,
            lease,
            ended: CancelToken::default(),
            watched: Watched::new(config.watched.clone(), lease.sequence, store.identity().store),
            gc_threshold: AtomicU64::new(thresholds.gc.0),
            // What an earlier life wrote may still have to be collected.
            last_commit: AtomicU64::new(floor.0),
            sweeps: Mutex::default(),
            gateways: Gateways::default(),
            next_owner: AtomicU64::new(1),
            slots,
            store,
        }
    }

    /// The tenure is over: whoever waits is told.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// The engine.
    #[inline]
    pub fn engine(&self) -> &dyn Engine {
        &**self.store.engine()
    }

    /// Names a transaction in the lock table, whichever gateway it belongs to.
    #[inline]
    pub fn new_owner(&self) -> Owner {
        self.next_owner.fetch_add(1, Ordering::SeqCst)
    }

    /// Fails for a read below the garbage collection threshold. Asked after iterators are open (R4).
    #[inline]
    pub fn check_not_collected(&self, read_ts: Timestamp) -> Result<(), TxnError> {
        let threshold = Timestamp(self.gc_threshold.load(Ordering::SeqCst));
        if read_ts < threshold { Err(TxnError::SnapshotTooOld { read_ts, threshold }) } else { Ok(()) }
    }

    /// Reads below `threshold` fail from now on.
    pub fn raise_gc_threshold(&self, threshold: Timestamp) {
        self.gc_threshold.fetch_max(threshold.0, Ordering::SeqCst);
    }

    /// Something was committed at `ts`.
    pub fn committed(&self, ts: Timestamp) {
        self.last_commit.fetch_max(ts.0, Ordering::SeqCst);
    }

    /// The highest commit timestamp.
    pub fn last_commit(&self) -> Timestamp {
        Timestamp(self.last_commit.load(Ordering::SeqCst))
    }
}

fn no_lease() -> TxnError {
    TxnError::Unavailable("this node does not hold the lease of the range".into())
}
