//! Effects: what a replicated command does to the column families. Commands are evaluated once, at
//! the leaseholder, into effects; applying them is deterministic (DESIGN §3).
//!
//! Encoded with protocol buffers, so that fields can be added; `format` refuses what a binary does
//! not know.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use bytes::{Buf, Bytes};
use hashbrown::HashMap;
use prost::Message;

use crate::engine::{Ascending, Cf, Engine, WriteBatch, WriteOp};
use crate::mvcc::{self, Strength, TxnId};
use crate::version::{self, escape, in_span};
use crate::{Error, Result, Timestamp, local_keys};

/// Newest effect format this binary applies.
pub const EFFECTS_FORMAT: u32 = 1;

/// A committed version of a key.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct VersionWrite {
    /// User key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Commit timestamp.
    #[prost(uint64, tag = "2")]
    pub ts: u64,
    /// The value; absent for a tombstone.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub value: Option<Bytes>,
    /// `data` holds no version of this key (neither value nor tombstone, save one that is garbage already), so apply
    /// need not look.
    #[prost(bool, tag = "4")]
    pub fresh: bool,
    /// The newest version that `data` holds of this key, if the proposer says it: apply need not look then either.
    #[prost(message, optional, tag = "5")]
    pub supersedes: Option<Superseded>,
}

/// A version that gives way to a newer one.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Superseded {
    /// Its commit timestamp.
    #[prost(uint64, tag = "1")]
    pub ts: u64,
    /// Its value; absent for a tombstone.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<Bytes>,
}

/// Sets or removes a raw key of the `lock` or `local` family.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RawWrite {
    /// Key within the family.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// New value; absent removes.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<Bytes>,
}

/// Resolves every intent and lock of one transaction in a span: moves the provisional values to
/// `data` (and what they supersede to `history`) when committed, drops them when aborted.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResolveSpan {
    /// First user key.
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    /// First user key not resolved.
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
    /// Transaction.
    #[prost(bytes = "bytes", tag = "3")]
    pub txn_id: Bytes,
    /// Commit timestamp; zero when aborted.
    #[prost(uint64, tag = "4")]
    pub commit_ts: u64,
    /// Rolled-back sequence number intervals, as pairs first, last.
    #[prost(uint32, repeated, tag = "5")]
    pub ignored_seqs: Vec<u32>,
}

/// Removes everything in a span of user keys: every version of every key, without tombstones or
/// history. Whoever proposes it knows that no read can want any of it, at whatever timestamp (the
/// span belonged to an object whose removal lies below the threshold of garbage collection), that
/// the span has no intents, and that nothing will be written there again.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ClearSpan {
    /// First user key.
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    /// First user key that stays; never empty.
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
}

/// Replicated thresholds (R3); zero leaves one as it is; they only rise.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ThresholdUpdate {
    /// Reads below it fail.
    #[prost(uint64, tag = "1")]
    pub gc: u64,
    /// Reads below it merge history for dropped tombstones.
    #[prost(uint64, tag = "2")]
    pub tombstone: u64,
    /// Commit markers below it are gone.
    #[prost(uint64, tag = "3")]
    pub marker: u64,
}

/// Everything one command does, applied in field order.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Effects {
    /// [`EFFECTS_FORMAT`] of the writer.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Committed versions; keys distinct.
    #[prost(message, repeated, tag = "2")]
    pub writes: Vec<VersionWrite>,
    /// Raw writes to `lock`.
    #[prost(message, repeated, tag = "3")]
    pub locks: Vec<RawWrite>,
    /// Spans to resolve.
    #[prost(message, repeated, tag = "4")]
    pub resolves: Vec<ResolveSpan>,
    /// Raw writes to `local` (records, markers).
    #[prost(message, repeated, tag = "5")]
    pub local: Vec<RawWrite>,
    /// Threshold changes.
    #[prost(message, optional, tag = "6")]
    pub thresholds: Option<ThresholdUpdate>,
    /// Spans to clear.
    #[prost(message, repeated, tag = "7")]
    pub clears: Vec<ClearSpan>,
}

