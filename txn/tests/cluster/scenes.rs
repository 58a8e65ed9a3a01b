//! What becomes of single transactions when the lease moves or a node dies, and what gateways are told of one another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::seam::Runtime;
use cairn_kv::sim::{Link, SimRng};
use cairn_txn::{
    CancelToken, Db, DbConfig, Faults, Isolation, LockStrength, Scan, TxnError, TxnOptions, Watch,
};

use super::cluster::{Cluster, MOST_OFF_MICROS, NODES, id};
use super::{bytes, get, put, put_again};

fn options(isolation: Isolation) -> TxnOptions {
    TxnOptions { isolation, ..TxnOptions::default() }
}

/// Moves the lease away from `leader`, and waits until the next node has it.
async fn move_lease(cluster: &Cluster, leader: usize) -> usize {
    let to = (leader + 1) % NODES;
    // It may have to catch up first.
    while !cluster.cede(leader, to).await {
        cluster.sleep_ms(5).await;
    }
    let next = cluster.leader(1_000).await;
    assert_eq!(next, to);
    next
}

#[test]
fn a_transaction_belongs_to_a_tenure_from_its_first_operation_on() {
    for seed in 0..5 {
        for isolation in [Isolation::ReadCommitted, Isolation::Serializable] {
            let cluster = Cluster::new(seed, DbConfig::default());
            cluster.run(async {
                let leader = cluster.up().await;
                let db = cluster.db(leader).expect("it runs");
                // Where the lease is, and where it will be.
                let other = cluster.db((leader + 1) % NODES).expect("it runs");
                let (mut idle, mut awaited) = (db.begin(options(isolation)), other.begin(options(isolation)));
                let (mut reads, mut locks) = (db.begin(options(isolation)), db.begin(options(isolation)));
                assert_eq!(reads.get(b"a").await.expect("get"), None);
                assert_eq!(locks.get_for_update(b"b").await.expect("get"), None);
                let mut elsewhere = other.begin(options(isolation));
                assert_eq!(elsewhere.get(b"a").await.expect("get"), None);
                move_lease(&cluster, leader).await;
                put_again(&other, "a", "1").await.expect("put");
                for txn in [&mut idle, &mut awaited] {
                    txn.begin_statement().await.expect("it has done nothing");
                    assert_eq!(txn.get(b"a").await.expect("get"), Some(bytes("1")));
                    txn.put(bytes("c"), bytes("1")).await.expect("put");
                    txn.commit().await.expect("commit");
                }
                for txn in [&mut reads, &mut locks] {
                    let found = txn.get(b"a").await;
                    assert!(matches!(found, Err(TxnError::Retry { .. })), "{found:?}");
                    assert!(txn.restart_statement().await.is_err(), "only as a whole");
                    txn.rollback().await;
                }
                // Only looks, and nothing but a snapshot: the next leaseholder serves it as well.
                elsewhere.begin_statement().await.expect("begins");
                let expected = (isolation == Isolation::ReadCommitted).then(|| bytes("1"));
                assert_eq!(elsewhere.get(b"a").await.expect("get"), expected, "seed {seed}");
                elsewhere.commit().await.expect("commit");
            });
        }
    }
}

/// What becomes of the old leaseholder.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    Cedes,
    Dies,
}

/// The next node with the lease, once it has left the one that has it.
async fn leave(cluster: &Cluster, leader: usize, how: Leaves) -> usize {
    match how {
        Leaves::Cedes => move_lease(cluster, leader).await,
        Leaves::Dies => {
            cluster.crash(leader);
            cluster.leader(2_000).await
        }
    }
}

