//! Three stores in one simulated world: replication, elections, leases, under faults of every kind.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cairn_kv::seam::Runtime;
use cairn_kv::sim::{Link, SimRng};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Faults, ProposeError};

use support::misfortune::misfortune;
use support::world::{MOST_OFF_MICROS, World};
use support::{content, put, read};

#[test]
fn three_stores_elect_a_leader_replicate_and_agree() {
    for seed in 0..20 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            for node in 0..3 {
                world.start(node).await;
            }
            let (leader, took) = world.leader(2_000).await;
            assert!(took < 1_500, "seed {seed}: {took} ms until a leader");
            for i in 0..20 {
                let done = world.put(leader, &format!("k{}", i % 5), &i.to_string(), 1_000).await;
                assert!(matches!(done, Some(Ok(()))), "seed {seed}: {done:?}");
            }
            // An idle leader brings its followers up to date, and keeps its lease.
            world.sleep(1_000).await;
            assert_eq!(world.serving(), [leader], "seed {seed}");
        });
        let contents: Vec<_> = world.machines.iter().map(|m| content(&m.engine)).collect();
        assert!(contents[0] == contents[1] && contents[1] == contents[2], "seed {seed}");
        assert_eq!(read(&*world.machines[0].engine, "k4").as_deref(), Some("19"));
    }
}

#[test]
fn a_killed_leader_is_replaced_within_a_second() {
    let mut longest = 0;
    for seed in 0..60 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            for (node, machine) in world.machines.iter().enumerate() {
                let off = SimRng::stream(seed, &format!("off {node}")).below(MOST_OFF_MICROS);
                machine.env.clock.jump(off as i64);
            }
            let leader = world.up().await;
            world.write(leader, "1").await;
            // At any point of its heartbeats.
            world.sleep(seed * 7 % 300).await;
            world.crash(leader);
            let (next, took) = world.leader(2_000).await;
            longest = longest.max(took);
            world.write(next, "2").await;
            // The killed one comes back and catches up.
            world.start(leader).await;
            world.sleep(1_500).await;
        });
        for machine in &world.machines {
            assert_eq!(read(&*machine.engine, "k").as_deref(), Some("2"), "seed {seed}");
        }
    }
    assert!(longest <= 900, "the longest outage was {longest} ms");
}

/// A leader closes timestamps over a network that loses and delays; whether a replica has said that it has all of the
/// past when it had not, and how often one had not heard or not applied enough.
fn closing(seed: u64, faults: Faults) -> (bool, u32) {
    let world = World::new(seed, faults);
    let (mut wrong, mut waiting) = (false, 0);
    world.run(async {
        let leader = world.up().await;
        let store = world.store(leader).expect("it leads");
        let link = Link { lost_per_mille: 300, delay_nanos: (30_000, 20_000_000), ..Link::default() };
        for other in (0..3).filter(|n| *n != leader) {
            world.network.set_link(world.ids[leader], world.ids[other], link);
        }
        for i in 0..60_u64 {
            world.write(leader, &i.to_string()).await;
            let upto = store.hlc().reading();
            store.close_past(FIRST_RANGE, upto).await.expect("it leads");
            world.sleep(SimRng::stream(seed, &format!("pause {i}")).below(30)).await;
            for node in 0..3 {
                let follower = world.store(node).expect("it runs");
                if follower.complete(FIRST_RANGE).is_some_and(|complete| complete.upto >= upto) {
                    wrong |= read(&*world.machines[node].engine, "k") != Some(i.to_string());
                } else {
                    waiting += 1;
                }
            }
        }
        world.calm();
        world.sleep(1_000).await;
        // What waits for its entry goes before what is said now.
        for _ in 0..2 {
            store.close_past(FIRST_RANGE, store.hlc().reading()).await.expect("it leads");
            world.sleep(500).await;
        }
        for node in 0..3 {
            let complete = world.store(node).expect("it runs").complete(FIRST_RANGE);
            let since = complete.map_or(u64::MAX, |c| store.hlc().reading().micros() - c.upto.micros());
            assert!(since < 1_200_000, "seed {seed}: node {node}: {complete:?}");
        }
    });
    (wrong, waiting)
}