/// The replicated thresholds in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Reads below it fail.
    pub gc: Timestamp,
    /// Tombstones of `data` at or below it may be gone.
    pub tombstone: Timestamp,
    /// Commit markers at or below it may be gone.
    pub marker: Timestamp,
}

impl Effects {
    /// Encodes with this binary's format.
    pub fn encode(&self) -> Vec<u8> {
        debug_assert_eq!(self.format, EFFECTS_FORMAT);
        self.encode_to_vec()
    }

    /// Decodes; keys and values share `bytes`' memory.
    pub fn decode_checked(bytes: impl Buf) -> Result<Effects> {
        let effects =
            Effects::decode(bytes).map_err(|error| Error::Corruption(format!("effects: {error}")))?;
        effects.check_format()?;
        Ok(effects)
    }

    fn check_format(&self) -> Result<()> {
        match self.format {
            EFFECTS_FORMAT => Ok(()),
            0 => Err(Error::Corruption("effects have no format".into())),
            found => Err(Error::NewerFormat { found, supported: EFFECTS_FORMAT }),
        }
    }
}

/// Adds what `effects` does, against the present state of `engine`, to `batch`. The batch must be
/// written before the next effects are applied: apply reads the versions it moves to `history`.
/// An error here stops the node.
pub fn apply(engine: &dyn Engine, effects: &Effects, batch: &mut WriteBatch) -> Result<()> {
    let mut applier = Applier::onto(engine, std::mem::take(batch));
    let result = applier.apply(effects);
    *batch = applier.into_batch();
    result
}

/// Applies several effects into one batch: each sees what those before it have done, though nothing
/// is written yet. For the replay of the log and for group commit.
pub struct Applier<'a> {
    engine: &'a dyn Engine,
    batch: WriteBatch,
    /// Operations of the batch that what follows knows of.
    known: usize,
    /// Operations of earlier effects. Effects name a key once, so they never have to look at what they do
    /// themselves.
    earlier: usize,
    /// What the known operations do to `data`: the stored form of a key's newest version, and how many
    /// spans were cleared before it.
    data: HashMap<Bytes, (usize, Bytes)>,
    /// Spans of `data` that they clear, in order.
    cleared: Vec<(Bytes, Bytes)>,
    /// What they do to `lock`, in key order, behind the spans that they clear there.
    locks: BTreeMap<Bytes, Option<Bytes>>,
    cleared_locks: Vec<(Bytes, Bytes)>,
    thresholds: Option<Thresholds>,
    scratch: Vec<u8>,
}

/// A transaction's lock found in a span.
struct OwnLock {
    stored: Bytes,
    value: Bytes,
    /// Equal numbers: no lock of another transaction lies between, nor one that the batch writes or
    /// removes.
    run: usize,
}

