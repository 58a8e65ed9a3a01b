//! Concurrent transactions drawn from a seed are strictly serializable: a random search for
//! anomalies, over points, ranges, inserts, deletes, locking reads, savepoints, intents, canceled
//! and abandoned transactions, reads in the past and garbage collection.
//!
//! The clients' gateway is on the leaseholder's node, on another one, or on both; on the way between
//! them requests and answers are lost, late and doubled. That it can find an anomaly is shown by switching
//! off refresh, timestamp cache and validation.
//! `CAIRN_SEEDS=5000` searches longer than the suite does, `CAIRN_FIRST_SEED` elsewhere.

#[path = "support/history.rs"]
mod history;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::engine::Cf;
use cairn_kv::seam::{Rng, Runtime};
use cairn_kv::{Timestamp, local_keys, mvcc};
use cairn_txn::{
    CancelToken, Db, DbConfig, Faults, LockStrength, Savepoint, Scan, Txn, TxnError, TxnOptions,
};
use history::{Committed, Contents, Event, Predicate, Row, Version, Violation, check};
use support::{Executor, Seeded, Tasks, World};

/// Rows that transactions fight over.
const ROWS: Row = 7;

/// Rows from here on belong to one transaction each.
const PRIVATE: Row = 1000;

const CLIENTS: u64 = 5;
const TRANSACTIONS: u64 = 7;

/// What varies from seed to seed beside the transactions themselves.
struct Weather {
    max_buffer_bytes: usize,
    is_canceled: bool,
    is_cut: bool,
    collects: bool,
    /// Of a hundred messages between nodes so many are lost, late or doubled.
    bad_messages: u64,
}

/// Where the clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the leaseholder's node.
    Local,
    /// At another node.
    Remote,
    /// Some here, some there.
    Mixed,
}

impl Weather {
    fn of(rng: &Seeded) -> Weather {
        Weather {
            max_buffer_bytes: [1, 100, DbConfig::default().max_buffer_bytes][rng.below(3) as usize],
            is_canceled: rng.below(3) == 0,
            is_cut: rng.below(3) == 0,
            collects: rng.below(4) == 0,
            bad_messages: [0, 5, 30][rng.below(3) as usize],
        }
    }
}

/// What all clients write down.
#[derive(Default)]
struct Log {
    ticks: AtomicU64,
    versions: AtomicU64,
    transactions: AtomicU64,
    committed: Mutex<Vec<Committed>>,
    /// Their commits have begun: by the private row that tells whether they took effect.
    undecided: Mutex<BTreeMap<Row, Committed>>,
}

impl Log {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }
}

/// One operation of a statement.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Get(Row),
    GetMany(Row, Row),
    GetShared(Row),
    GetForUpdate(Row),
    Scan { from: Row, to: Row, reverse: bool, limit: usize, chunk: usize },
    PutBlind(Row),
    DeleteBlind(Row),
    ReadThenPut(Row),
    Update(Row),
    DeleteFound(Row),
    InsertAbsent(Row),
    InsertNew(Row, Row),
}

impl Operation {
    fn draw(rng: &Seeded, reads_only: bool) -> Operation {
        let row = rng.below(u64::from(ROWS)) as Row;
        let other = rng.below(u64::from(ROWS) + 1) as Row;
        match rng.below(if reads_only { 4 } else { 14 }) {
            0 => Operation::Get(row),
            1 => Operation::GetMany(row, other % ROWS),
            2 | 3 => Operation::Scan {
                from: row.min(other),
                to: row.max(other),
                reverse: rng.below(2) == 0,
                limit: [1, 2, 100][rng.below(3) as usize],
                chunk: 1 + rng.below(3) as usize,
            },
            4 => Operation::GetShared(row),
            5 => Operation::GetForUpdate(row),
            6 => Operation::PutBlind(row),
            7 => Operation::DeleteBlind(row),
            8 => Operation::ReadThenPut(row),
            9 | 10 => Operation::Update(row),
            11 => Operation::DeleteFound(row),
            12 => Operation::InsertAbsent(row),
            _ => Operation::InsertNew(row, other % ROWS),
        }
    }
}

fn key(row: Row) -> Bytes {
    Bytes::from(format!("k{row:04}"))
}

