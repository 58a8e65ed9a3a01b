//! The locks that a transaction holds in the leaseholder's lock table, and what it saw under them.

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::effects::Superseded;
use hashbrown::HashTable;

use crate::LockStrength;
use crate::leaseholder::slot::{KeyHash, Stamp};

/// The version of a key that was seen while it was locked exclusively: the commit validates that it
/// still is the newest (R12).
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its timestamp (a tombstone's, too); zero: `data` held no version at all.
    pub ts: Timestamp,
    /// Nothing newer than this was there.
    pub upto: Timestamp,
    /// The slot's stamp before the read.
    pub stamp: Stamp,
    /// The version itself, if it is kept ([`HeldLocks::saw`]): the commit's command carries it, and replicas are spared
    /// the look for it.
    pub version: Option<Superseded>,
}

/// Larger values are not kept.
const KEPT_VALUE: usize = 512;

/// Versions that a transaction keeps at most, with so much counted for each beside its value: they take memory until
/// the commit, and then room in a command whose size is chosen by what is written.
const KEPT_BYTES: usize = 16 << 10;
const KEPT_OVERHEAD: usize = 32;

/// A lock held.
#[derive(Clone, Debug)]
pub struct HeldLock {
    /// The key.
    pub key: Bytes,
    /// Its hash.
    pub hash: KeyHash,
    /// How it is held.
    pub strength: LockStrength,
    /// What was seen under it, if it was read.
    pub seen: Option<Seen>,
}

/// Locks up to which a look through all is as fast as an index.
const FEW: usize = 16;

/// All locks of a transaction, in order of acquisition.
#[derive(Default)]
pub struct HeldLocks {
    locks: Vec<HeldLock>,
    /// Positions by hash, once there are more than a [`FEW`].
    index: HashTable<u32>,
    /// Of the versions that were kept.
    kept: usize,
}

impl HeldLocks {
    /// The lock of `key`.
    pub fn find(&self, key: &[u8], hash: KeyHash) -> Option<&HeldLock> {
        self.position(key, hash).map(|position| &self.locks[position])
    }

    /// The lock of `key`.
    pub fn find_mut(&mut self, key: &[u8], hash: KeyHash) -> Option<&mut HeldLock> {
        self.position(key, hash).map(|position| &mut self.locks[position])
    }

    /// Whether `key` is held as strongly as `strength` wants.
    pub fn are_enough(&self, key: &[u8], hash: KeyHash, strength: LockStrength) -> bool {
        let held = self.find(key, hash).map(|lock| lock.strength);
        held == Some(LockStrength::Exclusive) || held == Some(strength)
    }

    /// `key` is held from now on, or more strongly than before.
    pub fn took(&mut self, key: Bytes, hash: KeyHash, strength: LockStrength) {
        match self.find_mut(&key, hash) {
            Some(lock) => lock.strength = strength,
            None => self.add(HeldLock { key, hash, strength, seen: None }),
        }
    }

    /// `seen` was found on `key`, which is held exclusively, with this value; a tombstone, or nothing, has none. What
    /// was seen first counts.
    pub fn saw(&mut self, key: &[u8], hash: KeyHash, seen: Seen, value: Option<&Bytes>) {
        let position = self.position(key, hash).expect("it was locked before it was read");
        let lock = &mut self.locks[position];
        if lock.seen.is_some() {
            return;
        }
        let len = value.map_or(0, Bytes::len);
        let is_kept =
            !seen.ts.is_zero() && len <= KEPT_VALUE && self.kept + len + KEPT_OVERHEAD <= KEPT_BYTES;
        if is_kept {
            self.kept += len + KEPT_OVERHEAD;
        }
        let version = is_kept.then(|| Superseded { ts: seen.ts.0, value: value.cloned() });
        lock.seen = Some(Seen { version, ..seen });
    }

    /// Adds a lock that is not there yet.
    pub fn add(&mut self, lock: HeldLock) {
        debug_assert!(self.find(&lock.key, lock.hash).is_none());
        let position = u32::try_from(self.locks.len()).expect("locks are flushed as intents long before");
        let hash = lock.hash;
        self.locks.push(lock);
        if self.locks.len() > FEW {
            if self.index.is_empty() {
                self.rebuild();
            } else {
                let locks = &self.locks;
                self.index.insert_unique(hash.0, position, |at| locks[*at as usize].hash.0);
            }
        }
    }

    /// Keeps only the locks that `keep` says.
    pub fn retain(&mut self, keep: impl FnMut(&mut HeldLock) -> bool) {
        self.locks.retain_mut(keep);
        self.rebuild();
    }

    /// All locks.
    pub fn iter(&self) -> std::slice::Iter<'_, HeldLock> {
        self.locks.iter()
    }

    /// Takes all locks out.
    pub fn take(&mut self) -> Vec<HeldLock> {
        self.index.clear();
        std::mem::take(&mut self.locks)
    }

    fn position(&self, key: &[u8], hash: KeyHash) -> Option<usize> {
        if self.locks.len() <= FEW {
            return self.locks.iter().position(|lock| lock.hash == hash && lock.key == key);
        }
        let found = self.index.find(hash.0, |at| self.locks[*at as usize].key == key);
        found.map(|position| *position as usize)
    }

    fn rebuild(&mut self) {
        self.index.clear();
        if self.locks.len() > FEW {
            let locks = &self.locks;
            for (position, lock) in locks.iter().enumerate() {
                self.index.insert_unique(lock.hash.0, position as u32, |at| locks[*at as usize].hash.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_few_and_many() {
        let mut locks = HeldLocks::default();
        let key = |number: u32| Bytes::copy_from_slice(&number.to_be_bytes());
        for number in 0..100 {
            assert!(locks.find(&key(number), KeyHash::of(&key(number))).is_none());
            locks.add(HeldLock {
                key: key(number),
                hash: KeyHash::of(&key(number)),
                strength: LockStrength::Exclusive,
                seen: None,
            });
            for known in 0..=number {
                assert_eq!(locks.find(&key(known), KeyHash::of(&key(known))).expect("held").key, key(known));
            }
        }
        locks.retain(|lock| lock.key[3] < 3);
        assert!(locks.find(&key(2), KeyHash::of(&key(2))).is_some());
        assert!(locks.find(&key(50), KeyHash::of(&key(50))).is_none());
    }
}
