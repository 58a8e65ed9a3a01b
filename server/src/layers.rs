//! The layers of a node, put together over its seams: the same in production and in the simulator,
//! which differ in the seams alone.

use std::sync::Arc;

use cairn_kv::engine::SharedEngine;
use cairn_kv::seam::Env;
use cairn_raft::{Store, StoreConfig, StoreError};
use cairn_sql::SqlError;
use cairn_sql::session::SqlNode;
use cairn_txn::{Db, DbConfig, TxnError};

/// What a node consists of below its connections.
pub struct Layers {
    /// Log, ranges and engine.
    pub store: Arc<Store>,
    /// Transactions.
    pub db: Arc<Db>,
    /// What sessions share.
    pub sql: Arc<SqlNode>,
}

/// Why a node cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// The store does not open.
    #[error("the store does not open: {0}")]
    Store(#[from] StoreError),
    /// Transactions cannot be served over it.
    #[error("the database does not open: {0}")]
    Db(#[from] TxnError),
    /// The catalog does not load.
    #[error("the catalog does not load: {0}")]
    Sql(#[from] SqlError),
}

impl Layers {
    /// Recovers the store and opens the layers above it, from the bottom up.
    pub async fn open(
        env: Env,
        engine: SharedEngine,
        store: StoreConfig,
        db: DbConfig,
    ) -> Result<Layers, LayersError> {
        let store = Store::open(env, engine, store).await?;
        let db = Db::open(Arc::clone(&store), db).await?;
        let sql = SqlNode::open(Arc::clone(&db)).await?;
        Ok(Layers { store, db, sql })
    }
}