#[test]
fn what_is_closed_is_in_every_replica_that_says_so() {
    let runs: Vec<_> = (0..40).map(|seed| closing(seed, Faults::default())).collect();
    assert!(runs.iter().all(|(wrong, _)| !wrong));
    let waiting: u32 = runs.iter().map(|(_, waiting)| waiting).sum();
    assert!(waiting > 100, "the word came before its entry, or was lost, {waiting} times only");
    let early = Faults { close_early: true, ..Faults::default() };
    assert!((0..40).any(|seed| closing(seed, early).0), "the planted bug is not found");
}

#[test]
fn leaders_that_gave_way_to_one_another_do_not_wait_for_one_another() {
    let mut gave_way = 0;
    for seed in 0..20 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            let first = world.up().await;
            let (second, third) = ((first + 1) % 3, (first + 2) % 3);
            world.write(first, "1").await;
            // It follows the first, and votes for nobody for half a second.
            world.crash(second);
            world.start(second).await;
            world.sleep(250).await;
            world.write(first, "2").await;
            let cede = |from: usize, to: usize| {
                let (store, to) = (world.store(from).expect("it runs"), world.ids[to]);
                world.spawn(from, async move { drop(store.cede(FIRST_RANGE, to).await) });
            };
            cede(first, second);
            let asked = world.now_ms();
            while world.serving() != [second] {
                world.sleep(1).await;
                if world.now_ms() > asked + 200 {
                    // It was behind still.
                    return;
                }
            }
            gave_way += 1;
            world.write(second, "3").await;
            // Whom it gives way to then wins no vote.
            world.cut(third, first);
            cede(second, third);
            world.sleep(100).await;
            world.crash(third);
            world.start(third).await;
            world.calm();
            let (leader, took) = world.leader(3_000).await;
            assert!(took < 2_000, "seed {seed}: {took} ms");
            world.write(leader, "4").await;
        });
    }
    assert!(gave_way > 4, "{gave_way} of 20");
}

#[test]
fn an_idle_cluster_with_its_leader_cut_off_moves_on_and_the_old_leader_stops_serving() {
    for seed in 0..30 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            let old = world.up().await;
            world.write(old, "1").await;
            world.sleep(3_000).await;
            for other in (0..3).filter(|n| *n != old) {
                world.cut(old, other);
                if seed % 2 == 0 {
                    world.cut(other, old);
                }
            }
            // Until the others serve, and on: never two.
            let begun = world.now_ms();
            let mut moved = None;
            while world.now_ms() - begun < 2_000 {
                let serving = world.serving();
                assert!(serving.len() < 2, "seed {seed}: {serving:?} serve");
                if moved.is_none() && serving.first().is_some_and(|node| *node != old) {
                    moved = Some(world.now_ms() - begun);
                }
                world.sleep(1).await;
            }
            assert!(moved.is_some_and(|ms| ms <= 1_000), "seed {seed}: {moved:?}");
        });
    }
}

#[test]
fn no_misfortune_loses_a_write_or_has_two_serve() {
    let mut commits = 0;
    for seed in 0..60 {
        match misfortune(&World::new(seed, Faults::default()), false) {
            Ok(done) => commits += done.commits,
            Err(what) => panic!("{what}"),
        }
    }
    assert!(commits > 60 * 25, "only {commits} writes were acknowledged");
}

/// A store restarts while a leader relies on its promise alone; says whether two then serve at once.
fn two_serve_after_a_restart(seed: u64, faults: Faults) -> bool {
    let world = World::new(seed, faults);
    world.run(async {
        let leader = world.up().await;
        world.sleep(200 + seed * 13 % 100).await;
        let (supporter, other) = ((leader + 1) % 3, (leader + 2) % 3);
        for (from, to) in [(leader, other), (other, leader)] {
            world.cut(from, to);
        }
        // The other one's promise ends; the supporter made its last one much later.
        world.sleep(480).await;
        world.crash(supporter);
        for (from, to) in [(leader, supporter), (supporter, leader)] {
            world.cut(from, to);
        }
        world.start(supporter).await;
        if world.two_serve(1_500).await {
            return true;
        }
        assert!(!world.serving().is_empty() && world.serving() != [leader], "seed {seed}: nobody took over");
        false
    })
}

