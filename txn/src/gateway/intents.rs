//! Transactions that outgrow one command.
//!
//! When the buffer is full, it goes out as intents in sorted commands; with the first goes a pending
//! record. The commit flushes the rest, settles a timestamp, refreshes what was read, and then is one
//! small command: the record, committed. Then the client has its answer, the intents are resolved
//! span by span and the record is removed. From the record's proposal on the work is a task of its
//! own, so that a client that goes away cannot stop it half way.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::effects::{EFFECTS_FORMAT, Effects};
use cairn_kv::engine::Cf;
use cairn_kv::mvcc::{self, LockValue, SeqNum, Strength};
use cairn_raft::store::MAX_COMMAND_BYTES;
use smallvec::smallvec;
use tokio::sync::oneshot;

use super::buffer::{Entry, Written};
use super::record::{RECORD_FORMAT, RecordSpan, RecordStatus, TxnRecord};
use crate::leaseholder::admit::behind;
use crate::leaseholder::commit::{KeyWrite, TxnIdentity};
use crate::leaseholder::intent_holder::IntentHolder;
use crate::leaseholder::lock::Patience;
use crate::leaseholder::propose::no_timestamp;
use crate::leaseholder::slot::KeyHash;
use crate::leaseholder::write_intents::{INTENT_OVERHEAD, IntentRequest};
use crate::leaseholder::{Leaseholder, Own};
use crate::txn::check_size;
use crate::{Isolation, LockStrength, Txn, TxnError};

/// A command's bytes that are kept free of intents: for its frame and the record.
const COMMAND_MARGIN: usize = 16 << 10;

/// One in so many keys, or the next after so many bytes, is remembered to cut the resolution by.
const SAMPLE_KEYS: usize = 512;
const SAMPLE_BYTES: usize = 128 << 10;

/// Samples to a command of the resolution: some 8,000 keys or 2 MiB.
const SAMPLES_PER_RESOLVE: usize = 16;

/// Spans listed in a committed record; more are merged.
const RECORD_SPANS: usize = 64;

/// What a transaction has written as intents.
pub struct Intents {
    /// Its identity in them.
    pub identity: TxnIdentity,
    /// How others meet it.
    pub holder: Arc<IntentHolder>,
    /// Rolled-back sequence numbers, both ends included.
    ignored: Vec<(SeqNum, SeqNum)>,
    /// Some of the keys.
    samples: Vec<Bytes>,
    low: Bytes,
    high: Bytes,
    /// There may be a record.
    has_record: bool,
}

/// Own intents of a span, as far as they were loaded.
pub struct OwnIntents {
    /// What the transaction's reads see of them.
    pub visible: BTreeMap<Bytes, Written>,
    /// Loaded up to here in the direction of the scan; `None`: all.
    pub upto: Option<Bytes>,
}

impl Intents {
    /// Sequence numbers from `first` to `last` were rolled back.
    pub fn ignore(&mut self, first: SeqNum, last: SeqNum) {
        if first > last {
            return;
        }
        // Rolling back to a savepoint covers the rollbacks after it.
        while self.ignored.last().is_some_and(|(earlier, _)| *earlier >= first) {
            self.ignored.pop();
        }
        self.ignored.push((first, last));
    }

    fn ignored_seqs(&self) -> Vec<u32> {
        self.ignored.iter().flat_map(|(first, last)| [*first, *last]).collect()
    }

    /// The value a read at `seq` sees of an intent.
    fn visible(&self, intent: LockValue, seq: SeqNum) -> Option<Written> {
        let is_ignored = |seq| self.ignored.iter().any(|(first, last)| (*first..=*last).contains(&seq));
        let seen =
            intent.values.into_iter().rev().find(|value| value.seq <= seq && !is_ignored(value.seq))?;
        Some(seen.value.map_or(Written::Deleted, Written::Value))
    }

    /// The spans to resolve, each small enough for a command.
    fn spans(&mut self) -> Vec<(Bytes, Bytes)> {
        if self.low.is_empty() && self.high.is_empty() {
            return Vec::new();
        }
        self.samples.sort_unstable();
        self.samples.dedup();
        let mut spans = Vec::new();
        let mut start = self.low.clone();
        for cut in self.samples.iter().skip(SAMPLES_PER_RESOLVE).step_by(SAMPLES_PER_RESOLVE) {
            if *cut > start {
                spans.push((start, cut.clone()));
                start = cut.clone();
            }
        }
        spans.push((start, behind(&self.high).into()));
        spans
    }

