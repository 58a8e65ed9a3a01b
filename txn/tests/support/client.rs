//! Random transactions, what they write down of themselves, and what storage must say of them.

#![allow(dead_code, reason = "each test crate uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::engine::{Cf, Engine};
use cairn_kv::seam::Runtime;
use cairn_kv::{Timestamp, local_keys, mvcc};
use cairn_txn::{CancelToken, Db, DbConfig, LockStrength, Savepoint, Scan, Txn, TxnError, TxnOptions};

use super::history::{self, Committed, Contents, Event, Predicate, Row, Version, Violation};
use super::support::Seeded;

/// Rows that transactions fight over.
pub const ROWS: Row = 7;

/// Rows from here on belong to one transaction each.
const PRIVATE: Row = 1000;

/// Transactions of a client.
const TRANSACTIONS: u64 = 7;

/// What varies from seed to seed beside the transactions themselves.
pub struct Weather {
    pub max_buffer_bytes: usize,
    pub is_canceled: bool,
    pub is_cut: bool,
    pub collects: bool,
    /// Of a hundred messages between nodes so many are lost, late or doubled.
    pub bad_messages: u64,
    /// Clients wait at times, for at most so long.
    pub thinks_micros: u64,
}

impl Weather {
    pub fn of(rng: &Seeded) -> Weather {
        Weather {
            max_buffer_bytes: [1, 100, DbConfig::default().max_buffer_bytes][rng.below(3) as usize],
            is_canceled: rng.below(3) == 0,
            is_cut: rng.below(3) == 0,
            collects: rng.below(4) == 0,
            bad_messages: [0, 5, 30][rng.below(3) as usize],
            thinks_micros: 0,
        }
    }
}

/// What all clients write down.
#[derive(Default)]
pub struct Log {
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
pub struct Client {
    pub db: Arc<Db>,
    pub rng: Arc<Seeded>,
    pub runtime: Arc<dyn Runtime>,
    pub log: Arc<Log>,
    pub weather: Arc<Weather>,
    /// Nodes die and the lease moves.
    pub endures: bool,
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
        if self.weather.thinks_micros > 0 && self.rng.below(3) == 0 {
            let pause = Duration::from_micros(self.rng.below(self.weather.thinks_micros));
            self.runtime.sleep(pause).await;
        }
        for _ in 0..self.rng.below(4) {
            self.runtime.yield_now().await;
        }
    }

    pub async fn run(self) {
        for _ in 0..TRANSACTIONS {
            self.one().await;
        }
    }

    /// A transaction, or a look at the past.
    pub async fn one(&self) {
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
        let attempt = Box::pin(self.clone().attempt(cancel, is_cut || self.endures));
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
        if self.endures && matches!(result, Err(TxnError::Ambiguous(_))) {
            return true;
        }
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
            Err(TxnError::Unavailable(_)) if self.endures => true,
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
        let now = match self.db.now().await {
            Err(_) if self.endures => return,
            now => now.expect("a timestamp"),
        };
        let as_of = now.sub_micros(self.rng.below(400));
        let options = TxnOptions { as_of: Some(as_of), ..TxnOptions::default() };
        let mut running = Running { txn: self.db.begin(options), events: Vec::new(), savepoints: Vec::new() };
        match self.scan(&mut running, 0..ROWS, self.rng.below(2) == 0, 100, 2).await {
            Ok(()) => {}
            Err(TxnError::SnapshotTooOld { .. }) if self.weather.collects => return,
            Err(TxnError::Retry { .. } | TxnError::Unavailable(_)) if self.endures => return,
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
pub fn stored(engine: &dyn Engine, row: Row) -> Vec<(Timestamp, Option<Version>)> {
    let (mut versions, mut value) = (Vec::new(), Vec::new());
    let mut at = Timestamp::MAX;
    loop {
        match mvcc::get(engine, &key(row), at, &mut value) {
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
pub fn assert_nothing_is_left(engine: &dyn Engine, db: &Db) {
    assert_eq!(db.describe_locks(), "", "locks are left");
    let prefix = local_keys::txn_records();
    let end = cairn_kv::encoding::prefix_end(&prefix);
    for (cf, start, end, what) in
        [(Cf::Lock, &b""[..], &b""[..], "intents"), (Cf::Local, &prefix[..], &end[..], "records")]
    {
        let mut iter = engine.iter(cf, start, end).expect("an iterator");
        iter.seek_to_first();
        assert!(!iter.valid(), "{what} are left: {}", iter.key().escape_ascii());
    }
}

/// Checks what was written down, and that storage says the same; returns how many transactions committed.
pub fn judge(log: &Log, engine: &dyn Engine, collects: bool) -> Result<usize, Violation> {
    let mut committed = std::mem::take(&mut *log.committed.lock().unwrap());
    for (row, mut undecided) in std::mem::take(&mut *log.undecided.lock().unwrap()) {
        if let Some((ts, _)) = stored(engine, row).first() {
            undecided.commit_ts = ts.0;
            committed.push(undecided);
        }
    }
    history::check(&BTreeMap::new(), &committed)?;
    agree_with_storage(engine, &committed, collects)?;
    Ok(committed.len())
}

/// What storage holds was committed, at the timestamp that was told; nothing committed is missing.
fn agree_with_storage(engine: &dyn Engine, committed: &[Committed], collects: bool) -> Result<(), Violation> {
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
        let stored = stored(engine, row);
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

pub fn seeds(suite: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let first = number("CAIRN_FIRST_SEED").unwrap_or(0);
    first..first + number("CAIRN_SEEDS").unwrap_or(suite)
}
