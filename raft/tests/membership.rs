//! Stores in one simulated world whose range gets and loses replicas: snapshots, changes of voters, truncation.

mod support;

use std::sync::Arc;

use cairn_kv::engine::{Cf, Engine};
use cairn_kv::local_keys;
use cairn_kv::seam::NodeId;
use cairn_kv::sim::{Link, Machine, SimRng};
use cairn_raft::debug::dump_log;
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Faults, ReplicaProgress, Store};

use support::misfortune::{Run, misfortune};
use support::world::World;
use support::{content, read};

/// Tables of a few hundred bytes, and a log that is cut often.
fn small_snapshots(mut world: World) -> World {
    let snapshot = &mut world.config.snapshot;
    (snapshot.piece_bytes, snapshot.table_bytes, snapshot.window_bytes) = (300, 900, 1_500);
    world.config.flush_keys = 40;
    world.config.log_bytes_for_followers = 4 << 10;
    world
}

/// The number, and a tail.
fn value_of(number: u64) -> String {
    format!("{number} {}", "x".repeat(number as usize % 10 * 10))
}

/// Writes through `node`, or whoever leads if that changes.
async fn fill(world: &World, mut node: usize, keys: u64) {
    let mut refused = 0;
    let mut number = 0;
    while number < keys {
        let done = world.put(node, &format!("k{:03}", number % 60), &value_of(number), 1_000).await;
        if matches!(done, Some(Ok(()))) {
            number += 1;
            continue;
        }
        refused += 1;
        assert!(refused < 5, "seed {}: {done:?}", world.outside.seed);
        (node, _) = world.leader(5_000).await;
    }
}

/// What the leader says of a store's replica.
async fn progress_of(store: &Store, of: NodeId) -> Option<ReplicaProgress> {
    store.progress(FIRST_RANGE).await?.into_iter().find(|p| p.store == of)
}

/// Gives the range replicas on these stores, and makes them its voters, however long that takes. Stores may crash.
async fn grow(world: &World, voters: &[NodeId], limit_ms: u64) {
    let (begun, mut refused) = (world.now_ms(), String::new());
    loop {
        let seed = world.outside.seed;
        assert!(world.now_ms() - begun < limit_ms, "seed {seed}: not after {limit_ms} ms: {refused}");
        world.sleep(10).await;
        for node in 0..world.ids.len() {
            if world.store(node).is_none() {
                world.start(node).await;
            }
        }
        let Some(&leader) = world.serving().first() else { continue };
        let Some(store) = world.store(leader) else { continue };
        let descriptor = store.descriptor(FIRST_RANGE).expect("it leads");
        let stores: Vec<NodeId> = descriptor.replicas.iter().map(|r| r.store).collect();
        // As a task of the node, so that it shares its fate.
        let wanted = voters.to_vec();
        let done = Arc::new(parking_lot::Mutex::new(None));
        let slot = Arc::clone(&done);
        let step = async move {
            for missing in wanted.iter().filter(|id| !stores.contains(id)) {
                if let Err(error) = store.add_learner(FIRST_RANGE, *missing).await {
                    *slot.lock() = Some(Err(error));
                    return;
                }
            }
            let changed = store.change_voters(FIRST_RANGE, &wanted).await;
            *slot.lock() = Some(changed);
        };
        world.spawn(leader, step);
        for _ in 0..50 {
            world.sleep(10).await;
            let outcome = done.lock().take();
            match outcome {
                Some(Ok(())) => return,
                Some(Err(error)) => {
                    let seen = world.progress(leader).await;
                    refused = format!("{error}; {seen:?}");
                    break;
                }
                None => {}
            }
        }
    }
}

/// All replicas have the same.
async fn assert_equal(world: &World, nodes: &[usize]) {
    world.sleep(2_000).await;
    let expected = content(&world.machines[nodes[0]].engine);
    for node in nodes {
        let found = content(&world.machines[*node].engine);
        assert!(found == expected, "seed {}: {node} differs from {}", world.outside.seed, nodes[0]);
    }
}

