//! The layers of a node, put together over its seams: the same in production and in the simulator,
//! which differ in the seams alone.

use std::sync::Arc;
use std::time::Duration;

use cairn_kv::engine::SharedEngine;
use cairn_kv::seam::Env;
use cairn_raft::{Store, StoreConfig, StoreError};
use cairn_sql::session::SqlNode;
use cairn_sql::{SqlError, SqlState};
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
        let sql = open_sql(&db).await?;
        Ok(Layers { store, db, sql })
    }
}

/// How the transaction layer is opened for SQL.
pub fn db_config() -> DbConfig {
    DbConfig { watched: Some(SqlNode::watched()), ..DbConfig::default() }
}

/// Opens SQL over a database, as soon as that can be reached.
pub async fn open_sql(db: &Arc<Db>) -> Result<Arc<SqlNode>, SqlError> {
    once_available(db, || SqlNode::open(Arc::clone(db))).await
}

/// What the beginning of a node waits before it tries again.
const PAUSE: Duration = Duration::from_millis(50);

/// Pauses after which a node says that it waits.
const PATIENCE: u32 = 40;

/// Does what a node begins with, which may be done twice: again for as long as the range is not available, as nobody
/// leads, or this node has not found out who.
pub async fn once_available<T, F: Future<Output = Result<T, SqlError>>>(
    db: &Db,
    work: impl Fn() -> F,
) -> Result<T, SqlError> {
    let mut pauses = 0;
    loop {
        let error = match work().await {
            Err(error) if is_passing(&error) => error,
            done => return done,
        };
        pauses += 1;
        if pauses == PATIENCE {
            tracing::info!(%error, "the data cannot be reached yet: this node waits for others");
        }
        db.store().env().runtime.sleep(PAUSE).await;
    }
}

fn is_passing(error: &SqlError) -> bool {
    let passing = [SqlState::CANNOT_CONNECT_NOW, SqlState::COMPLETION_UNKNOWN];
    error.fields().retryable || passing.contains(&error.state())
}
