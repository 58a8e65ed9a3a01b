//! The store on simulated disk, time and tasks: propose, crash, recover.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::effects::{EFFECTS_FORMAT, Effects, RawWrite, ResolveSpan};
use cairn_kv::engine::{Cf, Engine};
use cairn_kv::mvcc::{self, LOCK_FORMAT, LockValue, ProvisionalValue, Strength};
use cairn_kv::sim::{self, Stopped};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Faults, ProposeError, StoreConfig, StoreError};
use futures_util::future::join_all;
use prost::Message as _;

use support::{Machine, OpenStore, content, get, put, small, write};

#[test]
fn what_was_acknowledged_survives_a_crash() {
    let machine = Machine::new(1);
    machine.env.block_on(async {
        let store = machine.open().await;
        for i in 0..10 {
            put(&store, &format!("k{i}"), &format!("v{i}")).await.expect("applied");
        }
        assert_eq!(get(&store, "k3").as_deref(), Some("v3"));
    });
    machine.env.crash();
    machine.env.block_on(async {
        let store = machine.open().await;
        for i in 0..10 {
            assert_eq!(get(&store, &format!("k{i}")), Some(format!("v{i}")));
        }
    });
}

/// When the power fails.
#[derive(Clone, Copy, Debug)]
enum Crash {
    /// At a disk or engine operation.
    Operation(u32),
    /// At an await.
    Poll(u64),
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    let lost = |faults: Faults| {
        (0..90).filter(|n| history_is_lost((*n).into(), 1, Crash::Operation(*n), faults).is_some()).count()
    };
    assert_eq!(lost(Faults::default()), 0);
    assert!(lost(Faults { skip_sync: true, ..Faults::default() }) > 0, "a missing sync must be noticed");
}

#[test]
fn a_crash_at_any_await_loses_nothing_acknowledged() {
    let lost = |faults: Faults| {
        let mut lost = (0..250).map(|n| history_is_lost(n, 5, Crash::Poll(7 + n * 3), faults));
        lost.find_map(|what| what)
    };
    assert_eq!(lost(Faults::default()), None);
    assert!(lost(Faults { skip_sync: true, ..Faults::default() }).is_some(), "no sync");
    assert!(lost(Faults { accept_torn_tail: true, ..Faults::default() }).is_some(), "a torn tail accepted");
}

/// The number, and a tail whose length makes records of one to two blocks.
fn value_of(number: u32) -> String {
    format!("{number} {}", "x".repeat(number as usize % 1000 * 20))
}

/// Runs clients on a store that crashes three times; says what a later open misses of what was
/// acknowledged, or why it refuses.
fn history_is_lost(seed: u64, clients: u32, crash: Crash, faults: Faults) -> Option<String> {
    let machine = Machine::new(seed);
    let config = StoreConfig {
        faults,
        flush_keys: 8 * u64::from(clients),
        segment_bytes: 32 << 10,
        ..StoreConfig::default()
    };
    let acknowledged = parking_lot::Mutex::new(BTreeMap::<String, u32>::new());
    let attempted = parking_lot::Mutex::new(BTreeMap::<String, u32>::new());
    for round in 0..3 {
        match crash {
            Crash::Operation(n) => machine.env.crash_after_operations([n, n / 2 + 3, 40][round as usize]),
            Crash::Poll(n) => machine.env.crash_after_polls([n, n / 2 + 11, 200][round as usize]),
        }
        let result = machine.env.run(async {
            let store = machine.open_with(config.clone()).await?;
            let client = |client: u32| {
                let (store, machine, attempted, acknowledged) = (&store, &machine, &attempted, &acknowledged);
                async move {
                    for i in 0..200 {
                        let (key, value) = (format!("{client}.{}", i % 7), round * 1000 + i);
                        attempted.lock().insert(key.clone(), value);
                        let done = put(store, &key, &value_of(value)).await;
                        // What is answered after the power failed was not answered.
                        if done.is_ok() && machine.env.executor.is_powered() {
                            acknowledged.lock().insert(key, value);
                        }
                    }
                }
            };
            join_all((0..clients).map(client)).await;
            Ok::<(), StoreError>(())
        });
        match result {
            Err(Stopped::Crashed) => {}
            Ok(Ok(())) => machine.env.crash(),
            Ok(Err(refused)) => return Some(refused.to_string()),
            Err(stopped) => panic!("seed {seed}: {stopped:?}"),
        }
        let missing = machine.env.block_on(async {
            let store = match machine.open_with(config.clone()).await {
                Ok(store) => store,
                Err(refused) => return Some(refused.to_string()),
            };
            acknowledged.lock().iter().find_map(|(key, value)| {
                let found = get(&store, key);
                let number: u32 = found
                    .as_deref()
                    .and_then(|v| v.split(' ').next())
                    .and_then(|v| v.parse().ok())
                    .unwrap_or(0);
                // A later attempt without an answer may have taken effect.
                let fine = number >= *value
                    && number <= attempted.lock()[key]
                    && found.as_ref().is_some_and(|found| *found == value_of(number));
                (!fine).then(|| format!("{key}: {value} was acknowledged, {number} is there"))
            })
        });
        if missing.is_some() {
            return missing;
        }
        machine.env.crash();
    }
    None
}