    fn wrote(&mut self, writes: &[(Bytes, Entry)]) {
        let [(first, _), ..] = writes else { return };
        let (last, _) = writes.last().expect("not empty");
        if self.low.is_empty() && self.high.is_empty() {
            (self.low, self.high) = (first.clone(), last.clone());
        } else {
            self.low = self.low.clone().min(first.clone());
            self.high = self.high.clone().max(last.clone());
        }
        let (mut keys, mut bytes) = (0, 0);
        for (key, entry) in writes {
            keys += 1;
            bytes += intent_bytes(key, entry);
            if keys >= SAMPLE_KEYS || bytes >= SAMPLE_BYTES {
                (keys, bytes) = (0, 0);
                self.samples.push(key.clone());
            }
        }
        self.has_record = true;
    }
}

fn intent_bytes(key: &[u8], entry: &Entry) -> usize {
    let values = entry.values.iter().map(|(_, value)| 16 + value.value().map_or(0, Bytes::len));
    key.len() + INTENT_OVERHEAD + values.sum::<usize>()
}

impl Txn {
    /// Writes the buffer out as intents.
    pub(crate) async fn flush_buffer(&mut self) -> Result<(), TxnError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.snapshot().await?;
        let (anchor, _) = self.buffer.iter().next().expect("not empty");
        self.enter_intents(anchor.clone());
        let entries: Vec<(Bytes, Entry)> = self.buffer.take().into_iter().collect();
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let part = self.next_part(rest);
            if let Err(error) = self.flush_part(&rest[..part], false).await {
                self.buffer.put_back(rest.iter().cloned().collect());
                return Err(error);
            }
            rest = &rest[part..];
        }
        Ok(())
    }

    /// Inserts many keys, ascending and distinct, at once: they become intents now. None may exist
    /// ([`TxnError::Exists`] names one that does); this is found out here, without locks taken before
    /// or held after. After an error some may have been written: the caller rolls back, at least to a
    /// savepoint. Meant for bulk; what was buffered before goes out first.
    pub async fn insert_new(&mut self, rows: Vec<(Bytes, Bytes)>) -> Result<(), TxnError> {
        self.check_writable()?;
        let [(anchor, _), ..] = rows.as_slice() else { return Ok(()) };
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "ascending and distinct");
        self.flush_buffer().await?;
        self.snapshot().await?;
        self.statement_has_read = true;
        self.enter_intents(anchor.clone());
        let seq = self.write_seq;
        let entries = rows.into_iter().map(|(key, value)| {
            check_size(&key, value.len())?;
            let entry = Entry { hash: KeyHash::of(&key), values: smallvec![(seq, Written::Value(value))] };
            Ok((key, entry))
        });
        let entries = entries.collect::<Result<Vec<_>, TxnError>>()?;
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let part = self.next_part(rest);
            self.flush_part(&rest[..part], true).await?;
            rest = &rest[part..];
        }
        Ok(())
    }

    /// Has intents from here on.
    fn enter_intents(&mut self, anchor: Bytes) {
        if self.intents.is_none() {
            let identity = self.new_identity(anchor);
            let holder = self.leaseholder().holders.enter(identity.txn_id, self.who);
            self.intents = Some(Box::new(Intents {
                identity,
                holder,
                ignored: Vec::new(),
                samples: Vec::new(),
                low: Bytes::new(),
                high: Bytes::new(),
                has_record: false,
            }));
        }
    }

    /// How many of `entries` fit a command; at least one.
    fn next_part(&self, entries: &[(Bytes, Entry)]) -> usize {
        let anchor = self.intents.as_ref().map_or(0, |intents| intents.identity.anchor.len());
        let mut bytes = 0;
        let fitting = entries.iter().take_while(|(key, entry)| {
            bytes += intent_bytes(key, entry) + anchor;
            bytes <= MAX_COMMAND_BYTES - COMMAND_MARGIN
        });
        fitting.count().max(1)
    }

    async fn flush_part(&mut self, part: &[(Bytes, Entry)], new: bool) -> Result<(), TxnError> {
        let writes = part.iter().map(|(key, entry)| {
            let lock = self.locks.find(key, entry.hash);
            KeyWrite {
                key: key.clone(),
                hash: entry.hash,
                values: entry.values.clone(),
                locked: lock.is_some_and(|lock| lock.strength == LockStrength::Exclusive),
                seen: lock.and_then(|lock| lock.seen),
            }
        });
        let writes = writes.collect();
        let intents = self.intents.as_mut().expect("entered before the first part");
        let pending = TxnRecord {
            format: RECORD_FORMAT,
            status: RecordStatus::Pending.into(),
            start_ts: intents.identity.start_ts.0,
            ..TxnRecord::default()
        };
        // From here on resolution looks there, too: what is dropped while it waits may still be written,
        // and the command that resolves it comes behind it in the log.
        let is_first = !intents.has_record;
        intents.wrote(part);
        let intents = self.intents.as_ref().expect("entered before the first part");
        let seq = self.write_seq;
        let sees = |earlier| intents.visible(earlier, seq);
        let request = IntentRequest {
            holder: &intents.holder,
            identity: &intents.identity,
            isolation: self.options.isolation,
            read_ts: self.read_ts,
            writes,
            absent: if new { Some(&sees) } else { None },
            record: is_first.then(|| pending.store(&intents.identity)),
            patience: Patience { cancel: &self.options.cancel, timeout: self.options.lock_timeout },
        };
        let result = self.db.leaseholder.write_intents(request).await;
        if is_first && !matches!(result, Ok(()) | Err(TxnError::Ambiguous(_))) {
            // Nothing was written: the record goes with the next part.
            self.intents.as_mut().expect("still there").has_record = false;
        }
        result?;
        let leaseholder = Arc::clone(&self.db.leaseholder);
        let owner = self.who.owner;
        self.locks.retain(|lock| {
            let flushed = lock.strength == LockStrength::Exclusive
                && part.binary_search_by(|(key, _)| key.cmp(&lock.key)).is_ok();
            !flushed || !leaseholder.locks.release_unless_awaited(owner, &lock.key, lock.hash)
        });
        Ok(())
    }

    /// The own intent on `key`, as reads see it.
    pub(crate) fn own_intent(&self, key: &[u8]) -> Result<Option<Written>, TxnError> {
        let Some(intents) = &self.intents else { return Ok(None) };
        if !intents.holder.may_hold(key) {
            return Ok(None);
        }
        let mut stored = Vec::new();
        let lock_key = mvcc::lock_key(key, Strength::Intent, &intents.identity.txn_id);
        if !self.leaseholder().engine().get(Cf::Lock, &lock_key, &mut stored)? {
            return Ok(None);
        }
        let intent = mvcc::decode_lock_value(key, stored.into())?;
        Ok(intents.visible(intent, self.read_seq))
    }

    /// Own intents of `[start, end)` from the side where a scan begins, up to `limit`.
    pub(crate) fn own_intents(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        limit: usize,
    ) -> Result<OwnIntents, TxnError> {
        let mut own = OwnIntents { visible: BTreeMap::new(), upto: None };
        let Some(intents) = &self.intents else { return Ok(own) };
        if !intents.holder.may_overlap(start, end) {
            return Ok(own);
        }
        // Locks lie behind their keys: the bound must be behind the last key's locks.
        let upper = match end.split_last() {
            Some((0, key)) => cairn_kv::encoding::prefix_end(key),
            _ => end.to_vec(),
        };
        let mut iter = self.leaseholder().engine().iter(Cf::Lock, start, &upper)?;
        if reverse {
            iter.seek_to_last()
        } else {
            iter.seek_to_first()
        }
        let mut loaded = 0;
        while iter.valid() {
            let (key, strength, txn_id) = mvcc::parse_lock_key(iter.key())?;
            let within = key >= start && (end.is_empty() || key < end);
            if within && strength == Strength::Intent && txn_id == intents.identity.txn_id {
                if loaded == limit {
                    // Forward the chunk ends before this key, in reverse behind it.
                    own.upto = Some(if reverse { behind(key).into() } else { Bytes::copy_from_slice(key) });
                    break;
                }
                loaded += 1;
                let intent = mvcc::decode_lock_value(key, Bytes::copy_from_slice(iter.value()))?;
                if let Some(written) = intents.visible(intent, self.read_seq) {
                    own.visible.insert(Bytes::copy_from_slice(key), written);
                }
            }
            if reverse { iter.prev() } else { iter.next() }
        }
        iter.status()?;
        Ok(own)
    }

    /// Commits a transaction that has intents.
    pub(crate) async fn commit_intents(&mut self) -> Result<Timestamp, TxnError> {
        self.flush_buffer().await?;
        self.earlier_reads.append(&mut self.reads);
        let leaseholder = Arc::clone(self.leaseholder());
        let holder = Arc::clone(&self.intents.as_ref().expect("it has intents").holder);
        let commit_ts = loop {
            if let Some(ts) = holder.settle(|_| leaseholder.store.hlc().try_now()) {
                break ts;
            }
            leaseholder.store.now().await.map_err(no_timestamp)?;
        };
        let own = Own { latch: None, holder: Some(&holder) };
        let patience = Patience { cancel: &self.options.cancel, timeout: self.options.lock_timeout };
        leaseholder.confirm_locks(self.locks.iter(), commit_ts, own, patience).await?;
        if self.options.isolation == Isolation::Serializable {
            let span = (self.read_ts, commit_ts);
            leaseholder.refresh(&mut self.earlier_reads, span, own, patience.cancel, |_| false).await?;
        }
        let intents = self.intents.take().expect("it has intents");
        if !intents.ignored.is_empty() && !intents.high.is_empty() {
            // Of what was read under a lock, written and rolled back the read is left. The intent has kept
            // it true so far; from here on the timestamp cache does.
            leaseholder.record_span(&intents.low, &behind(&intents.high), commit_ts);
        }
        let (sender, outcome) = oneshot::channel();
        let task = decide(leaseholder, intents, commit_ts, sender);
        self.leaseholder().store.env().runtime.spawn("commit of a large transaction", Box::pin(task));
        outcome.await.unwrap_or_else(|_| Err(TxnError::Ambiguous("the node is stopping".into())))
    }

    /// Aborts: removes the intents.
    pub(crate) async fn abort_intents(&mut self) {
        if let Some(done) = self.spawn_abort() {
            // A closed channel: the node is stopping, and recovery aborts.
            let _ = done.await;
        }
    }

    /// Aborts without waiting.
    pub(crate) fn abandon_intents(&mut self) {
        self.spawn_abort();
    }

    fn spawn_abort(&mut self) -> Option<oneshot::Receiver<()>> {
        let intents = self.intents.take()?;
        let leaseholder = Arc::clone(self.leaseholder());
        let (sender, done) = oneshot::channel();
        let task = async move {
            end(&leaseholder, intents, Timestamp::ZERO).await;
            let _ = sender.send(());
        };
        self.leaseholder().store.env().runtime.spawn("abort of a large transaction", Box::pin(task));
        Some(done)
    }
}

