//! Concurrent SQL transactions drawn from a seed are strictly serializable. In half of the seeds over a
//! table with a primary key, a secondary index and a unique one, by points and by ranges of either,
//! with inserts, deletes, and updates that move rows in the indexes; in the other half over a table
//! with its key alone. The checker is that of the transaction layer.
//!
//! Each half finds what the other cannot. Entries of an index are blind writes, so that a transaction
//! on the first table always commits above its snapshot: it needs refresh. Those on the second may
//! commit at their snapshot, so that only the timestamp cache keeps them above what others have read.
//!
//! Of the validation of commits (R12) SQL on one node needs one part: what was read under a lock and
//! is not written (SELECT … FOR UPDATE) is confirmed, and thereby recorded as read, before the lock
//! goes. Without it whoever takes the lock next may write at a snapshot below the commit. The other
//! part, that what is written still has the version seen, is redundant here: SQL locks every key
//! that it has read before it writes it, and no lease moves the lock table. The transaction layer's
//! own test, which also writes without locks, finds that one.
//!
//! At the end, what single sessions are answered is what they have committed.
//!
//! `CAIRN_SEEDS=2000` searches longer than the suite does, `CAIRN_FIRST_SEED` elsewhere.

#[path = "../../txn/tests/support/history.rs"]
mod history;
#[path = "../../txn/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cairn_kv::engine::Cf;
use cairn_kv::seam::{BoxFuture, Rng, Runtime};
use cairn_kv::version;
use cairn_sql::plan::OutputColumn;
use cairn_sql::session::{ClientInfo, Format, ResultSink, Session, Severity, SqlNode};
use cairn_sql::types::{Datum, TextContext, Type};
use cairn_sql::{Result, SqlError, SqlState};
use cairn_txn::{DbConfig, Faults};
use history::{Committed, Contents, Event, Predicate, Row, Version, Violation, check};
use support::{Seeded, Tasks, World};

/// Which table the clients of a seed share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// With a secondary index and a unique one.
    Indexed,
    /// With its primary key alone.
    Plain,
}

impl Shape {
    fn tables(self) -> &'static [&'static str] {
        match self {
            Shape::Indexed => &[
                "CREATE TABLE t (id bigint PRIMARY KEY, a bigint NOT NULL, u bigint NOT NULL UNIQUE, v bigint NOT NULL)",
                "CREATE INDEX t_a ON t (a)",
            ],
            Shape::Plain => &[
                "CREATE TABLE t (id bigint PRIMARY KEY, a bigint NOT NULL, u bigint NOT NULL, v bigint NOT NULL)",
            ],
        }
    }

    fn rows(self) -> u64 {
        match self {
            Shape::Indexed => 6,
            Shape::Plain => 4,
        }
    }

    /// Statements of a transaction at most: where nothing but rows is written, few keep conflicts rare,
    /// so that transactions overlap and do not wait for each other.
    fn statements(self) -> u64 {
        match self {
            Shape::Indexed => 4,
            Shape::Plain => 2,
        }
    }
}

/// Values of the indexed column.
const ATTRIBUTES: u64 = 5;
/// Values of the unique column: few enough to collide.
const UNIQUE: u64 = 12;
const CLIENTS: u64 = 4;
const TRANSACTIONS: u64 = 6;

/// Keeps the rows of the last statement and its tag.
#[derive(Default)]
struct Rows {
    rows: Vec<Vec<i64>>,
    tag: String,
}