#[test]
fn a_transaction_of_another_node_outlives_the_lease() {
    for (seed, how) in (0..12).flat_map(|seed| [(seed, Leaves::Cedes), (seed, Leaves::Dies)]) {
        for isolation in [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable] {
            let cluster = Cluster::new(seed, DbConfig::default());
            cluster.run(async {
                let leader = cluster.up().await;
                // Where the lease will be, or neither there.
                let node = (leader + 1 + seed as usize % 2) % NODES;
                let db = cluster.db(node).expect("it runs");
                put_again(&db, "b", "1").await.expect("put");
                let mut txn = db.begin(options(isolation));
                txn.lock(b"o", LockStrength::Shared).await.expect("free");
                txn.lock(b"x", LockStrength::Exclusive).await.expect("free");
                assert_eq!(txn.get_for_update(b"a").await.expect("free"), None);
                assert_eq!(txn.get_for_update(b"b").await.expect("free"), Some(bytes("1")));
                assert_eq!(txn.get(b"c").await.expect("get"), None);
                txn.put(bytes("a"), bytes("1")).await.expect("put");
                // Somebody waits for its lock, and goes on waiting.
                let waits = async {
                    let mut waiter = db.begin(options(Isolation::ReadCommitted));
                    let found = waiter.get_for_update(b"a").await.expect("granted");
                    waiter.rollback().await;
                    found
                };
                let goes_on = async {
                    cluster.sleep_ms(50).await;
                    let next = leave(&cluster, leader, how).await;
                    assert_eq!(
                        cluster.db(next).expect("it leads").resumed_sessions(),
                        1,
                        "seed {seed} {how:?}"
                    );
                    cluster.sleep_ms(seed * 200).await;
                    txn.begin_statement().await.expect("begins");
                    assert_eq!(txn.get_for_update(b"d").await.expect("free"), None);
                    txn.put(bytes("d"), bytes("1")).await.expect("put");
                    txn.commit().await.expect("it goes on");
                };
                let (found, ()) = futures_util::join!(waits, goes_on);
                assert_eq!(found, Some(bytes("1")), "seed {seed} {how:?}: its lock was kept");
                assert_eq!(get(&db, "d").await.expect("get"), Some(bytes("1")));
            });
        }
    }
}

/// Counts in a row at one node, by one transaction after the other, while the lease leaves another one. What the row has in
/// the end, and how many transactions failed.
fn counted(seed: u64) -> (Option<Bytes>, u32) {
    let how = if seed.is_multiple_of(2) { Leaves::Cedes } else { Leaves::Dies };
    let cluster = Cluster::new(seed, DbConfig::default());
    cluster.run(async {
        let leader = cluster.up().await;
        let db = cluster.db((leader + 1) % NODES).expect("it runs");
        put_again(&db, "a", "0").await.expect("put");
        let counts = async {
            let mut failed = 0;
            for _ in 0..200 {
                let mut txn = db.begin(TxnOptions::default());
                let found = txn.get_for_update(b"a").await.expect("free").expect("it is there");
                let count: u64 = std::str::from_utf8(&found).expect("text").parse().expect("a number");
                txn.put(bytes("a"), bytes(&(count + 1).to_string())).await.expect("put");
                failed += u32::from(txn.commit().await.is_err());
            }
            failed
        };
        let leaves = async {
            cluster.sleep_ms(20 + seed).await;
            leave(&cluster, leader, how).await;
        };
        let (failed, ()) = futures_util::join!(counts, leaves);
        (get(&db, "a").await.expect("get"), failed)
    })
}