/// Commits by the record, answers, resolves the intents.
async fn decide(
    leaseholder: Arc<Leaseholder>,
    mut intents: Box<Intents>,
    commit_ts: Timestamp,
    answer: oneshot::Sender<Result<Timestamp, TxnError>>,
) {
    let spans = intents.spans();
    let merged = spans.len().div_ceil(RECORD_SPANS).max(1);
    let record = TxnRecord {
        format: RECORD_FORMAT,
        status: RecordStatus::Committed.into(),
        start_ts: intents.identity.start_ts.0,
        commit_ts: commit_ts.0,
        spans: spans
            .chunks(merged)
            .map(|group| RecordSpan { start: group[0].0.clone(), end: group[group.len() - 1].1.clone() })
            .collect(),
        ignored_seqs: intents.ignored_seqs(),
    };
    // Also where every flush had failed and was rolled back: this one must go again.
    intents.has_record = true;
    let effects = Effects {
        format: EFFECTS_FORMAT,
        local: vec![record.store(&intents.identity)],
        ..Effects::default()
    };
    let decided = match leaseholder.lease() {
        Ok(lease) => leaseholder.propose(lease, effects, None).await,
        Err(error) => Err(error),
    };
    match decided {
        Ok(()) => {
            // Decided and durable. Whoever meets what is left of it waits for it, this client, too.
            leaseholder.committed(commit_ts);
            let _ = answer.send(Ok(commit_ts));
            end(&leaseholder, intents, commit_ts).await;
        }
        Err(error @ TxnError::Ambiguous(_)) => {
            intents.holder.lose();
            let _ = answer.send(Err(error));
        }
        Err(error) => {
            end(&leaseholder, intents, Timestamp::ZERO).await;
            let _ = answer.send(Err(error));
        }
    }
}

/// Resolves the intents of a decided transaction and lets those go on who wait for it.
async fn end(leaseholder: &Arc<Leaseholder>, mut intents: Box<Intents>, commit_ts: Timestamp) {
    let spans = intents.spans();
    let ignored = intents.ignored_seqs();
    let remove = TxnRecord::remove(&intents.identity);
    let txn_id = intents.identity.txn_id;
    let holder = &intents.holder;
    let resolved = if intents.has_record {
        leaseholder.resolve(txn_id, &spans, commit_ts, &ignored, remove).await
    } else {
        Ok(())
    };
    match resolved {
        Ok(()) => {
            leaseholder.holders.leave(holder);
            leaseholder.locks.release_all(holder.who.owner, std::iter::empty());
        }
        Err(error) => {
            // The store takes no more commands; the next start of the node resolves what is left.
            tracing::warn!(%error, "intents are left to recovery");
            holder.lose();
        }
    }
}
