//! Runs `tests/scripts`: transactions step by step over a store in memory. A transaction that waits
//! says so, and its answer is printed by `await`. `UPDATE_GOLDENFILES=1` rewrites the scripts.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::engine::Cf;
use cairn_kv::seam::Runtime;
use cairn_kv::version::escape;
use cairn_kv::{Timestamp, local_keys, mvcc};
use cairn_txn::{
    CancelToken, Db, DbConfig, Isolation, LockStrength, Savepoint, Scan, Txn, TxnError, TxnOptions,
};
use goldenscript::{Command, Context, Runner};
use support::{Tasks, World};
use tokio::sync::mpsc;

/// What a transaction is told to do.
enum Order {
    Statement,
    Restart,
    Get(String),
    GetForUpdate(String),
    LockShared(String),
    Scan(String, String, bool),
    Put(String, String),
    Delete(String),
    Savepoint(String),
    RollBackTo(String),
    Commit,
    RollBack,
}

/// A transaction with a task of its own, so that it can wait while the script goes on.
struct Actor {
    orders: mpsc::UnboundedSender<Order>,
    answer: Arc<Mutex<Option<String>>>,
    cancel: cairn_txn::CancelToken,
}

async fn obey(
    txn: &mut Txn,
    savepoints: &mut BTreeMap<String, Savepoint>,
    order: Order,
) -> Result<String, TxnError> {
    let text = |value: Option<Bytes>| value.map_or("none".into(), |value| escape(&value));
    Ok(match order {
        Order::Statement => {
            txn.begin_statement().await?;
            String::new()
        }
        Order::Restart => {
            txn.restart_statement().await?;
            "restarted".into()
        }
        Order::Get(key) => text(txn.get(key.as_bytes()).await?),
        Order::GetForUpdate(key) => text(txn.get_for_update(key.as_bytes()).await?),
        Order::LockShared(key) => {
            txn.lock(key.as_bytes(), LockStrength::Shared).await?;
            "locked".into()
        }
        Order::Scan(start, end, reverse) => {
            let mut span = Scan { start: start.into(), end: end.into(), reverse };
            let mut rows = Vec::new();
            loop {
                let mut row = |key: &[u8], value: &[u8]| {
                    rows.push(format!("{}={}", escape(key), escape(value)));
                    true
                };
                match txn.scan(&span, &mut row).await? {
                    None => break,
                    Some(at) if reverse => span.end = at,
                    Some(at) => span.start = at,
                }
            }
            rows.join(" ")
        }
        Order::Put(key, value) => {
            txn.put(key.into(), value.into()).await?;
            txn.step();
            String::new()
        }
        Order::Delete(key) => {
            txn.delete(key.into()).await?;
            txn.step();
            String::new()
        }
        Order::Savepoint(name) => {
            savepoints.insert(name, txn.savepoint());
            String::new()
        }
        Order::RollBackTo(name) => {
            txn.rollback_to(savepoints[&name]);
            String::new()
        }
        Order::Commit => {
            txn.commit().await?;
            "committed".into()
        }
        Order::RollBack => {
            txn.rollback().await;
            "rolled back".into()
        }
    })
}

fn tell(result: Result<String, TxnError>) -> String {
    match result {
        Ok(text) => text,
        Err(TxnError::Retry { reason, key, .. }) => {
            format!("retry: {reason} (key {})", escape(&key.unwrap_or_default()))
        }
        Err(TxnError::Deadlock { cycle }) => format!("deadlock: {cycle}"),
        Err(TxnError::SnapshotTooOld { .. }) => "snapshot too old".into(),
        Err(error) => format!("error: {error}"),
    }
}

struct Script {
    world: World,
    db: Option<Arc<Db>>,
    config: DbConfig,
    actors: BTreeMap<String, Actor>,
    times: BTreeMap<String, Timestamp>,
}

impl Script {
    fn db(&self) -> Arc<Db> {
        Arc::clone(self.db.as_ref().expect("open until the script ends"))
    }

    /// Runs everything until it has ended or waits.
    fn settle(&self) {
        let runtime = Tasks(Arc::clone(&self.world.executor));
        self.world.executor.run(async move {
            for _ in 0..300 {
                runtime.yield_now().await;
            }
        });
    }

    fn order(&mut self, name: &str, order: Order) -> Result<String, Box<dyn Error>> {
        let actor = self.actors.get(name).ok_or("no such transaction")?;
        actor.orders.send(order).map_err(|_| "it has ended")?;
        self.settle();
        self.answer(name)
    }

    fn answer(&mut self, name: &str) -> Result<String, Box<dyn Error>> {
        let actor = self.actors.get(name).ok_or("no such transaction")?;
        let answer = actor.answer.lock().expect("not poisoned").take();
        Ok(answer.unwrap_or_else(|| "waits".into()))
    }

    fn begin(&mut self, name: String, options: TxnOptions) {
        let (orders, mut received) = mpsc::unbounded_channel();
        let answer = Arc::new(Mutex::new(None));
        let (slot, db) = (Arc::clone(&answer), self.db());
        let cancel = options.cancel.clone();
        let task = async move {
            let mut txn = db.begin(options);
            let mut savepoints = BTreeMap::new();
            while let Some(order) = received.recv().await {
                let ends = matches!(order, Order::Commit | Order::RollBack);
                let text = tell(obey(&mut txn, &mut savepoints, order).await);
                *slot.lock().expect("not poisoned") = Some(text);
                if ends {
                    return;
                }
            }
        };
        Tasks(Arc::clone(&self.world.executor)).spawn("transaction", Box::pin(task));
        self.actors.insert(name, Actor { orders, answer, cancel });
    }

