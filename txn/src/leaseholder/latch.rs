//! Latches: what keeps a read and a write of the same key apart while the write is under way.
//!
//! # The problem
//!
//! A read at `read_ts` must see every write that commits at or below `read_ts` and must never be
//! contradicted by a later one. A write takes effect some time after its timestamp was chosen (the
//! log is synced in between), so a reader may come while a write below its timestamp is invisible.
//!
//! # The protocol
//!
//! A writer
//! 1. *latches* all its keys at once: enters its [`LatchSet`] into the list of active sets (if no
//!    other active set shares a key, else it waits for that one to end) and counts itself in the
//!    slot of each key;
//! 2. turns to *choosing*, asks the timestamp cache for the highest read of each key and settles a
//!    timestamp above; this is synchronous and short;
//! 3. announces the timestamp and is *held*; validates, replicates, applies;
//! 4. counts its writes in the slots' stamps and releases.
//!
//! A reader at `read_ts` of a point (or span)
//! 1. records the read in the timestamp cache;
//! 2. looks for active sets that hold the key (a key of the span). Points look at the list only when
//!    their slot counts a writer. For each set found: *latched* – pass; *choosing* – look again in a
//!    moment; *held* above `read_ts` – pass; *held* at or below – wait for the release;
//! 3. reads the engine.
//!
//! # Why it is right
//!
//! All steps on the slots, the phase and the floor are sequentially consistent; those on the list
//! and on the span reads are under mutexes. Take a writer and a reader of one key. If the reader
//! finds no trace of the writer, or finds it *latched*, then recording (reader 1) comes before the
//! writer's turn to *choosing* and so before its look at the cache: the writer ends above `read_ts`
//! and the reader owes it nothing. If it finds it *held*, it knows the timestamp and waits where it
//! must. If the writer had released before, its effect is in the engine before the reader looks.
//!
//! Nobody waits in a circle: a writer that waits for latches holds none; a writer that is held waits
//! (as the reader of what it refreshes) only for sets with smaller timestamps, and the timestamps of
//! writers are distinct, being drawn from one clock.
//!
//! A set whose outcome is unknown is *poisoned* and never released: reads that would have to know
//! fail until the lease changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use cairn_kv::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::slot::{KeyHash, Slots};
use super::watched::InFlight;

/// A key with its hash.
pub type HashedKey = (Bytes, KeyHash);

const LATCHED: u64 = 0;
const CHOOSING: u64 = 1;

/// The keys of one writer, latched together.
pub struct LatchSet {
    /// Ascending.
    keys: Vec<HashedKey>,
    /// One bit per key, by hash: sets without a common bit share no key.
    fingerprint: u64,
    /// [`LATCHED`], [`CHOOSING`], or the timestamp at which it is held.
    phase: AtomicU64,
    poisoned: AtomicBool,
    released: AtomicBool,
    notify: Notify,
}

/// What a latch set means to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not in the way (any more).
    Clear,
    /// It is just choosing its timestamp.
    Choosing,
    /// The reader must wait for its release.
    InTheWay,
    /// It will never be known.
    Poisoned,
}

impl LatchSet {
    fn contains(&self, key: &[u8]) -> bool {
        self.keys.binary_search_by(|(own, _)| own.as_ref().cmp(key)).is_ok()
    }

    fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        let first = self.keys.partition_point(|(own, _)| own.as_ref() < start);
        self.keys.get(first).is_some_and(|(own, _)| end.is_empty() || own.as_ref() < end)
    }

    fn shares_key(&self, other: &LatchSet) -> bool {
        if self.fingerprint & other.fingerprint == 0 {
            return false;
        }
        let (few, many) = if self.keys.len() < other.keys.len() { (self, other) } else { (other, self) };
        few.keys.iter().any(|(key, _)| many.contains(key))
    }

    /// What it means to a reader at `read_ts`.
    pub fn standing(&self, read_ts: Timestamp) -> Standing {
        if self.released.load(Ordering::SeqCst) {
            return Standing::Clear;
        }
        match self.phase.load(Ordering::SeqCst) {
            LATCHED => Standing::Clear,
            CHOOSING => Standing::Choosing,
            ts if ts > read_ts.0 => Standing::Clear,
            _ if self.poisoned.load(Ordering::SeqCst) => Standing::Poisoned,
            _ => Standing::InTheWay,
        }
    }

    /// Completes when released or poisoned.
    pub async fn released(&self) {
        loop {
            let notified = self.notify.notified();
            if self.released.load(Ordering::SeqCst) || self.poisoned.load(Ordering::SeqCst) {
                return;
            }
            notified.await;
        }
    }

    /// Whether its outcome is unknown for ever.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }
}

