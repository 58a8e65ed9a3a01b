//! A node: the layers put together over a store's directory, with listeners in front.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_kv::engine::{Engine, RocksEngine, RocksOptions};
use cairn_kv::seam::{Disk, Env, NoPeers};
use cairn_raft::{Store, StoreConfig, StoreError};
use cairn_txn::DbConfig;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::connection::Budget;
use crate::connection::listener::Listener;
use crate::connection::registry::{Phase, Registry};
use crate::disk::DirectoryDisk;
use crate::error::{Error, Result, reason};
use crate::http;
use crate::layers::{Layers, LayersError};
use crate::seams::{SystemClock, SystemRng, TokioRuntime};
use crate::store_directory::StoreDirectory;

/// Memory for messages above a mebibyte, of all connections together.
const MESSAGE_BUDGET: usize = 512 << 20;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Directory of the store.
    pub store: PathBuf,
    /// Where SQL clients connect, `HOST:PORT`.
    pub sql_addr: String,
    /// Where health and metrics are shown, `HOST:PORT`; none: nowhere.
    pub http_addr: Option<String>,
    /// Whether strangers may come: neither encryption nor passwords exist yet.
    pub insecure: bool,
    /// Bytes of the block cache.
    pub cache_bytes: usize,
    /// Sessions at a time.
    pub max_connections: usize,
}

impl Default for NodeConfig {
    fn default() -> NodeConfig {
        NodeConfig {
            store: PathBuf::from("cairn-data"),
            sql_addr: "127.0.0.1:26432".into(),
            http_addr: Some("127.0.0.1:26434".into()),
            insecure: false,
            cache_bytes: 256 << 20,
            max_connections: 1000,
        }
    }
}

/// What stands between a node and its storage, for tests that take back what was not synced, flush
/// often or break the store on purpose. Production has the default.
#[derive(Default)]
pub struct Hooks {
    /// Wraps the log's disk.
    pub disk: Option<Wrap<dyn Disk>>,
    /// Wraps the engine.
    pub engine: Option<Wrap<dyn Engine>>,
    /// How the store flushes, and the bugs planted in it.
    pub store: StoreConfig,
}

/// Puts something around a seam.
pub type Wrap<T> = Box<dyn FnOnce(Arc<T>) -> Arc<T> + Send>;

/// A running node.
pub struct Node {
    sql_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    store: Arc<Store>,
    runtime: Arc<TokioRuntime>,
    stop_sql: oneshot::Sender<Duration>,
    sql_listener: JoinHandle<()>,
    http_listener: Option<JoinHandle<()>>,
    /// Keeps the lock until everything else has ended.
    directory: StoreDirectory,
}

impl Node {
    /// Opens the store and begins to serve.
    pub async fn start(config: &NodeConfig) -> Result<Node> {
        Node::start_with(config, Hooks::default()).await
    }

    /// As [`Node::start`], on storage as a test wants it.
    pub async fn start_with(config: &NodeConfig, hooks: Hooks) -> Result<Node> {
        // First what is quick to find wrong: recovery may take a second.
        let sql_socket = bind("SQL", "--sql-addr", &config.sql_addr, config.insecure).await?;
        let http_socket = match &config.http_addr {
            Some(addr) => Some(bind("HTTP", "--http-addr", addr, config.insecure).await?),
            None => None,
        };
        let directory = StoreDirectory::open_or_create(&config.store)?;
        let options = RocksOptions { cache_bytes: config.cache_bytes, ..RocksOptions::default() };
        let data = directory.data();
        let engine = tokio::task::spawn_blocking(move || RocksEngine::open(&data, &options))
            .await
            .map_err(|_| Error::new("opening the store panicked"))?
            .map_err(|error| store_error(&config.store, &error.into()))?;
        let engine = Arc::new(engine);
        let disk = DirectoryDisk::open(&directory.log()).map_err(|error| {
            Error::new(format!("cannot open {}: {}", directory.log().display(), reason(&error)))
        })?;
        let runtime = TokioRuntime::current();
        let rng = Arc::new(SystemRng);
        let env = Env {
            clock: Arc::new(SystemClock::default()),
            rng: Arc::clone(&rng) as _,
            runtime: Arc::clone(&runtime) as _,
            disk: match hooks.disk {
                Some(wrap) => wrap(Arc::new(disk)),
                None => Arc::new(disk),
            },
            transport: Arc::new(NoPeers),
        };
        let hooked = match hooks.engine {
            Some(wrap) => wrap(Arc::clone(&engine) as _),
            None => Arc::clone(&engine) as _,
        };
        let opened = Layers::open(env, hooked, hooks.store, DbConfig::default()).await;
        let cannot = |error: &dyn std::fmt::Display| {
            Error::new(format!("cannot open the database in {}: {error}", config.store.display()))
        };
        let Layers { store, sql, .. } = opened.map_err(|error| match error {
            LayersError::Store(error) => store_error(&config.store, &error),
            LayersError::Db(error) => cannot(&error),
            LayersError::Sql(error) => cannot(&error.message()),
        })?;

        let registry = Registry::new(config.max_connections, rng);
        let (sql_addr, http_addr) =
            (address_of(&sql_socket)?, http_socket.as_ref().map(address_of).transpose()?);
        let listener = Listener::new(sql, Arc::clone(&registry), Budget::new(MESSAGE_BUDGET));
        let (stop_sql, stopped) = oneshot::channel();
        let sql_listener = tokio::spawn(listener.serve(sql_socket, stopped));
        let status = NodeStatus { started: Instant::now(), registry, store: Arc::clone(&store), engine };
        let http_listener = http_socket.map(|socket| tokio::spawn(http::serve(socket, Arc::new(status))));
        Ok(Node { sql_addr, http_addr, store, runtime, stop_sql, sql_listener, http_listener, directory })
    }

