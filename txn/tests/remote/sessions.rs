//! Sessions: what is lost, late or doubled on the way to the leaseholder, and gateways that die.

#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::engine::Cf;
use cairn_kv::seam::Runtime;
use cairn_txn::{CancelToken, Db, DbConfig, Scan, Txn, TxnError, TxnOptions};
use support::{Fate, Tasks, World};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn small() -> DbConfig {
    DbConfig { max_buffer_bytes: 1, ..DbConfig::default() }
}

async fn get(db: &Arc<Db>, key: &str) -> Option<Bytes> {
    db.begin(TxnOptions::default()).get(key.as_bytes()).await.expect("get")
}

async fn put(txn: &mut Txn, key: &str, value: &str) {
    txn.put(bytes(key), bytes(value)).await.expect("put");
}

fn has_intents(world: &World) -> bool {
    let mut iter = world.engine.iter(Cf::Lock, b"", b"").expect("an iterator");
    iter.seek_to_first();
    iter.valid()
}

/// The leaseholder's node restarts after it has, or has not, carried out a commit whose answer does not
/// come. The second one knows by the marker, or knows that there is none.
#[test]
fn a_lost_commit_is_found_by_its_marker() {
    for config in [DbConfig::default(), small()] {
        for is_carried_out in [true, false] {
            let world = World::new(21);
            let db = world.open(config.clone());
            let (restarted, config) = (world.clone(), config.clone());
            world.executor.run(async move {
                let runtime = Tasks(Arc::clone(&restarted.executor));
                let mut txn = db.begin(TxnOptions::default());
                assert_eq!(txn.get_for_update(b"a").await.expect("free"), None);
                put(&mut txn, "a", "1").await;
                put(&mut txn, "b", "1").await;
                if config.max_buffer_bytes == 1 {
                    // The rest of the buffer is written ahead of the commit.
                    restarted.line.set_fates(&[Fate::Answered]);
                }
                restarted.line.set_fates(&[if is_carried_out { Fate::AnswerLost } else { Fate::Lost }]);
                restarted.line.set_always(Some(Fate::NotSent));
                let (sender, committed) = tokio::sync::oneshot::channel();
                runtime.spawn(
                    "commit",
                    Box::pin(async move { sender.send(txn.commit().await).expect("awaited") }),
                );
                runtime.sleep(Duration::from_millis(50)).await;
                restarted.open_leaseholder(config).await;
                restarted.line.set_always(None);
                let committed = committed.await.expect("it ends");
                let found = (get(&db, "a").await, get(&db, "b").await);
                if is_carried_out {
                    committed.expect("the marker is found");
                    assert_eq!(found, (Some(bytes("1")), Some(bytes("1"))));
                } else {
                    assert!(matches!(committed, Err(TxnError::Retry { .. })), "{committed:?}");
                    assert_eq!(found, (None, None));
                }
            });
            assert!(!has_intents(&world));
        }
    }
}

/// A transaction that holds nothing at the leaseholder does not notice that it restarts.
#[test]
fn a_commit_without_locks_outlives_the_leaseholder() {
    for fate in [Fate::AnswerLost, Fate::Lost, Fate::Late] {
        let world = World::new(28);
        let db = world.open(DbConfig::default());
        let (restarted, executor) = (world.clone(), Arc::clone(&world.executor));
        let committed = world.executor.run(async move {
            let runtime = Tasks(executor);
            let mut txn = db.begin(TxnOptions::default());
            assert_eq!(txn.get(b"b").await.expect("get"), None);
            put(&mut txn, "a", "1").await;
            restarted.line.set_fates(&[fate]);
            restarted.line.set_always(Some(Fate::NotSent));
            let (sender, committed) = tokio::sync::oneshot::channel();
            runtime
                .spawn("commit", Box::pin(async move { sender.send(txn.commit().await).expect("awaited") }));
            runtime.sleep(Duration::from_millis(50)).await;
            restarted.open_leaseholder(DbConfig::default()).await;
            restarted.line.set_always(None);
            let committed = committed.await.expect("it ends").expect("commit");
            assert_eq!(get(&db, "a").await, Some(bytes("1")));
            committed
        });
        // Once.
        let mut iter = world.engine.iter(Cf::History, b"", b"").expect("an iterator");
        iter.seek_to_first();
        assert!(!iter.valid(), "{fate:?}: it was written again");
        assert_eq!(cairn_kv::mvcc::newest(&*world.engine, b"a").expect("reads").0, committed);
    }
}

