//! The simulator's own promises: one seed, one run; what was synced stays; what was not may go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_kv::seam::{Clock, Runtime};
use cairn_kv::sim::{Env, Faults, Stopped};
use parking_lot::Mutex;

/// Tasks that append their name to a shared list as they take turns.
fn interleaving(seed: u64) -> (Vec<u64>, String) {
    let env = Env::new(seed);
    let order = Arc::new(Mutex::new(Vec::new()));
    let seams = env.seams();
    let left = Arc::new(AtomicU64::new(8));
    let done = Arc::new(tokio::sync::Notify::new());
    for id in 0..8 {
        let (order, left, done, runtime) =
            (Arc::clone(&order), Arc::clone(&left), Arc::clone(&done), Arc::clone(&seams.runtime));
        let task = async move {
            for turn in 0..4 {
                order.lock().push(id);
                if turn % 2 == 0 {
                    runtime.yield_now().await;
                } else {
                    runtime.sleep(Duration::from_micros(50)).await;
                }
            }
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                done.notify_one();
            }
        };
        seams.runtime.spawn("writer", Box::pin(task));
    }
    env.block_on(done.notified());
    let order = order.lock().clone();
    (order, env.trace.digest().0.to_string())
}

#[test]
fn one_seed_is_one_run() {
    let mut seen = BTreeSet::new();
    for seed in 0..20 {
        let (order, digest) = interleaving(seed);
        assert_eq!((order.clone(), digest), interleaving(seed), "seed {seed} did not replay");
        seen.insert(order);
    }
    assert!(seen.len() > 15, "the seed chooses the order: {} different ones", seen.len());
}

#[test]
fn timers_fire_in_virtual_time() {
    let env = Env::new(1);
    let runtime = env.seams().runtime;
    let before = env.clock.wall_micros();
    env.block_on(runtime.sleep(Duration::from_secs(3600)));
    let passed = env.clock.wall_micros() - before;
    assert!((3_600_000_000..3_600_001_000).contains(&passed), "{passed}");
    env.clock.jump(-10_000_000);
    assert!(env.clock.wall_micros() < before + passed - 9_000_000);
    assert!(env.clock.monotonic_nanos() >= 3_600_000_000_000);
}

#[test]
fn blocking_work_runs_as_a_step_of_its_own() {
    let env = Env::new(5);
    let runtime = env.seams().runtime;
    let ran = Arc::new(AtomicU64::new(0));
    let inside = Arc::clone(&ran);
    let work = runtime.blocking("flush", Box::new(move || inside.store(1, Ordering::SeqCst)));
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    env.block_on(work);
    assert_eq!(ran.load(Ordering::SeqCst), 1);
    // Dropping the future does not stop the work.
    let inside = Arc::clone(&ran);
    drop(runtime.blocking("flush", Box::new(move || inside.store(2, Ordering::SeqCst))));
    env.pass(Duration::from_millis(10));
    assert_eq!(ran.load(Ordering::SeqCst), 2);
}

