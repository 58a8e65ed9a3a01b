//! Transactions in flight that have intents, as readers and writers meet them.
//!
//! A transaction too large for one command writes intents ahead of its commit. Readers need not look
//! for them one by one: whoever reads at `read_ts` *pushes* every such transaction whose keys may lie
//! in its way, so that it will commit above `read_ts`. That is a word in memory and makes nobody wait.
//! Only one that has already settled its commit timestamp at or below `read_ts` must be waited for,
//! until its intents are resolved.
//!
//! Intents laid after the push are no concern either: laying them takes latches and asks the
//! timestamp cache, as any write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::mvcc::TxnId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::admit::behind;
use super::commit::{KeyWrite, TxnIdentity};
use super::lock_table::Requester;
use super::write_intents::intent_bytes;

/// One in so many keys, or the next after so many bytes, is remembered to cut the resolution by.
const SAMPLE_KEYS: usize = 512;
const SAMPLE_BYTES: usize = 128 << 10;

/// Samples to a command of the resolution: some 8,000 keys or 2 MiB.
const SAMPLES_PER_RESOLVE: usize = 16;

/// How far a transaction with intents has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// It will commit at or above the timestamp, or abort.
    Pending(Timestamp),
    /// It commits at the timestamp, if it does.
    Committing(Timestamp),
    /// Nothing of it is left.
    Finished,
}

/// A transaction with intents.
pub struct IntentHolder {
    /// Its identity in the intents.
    pub identity: TxnIdentity,
    /// Its identity in the lock table.
    pub who: Requester,
    status: Mutex<Status>,
    /// Smallest and largest key with an intent.
    bounds: RwLock<Option<(Bytes, Bytes)>>,
    /// Where it has written or may yet write.
    written: Mutex<Written>,
    /// Somebody ends it.
    ending: AtomicBool,
    /// Its commit is under way and will not be known before the node restarts.
    lost: AtomicBool,
    finished: Notify,
}

/// What will have to be resolved.
#[derive(Default)]
struct Written {
    /// Smallest and largest key.
    bounds: Option<(Bytes, Bytes)>,
    /// Some of the keys.
    samples: Vec<Bytes>,
    /// There may be a record.
    has_record: bool,
}

impl IntentHolder {
    /// Makes sure that it commits above `ts`. False: it commits at or below, if it does, and must be
    /// waited for.
    pub fn push(&self, ts: Timestamp) -> bool {
        let mut status = self.status.lock();
        match &mut *status {
            Status::Pending(least) => {
                *least = (*least).max(ts.next());
                true
            }
            Status::Committing(commit_ts) => *commit_ts > ts,
            Status::Finished => true,
        }
    }

    /// Settles the commit timestamp: what `choose` says, given the least that is allowed.
    pub fn settle(&self, choose: impl FnOnce(Timestamp) -> Option<Timestamp>) -> Option<Timestamp> {
        let mut status = self.status.lock();
        let Status::Pending(least) = *status else { panic!("a transaction settles once") };
        let commit_ts = choose(least)?;
        assert!(commit_ts >= least, "the clock is ahead of every push");
        *status = Status::Committing(commit_ts);
        Some(commit_ts)
    }

    /// Its intents may lie anywhere between its bounds, widened to these keys.
    pub fn widen(&self, first: &Bytes, last: &Bytes) {
        let mut bounds = self.bounds.write();
        *bounds = Some(match bounds.take() {
            None => (first.clone(), last.clone()),
            Some((low, high)) => (low.min(first.clone()), high.max(last.clone())),
        });
    }

    /// Some keys are about to be written. From here on resolution looks there, too: what is dropped while
    /// it waits may still be written, and the command that resolves it comes behind it in the log. True:
    /// they are the first, and a record must go with them.
    pub fn will_write(&self, writes: &[KeyWrite]) -> bool {
        let [first, ..] = writes else { return false };
        let last = writes.last().expect("not empty");
        let mut written = self.written.lock();
        written.bounds = Some(match written.bounds.take() {
            None => (first.key.clone(), last.key.clone()),
            Some((low, high)) => (low.min(first.key.clone()), high.max(last.key.clone())),
        });
        let (mut keys, mut bytes) = (0, 0);
        for write in writes {
            keys += 1;
            bytes += intent_bytes(&write.key, &write.values);
            if keys >= SAMPLE_KEYS || bytes >= SAMPLE_BYTES {
                (keys, bytes) = (0, 0);
                written.samples.push(write.key.clone());
            }
        }
        !std::mem::replace(&mut written.has_record, true)
    }

    /// What would have been the first keys was certainly not written: the record goes with the next.
    pub fn did_not_write(&self) {
        self.written.lock().has_record = false;
    }

    /// A record is about to be written.
    pub fn will_record(&self) {
        self.written.lock().has_record = true;
    }

    /// Whether there may be a record, and intents.
    pub fn has_record(&self) -> bool {
        self.written.lock().has_record
    }