/// All latches of a range.
pub struct Latches {
    slots: Arc<Slots>,
    active: Mutex<Vec<Arc<LatchSet>>>,
}

impl Latches {
    /// No latches.
    pub fn new(slots: Arc<Slots>) -> Latches {
        Latches { slots, active: Mutex::new(Vec::new()) }
    }

    /// Latches `keys` (ascending, distinct), or returns them with a set that must be waited for.
    pub fn try_acquire(
        self: &Arc<Latches>,
        keys: Vec<HashedKey>,
    ) -> Result<LatchGuard, (Vec<HashedKey>, Arc<LatchSet>)> {
        debug_assert!(keys.is_sorted_by(|a, b| a.0 < b.0));
        let fingerprint = keys.iter().fold(0, |bits, (_, hash)| bits | 1 << (hash.0 & 63));
        let set = LatchSet {
            keys,
            fingerprint,
            phase: AtomicU64::new(LATCHED),
            poisoned: AtomicBool::new(false),
            released: AtomicBool::new(false),
            notify: Notify::new(),
        };
        let mut active = self.active.lock();
        if let Some(other) = active.iter().find(|other| other.shares_key(&set)) {
            let other = Arc::clone(other);
            drop(active);
            return Err((set.keys, other));
        }
        let set = Arc::new(set);
        active.push(Arc::clone(&set));
        // Under the mutex, so that a reader that sees the count finds the set.
        for (_, hash) in &set.keys {
            self.slots.enter(*hash);
        }
        Ok(LatchGuard { latches: Arc::clone(self), set, wrote: false, watched: None })
    }

    /// An active set that a read of `key` at `read_ts` cannot pass at once. Called when the key's slot
    /// counts a writer. `own` is passed over.
    pub fn in_the_way_of_point(
        &self,
        key: &[u8],
        read_ts: Timestamp,
        own: Option<&LatchGuard>,
    ) -> Option<Arc<LatchSet>> {
        self.find(read_ts, own, |set| set.contains(key))
    }

    /// An active set that a read of `[start, end)` at `read_ts` cannot pass at once.
    pub fn in_the_way_of_span(
        &self,
        start: &[u8],
        end: &[u8],
        read_ts: Timestamp,
        own: Option<&LatchGuard>,
    ) -> Option<Arc<LatchSet>> {
        self.find(read_ts, own, |set| set.overlaps(start, end))
    }

    /// An active set that holds `key`, at whatever timestamp.
    pub fn holding(&self, key: &[u8]) -> Option<Arc<LatchSet>> {
        self.active.lock().iter().find(|set| set.contains(key)).map(Arc::clone)
    }

    fn find(
        &self,
        read_ts: Timestamp,
        own: Option<&LatchGuard>,
        concerns: impl Fn(&LatchSet) -> bool,
    ) -> Option<Arc<LatchSet>> {
        let active = self.active.lock();
        let found = active.iter().find(|set| {
            !own.is_some_and(|own| Arc::ptr_eq(&own.set, set))
                && set.standing(read_ts) != Standing::Clear
                && concerns(set)
        });
        found.map(Arc::clone)
    }
}

/// Held latches; dropping releases them.
pub struct LatchGuard {
    latches: Arc<Latches>,
    set: Arc<LatchSet>,
    wrote: bool,
    /// What is written is watched.
    watched: Option<InFlight>,
}

impl LatchGuard {
    /// Keeps `in_flight` for as long as the latches; whether there is something to keep.
    pub fn watch(&mut self, in_flight: Option<InFlight>) -> bool {
        self.watched = in_flight;
        self.watched.is_some()
    }

    /// Chooses the timestamp: `choose` runs while readers wait and must look at the timestamp cache
    /// only there. `None` leaves the set latched, to choose again.
    pub fn choose(&self, choose: impl FnOnce() -> Option<Timestamp>) -> Option<Timestamp> {
        self.set.phase.store(CHOOSING, Ordering::SeqCst);
        let chosen = choose();
        assert!(chosen.is_none_or(|ts| ts.0 > CHOOSING), "a real timestamp");
        self.set.phase.store(chosen.map_or(LATCHED, |ts| ts.0), Ordering::SeqCst);
        chosen
    }

