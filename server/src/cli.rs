//! The command line.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{ConfigFile, parse_bytes};
use crate::debug;
use crate::error::{Error, Result, reason};
use crate::node::{Node, NodeConfig};

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
    /// Look into the store of a stopped node; changes nothing.
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Print the version.
    Version,
}

/// Start a node: a durable database in one directory.
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
        http_addr: http_addr.filter(|addr| addr != "none"),
        insecure: args.insecure.or(file.insecure).unwrap_or(defaults.insecure),
        cache_bytes: args.cache_size.or(file.cache_size.map(|size| size.0)).unwrap_or(defaults.cache_bytes),
        max_connections: args.max_connections.or(file.max_connections).unwrap_or(defaults.max_connections),
    };
    log_to_stderr(args.log_level.or(file.log_level).unwrap_or(LogLevel::Info));
    runtime()?.block_on(serve(&config))
}

async fn serve(config: &NodeConfig) -> Result<()> {
    let cannot_wait = |error| Error::new(format!("cannot wait for signals: {}", reason(&error)));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_wait)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_wait)?;
    let node = Node::start(config).await?;
    announce(&node);
    tokio::select! {
        biased;
        error = node.failed() => return Err(error),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    tokio::select! {
        biased;
        stopped = node.stop(DRAIN_TIMEOUT) => stopped?,
        _ = terminate.recv() => return Err(Error::new("stopped at once by a second signal")),
        _ = interrupt.recv() => return Err(Error::new("stopped at once by a second signal")),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Tells a person at a terminal what runs and how to reach it.
fn announce(node: &Node) {
    let store = std::path::absolute(node.directory()).unwrap_or_else(|_| node.directory().to_owned());
    let sql = node.sql_addr();
    let mut text = format!("Cairn {}\n  store    {}\n  SQL      {sql}\n", crate::VERSION, store.display());
    if let Some(http) = node.http_addr() {
        text += &format!("  HTTP     http://{http}/metrics\n");
    }
    let host = match sql.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        ip => ip.to_string(),
    };
    text += &format!("  connect  psql -h {host} -p {} -U postgres\n", sql.port());
    // Nobody may be listening; that is no reason not to serve.
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Workers outnumber the cores: a commit blocks its worker for one sync of the log (DESIGN §3).
fn runtime() -> Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((2 * cores).max(4))
        .thread_name("cairn")
        .enable_all()
        .build()
        .map_err(|error| Error::new(format!("cannot start threads: {}", reason(&error))))
}

fn log_to_stderr(level: LogLevel) {
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
