//! What every storage engine promises, on both of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_kv::Timestamp;
use cairn_kv::effects::{self, EFFECTS_FORMAT, Effects, ThresholdUpdate};
use cairn_kv::engine::{
    Ascending, BEYOND_ALL_KEYS, Cf, Engine, EngineIter, FilterThresholds, MemEngine, RocksEngine,
    RocksOptions, SharedEngine, WriteBatch,
};
use cairn_kv::{local_keys, version};

/// An engine that can lose what it has not flushed.
enum Subject {
    Mem(Arc<MemEngine>),
    Rocks { engine: Option<Arc<RocksEngine>>, dir: tempfile::TempDir, lives: u32 },
}

impl Subject {
    fn both() -> [Subject; 2] {
        let dir = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(&dir.path().join("0"), &RocksOptions::default()).unwrap();
        let rocks = Subject::Rocks { engine: Some(Arc::new(engine)), dir, lives: 0 };
        [Subject::Mem(Arc::new(MemEngine::new())), rocks]
    }

    fn shared(&self) -> SharedEngine {
        match self {
            Subject::Mem(engine) => Arc::clone(engine) as SharedEngine,
            Subject::Rocks { engine, .. } => Arc::clone(engine.as_ref().unwrap()) as SharedEngine,
        }
    }

    fn engine(&self) -> &dyn Engine {
        match self {
            Subject::Mem(engine) => &**engine,
            Subject::Rocks { engine, .. } => &**engine.as_ref().unwrap(),
        }
    }

