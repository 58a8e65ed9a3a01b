//! Behaviour of transactions over a real store in memory.

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::engine::Cf;
use cairn_kv::mvcc;
use cairn_txn::{CancelToken, Db, DbConfig, Isolation, LockStrength, Scan, Txn, TxnError, TxnOptions};
use support::World;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn options(isolation: Isolation, session: u64) -> TxnOptions {
    TxnOptions { isolation, session, ..TxnOptions::default() }
}

fn begin(db: &Arc<Db>) -> Txn {
    db.begin(TxnOptions::default())
}

async fn put(txn: &mut Txn, key: &str, value: &str) {
    txn.put(bytes(key), bytes(value)).await.expect("put");
}

async fn get(txn: &mut Txn, key: &str) -> Option<String> {
    let value = txn.get(key.as_bytes()).await.expect("get");
    value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
}

/// All of a span, chunk by chunk of at most `limit` rows.
async fn scan(txn: &mut Txn, start: &str, end: &str, reverse: bool, limit: usize) -> String {
    let mut span = Scan { start: bytes(start), end: bytes(end), reverse };
    let mut text = String::new();
    loop {
        let mut rows = 0;
        let mut row = |key: &[u8], value: &[u8]| {
            text.push_str(&format!("{}={} ", key.escape_ascii(), value.escape_ascii()));
            rows += 1;
            rows < limit
        };
        match txn.scan(&span, &mut row).await.expect("scan") {
            None => return text,
            Some(at) if reverse => span.end = at,
            Some(at) => span.start = at,
        }
    }
}

async fn set(db: &Arc<Db>, rows: &[(&str, &str)]) {
    let mut txn = begin(db);
    for (key, value) in rows {
        put(&mut txn, key, value).await;
    }
    txn.commit().await.expect("commit");
}

fn small() -> DbConfig {
    DbConfig { max_buffer_bytes: 256, ..DbConfig::default() }
}

#[test]
fn writes_are_seen_after_the_commit_and_survive_a_restart() {
    let world = World::new(1);
    let db = world.open(DbConfig::default());
    world.executor.run(async move {
        let mut writer = begin(&db);
        put(&mut writer, "a", "1").await;
        put(&mut writer, "b", "2").await;
        let mut reader = begin(&db);
        assert_eq!(get(&mut reader, "a").await, None);
        let commit_ts = writer.commit().await.expect("commit");
        assert_eq!(get(&mut reader, "a").await, None, "its snapshot is older");
        let mut later = begin(&db);
        assert_eq!(get(&mut later, "a").await.as_deref(), Some("1"));
        assert!(later.read_ts().await.expect("read_ts") > commit_ts);
        later.delete(bytes("a")).await.expect("delete");
        later.rollback().await;
        let mut last = begin(&db);
        assert_eq!(scan(&mut last, "a", "z", false, 10).await, "a=1 b=2 ");
    });
    let db = world.open(DbConfig::default());
    world.executor.run(async move {
        assert_eq!(scan(&mut begin(&db), "a", "z", true, 10).await, "b=2 a=1 ");
    });
}

#[test]
fn statements_see_what_came_before_them_and_savepoints_take_back() {
    for config in [DbConfig::default(), DbConfig { max_buffer_bytes: 1, ..DbConfig::default() }] {
        let world = World::new(2);
        let db = world.open(config);
        world.executor.run(async move {
            set(&db, &[("a", "0"), ("b", "0"), ("d", "0"), ("f", "0")]).await;
            let mut txn = begin(&db);
            txn.begin_statement().await.expect("begin");
            put(&mut txn, "a", "1").await;
            put(&mut txn, "c", "1").await;
            assert_eq!(get(&mut txn, "a").await.as_deref(), Some("0"), "not its own writes");
            txn.begin_statement().await.expect("begin");
            assert_eq!(get(&mut txn, "a").await.as_deref(), Some("1"));
            let savepoint = txn.savepoint();
            txn.begin_statement().await.expect("begin");
            txn.delete(bytes("b")).await.expect("delete");
            put(&mut txn, "a", "2").await;
            put(&mut txn, "e", "2").await;
            txn.step();
            for limit in [1, 2, 100] {
                assert_eq!(scan(&mut txn, "a", "z", false, limit).await, "a=2 c=1 d=0 e=2 f=0 ");
                assert_eq!(scan(&mut txn, "a", "z", true, limit).await, "f=0 e=2 d=0 c=1 a=2 ");
                assert_eq!(scan(&mut txn, "b", "e", true, limit).await, "d=0 c=1 ");
            }
            txn.rollback_to(savepoint);
            txn.begin_statement().await.expect("begin");
            assert_eq!(scan(&mut txn, "a", "z", false, 100).await, "a=1 b=0 c=1 d=0 f=0 ");
            put(&mut txn, "f", "3").await;
            txn.commit().await.expect("commit");
            assert_eq!(scan(&mut begin(&db), "a", "z", false, 100).await, "a=1 b=0 c=1 d=0 f=3 ");
        });
    }
}

