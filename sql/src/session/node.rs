//! What the sessions of a node share.
//!
//! The catalog is read once and kept. Changes that this node's sessions make are put into it when they have committed.
//! Those of other nodes are counted by the leaseholder: while its [`Watch`] is the one under which the catalog was
//! read, there were none. Whoever has locked an object compares them; a statement that reads without locking objects
//! has its snapshot drawn under the watch ([`cairn_txn::Txn::expect`]); where something is not found, or the catalog
//! itself is to be read, the leaseholder is asked ([`SqlNode::catch_up`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_txn::{CancelToken, Db, Txn, TxnOptions, Watch};
use parking_lot::{Mutex, RwLock};

use super::metrics::SqlMetrics;
use super::plan_cache::PlanCache;
use crate::catalog::counter::{Counter, update_key};
use crate::catalog::sequence::Sequences;
use crate::catalog::store::{self, system_key};
use crate::catalog::{Catalog, FIRST_USER_OID, Oid, TableDesc};
use crate::storage::ids;
use crate::{Result, SqlError, SqlState};

/// Version of the catalog's layout as a whole.
const CATALOG_FORMAT: u64 = 1;

/// Keys of the table of counters.
mod counters {
    pub const FORMAT: u64 = 0;
    pub const OIDS: u64 = 1;
    pub const ROW_IDS: u64 = 2;
}

/// A schema change on its way from commit to cache.
struct Publication {
    node: Arc<SqlNode>,
    /// Held once the commit may begin.
    guard: Option<tokio::sync::OwnedRwLockWriteGuard<()>>,
    /// The cache has what was committed.
    done: bool,
}

impl Drop for Publication {
    fn drop(&mut self) {
        if self.done || self.guard.is_none() {
            self.guard = None;
            self.node.publishing.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        // The commit may be on its way: a read at now waits for it. Nobody trusts the cache before.
        let rest = Publication { node: Arc::clone(&self.node), guard: self.guard.take(), done: true };
        let runtime = self.node.db.store().env().runtime.clone();
        let task = async move {
            if let Err(error) = rest.node.reload().await {
                tracing::warn!(%error, "the catalog could not be read after a schema change");
            }
            drop(rest);
        };
        runtime.spawn("abandoned schema change", Box::pin(task));
    }
}

/// A node's SQL state, shared by its sessions: catalog cache, plan cache, registry of sessions.
pub struct SqlNode {
    db: Arc<Db>,
    catalog: RwLock<Arc<Catalog>>,
    /// `catalog`'s version, to look at without the lock.
    version: AtomicU64,
    /// No other node has changed what is in `catalog` while the leaseholder's watch is this one. It is put down behind
    /// the version, and so read before it.
    watch: Mutex<Watch>,
    catching_up: tokio::sync::Mutex<()>,
    /// Schema changes between the start of their commit and their publication. While there are
    /// any, who has just locked an object waits before it trusts the cached catalog: the commit
    /// releases locks before the cache has the new descriptors.
    publishing: AtomicU32,
    publication: Arc<tokio::sync::RwLock<()>>,
    oids: Counter,
    row_ids: Counter,
    /// Sequences in use.
    pub sequences: Sequences,
    /// Plans.
    pub plans: PlanCache,
    sessions: Mutex<BTreeMap<u32, SessionEntry>>,
    /// Indexes being built: listed as garbage in case the node dies, but not yet to be removed.
    building: Mutex<BTreeSet<Oid>>,
    garbage_notify: Arc<tokio::sync::Notify>,
    metrics: SqlMetrics,
}

/// A session in the registry.
#[derive(Clone)]
pub struct SessionEntry {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// `application_name`.
    pub application: String,
    /// Client's address.
    pub address: String,
    /// The statement running or last run.
    pub query: Arc<str>,
    /// `active`, `idle`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: &'static str,
    /// For `pg_cancel_backend`.
    pub cancel: CancelToken,
    /// When the session began, microseconds since the Unix epoch.
    pub started: u64,
}

impl SqlNode {
    /// Opens SQL over a database; writes the initial catalog where there is none.
    pub async fn open(db: Arc<Db>) -> Result<Arc<SqlNode>> {
        let watch = db.ask_watch().await?;
        let format_key = system_key(ids::COUNTERS, counters::FORMAT);
        update_key(&db, &format_key, &mut |value| {
            let format = match value {
                None => CATALOG_FORMAT,
                Some(bytes) => u64::from_le_bytes(bytes.try_into().map_err(|_| {
                    SqlError::new(SqlState::DATA_CORRUPTED, "stored catalog format is malformed")
                })?),
            };
            if format > CATALOG_FORMAT {
                return Err(SqlError::new(
                    SqlState::DATA_CORRUPTED,
                    format!(
                        "catalog format {format} is newer than this binary's {CATALOG_FORMAT}: use a newer cairn"
                    ),
                ));
            }
            Ok((Bytes::copy_from_slice(&format.to_le_bytes()), ()))
        })
        .await?;
        let (mut catalog, _) = load(&db).await?;
        catalog.version = 1;
        let node = Arc::new(SqlNode {
            catalog: RwLock::new(Arc::new(catalog)),
            version: AtomicU64::new(1),
            watch: Mutex::new(watch),
            catching_up: tokio::sync::Mutex::new(()),
            publishing: AtomicU32::new(0),
            publication: Arc::default(),
            oids: Counter::new(system_key(ids::COUNTERS, counters::OIDS), FIRST_USER_OID as u64, 64),
            row_ids: Counter::new(system_key(ids::COUNTERS, counters::ROW_IDS), 1, 1 << 20),
            sequences: Sequences::default(),
            plans: PlanCache::default(),
            sessions: Mutex::default(),
            building: Mutex::default(),
            garbage_notify: Arc::new(tokio::sync::Notify::new()),
            metrics: SqlMetrics::default(),
            db,
        });
        let collector = Arc::downgrade(&node);
        let runtime = node.db.store().env().runtime.clone();
        runtime.spawn(
            "sql garbage",
            Box::pin(crate::ddl::garbage::collect_for_ever(collector, node.garbage_notify.clone())),
        );
        node.wake_collector();
        Ok(node)
    }

