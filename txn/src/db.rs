//! A node's database handle: begins transactions.

use std::sync::Arc;

use cairn_kv::Timestamp;
use cairn_raft::Store;

use crate::{Txn, TxnError, TxnOptions};

/// Settings of the transaction layer.
#[derive(Clone, Debug)]
pub struct DbConfig {
    /// History is kept this long, microseconds (default 10 min).
    pub gc_ttl_micros: u64,
    /// Tombstones stay in `data` this long, microseconds (default 10 s).
    pub tombstone_lag_micros: u64,
    /// Commit markers are kept this long, microseconds (default 60 s).
    pub marker_lag_micros: u64,
}

impl Default for DbConfig {
    fn default() -> DbConfig {
        DbConfig {
            gc_ttl_micros: 600_000_000,
            tombstone_lag_micros: 10_000_000,
            marker_lag_micros: 60_000_000,
        }
    }
}

/// The gateway's view of the database: here a function call to the local leaseholder.
pub struct Db {
    _store: Arc<Store>,
}

impl Db {
    /// Opens the transaction layer over a store: takes up unfinished transactions found there and
    /// starts its background work (thresholds) on the store's runtime.
    pub async fn open(store: Arc<Store>, config: DbConfig) -> Result<Arc<Db>, TxnError> {
        let _ = (store, config);
        todo!("txn: open")
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        todo!("txn: store")
    }

    /// Begins a transaction. Its read timestamp is chosen by the first operation, not here.
    pub fn begin(self: &Arc<Db>, options: TxnOptions) -> Txn {
        let _ = options;
        todo!("txn: begin")
    }

    /// A new timestamp.
    pub async fn now(&self) -> Result<Timestamp, TxnError> {
        todo!("txn: now")
    }

    /// Runs garbage collection of `[start, end)` down to what live transactions and the newest
    /// versions need (VACUUM): raises the thresholds, flushes, compacts.
    pub async fn collect_garbage(&self, start: &[u8], end: &[u8]) -> Result<(), TxnError> {
        let _ = (start, end);
        todo!("txn: collect_garbage")
    }
}