#[test]
fn waiting_for_nothing_is_a_deadlock() {
    let env = Env::new(1);
    let runtime = env.seams().runtime;
    runtime.spawn("stuck", Box::pin(std::future::pending()));
    assert_eq!(env.run(std::future::pending::<()>()), Err(Stopped::Deadlock(vec!["stuck"])));
    env.executor.set_time_limit(Some(Duration::from_secs(1)));
    let ticking = async {
        loop {
            runtime.sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(env.run(ticking), Err::<(), _>(Stopped::TimedOut(vec!["stuck"])));
}

#[test]
fn a_crash_drops_tasks_where_they_stand_and_makes_their_seams_inert() {
    struct SpawnsWhenDropped(Arc<dyn Runtime>, Arc<AtomicU64>);
    impl Drop for SpawnsWhenDropped {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
            let late = Arc::clone(&self.1);
            self.0.spawn("late", Box::pin(async move { late.store(100, Ordering::SeqCst) }));
        }
    }
    for seed in 0..50 {
        let env = Env::new(seed);
        let seams = env.seams();
        let drops = Arc::new(AtomicU64::new(0));
        let guard = SpawnsWhenDropped(Arc::clone(&seams.runtime), Arc::clone(&drops));
        let ticking = async move {
            loop {
                guard.0.sleep(Duration::from_micros(10)).await;
            }
        };
        seams.runtime.spawn("ticking", Box::pin(ticking));
        env.crash_after_polls(seed);
        assert_eq!(env.run(std::future::pending::<()>()), Err(Stopped::Crashed));
        assert_eq!(drops.load(Ordering::SeqCst), 1, "dropped once");
        assert!(seams.disk.open("x", true).is_err(), "the old handle is dead");
        env.pass(Duration::from_millis(1));
        assert_eq!(drops.load(Ordering::SeqCst), 1, "what a destructor spawned never runs");
        assert!(env.seams().disk.open("x", true).is_ok(), "the next incarnation works");
    }
}

#[test]
fn synced_bytes_stay_and_later_ones_may_be_torn() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let env = Env::new(seed);
        let disk = env.seams().disk;
        env.block_on(async {
            let file = disk.open("log", true).unwrap();
            disk.sync_dir().await.unwrap();
            file.write_at(0, &[1; 2000]).unwrap();
            file.sync().await.unwrap();
            file.write_at(500, &[2; 2000]).unwrap();
            assert_eq!(file.len().unwrap(), 2500);
        });
        assert_eq!(env.disk.unsynced_bytes(), 2000);
        env.crash();
        let content = &env.disk.contents()["log"];
        assert!(content.len() >= 2000);
        assert!(content[..500].iter().all(|b| *b == 1), "synced and not overwritten");
        assert!(content[500..2000].iter().all(|b| *b == 1 || *b == 2), "old or new, byte by byte");
        outcomes.insert(content.iter().filter(|b| **b == 2).count());
    }
    assert!(outcomes.contains(&0) && outcomes.contains(&2000), "all or nothing is possible");
    assert!(outcomes.len() > 30, "and so are torn writes: {}", outcomes.len());
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    let env = Env::new(3);
    let disk = env.seams().disk;
    env.block_on(async {
        let file = disk.open("log", true).unwrap();
        disk.sync_dir().await.unwrap();
        file.write_at(0, b"before").unwrap();
        let mut sync = file.sync();
        // The sync is under way.
        std::future::poll_fn(|context| {
            assert!(sync.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        file.write_at(6, b"behind").unwrap();
        sync.await.unwrap();
    });
    assert_eq!(env.disk.unsynced_bytes(), 6);
}

#[test]
fn a_crash_during_a_sync_may_lose_its_bytes() {
    let mut kept = BTreeSet::new();
    for seed in 0..100 {
        let env = Env::new(seed);
        let disk = env.seams().disk;
        env.block_on(async {
            disk.open("log", true).unwrap();
            disk.sync_dir().await.unwrap();
        });
        env.crash_after_polls(1);
        let answer = env.run(async {
            let file = disk.open("log", false).unwrap();
            file.write_at(0, b"x").unwrap();
            file.sync().await
        });
        assert!(matches!(answer, Err(Stopped::Crashed)));
        kept.insert(env.disk.contents()["log"].len());
    }
    assert_eq!(kept, BTreeSet::from([0, 1]));
}

#[test]
fn directory_changes_survive_up_to_some_point_in_their_order() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let env = Env::new(seed);
        let disk = env.seams().disk;
        env.block_on(async {
            let file = disk.open("a", true).unwrap();
            file.write_at(0, b"a").unwrap();
            file.sync().await.unwrap();
            disk.sync_dir().await.unwrap();
            disk.rename("a", "b").unwrap();
            disk.open("c", true).unwrap();
            disk.remove("b").unwrap();
            assert_eq!(disk.list().unwrap(), ["c"]);
        });
        env.crash();
        outcomes.insert(env.seams().disk.list().unwrap().concat());
    }
    assert_eq!(outcomes, BTreeSet::from(["a", "b", "bc", "c"].map(String::from)));
}

#[test]
fn a_power_cut_takes_effect_at_the_operation() {
    let env = Env::new(9);
    let disk = env.seams().disk;
    env.disk.set_sync_nanos(0, 0);
    env.block_on(async {
        disk.open("log", true).unwrap();
        disk.sync_dir().await.unwrap();
    });
    env.crash_after_operations(2);
    let executor = env.executor.clone();
    let answer = env.run(async move {
        let file = disk.open("log", false).unwrap();
        for (at, powered) in [(0, true), (1, true), (2, false), (3, false)] {
            if at % 2 == 0 {
                file.write_at(at, &[at as u8]).unwrap();
            } else {
                file.sync().await.unwrap();
            }
            assert_eq!(executor.is_powered(), powered, "operation {at}");
        }
        std::future::pending::<()>().await;
    });
    assert_eq!(answer, Err(Stopped::Crashed));
    assert_eq!(env.disk.contents()["log"], [0], "the second write and sync came after the cut");
}

#[test]
fn failures_on_demand() {
    let env = Env::new(4);
    let disk = env.seams().disk;
    env.block_on(async {
        let file = disk.open("log", true).unwrap();
        env.disk.set_faults(Faults { capacity_bytes: Some(10), ..Faults::default() });
        file.write_at(0, &[7; 10]).unwrap();
        assert!(file.write_at(5, &[8; 6]).unwrap_err().to_string().contains("ENOSPC"));
        assert!(file.set_len(11).is_err());
        env.disk.set_faults(Faults { write_error_after: Some(1), ..Faults::default() });
        file.write_at(0, &[1]).unwrap();
        assert!(file.write_at(0, &[2]).unwrap_err().to_string().contains("EIO"));
        env.disk.set_faults(Faults { sync_error_after: Some(0), ..Faults::default() });
        assert!(file.sync().await.is_err());
        file.sync().await.unwrap();
        disk.sync_dir().await.unwrap();
        env.disk.flip_bit("log", 3, 0).unwrap();
        let mut buf = [0; 10];
        assert_eq!(file.read_at(0, &mut buf).unwrap(), 10);
        assert_eq!(buf, [1, 7, 7, 6, 7, 7, 7, 7, 7, 7]);
        assert_eq!(file.read_at(8, &mut buf).unwrap(), 2);
    });
}