    /// The keys whose changes the leaseholder is to count.
    pub fn watched() -> (Bytes, Bytes) {
        store::descriptors()
    }

    /// What is measured of the sessions.
    pub fn metrics(&self) -> &SqlMetrics {
        &self.metrics
    }

    /// The database below.
    pub fn db(&self) -> &Arc<Db> {
        &self.db
    }

    /// The newest catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().clone()
    }

    /// The newest catalog's version.
    pub fn catalog_version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What no other node may have gone beyond where a plan from the newest catalog is to be right. To be asked for
    /// before that catalog, or its version, is.
    pub fn watch(&self) -> Watch {
        *self.watch.lock()
    }

    /// After `txn` has locked an object: waits for schema changes of this node that have committed but are not yet
    /// in the cache, and takes up those of other nodes.
    pub async fn catch_up_with(&self, txn: &Txn) -> Result<()> {
        self.await_publication().await;
        if txn.watch() != self.watch() {
            self.catch_up().await?;
        }
        Ok(())
    }

    /// Takes up the schema changes of other nodes that have committed up to now.
    pub async fn catch_up(&self) -> Result<()> {
        self.await_publication().await;
        let _turn = self.catching_up.lock().await;
        let watch = self.db.ask_watch().await?;
        if watch == self.watch() {
            return Ok(());
        }
        self.reload().await?;
        *self.watch.lock() = watch;
        // Something may have been dropped.
        self.wake_collector();
        Ok(())
    }

    async fn await_publication(&self) {
        if self.publishing.load(Ordering::SeqCst) > 0 {
            let _ = self.publication.read().await;
        }
    }

    /// Whether a schema change is committing now.
    pub fn is_publishing(&self) -> bool {
        self.publishing.load(Ordering::SeqCst) > 0
    }

    /// Commits a transaction that changed descriptors and publishes them. If this is dropped half way
    /// (the connection ended), a task finds out what became of the commit.
    pub async fn commit_changes(
        self: &Arc<SqlNode>,
        txn: &mut cairn_txn::Txn,
        changes: &BTreeMap<Oid, Option<Arc<TableDesc>>>,
    ) -> Result<Timestamp> {
        self.publishing.fetch_add(1, Ordering::SeqCst);
        let mut publication = Publication { node: Arc::clone(self), guard: None, done: false };
        publication.guard = Some(Arc::clone(&self.publication).write_owned().await);
        let outcome = txn.commit().await;
        let published = match &outcome {
            Ok(ts) => {
                self.publish(changes, *ts);
                Ok(())
            }
            // It may have taken effect: only storage knows.
            Err(cairn_txn::TxnError::Ambiguous(_)) => self.reload().await,
            Err(_) => Ok(()),
        };
        publication.done = true;
        drop(publication);
        let ts = outcome?;
        published?;
        Ok(ts)
    }

