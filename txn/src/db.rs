//! A node's database handle: begins transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_raft::Store;

use crate::garbage::raise_thresholds;
use crate::gateway::recovery;
use crate::leaseholder::Leaseholder;
use crate::leaseholder::propose::no_timestamp;
use crate::{CancelToken, Txn, TxnError, TxnOptions};

/// Settings of the transaction layer.
#[derive(Clone, Debug)]
pub struct DbConfig {
    /// History is kept this long, microseconds (default 10 min).
    pub gc_ttl_micros: u64,
    /// Tombstones stay in `data` this long, microseconds (default 10 s).
    pub tombstone_lag_micros: u64,
    /// Commit markers are kept this long, microseconds (default 60 s).
    pub marker_lag_micros: u64,
    /// Buffered writes above it go out as intents (default: what fits one command).
    pub max_buffer_bytes: usize,
    /// Mistakes to make, so that tests can show that they are noticed. For tests only.
    pub faults: Faults,
}

/// Parts of the transaction protocol that a test can switch off, to see that its checks notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A transaction whose timestamp moves does not look at what it has read again.
    pub no_refresh: bool,
    /// Reads are not recorded: writes can take effect below them.
    pub no_timestamp_cache: bool,
    /// A commit does not look whether what it locked or read and overwrites is still the newest.
    pub no_validation: bool,
    /// A READ COMMITTED transaction keeps its first snapshot for all of its statements.
    pub one_snapshot: bool,
    /// Bulk does not look whether the keys that it inserts are taken.
    pub blind_bulk: bool,
}

impl Default for DbConfig {
    fn default() -> DbConfig {
        DbConfig {
            gc_ttl_micros: 600_000_000,
            tombstone_lag_micros: 10_000_000,
            marker_lag_micros: 60_000_000,
            max_buffer_bytes: (4 << 20) - (64 << 10),
            faults: Faults::default(),
        }
    }
}

/// The gateway's view of the database: here a function call to the local leaseholder.
pub struct Db {
    pub(crate) config: DbConfig,
    pub(crate) leaseholder: Arc<Leaseholder>,
    next_owner: AtomicU64,
}

impl Db {
    /// Opens the transaction layer over a store: takes up unfinished transactions found there and
    /// starts its background work (thresholds) on the store's runtime.
    pub async fn open(store: Arc<Store>, config: DbConfig) -> Result<Arc<Db>, TxnError> {
        let leaseholder = Arc::new(Leaseholder::new(Arc::clone(&store), config.faults)?);
        recovery::recover(&leaseholder).await?;
        let task = raise_thresholds(Arc::downgrade(&leaseholder), config.clone());
        store.env().runtime.spawn("thresholds", Box::pin(task));
        Ok(Arc::new(Db { config, leaseholder, next_owner: AtomicU64::new(1) }))
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.leaseholder.store
    }

    /// Begins a transaction. Its read timestamp is chosen by the first operation, not here.
    pub fn begin(self: &Arc<Db>, options: TxnOptions) -> Txn {
        Txn::new(Arc::clone(self), options, self.next_owner.fetch_add(1, Ordering::SeqCst))
    }

    /// A new timestamp.
    pub async fn now(&self) -> Result<Timestamp, TxnError> {
        self.store().now().await.map_err(no_timestamp)
    }

    /// Runs garbage collection of spans down to what live transactions and the newest versions need
    /// (VACUUM): raises the thresholds, flushes, and compacts where that is worth it.
    pub async fn collect_garbage(
        &self,
        spans: &[(Bytes, Bytes)],
        cancel: &CancelToken,
    ) -> Result<(), TxnError> {
        crate::garbage::collect(&self.leaseholder, spans, cancel).await
    }

    /// [`Db::collect_garbage`] of everything.
    pub async fn collect_all_garbage(&self, cancel: &CancelToken) -> Result<(), TxnError> {
        self.collect_garbage(&[(Bytes::new(), Bytes::new())], cancel).await
    }

    /// Removes everything in `[start, end)`, in all its versions, at once and for good. The span
    /// belonged to something that a transaction gave up at or below [`Db::gc_threshold`], so no read
    /// can want it, and nothing will be written there again.
    pub async fn clear_span(&self, start: &[u8], end: &[u8]) -> Result<(), TxnError> {
        crate::garbage::clear(&self.leaseholder, start, end).await
    }

    /// Reads below it fail; zero while nothing was collected.
    pub fn gc_threshold(&self) -> Timestamp {
        self.leaseholder.store.thresholds().gc
    }

    /// Holders and queues of the lock table, a line per key: for tests and debugging.
    pub fn describe_locks(&self) -> String {
        self.leaseholder.locks.describe()
    }
}