    /// Where SQL clients connect.
    pub fn sql_addr(&self) -> SocketAddr {
        self.sql_addr
    }

    /// Where health and metrics are shown.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// The store's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The store, for measurements.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Completes when the node cannot go on: what it says has happened to the store.
    pub async fn failed(&self) -> Error {
        tokio::select! {
            biased;
            failure = self.store.failed() => {
                Error::new(format!("the store in {} has failed: {failure}", self.directory().display()))
            }
            task = self.runtime.failed() => {
                Error::new(format!("the background task \"{task}\" has failed: see the log"))
            }
        }
    }

    /// Ends well: sessions outside a transaction at once, the others within `drain`; then flushes.
    pub async fn stop(self, drain: Duration) -> Result<()> {
        // The receiver is gone only when the listener's task has ended, which is what we want.
        let _ = self.stop_sql.send(drain);
        let listener = self.sql_listener.await;
        if let Some(http) = self.http_listener {
            http.abort();
        }
        let closed = self.store.close().await;
        self.runtime.stop().await;
        listener.map_err(|_| Error::new("the listener panicked"))?;
        closed.map_err(|error| store_error(self.directory.path(), &error))
    }
}

/// What the HTTP listener shows of a node.
struct NodeStatus {
    started: Instant,
    registry: Arc<Registry>,
    store: Arc<Store>,
    engine: Arc<RocksEngine>,
}

impl http::Status for NodeStatus {
    fn is_serving(&self) -> bool {
        self.registry.phase() == Phase::Serving && self.store.failure().is_none()
    }

    fn metrics(&self) -> Vec<(&'static str, &'static str, u64)> {
        let (store, engine) = (self.store.stats(), self.engine.stats());
        vec![
            (
                "cairn_uptime_seconds",
                "Seconds since the node began to serve.",
                self.started.elapsed().as_secs(),
            ),
            ("cairn_sessions", "SQL sessions at present.", self.registry.count() as u64),
            ("cairn_commits_total", "Log entries applied.", store.commits),
            ("cairn_log_syncs_total", "Syncs of the log.", store.syncs),
            ("cairn_log_bytes_total", "Bytes written to the log.", store.log_bytes),
            ("cairn_flushes_total", "Flushes of the engine.", store.flushes),
            ("cairn_memtable_bytes", "Bytes in memtables.", engine.memtable_bytes),
            ("cairn_table_bytes", "Bytes of live table files.", engine.table_bytes),
            ("cairn_block_cache_bytes", "Bytes in the block cache.", self.engine.cache_usage() as u64),
        ]
    }
}

/// Listens on an address, if that is safe.
async fn bind(what: &str, flag: &str, addr: &str, insecure: bool) -> Result<TcpListener> {
    let resolved: Vec<SocketAddr> = tokio::net::lookup_host(addr)
        .await
        .map_err(|_| Error::new(format!("{flag} {addr} is not an address: HOST:PORT is expected")))?
        .collect();
    if !insecure && let Some(open) = resolved.iter().find(|addr| !addr.ip().is_loopback()) {
        return Err(Error::new(format!(
            "{flag} {open} would let anyone who reaches this machine in, since this version has neither TLS \
             nor passwords: use a loopback address, or say --insecure if the network is yours alone"
        )));
    }
    TcpListener::bind(&resolved[..])
        .await
        .map_err(|error| Error::new(format!("cannot listen for {what} on {addr}: {}", reason(&error))))
}

fn address_of(socket: &TcpListener) -> Result<SocketAddr> {
    socket.local_addr().map_err(|error| Error::new(format!("cannot listen: {}", reason(&error))))
}

/// A store's error as a sentence about its directory.
pub fn store_error(path: &Path, error: &StoreError) -> Error {
    let path = path.display();
    Error::new(match error {
        StoreError::Kv(cairn_kv::Error::Corruption(what)) => {
            format!("the store in {path} is damaged: {what}")
        }
        StoreError::Kv(cairn_kv::Error::NewerFormat { found, supported }) => format!(
            "the store in {path} has format {found}, and this cairn knows formats up to {supported}: use a \
             newer cairn"
        ),
        StoreError::Kv(error) => format!("cannot open the store in {path}: {}", plain(&error.to_string())),
        StoreError::Mismatch(what) => format!("the store in {path} does not belong together: {what}"),
    })
}

/// Storage errors without the decoration that libraries put around the operating system's words.
fn plain(text: &str) -> String {
    let text = text.strip_prefix("storage failure: ").unwrap_or(text);
    match text.rsplit_once(" (os error ") {
        Some((text, number)) if number.ends_with(')') => text.to_owned(),
        _ => text.to_owned(),
    }
}