    fn publish(&self, changes: &BTreeMap<Oid, Option<Arc<TableDesc>>>, ts: Timestamp) {
        let mut slot = self.catalog.write();
        let mut catalog = (**slot).clone();
        for (id, table) in changes {
            match table {
                Some(table) => {
                    let mut table = (**table).clone();
                    table.changed_at = ts;
                    catalog.put(Arc::new(table));
                }
                None => catalog.remove(*id),
            }
        }
        catalog.version += 1;
        self.version.store(catalog.version, Ordering::Release);
        *slot = Arc::new(catalog);
    }

    async fn reload(&self) -> Result<()> {
        loop {
            let before = self.catalog_version();
            let (mut loaded, read_at) = load(&self.db).await?;
            let mut slot = self.catalog.write();
            if slot.version != before {
                // A change was published that may not have been read.
                continue;
            }
            let tables: Vec<_> = loaded.tables().cloned().collect();
            for table in tables {
                let mut table = (*table).clone();
                table.changed_at = match slot.get(table.id) {
                    Some(old) if old.version == table.version => old.changed_at,
                    _ => read_at,
                };
                loaded.put(Arc::new(table));
            }
            loaded.version = before + 1;
            self.version.store(loaded.version, Ordering::Release);
            *slot = Arc::new(loaded);
            return Ok(());
        }
    }

    /// The catalog as it was at `ts`.
    pub async fn catalog_at(&self, ts: Timestamp) -> Result<Catalog> {
        let options = TxnOptions { as_of: Some(ts), read_only: true, ..TxnOptions::default() };
        let mut txn = self.db.begin(options);
        txn.begin_statement().await?;
        let catalog = store::load(&mut txn).await;
        txn.rollback().await;
        catalog
    }

    /// A new OID.
    pub async fn new_oid(&self) -> Result<Oid> {
        let oid = self.oids.take(&self.db, 1).await?;
        u32::try_from(oid).map_err(|_| SqlError::new(SqlState::PROGRAM_LIMIT, "out of object identifiers"))
    }

    /// The first of `n` new hidden row ids.
    pub async fn new_row_ids(&self, n: u64) -> Result<u64> {
        match self.row_ids.try_take(n) {
            Some(first) => Ok(first),
            None => self.row_ids.take(&self.db, n).await,
        }
    }

    /// Enters a session into the registry.
    pub fn register(&self, id: u32, entry: SessionEntry) {
        self.sessions.lock().insert(id, entry);
    }

    /// Removes a session from the registry.
    pub fn unregister(&self, id: u32) {
        self.sessions.lock().remove(&id);
    }

    /// Changes a session's entry.
    pub fn update_session(&self, id: u32, change: impl FnOnce(&mut SessionEntry)) {
        if let Some(entry) = self.sessions.lock().get_mut(&id) {
            change(entry);
        }
    }

    /// All sessions by backend id.
    pub fn sessions(&self) -> BTreeMap<u32, SessionEntry> {
        self.sessions.lock().clone()
    }

    /// Marks an index as being built, as long as the mark exists.
    pub fn begin_building(self: &Arc<SqlNode>, index: Oid) -> Building {
        self.building.lock().insert(index);
        Building { node: self.clone(), index }
    }

    /// Whether an index is being built.
    pub fn is_building(&self, index: Oid) -> bool {
        self.building.lock().contains(&index)
    }

    /// Sends the collector of dropped indexes to look for work.
    pub fn wake_collector(&self) {
        self.garbage_notify.notify_one();
    }
}

/// An index is being built: there may be writes to it under way. Ids are built once.
pub struct Building {
    node: Arc<SqlNode>,
    index: Oid,
}

impl std::fmt::Debug for Building {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Building({})", self.index)
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        self.node.building.lock().remove(&self.index);
        self.node.wake_collector();
    }
}

/// The stored catalog now, and when that is.
async fn load(db: &Arc<Db>) -> Result<(Catalog, Timestamp)> {
    let mut txn = db.begin(TxnOptions { read_only: true, ..TxnOptions::default() });
    let loaded = async {
        txn.begin_statement().await?;
        Ok((store::load(&mut txn).await?, txn.read_ts().await?))
    };
    let loaded = loaded.await;
    txn.rollback().await;
    loaded
}