fn version(value: &[u8]) -> Version {
    std::str::from_utf8(value).expect("text").trim_start_matches('v').parse().expect("a version")
}

#[derive(Clone)]
struct Client {
    db: Arc<Db>,
    rng: Arc<Seeded>,
    runtime: Arc<Tasks>,
    log: Arc<Log>,
    weather: Arc<Weather>,
}

/// A transaction under way.
struct Running {
    txn: Txn,
    events: Vec<Event>,
    savepoints: Vec<Savepoint>,
}

impl Running {
    fn found(&mut self, row: Row, value: Option<&[u8]>) {
        let found = value.map(version);
        self.events.push(Event::Read { row, predicate: Predicate::Exists, found });
    }
}

impl Client {
    /// Lets others run.
    async fn pause(&self) {
        for _ in 0..self.rng.below(4) {
            self.runtime.yield_now().await;
        }
    }

    async fn run(self) {
        for _ in 0..TRANSACTIONS {
            match self.rng.below(8) {
                0 => self.look_back().await,
                _ => {
                    for _ in 0..4 {
                        if self.attempt_somehow().await {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// A transaction, perhaps canceled, perhaps abandoned at some await. True unless it is worth
    /// another try.
    async fn attempt_somehow(&self) -> bool {
        let cancel = CancelToken::default();
        if self.weather.is_canceled && self.rng.below(4) == 0 {
            let (cancel, client, polls) = (cancel.clone(), self.clone(), self.rng.below(60));
            let task = async move {
                for _ in 0..polls {
                    client.runtime.yield_now().await;
                }
                cancel.cancel();
            };
            self.runtime.spawn("cancel", Box::pin(task));
        }
        let is_cut = self.weather.is_cut && self.rng.below(4) == 0;
        let attempt = Box::pin(self.clone().attempt(cancel, is_cut));
        if is_cut { Cut(attempt, self.rng.below(60)).await.unwrap_or(true) } else { attempt.await }
    }

    async fn attempt(self, cancel: CancelToken, has_private_row: bool) -> bool {
        let number = self.log.transactions.fetch_add(1, Ordering::SeqCst);
        let reads_only = self.rng.below(6) == 0;
        let options = TxnOptions {
            read_only: reads_only,
            session: number,
            cancel,
            lock_timeout: (self.rng.below(3) == 0).then_some(Duration::from_micros(200)),
            ..TxnOptions::default()
        };
        let began = self.log.tick();
        let mut running = Running { txn: self.db.begin(options), events: Vec::new(), savepoints: Vec::new() };
        if let Err(error) = self.statements(&mut running, reads_only).await {
            self.pause().await;
            running.txn.rollback().await;
            return !matches!(error, TxnError::Retry { .. } | TxnError::Deadlock { .. });
        }
        if self.rng.below(12) == 0 {
            running.txn.rollback().await;
            return true;
        }
        let private = PRIVATE + number as Row;
        if has_private_row && !reads_only {
            let contents = self.new_contents();
            let value = Bytes::from(format!("v{}", contents.version));
            if running.txn.put(key(private), value).await.is_err() {
                running.txn.rollback().await;
                return true;
            }
            running.events.push(Event::Write { row: private, contents: Some(contents) });
        }
        let mut committed = Committed {
            name: format!("T{number}"),
            began,
            ended: None,
            commit_ts: 0,
            events: running.events,
        };
        if has_private_row && !reads_only {
            self.log.undecided.lock().unwrap().insert(private, committed.clone());
        }
        let result = running.txn.commit().await;
        self.log.undecided.lock().unwrap().remove(&private);
        match result {
            Ok(commit_ts) => {
                committed.ended = Some(self.log.tick());
                committed.commit_ts = commit_ts.0;
                assert!(
                    !commit_ts.is_zero() || history::final_writes(&committed).is_empty(),
                    "{committed:?}"
                );
                self.log.committed.lock().unwrap().push(committed);
                true
            }
            Err(TxnError::Retry { .. } | TxnError::Deadlock { .. }) => false,
            Err(TxnError::LockTimeout | TxnError::Canceled) => true,
            Err(other) => panic!("a commit failed with {other}"),
        }
    }

    async fn statements(&self, running: &mut Running, reads_only: bool) -> Result<(), TxnError> {
        for _ in 0..1 + self.rng.below(4) {
            self.pause().await;
            if !reads_only && self.rng.below(5) == 0 {
                let savepoint = running.txn.savepoint();
                running.savepoints.push(savepoint);
                running.events.push(Event::Savepoint);
            }
            let mark = running.events.len();
            let result = self.statement(running, reads_only).await;
            if result.is_err() {
                running.events.truncate(mark);
            }
            let go_back = match &result {
                Ok(()) => self.rng.below(6) == 0,
                // As a client that goes on behind its savepoint.
                Err(TxnError::Retry { .. } | TxnError::Deadlock { .. } | TxnError::LockTimeout) => true,
                Err(TxnError::Exists { .. }) => true,
                Err(_) => false,
            };
            match running.savepoints.last().copied().filter(|_| go_back) {
                Some(savepoint) => {
                    running.savepoints.pop();
                    running.txn.rollback_to(savepoint);
                    running.events.push(Event::RollBack);
                }
                None => result?,
            }
        }
        Ok(())
    }

    async fn statement(&self, running: &mut Running, reads_only: bool) -> Result<(), TxnError> {
        let operations: Vec<Operation> =
            (0..1 + self.rng.below(2)).map(|_| Operation::draw(&self.rng, reads_only)).collect();
        running.txn.begin_statement().await?;
        let mark = running.events.len();
        let mut restarts = 0;
        loop {
            let mut result = Ok(());
            for operation in &operations {
                result = self.operate(running, *operation).await;
                if result.is_err() {
                    break;
                }
                self.pause().await;
            }
            match result {
                Err(TxnError::Retry { .. }) if restarts < 3 && self.rng.below(4) > 0 => {
                    restarts += 1;
                    running.events.truncate(mark);
                    running.txn.restart_statement().await?;
                }
                result => return result,
            }
        }
    }

    async fn operate(&self, running: &mut Running, operation: Operation) -> Result<(), TxnError> {
        match operation {
            Operation::Get(row) => {
                let value = running.txn.get(&key(row)).await?;
                running.found(row, value.as_deref());
            }
            Operation::GetMany(one, other) => {
                let rows = [one, other];
                let mut values = [None, None];
                let mut found = |position: usize, value: Option<&[u8]>| {
                    values[position] = value.map(Bytes::copy_from_slice);
                    true
                };
                running.txn.get_many(&rows.map(key), &mut found).await?;
                for (row, value) in rows.into_iter().zip(values) {
                    running.found(row, value.as_deref());
                }
            }
            Operation::GetShared(row) => {
                running.txn.lock(&key(row), LockStrength::Shared).await?;
                self.pause().await;
                let value = running.txn.get(&key(row)).await?;
                running.found(row, value.as_deref());
            }
            Operation::GetForUpdate(row) => {
                self.get_for_update(running, row).await?;
            }
            Operation::Scan { from, to, reverse, limit, chunk } => {
                self.scan(running, from..to, reverse, limit, chunk).await?;
            }
            Operation::PutBlind(row) => self.write(running, row, true).await?,
            Operation::DeleteBlind(row) => self.write(running, row, false).await?,
            Operation::ReadThenPut(row) => {
                let value = running.txn.get(&key(row)).await?;
                running.found(row, value.as_deref());
                self.pause().await;
                self.write(running, row, true).await?;
            }
            Operation::Update(row) => {
                if self.get_for_update(running, row).await? {
                    self.write(running, row, true).await?;
                }
            }
            Operation::DeleteFound(row) => {
                if self.get_for_update(running, row).await? {
                    self.write(running, row, false).await?;
                }
            }
            Operation::InsertAbsent(row) => {
                if !self.get_for_update(running, row).await? {
                    self.write(running, row, true).await?;
                }
            }
            Operation::InsertNew(one, other) => self.insert_new(running, &[one, other]).await?,
        }
        Ok(())
    }

    /// Inserts in bulk, if none of the rows is there: that is a read of each.
    async fn insert_new(&self, running: &mut Running, rows: &[Row]) -> Result<(), TxnError> {
        let rows: BTreeMap<Row, Contents> = rows.iter().map(|row| (*row, self.new_contents())).collect();
        let entries = rows.iter().map(|(row, new)| (key(*row), Bytes::from(format!("v{}", new.version))));
        running.txn.insert_new(entries.collect()).await?;
        for (row, contents) in rows {
            running.found(row, None);
            running.events.push(Event::Write { row, contents: Some(contents) });
        }
        running.txn.step();
        Ok(())
    }

    async fn get_for_update(&self, running: &mut Running, row: Row) -> Result<bool, TxnError> {
        let value = running.txn.get_for_update(&key(row)).await?;
        running.found(row, value.as_deref());
        self.pause().await;
        Ok(value.is_some())
    }

    fn new_contents(&self) -> Contents {
        Contents { version: 1 + self.log.versions.fetch_add(1, Ordering::SeqCst), attribute: 0 }
    }

    async fn write(&self, running: &mut Running, row: Row, exists: bool) -> Result<(), TxnError> {
        let contents = exists.then(|| self.new_contents());
        match contents {
            Some(contents) => {
                running.txn.put(key(row), Bytes::from(format!("v{}", contents.version))).await?;
            }
            None => running.txn.delete(key(row)).await?,
        }
        running.events.push(Event::Write { row, contents });
        // What the statement reads further sees it.
        running.txn.step();
        Ok(())
    }

    /// A scan of at most `limit` rows, in chunks.
    async fn scan(
        &self,
        running: &mut Running,
        rows: Range<Row>,
        reverse: bool,
        limit: usize,
        chunk: usize,
    ) -> Result<(), TxnError> {
        let mut span = Scan { start: key(rows.start), end: key(rows.end), reverse };
        let mut found: Vec<(Row, Version)> = Vec::new();
        loop {
            let mut taken = 0;
            let mut row = |key: &[u8], value: &[u8]| {
                let text = std::str::from_utf8(&key[1..]).expect("text");
                found.push((text.parse().expect("a row"), version(value)));
                taken += 1;
                taken < chunk && found.len() < limit
            };
            match running.txn.scan(&span, &mut row).await? {
                None => break,
                Some(_) if found.len() >= limit => break,
                Some(at) if reverse => span.end = at,
                Some(at) => span.start = at,
            }
            self.pause().await;
        }
        // A scan that stopped at its limit says nothing of what lies behind.
        let covered = match found.last() {
            Some((last, _)) if found.len() >= limit && reverse => *last..rows.end,
            Some((last, _)) if found.len() >= limit => rows.start..last + 1,
            _ => rows,
        };
        let order = found.is_sorted_by(|a, b| if reverse { a.0 > b.0 } else { a.0 < b.0 });
        assert!(order, "in order and each once: {found:?}");
        assert!(found.iter().all(|(row, _)| covered.contains(row)), "{found:?} in {covered:?}");
        let found: BTreeMap<Row, Version> = found.into_iter().collect();
        for row in covered {
            let found = found.get(&row).copied();
            running.events.push(Event::Read { row, predicate: Predicate::Exists, found });
        }
        Ok(())
    }

    /// Reads everything as it was some time ago.
    async fn look_back(&self) {
        let now = self.db.now().await.expect("a timestamp");
        let as_of = now.sub_micros(self.rng.below(400));
        let options = TxnOptions { as_of: Some(as_of), ..TxnOptions::default() };
        let mut running = Running { txn: self.db.begin(options), events: Vec::new(), savepoints: Vec::new() };
        match self.scan(&mut running, 0..ROWS, self.rng.below(2) == 0, 100, 2).await {
            Ok(()) => {}
            Err(TxnError::SnapshotTooOld { .. }) if self.weather.collects => return,
            Err(other) => panic!("a read in the past failed with {other}"),
        }
        let commit_ts = running.txn.commit().await.expect("nothing was written");
        assert_eq!(commit_ts, as_of);
        // It stands outside real time.
        self.log.committed.lock().unwrap().push(Committed {
            name: "look back".into(),
            began: 0,
            ended: None,
            commit_ts: as_of.0,
            events: running.events,
        });
    }
}

/// A future that is dropped after so many polls: `None` if it was not done by then.
struct Cut(Pin<Box<dyn Future<Output = bool> + Send>>, u64);

impl Future for Cut {
    type Output = Option<bool>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<bool>> {
        if self.1 == 0 {
            return Poll::Ready(None);
        }
        self.1 -= 1;
        self.0.as_mut().poll(context).map(Some)
    }
}

/// Every version of a row that storage still knows, newest first; none: a deletion.
fn stored(world: &World, row: Row) -> Vec<(Timestamp, Option<Version>)> {
    let (mut versions, mut value) = (Vec::new(), Vec::new());
    let mut at = Timestamp::MAX;
    loop {
        match mvcc::get(&*world.engine, &key(row), at, &mut value) {
            Ok(found) if !found.ts.is_zero() => {
                versions.push((found.ts, found.exists.then(|| version(&value))));
                at = Timestamp(found.ts.0 - 1);
            }
            Ok(_) | Err(cairn_kv::Error::BelowGcThreshold { .. }) => return versions,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Nothing of a transaction is left behind when all have ended.
fn assert_nothing_is_left(world: &World, db: &Db) {
    assert_eq!(db.describe_locks(), "", "locks are left");
    let prefix = local_keys::txn_records();
    let end = cairn_kv::encoding::prefix_end(&prefix);
    for (cf, start, end, what) in
        [(Cf::Lock, &b""[..], &b""[..], "intents"), (Cf::Local, &prefix[..], &end[..], "records")]
    {
        let mut iter = world.engine.iter(cf, start, end).expect("an iterator");
        iter.seek_to_first();
        assert!(!iter.valid(), "{what} are left: {}", iter.key().escape_ascii());
    }
}

/// Runs one seed; returns how many transactions committed.
fn run(seed: u64, place: Place, faults: Faults) -> Result<usize, Violation> {
    let world = World::new(seed);
    let rng = Seeded::new(seed ^ 0x5eed);
    let weather = Arc::new(Weather::of(&rng));
    let config = DbConfig { max_buffer_bytes: weather.max_buffer_bytes, faults, ..DbConfig::default() };
    let db = world.open(config.clone());
    let remote = (place != Place::Local).then(|| {
        let world = world.clone();
        let executor = Arc::clone(&world.executor);
        executor.run(async move { world.open_gateway(2, config).await })
    });
    world.line.set_bad(weather.bad_messages);
    let log = Arc::new(Log::default());
    let runtime = Arc::new(Tasks(Arc::clone(&world.executor)));
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|number| Client {
            db: match &remote {
                Some(remote) if place == Place::Remote || number % 2 == 0 => Arc::clone(remote),
                _ => Arc::clone(&db),
            },
            rng: Arc::new(Seeded::new(rng.next_u64())),
            runtime: Arc::clone(&runtime),
            log: Arc::clone(&log),
            weather: Arc::clone(&weather),
        })
        .collect();
    // Whoever collects garbage is on either node.
    let collector = remote.as_ref().filter(|_| rng.below(2) == 0).unwrap_or(&db);
    world.executor.run(drive(clients, Arc::clone(&world.executor), Arc::clone(collector), weather.collects));
    assert_nothing_is_left(&world, &db);

    let mut committed = std::mem::take(&mut *log.committed.lock().unwrap());
    for (row, mut undecided) in std::mem::take(&mut *log.undecided.lock().unwrap()) {
        if let Some((ts, _)) = stored(&world, row).first() {
            undecided.commit_ts = ts.0;
            committed.push(undecided);
        }
    }
    check(&BTreeMap::new(), &committed)?;
    agree_with_storage(&world, &committed, weather.collects)?;
    Ok(committed.len())
}

async fn drive(clients: Vec<Client>, executor: Arc<Executor>, db: Arc<Db>, collects: bool) {
    let runtime = Tasks(executor);
    let waiting: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let (sender, done) = tokio::sync::oneshot::channel();
            let task = async move {
                client.run().await;
                sender.send(()).expect("awaited");
            };
            runtime.spawn("client", Box::pin(task));
            done
        })
        .collect();
    for done in waiting {
        if collects {
            db.collect_all_garbage(&CancelToken::default()).await.expect("collect");
        }
        done.await.expect("a client ends");
    }
    // Enough for what abandoned transactions left to do.
    runtime.sleep(Duration::from_secs(5)).await;
}

/// What storage holds was committed, at the timestamp that was told; nothing committed is missing.
fn agree_with_storage(world: &World, committed: &[Committed], collects: bool) -> Result<(), Violation> {
    let mut expected: BTreeMap<Row, BTreeMap<u64, Option<Version>>> = BTreeMap::new();
    for one in committed {
        for (row, contents) in history::final_writes(one) {
            let version = contents.map(|contents| contents.version);
            expected.entry(row).or_default().insert(one.commit_ts, version);
        }
    }
    let rows: BTreeSet<Row> = expected.keys().copied().chain(0..ROWS).collect();
    for row in rows {
        let none = BTreeMap::new();
        let expected = expected.get(&row).unwrap_or(&none);
        let stored = stored(world, row);
        for (ts, version) in &stored {
            if expected.get(&ts.0) != Some(version) {
                return Err(Violation::Read(format!("storage has {version:?} at {ts} in row {row}")));
            }
        }
        let kept: BTreeSet<u64> = stored.iter().map(|(ts, _)| ts.0).collect();
        let newest = expected.keys().next_back();
        for (ts, version) in expected {
            let must_be_there = if collects { Some(ts) == newest } else { true };
            // Deletions need not be remembered.
            if must_be_there && version.is_some() && !kept.contains(ts) {
                return Err(Violation::Read(format!("storage lacks {version:?} at {ts} in row {row}")));
            }
        }
    }
    Ok(())
}

fn seeds(suite: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let first = number("CAIRN_FIRST_SEED").unwrap_or(0);
    first..first + number("CAIRN_SEEDS").unwrap_or(suite)
}

fn search(place: Place, suite: u64) {
    let mut committed = 0;
    let seeds = seeds(suite);
    for seed in seeds.clone() {
        let result = catch_unwind(AssertUnwindSafe(|| run(seed, place, Faults::default())));
        match result {
            Ok(Ok(count)) => committed += count,
            Ok(Err(violation)) => panic!("seed {seed}: {violation}"),
            Err(_) => panic!("seed {seed} panicked"),
        }
    }
    println!("{committed} transactions of {} seeds", seeds.end - seeds.start);
    assert!(committed as u64 > (seeds.end - seeds.start) * 10, "only {committed} committed");
}

#[test]
fn random_transactions_are_strictly_serializable() {
    search(Place::Local, 400);
}

#[test]
fn random_transactions_of_another_node_are_strictly_serializable() {
    search(Place::Remote, 300);
}

#[test]
fn random_transactions_of_two_nodes_are_strictly_serializable() {
    search(Place::Mixed, 300);
}

/// In how many seeds a planted fault shows as a circle of dependencies, and in how many at all.
fn found(place: Place, faults: Faults) -> (usize, usize) {
    let (mut cycles, mut all) = (0, 0);
    for seed in 0..60 {
        match catch_unwind(AssertUnwindSafe(|| run(seed, place, faults))) {
            Ok(Ok(_)) => {}
            Ok(Err(Violation::Cycle(_) | Violation::Stale(_))) => {
                cycles += 1;
                all += 1;
            }
            Ok(Err(Violation::Read(_))) | Err(_) => all += 1,
        }
    }
    println!("{faults:?}, {place:?}: circles in {cycles} of 60 seeds, something wrong in {all}");
    (cycles, all)
}

#[test]
fn finds_that_reads_are_not_refreshed() {
    for place in [Place::Local, Place::Remote, Place::Mixed] {
        let (cycles, _) = found(place, Faults { no_refresh: true, ..Faults::default() });
        assert!(cycles >= 20, "found in {cycles} of 60 seeds");
    }
}

#[test]
fn finds_that_reads_are_not_recorded() {
    for place in [Place::Local, Place::Remote, Place::Mixed] {
        let (cycles, _) = found(place, Faults { no_timestamp_cache: true, ..Faults::default() });
        assert!(cycles >= 5, "found in {cycles} of 60 seeds");
    }
}

#[test]
fn finds_that_writes_are_not_validated() {
    for place in [Place::Local, Place::Remote, Place::Mixed] {
        let (cycles, _) = found(place, Faults { no_validation: true, ..Faults::default() });
        assert!(cycles >= 5, "found in {cycles} of 60 seeds");
    }
}
