//! Closed timestamps: up to when a replica has all of its range's past.
//!
//! A leaseholder closes a timestamp once nothing can commit at or below it any more: later commits are put
//! above it, those under way have been waited for, and by its lease ([`crate::Store::serves`]) whoever leads
//! next starts above it, as above a read. It then tells the other replicas, with the index of the last
//! entry that it has applied. A replica that has applied that entry lacks nothing at or below the timestamp,
//! and serves reads there for ever after, whoever leads. Entries that are applied are the same in all
//! replicas, so the index alone says which history is meant; the lease it was closed under does not matter.
//!
//! What is known of it is lost with a restart and comes again. It is void while a snapshot is put in the
//! replica's place: readers look before and after ([`crate::Store::is_still`]).

use std::collections::BTreeMap;

use cairn_kv::Timestamp;
use parking_lot::RwLock;

use crate::RangeId;

/// How far back, from now, a replica's past is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complete {
    /// All that was, or will be, committed at or below it is there.
    pub upto: Timestamp,
    /// Rises when the replica's content is exchanged.
    generation: u64,
}

/// What the replicas of a store have of the past.
#[derive(Default)]
pub(crate) struct Pasts {
    ranges: RwLock<BTreeMap<RangeId, Complete>>,
}

impl Pasts {
    pub(crate) fn get(&self, range: RangeId) -> Option<Complete> {
        self.ranges.read().get(&range).copied().filter(|complete| !complete.upto.is_zero())
    }

    /// The content is the same as when `seen` was looked up.
    pub(crate) fn is_still(&self, range: RangeId, seen: Complete) -> bool {
        self.ranges.read().get(&range).is_some_and(|complete| complete.generation == seen.generation)
    }

    pub(crate) fn close(&self, range: RangeId, upto: Timestamp) {
        let mut ranges = self.ranges.write();
        let complete = ranges.entry(range).or_insert(Complete { upto, generation: 0 });
        complete.upto = complete.upto.max(upto);
    }

    /// The content is about to be another.
    pub(crate) fn exchange(&self, range: RangeId) {
        let mut ranges = self.ranges.write();
        let complete = ranges.entry(range).or_insert(Complete { upto: Timestamp::ZERO, generation: 0 });
        *complete = Complete { upto: Timestamp::ZERO, generation: complete.generation + 1 };
    }
}

/// What a replica was told to be closed, until it has applied the entry that goes with it.
#[derive(Default)]
pub(crate) struct Told(Option<(u64, Timestamp)>);

impl Told {
    /// `upto` is closed where entry `index` is applied. An earlier word that waits for its entry stays: one
    /// that lags would never come to any of those that follow one another.
    pub(crate) fn hear(&mut self, index: u64, upto: Timestamp) {
        self.0.get_or_insert((index, upto));
    }

    /// What is closed now that entry `applied` is.
    pub(crate) fn take(&mut self, applied: u64) -> Option<Timestamp> {
        let (_, upto) = self.0.take_if(|(index, _)| *index <= applied)?;
        Some(upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_when_its_entry_is_applied() {
        let mut told = Told::default();
        told.hear(7, Timestamp(70));
        told.hear(9, Timestamp(90));
        assert_eq!(told.take(6), None);
        assert_eq!(told.take(8), Some(Timestamp(70)));
        assert_eq!(told.take(9), None, "it was not kept beside the other");
    }

    #[test]
    fn what_was_looked_up_before_an_exchange_is_void() {
        let pasts = Pasts::default();
        pasts.close(1, Timestamp(5));
        pasts.close(1, Timestamp(3));
        let seen = pasts.get(1).expect("closed");
        assert_eq!(seen.upto, Timestamp(5));
        assert!(pasts.is_still(1, seen));
        pasts.exchange(1);
        assert!(!pasts.is_still(1, seen));
        assert_eq!(pasts.get(1), None, "nothing of the new content is closed");
        pasts.close(1, Timestamp(4));
        assert!(!pasts.is_still(1, seen));
    }
}