/// Puts rows at one node, without having looked, and takes them out at another, while the lease leaves the third. How
/// many were taken out of how many.
fn taken_out(seed: u64, faults: Faults) -> (u32, u32) {
    const ROWS: u32 = 200;
    let how = if seed.is_multiple_of(2) { Leaves::Cedes } else { Leaves::Dies };
    let cluster = Cluster::new(seed, DbConfig { faults, ..DbConfig::default() });
    cluster.run(async {
        let leader = cluster.up().await;
        let db = cluster.db((leader + 1) % NODES).expect("it runs");
        let other = cluster.db((leader + 2) % NODES).expect("it runs");
        put_again(&db, "a", "0").await.expect("put");
        let done = std::cell::Cell::new(false);
        let puts = async {
            for row in 0..ROWS {
                let mut txn = db.begin(TxnOptions::default());
                txn.lock(b"o", LockStrength::Shared).await.expect("free");
                txn.put(bytes(&format!("m{row:03}")), bytes("1")).await.expect("put");
                txn.commit().await.expect("nobody is in its way");
            }
            done.set(true);
        };
        let takes = async {
            let mut taken = 0;
            loop {
                cluster.outside.executor.runtime().sleep(Duration::from_micros(100)).await;
                let was_done = done.get();
                let mut txn = other.begin(options(Isolation::ReadCommitted));
                let scan = Scan { start: bytes("m"), end: bytes("n"), reverse: false };
                let mut found = Vec::new();
                let mut row = |key: &[u8], _: &[u8]| {
                    found.push(Bytes::copy_from_slice(key));
                    true
                };
                assert_eq!(txn.scan(&scan, &mut row).await.expect("scan"), None);
                for key in &found {
                    assert!(txn.get_for_update(key).await.expect("free").is_some());
                    txn.delete(key.clone()).await.expect("delete");
                }
                txn.commit().await.expect("nobody else takes them");
                taken += found.len() as u32;
                if was_done && found.is_empty() {
                    return taken;
                }
            }
        };
        let leaves = async {
            cluster.sleep_ms(20 + seed).await;
            leave(&cluster, leader, how).await;
        };
        let ((), taken, ()) = futures_util::join!(puts, takes, leaves);
        (taken, ROWS)
    })
}

/// A commit that is on its way when the lease goes takes effect once.
#[test]
fn a_commit_of_a_transaction_that_outlives_the_lease_happens_once() {
    for seed in 0..60 {
        assert_eq!(counted(seed), (Some(bytes("200")), 0), "seed {seed}");
        let (taken, put) = taken_out(seed, Faults::default());
        assert_eq!(taken, put, "seed {seed}");
    }
    let unasked = Faults { resume_unasked: true, ..Faults::default() };
    let is_found = |seed: &u64| {
        let (taken, put) = taken_out(*seed, unasked);
        taken != put
    };
    assert!((0..200).find(is_found).is_some(), "a commit that is not looked for can be told");
}

/// What becomes of transactions of a gateway that was taken for dead, and does not know it when the lease moves: others have
/// had its locks meanwhile. The keys that are written by those that go on.
fn written_after_silence(seed: u64, faults: Faults) -> Vec<&'static str> {
    let cluster = Cluster::new(seed, DbConfig { faults, ..DbConfig::default() });
    cluster.run(async {
        let leader = cluster.up().await;
        let far = (leader + 2) % NODES;
        let db = cluster.db(leader).expect("it runs");
        let remote = cluster.db(far).expect("it runs");
        let mut changes = remote.begin(options(Isolation::ReadCommitted));
        assert_eq!(changes.get_for_update(b"a").await.expect("free"), None);
        let mut excludes = remote.begin(options(Isolation::ReadCommitted));
        excludes.lock(b"x", LockStrength::Exclusive).await.expect("free");
        cluster.isolate(far);
        cluster.sleep_ms(3_500).await;
        assert_eq!(db.describe_locks(), "", "it was taken for dead");
        let mut between = db.begin(options(Isolation::ReadCommitted));
        between.lock(b"x", LockStrength::Exclusive).await.expect("free");
        assert_eq!(between.get_for_update(b"a").await.expect("free"), None);
        between.commit().await.expect("commit");
        cluster.network.heal();
        let next = move_lease(&cluster, leader).await;
        let mut written = Vec::new();
        for (txn, key) in [(&mut changes, "a"), (&mut excludes, "c")] {
            txn.put(bytes(key), bytes("1")).await.expect("put");
            match txn.commit().await {
                Ok(_) => written.push(key),
                Err(TxnError::Retry { .. }) => {}
                Err(other) => panic!("seed {seed} {key}: {other}"),
            }
        }
        cluster.sleep_ms(1_000).await;
        assert_eq!(cluster.db(next).expect("it leads").describe_locks(), "");
        written
    })
}

