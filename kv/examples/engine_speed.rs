//! Times the engine's hot paths: `cargo run --release -p cairn-kv --example engine_speed [ROWS]`.
//!
//! Loads rows of about 100 bytes, then reads points and scans from the memtable, and again from
//! flushed and compacted tables with a warm cache.

use std::time::Instant;

use cairn_kv::Timestamp;
use cairn_kv::effects::{Applier, EFFECTS_FORMAT, Effects, VersionWrite};
use cairn_kv::encoding::{Direction, put_i64};
use cairn_kv::engine::{Cf, Engine, RocksEngine, RocksOptions};
use cairn_kv::mvcc::{self, Scanner};

fn key(n: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(12);
    put_i64(&mut key, 1001, Direction::Asc);
    put_i64(&mut key, 1, Direction::Asc);
    put_i64(&mut key, n, Direction::Asc);
    key
}

fn time(what: &str, times: u64, mut work: impl FnMut(u64)) {
    let start = Instant::now();
    for n in 0..times {
        work(n);
    }
    let nanos = start.elapsed().as_nanos() as f64;
    println!("{what:<44} {:>9.0} ns each {:>12.0} /s", nanos / times as f64, times as f64 * 1e9 / nanos);
}

fn scan(engine: &dyn Engine, rows: u64, what: &str, ts: u64) {
    for round in 0..2 {
        let start = Instant::now();
        let mut scanner = Scanner::new(engine, &[], &[], Timestamp(ts), false).expect("opens");
        let (mut seen, mut bytes) = (0u64, 0);
        let all = scanner.for_each(&mut |_, value, _| {
            seen += 1;
            bytes += value.len();
            true
        });
        assert!(all.expect("scans") && seen == rows);
        let nanos = start.elapsed().as_nanos() as f64;
        println!(
            "{:<44} {:>9.1} ns each {:>12.0} /s",
            format!("scan {what}, round {round}"),
            nanos / rows as f64,
            rows as f64 * 1e9 / nanos
        );
    }
    let start = Instant::now();
    let mut iter = engine.iter(Cf::Data, &[], &[]).expect("opens");
    iter.seek_to_first();
    let mut bytes = 0;
    while iter.valid() {
        bytes += iter.key().len() + iter.value().len();
        iter.next();
    }
    let nanos = start.elapsed().as_nanos() as f64;
    println!("{:<44} {:>9.1} ns each ({bytes} bytes)", format!("bare iterator {what}"), nanos / rows as f64);
}

fn points(engine: &dyn Engine, rows: u64, what: &str) {
    let mut out = Vec::new();
    let step = 7_919;
    time(&format!("point get {what}"), 300_000, |n| {
        let found =
            mvcc::get(engine, &key((n * step % rows) as i64), Timestamp::MAX, &mut out).expect("reads");
        assert!(found.exists);
    });
    time(&format!("absent get {what}"), 300_000, |n| {
        let found = mvcc::get(engine, &key((rows + n) as i64), Timestamp::MAX, &mut out).expect("reads");
        assert!(!found.exists);
    });
    time(&format!("scan of 10 rows {what}"), 50_000, |n| {
        let from = (n * step % (rows - 10)) as i64;
        let mut scanner =
            Scanner::new(engine, &key(from), &key(from + 10), Timestamp::MAX, false).expect("opens");
        let mut seen = 0;
        scanner
            .for_each(&mut |_, _, _| {
                seen += 1;
                true
            })
            .expect("scans");
        assert_eq!(seen, 10);
    });
}

fn main() {
    let rows: u64 = std::env::args().nth(1).map_or(1_000_000, |rows| rows.parse().expect("a number of rows"));
    let dir = tempfile::tempdir().expect("a directory");
    let options = RocksOptions { cache_bytes: 1 << 30, ..RocksOptions::default() };
    let engine = RocksEngine::open(dir.path(), &options).expect("opens");
    let payload = bytes::Bytes::from(vec![b'x'; 92]);
    let mut ts = 0;
    let write = |engine: &RocksEngine, keys: &mut dyn Iterator<Item = i64>, fresh: bool, ts: &mut u64| {
        *ts += 1;
        let effects = Effects {
            format: EFFECTS_FORMAT,
            writes: keys
                .map(|n| VersionWrite {
                    key: key(n).into(),
                    ts: *ts,
                    value: Some(payload.clone()),
                    fresh,
                    supersedes: None,
                })
                .collect(),
            ..Effects::default()
        };
        let mut applier = Applier::new(engine);
        applier.apply(&effects).expect("applies");
        engine.write(&applier.into_batch()).expect("writes");
    };
    let chunk = 10_000;
    let small = rows / 10;
    time("load, row of a batch of 10,000 (memtable)", small / chunk, |n| {
        write(&engine, &mut ((n * chunk) as i64..((n + 1) * chunk) as i64), true, &mut ts);
    });
    points(&engine, small, "memtable");
    scan(&engine, small, "memtable", ts);
    let start = Instant::now();
    for n in small / chunk..rows / chunk {
        write(&engine, &mut ((n * chunk) as i64..((n + 1) * chunk) as i64), true, &mut ts);
        if n % 10 == 9 {
            engine.flush().expect("flushes");
        }
    }
    println!("load with flushes: {:.2} s", start.elapsed().as_secs_f64());
    engine.flush().expect("flushes");
    let start = Instant::now();
    engine.compact(Cf::Data, &[], &[]).expect("compacts");
    println!("compact: {:.2} s, {:?}", start.elapsed().as_secs_f64(), engine.stats());
    points(&engine, rows, "tables");
    scan(&engine, rows, "tables", ts);
    time("apply and write of 4 updates", 20_000, |n| {
        write(&engine, &mut (0..4).map(|k| ((n * 7_919 + k * 100_003) % rows) as i64), false, &mut ts);
    });
    scan(&engine, rows, "tables, 80,000 rows updated", ts);
    scan(&engine, rows, "tables, 80,000 rows updated, in the past", ts - 20_000);
    println!("cache {} MiB, {:?}", engine.cache_usage() >> 20, engine.stats());
}