#[test]
fn a_single_store_with_data_grows_to_three_and_serves_all_the_while() {
    for seed in 0..20 {
        let world = small_snapshots(World::joining(seed, Faults::default(), 3));
        world.run(async {
            let first = world.up().await;
            assert_eq!(first, 0);
            fill(&world, 0, 150).await;
            let store = world.store(0).expect("it runs");
            assert_eq!(store.progress(FIRST_RANGE).await.map(|p| p.len()), Some(1));
            let growing = grow(&world, &[1, 2, 3], 20_000);
            let watching = async {
                let mut gaps = 0;
                for _ in 0..400 {
                    world.sleep(5).await;
                    gaps += u32::from(world.serving() != [0]);
                }
                gaps
            };
            let ((), gaps) = futures_util::join!(growing, watching);
            assert!(gaps < 10, "seed {seed}: nobody served at {gaps} of 400 looks");
            fill(&world, 0, 20).await;
            assert_equal(&world, &[0, 1, 2]).await;
            let progress = store.progress(FIRST_RANGE).await.expect("it leads");
            assert!(
                progress.iter().all(|p| !p.needs_snapshot && p.matched == progress[0].matched),
                "{progress:?}"
            );
            // Any two go on without the third.
            world.crash(0);
            let next = world.replaced(0, 2_000).await;
            fill(&world, next, 10).await;
            world.start(0).await;
            assert_equal(&world, &[0, 1, 2]).await;
        });
    }
}

#[test]
fn a_follower_that_was_cut_off_for_long_comes_back_by_a_snapshot() {
    for seed in 0..20 {
        let world = small_snapshots(World::new(seed, Faults::default()));
        world.run(async {
            let leader = world.up().await;
            fill(&world, leader, 20).await;
            let off = (leader + 1) % 3;
            let store = world.store(leader).expect("it runs");
            store.close_past(FIRST_RANGE, store.hlc().reading()).await.expect("it leads");
            world.sleep(300).await;
            let follower = world.store(off).expect("it runs");
            let before = follower.complete(FIRST_RANGE).expect("it was told");
            world.isolate(off);
            fill(&world, leader, 300).await;
            let progress = progress_of(&store, world.ids[off]).await.expect("it leads");
            assert!(progress.needs_snapshot, "seed {seed}: {progress:?}");
            assert!(
                progress.silent.is_none_or(|silent| silent.as_millis() > 100),
                "seed {seed}: {progress:?}"
            );
            world.network.heal();
            let begun = world.now_ms();
            loop {
                world.sleep(20).await;
                // Whoever leads now: the one that was cut off does not disturb.
                let Some(&leader) = world.serving().first() else { continue };
                let progress = progress_of(&world.store(leader).expect("it runs"), world.ids[off]).await;
                if progress.is_some_and(|p| !p.needs_snapshot && p.matched > 300) {
                    break;
                }
                assert!(world.now_ms() - begun < 5_000, "seed {seed}: {progress:?}");
            }
            assert!(
                !follower.is_still(FIRST_RANGE, before),
                "seed {seed}: a reader could have seen half of it"
            );
            assert_eq!(follower.complete(FIRST_RANGE), None, "seed {seed}");
            assert_equal(&world, &[0, 1, 2]).await;
            // Its staged tables are gone once it has flushed.
            let returned = world.store(off).expect("it runs");
            returned.flush().await.expect("flushes");
            assert_eq!(returned.engine().staged().expect("readable"), Vec::<String>::new());
        });
    }
}

