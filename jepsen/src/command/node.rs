//! `cairn-jepsen node`: what a node of `cairn-jepsen real` runs in its process.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cairn_jepsen::real::fault::Plant;
use cairn_jepsen::real::order::{Order, Status};
use cairn_jepsen::real::seams::Misfortune;
use cairn_raft::Store;
use cairn_raft::command::ReplicaRole;
use cairn_raft::store::FIRST_RANGE;
use cairn_server::cli::{LogLevel, log_to_stderr, runtime};
use cairn_server::error::{Error, Result};
use cairn_server::node::{Node, NodeConfig};
use tokio::signal::unix::{SignalKind, signal};

/// Transactions may go on this long when the node is told to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments.
#[derive(clap::Args)]
pub struct Arguments {
    /// Directory of the store.
    #[arg(long)]
    store: PathBuf,
    /// Where SQL clients connect.
    #[arg(long)]
    sql_addr: String,
    /// Where other nodes connect.
    #[arg(long)]
    rpc_addr: String,
    /// Where all nodes of the cluster to join listen for each other.
    #[arg(long, value_delimiter = ',')]
    join: Vec<String>,
    /// A bug planted in it.
    #[arg(long = "fault", value_enum)]
    plant: Option<Plant>,
}

/// Runs the node until it fails, is told to end by SIGTERM, or nobody gives orders any more.
pub fn run(arguments: &Arguments) -> ExitCode {
    log_to_stderr(LogLevel::Info);
    let result = runtime(false).and_then(|runtime| runtime.block_on(serve(arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the node has ended");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &Arguments) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| Error::new(format!("cannot wait for signals: {error}")))?;
    let config = NodeConfig {
        store: arguments.store.clone(),
        sql_addr: arguments.sql_addr.clone(),
        rpc_addr: arguments.rpc_addr.clone(),
        join: arguments.join.clone(),
        http_addr: None,
        cache_bytes: 64 << 20,
        ..NodeConfig::default()
    };
    let misfortune = Arc::new(Misfortune::default());
    let mut hooks = misfortune.hooks();
    hooks.store.faults = arguments.plant.map(Plant::faults).unwrap_or_default();
    let store = Arc::new(OnceLock::new());
    let (obedient, asked) = (Arc::clone(&misfortune), Arc::clone(&store));
    // A thread of its own: a disk that hangs blocks the runtime's.
    std::thread::spawn(move || take_orders(&obedient, &asked));
    let node = Node::launch(&config, hooks).await?;
    let opened = async {
        node.serving().await?;
        if let Some(opened) = node.store() {
            store.get_or_init(|| Arc::clone(opened));
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        error = node.failed() => return Err(error),
        failed = opened => return failed,
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    node.stop(DRAIN_TIMEOUT).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Obeys orders, and ends the process when nobody gives any more: whoever started it is gone.
fn take_orders(misfortune: &Misfortune, store: &OnceLock<Arc<Store>>) {
    for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        let answer = match line.parse() {
            Ok(Order::Status) => status(store.get()).to_string(),
            Ok(order) => {
                misfortune.obey(order);
                tracing::info!(%order, "obeyed");
                "ok".into()
            }
            Err(error) => error,
        };
        let mut out = std::io::stdout();
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    std::process::exit(2);
}

fn status(store: Option<&Arc<Store>>) -> Status {
    let Some(store) = store else { return Status { node: 0, has_lease: false, voters: 0 } };
    let descriptor = store.descriptor(FIRST_RANGE);
    let voters = descriptor.map_or(0, |descriptor| {
        descriptor.replicas.iter().filter(|replica| replica.role() == ReplicaRole::Voter).count()
    });
    Status { node: store.identity().store, has_lease: store.lease(FIRST_RANGE).is_some(), voters }
}
