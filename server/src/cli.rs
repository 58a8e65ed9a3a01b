//! The command line.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cluster::{admin, cluster_name, status};
use crate::config::{ConfigFile, parse_bytes};
use crate::debug;
use crate::demo::Demo;
use crate::error::{Error, Result, reason};
use crate::node::{Hooks, Node, NodeConfig};
use crate::transport::Me;

/// Where a node listens for others unless told otherwise.
const DEFAULT_HOST: &str = "127.0.0.1:26433";

/// `cairn init` waits this long for nodes that are about to start.
const INIT_PATIENCE: Duration = Duration::from_secs(30);

/// How long after an attempt the next one follows.
const INIT_PAUSE: Duration = Duration::from_millis(100);

/// Transactions may go on this long when the node is told to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A distributed SQL database that speaks PostgreSQL's protocol.
#[derive(Parser)]
#[command(name = "cairn", version, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Start(StartArgs),
    /// Bootstrap the cluster of nodes that were started with --join: once, on one of them.
    Init {
        /// Where the node listens for other nodes.
        #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_HOST)]
        host: String,
    },
    /// Look at the nodes of a running cluster.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Run a whole cluster in this process, on temporary stores, until Ctrl-C.
    Demo {
        /// How many nodes.
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// How much is logged, on standard error
        #[arg(long, value_name = "LEVEL", default_value = "error")]
        log_level: LogLevel,
    },
    /// Look into the store of a stopped node; changes nothing.
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Print a table of all nodes: where they are, who is live, who has the lease, how far replicas have come.
    Status {
        /// Where some node of the cluster listens for other nodes.
        #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_HOST)]
        host: String,
    },
}

/// Start a node: a durable database in one directory.
///
/// Without --join a new node is a cluster of its own, which others can join later. With --join a new node asks the
/// nodes that are named, of which it may be one itself, for a place in their cluster; where there is none yet, it
/// waits until `cairn init` has made one of them begin. A node that has a store knows the others already.
///
/// Each option is looked for on the command line, then in the environment, then in the file named
/// by --config (its keys are the options' names, such as `sql-addr = "127.0.0.1:26432"`), and then
/// has its default.
///
/// SIGTERM and SIGINT end the node in good order: idle sessions are closed, open transactions get
/// ten seconds to finish, everything is flushed, and the exit code is 0. A second signal ends it at
/// once, which loses nothing that was acknowledged.
#[derive(Args)]
struct StartArgs {
    /// Directory of the store, created if missing [default: ./cairn-data]
    #[arg(long, value_name = "DIR", env = "CAIRN_STORE", hide_env_values = true)]
    store: Option<PathBuf>,

    /// Where SQL clients connect [default: 127.0.0.1:26432]
    #[arg(long, value_name = "HOST:PORT", env = "CAIRN_SQL_ADDR", hide_env_values = true)]
    sql_addr: Option<String>,

    /// Where other nodes connect [default: 127.0.0.1:26433]
    #[arg(long, value_name = "HOST:PORT", env = "CAIRN_RPC_ADDR", hide_env_values = true)]
    rpc_addr: Option<String>,

    /// Where other nodes are told that they reach this one [default: the address of --rpc-addr]
    #[arg(long, value_name = "HOST:PORT", env = "CAIRN_ADVERTISE_ADDR", hide_env_values = true)]
    advertise_addr: Option<String>,

    /// Nodes whose cluster a new node joins, by where they listen for other nodes
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "CAIRN_JOIN",
        hide_env_values = true,
        value_delimiter = ','
    )]
    join: Option<Vec<String>>,

    /// Where /health and /metrics are served; "none": nowhere [default: 127.0.0.1:26434]
    #[arg(long, value_name = "HOST:PORT", env = "CAIRN_HTTP_ADDR", hide_env_values = true)]
    http_addr: Option<String>,

    /// Allow addresses that other machines reach, without encryption and passwords
    #[arg(
        long,
        env = "CAIRN_INSECURE",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    insecure: Option<bool>,

    /// Memory for cached data, such as 512MiB or 4GiB [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "CAIRN_CACHE_SIZE", hide_env_values = true, value_parser = parse_bytes)]
    cache_size: Option<usize>,

    /// Sessions at a time [default: 1000]
    #[arg(long, value_name = "N", env = "CAIRN_MAX_CONNECTIONS", hide_env_values = true)]
    max_connections: Option<usize>,

    /// How much is logged, on standard error [default: info]
    #[arg(long, value_name = "LEVEL", env = "CAIRN_LOG_LEVEL", hide_env_values = true)]
    log_level: Option<LogLevel>,

    /// File with options, in TOML
    #[arg(long, value_name = "FILE", env = "CAIRN_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what ends the node or a session.
    Error,
    /// And what somebody should look at.
    Warn,
    /// And what the node does as a whole.
    Info,
    /// And what connections do.
    Debug,
    /// Everything.
    Trace,
}