/// Nobody answers any more: whether the commit took effect is not known.
#[test]
fn a_commit_without_any_answer_is_ambiguous() {
    for (first, is_known) in [(Fate::AnswerLost, false), (Fate::Lost, false), (Fate::NotSent, true)] {
        let world = World::new(22);
        let db = world.open(DbConfig::default());
        let line = Arc::clone(&world.line);
        world.executor.run(async move {
            let mut txn = db.begin(TxnOptions::default());
            txn.read_ts().await.expect("a snapshot");
            put(&mut txn, "a", "1").await;
            line.set_fates(&[first]);
            line.set_always(Some(Fate::NotSent));
            match txn.commit().await {
                Err(TxnError::Ambiguous(_)) => assert!(!is_known),
                Err(TxnError::Unavailable(_)) => assert!(is_known),
                other => panic!("{other:?}"),
            }
        });
    }
}

#[test]
fn a_gateway_that_dies_leaves_nothing_behind() {
    for config in [DbConfig::default(), small()] {
        let world = World::new(23);
        let db = world.open(config.clone());
        let (line, other) = (Arc::clone(&world.line), world.clone());
        world.executor.run(async move {
            let runtime = Tasks(Arc::clone(&other.executor));
            let mut txn = db.begin(TxnOptions::default());
            assert_eq!(txn.get_for_update(b"a").await.expect("free"), None);
            put(&mut txn, "a", "1").await;
            put(&mut txn, "b", "1").await;
            // Somebody on another node waits for it, and so does a second transaction of its own.
            let survivor = other.open_gateway(3, config).await;
            let (sender, done) = tokio::sync::oneshot::channel();
            let waiting = async move {
                let mut txn = survivor.begin(TxnOptions::default());
                let found = txn.get_for_update(b"a").await;
                txn.rollback().await;
                sender.send(found).expect("awaited");
            };
            runtime.spawn("survivor", Box::pin(waiting));
            let dying = Arc::clone(&db);
            let own = async move {
                let mut txn = dying.begin(TxnOptions::default());
                assert!(txn.get_for_update(b"a").await.is_err(), "its session is gone");
            };
            runtime.spawn("own", Box::pin(own));
            while line.server().describe_locks().matches("0=X").count() < 3 {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            line.server().gateway_gone(db.gateway().expect("it is remote"));
            assert_eq!(done.await.expect("it ends").expect("granted"), None);
            runtime.sleep(Duration::from_millis(100)).await;
            assert_eq!(line.server().describe_locks(), "");
            // It was not dead: what it had begun is lost, and it goes on.
            assert!(matches!(txn.commit().await, Err(TxnError::Retry { .. })));
            let mut again = db.begin(TxnOptions::default());
            put(&mut again, "a", "2").await;
            again.commit().await.expect("commit");
            assert_eq!(get(&db, "a").await, Some(bytes("2")));
            assert_eq!(get(&db, "b").await, None);
        });
        assert!(!has_intents(&world));
    }
}

#[test]
fn a_node_that_starts_again_ends_what_it_had_begun() {
    let world = World::new(24);
    let db = world.open(DbConfig::default());
    let (line, other) = (Arc::clone(&world.line), world.clone());
    world.executor.run(async move {
        let runtime = Tasks(Arc::clone(&other.executor));
        let mut txn = db.begin(TxnOptions::default());
        txn.get_for_update(b"a").await.expect("free");
        assert_ne!(line.server().describe_locks(), "");
        let again = other.open_gateway(2, DbConfig::default()).await;
        get(&again, "a").await;
        runtime.sleep(Duration::from_millis(10)).await;
        assert_eq!(line.server().describe_locks(), "");
        std::mem::forget(txn);
    });
}

#[test]
fn a_lock_that_is_waited_for_is_canceled() {
    let world = World::new(25);
    let db = world.open(DbConfig::default());
    let (line, executor) = (Arc::clone(&world.line), Arc::clone(&world.executor));
    world.executor.run(async move {
        let runtime = Tasks(executor);
        let mut first = db.begin(TxnOptions { session: 1, ..TxnOptions::default() });
        first.get_for_update(b"a").await.expect("free");
        let cancel = CancelToken::default();
        let options = TxnOptions { session: 2, cancel: cancel.clone(), ..TxnOptions::default() };
        let mut second = db.begin(options);
        let (sender, done) = tokio::sync::oneshot::channel();
        let waiting = async move {
            let result = second.get_for_update(b"a").await;
            sender.send((result, second)).unwrap_or_else(|_| panic!("awaited"));
        };
        runtime.spawn("second", Box::pin(waiting));
        while !line.server().describe_locks().contains("<- 2=X") {
            runtime.yield_now().await;
        }
        // The first cancellation does not arrive.
        line.set_fates(&[Fate::Lost]);
        cancel.cancel();
        let (result, mut second) = done.await.expect("it ends");
        assert!(matches!(result, Err(TxnError::Canceled)), "{result:?}");
        assert_eq!(line.server().describe_locks(), "a: 1=X\n");
        second.rollback().await;
        first.rollback().await;
        assert_eq!(line.server().describe_locks(), "");
    });
}

/// What was read does not fit into the message of the commit.
#[test]
fn many_reads_are_staged() {
    for is_changed in [false, true] {
        let world = World::new(26);
        let db = world.open(DbConfig::default());
        world.executor.run(async move {
            let mut txn = db.begin(TxnOptions::default());
            let long = "k".repeat(1_000);
            let keys: Vec<Bytes> = (0..2_000).map(|number| bytes(&format!("{long}{number:04}"))).collect();
            let mut found = 0;
            let mut count = |_: usize, value: Option<&[u8]>| {
                found += usize::from(value.is_some());
                true
            };
            assert_eq!(txn.get_many(&keys, &mut count).await.expect("get"), keys.len());
            assert_eq!(found, 0);
            if is_changed {
                let mut other = db.begin(TxnOptions::default());
                other.put(keys[7].clone(), bytes("1")).await.expect("put");
                other.commit().await.expect("commit");
            }
            put(&mut txn, "z", "1").await;
            let committed = txn.commit().await;
            assert_eq!(committed.is_ok(), !is_changed, "{committed:?}");
        });
    }
}

/// Its snapshot was drawn, and nothing asked for yet, when garbage was collected.
#[test]
fn a_snapshot_is_kept_from_its_drawing_on() {
    let world = World::new(27);
    let db = world.open(DbConfig::default());
    let (line, executor) = (Arc::clone(&world.line), Arc::clone(&world.executor));
    world.executor.run(async move {
        for value in ["1", "2"] {
            let mut txn = db.begin(TxnOptions::default());
            put(&mut txn, "a", value).await;
            txn.commit().await.expect("commit");
            if value == "1" {
                // The leaseholder learns that nothing is read any more.
                Tasks(Arc::clone(&executor)).sleep(Duration::from_secs(2)).await;
                let mut early = db.begin(TxnOptions::default());
                let drawn = early.read_ts().await.expect("a snapshot");
                let mut other = line.server().begin(TxnOptions::default());
                other.put(bytes("a"), bytes("3")).await.expect("put");
                other.commit().await.expect("commit");
                line.server().collect_all_garbage(&CancelToken::default()).await.expect("collect");
                assert_eq!(early.get(b"a").await.expect("get"), Some(bytes("1")));
                assert_eq!(early.read_ts().await.expect("a snapshot"), drawn);
            }
        }
    });
}

#[test]
fn a_node_without_the_lease_names_the_one_that_has_it() {
    let world = World::new(29);
    let third = world.open(DbConfig::default());
    world.line.serve(3, third);
    let other = world.clone();
    world.executor.run(async move {
        let db = other.open_gateway_to(4, 3, DbConfig::default()).await;
        let mut txn = db.begin(TxnOptions::default());
        put(&mut txn, "a", "1").await;
        txn.commit().await.expect("commit");
        assert_eq!(get(&db, "a").await, Some(bytes("1")));
    });
}

/// Slots of a leaseholder that restarts count from zero: a stamp may look as if nothing had happened.
#[test]
fn a_stamp_of_an_earlier_lease_proves_nothing() {
    let world = World::new(30);
    let db = world.open(DbConfig::default());
    let restarted = world.clone();
    world.executor.run(async move {
        let mut first = db.begin(TxnOptions::default());
        put(&mut first, "a", "0").await;
        first.commit().await.expect("commit");
        let mut txn = db.begin(TxnOptions::default());
        assert_eq!(txn.get(b"a").await.expect("get"), Some(bytes("0")));
        restarted.open_leaseholder(DbConfig::default()).await;
        let mut other = db.begin(TxnOptions::default());
        put(&mut other, "a", "1").await;
        other.commit().await.expect("commit");
        put(&mut txn, "a", "2").await;
        let committed = txn.commit().await;
        assert!(matches!(committed, Err(TxnError::Retry { .. })), "{committed:?}");
    });
}

/// A commit is asked for again, by a gateway that goes on as another one because it was taken for dead:
/// nobody knows there that it was carried out.
#[test]
fn a_commit_is_not_taken_for_another_gateways() {
    let world = World::new(31);
    let db = world.open(DbConfig::default());
    let (line, executor) = (Arc::clone(&world.line), Arc::clone(&world.executor));
    world.executor.run(async move {
        let runtime = Tasks(executor);
        let mut txn = db.begin(TxnOptions::default());
        txn.read_ts().await.expect("a snapshot");
        put(&mut txn, "a", "1").await;
        line.set_fates(&[Fate::AnswerLost]);
        line.set_always(Some(Fate::NotSent));
        let (sender, committed) = tokio::sync::oneshot::channel();
        runtime.spawn("commit", Box::pin(async move { sender.send(txn.commit().await).expect("awaited") }));
        runtime.sleep(Duration::from_millis(50)).await;
        line.server().gateway_gone(db.gateway().expect("it is remote"));
        // Another transaction learns of it first.
        line.set_fates(&[Fate::Answered, Fate::Answered]);
        get(&db, "b").await;
        line.set_always(None);
        let committed = committed.await.expect("it ends");
        assert!(matches!(committed, Err(TxnError::Ambiguous(_))), "{committed:?}");
    });
    let mut iter = world.engine.iter(Cf::History, b"", b"").expect("an iterator");
    iter.seek_to_first();
    assert!(!iter.valid(), "it was written again");
}

/// A gateway's clock runs ahead, and so do the snapshots of its transactions: the next lease begins above
/// them all the same.
#[test]
fn a_restart_is_above_what_a_fast_clock_has_read() {
    let world = World::new(32);
    let db = world.open(DbConfig::default());
    let restarted = world.clone();
    world.executor.run(async move {
        db.store().hlc().observe(db.now().await.expect("now").add_micros(3_000_000));
        let mut txn = db.begin(TxnOptions::default());
        assert_eq!(txn.get(b"a").await.expect("get"), None);
        let read_ts = txn.read_ts().await.expect("a snapshot");
        let local = restarted.open_leaseholder(DbConfig::default()).await;
        let mut writer = local.begin(TxnOptions::default());
        put(&mut writer, "a", "1").await;
        assert!(writer.commit().await.expect("commit") > read_ts);
        assert_eq!(txn.get(b"a").await.expect("get"), None);
    });
}

/// What goes to and fro for the simplest transactions: the snapshot comes with what is read at it.
#[test]
fn a_transaction_takes_no_more_requests_than_operations() {
    let world = World::new(33);
    let db = world.open(DbConfig::default());
    let line = Arc::clone(&world.line);
    world.executor.run(async move {
        let taken = || line.served();
        let before = taken();
        assert_eq!(get(&db, "a").await, None);
        assert_eq!(taken() - before, 1, "a point");
        let before = taken();
        let mut txn = db.begin(TxnOptions::default());
        txn.get_for_update(b"a").await.expect("free");
        put(&mut txn, "a", "1").await;
        txn.commit().await.expect("commit");
        assert_eq!(taken() - before, 2, "a locking read and the commit");
        let before = taken();
        let mut txn = db.begin(TxnOptions::default());
        let scan = Scan { start: bytes("a"), end: bytes("z"), reverse: false };
        assert_eq!(txn.scan(&scan, &mut |_, _| true).await.expect("scan"), None);
        txn.commit().await.expect("commit");
        assert_eq!(taken() - before, 1, "a scan");
    });
}