#[test]
fn a_view_stays_where_its_statement_read() {
    for max_buffer_bytes in [DbConfig::default().max_buffer_bytes, 1] {
        for isolation in [Isolation::Serializable, Isolation::RepeatableRead, Isolation::ReadCommitted] {
            let world = World::new(3);
            let db = world.open(DbConfig { max_buffer_bytes, ..DbConfig::default() });
            world.executor.run(async move {
                set(&db, &[("a", "0"), ("b", "0"), ("c", "0")]).await;
                let mut txn = db.begin(options(isolation, 1));
                txn.begin_statement().await.expect("begin");
                put(&mut txn, "a", "1").await;
                txn.begin_statement().await.expect("begin");
                assert_eq!(scan(&mut txn, "a", "d", false, 100).await, "a=1 b=0 c=0 ");
                let view = txn.view().await.expect("view");
                txn.begin_statement().await.expect("begin");
                put(&mut txn, "a", "2").await;
                txn.delete(bytes("b")).await.expect("delete");
                put(&mut txn, "bb", "2").await;
                if isolation == Isolation::ReadCommitted {
                    set(&db, &[("c", "other")]).await;
                    db.collect_all_garbage(&CancelToken::default()).await.expect("collect");
                }
                for _ in 0..2 {
                    let left = txn.enter(view);
                    assert_eq!(scan(&mut txn, "a", "d", false, 1).await, "a=1 b=0 c=0 ");
                    assert_eq!(scan(&mut txn, "a", "d", true, 2).await, "c=0 b=0 a=1 ");
                    assert_eq!(get(&mut txn, "b").await.as_deref(), Some("0"));
                    txn.leave(left);
                    txn.begin_statement().await.expect("begin");
                    let now = scan(&mut txn, "a", "d", false, 100).await;
                    let c = if isolation == Isolation::ReadCommitted { "other" } else { "0" };
                    assert_eq!(now, format!("a=2 bb=2 c={c} "));
                    let savepoint = txn.savepoint();
                    txn.begin_statement().await.expect("begin");
                    put(&mut txn, "a", "3").await;
                    txn.rollback_to(savepoint);
                }
                txn.commit().await.expect("commit");
                let after = scan(&mut begin(&db), "a", "d", false, 100).await;
                assert!(after.starts_with("a=2 bb=2 c="), "{after}");
            });
        }
    }
}

#[test]
fn a_lost_update_is_refused_at_every_level_but_read_committed() {
    for isolation in [Isolation::Serializable, Isolation::RepeatableRead] {
        let world = World::new(3);
        let db = world.open(DbConfig::default());
        world.executor.run(async move {
            set(&db, &[("a", "0")]).await;
            let mut first = db.begin(options(isolation, 1));
            let mut second = db.begin(options(isolation, 2));
            get(&mut first, "a").await;
            get(&mut second, "a").await;
            put(&mut first, "a", "1").await;
            put(&mut second, "a", "2").await;
            first.commit().await.expect("the first wins");
            assert!(matches!(second.commit().await, Err(TxnError::Retry { .. })));
            assert_eq!(get(&mut begin(&db), "a").await.as_deref(), Some("1"));
        });
    }
}

#[test]
fn write_skew_is_refused() {
    let world = World::new(4);
    let db = world.open(DbConfig::default());
    world.executor.run(async move {
        set(&db, &[("a", "1"), ("b", "1")]).await;
        let mut first = begin(&db);
        let mut second = begin(&db);
        scan(&mut first, "a", "c", false, 10).await;
        scan(&mut second, "a", "c", false, 10).await;
        put(&mut first, "a", "0").await;
        put(&mut second, "b", "0").await;
        first.commit().await.expect("the first wins");
        assert!(matches!(second.commit().await, Err(TxnError::Retry { .. })));
    });
}

