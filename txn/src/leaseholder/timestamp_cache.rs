//! The timestamp cache: the highest timestamp at which each key was read.
//!
//! A transaction that read at `ts` must never be contradicted: no later write may take effect at or
//! below `ts` where it looked. Writers therefore ask here for the highest read of each key they
//! write and commit above it. Point reads are in [`Slots`]; span reads in a step function over the
//! key space, bounded in size: when it has too many steps, the older half is forgotten and the
//! *floor* rises to what they said. An answer may be too high, never too low.
//!
//! A new lease sets the floor to its start: what the old one served is not known here, but lies
//! below. Raising the floor is also how the thresholds of garbage collection keep commits above
//! themselves: it is a read of everything.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cairn_kv::Timestamp;
use parking_lot::RwLock;

use super::slot::{KeyHash, Slots};

/// Steps kept of the span reads.
const MAX_STEPS: usize = 4096;

/// Highest reads of all keys.
pub struct TimestampCache {
    slots: Arc<Slots>,
    /// Every key counts as read here; only rises.
    floor: AtomicU64,
    /// Highest span read ever recorded: a writer above it need not look at the spans.
    newest_span: AtomicU64,
    spans: RwLock<SpanReads>,
}

impl TimestampCache {
    /// A cache that says `floor` of every key.
    pub fn new(slots: Arc<Slots>, floor: Timestamp) -> TimestampCache {
        TimestampCache {
            slots,
            floor: AtomicU64::new(floor.0),
            newest_span: AtomicU64::new(0),
            spans: RwLock::new(SpanReads { steps: BTreeMap::new(), max_steps: MAX_STEPS }),
        }
    }

    /// Records a read of every key in `[start, end)` (an empty `end`: no bound).
    pub fn read_span(&self, start: &[u8], end: &[u8], ts: Timestamp) {
        if ts <= self.floor() {
            return;
        }
        let mut spans = self.spans.write();
        if let Some(forgotten) = spans.mark(start, end, ts) {
            self.raise_floor(forgotten);
        }
        self.newest_span.fetch_max(ts.0, Ordering::SeqCst);
    }

    /// Every key counts as read at `ts`.
    pub fn raise_floor(&self, ts: Timestamp) {
        self.floor.fetch_max(ts.0, Ordering::SeqCst);
    }

    /// The lowest answer for any key.
    pub fn floor(&self) -> Timestamp {
        Timestamp(self.floor.load(Ordering::SeqCst))
    }

    /// The highest read of `key`, as far as it matters to a writer that would commit at
    /// `candidate`: exact where it is at or above it.
    pub fn max_read(&self, key: &[u8], hash: KeyHash, candidate: Timestamp) -> Timestamp {
        let max = self.floor().max(self.slots.read_ts(hash));
        if self.newest_span.load(Ordering::SeqCst) < candidate.0 {
            return max;
        }
        max.max(self.spans.read().at(key)).max(self.floor())
    }
}

/// Span reads as a step function: each entry holds from its key to the next entry; zero before the
/// first. Neighbours differ.
struct SpanReads {
    steps: BTreeMap<Bytes, Timestamp>,
    max_steps: usize,
}

impl SpanReads {
    /// The value at `key`.
    fn at(&self, key: &[u8]) -> Timestamp {
        let below = (Bound::Unbounded, Bound::Included(key));
        self.steps.range::<[u8], _>(below).next_back().map_or(Timestamp::ZERO, |(_, ts)| *ts)
    }