#[test]
fn concurrent_proposers_share_syncs() {
    let machine = Machine::new(2);
    machine.env.block_on(async {
        let store = machine.open().await;
        let before = store.stats();
        join_all((0..32).map(|client| {
            let store = &store;
            async move {
                for i in 0..50 {
                    put(store, &format!("c{client}"), &i.to_string()).await.expect("applied");
                }
            }
        }))
        .await;
        let after = store.stats();
        let (commits, syncs) = (after.commits - before.commits, after.syncs - before.syncs);
        assert_eq!(commits, 32 * 50);
        assert!(syncs * 4 <= commits, "{syncs} syncs for {commits} commits");
    });
}

#[test]
fn an_idle_store_commits_with_one_write_and_one_sync() {
    let machine = Machine::new(3);
    machine.env.block_on(async {
        let store = machine.open_with(StoreConfig::default()).await.expect("opens");
        let before = store.stats();
        for i in 0..20 {
            put(&store, "k", &i.to_string()).await.expect("applied");
        }
        let after = store.stats();
        assert_eq!((after.commits - before.commits, after.syncs - before.syncs), (20, 20));
        assert_eq!(after.log_bytes - before.log_bytes, 20 * 4096);
    });
}

#[test]
fn a_dropped_proposer_leaves_nobody_hanging() {
    for seed in 0..40 {
        let machine = Machine::new(seed);
        machine.env.block_on(async {
            let store = machine.open().await;
            // Each future is polled a few times and dropped at the await where it then stands.
            let mut others = Vec::new();
            for i in 0..12 {
                let mut dropped = Box::pin(put(&store, "dropped", "x"));
                let _ = futures_util::poll!(dropped.as_mut());
                let key = format!("k{i}");
                let mut other = Box::pin(put(&store, &key, "y"));
                let _ = futures_util::poll!(other.as_mut());
                for _ in 0..i % 3 {
                    machine.env.seams().runtime.yield_now().await;
                    let _ = futures_util::poll!(dropped.as_mut());
                }
                drop(dropped);
                others.push(other.await);
            }
            assert!(others.iter().all(Result::is_ok), "seed {seed}: {others:?}");
            // What was dropped was not taken back.
            assert_eq!(get(&store, "dropped").as_deref(), Some("x"));
        });
    }
}

#[test]
fn a_failed_sync_stops_the_store_for_good() {
    let machine = Machine::new(4);
    machine.env.block_on(async {
        let store = machine.open().await;
        put(&store, "k", "1").await.expect("applied");
        machine.env.disk.set_faults(sim::Faults { sync_error_after: Some(0), ..sim::Faults::default() });
        let lease = store.lease(FIRST_RANGE).expect("leads");
        let ts = store.now().await.expect("a timestamp");
        let (first, second) = futures_util::join!(put(&store, "k", "2"), put(&store, "k", "3"));
        assert!(matches!(first, Err(ProposeError::Ambiguous(_))), "{first:?}");
        assert!(second.is_err());
        // The disk works again; the store does not.
        let later = store.propose(FIRST_RANGE, lease, write("k", ts, "4")).await;
        assert!(matches!(later, Err(ProposeError::Unavailable(_))), "{later:?}");
        assert_eq!(store.lease(FIRST_RANGE), None);
        assert!(store.failure().is_some_and(|reason| reason.contains("sync failed")));
        assert!(store.failed().await.contains("sync failed"));
    });
    machine.env.crash();
    machine.env.block_on(async {
        let store = machine.open().await;
        assert!(get(&store, "k").is_some_and(|v| v == "1" || v == "2" || v == "3"));
        put(&store, "k", "5").await.expect("a new life");
    });
}

