//! A script of SQL gives the same answers, and leaves the same state, in the simulator and in the
//! real binary: what the simulator proves of the one holds for the other.

#[path = "../../../server/tests/node/process.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod process;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_jepsen::sim::node::{self, Sizes};
use cairn_jepsen::sim::sql_client::{Message, SqlClient};
use cairn_kv::engine::{Cf, Engine, RocksEngine, RocksOptions};
use cairn_kv::sim::Machine;
use cairn_kv::version;
use cairn_sql::storage::{ids, key::index_prefix};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// A line of the script.
enum Step {
    Statement { session: usize, sql: &'static str },
    Crash,
}

fn script() -> Vec<Step> {
    let lines = include_str!("script.sql").lines().filter(|line| !line.starts_with("--"));
    let step = |line: &'static str| match (line, line.split_once(": ")) {
        ("!crash", _) => Step::Crash,
        (_, Some((session @ ("1" | "2"), sql))) => {
            Step::Statement { session: session.parse().expect("a digit"), sql }
        }
        _ => Step::Statement { session: 1, sql: line },
    };
    lines.map(step).collect()
}

/// One answer: columns, rows, number of rows changed, SQLSTATE and message.
type Answers = Vec<String>;

/// User keys with their payloads, oldest version first; no timestamps, for these differ.
type State = BTreeMap<(Cf, Bytes), Vec<(bool, Bytes)>>;

#[test]
fn the_simulator_answers_as_the_real_binary_and_leaves_the_same_state() {
    let directory = tempfile::tempdir().expect("a directory");
    let real = on_the_binary(directory.path());
    // Shown where the test fails.
    for answer in &real {
        println!("{}", answer.join("\n    "));
    }
    let real_state =
        state(&RocksEngine::open(&directory.path().join("data"), &RocksOptions::default()).unwrap());
    for seed in 1..4 {
        let (simulated, simulated_state) = in_the_simulator(seed);
        assert_eq!(simulated.len(), real.len());
        for (simulated, real) in simulated.iter().zip(&real) {
            assert_eq!(simulated, real, "seed {seed}");
        }
        assert!(simulated_state.len() > 100, "{} keys", simulated_state.len());
        for (key, versions) in &simulated_state {
            assert_eq!(Some(versions), real_state.get(key), "seed {seed}: versions of {key:?}");
        }
        assert_eq!(simulated_state.len(), real_state.len());
    }
}

fn on_the_binary(store: &Path) -> Vec<Answers> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut node = process::Node::start(store, &[]);
        let mut sessions = [connect(&node).await, connect(&node).await];
        let mut answers = Vec::new();
        for step in script() {
            match step {
                Step::Crash => {
                    node.kill();
                    node = process::Node::start(store, &[]);
                    sessions = [connect(&node).await, connect(&node).await];
                }
                Step::Statement { session, sql } => {
                    let mut answer = vec![sql.to_owned()];
                    match sessions[session - 1].simple_query(sql).await {
                        Ok(messages) => answer.extend(messages.iter().map(show)),
                        Err(error) => {
                            let error = error.as_db_error().expect("the node answers");
                            answer.push(format!("{} {}", error.code().code(), error.message()));
                        }
                    }
                    answers.push(answer);
                }
            }
        }
        node.stop();
        answers
    })
}

async fn connect(node: &process::Node) -> tokio_postgres::Client {
    let config = format!("host=127.0.0.1 port={} user=postgres", node.port);
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("the node listens");
    tokio::spawn(connection);
    client
}

fn show(message: &SimpleQueryMessage) -> String {
    match message {
        SimpleQueryMessage::RowDescription(columns) => {
            columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(" | ")
        }
        SimpleQueryMessage::Row(row) => {
            (0..row.len()).map(|i| row.get(i).unwrap_or("∅")).collect::<Vec<_>>().join(" | ")
        }
        SimpleQueryMessage::CommandComplete(rows) => format!("{rows} rows"),
        other => panic!("a new kind of message: {other:?}"),
    }
}

fn in_the_simulator(seed: u64) -> (Vec<Answers>, State) {
    let machine = Machine::new(seed);
    let mut answers = Vec::new();
    let script = script();
    let lives: Vec<&[Step]> = script.split(|step| matches!(step, Step::Crash)).collect();
    for (life, steps) in lives.iter().enumerate() {
        machine.env.block_on(async {
            let node = node::open(&machine, Sizes::Production, None).await.expect("the node opens");
            let mut sessions = [1, 2].map(|id| SqlClient::new(&node.sql, id).expect("a session opens"));
            for step in *steps {
                let Step::Statement { session, sql } = step else { unreachable!("lives end at crashes") };
                let mut answer = vec![(*sql).to_owned()];
                match sessions[session - 1].query(sql).await {
                    Ok(messages) => answer.extend(messages.iter().filter_map(show_simulated)),
                    Err(error) => answer.push(format!("{} {}", error.state().as_str(), error.message())),
                }
                answers.push(answer);
            }
            if life + 1 == lives.len() {
                node.store.close().await.expect("it closes");
            }
        });
        if life + 1 < lives.len() {
            machine.env.crash();
        }
    }
    (answers, state(&*machine.engine))
}

/// As tokio-postgres shows it, which of a tag has the number only and of notices nothing.
fn show_simulated(message: &Message) -> Option<String> {
    match message {
        Message::Columns(names) => Some(names.join(" | ")),
        Message::Row(row) => {
            Some(row.iter().map(|value| value.as_deref().unwrap_or("∅")).collect::<Vec<_>>().join(" | "))
        }
        Message::Tag(tag) => {
            let rows: u64 = tag.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            Some(format!("{rows} rows"))
        }
        Message::Notice(_) => None,
    }
}

fn state(engine: &dyn Engine) -> State {
    let mut state = State::new();
    let mut locks = engine.iter(Cf::Lock, b"", b"").expect("the engine reads");
    locks.seek_to_first();
    assert!(!locks.valid(), "no transaction is left");
    for cf in [Cf::Data, Cf::History] {
        let mut iter = engine.iter(cf, b"", b"").expect("the engine reads");
        iter.seek_to_first();
        while iter.valid() {
            let user_key = match cf {
                Cf::History => version::parse_history_key(iter.key()).expect("a version's key").0,
                _ => iter.key(),
            };
            if user_key.starts_with(&index_prefix(ids::NODES)) {
                // The simulated node is put together without a place among others.
                iter.next();
                continue;
            }
            let header = version::header(user_key, iter.value()).expect("a version");
            let payload = Bytes::copy_from_slice(&iter.value()[version::HEADER_LEN..]);
            state
                .entry((cf, Bytes::copy_from_slice(user_key)))
                .or_default()
                .insert(0, (header.tombstone, payload));
            iter.next();
        }
        iter.status().expect("the engine reads");
    }
    state
}

/// `cairn`, which a build of the workspace's tests puts beside the directory of this test. A build of
/// this test alone leaves an old one there: that must not be taken for the present one.
fn cairn() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).expect("tests lie in deps/").join("cairn");
    let built = path.metadata().and_then(|found| found.modified());
    let built = built.unwrap_or_else(|_| panic!("{} is missing: build the workspace", path.display()));
    let root = Path::new("..");
    let mut directories: Vec<PathBuf> =
        ["kv", "raft", "txn", "sql", "server"].map(|name| root.join(name).join("src")).into();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                let source = entry.path();
                let is_older = metadata.modified().unwrap() <= built;
                assert!(is_older, "cairn is older than {}: build the workspace", source.display());
            }
        }
    }
    path
}