    /// As if the process had been killed: RocksDB reopens a copy of its files of now.
    fn crash(&mut self) {
        match self {
            Subject::Mem(engine) => engine.crash(0),
            Subject::Rocks { engine, dir, lives } => {
                let path = |life: u32| -> PathBuf { dir.path().join(life.to_string()) };
                copy_dir(&path(*lives), &path(*lives + 1));
                *lives += 1;
                *engine = Some(Arc::new(RocksEngine::open(&path(*lives), &RocksOptions::default()).unwrap()));
            }
        }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn put(engine: &dyn Engine, cf: Cf, entries: &[(&str, &str)]) {
    let mut batch = WriteBatch::default();
    for (key, value) in entries {
        batch.put(cf, key.as_bytes().to_vec(), value.as_bytes().to_vec());
    }
    engine.write(&batch).unwrap();
}

fn get(engine: &dyn Engine, cf: Cf, key: &str) -> Option<String> {
    let mut out = b"left over".to_vec();
    engine.get(cf, key.as_bytes(), &mut out).unwrap().then(|| String::from_utf8(out).unwrap())
}

fn get_flushed(engine: &dyn Engine, cf: Cf, key: &str) -> Option<String> {
    let mut out = b"left over".to_vec();
    engine.get_flushed(cf, key.as_bytes(), &mut out).unwrap().then(|| String::from_utf8(out).unwrap())
}

fn key(iter: &(dyn EngineIter + Send + '_)) -> Option<String> {
    iter.status().unwrap();
    iter.valid().then(|| String::from_utf8(iter.key().to_vec()).unwrap())
}

fn keys(engine: &dyn Engine, cf: Cf, lower: &str, upper: &str) -> String {
    let mut iter = engine.iter(cf, lower.as_bytes(), upper.as_bytes()).unwrap();
    let mut found = Vec::new();
    iter.seek_to_first();
    while let Some(key) = key(&*iter) {
        found.push(key);
        iter.next();
    }
    let mut reverse = Vec::new();
    iter.seek_to_last();
    while let Some(key) = self::key(&*iter) {
        reverse.push(key);
        iter.prev();
    }
    reverse.reverse();
    assert_eq!(found, reverse);
    found.join(" ")
}

#[test]
fn families_are_apart_and_batches_in_order() {
    for subject in Subject::both() {
        let engine = subject.engine();
        for (n, cf) in Cf::ALL.into_iter().enumerate() {
            put(engine, cf, &[("k", &n.to_string())]);
        }
        for (n, cf) in Cf::ALL.into_iter().enumerate() {
            assert_eq!(get(engine, cf, "k"), Some(n.to_string()));
            assert_eq!(get(engine, cf, "j"), None);
        }
        let mut batch = WriteBatch::default();
        batch.put(Cf::Lock, "a", "1");
        batch.delete(Cf::Lock, "a");
        batch.put(Cf::Lock, "b", "1");
        batch.put(Cf::Lock, "c", "");
        batch.delete_range(Cf::Lock, "b", "c");
        batch.delete_range(Cf::Lock, "z", "a");
        batch.put(Cf::Lock, "bb", "2");
        engine.write(&batch).unwrap();
        assert_eq!(keys(engine, Cf::Lock, "", ""), "bb c k");
        assert_eq!(get(engine, Cf::Lock, "c"), Some(String::new()));
    }
}

#[test]
fn iterators_keep_to_their_bounds() {
    for subject in Subject::both() {
        let engine = subject.engine();
        put(engine, Cf::Lock, &[("a", "1"), ("c", "2"), ("e", "3"), ("g", "4")]);
        assert_eq!(keys(engine, Cf::Lock, "c", "g"), "c e");
        assert_eq!(keys(engine, Cf::Lock, "b", ""), "c e g");
        assert_eq!(keys(engine, Cf::Lock, "d", "d"), "");
        assert_eq!(keys(engine, Cf::Lock, "g", "a"), "");
        let mut iter = engine.iter(Cf::Lock, b"c", b"g").unwrap();
        assert!(!iter.valid(), "an iterator starts unpositioned");
        for (seek, found) in [("", Some("c")), ("c", Some("c")), ("d", Some("e")), ("f", None), ("z", None)] {
            iter.seek(seek.as_bytes());
            assert_eq!(key(&*iter).as_deref(), found, "seek {seek}");
        }
        for (seek, found) in
            [("", None), ("b", None), ("c", Some("c")), ("d", Some("c")), ("g", Some("e")), ("z", Some("e"))]
        {
            iter.seek_for_prev(seek.as_bytes());
            assert_eq!(key(&*iter).as_deref(), found, "seek_for_prev {seek}");
        }
        iter.seek(b"e");
        assert_eq!(iter.value(), b"3");
        iter.prev();
        assert_eq!(key(&*iter).as_deref(), Some("c"));
        iter.next();
        iter.next();
        assert_eq!(key(&*iter), None);
    }
}

#[test]
fn ascending_reads_find_what_points_find() {
    for subject in Subject::both() {
        let engine = subject.engine();
        // Dense in the middle, strewn before, nothing behind.
        let stored: Vec<String> = (0..20_000)
            .filter(|n| n % 7 == 0 || *n > 8_000 && *n < 12_000)
            .map(|n| format!("{n:05}"))
            .collect();
        let entries: Vec<(&str, &str)> = stored.iter().map(|key| (&key[..], &key[..])).collect();
        put(engine, Cf::Data, &entries);
        let all = |step: usize| (0..30_000_u32).step_by(step).map(|n| format!("{n:05}")).collect::<Vec<_>>();
        for asked in [all(1), all(3), all(1_000), all(7), vec!["00007".into()], vec!["00008".into()]] {
            let (first, last) = (asked.first().unwrap(), asked.last().unwrap());
            let mut reads = Ascending::new(engine, Cf::Data, first.as_bytes(), last.as_bytes());
            let mut out = b"left over".to_vec();
            for key in &asked {
                let found = reads.get(key.as_bytes(), &mut out).unwrap();
                assert_eq!(found.then(|| out.clone()), get(engine, Cf::Data, key).map(String::into_bytes));
            }
        }
    }
}

#[test]
fn an_iterator_sees_the_moment_of_its_creation() {
    for subject in Subject::both() {
        let engine = subject.engine();
        put(engine, Cf::Lock, &[("a", "1"), ("b", "1")]);
        let mut before = engine.iter(Cf::Lock, b"", b"").unwrap();
        let mut batch = WriteBatch::default();
        batch.delete(Cf::Lock, "a");
        batch.put(Cf::Lock, "b", "2");
        batch.put(Cf::Lock, "c", "2");
        engine.write(&batch).unwrap();
        engine.flush().unwrap();
        engine.compact(Cf::Lock, b"", b"").unwrap();
        before.seek_to_first();
        assert_eq!(key(&*before).as_deref(), Some("a"));
        before.next();
        assert_eq!(before.value(), b"1");
        before.next();
        assert_eq!(key(&*before), None);
        assert_eq!(keys(engine, Cf::Lock, "", ""), "b c");
    }
}

#[test]
fn a_snapshot_is_of_the_moment_of_its_making_in_all_families() {
    for subject in Subject::both() {
        let engine = subject.engine();
        let ts = Timestamp;
        let one = version::encode(ts(20), Some(b"1"));
        let mut batch = WriteBatch::default();
        for cf in Cf::ALL {
            batch.put(cf, "k", one.clone());
        }
        batch.put(Cf::Data, "dead", version::encode(ts(10), None));
        engine.write(&batch).unwrap();
        engine.flush().unwrap();
        let mut snapshot = subject.shared().snapshot().unwrap();
        // Iterators that are positioned only after all this.
        for cf in Cf::ALL {
            let mut batch = WriteBatch::default();
            batch.put(cf, "a", version::encode(ts(30), Some(b"2")));
            batch.delete(cf, "k");
            engine.write(&batch).unwrap();
        }
        engine.set_filter_thresholds(FilterThresholds { gc: ts(10), tombstone: ts(10), marker: ts(10) });
        engine.flush().unwrap();
        engine.compact(Cf::Lock, b"", b"").unwrap();
        engine.compact(Cf::Data, b"", b"").unwrap();
        assert_eq!(keys(engine, Cf::Data, "", ""), "a", "the tombstone is collected");
        for cf in Cf::ALL {
            let iter = snapshot.iter(cf);
            iter.seek(b"a");
            if cf == Cf::Data {
                assert_eq!(iter.key(), b"dead");
                iter.next();
            }
            assert_eq!(iter.entry(), Some((&b"k"[..], &one[..])), "{cf:?}");
            iter.next();
            assert_eq!(iter.entry(), None, "{cf:?}");
            iter.status().unwrap();
            // And again.
            iter.seek(b"e");
            assert_eq!(iter.entry(), Some((&b"k"[..], &one[..])), "{cf:?}");
        }
        drop(subject);
        assert_eq!(snapshot.iter(Cf::Lock).entry(), Some((&b"k"[..], &one[..])), "it keeps what it shows");
    }
}

/// Stages a table that clears a span and has some entries.
fn stage(engine: &dyn Engine, name: &str, cf: Cf, clear: (&str, &str), entries: &[(&str, &str)]) {
    let mut stage = engine.stage(cf).unwrap();
    stage.clear(clear.0.as_bytes(), clear.1.as_bytes()).unwrap();
    for (key, value) in entries {
        stage.put(key.as_bytes(), value.as_bytes()).unwrap();
    }
    stage.finish(name).unwrap();
}

#[test]
fn ingested_tables_replace_what_is_there_as_often_as_they_are_ingested() {
    for mut subject in Subject::both() {
        let engine = subject.engine();
        put(engine, Cf::Data, &[("a", "old"), ("b", "old"), ("c", "old"), ("d", "old"), ("z", "old")]);
        engine.flush().unwrap();
        put(engine, Cf::Data, &[("bb", "unflushed"), ("z", "unflushed")]);
        put(engine, Cf::Lock, &[("l", "unflushed")]);
        stage(engine, "1", Cf::Data, ("b", "c"), &[("b", "new"), ("ba", "new")]);
        stage(engine, "2", Cf::Data, ("c", "e"), &[("cc", "new")]);
        assert_eq!(engine.staged().unwrap(), ["1", "2"]);
        assert_eq!(keys(engine, Cf::Data, "", ""), "a b bb c d z", "nothing has happened yet");
        let names = ["1".to_owned(), "2".to_owned()];
        for _ in 0..2 {
            engine.ingest(Cf::Data, &names).unwrap();
            assert_eq!(keys(engine, Cf::Data, "", ""), "a b ba cc z");
            assert_eq!(get(engine, Cf::Data, "b").as_deref(), Some("new"));
            // What follows is above what was ingested.
            put(engine, Cf::Data, &[("b", "later"), ("bc", "later"), ("d", "later")]);
            assert_eq!(get(engine, Cf::Data, "b").as_deref(), Some("later"));
            assert_eq!(keys(engine, Cf::Data, "", ""), "a b ba bc cc d z");
        }
        engine.flush().unwrap();
        engine.ingest(Cf::Data, &names).unwrap();
        engine.compact(Cf::Data, b"", b"").unwrap();
        assert_eq!(keys(engine, Cf::Data, "", ""), "a b ba cc z");
        subject.crash();
        let engine = subject.engine();
        assert_eq!(keys(engine, Cf::Data, "", ""), "a b ba cc z", "it is durable");
        assert_eq!(get(engine, Cf::Data, "z").as_deref(), Some("unflushed"), "and with it what was before");
        assert_eq!(get(engine, Cf::Lock, "l").as_deref(), Some("unflushed"));
        engine.ingest(Cf::Data, &names).unwrap();
        engine.discard("1").unwrap();
        engine.discard("1").unwrap();
        assert_eq!(engine.staged().unwrap(), ["2"]);
        assert!(engine.ingest(Cf::Data, &names).is_err(), "one is gone");
        assert_eq!(keys(engine, Cf::Data, "", ""), "a b ba cc z");
    }
}

#[test]
fn finished_tables_outlast_a_crash_and_others_leave_nothing() {
    for mut subject in Subject::both() {
        let engine = subject.engine();
        put(engine, Cf::Lock, &[("k", "1"), ("kk", "1")]);
        engine.flush().unwrap();
        let mut empty = engine.stage(Cf::Lock).unwrap();
        empty.clear(b"k", BEYOND_ALL_KEYS).unwrap();
        empty.finish("clears only").unwrap();
        let mut unfinished = engine.stage(Cf::Lock).unwrap();
        unfinished.put(b"k", b"2").unwrap();
        drop(engine.stage(Cf::Data).unwrap());
        std::mem::forget(unfinished);
        subject.crash();
        let engine = subject.engine();
        assert_eq!(engine.staged().unwrap(), ["clears only"]);
        engine.ingest(Cf::Lock, &["clears only".to_owned()]).unwrap();
        assert_eq!(keys(engine, Cf::Lock, "", ""), "");
    }
}

#[test]
fn a_crash_loses_exactly_what_was_not_flushed() {
    for mut subject in Subject::both() {
        let engine = subject.engine();
        put(engine, Cf::Lock, &[("a", "1")]);
        put(engine, Cf::Data, &[("a", "1")]);
        assert_eq!(get_flushed(engine, Cf::Lock, "a"), None);
        engine.flush().unwrap();
        assert_eq!(get_flushed(engine, Cf::Lock, "a").as_deref(), Some("1"));
        let mut batch = WriteBatch::default();
        batch.put(Cf::Lock, "a", "2");
        batch.delete(Cf::Data, "a");
        batch.put(Cf::Local, "b", "2");
        engine.write(&batch).unwrap();
        assert_eq!(get_flushed(engine, Cf::Lock, "a").as_deref(), Some("1"));
        assert_eq!(get(engine, Cf::Lock, "a").as_deref(), Some("2"));
        subject.crash();
        let engine = subject.engine();
        assert_eq!(get(engine, Cf::Lock, "a").as_deref(), Some("1"));
        assert_eq!(get(engine, Cf::Data, "a").as_deref(), Some("1"));
        assert_eq!(get(engine, Cf::Local, "b"), None);
    }
}

#[test]
fn filters_drop_what_their_thresholds_allow() {
    for subject in Subject::both() {
        let engine = subject.engine();
        let ts = Timestamp;
        let mut batch = WriteBatch::default();
        for (name, at, value) in [("dead", 10, None), ("fresh", 20, None), ("live", 10, Some(&b"v"[..]))] {
            batch.put(Cf::Data, name, version::encode(ts(at), value));
        }
        for (name, superseded_at) in [("old", 10), ("recent", 20)] {
            let mut value = version::encode(ts(5), Some(b"v")).to_vec();
            version::supersede(&mut value, ts(superseded_at));
            batch.put(Cf::History, version::history_key(name.as_bytes(), ts(5)), value);
        }
        for at in [10, 20] {
            let key = local_keys::commit_marker(b"anchor", ts(at), &[7; 16]);
            batch.put(Cf::Local, key, local_keys::commit_marker_value(ts(at)));
        }
        batch.put(Cf::Local, local_keys::txn_record(b"anchor", &[7; 16]), "record");
        engine.write(&batch).unwrap();
        let entries = || {
            Cf::ALL.map(|cf| {
                engine.compact(cf, b"", b"").unwrap();
                let mut iter = engine.iter(cf, b"", b"").unwrap();
                iter.seek_to_first();
                let mut entries = 0;
                while iter.valid() {
                    entries += 1;
                    iter.next();
                }
                entries
            })
        };
        assert_eq!(entries(), [0, 3, 2, 4], "without thresholds nothing goes");
        let thresholds = FilterThresholds { gc: ts(10), tombstone: ts(10), marker: ts(10) };
        engine.set_filter_thresholds(thresholds);
        assert_eq!(entries(), [0, 2, 1, 3]);
        engine.set_filter_thresholds(FilterThresholds::default());
        assert_eq!(engine.filter_thresholds(), thresholds, "they only rise");
        let mut out = Vec::new();
        assert!(!engine.get(Cf::Data, b"dead", &mut out).unwrap());
        assert!(engine.get(Cf::Data, b"fresh", &mut out).unwrap());
        assert!(engine.get(Cf::History, &version::history_key(b"recent", ts(5)), &mut out).unwrap());
    }
}

#[test]
fn a_reopened_engine_knows_its_thresholds() {
    for mut subject in Subject::both() {
        let engine = subject.engine();
        for gc in [7, 9] {
            let thresholds = Some(ThresholdUpdate { gc, tombstone: 8, marker: 0 });
            let mut batch = WriteBatch::default();
            let effects = Effects { format: EFFECTS_FORMAT, thresholds, ..Effects::default() };
            effects::apply(engine, &effects, &mut batch).unwrap();
            engine.write(&batch).unwrap();
            if gc == 7 {
                engine.flush().unwrap();
            }
        }
        assert_eq!(engine.filter_thresholds(), FilterThresholds::default(), "only the store sets them");
        subject.crash();
        let expected = FilterThresholds { gc: Timestamp(7), tombstone: Timestamp(8), marker: Timestamp(0) };
        assert_eq!(subject.engine().filter_thresholds(), expected);
    }
}

#[test]
fn sizes_are_told() {
    for subject in Subject::both() {
        let engine = subject.engine();
        let before = engine.stats();
        let value = "x".repeat(1000);
        for n in 0..1000 {
            put(engine, Cf::Lock, &[(&format!("{n:04}"), &value)]);
        }
        assert!(engine.stats().memtable_bytes > before.memtable_bytes + 900_000);
        engine.flush().unwrap();
        let after = engine.stats();
        assert!(after.memtable_bytes < 900_000, "{after:?}");
        assert!(after.table_bytes > before.table_bytes, "{after:?}");
        let all = engine.approximate_size(Cf::Lock, b"", b"").unwrap();
        let half = engine.approximate_size(Cf::Lock, b"0500", b"").unwrap();
        assert!(all > 0 && half > 0 && half < all, "{half} of {all}");
    }
}

#[test]
fn both_engines_digest_alike() {
    let [mem, rocks] = Subject::both();
    for subject in [&mem, &rocks] {
        put(subject.engine(), Cf::Lock, &[("a", "1"), ("b", "2")]);
    }
    for cf in Cf::ALL {
        let digest = |subject: &Subject| cairn_kv::engine::digest(subject.engine(), cf).unwrap();
        assert_eq!(digest(&mem), digest(&rocks), "{cf:?}");
        let before = digest(&mem);
        put(mem.engine(), cf, &[("c", "3")]);
        assert_ne!(digest(&mem), before, "{cf:?}");
    }
}