/// How to find the newest version of a key to write.
enum Newest<'r, 'a> {
    /// There is none.
    Nothing,
    /// It is this one.
    Known(&'r Superseded),
    /// By a look into the engine.
    Engine,
    /// The same; keys come in order.
    Ascending(&'r mut Ascending<'a>),
}

/// The fewest locks in a row that are removed as a span: readers pass a few removed keys faster than
/// they find their way in very many spans.
const SPAN_OF_LOCKS: usize = 32;

impl<'a> Applier<'a> {
    /// Begins with an empty batch against the present state of `engine`.
    pub fn new(engine: &'a dyn Engine) -> Applier<'a> {
        Applier::onto(engine, WriteBatch::default())
    }

    fn onto(engine: &'a dyn Engine, batch: WriteBatch) -> Applier<'a> {
        Applier {
            engine,
            known: batch.ops.len(),
            earlier: batch.ops.len(),
            batch,
            data: HashMap::new(),
            cleared: Vec::new(),
            locks: BTreeMap::new(),
            cleared_locks: Vec::new(),
            thresholds: None,
            scratch: Vec::new(),
        }
    }

    /// The batch so far: to add an applied index to, or to look at its size.
    pub fn batch(&mut self) -> &mut WriteBatch {
        &mut self.batch
    }

    /// The batch, to be written before the engine is read again.
    pub fn into_batch(self) -> WriteBatch {
        self.batch
    }

    /// Adds what `effects` does. An error stops the node.
    pub fn apply(&mut self, effects: &Effects) -> Result<()> {
        effects.check_format()?;
        self.earlier = self.batch.ops.len();
        self.batch.ops.reserve(2 * effects.writes.len() + effects.locks.len() + effects.local.len() + 1);
        for write in &effects.writes {
            let newest = match &write.supersedes {
                _ if write.fresh => Newest::Nothing,
                Some(known) => Newest::Known(known),
                None => Newest::Engine,
            };
            let ts = Timestamp(write.ts);
            self.supersede(&write.key, ts, newest)?;
            self.batch.put(Cf::Data, write.key.clone(), version::encode(ts, write.value.as_deref()));
        }
        for write in &effects.locks {
            match &write.value {
                Some(value) => self.batch.put(Cf::Lock, write.key.clone(), value.clone()),
                None => self.batch.delete(Cf::Lock, write.key.clone()),
            }
        }
        for span in &effects.resolves {
            self.earlier = self.batch.ops.len();
            self.learn();
            self.resolve(span)?;
        }
        for write in &effects.local {
            match &write.value {
                Some(value) => self.batch.put(Cf::Local, write.key.clone(), value.clone()),
                None => self.batch.delete(Cf::Local, write.key.clone()),
            }
        }
        if let Some(update) = &effects.thresholds {
            self.raise_thresholds(update)?;
        }
        for span in &effects.clears {
            self.clear(span)?;
        }
        Ok(())
    }

    /// Takes notice of what earlier effects have added to the batch.
    fn learn(&mut self) {
        for op in &self.batch.ops[self.known..self.earlier] {
            match op {
                WriteOp::Put { cf: Cf::Data, key, value } => {
                    self.data.insert(key.clone(), (self.cleared.len(), value.clone()));
                }
                WriteOp::DeleteRange { cf: Cf::Data, start, end } => {
                    self.cleared.push((start.clone(), end.clone()));
                }
                WriteOp::Put { cf: Cf::Lock, key, value } => {
                    self.locks.insert(key.clone(), Some(value.clone()));
                }
                WriteOp::Delete { cf: Cf::Lock, key } => {
                    self.locks.insert(key.clone(), None);
                }
                WriteOp::DeleteRange { cf: Cf::Lock, start, end } => {
                    let within = self.locks.range(start.clone()..end.clone());
                    for key in within.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                        self.locks.remove(&key);
                    }
                    self.cleared_locks.push((start.clone(), end.clone()));
                }
                _ => {}
            }
        }
        self.known = self.earlier;
    }

    fn clear(&mut self, span: &ClearSpan) -> Result<()> {
        if span.end.is_empty() {
            return Err(Error::Corruption("effects: a span to clear has an end".into()));
        }
        for cf in [Cf::Data, Cf::History] {
            self.batch.delete_range(cf, span.start.clone(), span.end.clone());
        }
        Ok(())
    }

    /// A version at `ts` is about to become the newest of its key: the one it supersedes goes to
    /// `history`, unless it is a tombstone (R3).
    fn supersede(&mut self, key: &Bytes, ts: Timestamp, newest: Newest<'_, 'a>) -> Result<()> {
        let newest = match newest {
            Newest::Nothing => {
                debug_assert!(self.is_newest(key, None)?, "a fresh key has no version");
                return Ok(());
            }
            Newest::Known(known) => {
                debug_assert!(self.is_newest(key, Some(known))?, "what is superseded is the newest version");
                check_above(key, ts, Timestamp(known.ts));
                if let Some(value) = &known.value {
                    let history_key = version::history_key(key, Timestamp(known.ts));
                    self.batch.put(Cf::History, history_key, version::encode(ts, Some(value)));
                }
                return Ok(());
            }
            newest => newest,
        };
        let mut old = std::mem::take(&mut self.scratch);
        if self.find_newest(key, newest, &mut old)? {
            let header = version::header(key, &old)?;
            check_above(key, ts, header.ts);
            if !header.tombstone {
                version::supersede(&mut old, ts);
                let history_key = version::history_key(key, header.ts);
                self.batch.put(Cf::History, history_key, Bytes::copy_from_slice(&old));
            }
        }
        self.scratch = old;
        Ok(())
    }

    /// Puts the stored form of the newest version of a key, as it is behind this batch, into `out`; false if there
    /// is none.
    fn find_newest(&mut self, key: &[u8], newest: Newest<'_, 'a>, out: &mut Vec<u8>) -> Result<bool> {
        self.learn();
        match self.data.get(key) {
            Some((cleared, stored)) if !self.is_cleared(key, *cleared) => {
                out.clear();
                out.extend_from_slice(stored);
                Ok(true)
            }
            _ if self.is_cleared(key, 0) => Ok(false),
            _ => match newest {
                Newest::Ascending(data) => data.get(key, out),
                _ => self.engine.get(Cf::Data, key, out),
            },
        }
    }

    /// Whether a key's newest version is what the proposer knew it to be. Another replica may have collected a
    /// tombstone that it had, or still have one that it had collected.
    fn is_newest(&mut self, key: &[u8], known: Option<&Superseded>) -> Result<bool> {
        let mut found = Vec::new();
        let exists = self.find_newest(key, Newest::Engine, &mut found)?;
        let stored = exists.then(|| version::header(key, &found)).transpose()?.filter(|h| !h.tombstone);
        Ok(match known.and_then(|known| known.value.as_ref().map(|value| (known.ts, value))) {
            None => stored.is_none(),
            Some((ts, value)) => {
                stored.is_some_and(|h| h.ts.0 == ts) && found[version::HEADER_LEN..] == value[..]
            }
        })
    }

    /// Whether the batch clears a span with `key`, not counting the first few.
    fn is_cleared(&self, key: &[u8], first: usize) -> bool {
        self.cleared[first..].iter().any(|(start, end)| in_span(key, start, end))
    }

    fn resolve(&mut self, span: &ResolveSpan) -> Result<()> {
        let txn_id = TxnId::try_from(&span.txn_id[..])
            .map_err(|_| Error::Corruption("effects: a transaction id has 16 bytes".into()))?;
        let (ignored, odd) = span.ignored_seqs.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(Error::Corruption("effects: ignored sequences come in pairs".into()));
        }
        let locks = self.locks_of(&span.start, &span.end, &txn_id)?;
        if span.commit_ts != 0 {
            self.commit_intents(&locks, Timestamp(span.commit_ts), ignored)?;
        }
        // Where nobody else's locks lie between they go as a span: one operation instead of one per lock,
        // which memtables and compactions would have to carry along. Both leave the same.
        for run in locks.chunk_by(|a, b| a.run == b.run) {
            if run.len() < SPAN_OF_LOCKS {
                for lock in run {
                    self.batch.delete(Cf::Lock, lock.stored.clone());
                }
            } else {
                let end = [&run[run.len() - 1].stored[..], &[0]].concat();
                self.batch.delete_range(Cf::Lock, run[0].stored.clone(), end);
            }
        }
        Ok(())
    }

