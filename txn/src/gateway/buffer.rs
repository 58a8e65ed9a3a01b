//! A transaction's buffered writes (R13).
//!
//! Each key holds its values by sequence number, so that a statement reads what was written before
//! it and a savepoint can take back what came after. Sequence numbers say which statement (or step
//! of one) wrote; several writes of one key under one number keep the last.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use cairn_kv::mvcc::SeqNum;
use smallvec::SmallVec;

use crate::leaseholder::slot::KeyHash;

/// What a transaction wrote to a key, as one of its reads sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A value.
    Value(Bytes),
    /// A deletion.
    Deleted,
}

impl Written {
    /// The value, if it is one.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Written::Value(value) => Some(value),
            Written::Deleted => None,
        }
    }
}

/// A key's values, ascending by sequence number.
pub type Values = SmallVec<[(SeqNum, Written); 1]>;

/// One key's buffered writes.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Hash of the key.
    pub hash: KeyHash,
    /// Never empty.
    pub values: Values,
}

impl Entry {
    /// The value a read at `seq` sees.
    pub fn at(&self, seq: SeqNum) -> Option<&Written> {
        self.values.iter().rev().find(|(written, _)| *written <= seq).map(|(_, value)| value)
    }
}

/// Bytes counted for a write beside its key and value: its frame in a command.
const ENTRY_OVERHEAD: usize = 32;

/// Buffered writes in key order.
#[derive(Default)]
pub struct WriteBuffer {
    entries: BTreeMap<Bytes, Entry>,
    bytes: usize,
}

impl WriteBuffer {
    /// Buffers a write.
    pub fn write(&mut self, key: Bytes, hash: KeyHash, seq: SeqNum, value: Written) {
        self.bytes += size(&key, &value);
        let key_len = key.len();
        match self.entries.entry(key) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let mut values = SmallVec::new();
                values.push((seq, value));
                vacant.insert(Entry { hash, values });
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => {
                let values = &mut occupied.get_mut().values;
                let (last, old) = values.last_mut().expect("an entry has a value");
                if *last == seq {
                    self.bytes -= key_len + old.value().map_or(0, Bytes::len) + ENTRY_OVERHEAD;
                    *old = value;
                } else {
                    values.push((seq, value));
                }
            }
        }
    }

    /// Forgets every write with a sequence number above `seq`.
    pub fn rollback_to(&mut self, seq: SeqNum) {
        let mut bytes = 0;
        self.entries.retain(|key, entry| {
            while entry.values.last().is_some_and(|(written, _)| *written > seq) {
                entry.values.pop();
            }
            bytes += entry.values.iter().map(|(_, value)| size(key, value)).sum::<usize>();
            !entry.values.is_empty()
        });
        self.bytes = bytes;
    }

    /// What a read of `key` at `seq` sees of the buffer.
    pub fn get(&self, key: &[u8], seq: SeqNum) -> Option<&Written> {
        self.entries.get(key)?.at(seq)
    }

    /// Keys in `[start, end)` with what a read at `seq` sees of them.
    pub fn range<'a>(
        &'a self,
        start: &'a [u8],
        end: &'a [u8],
        seq: SeqNum,
    ) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Written)> {
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let empty = !end.is_empty() && start >= end;
        let bounds = if empty {
            (Bound::Excluded(start), Bound::Included(start))
        } else {
            (Bound::Included(start), upper)
        };
        // An excluded start that equals an included end is an empty range that BTreeMap accepts.
        self.entries.range::<[u8], _>(bounds).filter_map(move |(key, entry)| Some((key, entry.at(seq)?)))
    }

    /// All entries in key order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Entry)> {
        self.entries.iter()
    }

    /// Takes everything out.
    pub fn take(&mut self) -> BTreeMap<Bytes, Entry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }

    /// Puts back what [`WriteBuffer::take`] took, when it could not be written.
    pub fn put_back(&mut self, entries: BTreeMap<Bytes, Entry>) {
        assert!(self.entries.is_empty(), "nothing is written meanwhile");
        self.bytes = entries
            .iter()
            .flat_map(|(key, entry)| entry.values.iter().map(move |(_, value)| size(key, value)))
            .sum();
        self.entries = entries;
    }

    /// Whether nothing is buffered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// About the size of a command with everything buffered.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn size(key: &Bytes, value: &Written) -> usize {
    key.len() + value.value().map_or(0, Bytes::len) + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(buffer: &mut WriteBuffer, key: &'static str, seq: SeqNum, value: Option<&'static str>) {
        let key = Bytes::from_static(key.as_bytes());
        let value =
            value.map_or(Written::Deleted, |value| Written::Value(Bytes::from_static(value.as_bytes())));
        let hash = KeyHash::of(&key);
        buffer.write(key, hash, seq, value);
    }

    fn show(buffer: &WriteBuffer, seq: SeqNum) -> String {
        let keys = buffer.range(b"", b"", seq);
        keys.map(|(key, value)| {
            let value = value.value().map_or("-".into(), |value| value.escape_ascii().to_string());
            format!("{}={} ", key.escape_ascii(), value)
        })
        .collect()
    }

    #[test]
    fn reads_see_their_sequence_number() {
        let mut buffer = WriteBuffer::default();
        put(&mut buffer, "a", 1, Some("a1"));
        put(&mut buffer, "b", 2, Some("b2"));
        put(&mut buffer, "a", 3, None);
        assert_eq!(show(&buffer, 0), "");
        assert_eq!(show(&buffer, 1), "a=a1 ");
        assert_eq!(show(&buffer, 2), "a=a1 b=b2 ");
        assert_eq!(show(&buffer, 3), "a=- b=b2 ");
        assert_eq!(buffer.range(b"b", b"a", 9).count(), 0);
        assert_eq!(buffer.range(b"a", b"a", 9).count(), 0);
        let bytes = buffer.bytes();
        buffer.rollback_to(2);
        assert_eq!(show(&buffer, 9), "a=a1 b=b2 ");
        assert!(buffer.bytes() < bytes);
        buffer.rollback_to(0);
        assert!(buffer.is_empty());
        assert_eq!(buffer.bytes(), 0);
    }

    #[test]
    fn a_value_of_the_same_number_is_replaced() {
        let mut buffer = WriteBuffer::default();
        put(&mut buffer, "a", 1, Some("long value"));
        let bytes = buffer.bytes();
        put(&mut buffer, "a", 1, Some("long again"));
        assert_eq!(buffer.bytes(), bytes);
        assert_eq!(show(&buffer, 1), "a=long again ");
    }
}
