//! Three nodes of which one has the lease: transactions through every gateway while the lease moves, nodes die and the
//! network is at its worst.
//!
//! `CAIRN_SEEDS=500` searches longer than the suite does, `CAIRN_FIRST_SEED` elsewhere.

#[path = "support/client.rs"]
mod client;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/history.rs"]
mod history;
#[path = "cluster/scenes.rs"]
mod scenes;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::seam::{Clock, Rng};
use cairn_kv::sim::{Link, SimRng};
use cairn_txn::{CancelToken, Db, DbConfig, Faults, TxnError, TxnOptions};
use client::{Client, Log, Weather, assert_nothing_is_left, judge, seeds};
use cluster::{Cluster, MOST_OFF_MICROS, NODES, id, is_retried};
use history::Violation;
use parking_lot::Mutex;
use support::Seeded;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn get(db: &Arc<Db>, key: &str) -> Result<Option<Bytes>, TxnError> {
    db.begin(TxnOptions::default()).get(key.as_bytes()).await
}

async fn put(db: &Arc<Db>, key: &str, value: &str) -> Result<(), TxnError> {
    let mut txn = db.begin(TxnOptions::default());
    txn.get_for_update(key.as_bytes()).await?;
    txn.put(bytes(key), bytes(value)).await?;
    txn.commit().await.map(|_| ())
}

async fn put_again(db: &Arc<Db>, key: &str, value: &str) -> Result<(), TxnError> {
    loop {
        let outcome = put(db, key, value).await;
        if !is_retried(&outcome) {
            return outcome;
        }
    }
}

#[test]
fn every_gateway_reads_what_every_other_has_written() {
    for seed in 0..10 {
        let cluster = Cluster::new(seed, DbConfig::default());
        cluster.run(async {
            for node in 0..NODES {
                cluster.set_ahead(node, SimRng::stream(seed, &format!("off {node}")).below(MOST_OFF_MICROS));
            }
            cluster.up().await;
            for turn in 0..30 {
                let (writer, reader) = (turn % NODES, (turn / NODES + turn) % NODES);
                let (db, value) = (cluster.db(writer).expect("it runs"), turn.to_string());
                let written = cluster.on(writer, async move { put(&db, "a", &value).await }).await;
                written.expect("it runs").expect("written");
                let db = cluster.db(reader).expect("it runs");
                let found = cluster.on(reader, async move { get(&db, "a").await }).await;
                let expected = Some(bytes(&turn.to_string()));
                assert_eq!(found.expect("it runs").expect("read"), expected, "seed {seed}");
            }
        });
    }
}

/// What clients that do not wait for one another have met with.
#[derive(Default)]
struct Met {
    /// When commits were acknowledged, milliseconds.
    commits: Vec<u64>,
    failures: Vec<TxnError>,
}

/// A client at `node` begins a transaction every few milliseconds, whatever has become of the others, for `ms`;
/// meanwhile `happens`.
async fn open_loop(cluster: &Cluster, node: usize, ms: u64, happens: impl Future<Output = ()>) -> Met {
    let met = Arc::new(Mutex::new(Met::default()));
    let clients = async {
        let end = cluster.now_ms() + ms;
        let mut number = 0;
        while cluster.now_ms() < end {
            cluster.sleep_ms(4).await;
            number += 1;
            let (db, met, key) = (cluster.db(node).expect("it runs"), Arc::clone(&met), number % 5);
            let clock = Arc::clone(&cluster.outside.clock);
            cluster.spawn(node, async move {
                let outcome = put_again(&db, &format!("k{key}"), "1").await;
                let mut met = met.lock();
                match outcome {
                    Ok(()) => met.commits.push(clock.monotonic_nanos() / 1_000_000),
                    Err(error) => met.failures.push(error),
                }
            });
        }
        // Enough for all of them.
        cluster.sleep_ms(2_000).await;
    };
    futures_util::join!(clients, happens);
    std::mem::take(&mut met.lock())
}

/// The longest time without a commit.
fn gap(met: &Met) -> u64 {
    met.commits.windows(2).map(|pair| pair[1] - pair[0]).max().expect("there are commits")
}