    /// The latched keys.
    pub fn keys(&self) -> &[HashedKey] {
        &self.set.keys
    }

    /// From here on the write may take effect.
    pub fn will_write(&mut self) {
        self.wrote = true;
    }

    /// It certainly did not take effect.
    pub fn did_not_write(&mut self) {
        self.wrote = false;
    }

    /// The outcome is unknown: the keys stay latched for as long as the lease lasts.
    pub fn poison(self) {
        self.set.poisoned.store(true, Ordering::SeqCst);
        self.set.notify.notify_waiters();
        std::mem::forget(self);
    }
}

impl Drop for LatchGuard {
    fn drop(&mut self) {
        let mut active = self.latches.active.lock();
        let position = active.iter().position(|set| Arc::ptr_eq(set, &self.set));
        active.swap_remove(position.expect("held sets are in the list"));
        for (_, hash) in &self.set.keys {
            self.latches.slots.leave(*hash, self.wrote);
        }
        drop(active);
        self.set.released.store(true, Ordering::SeqCst);
        self.set.notify.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&'static str]) -> Vec<HashedKey> {
        names.iter().map(|name| (Bytes::from_static(name.as_bytes()), KeyHash::of(name.as_bytes()))).collect()
    }

    #[test]
    fn readers_wait_only_for_what_they_must_see() {
        let slots = Arc::new(Slots::default());
        let latches = Arc::new(Latches::new(Arc::clone(&slots)));
        let guard = latches.try_acquire(keys(&["b", "d"])).ok().expect("free");
        // Latched: the writer has yet to look at the cache.
        assert!(slots.read(KeyHash::of(b"b"), Timestamp(50)));
        assert!(latches.in_the_way_of_point(b"b", Timestamp(50), None).is_none());
        let chosen = guard.choose(|| {
            let other = latches.in_the_way_of_point(b"b", Timestamp(50), None).expect("choosing");
            assert_eq!(other.standing(Timestamp(50)), Standing::Choosing);
            Some(slots.read_ts(KeyHash::of(b"b")).next())
        });
        assert_eq!(chosen, Some(Timestamp(51)));
        assert!(latches.in_the_way_of_point(b"b", Timestamp(50), None).is_none());
        let other = latches.in_the_way_of_point(b"b", Timestamp(51), None).expect("held below");
        assert_eq!(other.standing(Timestamp(51)), Standing::InTheWay);
        assert!(latches.in_the_way_of_point(b"b", Timestamp(51), Some(&guard)).is_none());
        assert!(latches.in_the_way_of_point(b"c", Timestamp(60), None).is_none());
        assert!(latches.in_the_way_of_span(b"c", b"d", Timestamp(60), None).is_none());
        assert!(latches.in_the_way_of_span(b"c", b"", Timestamp(60), None).is_some());
        drop(guard);
        assert_eq!(other.standing(Timestamp(51)), Standing::Clear);
        assert!(!slots.has_writer(KeyHash::of(b"b")));
    }

    #[test]
    fn a_key_is_latched_once() {
        let latches = Arc::new(Latches::new(Arc::new(Slots::default())));
        let first = latches.try_acquire(keys(&["a", "c"])).ok().expect("free");
        let (back, other) = latches.try_acquire(keys(&["b", "c"])).err().expect("taken");
        assert_eq!(back.len(), 2);
        assert!(latches.try_acquire(keys(&["b", "d"])).is_ok());
        drop(first);
        assert_eq!(other.standing(Timestamp::MAX), Standing::Clear);
        assert!(latches.try_acquire(back).is_ok());
    }

    #[test]
    fn a_poisoned_set_stays() {
        let latches = Arc::new(Latches::new(Arc::new(Slots::default())));
        let guard = latches.try_acquire(keys(&["a"])).ok().expect("free");
        guard.choose(|| Some(Timestamp(7)));
        guard.poison();
        let set = latches.in_the_way_of_point(b"a", Timestamp(9), None).expect("still there");
        assert_eq!(set.standing(Timestamp(9)), Standing::Poisoned);
        assert!(latches.in_the_way_of_point(b"a", Timestamp(6), None).is_none());
    }
}