impl ResultSink for Rows {
    fn text_context(&mut self, _: &Arc<TextContext>) {}
    fn row_description(&mut self, _: &[OutputColumn], _: &[Format]) {}
    fn no_data(&mut self) {}
    fn parameter_description(&mut self, _: &[Type]) {}
    fn row(&mut self, row: &[Datum], _: &[OutputColumn], _: &[Format]) {
        let number = |datum: &Datum| match datum {
            Datum::Int8(number) => *number,
            other => panic!("{other:?} is no bigint"),
        };
        self.rows.push(row.iter().map(number).collect());
    }
    fn complete(&mut self, tag: &str) {
        self.tag = tag.into();
    }
    fn empty_query(&mut self) {}
    fn suspended(&mut self) {}
    fn notice(&mut self, _: Severity, _: &SqlError) {}
    fn parameter_status(&mut self, _: &str, _: &str) {}
    fn copy_out(&mut self, _: usize, _: Format) {}
    fn copy_data(&mut self, _: &[u8]) {}
    fn copy_done(&mut self) {}
    fn copy_in(&mut self, _: usize, _: Format) {}
    fn mark(&self) -> usize {
        self.rows.len()
    }
    fn rewind(&mut self, mark: usize) -> bool {
        self.rows.truncate(mark);
        true
    }
    fn is_full(&self) -> bool {
        false
    }
    fn flush(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

#[derive(Default)]
struct Log {
    ticks: AtomicU64,
    versions: AtomicU64,
    transactions: AtomicU64,
    /// With the tag of the row in `log` that tells the commit timestamp.
    committed: Mutex<Vec<(String, Committed)>>,
}

struct Client {
    shape: Shape,
    session: Session,
    rng: Seeded,
    runtime: Tasks,
    log: Arc<Log>,
}

fn read(row: Row, predicate: Predicate, found: Option<Version>) -> Event {
    Event::Read { row, predicate, found }
}

impl Client {
    async fn pause(&mut self) {
        for _ in 0..self.rng.below(4) {
            self.runtime.yield_now().await;
        }
    }

    async fn sql(&mut self, text: &str) -> Result<Rows> {
        self.pause().await;
        let mut rows = Rows::default();
        self.session.simple_query(text, &mut rows).await?;
        Ok(rows)
    }

    async fn run(mut self) {
        for _ in 0..TRANSACTIONS {
            for _ in 0..5 {
                match self.attempt().await {
                    Ok(()) => break,
                    Err(error) => {
                        let expected =
                            [SqlState::SERIALIZATION_FAILURE, SqlState::DEADLOCK, SqlState::UNIQUE_VIOLATION];
                        assert!(expected.contains(&error.state()), "{error:?}");
                        // As PostgreSQL says it.
                        let conflict = error.state() == SqlState::SERIALIZATION_FAILURE;
                        assert!(
                            !conflict || error.message().starts_with("could not serialize access due to ")
                        );
                        self.sql("ROLLBACK").await.expect("rolls back");
                    }
                }
            }
        }
        self.session.close().await;
    }

    async fn attempt(&mut self) -> Result<()> {
        let number = self.log.transactions.fetch_add(1, Ordering::SeqCst);
        let tag = format!("transaction-{number:06}");
        let began = self.log.ticks.fetch_add(1, Ordering::SeqCst);
        let mut events = Vec::new();
        self.sql("BEGIN").await?;
        for _ in 0..1 + self.rng.below(self.shape.statements()) {
            self.statement(&mut events).await?;
        }
        self.sql(&format!("INSERT INTO log VALUES ({number}, '{tag}')")).await?;
        self.sql("COMMIT").await?;
        let ended = Some(self.log.ticks.fetch_add(1, Ordering::SeqCst));
        let committed = Committed { name: tag.clone(), began, ended, commit_ts: 0, events };
        self.log.committed.lock().unwrap().push((tag, committed));
        Ok(())
    }

    /// One statement on the table; `events` gets what it says of the rows.
    async fn statement(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let rows = self.shape.rows();
        let id = self.rng.below(rows);
        let row = id as Row;
        let attribute = self.rng.below(ATTRIBUTES) as i64;
        let unique = self.rng.below(UNIQUE);
        let version = 1 + self.log.versions.fetch_add(1, Ordering::SeqCst);
        let contents = Some(Contents { version, attribute });
        let set = format!("a = {attribute}, u = {unique}, v = {version}");
        let kind = match self.shape {
            Shape::Indexed => self.rng.below(10),
            // By key: everything else scans the table, and a scan meets everybody.
            Shape::Plain => [0, 0, 0, 0, 0, 4, 5, 7, 8, 10, 10, 10, 10, 10][self.rng.below(14) as usize],
        };
        match kind {
            0 | 1 => {
                let lock = ["", " FOR UPDATE", "", " FOR UPDATE", " FOR SHARE"][self.rng.below(5) as usize];
                let rows = self.sql(&format!("SELECT v FROM t WHERE id = {id}{lock}")).await?.rows;
                let found = rows.first().map(|row| row[0] as Version);
                events.push(read(row, Predicate::Exists, found));
            }
            2 | 3 => {
                let high = attribute + self.rng.below(2) as i64;
                let by = format!("SELECT id, v FROM t WHERE a BETWEEN {attribute} AND {high}");
                let found = self.sql(&by).await?.rows;
                seen(events, 0..rows, Predicate::Between(attribute, high), &found);
            }
            4 => {
                let high = id + self.rng.below(3);
                let by = format!("SELECT id, v FROM t WHERE id BETWEEN {id} AND {high} ORDER BY id DESC");
                let found = self.sql(&by).await?.rows;
                seen(events, id..(high + 1).min(rows), Predicate::Exists, &found);
            }
            5 => {
                let updated = self.sql(&format!("UPDATE t SET {set} WHERE id = {id}")).await?;
                match updated.tag.as_str() {
                    "UPDATE 1" => events.push(Event::Write { row, contents }),
                    _ => events.push(read(row, Predicate::Exists, None)),
                }
            }
            6 => {
                // Found through the index, moved in it.
                let from = self.rng.below(ATTRIBUTES) as i64;
                let by = format!("UPDATE t SET {set} WHERE a = {from} AND id = {id}");
                match self.sql(&by).await?.tag.as_str() {
                    "UPDATE 1" => events.push(Event::Write { row, contents }),
                    _ => events.push(read(row, Predicate::Between(from, from), None)),
                }
            }
            7 => {
                let rows = self.sql(&format!("DELETE FROM t WHERE id = {id} RETURNING v")).await?.rows;
                events.push(read(row, Predicate::Exists, rows.first().map(|row| row[0] as Version)));
                if !rows.is_empty() {
                    events.push(Event::Write { row, contents: None });
                }
            }
            10 => {
                let new = format!("({id}, {attribute}, {unique}, {version})");
                self.sql(&format!("INSERT INTO t VALUES {new} ON CONFLICT (id) DO UPDATE SET {set}")).await?;
                events.push(Event::Write { row, contents });
            }
            _ => {
                self.sql(&format!("INSERT INTO t VALUES ({id}, {attribute}, {unique}, {version})")).await?;
                events.push(read(row, Predicate::Exists, None));
                events.push(Event::Write { row, contents });
            }
        }
        Ok(())
    }
}

/// A query by predicate over some rows says something of each of them.
fn seen(events: &mut Vec<Event>, ids: std::ops::Range<u64>, predicate: Predicate, rows: &[Vec<i64>]) {
    for id in ids {
        let mut found = rows.iter().filter(|row| row[0] as u64 == id).map(|row| row[1] as Version);
        let first = found.next();
        assert_eq!(found.next(), None, "row {id} was found twice");
        events.push(read(id as Row, predicate, first));
    }
}

/// Commit timestamps by the tags in `log`.
fn commit_timestamps(world: &World) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut iter = world.engine.iter(Cf::Data, b"", b"").expect("an iterator");
    iter.seek_to_first();
    while iter.valid() {
        let value = iter.value();
        if let Some(at) = value.windows(12).position(|window| window == b"transaction-") {
            let tag = String::from_utf8(value[at..at + 18].to_vec()).expect("text");
            found.insert(tag, version::header(iter.key(), value).expect("a header").ts.0);
        }
        iter.next();
    }
    found
}

fn run(seed: u64, faults: Faults) -> std::result::Result<usize, Violation> {
    let world = World::new(seed);
    let rng = Seeded::new(seed ^ 0x5a1);
    let shape = if seed.is_multiple_of(2) { Shape::Indexed } else { Shape::Plain };
    let max_buffer_bytes = [200, DbConfig::default().max_buffer_bytes][rng.below(2) as usize];
    let db = world.open(DbConfig { max_buffer_bytes, faults, ..DbConfig::default() });
    let log = Arc::new(Log::default());
    let executor = Arc::clone(&world.executor);
    let (main_log, main_db) = (Arc::clone(&log), Arc::clone(&db));
    world.executor.run(async move {
        let node = SqlNode::open(main_db).await.expect("opens");
        let client = |id: u32| {
            let info = ClientInfo { user: "postgres".into(), ..ClientInfo::default() };
            Client {
                shape,
                session: Session::new(&node, id, info).expect("a session"),
                rng: Seeded::new(rng.next_u64()),
                runtime: Tasks(Arc::clone(&executor)),
                log: Arc::clone(&main_log),
            }
        };
        let mut first = client(1);
        let log_table = "CREATE TABLE log (n bigint PRIMARY KEY, tag text NOT NULL)";
        for statement in shape.tables().iter().chain([&log_table]) {
            first.sql(statement).await.expect("a schema");
        }
        let mut waiting = Vec::new();
        for id in 0..CLIENTS {
            let client = client(10 + id as u32);
            let (sender, done) = tokio::sync::oneshot::channel();
            let task = async move {
                client.run().await;
                let _ = sender.send(());
            };
            Tasks(Arc::clone(&executor)).spawn("client", Box::pin(task));
            waiting.push(done);
        }
        for done in waiting {
            done.await.expect("a client ends");
        }
        // Indexes and rows say the same.
        let mut all = Vec::new();
        for by in ["id >= 0", "a >= 0", "u >= 0"] {
            let rows = first.sql(&format!("SELECT id, a, u, v FROM t WHERE {by} ORDER BY id")).await;
            all.push(rows.expect("reads").rows);
        }
        assert!(all[0] == all[1] && all[0] == all[2], "an index differs from its table: {all:?}");
        let mut unique: Vec<i64> = all[0].iter().map(|row| row[2]).collect();
        unique.sort_unstable();
        let is_unique = unique.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(is_unique || shape == Shape::Plain, "a unique column with {unique:?}");
        first.session.close().await;
    });
    assert_eq!(db.describe_locks(), "", "locks are left");
    let timestamps = commit_timestamps(&world);
    let committed = std::mem::take(&mut *log.committed.lock().unwrap());
    let committed: Vec<Committed> = committed
        .into_iter()
        .map(|(tag, committed)| Committed {
            commit_ts: *timestamps.get(&tag).unwrap_or_else(|| panic!("{tag} is lost")),
            ..committed
        })
        .collect();
    check(&BTreeMap::new(), &committed)?;
    Ok(committed.len())
}

#[test]
fn random_sql_transactions_are_strictly_serializable() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let first: u64 = number("CAIRN_FIRST_SEED").unwrap_or(0);
    let seeds: u64 = number("CAIRN_SEEDS").unwrap_or(200);
    let mut committed = 0;
    for seed in first..first + seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, Faults::default()))) {
            Ok(Ok(count)) => committed += count as u64,
            Ok(Err(violation)) => panic!("seed {seed}: {violation}"),
            Err(_) => panic!("seed {seed} panicked"),
        }
    }
    println!("{committed} transactions of {seeds} seeds");
    assert!(committed > seeds * 8, "only {committed} committed");
}

