//! Concurrent transactions drawn from a seed are strictly serializable: a random search for
//! anomalies, over points, ranges, inserts, deletes, locking reads, savepoints, intents, canceled
//! and abandoned transactions, reads in the past and garbage collection.
//!
//! The clients' gateway is on the leaseholder's node, on another one, or on both; on the way between
//! them requests and answers are lost, late and doubled. That it can find an anomaly is shown by switching
//! off refresh, timestamp cache and validation.
//! `CAIRN_SEEDS=5000` searches longer than the suite does, `CAIRN_FIRST_SEED` elsewhere.

#[path = "support/client.rs"]
mod client;
#[path = "support/history.rs"]
mod history;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cairn_kv::seam::{Rng, Runtime};
use cairn_txn::{CancelToken, Db, DbConfig, Faults};
use client::{Client, Log, Weather, assert_nothing_is_left, judge, seeds};
use history::Violation;
use support::{Executor, Seeded, Tasks, World};

const CLIENTS: u64 = 5;

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
            runtime: Arc::clone(&runtime) as Arc<dyn Runtime>,
            log: Arc::clone(&log),
            weather: Arc::clone(&weather),
            endures: false,
        })
        .collect();
    // Whoever collects garbage is on either node.
    let collector = remote.as_ref().filter(|_| rng.below(2) == 0).unwrap_or(&db);
    world.executor.run(drive(clients, Arc::clone(&world.executor), Arc::clone(collector), weather.collects));
    assert_nothing_is_left(&*world.engine, &db);
    judge(&log, &*world.engine, weather.collects)
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