    /// Moves what is committed of a transaction's intents, in key order, to `data`.
    fn commit_intents(
        &mut self,
        locks: &[OwnLock],
        commit_ts: Timestamp,
        ignored: &[[u32; 2]],
    ) -> Result<()> {
        let (Some(first), Some(last)) = (locks.first(), locks.last()) else { return Ok(()) };
        let (first, ..) = mvcc::parse_lock_key(&first.stored)?;
        let (last, ..) = mvcc::parse_lock_key(&last.stored)?;
        let mut data = Ascending::new(self.engine, Cf::Data, first, last);
        let is_ignored = |seq: u32| ignored.iter().any(|[first, last]| (*first..=*last).contains(&seq));
        let (mut written, mut versions) = (Vec::with_capacity(locks.len()), Vec::new());
        for lock in locks {
            let (key, strength, _) = mvcc::parse_lock_key(&lock.stored)?;
            if strength != Strength::Intent {
                continue;
            }
            let intent = mvcc::decode_lock_value(&lock.stored, lock.value.clone())?;
            let seen = intent.values.iter().filter(|value| !is_ignored(value.seq));
            let Some(last) = seen.max_by_key(|value| value.seq) else { continue };
            assert!(
                intent.write_ts <= commit_ts.0,
                "an intent of {} written at {} cannot commit at {commit_ts}",
                escape(key),
                Timestamp(intent.write_ts)
            );
            let key = lock.stored.slice(..key.len());
            let newest = if intent.fresh { Newest::Nothing } else { Newest::Ascending(&mut data) };
            self.supersede(&key, commit_ts, newest)?;
            version::put(&mut versions, commit_ts, last.value.as_deref());
            written.push((key, versions.len()));
        }
        let versions = Bytes::from(versions);
        self.batch.ops.reserve(written.len() + 1);
        let mut start = 0;
        for (key, end) in written {
            self.batch.put(Cf::Data, key, versions.slice(start..end));
            start = end;
        }
        Ok(())
    }