/// In how many seeds a planted fault shows as a circle of dependencies, and in how many as a read that
/// the order of commit timestamps contradicts.
fn found(faults: Faults, seeds: u64) -> (usize, usize) {
    let (mut circles, mut reads, mut panics) = (0, 0, 0);
    for seed in 0..seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, faults))) {
            Ok(Ok(_)) => {}
            Ok(Err(Violation::Cycle(_) | Violation::Stale(_))) => circles += 1,
            Ok(Err(Violation::Read(_))) => reads += 1,
            Err(_) => panics += 1,
        }
    }
    println!("{faults:?}: of {seeds} seeds circles in {circles}, wrong reads in {reads}, panics in {panics}");
    (circles, reads)
}

#[test]
fn finds_that_reads_are_not_refreshed() {
    let (circles, _) = found(Faults { no_refresh: true, ..Faults::default() }, 60);
    assert!(circles >= 10, "circles in {circles} seeds");
}

#[test]
fn finds_that_reads_are_not_recorded() {
    let (circles, _) = found(Faults { no_timestamp_cache: true, ..Faults::default() }, 100);
    assert!(circles >= 10, "circles in {circles} seeds");
}

#[test]
fn finds_that_locked_reads_are_not_confirmed() {
    let (circles, reads) = found(Faults { no_validation: true, ..Faults::default() }, 600);
    assert!(circles >= 1 && circles + reads >= 5, "circles in {circles} seeds, wrong reads in {reads}");
}

