//! A node: the layers put together over a store's directory, with listeners in front.
//!
//! The listeners are first: a node that joins a cluster, or whose cluster has no leader yet, answers clients that it
//! is starting up. What happens meanwhile is in [`crate::opening`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cairn_kv::engine::{Engine, RocksEngine};
use cairn_kv::seam::{Clock, Disk, Transport};
use cairn_raft::{Store, StoreConfig, StoreError};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::cluster::node_file::NodeFile;
use crate::cluster::{Place, Stage, admin, cluster_name, replication};
use crate::connection::Budget;
use crate::connection::gate::Gate;
use crate::connection::listener::Listener;
use crate::connection::registry::{Phase, Registry};
use crate::error::{Error, Result, reason};
use crate::http;
use crate::metrics::Metrics;
use crate::opening::Opening;
use crate::seams::{SystemRng, TokioRuntime};
use crate::store_directory::StoreDirectory;
use crate::transport::{Me, TcpTransport};

/// Memory for messages above a mebibyte, of all connections together.
const MESSAGE_BUDGET: usize = 512 << 20;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Directory of the store.
    pub store: PathBuf,
    /// Where SQL clients connect, `HOST:PORT`.
    pub sql_addr: String,
    /// Where other nodes connect, `HOST:PORT`.
    pub rpc_addr: String,
    /// Where others are told that they reach this node, `HOST:PORT`; none: where it listens.
    pub advertise_addr: Option<String>,
    /// Nodes of the cluster that a new node is to join, `HOST:PORT` each; none: it founds one.
    pub join: Vec<String>,
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
            rpc_addr: "127.0.0.1:26433".into(),
            advertise_addr: None,
            join: Vec::new(),
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
    /// Wraps the clocks.
    pub clock: Option<Wrap<dyn Clock>>,
    /// Wraps what goes to other nodes and comes from them.
    pub transport: Option<Wrap<dyn Transport>>,
    /// How the store flushes, and the bugs planted in it.
    pub store: StoreConfig,
}

/// Puts something around a seam.
pub type Wrap<T> = Box<dyn FnOnce(Arc<T>) -> Arc<T> + Send>;

/// A running node.
pub struct Node {
    sql_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    place: Arc<Place>,
    transport: Arc<TcpTransport>,
    runtime: Arc<TokioRuntime>,
    opening: JoinHandle<()>,
    /// What became of the opening: none, it is under way.
    opened: watch::Receiver<Option<Result<(), String>>>,
    stop_sql: oneshot::Sender<Duration>,
    sql_listener: JoinHandle<()>,
    http_listener: Option<JoinHandle<()>>,
    /// Keeps the lock until everything else has ended.
    directory: StoreDirectory,
    /// The transport's.
    _rpc_thread: OwnThread,
}

impl Node {
    /// Opens the store and begins to serve.
    pub async fn start(config: &NodeConfig) -> Result<Node> {
        Node::start_with(config, Hooks::default()).await
    }

    /// As [`Node::start`], on storage as a test wants it.
    pub async fn start_with(config: &NodeConfig, hooks: Hooks) -> Result<Node> {
        let node = Node::launch(config, hooks).await?;
        match node.serving().await {
            Ok(()) => Ok(node),
            Err(error) => {
                // What it says of the end follows from why it did not begin.
                let _ = node.stop(Duration::ZERO).await;
                Err(error)
            }
        }
    }