/// A read that finds the past of a key that was written since its snapshot: no later timestamp can
/// make it true, however quiet the key has been since the read itself.
#[test]
fn a_read_below_a_newer_version_cannot_be_refreshed() {
    let world = World::new(4);
    let db = world.open(DbConfig::default());
    world.executor.run(async move {
        for way in 0..3 {
            set(&db, &[("a", "0"), ("b", "0"), ("c", "0")]).await;
            let mut txn = begin(&db);
            assert_eq!(get(&mut txn, "a").await.as_deref(), Some("0"));
            set(&db, &[("b", "1")]).await;
            assert_eq!(get(&mut txn, "b").await.as_deref(), Some("0"), "its snapshot is older");
            let result = match way {
                // Lost update, under the lock and blind; write skew.
                0 => txn.get_for_update(b"b").await.map(|_| ()),
                1 => {
                    put(&mut txn, "b", "lost").await;
                    txn.commit().await.map(|_| ())
                }
                _ => {
                    put(&mut txn, "c", "skewed").await;
                    txn.commit().await.map(|_| ())
                }
            };
            assert!(matches!(result, Err(TxnError::Retry { .. })), "way {way}: {result:?}");
        }
    });
}

#[test]
fn a_locking_read_moves_the_snapshot_or_asks_for_a_retry() {
    let world = World::new(5);
    let db = world.open(DbConfig::default());
    world.executor.run(async move {
        set(&db, &[("a", "0"), ("b", "0")]).await;
        let mut txn = begin(&db);
        txn.begin_statement().await.expect("begin");
        get(&mut txn, "b").await;
        set(&db, &[("a", "1")]).await;
        // Nothing that it read has changed: the snapshot moves.
        assert_eq!(txn.get_for_update(b"a").await.expect("moves").as_deref(), Some(&b"1"[..]));
        txn.begin_statement().await.expect("begin");
        get(&mut txn, "c").await;
        set(&db, &[("c", "1"), ("d", "1")]).await;
        // The statement read c, which has changed: it restarts and then sees it.
        assert!(matches!(txn.get_for_update(b"d").await, Err(TxnError::Retry { .. })));
        txn.restart_statement().await.expect("earlier statements still hold");
        assert_eq!(get(&mut txn, "c").await.as_deref(), Some("1"));
        assert!(txn.get_for_update(b"d").await.expect("now").is_some());
        set(&db, &[("b", "1"), ("e", "1")]).await;
        // An earlier statement read b: only a replay of the transaction helps.
        assert!(matches!(txn.get_for_update(b"e").await, Err(TxnError::Retry { .. })));
        assert!(txn.restart_statement().await.is_err());
        txn.rollback().await;

        let mut txn = db.begin(options(Isolation::RepeatableRead, 7));
        get(&mut txn, "b").await;
        set(&db, &[("a", "2")]).await;
        assert!(matches!(txn.get_for_update(b"a").await, Err(TxnError::Retry { .. })));
        txn.rollback().await;

        let mut txn = db.begin(options(Isolation::ReadCommitted, 8));
        txn.begin_statement().await.expect("begin");
        assert_eq!(get(&mut txn, "a").await.as_deref(), Some("2"));
        set(&db, &[("a", "3")]).await;
        assert_eq!(get(&mut txn, "a").await.as_deref(), Some("2"), "one snapshot per statement");
        txn.begin_statement().await.expect("begin");
        set(&db, &[("a", "4")]).await;
        assert_eq!(txn.get_for_update(b"a").await.expect("first read").as_deref(), Some(&b"4"[..]));
        txn.commit().await.expect("commit");
    });
}