    /// A transaction's locks in a span, in order, as they are behind this batch.
    fn locks_of(&self, start: &[u8], end: &[u8], txn_id: &TxnId) -> Result<Vec<OwnLock>> {
        // All of them share their memory.
        let mut bytes = Vec::new();
        let mut places: Vec<(Range<usize>, Range<usize>, usize)> = Vec::new();
        let mut run = 0;
        mvcc::for_each_lock(self.engine, start, end, &mut |_, _, holder, stored, value| {
            if self.cleared_locks.iter().any(|(start, end)| in_span(stored, start, end)) {
                return Ok(true);
            }
            if holder != *txn_id {
                run += 1;
            } else if !self.locks.contains_key(stored) {
                let at = bytes.len();
                bytes.extend_from_slice(stored);
                bytes.extend_from_slice(value);
                let value_at = at + stored.len();
                places.push((at..value_at, value_at..bytes.len(), run));
            }
            Ok(true)
        })?;
        let bytes = Bytes::from(bytes);
        let mut found: Vec<OwnLock> = places
            .into_iter()
            .map(|(stored, value, run)| OwnLock {
                stored: bytes.slice(stored),
                value: bytes.slice(value),
                run,
            })
            .collect();
        let mut is_touched = false;
        for (stored, value) in self.locks.range::<[u8], _>((Bound::Included(start), Bound::Unbounded)) {
            let (key, _, holder) = mvcc::parse_lock_key(stored)?;
            if !end.is_empty() && key >= end {
                break;
            }
            is_touched = true;
            if let Some(value) = value
                && holder == *txn_id
                && in_span(key, start, end)
            {
                found.push(OwnLock { stored: stored.clone(), value: value.clone(), run: 0 });
            }
        }
        if is_touched {
            found.sort_unstable_by(|a, b| a.stored.cmp(&b.stored));
            for (position, lock) in found.iter_mut().enumerate() {
                lock.run = position;
            }
        }
        Ok(found)
    }

    fn raise_thresholds(&mut self, update: &ThresholdUpdate) -> Result<()> {
        let old = match self.thresholds {
            Some(thresholds) => thresholds,
            None => thresholds(self.engine)?,
        };
        let new = Thresholds {
            gc: old.gc.max(Timestamp(update.gc)),
            tombstone: old.tombstone.max(Timestamp(update.tombstone)),
            marker: old.marker.max(Timestamp(update.marker)),
        };
        self.batch.put(Cf::Local, local_keys::thresholds(&[]), local_keys::thresholds_value(&new));
        self.thresholds = Some(new);
        Ok(())
    }
}

/// R5.
fn check_above(key: &[u8], ts: Timestamp, newest: Timestamp) {
    assert!(
        newest < ts,
        "a version of {} at {ts} must be above the newest one, which is at {newest} (R5)",
        escape(key)
    );
}

/// The thresholds in `engine`'s `local` family.
pub fn thresholds(engine: &dyn Engine) -> Result<Thresholds> {
    let mut value = Vec::new();
    if engine.get(Cf::Local, &local_keys::thresholds(&[]), &mut value)? {
        local_keys::parse_thresholds_value(&value)
    } else {
        Ok(Thresholds::default())
    }
}

/// The thresholds in `engine`'s flushed state: what compaction filters may use (R4).
pub fn flushed_thresholds(engine: &dyn Engine) -> Result<Thresholds> {
    let mut value = Vec::new();
    if engine.get_flushed(Cf::Local, &local_keys::thresholds(&[]), &mut value)? {
        local_keys::parse_thresholds_value(&value)
    } else {
        Ok(Thresholds::default())
    }
}