#[test]
fn what_rests_on_a_lock_that_others_have_had_does_not_outlive_the_lease() {
    for seed in 0..20 {
        assert_eq!(written_after_silence(seed, Faults::default()), [""; 0], "seed {seed}");
    }
    let unsure = Faults { resume_unsure: true, ..Faults::default() };
    assert!((0..20).any(|seed| !written_after_silence(seed, unsure).is_empty()), "it can be told");
}

/// Who waits at a leaseholder when the lease goes is told, or waits on at the next one.
#[test]
fn nobody_waits_under_a_lease_that_is_over() {
    for seed in 0..5 {
        let cluster = Cluster::new(seed, DbConfig::default());
        cluster.run(async {
            let leader = cluster.up().await;
            let db = cluster.db(leader).expect("it runs");
            let other = cluster.db((leader + 2) % NODES).expect("it runs");
            let mut holder = db.begin(TxnOptions::default());
            holder.get_for_update(b"a").await.expect("free");
            let waits = async |db: &Arc<Db>| {
                let mut txn = db.begin(TxnOptions::default());
                let found = txn.get_for_update(b"a").await;
                txn.rollback().await;
                found
            };
            let moves = async {
                cluster.sleep_ms(200).await;
                assert_eq!(db.describe_locks().lines().count(), 1);
                move_lease(&cluster, leader).await;
            };
            let begun = cluster.now_ms();
            let (here, there, ()) = futures_util::join!(waits(&db), waits(&other), moves);
            assert!(matches!(here, Err(TxnError::Retry { .. })), "{here:?}");
            assert_eq!(there.expect("it is free there"), None);
            assert!(cluster.now_ms() - begun < 500, "seed {seed}");
            assert!(holder.commit().await.is_err(), "its lock is gone");
        });
    }
}

/// Calls outlast lost frames, and take no longer for them than it takes to ask after them.
#[test]
fn a_lock_is_waited_for_over_a_bad_network() {
    for seed in 0..5 {
        let cluster = Cluster::new(seed, DbConfig::default());
        cluster.run(async {
            let leader = cluster.up().await;
            let far = (leader + 1) % NODES;
            let (db, remote) = (cluster.db(leader).expect("it runs"), cluster.db(far).expect("it runs"));
            let mut holder = db.begin(TxnOptions::default());
            holder.get_for_update(b"a").await.expect("free");
            let bad = Link { lost_per_mille: 200, repeated_per_mille: 300, ..Link::default() };
            for (from, to) in [(leader, far), (far, leader)] {
                cluster.network.set_link(id(from), id(to), bad);
            }
            let waits = async {
                let mut txn = remote.begin(TxnOptions::default());
                assert_eq!(txn.get_for_update(b"a").await.expect("granted"), Some(bytes("1")));
                let waited = cluster.now_ms();
                txn.commit().await.expect("commit");
                waited
            };
            let holds = async {
                cluster.sleep_ms(5_000).await;
                holder.put(bytes("a"), bytes("1")).await.expect("put");
                holder.commit().await.expect("commit");
                cluster.now_ms()
            };
            let (granted, released) = futures_util::join!(waits, holds);
            assert!(granted - released < 500, "seed {seed}: {} ms", granted - released);
        });
    }
}

#[test]
fn a_node_that_dies_keeps_nothing_locked() {
    for max_buffer_bytes in [1, DbConfig::default().max_buffer_bytes] {
        let cluster = Cluster::new(3, DbConfig { max_buffer_bytes, ..DbConfig::default() });
        cluster.run(async {
            let leader = cluster.up().await;
            let (dying, other) = ((leader + 1) % NODES, leader);
            let db = cluster.db(dying).expect("it runs");
            let locks = async move {
                let mut txn = db.begin(TxnOptions::default());
                txn.get_for_update(b"a").await.expect("free");
                txn.put(bytes("a"), bytes("1")).await.expect("put");
                txn.put(bytes("b"), bytes("1")).await.expect("put");
                // It says that it lives.
                db.store().env().runtime.sleep(std::time::Duration::from_secs(5)).await;
                std::mem::forget(txn);
            };
            cluster.on(dying, locks).await.expect("it runs");
            let db = cluster.db(other).expect("it runs");
            let lock_timeout = Some(std::time::Duration::from_millis(20));
            let mut hasty = db.begin(TxnOptions { lock_timeout, ..TxnOptions::default() });
            let found = hasty.get_for_update(b"a").await;
            assert!(
                matches!(found, Err(TxnError::LockTimeout)),
                "a gateway that lives keeps its locks: {found:?}"
            );
            hasty.rollback().await;
            cluster.crash(dying);
            let begun = cluster.now_ms();
            put_again(&db, "a", "2").await.expect("put");
            put_again(&db, "b", "2").await.expect("put");
            assert!(cluster.now_ms() - begun < 3_500);
        });
    }
}