#[test]
fn locks_queue_time_out_and_break_deadlocks() {
    let world = World::new(6);
    let db = world.open(DbConfig::default());
    let line = Arc::clone(&world.line);
    let executor = Arc::clone(&world.executor);
    world.executor.run(async move {
        let mut first = db.begin(options(Isolation::Serializable, 1));
        first.get_for_update(b"a").await.expect("free");
        let mut hasty = db.begin(TxnOptions {
            lock_timeout: Some(Duration::from_millis(5)),
            session: 2,
            ..TxnOptions::default()
        });
        assert!(matches!(hasty.get_for_update(b"a").await, Err(TxnError::LockTimeout)));
        hasty.rollback().await;

        let (sender, receiver) = tokio::sync::oneshot::channel();
        let other = Arc::clone(&db);
        let runtime = support::Tasks(executor);
        let task = async move {
            let mut second = other.begin(options(Isolation::Serializable, 3));
            second.get_for_update(b"b").await.expect("free");
            // Waits for the first.
            let result = second.get_for_update(b"a").await;
            assert_eq!(result.expect("granted").as_deref(), Some(&b"1"[..]));
            second.rollback().await;
            sender.send(()).expect("awaited");
        };
        use cairn_kv::seam::Runtime;
        runtime.spawn("second", Box::pin(task));
        while !line.server().describe_locks().contains("<-") {
            runtime.yield_now().await;
        }
        assert_eq!(line.server().describe_locks(), "a: 1=X <- 3=X\nb: 3=X\n");
        let Err(TxnError::Deadlock { cycle }) = first.get_for_update(b"b").await else {
            panic!("a deadlock")
        };
        assert_eq!(
            cycle,
            "Session 1 waits for an exclusive lock on key b; blocked by session 3.\n\
             Session 3 waits for an exclusive lock on key a; blocked by session 1."
        );
        put(&mut first, "a", "1").await;
        first.commit().await.expect("commit");
        receiver.await.expect("the second goes on");
        assert_eq!(line.server().describe_locks(), "");
    });
}

#[test]
fn a_commit_that_is_canceled_rolls_back() {
    for flushed in [false, true] {
        let world = World::new(9);
        let db = world.open(if flushed { small() } else { DbConfig::default() });
        let line = Arc::clone(&world.line);
        world.executor.run(async move {
            let options = TxnOptions::default();
            let cancel = options.cancel.clone();
            let mut txn = db.begin(options);
            for i in 0..if flushed { 200 } else { 1 } {
                txn.get_for_update(format!("k{i:03}").as_bytes()).await.expect("free");
                put(&mut txn, &format!("k{i:03}"), "a value of some length").await;
            }
            cancel.cancel();
            assert!(matches!(txn.commit().await, Err(TxnError::Canceled)));
            assert_eq!(line.server().describe_locks(), "", "the locks are released while the handle lives");
            let mut other = begin(&db);
            assert_eq!(other.get_for_update(b"k000").await.expect("free"), None);
            other.rollback().await;
            drop(txn);
        });
    }
}

#[test]
fn shared_locks_coexist_and_dropping_releases() {
    let world = World::new(7);
    let db = world.open(DbConfig::default());
    let line = Arc::clone(&world.line);
    world.executor.run(async move {
        let mut first = db.begin(options(Isolation::Serializable, 1));
        let mut second = db.begin(options(Isolation::Serializable, 2));
        first.lock(b"t", LockStrength::Shared).await.expect("shared");
        second.lock(b"t", LockStrength::Shared).await.expect("shared");
        assert_eq!(line.server().describe_locks(), "t: 1=S 2=S\n");
        drop(first);
        second.lock(b"t", LockStrength::Exclusive).await.expect("upgrade");
        assert_eq!(line.server().describe_locks(), "t: 2=X\n");
        drop(second);
        // From another node it takes a moment.
        while !line.server().describe_locks().is_empty() {
            db.store().env().runtime.yield_now().await;
        }
    });
}