#[test]
fn timestamps_never_go_back_over_restarts() {
    let goes_back = |faults: Faults| {
        let machine = Machine::new(5);
        let config = StoreConfig { faults, ..small() };
        let mut last = Timestamp::ZERO;
        for _ in 0..5 {
            let now = machine.env.block_on(async {
                let store = machine.open_with(config.clone()).await.expect("opens");
                let first = store.now().await.expect("a timestamp");
                for _ in 0..50 {
                    store.now().await.expect("a timestamp");
                    machine.env.seams().runtime.sleep(Duration::from_millis(100)).await;
                }
                (first, store.now().await.expect("a timestamp"))
            });
            if now.0 <= last {
                return true;
            }
            last = now.1;
            machine.env.crash();
            machine.env.clock.jump(-10_000_000);
        }
        false
    };
    assert!(!goes_back(Faults::default()));
    assert!(goes_back(Faults { hlc_back_after_restart: true, ..Faults::default() }));
}

/// A disk may be slow just when a node starts: that is no reason not to.
#[test]
fn a_first_sync_that_outlasts_the_clocks_bound_is_repeated() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        machine.env.disk.set_sync_nanos(1_000_000, 7_000_000);
        let config = StoreConfig { hlc_lead_micros: 5_000, ..small() };
        machine.env.block_on(async {
            machine.open_with(config).await.expect("opens");
        });
    }
}

#[test]
fn reading_the_clock_costs_few_syncs_and_an_idle_store_none() {
    let machine = Machine::new(6);
    machine.env.block_on(async {
        let store = machine.open().await;
        let runtime = machine.env.seams().runtime;
        let before = store.stats().syncs;
        for _ in 0..1000 {
            store.now().await.expect("a timestamp");
            runtime.sleep(Duration::from_millis(10)).await;
        }
        let used = store.stats().syncs - before;
        assert!((10..=30).contains(&used), "{used} syncs for 10 s of reading with a lead of 1 s");
        let before = store.stats().syncs;
        runtime.sleep(Duration::from_secs(60)).await;
        assert_eq!(store.stats().syncs, before);
    });
}

#[test]
fn flushes_bound_what_is_replayed_and_segments_are_recycled() {
    let machine = Machine::new(7);
    let config = StoreConfig { flush_keys: 50, ..small() };
    let digest = machine.env.block_on(async {
        let store = machine.open_with(config.clone()).await.expect("opens");
        for i in 0..1000 {
            put(&store, &format!("k{}", i % 100), &i.to_string()).await.expect("applied");
        }
        assert!(store.stats().flushes >= 5, "{:?}", store.stats());
        store.flush().await.expect("flushed");
        let files = machine.env.disk.contents();
        assert!(files.len() <= 4, "{:?}", files.keys());
        assert!(files.values().all(|f| f.len() <= 64 << 10));
        content(&machine.engine)
    });
    // Everything is flushed: the engine alone has it, whatever the log replays.
    machine.env.crash();
    machine.env.block_on(async {
        assert_eq!(content(&machine.engine), digest);
        let store = machine.open_with(config.clone()).await.expect("opens");
        assert_eq!(get(&store, "k42").as_deref(), Some("942"));
    });
}