#[test]
fn a_restarted_store_keeps_what_it_promised() {
    assert_eq!((0..20).find(|seed| two_serve_after_a_restart(*seed, Faults::default())), None);
    for forgetful in [
        Faults { free_after_restart: true, ..Faults::default() },
        Faults { skip_support_sync: true, ..Faults::default() },
    ] {
        let found = (0..40).find(|seed| two_serve_after_a_restart(*seed, forgetful));
        assert!(found.is_some(), "{forgetful:?} cannot be told");
    }
}

#[test]
fn a_leader_that_speaks_and_does_not_hear_is_replaced_within_two_seconds() {
    for seed in 0..60 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            let old = world.up().await;
            // At any point of its heartbeats, and of its attempts to reach followers that say nothing.
            world.sleep(1_000 + seed * 13 % 400).await;
            for other in (0..3).filter(|node| *node != old) {
                world.cut(other, old);
            }
            // It has something to say all the time.
            let store = world.store(old).expect("it runs");
            let runtime = world.machines[old].env.executor.runtime();
            let busy = async move {
                for i in 0..2_000 {
                    let (store, pause) = (Arc::clone(&store), runtime.sleep(Duration::from_millis(2)));
                    let key = format!("k{}", i % 7);
                    runtime.spawn("client", Box::pin(async move { drop(put(&store, &key, "v").await) }));
                    pause.await;
                }
            };
            world.spawn(old, busy);
            world.replaced(old, 2_000).await;
        });
    }
}

/// One follower withdraws its support, and the leader asks for the next epoch; the other follower's promise for
/// the earlier one still counts.
#[test]
fn a_promise_outlasts_the_epoch_that_another_store_has_given_up() {
    for seed in 0..100 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            let old = world.up().await;
            let (with, without) = ((old + 1) % 3, (old + 2) % 3);
            world.cut(old, without);
            world.cut(without, old);
            world.sleep(1_500 + seed * 7 % 100).await;
            world.network.heal();
            world.cut(with, old);
            world.sleep(60 + seed % 150).await;
            world.cut(old, with);
            world.cut(old, without);
            world.cut(without, old);
            assert!(!world.two_serve(600).await, "seed {seed}: {:?} serve", world.serving());
        });
    }
}

#[test]
fn slow_disks_do_not_starve_liveness() {
    let world = World::new(1, Faults::default());
    world.run(async {
        world.up().await;
        for machine in &world.machines {
            machine.env.disk.set_sync_nanos(60_000_000, 60_000_001);
        }
        world.sleep(10_000).await;
        let mut served = 0;
        for _ in 0..1_000 {
            served += world.serving().len();
            world.sleep(5).await;
        }
        // One sync in a hundred takes twenty times as long.
        assert!(served > 750, "somebody served at {served} of 1000 looks");
    });
}

#[test]
fn a_leader_gives_way_within_a_tenth_of_a_second() {
    for seed in 0..30 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            let old = world.up().await;
            world.write(old, "1").await;
            let to = (old + 1 + seed as usize % 2) % 3;
            let store = world.store(old).expect("it runs");
            // It has to have what is committed.
            while store.progress(FIRST_RANGE).await.expect("it leads")[to].matched < 3 {
                world.sleep(1).await;
            }
            let refused = store.cede(FIRST_RANGE, 9).await;
            assert!(matches!(refused, Err(ProposeError::Unavailable(_))), "{refused:?}");
            assert_eq!(world.serving(), [old]);
            let begun = world.now_ms();
            let under_way = world.put(old, "k", "2", 1_000);
            let (ceded, under_way) = futures_util::join!(store.cede(FIRST_RANGE, world.ids[to]), under_way);
            ceded.expect("it leads");
            let (next, _) = world.leader(1_000).await;
            let gap = world.now_ms() - begun;
            assert!(next == to && gap <= 100, "seed {seed}: {next} serves after {gap} ms");
            // What was under way is done or was refused, and it is known which.
            let found = read(&**world.store(to).expect("it runs").engine(), "k");
            let done = matches!(under_way, Some(Ok(())));
            let refused = matches!(under_way, Some(Err(ProposeError::Unavailable(_))));
            assert!(
                done && found.as_deref() == Some("2") || refused && found.as_deref() == Some("1"),
                "{under_way:?}"
            );
        });
    }
}