/// The longest time without a commit at another node when the leaseholder is killed, or cut off.
fn outage(is_killed: bool) -> u64 {
    let mut longest = 0;
    for seed in seeds(15) {
        let cluster = Cluster::new(seed, DbConfig::default());
        cluster.run(async {
            let leader = cluster.up().await;
            // At any point of its heartbeats.
            cluster.sleep_ms(300 + seed * 37 % 100).await;
            let kill = async {
                cluster.sleep_ms(500).await;
                if is_killed {
                    cluster.crash(leader);
                } else {
                    cluster.isolate(leader);
                }
            };
            let met = open_loop(&cluster, (leader + 1) % NODES, 2_000, kill).await;
            assert!(met.failures.is_empty(), "seed {seed}: {:?}", met.failures);
            println!("seed {seed}: {} ms", gap(&met));
            longest = longest.max(gap(&met));
        });
    }
    longest
}

#[test]
fn a_killed_leaseholder_is_replaced_within_a_second() {
    let longest = outage(true);
    assert!(longest < 1_000, "for {longest} ms nothing was committed");
}

#[test]
fn a_leaseholder_that_is_cut_off_is_replaced_within_a_second() {
    let longest = outage(false);
    assert!(longest < 1_000, "for {longest} ms nothing was committed");
}

#[test]
fn a_lease_that_is_ceded_moves_within_a_tenth_of_a_second() {
    let mut longest = 0;
    for seed in seeds(20) {
        let cluster = Cluster::new(seed, DbConfig::default());
        cluster.run(async {
            let leader = cluster.up().await;
            cluster.sleep_ms(1_000).await;
            // The client is at the old leaseholder, the new one or neither.
            let (node, to) = (seed as usize % NODES, (leader + 1) % NODES);
            let cede = async {
                cluster.sleep_ms(200).await;
                assert!(cluster.cede(leader, to).await);
            };
            let met = open_loop(&cluster, node, 600, cede).await;
            assert!(met.failures.is_empty(), "seed {seed}: {:?}", met.failures);
            println!("seed {seed}: {} ms", gap(&met));
            longest = longest.max(gap(&met));
            assert_eq!(cluster.leader(1).await, to);
        });
    }
    assert!(longest <= 100, "for {longest} ms nothing was committed");
}