/// A single store grows to three while something happens to them; says what is wrong.
fn growth(seed: u64, faults: Faults) {
    let world = small_snapshots(World::joining(seed, faults, 3));
    let rng = SimRng::stream(seed, "growth");
    world.run(async {
        world.up().await;
        fill(&world, 0, 100).await;
        let nemesis = async {
            for _ in 0..4 {
                world.sleep(rng.between(1, 300)).await;
                let node = rng.below(3) as usize;
                match rng.below(6) {
                    0 | 1 => world.machines[node].env.crash_after_polls(rng.below(400)),
                    2 | 3 => world.machines[node].env.crash_after_operations(rng.below(40) as u32),
                    4 => {
                        let link = Link { lost_per_mille: 300, repeated_per_mille: 100, ..Link::default() };
                        world.network.set_link(world.ids[node], world.ids[(node + 1) % 3], link);
                        world.network.set_link(world.ids[(node + 1) % 3], world.ids[node], link);
                    }
                    _ => {
                        world.isolate(node);
                        world.sleep(rng.between(100, 1_500)).await;
                        world.network.heal();
                    }
                }
            }
            world.sleep(1_000).await;
            world.calm();
        };
        futures_util::join!(grow(&world, &[1, 2, 3], 60_000), nemesis);
        for node in 0..3 {
            while world.store(node).is_none() {
                world.start(node).await;
            }
        }
        let (leader, _) = world.leader(5_000).await;
        fill(&world, leader, 5).await;
        assert_equal(&world, &[0, 1, 2]).await;
        for node in 0..3 {
            let failure = world.store(node).and_then(|store| store.failure());
            assert_eq!(failure, None, "seed {seed}: {node}");
            let machine = &world.machines[node];
            assert_eq!(read(&*machine.engine, "k004"), Some(value_of(4)), "seed {seed}: {node}");
            assert_eq!(read(&*machine.engine, "k030"), Some(value_of(90)), "seed {seed}: {node}");
        }
        // And so it is after a restart.
        for node in 0..3 {
            world.crash(node);
        }
        for node in 0..3 {
            world.start(node).await;
        }
        world.leader(5_000).await;
        assert_equal(&world, &[0, 1, 2]).await;
    });
}

#[test]
fn a_snapshot_arrives_whatever_crashes_or_is_lost_meanwhile() {
    for seed in 0..150 {
        growth(seed, Faults::default());
    }
}

/// A store takes a snapshot, crashes at one of its operations meanwhile, recovers, and ends with what the sender has, also
/// after one more crash.
fn received(operation: u32) -> World {
    let mut world = small_snapshots(World::joining(7, Faults::default(), 2));
    world.describe = Some(what_is_left);
    world.run(async {
        world.up().await;
        fill(&world, 0, 100).await;
        // Its next operations are those of receiving and going over to the snapshot.
        world.machines[1].env.crash_after_operations(operation);
        grow(&world, &[1, 2], 20_000).await;
        world.calm();
        world.leader(5_000).await;
        assert_equal(&world, &[0, 1]).await;
        world.crash(1);
        world.start(1).await;
        assert_equal(&world, &[0, 1]).await;
    });
    world
}

#[test]
fn a_crash_of_the_receiver_at_any_operation_is_recovered_from() {
    let crashes: u32 = (0..40).map(|operation| received(operation).crashes.get()).sum();
    assert!(crashes > 40 + 30, "{crashes} crashes");
}

/// What is left of a snapshot on a machine that has crashed.
fn what_is_left(machine: &Machine) -> String {
    let staged = machine.engine.staged().expect("readable").len();
    let mut log = String::new();
    // A record that was torn by the crash ends it.
    let _ = dump_log(&*machine.env.seams().disk, &mut log);
    let marker = match (log.rfind("becomes snapshot"), log.rfind("is flushed behind its marker")) {
        (None, _) => "no marker",
        (begun, ended) if begun > ended => "a marker",
        _ => "an ended marker",
    };
    let mut state = Vec::new();
    let key = local_keys::range_state(FIRST_RANGE);
    let is_flushed = machine.engine.get_flushed(Cf::Local, &key, &mut state).expect("readable");
    let engine = if is_flushed { "the snapshot's state" } else { "nothing" };
    format!("{staged} tables staged, {marker} in the log, {engine} in the engine")
}

/// The steps of a replica that goes over to a snapshot (R9, `raft/src/snapshot`): what is durable when the receiver's
/// store crashes at each of its operations.
struct SnapshotScript;

impl goldenscript::Runner for SnapshotScript {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn std::error::Error>> {
        // receive crashes=N: one run for each of the receiver's first N operations, at which it crashes. It recovers, and
        // ends with what the sender has.
        let mut args = command.consume_args();
        let crashes: u32 = args.take_key("crashes").ok_or("how many?")?.parse()?;
        args.reject_next()?;
        let mut lines: Vec<(u32, u32, String)> = Vec::new();
        for operation in 0..crashes {
            let world = received(operation);
            let left = world.described.borrow().first().cloned().unwrap_or("it was done".into());
            match lines.last_mut() {
                Some((_, last, known)) if *known == left => *last = operation,
                _ => lines.push((operation, operation, left)),
            }
        }
        let line = |(first, last, left): (u32, u32, String)| format!("{first} to {last}: {left}\n");
        Ok(lines.into_iter().map(line).collect())
    }
}

