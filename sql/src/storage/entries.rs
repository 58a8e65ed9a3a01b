//! Many entries on their way to storage: collected in one allocation, sorted, written in order.

use std::ops::Range;

use bytes::Bytes;

use super::entry::{EntryKind, TableLayout};
use super::key::PREFIX_LEN;
use crate::Result;
use crate::types::Datum;

/// Entries as they come.
#[derive(Default)]
pub struct Entries {
    /// All keys and values, one behind the other.
    arena: Vec<u8>,
    key: Vec<u8>,
    entries: Vec<Entry>,
}

/// An entry: a row or one of its index entries.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Where its key begins, where its value does, and where that ends.
    bounds: [usize; 3],
    /// Position of the index.
    pub index: usize,
    /// What the caller calls the row by.
    pub tag: u64,
}

impl Entries {
    /// Adds a row's entries in the indexes at `positions`.
    pub fn add(
        &mut self,
        layout: &TableLayout,
        positions: impl IntoIterator<Item = usize>,
        row: &[Datum],
        tag: u64,
    ) -> Result<()> {
        let mut primary_key = None;
        for index in positions {
            // Keys are built alone: their length is checked.
            self.key.clear();
            if index == 0 {
                layout.row_key(row, &mut self.key)?;
                let start = self.arena.len();
                self.arena.extend_from_slice(&self.key);
                let middle = self.arena.len();
                primary_key = Some(start + PREFIX_LEN..middle);
                layout.row_value(row, &mut self.arena)?;
                self.entries.push(Entry { bounds: [start, middle, self.arena.len()], index, tag });
                continue;
            }
            let range = match &primary_key {
                Some(range) => range.clone(),
                None => {
                    // It serves the row's other entries, too, and is no entry of its own.
                    let start = self.arena.len();
                    layout.row.encode_key(row, &mut self.arena)?;
                    primary_key.insert(start..self.arena.len()).clone()
                }
            };
            let kind = layout.indexes[index].entry(row, &self.arena[range.clone()], &mut self.key)?;
            let start = self.arena.len();
            self.arena.extend_from_slice(&self.key);
            let middle = self.arena.len();
            // As IndexLayout::entry_value has it.
            if kind == EntryKind::Unique {
                self.arena.extend_from_within(range);
            }
            self.entries.push(Entry { bounds: [start, middle, self.arena.len()], index, tag });
        }
        Ok(())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory they take.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Takes them out, by key, those of one key by tag.
    pub fn sort(&mut self) -> Sorted {
        let arena = Bytes::from(std::mem::take(&mut self.arena));
        let mut entries = std::mem::take(&mut self.entries);
        let key = |entry: &Entry| &arena[entry.bounds[0]..entry.bounds[1]];
        entries.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.tag.cmp(&b.tag)));
        Sorted { arena, entries }
    }
}

/// Entries by key.
pub struct Sorted {
    arena: Bytes,
    entries: Vec<Entry>,
}

impl Sorted {
    /// All of them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// An entry's key.
    pub fn key(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.bounds[0]..entry.bounds[1]]
    }

    /// An entry's value.
    pub fn value(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.bounds[1]..entry.bounds[2]]
    }

    /// The first entry with the key of the one before it.
    pub fn duplicate(&self) -> Option<&Entry> {
        self.entries.windows(2).find(|pair| self.key(&pair[0]) == self.key(&pair[1])).map(|pair| &pair[1])
    }

    /// The entry with a key.
    pub fn find(&self, key: &[u8]) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| self.key(entry).cmp(key));
        found.ok().map(|position| &self.entries[position])
    }

    /// Keys and values to write; they share the memory of all.
    pub fn writes(&self, range: Range<usize>) -> Vec<(Bytes, Bytes)> {
        let writes = self.entries[range].iter().map(|entry| {
            let [start, middle, end] = entry.bounds;
            (self.arena.slice(start..middle), self.arena.slice(middle..end))
        });
        writes.collect()
    }

    /// The end of the longest range from `start` on whose entries take `bytes` or one entry.
    pub fn part(&self, start: usize, bytes: usize) -> usize {
        let mut left = bytes;
        let fitting = self.entries[start..].iter().take_while(|entry| {
            let fits = left.checked_sub(entry.bounds[2] - entry.bounds[0] + PER_ENTRY);
            left = fits.unwrap_or(0);
            fits.is_some()
        });
        start + fitting.count().max(1).min(self.entries.len() - start)
    }
}

/// Bytes that a command has for an entry beside its key and value, at most.
const PER_ENTRY: usize = 32;