/// Clients at every node, and everything that can happen to them, for some virtual seconds. Returns transactions that have committed, and how many have
/// outlived a lease, as far as the nodes know that have not died since.
fn misfortune(seed: u64, faults: Faults) -> Result<(usize, u64), Violation> {
    let rng = Seeded::new(seed ^ 0x5eed);
    let mut weather = Weather::of(&rng);
    if rng.below(2) == 0 {
        weather.thinks_micros = 40_000;
    }
    let weather = Arc::new(weather);
    let config = DbConfig { max_buffer_bytes: weather.max_buffer_bytes, faults, ..DbConfig::default() };
    let cluster = Cluster::new(seed, config);
    let log = Arc::new(Log::default());
    cluster.run(async {
        cluster.up().await;
        let end = cluster.now_ms() + 4_000;
        let nanos = end * 1_000_000;
        let clients_of = |node: usize| {
            for _ in 0..2 {
                let client = Client {
                    db: cluster.db(node).expect("it has just started"),
                    rng: Arc::new(Seeded::new(rng.next_u64())),
                    runtime: Arc::new(cluster.machines[node].env.executor.runtime()),
                    log: Arc::clone(&log),
                    weather: Arc::clone(&weather),
                    endures: true,
                };
                let clock = Arc::clone(&cluster.outside.clock);
                cluster.spawn(node, async move {
                    while clock.monotonic_nanos() < nanos {
                        let pause = Duration::from_micros(client.rng.below(40_000));
                        client.runtime.sleep(pause).await;
                        client.one().await;
                    }
                });
            }
        };
        (0..NODES).for_each(clients_of);
        while cluster.now_ms() < end {
            cluster.sleep_ms(1 + rng.below(150)).await;
            let (one, other) = (rng.below(NODES as u64) as usize, rng.below(NODES as u64) as usize);
            match rng.below(11) {
                10 if weather.collects => {
                    if let Some(db) = cluster.db(one) {
                        // It is done, or not.
                        let collect =
                            async move { drop(db.collect_all_garbage(&CancelToken::default()).await) };
                        cluster.spawn(one, collect);
                    }
                }
                0 => cluster.crash(one),
                1 => cluster.machines[one].env.crash_after_polls(rng.below(200)),
                2 => cluster.isolate(one),
                3 => {
                    let link =
                        Link { cut: rng.below(2) == 0, lost_per_mille: rng.below(300), ..Link::default() };
                    cluster.network.set_link(id(one), id(other), link);
                }
                4 => {
                    let delay_nanos = (10_000, 20_000_000);
                    let link = Link { repeated_per_mille: 300, delay_nanos, ..Link::default() };
                    cluster.network.set_link(id(one), id(other), link);
                }
                5 => cluster.set_ahead(one, rng.below(MOST_OFF_MICROS)),
                6 | 7 => cluster.network.heal(),
                _ => {
                    let leads = |node: &usize| cluster.db(*node).is_some_and(|db| db.has_lease());
                    match (0..NODES).find(leads) {
                        // Who is cut off goes on; who gives way knows that its tenure is over.
                        Some(leader) if faults.serve_after_tenure => cluster.isolate(leader),
                        Some(leader) => {
                            cluster.cede(leader, other).await;
                        }
                        None => {}
                    }
                }
            }
            for node in 0..NODES {
                if cluster.db(node).is_none() && rng.below(2) == 0 {
                    cluster.start(node).await;
                    if cluster.db(node).is_some() {
                        clients_of(node);
                    }
                }
            }
        }
        cluster.network.heal();
        for node in 0..NODES {
            cluster.machines[node].env.crash_after_polls(u64::from(u32::MAX));
            while cluster.db(node).is_none() {
                cluster.start(node).await;
            }
        }
        // Enough for whoever waits, and for what abandoned transactions left to do.
        cluster.sleep_ms(16_000).await;
        for node in 0..NODES {
            let failure = cluster.db(node).and_then(|db| db.store().failure());
            assert_eq!(failure, None, "the store of node {node} has stopped");
        }
        let leader = cluster.leader(3_000).await;
        let engine = &*cluster.machines[leader].engine;
        assert_nothing_is_left(engine, &cluster.db(leader).expect("it leads"));
        let resumed = (0..NODES).filter_map(|node| cluster.db(node)).map(|db| db.resumed_sessions()).sum();
        judge(&log, engine, weather.collects).map(|committed| (committed, resumed))
    })
}

#[test]
fn transactions_are_strictly_serializable_whatever_happens() {
    let (mut committed, mut resumed, seeds) = (0, 0, seeds(30));
    for seed in seeds.clone() {
        match catch_unwind(AssertUnwindSafe(|| misfortune(seed, Faults::default()))) {
            Ok(Ok((count, went_on))) => {
                committed += count as u64;
                resumed += went_on;
            }
            Ok(Err(violation)) => panic!("seed {seed}: {violation}"),
            Err(_) => panic!("seed {seed} panicked"),
        }
    }
    println!("{committed} transactions of {} seeds, {resumed} outlived a lease", seeds.end - seeds.start);
    assert!(resumed > (seeds.end - seeds.start) / 5, "only {resumed} outlived a lease");
    assert!(committed > (seeds.end - seeds.start) * 50, "only {committed} committed");
}

/// Whether a planted fault shows.
fn is_found(faults: Faults) -> bool {
    let fails =
        |seed: &u64| !matches!(catch_unwind(AssertUnwindSafe(|| misfortune(*seed, faults))), Ok(Ok(_)));
    let found = (0..40).find(fails);
    println!("{faults:?}: found in {found:?}");
    found.is_some()
}

#[test]
fn finds_what_is_planted() {
    for faults in [
        Faults { serve_after_tenure: true, ..Faults::default() },
        Faults { own_snapshots: true, ..Faults::default() },
        Faults { no_validation: true, ..Faults::default() },
    ] {
        assert!(is_found(faults), "{faults:?} was not noticed");
    }
}