    /// Listens, and opens the store behind the caller's back: [`Node::serving`] waits for that, which may take
    /// until others have been started.
    pub async fn launch(config: &NodeConfig, hooks: Hooks) -> Result<Node> {
        // First what is quick to find wrong: recovery may take a second.
        let sql_socket = bind("SQL", "--sql-addr", &config.sql_addr, config.insecure).await?;
        let rpc_socket = bind("RPC", "--rpc-addr", &config.rpc_addr, config.insecure).await?;
        let http_socket = match &config.http_addr {
            Some(addr) => Some(bind("HTTP", "--http-addr", addr, config.insecure).await?),
            None => None,
        };
        let (sql_addr, rpc_addr) = (address_of(&sql_socket)?, address_of(&rpc_socket)?);
        let http_addr = http_socket.as_ref().map(address_of).transpose()?;
        let rpc_address = match &config.advertise_addr {
            Some(address) => address.clone(),
            None if rpc_addr.ip().is_unspecified() => {
                return Err(Error::new(format!(
                    "--rpc-addr {rpc_addr} is no address that other nodes can be told: say --advertise-addr too"
                )));
            }
            None => rpc_addr.to_string(),
        };
        let sql_address = match rpc_address.rsplit_once(':') {
            Some((host, _)) if sql_addr.ip().is_unspecified() => format!("{host}:{}", sql_addr.port()),
            _ => sql_addr.to_string(),
        };
        let directory = StoreDirectory::open_or_create(&config.store)?;
        let file = NodeFile::open(directory.path())?;
        let is_new = directory.has_no_log()?;
        if let Some(Me { cluster, node }) = file.me().filter(|_| is_new && file.is_founded()) {
            return Err(Error::new(format!(
                "the store in {} is that of node {node} of cluster {}, and its log is lost: under that number it \
                 cannot come back, as it no longer knows what it has promised. An empty directory can join the \
                 cluster as a new node",
                directory.path().display(),
                cluster_name(cluster)
            )));
        }

        let (place, told) = Place::new(file, rpc_address.clone(), sql_address);
        let rpc_thread = OwnThread::start()?;
        let transport = {
            let _entered = rpc_thread.enter();
            let socket = rpc_socket.into_std().and_then(TcpListener::from_std);
            let socket = socket.map_err(|error| Error::new(format!("cannot listen: {}", reason(&error))))?;
            TcpTransport::listen(socket, rpc_address, Some(admin::server(Arc::clone(&place))))
        };
        let runtime = TokioRuntime::current();
        let registry = Registry::new(config.max_connections, Arc::new(SystemRng));
        let gate = Gate::default();
        let listener = Listener::new(gate.clone(), Arc::clone(&registry), Budget::new(MESSAGE_BUDGET));
        let (stop_sql, stopped) = oneshot::channel();
        let sql_listener = tokio::spawn(listener.serve(sql_socket, stopped));
        let engine = Arc::new(OnceLock::new());
        let status = NodeStatus {
            place: Arc::clone(&place),
            registry,
            gate: gate.clone(),
            engine: Arc::clone(&engine),
        };
        let http_listener = http_socket.map(|socket| tokio::spawn(http::serve(socket, Arc::new(status))));
        let opening = Opening {
            config: config.clone(),
            hooks,
            is_new,
            data: directory.data(),
            log: directory.log(),
            place: Arc::clone(&place),
            transport: Arc::clone(&transport),
            runtime: Arc::clone(&runtime),
            engine,
            gate,
        };
        let (outcome, opened) = watch::channel(None);
        let opening = tokio::spawn(async move {
            let opened = opening.run(told).await;
            outcome.send_replace(Some(opened.map_err(|error| error.to_string())));
        });
        Ok(Node {
            sql_addr,
            http_addr,
            place,
            transport,
            runtime,
            opening,
            opened,
            stop_sql,
            sql_listener,
            http_listener,
            directory,
            _rpc_thread: rpc_thread,
        })
    }

    /// Waits until clients are served; an error is why that will not be.
    pub async fn serving(&self) -> Result<()> {
        let mut opened = self.opened.clone();
        let outcome = opened.wait_for(Option::is_some).await;
        let outcome = outcome.map_err(|_| Error::new("opening the store panicked: see the log"))?;
        outcome.clone().expect("waited for").map_err(Error::new)
    }

    /// Where SQL clients connect.
    pub fn sql_addr(&self) -> SocketAddr {
        self.sql_addr
    }

    /// Where other nodes reach this one.
    pub fn rpc_address(&self) -> &str {
        &self.place.rpc_address
    }

    /// Where health and metrics are shown.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Who it is in which cluster, once that is settled.
    pub fn me(&self) -> Option<Me> {
        self.place.stage().me()
    }

    /// Whether it waits for a cluster to join, or to be told to found one.
    pub fn waits_for_cluster(&self) -> bool {
        self.me().is_none() && self.place.file.me().is_none() && self.place.stage() == Stage::Waiting
    }

    /// The store's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The store, once it is open: for measurements.
    pub fn store(&self) -> Option<&Arc<Store>> {
        self.place.opened().map(|opened| &opened.store)
    }

    /// Completes when the node cannot go on: what it says has happened to the store.
    pub async fn failed(&self) -> Error {
        let store = async {
            self.place.reached(|_| self.place.opened().is_some()).await;
            self.store().expect("waited for").failed().await
        };
        let opening = async {
            match self.serving().await {
                Ok(()) => std::future::pending().await,
                Err(error) => error,
            }
        };
        tokio::select! {
            biased;
            failure = store => {
                Error::new(format!("the store in {} has failed: {failure}", self.directory().display()))
            }
            error = opening => error,
            task = self.runtime.failed() => {
                Error::new(format!("the background task \"{task}\" has failed: see the log"))
            }
        }
    }