    /// Raises `[start, end)` to at least `ts`. Returns what was forgotten to stay within bounds.
    fn mark(&mut self, start: &[u8], end: &[u8], ts: Timestamp) -> Option<Timestamp> {
        if !end.is_empty() && start >= end {
            return None;
        }
        let before_start = {
            let below = (Bound::Unbounded, Bound::Excluded(start));
            self.steps.range::<[u8], _>(below).next_back().map_or(Timestamp::ZERO, |(_, ts)| *ts)
        };
        let behind = (!end.is_empty()).then(|| self.at(end));
        let within =
            (Bound::Included(start), if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) });
        let old: Vec<(Bytes, Timestamp)> =
            self.steps.range::<[u8], _>(within).map(|(key, ts)| (key.clone(), *ts)).collect();
        for (key, _) in &old {
            self.steps.remove(key);
        }
        // Lay the steps again, raised, leaving out those that no longer are one.
        let mut last = before_start;
        let mut at_start = before_start;
        let mut rest = old.as_slice();
        if let Some(((key, value), tail)) = rest.split_first()
            && key.as_ref() == start
        {
            at_start = *value;
            rest = tail;
        }
        if at_start.max(ts) != last {
            last = at_start.max(ts);
            self.steps.insert(Bytes::copy_from_slice(start), last);
        }
        for (key, value) in rest {
            if (*value).max(ts) != last {
                last = (*value).max(ts);
                self.steps.insert(key.clone(), last);
            }
        }
        if let Some(behind) = behind {
            if behind == last {
                self.steps.remove(end);
            } else {
                self.steps.insert(Bytes::copy_from_slice(end), behind);
            }
        }
        let mut forgotten = None;
        while self.steps.len() > self.max_steps {
            forgotten = forgotten.max(Some(self.forget()));
        }
        forgotten
    }

    /// Forgets the older half of the steps.
    fn forget(&mut self) -> Timestamp {
        let mut values: Vec<Timestamp> = self.steps.values().copied().filter(|ts| !ts.is_zero()).collect();
        values.sort_unstable();
        let cut = values[values.len() / 2];
        let mut last = Timestamp::ZERO;
        self.steps.retain(|_, ts| {
            if *ts <= cut {
                *ts = Timestamp::ZERO;
            }
            let keep = *ts != last;
            last = *ts;
            keep
        });
        cut
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> Bytes {
        Bytes::from(vec![b'k', number])
    }

    proptest! {
        /// Against a map that remembers the highest read of each of 32 keys: with room for all steps
        /// the answer is exact; with little room it is never too low and never above all reads.
        #[test]
        fn spans_agree_with_a_map(
            marks in prop::collection::vec((0_u8..32, 0_u8..34, 1_u64..50), 1..60),
            max_steps in prop_oneof![Just(3_usize), Just(8), Just(1000)],
        ) {
            let mut spans = SpanReads { steps: BTreeMap::new(), max_steps };
            let mut model = [Timestamp::ZERO; 32];
            let mut floor = Timestamp::ZERO;
            for (start, end, ts) in marks {
                let ts = Timestamp(ts);
                let upper = if end == 33 { Bytes::new() } else { key(end) };
                if let Some(forgotten) = spans.mark(&key(start), &upper, ts) {
                    floor = floor.max(forgotten);
                }
                for number in start..end.min(32) {
                    model[usize::from(number)] = model[usize::from(number)].max(ts);
                }
                for number in 0..32 {
                    let expected = model[usize::from(number)];
                    let answer = spans.at(&key(number)).max(floor);
                    if max_steps == 1000 {
                        prop_assert_eq!(answer, expected);
                    } else {
                        prop_assert!(answer >= expected);
                    }
                }
                prop_assert!(spans.steps.len() <= max_steps);
                let values: Vec<_> = spans.steps.values().collect();
                prop_assert!(values.windows(2).all(|pair| pair[0] != pair[1]), "neighbours differ");
            }
        }

        /// The whole cache: points and spans against a map, from whatever candidate.
        #[test]
        fn cache_is_never_too_low(
            reads in prop::collection::vec((0_u8..32, 0_u8..33, 1_u64..50), 1..40),
            candidate in 0_u64..60,
        ) {
            let slots = Arc::new(Slots::default());
            let cache = TimestampCache::new(Arc::clone(&slots), Timestamp(5));
            let mut model = [Timestamp(5); 32];
            for (start, end, ts) in reads {
                if start == end {
                    slots.read(KeyHash::of(&key(start)), Timestamp(ts));
                    model[usize::from(start)] = model[usize::from(start)].max(Timestamp(ts));
                } else {
                    cache.read_span(&key(start), &key(end), Timestamp(ts));
                    for number in start..end.min(32) {
                        model[usize::from(number)] = model[usize::from(number)].max(Timestamp(ts));
                    }
                }
            }
            for number in 0..32_u8 {
                let answer = cache.max_read(&key(number), KeyHash::of(&key(number)), Timestamp(candidate));
                let expected = model[usize::from(number)];
                if expected >= Timestamp(candidate) {
                    prop_assert_eq!(answer, expected);
                } else {
                    prop_assert!(answer < Timestamp(candidate));
                }
            }
        }
    }
}
