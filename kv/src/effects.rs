//! Effects: what a replicated command does to the column families. Commands are evaluated once, at
//! the leaseholder, into effects; applying them is deterministic (DESIGN §3).
//!
//! Encoded with protocol buffers, so that fields can be added; `format` refuses what a binary does
//! not know.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use hashbrown::HashMap;
use prost::Message;

use crate::engine::{Cf, Engine, WriteBatch};
use crate::mvcc::{self, LockValue, Strength, TxnId};
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
    /// `data` holds no version of this key (neither value nor tombstone), so apply need not look.
    #[prost(bool, tag = "4")]
    pub fresh: bool,
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
    /// What the batch does to `data`: the stored form of a key's newest version, and how many spans
    /// were cleared before it.
    data: HashMap<Bytes, (usize, Bytes)>,
    /// Spans that the batch clears, in order.
    cleared: Vec<ClearSpan>,
    /// What the batch does to `lock`, in key order.
    locks: BTreeMap<Bytes, Option<Bytes>>,
    thresholds: Option<Thresholds>,
    scratch: Vec<u8>,
}

impl<'a> Applier<'a> {
    /// Begins with an empty batch against the present state of `engine`.
    pub fn new(engine: &'a dyn Engine) -> Applier<'a> {
        Applier::onto(engine, WriteBatch::default())
    }

    fn onto(engine: &'a dyn Engine, batch: WriteBatch) -> Applier<'a> {
        Applier {
            engine,
            batch,
            data: HashMap::new(),
            cleared: Vec::new(),
            locks: BTreeMap::new(),
            thresholds: None,
            scratch: Vec::new(),
        }
    }

    /// The batch so far: to add an applied index to, or to look at its size. What is put into
    /// `data` or `lock` here, the applier does not see.
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
        self.batch.ops.reserve(2 * effects.writes.len() + effects.locks.len() + effects.local.len() + 1);
        for write in &effects.writes {
            self.write_version(&write.key, Timestamp(write.ts), write.value.as_deref(), write.fresh)?;
        }
        for write in &effects.locks {
            self.write_lock(write.key.clone(), write.value.clone());
        }
        for span in &effects.resolves {
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

    fn clear(&mut self, span: &ClearSpan) -> Result<()> {
        if span.end.is_empty() {
            return Err(Error::Corruption("effects: a span to clear has an end".into()));
        }
        for cf in [Cf::Data, Cf::History] {
            self.batch.delete_range(cf, span.start.clone(), span.end.clone());
        }
        self.cleared.push(span.clone());
        Ok(())
    }

    /// Makes a version the newest of its key; the one it supersedes goes to `history`, unless it
    /// is a tombstone (R3).
    fn write_version(&mut self, key: &Bytes, ts: Timestamp, value: Option<&[u8]>, fresh: bool) -> Result<()> {
        let mut old = std::mem::take(&mut self.scratch);
        let exists = match self.data.get(key) {
            Some((cleared, stored)) if !self.is_cleared(key, *cleared) => {
                old.clear();
                old.extend_from_slice(stored);
                true
            }
            _ if self.is_cleared(key, 0) => false,
            _ if fresh => {
                debug_assert!(!self.engine.get(Cf::Data, key, &mut old)?, "a fresh key has no version");
                false
            }
            _ => self.engine.get(Cf::Data, key, &mut old)?,
        };
        if exists {
            let header = version::header(key, &old)?;
            assert!(
                header.ts < ts,
                "a version of {} at {ts} must be above the newest one, which is at {} (R5)",
                escape(key),
                header.ts
            );
            if !header.tombstone {
                version::supersede(&mut old, ts);
                let history_key = version::history_key(key, header.ts);
                self.batch.put(Cf::History, history_key, Bytes::copy_from_slice(&old));
            }
        }
        self.scratch = old;
        let stored = version::encode(ts, value);
        self.batch.put(Cf::Data, key.clone(), stored.clone());
        self.data.insert(key.clone(), (self.cleared.len(), stored));
        Ok(())
    }

    /// Whether the batch clears a span with `key`, not counting the first few.
    fn is_cleared(&self, key: &[u8], first: usize) -> bool {
        self.cleared[first..].iter().any(|span| in_span(key, &span.start, &span.end))
    }

    fn write_lock(&mut self, key: Bytes, value: Option<Bytes>) {
        match &value {
            Some(value) => self.batch.put(Cf::Lock, key.clone(), value.clone()),
            None => self.batch.delete(Cf::Lock, key.clone()),
        }
        self.locks.insert(key, value);
    }

    fn resolve(&mut self, span: &ResolveSpan) -> Result<()> {
        let txn_id = TxnId::try_from(&span.txn_id[..])
            .map_err(|_| Error::Corruption("effects: a transaction id has 16 bytes".into()))?;
        let (ignored, odd) = span.ignored_seqs.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(Error::Corruption("effects: ignored sequences come in pairs".into()));
        }
        let commit_ts = Timestamp(span.commit_ts);
        for (stored_key, value) in self.locks_of(&span.start, &span.end, &txn_id)? {
            let (key, strength, _) = mvcc::parse_lock_key(&stored_key)?;
            if strength == Strength::Intent && !commit_ts.is_zero() {
                let key = stored_key.slice(..key.len());
                let intent = mvcc::decode_lock_value(&stored_key, value)?;
                self.commit_intent(&key, &intent, commit_ts, ignored)?;
            }
            self.write_lock(stored_key, None);
        }
        Ok(())
    }

    fn commit_intent(
        &mut self,
        key: &Bytes,
        intent: &LockValue,
        commit_ts: Timestamp,
        ignored: &[[u32; 2]],
    ) -> Result<()> {
        let is_ignored = |seq: u32| ignored.iter().any(|[first, last]| (*first..=*last).contains(&seq));
        let last = intent.values.iter().filter(|value| !is_ignored(value.seq)).max_by_key(|value| value.seq);
        let Some(last) = last else { return Ok(()) };
        assert!(
            intent.write_ts <= commit_ts.0,
            "an intent of {} written at {} cannot commit at {commit_ts}",
            escape(key),
            Timestamp(intent.write_ts)
        );
        self.write_version(key, commit_ts, last.value.as_deref(), intent.fresh)
    }

    /// A transaction's locks in a span as they are behind this batch, by stored key.
    fn locks_of(&self, start: &[u8], end: &[u8], txn_id: &TxnId) -> Result<Vec<(Bytes, Bytes)>> {
        let mut found = Vec::new();
        mvcc::for_each_lock(self.engine, start, end, &mut |_, _, holder, stored, value| {
            if holder == *txn_id && !self.locks.contains_key(stored) {
                found.push((Bytes::copy_from_slice(stored), Bytes::copy_from_slice(value)));
            }
            Ok(true)
        })?;
        for (stored, value) in
            self.locks.range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded))
        {
            let (key, _, holder) = mvcc::parse_lock_key(stored)?;
            if !end.is_empty() && key >= end {
                break;
            }
            if let Some(value) = value
                && holder == *txn_id
                && in_span(key, start, end)
            {
                found.push((stored.clone(), value.clone()));
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