#[test]
fn large_transactions_commit_abort_and_are_recovered() {
    let world = World::new(8);
    let db = world.open(small());
    let line = Arc::clone(&world.line);
    let executor = Arc::clone(&world.executor);
    let value = "v".repeat(100);
    let expected: String = (0..50).map(|number| format!("k{number:03}={value} ")).collect();
    let (large, all) = (value.clone(), expected.clone());
    world.executor.run(async move {
        let mut txn = begin(&db);
        for number in 0..50 {
            let key = format!("k{number:03}");
            assert!(txn.get_for_update(key.as_bytes()).await.expect("free").is_none());
            put(&mut txn, &key, &large).await;
        }
        txn.step();
        assert!(line.server().describe_locks().lines().count() < 10, "flushed keys need no lock in memory");
        assert_eq!(scan(&mut txn, "k", "l", false, 7).await, all);
        let mut reader = begin(&db);
        assert_eq!(scan(&mut reader, "k", "l", false, 100).await, "", "readers pass");
        // A writer of a flushed key waits.
        let (other, value) = (Arc::clone(&db), large.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        use cairn_kv::seam::Runtime;
        let runtime = support::Tasks(executor);
        runtime.spawn(
            "writer",
            Box::pin(async move {
                let mut writer = begin(&other);
                let found = writer.get_for_update(b"k000").await.expect("granted");
                assert_eq!(found.as_deref(), Some(value.as_bytes()));
                sender.send(()).expect("awaited");
            }),
        );
        for _ in 0..50 {
            runtime.yield_now().await;
        }
        assert!(
            line.server().describe_locks().contains("k000: 0=X <- 0=X"),
            "{}",
            line.server().describe_locks()
        );
        txn.commit().await.expect("commit");
        receiver.await.expect("the writer goes on");
        assert_eq!(scan(&mut begin(&db), "k", "l", true, 100).await.len(), all.len());
        assert_eq!(scan(&mut reader, "k", "l", false, 100).await, "", "its snapshot is older");
        let mut aborted = begin(&db);
        for number in 0..20 {
            aborted.delete(bytes(&format!("k{number:03}"))).await.expect("delete");
        }
        aborted.rollback().await;
        assert_eq!(line.server().describe_locks(), "");
        // Left behind: the node stops before it ends.
        let mut left = begin(&db);
        for number in 0..20 {
            left.delete(bytes(&format!("k{number:03}"))).await.expect("delete");
        }
        std::mem::forget(left);
    });
    let db = world.open(small());
    world.executor.run(async move {
        assert_eq!(scan(&mut begin(&db), "k", "l", false, 100).await, expected);
    });
}

#[test]
fn reads_in_the_past_are_stable_until_they_are_collected() {
    let world = World::new(9);
    let db = world.open(DbConfig::default());
    world.executor.run(async move {
        set(&db, &[("a", "1"), ("b", "1")]).await;
        let past = db.now().await.expect("now");
        let mut txn = begin(&db);
        txn.delete(bytes("b")).await.expect("delete");
        put(&mut txn, "a", "2").await;
        txn.commit().await.expect("commit");
        let as_of = || TxnOptions { as_of: Some(past), ..TxnOptions::default() };
        let mut pinned = db.begin(as_of());
        assert_eq!(scan(&mut pinned, "a", "z", false, 10).await, "a=1 b=1 ");
        assert!(matches!(pinned.put(bytes("a"), bytes("3")).await, Err(TxnError::ReadOnly)));
        db.collect_all_garbage(&CancelToken::default()).await.expect("collect");
        assert_eq!(scan(&mut pinned, "a", "z", false, 10).await, "a=1 b=1 ", "it is pinned");
        drop(pinned);
        db.collect_all_garbage(&CancelToken::default()).await.expect("collect");
        let mut late = db.begin(as_of());
        assert!(matches!(late.get(b"a").await, Err(TxnError::SnapshotTooOld { .. })));
        assert_eq!(scan(&mut begin(&db), "a", "z", false, 10).await, "a=2 ");
    });
}

#[test]
fn what_was_seen_under_a_lock_is_not_collected_when_the_snapshot_moves() {
    for isolation in [Isolation::Serializable, Isolation::ReadCommitted] {
        let world = World::new(10);
        let db = world.open(small());
        world.executor.run(async move {
            let mut txn = db.begin(options(isolation, 1));
            txn.begin_statement().await.expect("begin");
            assert_eq!(txn.get_for_update(b"b").await.expect("free"), None);
            put(&mut txn, "b", "1").await;
            // Large enough to leave no stamp as it was.
            let value = "v".repeat(200);
            set(&db, &[("c", &value), ("d", &value), ("e", &value)]).await;
            txn.begin_statement().await.expect("begin");
            assert!(txn.get_for_update(b"c").await.expect("the snapshot moves").is_some());
            db.collect_all_garbage(&CancelToken::default()).await.expect("collect");
            txn.commit().await.expect("nothing has changed");
        });
    }
}

#[test]
fn a_locking_read_knows_of_a_deletion_whose_tombstone_is_collected() {
    let world = World::new(11);
    let db = world.open(DbConfig::default());
    world.executor.run(async move {
        set(&db, &[("a", "1")]).await;
        let mut txn = begin(&db);
        assert_eq!(get(&mut txn, "a").await.as_deref(), Some("1"));
        let mut other = begin(&db);
        other.delete(bytes("a")).await.expect("delete");
        other.commit().await.expect("commit");
        db.collect_all_garbage(&CancelToken::default()).await.expect("collect");
        assert!(matches!(txn.get_for_update(b"a").await, Err(TxnError::Retry { .. })), "it has read it");
    });
}

#[test]
fn a_locking_read_whose_intent_is_rolled_back_still_counts_as_read() {
    let world = World::new(12);
    let db = world.open(DbConfig { max_buffer_bytes: 1, ..DbConfig::default() });
    world.executor.run(async move {
        set(&db, &[("a", "0"), ("b", "0")]).await;
        let mut writer = begin(&db);
        writer.read_ts().await.expect("a snapshot");
        let mut reader = begin(&db);
        reader.begin_statement().await.expect("begin");
        let savepoint = reader.savepoint();
        assert_eq!(reader.get_for_update(b"a").await.expect("free").as_deref(), Some(&b"0"[..]));
        put(&mut reader, "a", "1").await;
        // Flushes a, whose lock in memory goes.
        put(&mut reader, "c", "1").await;
        reader.rollback_to(savepoint);
        put(&mut reader, "b", "1").await;
        reader.commit().await.expect("commit");
        // Each has read what the other writes.
        assert!(writer.get_for_update(b"a").await.expect("free").is_some());
        put(&mut writer, "a", "2").await;
        assert_eq!(get(&mut writer, "b").await.as_deref(), Some("0"), "its snapshot is older");
        assert!(matches!(writer.commit().await, Err(TxnError::Retry { .. })));
    });
}

#[test]
fn a_blind_write_that_waited_keeps_no_lock() {
    for config in [DbConfig::default(), DbConfig { max_buffer_bytes: 1, ..DbConfig::default() }] {
        let world = World::new(13);
        let db = world.open(config);
        let line = Arc::clone(&world.line);
        let executor = Arc::clone(&world.executor);
        world.executor.run(async move {
            let mut first = db.begin(options(Isolation::Serializable, 1));
            first.get_for_update(b"a").await.expect("free");
            let (sender, done) = tokio::sync::oneshot::channel();
            let other = Arc::clone(&db);
            let task = async move {
                let mut second = other.begin(options(Isolation::Serializable, 2));
                put(&mut second, "a", "2").await;
                put(&mut second, "b", "2").await;
                second.commit().await.expect("granted in the end");
                sender.send(()).expect("awaited");
            };
            use cairn_kv::seam::Runtime;
            let runtime = support::Tasks(executor);
            runtime.spawn("second", Box::pin(task));
            while !line.server().describe_locks().contains("<- 2=X") {
                runtime.yield_now().await;
            }
            first.rollback().await;
            done.await.expect("the second ends");
            assert_eq!(line.server().describe_locks(), "");
        });
    }
}

/// Whoever runs a statement may vanish at any of its awaits: what it had begun is taken back, or
/// carried on behind its back, and others go on.
#[test]
fn a_flush_may_be_dropped_at_any_await() {
    for polls in 0..12 {
        let world = World::new(14);
        let db = world.open(DbConfig { max_buffer_bytes: 1, ..DbConfig::default() });
        let line = Arc::clone(&world.line);
        let executor = Arc::clone(&world.executor);
        world.executor.run(async move {
            use cairn_kv::seam::Runtime;
            let runtime = support::Tasks(executor);
            let mut txn = begin(&db);
            txn.get_for_update(b"a").await.expect("free");
            put(&mut txn, "a", "1").await;
            {
                let mut flush = Box::pin(txn.put(bytes("b"), bytes("1")));
                for _ in 0..polls {
                    let done = std::future::poll_fn(|context| {
                        std::task::Poll::Ready(flush.as_mut().poll(context).is_ready())
                    });
                    if done.await {
                        break;
                    }
                    runtime.yield_now().await;
                }
            }
            drop(txn);
            let mut other = begin(&db);
            assert_eq!(other.get_for_update(b"a").await.expect("free in the end"), None, "{polls} polls");
            other.rollback().await;
            runtime.sleep(Duration::from_millis(10)).await;
            assert_eq!(line.server().describe_locks(), "", "{polls} polls");
        });
        let mut iter = world.engine.iter(Cf::Lock, b"", b"").expect("an iterator");
        iter.seek_to_first();
        assert!(!iter.valid(), "{polls} polls: an intent is left");
    }
}

#[test]
fn a_commit_knows_of_what_a_large_one_has_resolved_so_far() {
    let world = World::new(15);
    let db = world.open(DbConfig::default());
    let (executor, engine) = (Arc::clone(&world.executor), Arc::clone(&world.engine));
    world.executor.run(async move {
        use cairn_kv::seam::Runtime;
        let runtime = support::Tasks(executor);
        let large = Arc::clone(&db);
        let (sender, done) = tokio::sync::oneshot::channel();
        let task = async move {
            let value = "v".repeat(140 << 10);
            let mut txn = begin(&large);
            for number in 0..70 {
                put(&mut txn, &format!("k{number:03}"), &value).await;
            }
            txn.commit().await.expect("commit");
            sender.send(()).expect("awaited");
        };
        runtime.spawn("large", Box::pin(task));
        // Read when the intent is there (laying it changes the stamp), written when it is resolved.
        while mvcc::locks(&*engine, b"k000", b"k001", 1).expect("reads").is_empty() {
            runtime.yield_now().await;
        }
        let mut txn = begin(&db);
        assert_eq!(get(&mut txn, "k000").await, None);
        while mvcc::newest(&*engine, b"k000").expect("reads").0.is_zero() {
            runtime.yield_now().await;
        }
        assert!(mvcc::newest(&*engine, b"k069").expect("reads").0.is_zero(), "it is not resolved yet");
        put(&mut txn, "k000", "lost").await;
        assert!(matches!(txn.commit().await, Err(TxnError::Retry { .. })));
        done.await.expect("the large one ends");
    });
}

#[test]
fn a_scan_that_passes_many_dead_entries_has_them_compacted() {
    const ROWS: u32 = 12_000;
    let world = World::new(15);
    let db = world.open(DbConfig::default());
    let engine = Arc::clone(&world.engine);
    let passed = move || {
        let mut iter = engine.iter(Cf::Data, b"k", b"l").expect("an iterator");
        let mut entries = 0;
        iter.seek_to_first();
        while iter.valid() {
            entries += 1;
            iter.next();
        }
        entries
    };
    world.executor.run(async move {
        let runtime = Arc::clone(&db.store().env().runtime);
        for value in [Some("1"), None] {
            let mut txn = begin(&db);
            for row in 0..ROWS {
                let key = format!("k{row:05}");
                match value {
                    Some(value) => put(&mut txn, &key, value).await,
                    None => txn.delete(bytes(&key)).await.expect("delete"),
                }
            }
            txn.commit().await.expect("commit");
        }
        assert_eq!(scan(&mut begin(&db), "k", "l", false, 100).await, "");
        runtime.sleep(Duration::from_secs(1)).await;
        assert_eq!(passed(), ROWS, "tombstones are kept for a while");
        // Thresholds rise beside a node that works.
        for _ in 0..20 {
            runtime.sleep(Duration::from_secs(1)).await;
            set(&db, &[("a", "1")]).await;
        }
        assert_eq!(passed(), ROWS, "nobody has looked");
        assert_eq!(scan(&mut begin(&db), "k", "l", false, 100).await, "");
        runtime.sleep(Duration::from_secs(1)).await;
        assert_eq!(passed(), 0);
    });
}

/// VACUUM of a large table takes long: whoever asked for it may give up.
#[test]
fn a_canceled_collection_of_garbage_ends() {
    let world = World::new(31);
    let db = world.open(DbConfig::default());
    world.executor.run(async move {
        let mut txn = begin(&db);
        put(&mut txn, "k", "v").await;
        txn.commit().await.expect("commit");
        let cancel = CancelToken::default();
        cancel.cancel();
        assert!(matches!(db.collect_all_garbage(&cancel).await, Err(TxnError::Canceled)));
        db.collect_all_garbage(&CancelToken::default()).await.expect("collect");
    });
}