    /// Ends well: sessions outside a transaction at once, the others within `drain`; then another node gets the
    /// lease, if this one has it, and what is in memory is flushed. Clients of other nodes are served all the
    /// while.
    pub async fn stop(self, drain: Duration) -> Result<()> {
        // The receiver is gone only when the listener's task has ended, which is what we want.
        let _ = self.stop_sql.send(drain);
        let listener = self.sql_listener.await;
        if let Some(http) = self.http_listener {
            http.abort();
        }
        self.opening.abort();
        // Aborted, ended or panicked: said by `serving`.
        let _ = self.opening.await;
        replication::hand_over(&self.place).await;
        let closed = match self.place.opened() {
            Some(opened) => opened.store.close().await,
            None => Ok(()),
        };
        self.runtime.stop().await;
        self.transport.stop().await;
        listener.map_err(|_| Error::new("the listener panicked"))?;
        closed.map_err(|error| store_error(self.directory.path(), &error))
    }
}

/// A thread for what must not wait behind syncs, scans and compactions: other nodes take one that is silent for dead.
struct OwnThread(Option<tokio::runtime::Runtime>);

impl OwnThread {
    fn start() -> Result<OwnThread> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cairn-rpc")
            .enable_all()
            .build()
            .map_err(|error| Error::new(format!("cannot start threads: {}", reason(&error))))?;
        Ok(OwnThread(Some(runtime)))
    }

    fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.0.as_ref().expect("it is there until it is dropped").enter()
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // To wait is not allowed here.
            runtime.shutdown_background();
        }
    }
}

/// What the HTTP listener shows of a node.
struct NodeStatus {
    place: Arc<Place>,
    registry: Arc<Registry>,
    gate: Gate,
    engine: Arc<OnceLock<Arc<RocksEngine>>>,
}

impl http::Status for NodeStatus {
    fn refusal(&self) -> Option<&'static str> {
        let failed = self.place.opened().is_some_and(|opened| opened.store.failure().is_some());
        match self.registry.phase() {
            _ if failed => Some("failed"),
            Phase::Serving if self.gate.is_open() => None,
            Phase::Serving => Some("starting"),
            Phase::Draining | Phase::Killed => Some("draining"),
        }
    }

    fn metrics(&self) -> String {
        let mut metrics = Metrics::new();
        metrics.gauge(
            "uptime_seconds",
            "Seconds since the node was started",
            self.place.started.elapsed().as_secs(),
        );
        metrics.gauge("sessions", "SQL sessions at present", self.registry.count() as u64);
        if let Some(transport) = self.place.transport() {
            let peers = transport.peers();
            let reached = peers.iter().filter(|(_, _, is_connected)| *is_connected).count();
            metrics.gauge("peers", "Other nodes known here", peers.len() as u64);
            metrics.gauge("peers_reached", "Other nodes with a stream to them", reached as u64);
        }
        if let (Some(opened), Some(cache)) = (self.place.opened(), self.engine.get()) {
            let (store, engine) = (opened.store.stats(), cache.stats());
            let has_lease = opened.store.lease(crate::cluster::RANGE).is_some();
            metrics.gauge("leases", "Ranges whose lease this node has", u64::from(has_lease));
            metrics.counter("commits", "Log entries applied", store.commits);
            metrics.counter("log_syncs", "Syncs of the log", store.syncs);
            metrics.counter("log_bytes", "Bytes written to the log", store.log_bytes);
            metrics.counter("flushes", "Flushes of the engine", store.flushes);
            metrics.counter(
                "follower_reads",
                "Looks at the past served from here without the lease",
                opened.db.follower_reads(),
            );
            metrics.counter(
                "transactions_resumed",
                "Transactions of other nodes that went on when this node took the lease over",
                opened.db.resumed_sessions(),
            );
            metrics.gauge("memtable_bytes", "Bytes in memtables", engine.memtable_bytes);
            metrics.gauge("table_bytes", "Bytes of live table files", engine.table_bytes);
            metrics.gauge("block_cache_bytes", "Bytes in the block cache", cache.cache_usage() as u64);
            opened.store.metrics().register(metrics.registry());
            if let Some(sql) = self.place.sql_metrics.get() {
                sql.register(metrics.registry());
            }
        }
        metrics.text()
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