#[test]
fn a_spare_segment_that_does_not_fit_the_disk_leaves_nothing_behind() {
    let machine = Machine::new(13);
    let config = StoreConfig { segment_bytes: 256 << 10, ..StoreConfig::default() };
    machine.env.block_on(async {
        let store = machine.open_with(config).await.expect("opens");
        let used = |prefix: &str| {
            let files = machine.env.disk.contents();
            let files = files.iter().filter(|(name, _)| name.starts_with(prefix));
            files.map(|(_, content)| content.len() as u64).sum::<u64>()
        };
        let free = 100 << 10;
        let faults = sim::Faults { capacity_bytes: Some(used("log-") + free), ..Default::default() };
        machine.env.disk.set_faults(faults);
        let runtime = machine.env.seams().runtime;
        for i in 0..40 {
            put(&store, &format!("k{i}"), &"x".repeat(3000)).await.expect("there is room in the segment");
            runtime.sleep(Duration::from_millis(100)).await;
        }
        assert!(store.stats().log_bytes > 128 << 10, "half of the segment is written");
        assert_eq!(used("log-spare-"), 0);
        // With space again it goes on.
        machine.env.disk.set_faults(sim::Faults::default());
        for i in 0..200 {
            put(&store, &format!("k{i}"), &"x".repeat(3000)).await.expect("applied");
            runtime.sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(get(&store, "k0").map(|value| value.len()), Some(3000));
    });
}

#[test]
fn what_small_commands_write_to_the_engine_is_flushed_in_time() {
    let machine = Machine::new(12);
    let config = StoreConfig { flush_memtable_bytes: 4 << 20, ..StoreConfig::default() };
    machine.env.block_on(async {
        let store = machine.open_with(config).await.expect("opens");
        let lease = store.lease(FIRST_RANGE).expect("leads");
        let txn_id = [7; 16];
        let value = Bytes::from("x".repeat(1 << 20));
        for i in 0..6 {
            let values = vec![ProvisionalValue { seq: 1, value: Some(value.clone()) }];
            let intent = LockValue { format: LOCK_FORMAT, write_ts: 5, values, ..LockValue::default() };
            let key = mvcc::lock_key(format!("k{i}").as_bytes(), Strength::Intent, &txn_id);
            let locks = vec![RawWrite { key, value: Some(intent.encode_to_vec().into()) }];
            let effects = Effects { format: EFFECTS_FORMAT, locks, ..Effects::default() };
            store.propose(FIRST_RANGE, lease, effects).await.expect("applied");
        }
        store.flush().await.expect("flushed");
        let before = store.stats();
        // A few bytes of log that move six MiB.
        let span = |range: std::ops::Range<u32>| ResolveSpan {
            start: format!("k{}", range.start).into(),
            end: format!("k{}", range.end).into(),
            txn_id: Bytes::copy_from_slice(&txn_id),
            commit_ts: 1_000_000,
            ignored_seqs: Vec::new(),
        };
        for resolves in [vec![span(0..3)], vec![span(3..6)]] {
            let effects = Effects { format: EFFECTS_FORMAT, resolves, ..Effects::default() };
            store.propose(FIRST_RANGE, lease, effects).await.expect("applied");
        }
        machine.env.seams().runtime.sleep(Duration::from_secs(1)).await;
        let after = store.stats();
        assert!(after.log_bytes - before.log_bytes < 64 << 10, "{before:?} {after:?}");
        assert!(after.flushes > before.flushes, "{before:?} {after:?}");
        assert_eq!(get(&store, "k4").map(|value| value.len()), Some(1 << 20));
    });
}

#[test]
fn who_writes_in_bulk_waits_for_memory() {
    let machine = Machine::new(14);
    let config = StoreConfig { flush_memtable_bytes: 100 << 10, ..StoreConfig::default() };
    machine.env.block_on(async {
        let store = machine.open_with(config).await.expect("opens");
        let memtables = || store.engine().stats().memtable_bytes;
        for i in 0..9 {
            store.make_room().await.expect("flushed");
            assert!(memtables() < 300 << 10);
            put(&store, &format!("k{i}"), &"x".repeat(90 << 10)).await.expect("applied");
        }
        // It was not asked for by what had been written, which is looked at for each MiB.
        assert!((1..=4).contains(&store.stats().flushes), "{:?}", store.stats());
    });
}

#[test]
fn replay_leads_to_the_same_state() {
    let run = |crashes: bool| {
        let machine = Machine::new(8);
        for round in 0..4 {
            machine.env.block_on(async {
                let store = machine.open().await;
                let lease = store.lease(FIRST_RANGE).expect("leads");
                for i in 0..30u64 {
                    let ts = Timestamp(1_000_000 + round * 1000 + i);
                    let effects = write(&format!("k{}", i % 5), ts, &format!("{round} {i}"));
                    store.propose(FIRST_RANGE, lease, effects).await.expect("applied");
                    if i == 11 {
                        store.flush().await.expect("flushed");
                    }
                }
                if !crashes {
                    store.close().await.expect("closed");
                    let refused = store.propose(FIRST_RANGE, lease, write("k", Timestamp(1), "x")).await;
                    assert!(matches!(refused, Err(ProposeError::Unavailable(_))));
                }
            });
            machine.env.crash();
        }
        machine.env.block_on(async {
            machine.open().await;
        });
        content(&machine.engine)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn truncation_before_the_flush_is_noticed() {
    let machine = Machine::new(9);
    let faults = Faults { truncate_before_flush: true, ..Faults::default() };
    machine.env.block_on(async {
        let store = machine.open_with(StoreConfig { faults, ..small() }).await.expect("opens");
        for i in 0..40 {
            put(&store, "k", &i.to_string()).await.expect("applied");
        }
        // The flush itself waits: the crash comes after the truncation and before its end.
        let flush = store.flush();
        futures_util::pin_mut!(flush);
        let syncs = store.stats().syncs;
        while store.stats().syncs == syncs {
            let _ = futures_util::poll!(flush.as_mut());
            machine.env.seams().runtime.yield_now().await;
        }
    });
    machine.env.crash();
    let refusal = machine.env.block_on(machine.open_with(small())).err().expect("must not open");
    assert!(refusal.to_string().contains("older than the log"), "{refusal}");
}

#[test]
fn a_filter_that_runs_ahead_of_the_threshold_is_noticed() {
    /// What a read in the past finds after a compaction, a crash and a restart.
    fn past(faults: Faults) -> Option<String> {
        let machine = Machine::new(7);
        let before = machine.env.block_on(async {
            let store = machine.open_with(StoreConfig { faults, ..small() }).await.expect("the store opens");
            put(&store, "k", "old").await.expect("applied");
            let before = store.now().await.expect("a timestamp");
            put(&store, "k", "new").await.expect("applied");
            store.flush().await.expect("flushes");
            for cf in [Cf::Data, Cf::History] {
                machine.engine.compact(cf, b"", b"").expect("compacts");
            }
            before
        });
        machine.env.crash();
        machine.env.block_on(async {
            let store = machine.open().await;
            assert_eq!(get(&store, "k").as_deref(), Some("new"));
            // No threshold was ever raised: all of the past can be read.
            assert_eq!(store.thresholds().gc, Timestamp::ZERO);
            let mut out = Vec::new();
            let found = mvcc::get(&**store.engine(), b"k", before, &mut out).expect("reads");
            found.exists.then(|| String::from_utf8(out).expect("text"))
        })
    }
    assert_eq!(past(Faults::default()).as_deref(), Some("old"));
    assert_eq!(past(Faults { filter_ahead_of_threshold: true, ..Faults::default() }), None, "it is lost");
}

#[test]
fn parts_of_different_stores_are_refused() {
    let machine = Machine::new(10);
    machine.env.block_on(async {
        let store = machine.open().await;
        put(&store, "k", "1").await.expect("applied");
        store.close().await.expect("closed");
    });
    let files = machine.env.disk.contents();
    let refusal = |machine: &Machine| match machine.env.block_on(machine.open_with(small())) {
        Ok(_) => panic!("must not open"),
        Err(refusal) => refusal.to_string(),
    };

    // An engine that was emptied under a log.
    let emptied = Machine::new(11);
    files.iter().for_each(|(name, bytes)| emptied.env.disk.plant(name, bytes));
    assert!(refusal(&emptied).contains("the engine is empty"));

    // The log of another cluster.
    let other = Machine::new(12);
    other.env.block_on(async { other.open().await.close().await.expect("closed") });
    for (name, _) in other.env.disk.contents() {
        other.env.seams().disk.remove(&name).expect("removed");
    }
    assert!(refusal(&other).contains("its log is missing"));
    files.iter().for_each(|(name, bytes)| other.env.disk.plant(name, bytes));
    assert!(refusal(&other).contains("the log is that of store 1 of cluster"));
}

#[test]
fn a_command_above_the_limit_is_refused() {
    let machine = Machine::new(13);
    machine.env.block_on(async {
        let store = machine.open().await;
        let lease = store.lease(FIRST_RANGE).expect("leads");
        let huge = write("k", store.now().await.expect("now"), &"x".repeat(5 << 20));
        let refused = store.propose(FIRST_RANGE, lease, huge).await;
        assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
        // Just below it is fine, in segments that are far smaller.
        let large = write("k", store.now().await.expect("now"), &"x".repeat(4_000_000));
        store.propose(FIRST_RANGE, lease, large).await.expect("applied");
        let stale = cairn_raft::Lease { sequence: lease.sequence + 1, ..lease };
        let refused = store.propose(FIRST_RANGE, stale, write("k", Timestamp(1), "x")).await;
        assert!(matches!(refused, Err(ProposeError::Unavailable(_))), "{refused:?}");
    });
    machine.env.crash();
    machine.env.block_on(async {
        let store = machine.open().await;
        assert_eq!(get(&store, "k").map(|v| v.len()), Some(4_000_000));
    });
}