    /// Smallest and largest key that may have been written.
    pub fn written_bounds(&self) -> Option<(Bytes, Bytes)> {
        self.written.lock().bounds.clone()
    }

    /// The spans to resolve, each small enough for a command.
    pub fn spans(&self) -> Vec<(Bytes, Bytes)> {
        let mut written = self.written.lock();
        let Some((low, high)) = written.bounds.clone() else { return Vec::new() };
        written.samples.sort_unstable();
        written.samples.dedup();
        let mut spans = Vec::new();
        let mut start = low;
        for cut in written.samples.iter().skip(SAMPLES_PER_RESOLVE).step_by(SAMPLES_PER_RESOLVE) {
            if *cut > start {
                spans.push((start, cut.clone()));
                start = cut.clone();
            }
        }
        spans.push((start, behind(&high).into()));
        spans
    }

    /// The caller ends it, by a commit or an abort; false: somebody else does.
    pub fn take_charge(&self) -> bool {
        !self.ending.swap(true, Ordering::SeqCst)
    }

    /// Whether it may have intents in `[start, end)`.
    pub fn may_overlap(&self, start: &[u8], end: &[u8]) -> bool {
        let bounds = self.bounds.read();
        bounds
            .as_ref()
            .is_some_and(|(low, high)| (end.is_empty() || low.as_ref() < end) && high.as_ref() >= start)
    }

    /// Whether it may have an intent on `key`.
    pub fn may_hold(&self, key: &[u8]) -> bool {
        self.bounds.read().as_ref().is_some_and(|(low, high)| low.as_ref() <= key && key <= high.as_ref())
    }

    /// Runs `act` if it is not finished, and not before or after: it cannot finish meanwhile.
    pub fn unless_finished<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        let status = self.status.lock();
        (*status != Status::Finished).then(act)
    }

    /// The outcome of its commit is unknown: nobody can be told before the node restarts.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.finished.notify_waiters();
    }

    /// Whether it was lost.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Completes when finished or lost.
    pub async fn finished(&self) {
        loop {
            let notified = self.finished.notified();
            if self.is_lost() || *self.status.lock() == Status::Finished {
                return;
            }
            notified.await;
        }
    }
}

fn is_own(holder: &Arc<IntentHolder>, own: Option<&Arc<IntentHolder>>) -> bool {
    own.is_some_and(|own| Arc::ptr_eq(own, holder))
}

/// All transactions with intents.
#[derive(Default)]
pub struct IntentHolders {
    /// How many; zero saves readers the look. Raised before a holder's first intent.
    count: AtomicUsize,
    holders: RwLock<Vec<Arc<IntentHolder>>>,
}

impl IntentHolders {
    /// A transaction is about to lay its first intents.
    pub fn enter(&self, identity: TxnIdentity, who: Requester) -> Arc<IntentHolder> {
        let holder = Arc::new(IntentHolder {
            identity,
            who,
            status: Mutex::new(Status::Pending(Timestamp::ZERO)),
            bounds: RwLock::new(None),
            written: Mutex::default(),
            ending: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            finished: Notify::new(),
        });
        self.holders.write().push(Arc::clone(&holder));
        self.count.fetch_add(1, Ordering::SeqCst);
        holder
    }

    /// Its intents are gone.
    pub fn leave(&self, holder: &Arc<IntentHolder>) {
        *holder.status.lock() = Status::Finished;
        holder.finished.notify_waiters();
        let mut holders = self.holders.write();
        let before = holders.len();
        holders.retain(|other| !Arc::ptr_eq(other, holder));
        if holders.len() < before {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether there are no intents at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Pushes all that may have intents in `[start, end)` above `ts`; returns one that must be waited
    /// for. `own` is passed over.
    pub fn push_all(
        &self,
        start: &[u8],
        end: &[u8],
        ts: Timestamp,
        own: Option<&Arc<IntentHolder>>,
    ) -> Option<Arc<IntentHolder>> {
        let holders = self.holders.read();
        let found = holders
            .iter()
            .find(|holder| !is_own(holder, own) && holder.may_overlap(start, end) && !holder.push(ts));
        found.map(Arc::clone)
    }

    /// Whether another transaction may have intents in `[start, end)`.
    pub fn may_overlap(&self, start: &[u8], end: &[u8], own: Option<&Arc<IntentHolder>>) -> bool {
        self.holders.read().iter().any(|holder| !is_own(holder, own) && holder.may_overlap(start, end))
    }

    /// Whether another transaction may have an intent on `key`.
    pub fn may_hold(&self, key: &[u8], own: Option<&Arc<IntentHolder>>) -> bool {
        !self.is_empty()
            && self.holders.read().iter().any(|holder| !is_own(holder, own) && holder.may_hold(key))
    }

    /// The transaction `txn_id`, if it has intents.
    pub fn find(&self, txn_id: &TxnId) -> Option<Arc<IntentHolder>> {
        self.holders.read().iter().find(|holder| holder.identity.txn_id == *txn_id).map(Arc::clone)
    }
}