/// A new leaseholder does not know at once what is read elsewhere: it collects nothing before it does.
#[test]
fn a_snapshot_outlives_a_move_of_the_lease_and_a_vacuum() {
    for pause_ms in [0, 1_000, 4_000] {
        let cluster = Cluster::new(pause_ms, DbConfig::default());
        cluster.run(async {
            let leader = cluster.up().await;
            let db = cluster.db((leader + 2) % NODES).expect("it runs");
            put_again(&db, "a", "1").await.expect("put");
            let mut reader = db.begin(TxnOptions::default());
            assert_eq!(reader.get(b"b").await.expect("get"), None);
            put_again(&db, "a", "2").await.expect("put");
            let next = move_lease(&cluster, leader).await;
            put_again(&db, "a", "3").await.expect("put");
            cluster.sleep_ms(pause_ms).await;
            let leaseholder = cluster.db(next).expect("it runs");
            leaseholder.collect_all_garbage(&CancelToken::default()).await.expect("collect");
            assert_eq!(reader.get(b"a").await.expect("get"), Some(bytes("1")), "after {pause_ms} ms");
            reader.commit().await.expect("commit");
            cluster.sleep_ms(4_000).await;
            leaseholder.collect_all_garbage(&CancelToken::default()).await.expect("collect");
            assert!(leaseholder.gc_threshold().micros() > 0, "now it may");
        });
    }
}

/// A node without a replica of the range, as one that has just joined.
#[test]
fn a_node_without_a_replica_is_a_gateway() {
    for seed in 0..5 {
        let mut founded_with = vec![vec![]; NODES];
        founded_with[0] = vec![1];
        let cluster = Cluster::founded(seed, DbConfig::default(), founded_with);
        cluster.run(async {
            for node in 0..NODES {
                cluster.set_ahead(node, SimRng::stream(seed, &format!("off {node}")).below(MOST_OFF_MICROS));
            }
            assert_eq!(cluster.up().await, 0);
            for node in 0..NODES {
                let db = cluster.db(node).expect("it runs");
                put(&db, "a", &node.to_string()).await.expect("put");
                for reader in 0..NODES {
                    let db = cluster.db(reader).expect("it runs");
                    assert_eq!(get(&db, "a").await.expect("get"), Some(bytes(&node.to_string())));
                }
            }
        });
    }
}

