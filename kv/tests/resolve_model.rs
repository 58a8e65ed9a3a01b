//! Resolution of intents against a model, on both engines: locks of several transactions interleaved,
//! several commands in one batch, rolled back sequences, aborts, and replays that cut the log into
//! other batches than those it was applied in.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_kv::effects::{
    Applier, ClearSpan, EFFECTS_FORMAT, Effects, RawWrite, ResolveSpan, Superseded, VersionWrite,
};
use cairn_kv::encoding::{Direction, put_i64};
use cairn_kv::engine::{Cf, Engine, MemEngine, RocksEngine, RocksOptions};
use cairn_kv::mvcc::{self, LOCK_FORMAT, LockValue, ProvisionalValue, Strength, TxnId};
use cairn_kv::{Timestamp, version};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

/// Enough for spans of locks, and for gaps between the keys that are looked up.
const KEYS: i64 = 300;
const TXNS: u8 = 3;

fn key(n: i64) -> Bytes {
    let mut key = Vec::new();
    put_i64(&mut key, n, Direction::Asc);
    key.into()
}

fn txn_id(txn: u8) -> TxnId {
    [txn; 16]
}

/// Keys from the first on, each so many behind the one before.
#[derive(Clone, Copy, Debug)]
struct Keys {
    first: i64,
    count: i64,
    step: i64,
}

impl Keys {
    fn each(self) -> impl Iterator<Item = Bytes> {
        (0..self.count).map(move |n| self.first + n * self.step).filter(|n| *n < KEYS).map(key)
    }
}

/// One command.
#[derive(Clone, Debug)]
enum Command {
    /// Intents, where no other transaction has one, with the values' sequences.
    Lay(u8, Keys, Vec<Option<u8>>),
    /// Locks without values.
    Lock(u8, Keys, Strength),
    /// Removes a transaction's locks of a strength one by one.
    Unlock(u8, Keys, Strength),
    /// Commits where there are no intents.
    Write(Keys, Option<u8>),
    Resolve {
        txn: u8,
        from: i64,
        to: i64,
        commit: bool,
        ignored: Vec<(u32, u32)>,
    },
    /// Removes keys without locks for good.
    Clear(i64, i64),
}

#[derive(Clone, Debug)]
enum Op {
    /// Commands applied in one batch.
    Batch(Vec<Command>),
    Flush,
    Compact(u8),
    /// In memory only: loses what was not flushed and replays it, so many commands at a time.
    Crash(usize),
}

fn keys() -> impl Strategy<Value = Keys> {
    (0..KEYS, prop_oneof![1..4i64, 30..KEYS], 1..4i64).prop_map(|(first, count, step)| Keys {
        first: first / 2,
        count,
        step,
    })
}

