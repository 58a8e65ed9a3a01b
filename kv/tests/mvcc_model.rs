//! MVCC against a map from key to all its versions, on both engines, with flushes, compactions,
//! rising thresholds, intents and (in memory) crashes in between.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_kv::effects::{
    self, Applier, EFFECTS_FORMAT, Effects, RawWrite, ResolveSpan, Superseded, ThresholdUpdate, VersionWrite,
};
use cairn_kv::encoding::{self, Direction, prefix_end, put_bytes};
use cairn_kv::engine::{Cf, Engine, MemEngine, RocksEngine, RocksOptions, WriteBatch};
use cairn_kv::mvcc::{self, LOCK_FORMAT, LockValue, ProvisionalValue, Scanner, Strength};
use cairn_kv::{Error, Timestamp, gc};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

/// Which of [`KEYS`].
type Key = usize;

/// Strings whose encodings share prefixes as far as prefix-free keys can.
const KEYS: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a", b"a\0", b"ab", b"b", b"\xff"];

fn key(n: Key) -> Vec<u8> {
    let mut key = Vec::new();
    put_bytes(&mut key, KEYS[n], Direction::Asc);
    key
}

/// A version of a key as the model knows it; `None` is a tombstone.
type Versions = BTreeMap<u64, Option<Vec<u8>>>;

#[derive(Clone, Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Versions>,
    /// Intents of the one transaction: values by sequence number.
    intents: BTreeMap<Vec<u8>, BTreeMap<u32, Option<Vec<u8>>>>,
    now: u64,
    gc: u64,
    tombstone: u64,
}

impl Model {
    fn write(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        self.keys.entry(key.to_vec()).or_default().insert(self.now, value);
    }

    fn visible(&self, key: &[u8], ts: u64) -> Option<(u64, &Vec<u8>)> {
        let (at, value) = self.keys.get(key)?.range(..=ts).next_back()?;
        Some((*at, value.as_ref()?))
    }

    /// What a proposer says of the version that it supersedes: every second one does.
    fn superseded(&self, key: &[u8]) -> Option<Superseded> {
        let (ts, value) = self.keys.get(key)?.last_key_value()?;
        self.now.is_multiple_of(2).then(|| Superseded { ts: *ts, value: value.clone().map(Bytes::from) })
    }

    fn newest(&self, key: &[u8]) -> Option<(u64, bool)> {
        self.keys.get(key)?.last_key_value().map(|(ts, value)| (*ts, value.is_some()))
    }

    /// Whether a key has any version in `(after, upto]`, and whether one that changes a read.
    fn changes(&self, key: &[u8], after: u64, upto: u64) -> (bool, bool) {
        if upto <= after {
            return (false, false);
        }
        let Some(versions) = self.keys.get(key) else { return (false, false) };
        let mut any = false;
        let mut visible = false;
        for (ts, value) in versions.range(after + 1..=upto) {
            any = true;
            let before = versions.range(..ts).next_back().and_then(|(_, value)| value.as_ref());
            visible |= value.is_some() || before.is_some();
        }
        (any, visible)
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Groups of writes, each group committed at its own time, all applied in one batch.
    Commit(Vec<BTreeMap<Key, Option<u8>>>),
    Intent(Key, Vec<Option<u8>>),
    /// Resolves intents between two keys.
    Resolve {
        from: Key,
        to: Key,
        commit: bool,
        ignored: Vec<(u32, u32)>,
    },
    /// Raises thresholds to this many versions before now.
    Thresholds {
        gc: u64,
        tombstone: u64,
    },
    Flush,
    BeginFlush,
    /// Lets the filters use what is flushed.
    Filter,
    Compact(u8),
    /// All of the above, as VACUUM does.
    Vacuum {
        gc: u64,
        tombstone: u64,
    },
    Crash(u64),
    Check {
        back: u64,
        window: u64,
        from: u8,
        to: u8,
        stop: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS.len();
    let value = || prop_oneof![2 => Just(None), 3 => any::<u8>().prop_map(Some)];
    let group = prop::collection::btree_map(key(), value(), 1..4);
    prop_oneof![
        6 => vec(group, 1..4).prop_map(Op::Commit),
        2 => (key(), vec(value(), 1..4)).prop_map(|(key, values)| Op::Intent(key, values)),
        2 => (key(), key(), any::<bool>(), vec((0..4u32, 0..4u32), 0..2))
            .prop_map(|(from, to, commit, ignored)| Op::Resolve { from, to, commit, ignored }),
        1 => (5..40u64, 0..4u64).prop_map(|(gc, tombstone)| Op::Thresholds { gc, tombstone }),
        3 => (5..40u64, 0..4u64).prop_map(|(gc, tombstone)| Op::Vacuum { gc, tombstone }),
        2 => Just(Op::Flush),
        1 => Just(Op::BeginFlush),
        2 => Just(Op::Filter),
        2 => any::<u8>().prop_map(Op::Compact),
        1 => any::<u64>().prop_map(Op::Crash),
        8 => (0..16u64, 0..8u64, any::<u8>(), any::<u8>(), 0..5usize)
            .prop_map(|(back, window, from, to, stop)| Op::Check { back, window, from, to, stop }),
    ]
}

/// A bound of a span of user keys: none, a key, its successor, a prefix or a prefix's end.
fn bound(n: u8) -> Vec<u8> {
    let key = key(usize::from(n / 5) % KEYS.len());
    match n % 5 {
        0 => Vec::new(),
        1 => key,
        2 => [&key[..], &[0]].concat(),
        3 => prefix_end(&key),
        _ => prefix_end(&key[..key.len() - 2]),
    }
}

const TXN: [u8; 16] = [9; 16];
const OTHER: [u8; 16] = [8; 16];

struct World<'a> {
    engine: &'a dyn Engine,
    mem: Option<&'a MemEngine>,
    model: Model,
    flushed: Model,
    flushing: Option<Model>,
}

impl World<'_> {
    fn new<'a>(engine: &'a dyn Engine, mem: Option<&'a MemEngine>) -> World<'a> {
        World { engine, mem, model: Model::default(), flushed: Model::default(), flushing: None }
    }