    /// Locks in memory, intents, records.
    fn dump(&self) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        for line in self.world.line.server().describe_locks().lines() {
            writeln!(out, "lock {line}")?;
        }
        let mut iter = self.world.engine.iter(Cf::Lock, b"", b"")?;
        iter.seek_to_first();
        while iter.valid() {
            let (key, _, _) = mvcc::parse_lock_key(iter.key())?;
            let intent = mvcc::decode_lock_value(key, Bytes::copy_from_slice(iter.value()))?;
            write!(out, "intent {}", escape(key))?;
            for value in intent.values {
                write!(
                    out,
                    " {}={}",
                    value.seq,
                    value.value.map_or("deleted".into(), |value| escape(&value))
                )?;
            }
            out.push('\n');
            iter.next();
        }
        let prefix = local_keys::txn_records();
        let mut iter =
            self.world.engine.iter(Cf::Local, &prefix, &cairn_kv::encoding::prefix_end(&prefix))?;
        iter.seek_to_first();
        while iter.valid() {
            let (anchor, _) = local_keys::parse_txn_record(iter.key())?;
            let record = cairn_txn::leaseholder::record::TxnRecord::read(iter.value())?;
            writeln!(out, "record at {} {:?}", escape(&anchor), record.status())?;
            iter.next();
        }
        Ok(out)
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let (isolation, as_of) = (args.take_key("isolation"), args.take_key("as_of"));
        let lock_timeout = args.take_key("lock_timeout");
        let mut next = || args.next_pos().map(str::to_owned);
        let out = match command.name.as_str() {
            // open [bytes of the buffer]: a restart, too
            "open" => {
                self.actors.clear();
                self.db = None;
                if let Some(bytes) = next() {
                    self.config.max_buffer_bytes = bytes.parse()?;
                }
                self.db = Some(self.world.open(self.config.clone()));
                String::new()
            }
            // begin NAME [isolation=L] [as_of=TIME] [lock_timeout=MS]
            "begin" => {
                let name = next().ok_or("a name")?;
                let isolation = match isolation {
                    Some("read_committed") => Isolation::ReadCommitted,
                    Some("repeatable_read") => Isolation::RepeatableRead,
                    _ => Isolation::Serializable,
                };
                let as_of = as_of.map(|time| self.times[time]);
                let lock_timeout = lock_timeout.map(str::parse).transpose()?;
                let options = TxnOptions {
                    isolation,
                    as_of,
                    lock_timeout: lock_timeout.map(Duration::from_millis),
                    session: name.trim_start_matches('t').parse()?,
                    ..TxnOptions::default()
                };
                self.begin(name, options);
                String::new()
            }
            "now" => {
                let db = self.db();
                let now = self.world.executor.run(async move { db.now().await })?;
                self.times.insert(next().ok_or("a name")?, now);
                String::new()
            }
            "gc" => {
                let db = self.db();
                self.world
                    .executor
                    .run(async move { db.collect_all_garbage(&CancelToken::default()).await })?;
                String::new()
            }
            "sleep" => {
                let ms: u64 = next().ok_or("milliseconds")?.parse()?;
                let runtime = Tasks(Arc::clone(&self.world.executor));
                self.world.executor.run(async move { runtime.sleep(Duration::from_millis(ms)).await });
                self.settle();
                String::new()
            }
            "dump" => self.dump()?,
            // t1 ORDER …
            name => {
                let name = name.to_owned();
                let mut need = || next().ok_or("an argument is missing");
                let order = match need()?.as_str() {
                    "await" => {
                        self.settle();
                        return self.answer(&name);
                    }
                    "cancel" => {
                        self.actors[&name].cancel.cancel();
                        self.settle();
                        return self.answer(&name);
                    }
                    "statement" => Order::Statement,
                    "restart" => Order::Restart,
                    "get" => Order::Get(need()?),
                    "get_for_update" => Order::GetForUpdate(need()?),
                    "lock_shared" => Order::LockShared(need()?),
                    "scan" => Order::Scan(need()?, need()?, false),
                    "scan_reverse" => Order::Scan(need()?, need()?, true),
                    "put" => Order::Put(need()?, need()?),
                    "delete" => Order::Delete(need()?),
                    "savepoint" => Order::Savepoint(need()?),
                    "rollback_to" => Order::RollBackTo(need()?),
                    "commit" => Order::Commit,
                    "rollback" => Order::RollBack,
                    other => return Err(format!("unknown order {other}").into()),
                };
                self.order(&name, order)?
            }
        };
        Ok(out)
    }
}

fn run(name: &str) {
    let world = World::new(1);
    let config = DbConfig::default();
    let db = Some(world.open(config.clone()));
    let mut script = Script { world, db, config, actors: BTreeMap::new(), times: BTreeMap::new() };
    goldenscript::run(&mut script, format!("tests/scripts/{name}")).expect("the script runs");
}

#[test]
fn own_writes() {
    run("own_writes");
}

#[test]
fn refresh() {
    run("refresh");
}

#[test]
fn large_transactions() {
    run("large_transactions");
}

#[test]
fn recovery() {
    run("recovery");
}

#[test]
fn conflicts() {
    run("conflicts");
}

#[test]
fn deadlock() {
    run("deadlock");
}

#[test]
fn past() {
    run("past");
}
