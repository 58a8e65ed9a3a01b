//! Slots: what the leaseholder remembers of all keys that share a hash.
//!
//! A point read must cost nanoseconds, so its bookkeeping is one slot of a fixed array, chosen by
//! the key's hash and worked with atomics. Keys that fall into one slot share it, which is only
//! conservative: a write is pushed above the read of another key, a refresh looks at the engine
//! although nothing changed. Memory is bounded by construction and nothing is ever evicted.
//!
//! How readers and writers use a slot, and why no read is missed, is told in [`super::latch`].

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cairn_kv::Timestamp;

/// log₂ of the number of slots: 1 MiB in all.
const SLOT_BITS: u32 = 16;

/// The hash of a user key; computed once per operation and handed around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// Hashes a key. Fixed over time and machines: the simulator replays it.
    pub fn of(key: &[u8]) -> KeyHash {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product as u64) ^ ((product >> 64) as u64)
        };
        let mut state = MULTIPLIER ^ key.len() as u64;
        let mut words = key.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
            state = fold(state ^ word, 0xd6e8_feb8_6659_fd93);
        }
        let mut tail = [0; 8];
        tail[..words.remainder().len()].copy_from_slice(words.remainder());
        state = fold(state ^ u64::from_le_bytes(tail), 0xa076_1d64_78bd_642f);
        KeyHash(fold(state, MULTIPLIER))
    }

    fn slot(self) -> usize {
        (self.0 >> (64 - SLOT_BITS)) as usize
    }
}

/// Counts the writes to a slot: equal stamps mean that none of its keys was written in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub u32);

impl Stamp {
    /// The stamp of a read that missed a version because it is newer than the read's timestamp: that
    /// write is counted already and must look as if it came after the read.
    pub fn before_last_write(self) -> Stamp {
        Stamp(self.0.wrapping_sub(1))
    }
}

/// What is remembered of the keys of one hash.
#[derive(Default)]
pub struct Slot {
    /// Highest timestamp at which one of the keys was read; only rises.
    read_ts: AtomicU64,
    /// Latch sets in flight that hold one of the keys.
    writers: AtomicU32,
    /// Writes that took effect; wraps.
    writes: AtomicU32,
}

/// All slots of a range.
pub struct Slots {
    slots: Box<[Slot]>,
    /// Writes whose keys are not known one by one (the resolution of spans); part of every stamp.
    span_writes: AtomicU32,
}

impl Default for Slots {
    fn default() -> Slots {
        Slots {
            slots: (0..1 << SLOT_BITS).map(|_| Slot::default()).collect(),
            span_writes: AtomicU32::new(0),
        }
    }
}

impl Slots {
    /// Records a read at `ts`. Returns whether a writer of the slot is in flight, as seen after the
    /// read was recorded.
    #[inline]
    pub fn read(&self, hash: KeyHash, ts: Timestamp) -> bool {
        let slot = &self.slots[hash.slot()];
        if slot.read_ts.load(Ordering::SeqCst) < ts.0 {
            slot.read_ts.fetch_max(ts.0, Ordering::SeqCst);
        }
        slot.writers.load(Ordering::SeqCst) != 0
    }

    /// Whether a writer of the slot is in flight.
    #[inline]
    pub fn has_writer(&self, hash: KeyHash) -> bool {
        self.slots[hash.slot()].writers.load(Ordering::SeqCst) != 0
    }

    /// The highest read recorded.
    #[inline]
    pub fn read_ts(&self, hash: KeyHash) -> Timestamp {
        Timestamp(self.slots[hash.slot()].read_ts.load(Ordering::SeqCst))
    }

    /// The slot's stamp. Taken before the engine is read.
    #[inline]
    pub fn stamp(&self, hash: KeyHash) -> Stamp {
        // Both counters only rise, so an equal sum means that both are equal.
        let writes = self.slots[hash.slot()].writes.load(Ordering::SeqCst);
        Stamp(writes.wrapping_add(self.span_writes.load(Ordering::SeqCst)))
    }

    /// A writer takes its latch.
    pub fn enter(&self, hash: KeyHash) {
        self.slots[hash.slot()].writers.fetch_add(1, Ordering::SeqCst);
    }

    /// A writer is done; `wrote` if it may have taken effect.
    pub fn leave(&self, hash: KeyHash, wrote: bool) {
        let slot = &self.slots[hash.slot()];
        if wrote {
            slot.writes.fetch_add(1, Ordering::SeqCst);
        }
        let before = slot.writers.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "a latch is released once");
    }

    /// Something was written to keys that are not named: every stamp changes.
    pub fn wrote_span(&self) {
        self.span_writes.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_spread_over_the_slots() {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..4096_u32 {
            let mut key = b"\x10table\x20".to_vec();
            key.extend_from_slice(&number.to_be_bytes());
            seen.insert(KeyHash::of(&key).slot());
        }
        // 4,096 balls in 65,536 bins hit about 3,970 of them.
        assert!(seen.len() > 3_850, "{} slots", seen.len());
        assert_ne!(KeyHash::of(b"a"), KeyHash::of(b"a\0"));
    }

    #[test]
    fn a_stamp_changes_with_every_write_that_took_effect() {
        let slots = Slots::default();
        let hash = KeyHash::of(b"k");
        let before = slots.stamp(hash);
        slots.enter(hash);
        assert!(slots.has_writer(hash));
        slots.leave(hash, false);
        assert_eq!(slots.stamp(hash), before);
        slots.enter(hash);
        slots.leave(hash, true);
        assert_ne!(slots.stamp(hash), before);
        let before = slots.stamp(hash);
        slots.wrote_span();
        assert_ne!(slots.stamp(hash), before);
    }
}