fn command() -> impl Strategy<Value = Command> {
    let txn = || 0..TXNS;
    let value = || prop_oneof![1 => Just(None), 3 => any::<u8>().prop_map(Some)];
    let strength = || prop_oneof![Just(Strength::Shared), Just(Strength::Exclusive)];
    prop_oneof![
        5 => (txn(), keys(), vec(value(), 1..4)).prop_map(|(txn, keys, values)| Command::Lay(txn, keys, values)),
        2 => (txn(), keys(), strength()).prop_map(|(txn, keys, strength)| Command::Lock(txn, keys, strength)),
        1 => (txn(), keys(), strength()).prop_map(|(txn, keys, strength)| Command::Unlock(txn, keys, strength)),
        2 => (keys(), value()).prop_map(|(keys, value)| Command::Write(keys, value)),
        5 => (txn(), 0..KEYS, 0..KEYS, any::<bool>(), vec((0..4u32, 0..4u32), 0..2)).prop_map(
            |(txn, from, to, commit, ignored)| Command::Resolve { txn, from, to, commit, ignored }
        ),
        2 => (txn(), any::<bool>()).prop_map(|(txn, commit)| {
            Command::Resolve { txn, from: 0, to: KEYS, commit, ignored: Vec::new() }
        }),
        1 => (0..KEYS, 1..30i64).prop_map(|(from, keys)| Command::Clear(from, from + keys)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => vec(command(), 1..4).prop_map(Op::Batch),
        1 => Just(Op::Flush),
        1 => any::<u8>().prop_map(Op::Compact),
        2 => (1..6usize).prop_map(Op::Crash),
    ]
}

/// What was said of a key by sequence number.
type Values = BTreeMap<u32, Option<Bytes>>;

#[derive(Clone, Default)]
struct Model {
    /// Versions by time; `None` is a tombstone.
    versions: BTreeMap<Bytes, BTreeMap<u64, Option<Bytes>>>,
    /// With the values of intents.
    locks: BTreeMap<(Bytes, Strength, u8), (Values, Bytes)>,
    now: u64,
}

impl Model {
    fn has_intent(&self, key: &Bytes) -> Option<u8> {
        let mut txns =
            (0..TXNS).filter(|txn| self.locks.contains_key(&(key.clone(), Strength::Intent, *txn)));
        txns.next()
    }

    fn write(&mut self, key: &Bytes, value: Option<Bytes>) {
        self.versions.entry(key.clone()).or_default().insert(self.now, value);
    }

    /// What a proposer says of the version that it supersedes: every second one does.
    fn superseded(&self, key: &Bytes) -> Option<Superseded> {
        let (ts, value) = self.versions.get(key)?.last_key_value()?;
        self.now.is_multiple_of(2).then(|| Superseded { ts: *ts, value: value.clone() })
    }

    fn is_fresh(&self, key: &Bytes) -> bool {
        !self.versions.contains_key(key)
    }

    fn lock(&mut self, effects: &mut Effects, id: (Bytes, Strength, u8), values: Values) {
        let (key, strength, txn) = &id;
        let value = LockValue {
            format: LOCK_FORMAT,
            write_ts: self.now,
            values: values
                .iter()
                .map(|(seq, value)| ProvisionalValue { seq: *seq, value: value.clone() })
                .collect(),
            fresh: *strength == Strength::Intent && self.is_fresh(key),
            ..LockValue::default()
        };
        let value = Bytes::from(value.encode_to_vec());
        let key = mvcc::lock_key(key, *strength, &txn_id(*txn));
        effects.locks.push(RawWrite { key, value: Some(value.clone()) });
        self.locks.insert(id, (values, value));
    }

    /// Does it, and says how it is told to an engine.
    fn run(&mut self, command: &Command) -> Effects {
        self.now += 1;
        let mut effects = Effects { format: EFFECTS_FORMAT, ..Effects::default() };
        let value = |byte: &Option<u8>| byte.map(|byte| Bytes::from(vec![byte; usize::from(byte % 5)]));
        match command {
            Command::Lay(txn, keys, values) => {
                for key in keys.each() {
                    if self.has_intent(&key).is_some_and(|holder| holder != *txn) {
                        continue;
                    }
                    let values = (0..).zip(values.iter().map(value)).collect();
                    self.lock(&mut effects, (key, Strength::Intent, *txn), values);
                }
            }
            Command::Lock(txn, keys, strength) => {
                for key in keys.each() {
                    self.lock(&mut effects, (key, *strength, *txn), Values::new());
                }
            }
            Command::Unlock(txn, keys, strength) => {
                for key in keys.each() {
                    let stored = mvcc::lock_key(&key, *strength, &txn_id(*txn));
                    self.locks.remove(&(key, *strength, *txn));
                    effects.locks.push(RawWrite { key: stored, value: None });
                }
            }
            Command::Write(keys, written) => {
                for key in keys.each().filter(|key| self.has_intent(key).is_none()).collect::<Vec<_>>() {
                    effects.writes.push(VersionWrite {
                        key: key.clone(),
                        ts: self.now,
                        value: value(written),
                        fresh: self.is_fresh(&key),
                        supersedes: self.superseded(&key),
                    });
                    self.write(&key, value(written));
                }
            }
            Command::Resolve { txn, from, to, commit, ignored } => {
                let (start, end) = (key(*from), key(*to));
                effects.resolves.push(ResolveSpan {
                    start: start.clone(),
                    end: end.clone(),
                    txn_id: Bytes::copy_from_slice(&txn_id(*txn)),
                    commit_ts: if *commit { self.now } else { 0 },
                    ignored_seqs: ignored.iter().flat_map(|(first, last)| [*first, *last]).collect(),
                });
                let within = |key: &Bytes| *key >= start && *key < end;
                let own: Vec<_> = self
                    .locks
                    .keys()
                    .filter(|(key, _, holder)| holder == txn && within(key))
                    .cloned()
                    .collect();
                for id in own {
                    let (values, _) = self.locks.remove(&id).unwrap();
                    let is_ignored = |seq: u32| ignored.iter().any(|(a, b)| (*a..=*b).contains(&seq));
                    let last = values.into_iter().rfind(|(seq, _)| !is_ignored(*seq));
                    if let (true, Some((_, value))) = (*commit, last) {
                        self.write(&id.0, value);
                    }
                }
            }
            Command::Clear(from, to) => {
                let (start, end) = (key(*from), key(*to));
                let within = |key: &Bytes| *key >= start && *key < end;
                if !self.locks.keys().any(|(key, _, _)| within(key)) {
                    self.versions.retain(|key, _| !within(key));
                    effects.clears.push(ClearSpan { start: start.clone(), end: end.clone() });
                }
            }
        }
        effects
    }

    /// What a family holds.
    fn content(&self, cf: Cf) -> Vec<(Bytes, Bytes)> {
        match cf {
            Cf::Lock => {
                let locks = self.locks.iter().map(|((key, strength, txn), (_, value))| {
                    (mvcc::lock_key(key, *strength, &txn_id(*txn)), value.clone())
                });
                locks.collect()
            }
            Cf::Data => {
                let newest = self.versions.iter().map(|(key, versions)| {
                    let (ts, value) = versions.last_key_value().unwrap();
                    (key.clone(), version::encode(Timestamp(*ts), value.as_deref()))
                });
                newest.collect()
            }
            Cf::History => {
                let mut past = Vec::new();
                for (key, versions) in &self.versions {
                    let next = versions.keys().skip(1);
                    for ((ts, value), superseded_at) in versions.iter().zip(next).rev() {
                        if let Some(value) = value {
                            let stored = version::encode(Timestamp(*superseded_at), Some(value));
                            past.push((version::history_key(key, Timestamp(*ts)).into(), stored));
                        }
                    }
                }
                past
            }
            Cf::Local => unreachable!("nothing is written there"),
        }
    }
}

fn content(engine: &dyn Engine, cf: Cf) -> Vec<(Bytes, Bytes)> {
    let mut iter = engine.iter(cf, &[], &[]).unwrap();
    let mut content = Vec::new();
    iter.seek_to_first();
    while iter.valid() {
        content.push((Bytes::copy_from_slice(iter.key()), Bytes::copy_from_slice(iter.value())));
        iter.next();
    }
    iter.status().unwrap();
    content
}

fn apply(engine: &dyn Engine, commands: &[Bytes]) {
    let mut applier = Applier::new(engine);
    for command in commands {
        applier.apply(&Effects::decode_checked(command.clone()).unwrap()).unwrap();
    }
    engine.write(&applier.into_batch()).unwrap();
}

/// Runs `ops`; after each the engine holds what the model says.
fn run(engine: &dyn Engine, mem: Option<&MemEngine>, ops: &[Op]) {
    let mut model = Model::default();
    let (mut log, mut flushed) = (Vec::<Bytes>::new(), 0);
    for op in ops {
        match op {
            Op::Batch(commands) => {
                let first = log.len();
                log.extend(commands.iter().map(|command| Bytes::from(model.run(command).encode())));
                apply(engine, &log[first..]);
                // What is resolved stays so: nothing is left to move or remove.
                if let Some(Command::Resolve { .. }) = commands.last() {
                    apply(engine, &log[log.len() - 1..]);
                }
            }
            Op::Flush => {
                engine.flush().unwrap();
                flushed = log.len();
            }
            Op::Compact(which) => engine.compact(Cf::ALL[usize::from(which % 3)], &[], &[]).unwrap(),
            Op::Crash(commands) => {
                let Some(mem) = mem else { continue };
                mem.crash(0);
                for batch in log[flushed..].chunks(*commands) {
                    apply(engine, batch);
                }
            }
        }
        for cf in [Cf::Lock, Cf::Data, Cf::History] {
            assert_eq!(content(engine, cf), model.content(cf), "{cf:?} after {op:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn memory_engine(ops in vec(op(), 1..30)) {
        let engine = MemEngine::new();
        run(&engine, Some(&engine), &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn rocksdb_engine(ops in vec(op(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        run(&RocksEngine::open(dir.path(), &RocksOptions::default()).unwrap(), None, &ops);
    }
}
