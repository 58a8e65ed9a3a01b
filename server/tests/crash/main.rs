//! Real crashes: kill -9 under load, again and again on one store, and after each a look at what is
//! there: every acknowledged transaction, no half of one.
//!
//! A killed process leaves to the operating system what it had written, synced or not. The second
//! half of the tests therefore takes away what was not synced ([`lossy`]): the log goes back to its
//! synced bytes, with or without a torn piece behind them, RocksDB to its last flush. To show that
//! such a loss would be noticed, it is repeated with a store that does not sync.
//!
//! `CAIRN_CRASH_ROUNDS=1000 cargo nextest run --workspace --test crash` goes on for longer.

mod load;
mod lossy;
#[path = "../node/process.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod process;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use cairn_raft::{Faults, StoreConfig};
use cairn_server::node::{Hooks, Node, NodeConfig};
use load::Load;
use lossy::{MirrorDisk, SnapshotEngine, Torn};

/// The binary.
fn cairn() -> &'static str {
    env!("CARGO_BIN_EXE_cairn")
}

fn rounds(few: u32) -> u32 {
    env::var("CAIRN_CRASH_ROUNDS").map_or(few, |rounds| rounds.parse().expect("a number of rounds"))
}

#[test]
fn acknowledged_transactions_survive_kill_9() {
    let root = tempfile::tempdir().unwrap();
    let mut load = Load::new(1);
    for _ in 0..rounds(50) {
        let node = process::Node::start(root.path(), &[]);
        load.check(node.port).unwrap();
        load.run_and_kill(node.port, || node.kill());
    }
    let node = process::Node::start(root.path(), &[]);
    load.check(node.port).unwrap();
    node.stop();
    // The engine as flushed at the end: its indexes match its rows.
    let check = Command::new(cairn()).args(["debug", "check"]).arg(root.path()).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn acknowledged_transactions_survive_the_loss_of_what_was_not_synced() {
    let root = tempfile::tempdir().unwrap();
    let mut load = Load::new(2);
    for round in 0..rounds(25) {
        let node = LossyNode::start(root.path(), false);
        load.check(node.port).unwrap();
        load.run_and_kill(node.port, || node.kill());
        lossy::lose_unsynced(root.path(), if round % 2 == 0 { Torn::No } else { Torn::After(load.random()) });
    }
    let node = LossyNode::start(root.path(), false);
    load.check(node.port).unwrap();
    node.kill();
}

#[test]
fn a_store_that_does_not_sync_is_found_out() {
    let root = tempfile::tempdir().unwrap();
    let mut load = Load::new(3);
    // A sound start: what is lost later is transactions, not the store.
    let node = LossyNode::start(root.path(), false);
    load.check(node.port).unwrap();
    node.kill();
    lossy::lose_unsynced(root.path(), Torn::No);
    let node = LossyNode::start(root.path(), true);
    load.check(node.port).unwrap();
    load.run_and_kill(node.port, || node.kill());
    lossy::lose_unsynced(root.path(), Torn::No);
    let node = LossyNode::start(root.path(), false);
    let lost = load.check(node.port).unwrap_err();
    assert!(lost.contains("acknowledged"), "{lost}");
    node.kill();
}

/// A node on a disk and an engine that remember what is synced, in a process of its own.
struct LossyNode {
    child: Child,
    port: u16,
}

/// Names the folder of a [`LossyNode`] to its process.
const FOLDER: &str = "CAIRN_CRASH_FOLDER";
/// Set where that store does not sync its log.
const SKIP_SYNC: &str = "CAIRN_CRASH_SKIP_SYNC";

impl LossyNode {
    fn start(root: &Path, skip_sync: bool) -> LossyNode {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "node_in_its_own_process", "--nocapture"]).env(FOLDER, root);
        if skip_sync {
            command.env(SKIP_SYNC, "1");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("port ")?.parse().ok());
        LossyNode { child, port: port.expect("the node says where it listens") }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for LossyNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a [`LossyNode`] runs; nothing where no test asked for it.
#[test]
fn node_in_its_own_process() {
    let Some(root) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = root.join(lossy::STORE);
    let config = NodeConfig {
        store: store.clone(),
        sql_addr: "127.0.0.1:0".into(),
        rpc_addr: "127.0.0.1:0".into(),
        http_addr: None,
        ..NodeConfig::default()
    };
    // Small, so that a round flushes, truncates and recycles.
    let store_config = StoreConfig {
        segment_bytes: 1 << 20,
        flush_log_bytes: 256 << 10,
        faults: Faults { skip_sync: env::var_os(SKIP_SYNC).is_some(), ..Faults::default() },
        ..StoreConfig::default()
    };
    let mirror = root.join(lossy::SYNCED_LOG);
    let snapshots = root.join(lossy::FLUSHED_DATA);
    fs::create_dir_all(&mirror).unwrap();
    fs::create_dir_all(&snapshots).unwrap();
    let hooks = Hooks {
        disk: Some(Box::new(move |disk| MirrorDisk::wrap(disk, mirror))),
        engine: Some(Box::new(move |engine| SnapshotEngine::wrap(engine, store.join("data"), snapshots))),
        store: store_config,
        ..Hooks::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let node = Node::start_with(&config, hooks).await.unwrap();
        println!("\nport {}", node.sql_addr().port());
        panic!("the node has failed: {}", node.failed().await);
    });
}