/// A leader gives way and hears nothing any more; says whether two then serve at once.
fn two_serve_after_ceding(seed: u64, faults: Faults) -> bool {
    let world = World::new(seed, faults);
    world.run(async {
        let old = world.up().await;
        world.write(old, "1").await;
        world.sleep(200).await;
        for other in (0..3).filter(|node| *node != old) {
            world.cut(other, old);
        }
        let to = (old + 1) % 3;
        world.store(old).expect("it runs").cede(FIRST_RANGE, world.ids[to]).await.expect("it leads");
        if world.two_serve(1_000).await {
            return true;
        }
        assert_eq!(world.serving(), [to], "seed {seed}");
        false
    })
}

#[test]
fn a_leader_that_gave_way_serves_no_more() {
    assert_eq!((0..20).find(|seed| two_serve_after_ceding(*seed, Faults::default())), None);
    let stubborn = Faults { serve_after_ceding: true, ..Faults::default() };
    assert!((0..20).any(|seed| two_serve_after_ceding(seed, stubborn)), "it can be told");
}

#[test]
fn a_leader_that_gave_way_in_vain_leads_again() {
    for seed in 0..10 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            let old = world.up().await;
            world.write(old, "1").await;
            world.sleep(200).await;
            let to = (old + 1) % 3;
            world.crash(to);
            world
                .store(old)
                .expect("it runs")
                .cede(FIRST_RANGE, world.ids[to])
                .await
                .expect("it is not known yet");
            let (next, gap) = world.leader(1_500).await;
            assert!(next == old, "seed {seed}: {next} after {gap} ms");
        });
    }
}

#[test]
fn a_leader_whose_disk_hangs_is_replaced_within_two_seconds() {
    for seed in 0..20 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            let old = world.up().await;
            world.write(old, "1").await;
            world.machines[old].env.disk.set_sync_nanos(60_000_000_000, 60_000_000_000);
            assert!(world.put(old, "k", "2", 100).await.is_none(), "seed {seed}: nothing is synced");
            let next = world.replaced(old, 1_900).await;
            world.write(next, "3").await;
            assert_eq!(world.serving(), [next], "seed {seed}");
        });
    }
}

#[test]
fn a_node_whose_clock_is_off_stops_itself_and_the_others_go_on() {
    for seed in 0..20 {
        let world = World::new(seed, Faults::default());
        world.run(async {
            let leader = world.up().await;
            let off = if seed.is_multiple_of(2) { leader } else { (leader + 1) % 3 };
            let by = if seed % 4 < 2 { 1 } else { -1 };
            world.machines[off].env.clock.jump(by * 90_000);
            world.sleep(1_500).await;
            let failure = world.store(off).and_then(|store| store.failure()).unwrap_or_default();
            assert!(failure.contains("clock is off by at least"), "seed {seed}: {failure:?}");
            let (next, _) = world.leader(1_000).await;
            assert_ne!(next, off);
            for node in (0..3).filter(|node| *node != off) {
                assert_eq!(world.store(node).and_then(|store| store.failure()), None, "seed {seed}");
            }
        });
    }
}

#[test]
fn planted_bugs_are_found() {
    let none = Faults::default();
    for faults in [
        Faults { skip_sync: true, ..none },
        Faults { serve_beyond_support: true, ..none },
        Faults { ignore_promises: true, ..none },
        Faults { lease_of_older_term: true, ..none },
        Faults { propose_twice: true, ..none },
        Faults { forward_proposals: true, ..none },
    ] {
        let found = (0..200).find(|seed| {
            let run = std::panic::AssertUnwindSafe(|| misfortune(&World::new(*seed, faults), false));
            !matches!(std::panic::catch_unwind(run), Ok(Ok(_)))
        });
        println!("{faults:?}: found in {found:?}");
        assert!(found.is_some(), "{faults:?} was not noticed");
    }
}