#[test]
fn what_a_crash_leaves_of_a_snapshot() -> Result<(), Box<dyn std::error::Error>> {
    Ok(goldenscript::run(&mut SnapshotScript, "tests/snapshot_script")?)
}

#[test]
fn planted_bugs_of_snapshots_are_found() {
    let none = Faults::default();
    for faults in [Faults { snapshot_without_history: true, ..none }, Faults { no_redo_marker: true, ..none }]
    {
        let found = (0..600).any(|seed| {
            let run = std::panic::AssertUnwindSafe(|| growth(seed, faults));
            std::panic::catch_unwind(run).is_err()
        });
        assert!(found, "{faults:?} was not noticed");
    }
}

#[test]
fn no_change_of_replicas_loses_a_write_or_has_two_serve() {
    let mut all = Run::default();
    for seed in 0..200 {
        let world = small_snapshots(World::joining(seed, Faults::default(), 4));
        match misfortune(&world, true) {
            Ok(Run { commits, changes, snapshots }) => {
                all.commits += commits;
                all.changes += changes;
                all.snapshots += snapshots;
            }
            Err(what) => panic!("{what}"),
        }
    }
    assert!(all.commits > 200 * 20 && all.changes > 200 * 3 && all.snapshots > 200, "{all:?}");
}

#[test]
fn a_planted_bug_of_changes_is_found() {
    let faults = Faults { forget_commits: true, ..Faults::default() };
    let found = (0..600).any(|seed| {
        let world = small_snapshots(World::joining(seed, faults, 4));
        let run = std::panic::AssertUnwindSafe(|| misfortune(&world, true));
        !matches!(std::panic::catch_unwind(run), Ok(Ok(_)))
    });
    assert!(found, "{faults:?} was not noticed");
}

/// A store that was the only voter leads two more, and is cut off; says whether two then serve at once.
fn two_serve_after_growing(seed: u64, faults: Faults) -> bool {
    let world = small_snapshots(World::joining(seed, faults, 3));
    world.run(async {
        world.up().await;
        fill(&world, 0, 30).await;
        grow(&world, &[1, 2, 3], 20_000).await;
        world.sleep(seed * 7 % 200).await;
        world.isolate(0);
        if world.two_serve(2_000).await {
            return true;
        }
        let serving = world.serving();
        assert!(serving == [1] || serving == [2], "seed {seed}: {serving:?} serve");
        false
    })
}

#[test]
fn a_leader_counts_by_its_new_voters() {
    assert_eq!((0..20).find(|seed| two_serve_after_growing(*seed, Faults::default())), None);
    let stubborn = Faults { keep_old_voters: true, ..Faults::default() };
    assert!((0..20).any(|seed| two_serve_after_growing(seed, stubborn)), "it can be told");
}

#[test]
fn a_store_without_company_has_no_tasks_and_gets_them_with_its_first_peer() {
    let world = World::joining(1, Faults::default(), 2);
    world.run(async {
        world.start(0).await;
        let idle = world.outside.executor.polls();
        world.sleep(1_000).await;
        assert!(world.outside.executor.polls() - idle < 10, "nothing runs in an idle store that is alone");
        let files = world.machines[0].env.disk.contents();
        assert!(!files.contains_key("support"), "{:?}", files.keys());
        world.start(1).await;
        grow(&world, &[1, 2], 10_000).await;
        assert!(world.machines[0].env.disk.contents().contains_key("support"));
        assert_equal(&world, &[0, 1]).await;
        // And back.
        grow(&world, &[1], 10_000).await;
        let store = world.store(0).expect("it runs");
        store.remove_replica(FIRST_RANGE, 2).await.expect("it has no vote");
        world.sleep(1_000).await;
        assert_eq!(content(&world.machines[1].engine), Vec::new());
        assert!(world.store(1).is_some_and(|store| store.descriptor(FIRST_RANGE).is_none()));
        fill(&world, 0, 10).await;
        // It serves again after a restart, and its removed replica does not come back.
        for node in 0..2 {
            world.crash(node);
            world.start(node).await;
        }
        world.leader(3_000).await;
        fill(&world, 0, 10).await;
        assert_eq!(content(&world.machines[1].engine), Vec::new());
    });
}