    fn apply(&mut self, effects: &Effects) {
        let bytes = Bytes::from(effects.encode());
        let effects = Effects::decode_checked(bytes).unwrap();
        let mut batch = WriteBatch::default();
        effects::apply(self.engine, &effects, &mut batch).unwrap();
        self.engine.write(&batch).unwrap();
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Commit(groups) => {
                let mut applier = Applier::new(self.engine);
                for group in groups {
                    self.model.now += 1;
                    let mut effects = Effects { format: EFFECTS_FORMAT, ..Effects::default() };
                    for (n, value) in group {
                        let key = key(*n);
                        if self.model.intents.contains_key(&key) {
                            continue; // the intent excludes other writers
                        }
                        let value = value.map(|byte| vec![byte; usize::from(byte % 4)]);
                        effects.writes.push(VersionWrite {
                            key: key.clone().into(),
                            ts: self.model.now,
                            value: value.clone().map(Bytes::from),
                            fresh: !self.model.keys.contains_key(&key),
                            supersedes: self.model.superseded(&key),
                        });
                        self.model.write(&key, value);
                    }
                    applier.apply(&effects).unwrap();
                }
                self.engine.write(&applier.into_batch()).unwrap();
            }
            Op::Intent(n, values) => {
                self.model.now += 1;
                let key = key(*n);
                let by_seq: BTreeMap<u32, _> = (0..)
                    .zip(values.iter().map(|value| value.map(|byte| vec![byte; usize::from(byte % 4)])))
                    .collect();
                let intent = LockValue {
                    format: LOCK_FORMAT,
                    write_ts: self.model.now,
                    values: by_seq
                        .iter()
                        .map(|(seq, value)| ProvisionalValue {
                            seq: *seq,
                            value: value.clone().map(Bytes::from),
                        })
                        .collect(),
                    fresh: !self.model.keys.contains_key(&key),
                    ..LockValue::default()
                };
                let lock = |strength, txn, value: Option<Bytes>| RawWrite {
                    key: mvcc::lock_key(&key, strength, txn),
                    value,
                };
                let mere = LockValue { format: LOCK_FORMAT, ..LockValue::default() };
                let effects = Effects {
                    format: EFFECTS_FORMAT,
                    locks: vec![
                        lock(Strength::Intent, &TXN, Some(intent.encode_to_vec().into())),
                        lock(Strength::Exclusive, &TXN, Some(mere.encode_to_vec().into())),
                        lock(Strength::Shared, &OTHER, Some(mere.encode_to_vec().into())),
                    ],
                    ..Effects::default()
                };
                self.apply(&effects);
                self.model.intents.insert(key, by_seq);
            }
            Op::Resolve { from, to, commit, ignored } => {
                self.model.now += 1;
                let (start, end) = (key(*from), [&key(*to)[..], &[0]].concat());
                let effects = Effects {
                    format: EFFECTS_FORMAT,
                    resolves: vec![ResolveSpan {
                        start: start.clone().into(),
                        end: end.clone().into(),
                        txn_id: Bytes::copy_from_slice(&TXN),
                        commit_ts: if *commit { self.model.now } else { 0 },
                        ignored_seqs: ignored.iter().flat_map(|(first, last)| [*first, *last]).collect(),
                    }],
                    ..Effects::default()
                };
                self.apply(&effects);
                let resolved: Vec<_> =
                    self.model.intents.keys().filter(|key| **key >= start && **key < end).cloned().collect();
                for key in resolved {
                    let values = self.model.intents.remove(&key).unwrap();
                    let is_ignored =
                        |seq: u32| ignored.iter().any(|(first, last)| *first <= seq && seq <= *last);
                    let last = values.into_iter().rfind(|(seq, _)| !is_ignored(*seq));
                    if let (true, Some((_, value))) = (commit, last) {
                        self.model.write(&key, value);
                    }
                }
            }
            Op::Thresholds { gc, tombstone } => {
                let gc = self.model.now.saturating_sub(*gc);
                let tombstone = self.model.now.saturating_sub(*tombstone);
                self.apply(&Effects {
                    format: EFFECTS_FORMAT,
                    thresholds: Some(ThresholdUpdate { gc, tombstone, marker: 0 }),
                    ..Effects::default()
                });
                self.model.gc = self.model.gc.max(gc);
                self.model.tombstone = self.model.tombstone.max(tombstone);
                let found = effects::thresholds(self.engine).unwrap();
                assert_eq!((found.gc.0, found.tombstone.0), (self.model.gc, self.model.tombstone));
            }
            Op::Flush => {
                self.engine.flush().unwrap();
                self.flushed = self.model.clone();
                self.flushing = None;
            }
            Op::BeginFlush => {
                if let Some(mem) = self.mem {
                    mem.begin_flush();
                    self.flushing = Some(self.model.clone());
                }
            }
            Op::Filter => {
                let thresholds = effects::flushed_thresholds(self.engine).unwrap();
                self.engine.set_filter_thresholds(thresholds.into());
            }
            Op::Compact(which) => {
                let cf = Cf::ALL[usize::from(which % 4)];
                self.engine.compact(cf, &bound(which / 4), b"").unwrap();
            }
            Op::Vacuum { gc, tombstone } => {
                self.run(&Op::Thresholds { gc: *gc, tombstone: *tombstone });
                self.run(&Op::Flush);
                self.run(&Op::Filter);
                gc::collect(self.engine, b"", b"").unwrap();
            }
            Op::Crash(random) => {
                if let Some(mem) = self.mem {
                    mem.crash(*random);
                    if random & 1 == 1
                        && let Some(model) = self.flushing.take()
                    {
                        self.flushed = model;
                    }
                    self.flushing = None;
                    // Time does not go back.
                    self.model = Model { now: self.model.now, ..self.flushed.clone() };
                }
            }
            Op::Check { back, window, from, to, stop } => {
                let ts = self.model.now.saturating_sub(*back);
                for n in 0..KEYS.len() {
                    self.check_point(&key(n), ts);
                }
                let (start, end) = (bound(*from), bound(*to));
                for reverse in [false, true] {
                    self.check_scan(&start, &end, ts, reverse, *stop);
                }
                self.check_changes(&start, &end, ts, ts + window);
                self.check_locks(&start, &end);
            }
        }
    }

    /// Whether `result` may fail so: only below what is collected.
    fn refused<T>(&self, result: &Result<T, Error>, ts: u64) -> bool {
        match result {
            Ok(_) => false,
            Err(Error::BelowGcThreshold { .. }) => {
                assert!(ts < self.model.gc);
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn check_point(&self, key: &[u8], ts: u64) {
        let mut out = b"left over".to_vec();
        let expected = self.model.visible(key, ts);
        let found = mvcc::get(self.engine, key, Timestamp(ts), &mut out);
        if !self.refused(&found, ts) {
            let found = found.unwrap();
            assert_eq!(found.exists.then_some((found.ts.0, &out)), expected, "{key:?} at {ts}");
            let (any, visible) = self.model.changes(key, ts, u64::MAX);
            if ts >= self.model.gc {
                assert!(any || !found.newer);
                assert!(!visible || found.newer, "{key:?} has changed after {ts}");
            }
        }
        let changed = mvcc::changed_since(self.engine, key, Timestamp(ts), &mut out);
        if !self.refused(&changed, ts) && ts >= self.model.gc {
            let (any, visible) = self.model.changes(key, ts, u64::MAX);
            let changed = changed.unwrap();
            assert!(any || !changed);
            assert!(!visible || changed);
        }
        let (newest, is_value) = mvcc::newest(self.engine, key).unwrap();
        match self.model.newest(key) {
            Some((ts, true)) => assert_eq!((newest.0, is_value), (ts, true)),
            Some((ts, false)) => {
                let forgotten = newest.is_zero() && ts <= self.engine.filter_thresholds().tombstone.0;
                assert!(!is_value && (newest.0 == ts || forgotten));
            }
            None => assert!(newest.is_zero()),
        }
    }

    fn check_scan(&self, start: &[u8], end: &[u8], ts: u64, reverse: bool, stop: usize) {
        let mut expected: Vec<(Vec<u8>, Vec<u8>, u64)> = self
            .model
            .keys
            .keys()
            .filter(|key| &key[..] >= start && (end.is_empty() || &key[..] < end))
            .filter_map(|key| self.model.visible(key, ts).map(|(at, value)| (key.clone(), value.clone(), at)))
            .collect();
        if reverse {
            expected.reverse();
        }
        let mut found = Vec::new();
        let mut scan = || -> Result<(), Error> {
            let mut scanner = Scanner::new(self.engine, start, end, Timestamp(ts), reverse)?;
            // Stops once on the way and goes on.
            let mut left = stop;
            let mut row = |key: &[u8], value: &[u8], ts: Timestamp| {
                found.push((key.to_vec(), value.to_vec(), ts.0));
                left = left.wrapping_sub(1);
                left != 0
            };
            while !scanner.for_each(&mut row)? {}
            assert!(scanner.for_each(&mut |_, _, _| panic!("the span has ended"))?);
            Ok(())
        };
        if !self.refused(&scan(), ts) {
            assert_eq!(found, expected, "[{start:?}, {end:?}) at {ts}, reverse {reverse}");
        }
    }

    fn check_changes(&self, start: &[u8], end: &[u8], after: u64, upto: u64) {
        let found = mvcc::changed_in(self.engine, start, end, Timestamp(after), Timestamp(upto));
        if self.refused(&found, after) || after < self.model.gc {
            return;
        }
        let found = found.unwrap();
        if let Some(key) = &found {
            assert!(&key[..] >= start && (end.is_empty() || &key[..] < end));
            assert!(self.model.changes(key, after, upto).0, "{key:?} has no version in ({after}, {upto}]");
        }
        for key in self.model.keys.keys() {
            let passed = found.as_ref().is_none_or(|found| &key[..] < found);
            if &key[..] >= start && (end.is_empty() || &key[..] < end) && passed {
                assert!(!self.model.changes(key, after, upto).1, "{key:?} changed in ({after}, {upto}]");
            }
        }
    }

    fn check_locks(&self, start: &[u8], end: &[u8]) {
        let found = mvcc::locks(self.engine, start, end, usize::MAX).unwrap();
        let intents: Vec<_> = found
            .iter()
            .filter(|lock| lock.strength == Strength::Intent)
            .map(|lock| lock.key.to_vec())
            .collect();
        let expected: Vec<_> = self
            .model
            .intents
            .keys()
            .filter(|key| &key[..] >= start && (end.is_empty() || &key[..] < end))
            .cloned()
            .collect();
        assert_eq!(intents, expected);
        assert!(found.iter().all(|lock| (lock.txn_id == OTHER) == (lock.strength == Strength::Shared)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn memory_engine(ops in vec(op(), 1..60)) {
        let engine = MemEngine::new();
        let mut world = World::new(&engine, Some(&engine));
        for op in &ops {
            world.run(op);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// RocksDB, beside a memory engine that never compacts: once both have collected their garbage
    /// they hold the same, whatever was dropped when.
    #[test]
    fn rocksdb_engine_and_replicas_agree(ops in vec(op(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksEngine::open(dir.path(), &RocksOptions::default()).unwrap();
        let mem = MemEngine::new();
        let (mut on_rocks, mut on_mem) = (World::new(&rocks, None), World::new(&mem, None));
        for op in &ops {
            on_rocks.run(op);
            match op {
                Op::Compact(_) => {}
                Op::Vacuum { gc, tombstone } => {
                    on_mem.run(&Op::Thresholds { gc: *gc, tombstone: *tombstone });
                }
                op => on_mem.run(op),
            }
        }
        for engine in [&rocks as &dyn Engine, &mem] {
            engine.flush().unwrap();
            engine.set_filter_thresholds(effects::flushed_thresholds(engine).unwrap().into());
            gc::collect(engine, b"", b"").unwrap();
        }
        for cf in Cf::ALL {
            let digest = |engine: &dyn Engine| cairn_kv::engine::digest(engine, cf).unwrap();
            prop_assert_eq!(digest(&rocks), digest(&mem), "{:?}", cf);
        }
    }
}

#[test]
fn encoded_keys_are_prefix_free() {
    let keys: Vec<_> = (0..KEYS.len()).map(key).collect();
    for key in &keys {
        assert_eq!(keys.iter().filter(|other| other.starts_with(key)).count(), 1);
        let mut rest = &key[..];
        encoding::skip(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}