/// Gives two sessions on a new database to `then`.
fn with_sessions<F: Future<Output = ()> + Send + 'static>(
    then: impl FnOnce(Session, Session) -> F + Send + 'static,
) {
    let world = World::new(1);
    let db = world.open(DbConfig::default());
    world.executor.run(async move {
        let node = SqlNode::open(db).await.expect("opens");
        let info = || ClientInfo { user: "postgres".into(), ..ClientInfo::default() };
        let session = |id| Session::new(&node, id, info()).expect("a session");
        then(session(1), session(2)).await;
    });
}

/// A simple query ends the implicit transaction of a pipeline that was not synced.
#[test]
fn a_query_behind_a_pipeline_without_sync_commits_both() {
    with_sessions(|mut one, mut two| async move {
        let mut sink = Rows::default();
        one.simple_query("CREATE TABLE t (id bigint PRIMARY KEY)", &mut sink).await.expect("a table");
        one.parse("", "INSERT INTO t VALUES (1)", &[]).await.expect("parsed");
        one.bind("", "", &[], &[], &[]).await.expect("bound");
        one.execute("", 0, &mut sink).await.expect("executed");
        one.simple_query("INSERT INTO t VALUES (2)", &mut sink).await.expect("inserted");
        one.close().await;
        two.simple_query("SELECT id FROM t WHERE id > 0 ORDER BY id", &mut sink).await.expect("selected");
        assert_eq!(sink.rows, [[1], [2]]);
        two.close().await;
    });
}

/// The versions that a command supersedes do not count against its size.
#[test]
fn many_wide_rows_are_deleted_at_once() {
    with_sessions(|mut one, mut two| async move {
        let mut sink = Rows::default();
        one.simple_query("CREATE TABLE t (id bigint PRIMARY KEY, v text)", &mut sink).await.expect("a table");
        let fill = "INSERT INTO t SELECT i, repeat('x', 400) FROM generate_series(1, 15000) AS g (i)";
        one.simple_query(fill, &mut sink).await.expect("filled");
        one.simple_query("DELETE FROM t", &mut sink).await.expect("deleted");
        assert_eq!(sink.tag, "DELETE 15000");
        one.close().await;
        two.close().await;
    });
}