#[derive(Subcommand)]
enum DebugCommand {
    /// Print the Raft log: its segments, records and entries.
    Log {
        /// Directory of the store.
        store: PathBuf,
    },
    /// Print keys and values, family by family.
    Keys {
        /// Directory of the store.
        store: PathBuf,
        /// Only this family: data, history, lock or local.
        #[arg(long, value_name = "FAMILY")]
        family: Option<String>,
        /// At most this many of each family.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Verify all checksums of log and tables, every entry's form, and that rows and index entries
    /// match. Exits with 1 and names file, family and key when something is wrong.
    Check {
        /// Directory of the store.
        store: PathBuf,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Start(args) => start(args),
        Command::Init { host } => one_thread().and_then(|runtime| runtime.block_on(init(&host))),
        Command::Node(NodeCommand::Status { host }) => {
            one_thread().and_then(|runtime| runtime.block_on(node_status(&host)))
        }
        Command::Demo { nodes, log_level } => {
            log_to_stderr(log_level);
            runtime(false).and_then(|runtime| runtime.block_on(demo(nodes.into())))
        }
        Command::Debug(command) => run_debug(command),
        Command::Version => {
            println!("cairn {}", crate::VERSION);
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be listening, or the disk full that standard error goes to.
            let _ = writeln!(io::stderr(), "cairn: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: StartArgs) -> Result<()> {
    let file = match &args.config {
        Some(path) => ConfigFile::read(path)?,
        None => ConfigFile::default(),
    };
    let defaults = NodeConfig::default();
    let http_addr = args.http_addr.or(file.http_addr).or(defaults.http_addr);
    let config = NodeConfig {
        store: args.store.or(file.store).unwrap_or(defaults.store),
        sql_addr: args.sql_addr.or(file.sql_addr).unwrap_or(defaults.sql_addr),
        rpc_addr: args.rpc_addr.or(file.rpc_addr).unwrap_or(defaults.rpc_addr),
        advertise_addr: args.advertise_addr.or(file.advertise_addr),
        join: args.join.or(file.join).unwrap_or(defaults.join),
        http_addr: http_addr.filter(|addr| addr != "none"),
        insecure: args.insecure.or(file.insecure).unwrap_or(defaults.insecure),
        cache_bytes: args.cache_size.or(file.cache_size.map(|size| size.0)).unwrap_or(defaults.cache_bytes),
        max_connections: args.max_connections.or(file.max_connections).unwrap_or(defaults.max_connections),
    };
    log_to_stderr(args.log_level.or(file.log_level).unwrap_or(LogLevel::Info));
    runtime(config.join.is_empty())?.block_on(serve(&config))
}

async fn serve(config: &NodeConfig) -> Result<()> {
    let mut signals = Signals::new()?;
    let node = Node::launch(config, Hooks::default()).await?;
    if node.waits_for_cluster() && !config.join.is_empty() {
        say(&format!(
            "Cairn {} waits for its cluster. If there is none yet, begin it on one node:\n  cairn init --host {}\n",
            crate::VERSION,
            node.rpc_address()
        ));
    }
    let stops = tokio::select! {
        biased;
        () = signals.next() => true,
        serving = node.serving() => {
            serving?;
            announce(&node);
            false
        }
        error = node.failed() => return Err(error),
    };
    if !stops {
        tokio::select! {
            biased;
            error = node.failed() => return Err(error),
            () = signals.next() => {}
        }
    }
    tracing::info!("stopping");
    tokio::select! {
        biased;
        stopped = node.stop(DRAIN_TIMEOUT) => stopped?,
        () = signals.next() => return Err(Error::new("stopped at once by a second signal")),
    }
    tracing::info!("stopped");
    Ok(())
}

/// What tells the program to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        let cannot_wait = |error| Error::new(format!("cannot wait for signals: {}", reason(&error)));
        let terminate = signal(SignalKind::terminate()).map_err(cannot_wait)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(cannot_wait)?;
        Ok(Signals { terminate, interrupt })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells a person at a terminal what runs and how to reach it.
fn announce(node: &Node) {
    let store = std::path::absolute(node.directory()).unwrap_or_else(|_| node.directory().to_owned());
    let mut text = format!("Cairn {}\n  store    {}\n", crate::VERSION, store.display());
    if let Some(Me { cluster, node }) = node.me() {
        text += &format!("  node     {node} of cluster {}\n", cluster_name(cluster));
    }
    text += &format!("  SQL      {}\n  RPC      {}\n", node.sql_addr(), node.rpc_address());
    if let Some(http) = node.http_addr() {
        text += &format!("  HTTP     http://{http}/metrics\n");
    }
    say(&(text + &format!("  connect  {}\n", psql(node))));
}

/// How a person at this machine connects.
fn psql(node: &Node) -> String {
    let sql = node.sql_addr();
    let host = match sql.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        ip => ip.to_string(),
    };
    format!("psql -h {host} -p {} -U postgres", sql.port())
}

/// Writes to standard output. Nobody may be listening; that is no reason not to serve.
fn say(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

async fn init(host: &str) -> Result<()> {
    let start = tokio::time::Instant::now();
    loop {
        let status = match admin::init(host).await {
            Ok(cluster) => {
                say(&format!("cluster {} is initialized\n", cluster_name(cluster)));
                return Ok(());
            }
            Err(status) => status,
        };
        if !admin::is_temporary(&status) || start.elapsed() > INIT_PATIENCE {
            return Err(Error::new(format!("{host}: {}", status.message())));
        }
        tokio::time::sleep(INIT_PAUSE).await;
    }
}

async fn node_status(host: &str) -> Result<()> {
    let nodes = admin::status_of_all(host).await;
    let nodes = nodes.map_err(|status| Error::new(format!("{host}: {}", status.message())))?;
    say(&status::table(&nodes));
    Ok(())
}

async fn demo(count: usize) -> Result<()> {
    let mut signals = Signals::new()?;
    let demo = tokio::select! {
        biased;
        () = signals.next() => return Ok(()),
        demo = Demo::start(count) => demo?,
    };
    let mut text = format!("Cairn {}: a cluster of {count}, until Ctrl-C\n", crate::VERSION);
    for (node, number) in demo.nodes().iter().zip(1..) {
        text += &format!("  node {number}  {}\n", psql(node));
    }
    if let Some(node) = demo.nodes().first() {
        text += &format!("  status  cairn node status --host {}\n", node.rpc_address());
    }
    say(&text);
    let failed = futures_util::future::select_all(demo.nodes().iter().map(|node| Box::pin(node.failed())));
    let failure = tokio::select! {
        biased;
        () = signals.next() => None,
        (error, ..) = failed => Some(error),
    };
    let stopped = demo.stop(Duration::from_secs(1)).await;
    match failure {
        Some(error) => Err(error),
        None => stopped,
    }
}

/// Workers outnumber the cores. Of a node that is alone by far: a commit blocks its worker for one sync of the log
/// (DESIGN §3). Where there are others, syncs have a thread of their own, and each worker more is one more to be woken in
/// vain.
pub fn runtime(is_alone: bool) -> Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(if is_alone { (2 * cores).max(4) } else { cores + 1 })
        .thread_name("cairn")
        .enable_all()
        .build()
        .map_err(|error| Error::new(format!("cannot start threads: {}", reason(&error))))
}

/// For a command that asks a node.
fn one_thread() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(format!("cannot begin: {}", reason(&error))))
}

/// Logs to standard error, panics too.
pub fn log_to_stderr(level: LogLevel) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would say so on standard error, and panic.
        .log_internal_errors(false)
        .init();
    // A session's panic is handled by its connection; the log says where it was.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("panic");
        let backtrace = std::backtrace::Backtrace::capture();
        match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => {
                tracing::error!(place, message, "panicked\n{backtrace}");
            }
            _ => tracing::error!(place, message, "panicked"),
        }
    }));
}

fn run_debug(command: DebugCommand) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = match &command {
        DebugCommand::Log { store } => debug::log(store, &mut out),
        DebugCommand::Keys { store, family, limit } => {
            debug::keys(store, family.as_deref(), limit.unwrap_or(usize::MAX), &mut out)
        }
        DebugCommand::Check { store } => check(store, &mut out),
    };
    // What was printed before an error belongs before it.
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(format!("cannot write the output: {}", reason(&error))))
        }
        _ => result,
    }
}

fn check(store: &Path, out: &mut dyn Write) -> Result<()> {
    let problems = debug::check(store, out)?;
    match problems {
        0 => Ok(()),
        1 => Err(Error::new(format!("the store in {} has a problem", store.display()))),
        count => Err(Error::new(format!("the store in {} has {count} problems", store.display()))),
    }
}