/// Of a span that is watched each gateway knows what the others have committed there.
#[test]
fn a_gateway_is_told_what_others_have_committed() {
    let span = (Bytes::from_static(b"m"), Bytes::from_static(b"n"));
    let config = DbConfig { watched: Some(span), ..DbConfig::default() };
    for seed in 0..5 {
        let cluster = Cluster::new(seed, config.clone());
        cluster.run(async {
            let leader = cluster.up().await;
            let dbs: Vec<Arc<Db>> = (0..NODES).map(|node| cluster.db(node).expect("it runs")).collect();
            let (local, remote) = (&dbs[leader], &dbs[(leader + 1) % NODES]);
            let before = local.ask_watch().await.expect("watch");
            assert_eq!(remote.ask_watch().await.expect("watch"), before);
            for (db, other) in [(local, remote), (remote, local)] {
                let known = [db.ask_watch().await.expect("watch"), other.ask_watch().await.expect("watch")];
                put(db, "a", "1").await.expect("outside");
                assert_eq!(db.ask_watch().await.expect("watch"), known[0]);
                assert_eq!(other.ask_watch().await.expect("watch"), known[1]);
                put(db, "m", "1").await.expect("inside");
                assert_eq!(db.ask_watch().await.expect("watch"), known[0], "its own");
                // Whoever draws a snapshot above it, whatever it asks for first, is told.
                let reads = async |expected: Watch, how: u64| {
                    let mut txn = other.begin(TxnOptions::default());
                    txn.expect(expected);
                    match how {
                        0 => txn.get(b"a").await.map(|_| ()),
                        1 => txn.get_for_update(b"a").await.map(|_| ()),
                        2 => txn.read_ts().await.map(|_| ()),
                        _ => {
                            txn.lock(b"o", LockStrength::Shared).await.expect("free");
                            let told = txn.watch();
                            assert_eq!(told, Watch { count: known[1].count + 1, ..known[1] });
                            txn.get(b"a").await.map(|_| ())
                        }
                    }
                };
                let now = other.ask_watch().await.expect("watch");
                assert_eq!(now, Watch { count: known[1].count + 1, ..known[1] });
                assert_eq!(other.watch(), now);
                for how in 0..4 {
                    let stale = reads(known[1], how).await;
                    assert!(matches!(stale, Err(TxnError::Stale)), "{how}: {stale:?}");
                    reads(now, how).await.expect("as expected");
                }
                // A statement of its own draws one, too.
                let mut txn = other.begin(options(Isolation::ReadCommitted));
                txn.expect(now);
                txn.get(b"a").await.expect("as expected");
                put(db, "m", "2").await.expect("inside");
                txn.get(b"a").await.expect("it has its snapshot");
                txn.begin_statement().await.expect("begins");
                assert!(matches!(txn.get(b"a").await, Err(TxnError::Stale)));
            }
            // Another leaseholder counts anew.
            let known = remote.ask_watch().await.expect("watch");
            move_lease(&cluster, leader).await;
            assert!(remote.ask_watch().await.expect("watch").lease > known.lease);
            let mut txn = remote.begin(TxnOptions::default());
            txn.expect(known);
            assert!(matches!(txn.get(b"a").await, Err(TxnError::Stale)));
        });
    }
}

/// A large transaction, and one whose commit is on its way, are in flight.
#[test]
fn a_commit_into_a_watched_span_is_waited_for() {
    let span = (Bytes::from_static(b"m"), Bytes::new());
    let config = DbConfig { watched: Some(span), max_buffer_bytes: 1, ..DbConfig::default() };
    for seed in 0..20 {
        let cluster = Cluster::new(seed, config.clone());
        cluster.run(async {
            let leader = cluster.up().await;
            let (writer, reader) = (cluster.db(leader), cluster.db((leader + 1) % NODES));
            let (writer, reader) = (writer.expect("it runs"), reader.expect("it runs"));
            let known = reader.ask_watch().await.expect("watch");
            let writes = async {
                for value in ["1", "2", "3"] {
                    let mut txn = writer.begin(TxnOptions::default());
                    for key in ["k", "m"] {
                        txn.put(bytes(key), bytes(value)).await.expect("put");
                    }
                    txn.commit().await.expect("commit");
                }
            };
            // What was read at a watch, outside of any snapshot, is what every snapshot shows that expects it.
            let reads = async {
                let mut known = known;
                let mut seen = get(&reader, "m").await.expect("get");
                while seen != Some(bytes("3")) {
                    let mut txn = reader.begin(TxnOptions::default());
                    txn.expect(known);
                    match txn.get(b"m").await {
                        Ok(found) => assert_eq!(found, seen, "seed {seed}: {known:?}"),
                        Err(TxnError::Stale) => {
                            known = reader.ask_watch().await.expect("watch");
                            let mut catch_up = reader.begin(TxnOptions::default());
                            catch_up.expect(known);
                            match catch_up.get(b"m").await {
                                Ok(found) => seen = found,
                                Err(_) => known = Watch::default(),
                            }
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            };
            futures_util::join!(writes, reads);
        });
    }
}
