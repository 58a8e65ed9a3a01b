//! Rows inserted in bulk: thousands are encoded, sorted and written together, as intents. That their
//! keys are free is found out for all at once while they are written ([`Txn::insert_new`]), so a row
//! costs neither a lock nor a read of its own.

use bytes::Bytes;
use cairn_txn::{Txn, TxnError};

use super::writer::TableWriter;
use crate::storage::entry::EntryKind;
use crate::storage::key::PREFIX_LEN;
use crate::types::{Datum, TextContext};
use crate::{Result, SqlError};

/// Rows of a statement that are written one by one before the rest is taken for bulk.
pub const FEW: u64 = 1000;

/// Keys and bytes written together: one command, one sync of the log.
const MAX_ENTRIES: usize = 8192;
const MAX_BYTES: usize = 1 << 20;

/// Rows that wait to be written.
#[derive(Default)]
pub struct Bulk {
    /// All keys and values, one behind the other.
    arena: Vec<u8>,
    key: Vec<u8>,
    entries: Vec<Entry>,
}

/// A row or one of its index entries.
struct Entry {
    /// Where its key begins, where its value does, and where that ends.
    bounds: [usize; 3],
    /// Position of the index.
    index: usize,
    /// What the caller calls the row by.
    tag: u64,
}

impl Bulk {
    /// Adds a row whose hidden row id, if any, is set.
    pub fn add(&mut self, writer: &TableWriter, row: &[Datum], text: &TextContext, tag: u64) -> Result<()> {
        writer.check_not_null(row, text)?;
        writer.assert_row_id(row);
        let layout = &writer.layout;
        // Keys are built alone: their length is checked.
        self.key.clear();
        layout.row_key(row, &mut self.key)?;
        let primary_key = self.arena.len() + PREFIX_LEN..self.arena.len() + self.key.len();
        let bounds = self.append(|arena| layout.row_value(row, arena))?;
        self.entries.push(Entry { bounds, index: 0, tag });
        for (position, index) in layout.indexes.iter().enumerate().skip(1) {
            self.key.clear();
            let kind = index.entry(row, &self.arena[primary_key.clone()], &mut self.key)?;
            let bounds = self.append(|arena| {
                // As IndexLayout::entry_value has it.
                if kind == EntryKind::Unique {
                    arena.extend_from_within(primary_key.clone());
                }
                Ok(())
            })?;
            self.entries.push(Entry { bounds, index: position, tag });
        }
        Ok(())
    }

    /// Appends the key at hand and a value to the arena; returns the bounds.
    fn append(&mut self, value: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<[usize; 3]> {
        let start = self.arena.len();
        self.arena.extend_from_slice(&self.key);
        let middle = self.arena.len();
        value(&mut self.arena)?;
        Ok([start, middle, self.arena.len()])
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it is time to write.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES || self.arena.len() >= MAX_BYTES
    }

    /// Writes what waits. An error that concerns one row comes with its tag.
    pub async fn write(
        &mut self,
        txn: &mut Txn,
        writer: &TableWriter,
        text: &TextContext,
    ) -> std::result::Result<(), (Option<u64>, SqlError)> {
        let arena = Bytes::from(std::mem::take(&mut self.arena));
        let mut entries = std::mem::take(&mut self.entries);
        let key = |entry: &Entry| &arena[entry.bounds[0]..entry.bounds[1]];
        entries.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.tag.cmp(&b.tag)));
        let violation = |entry: &Entry| {
            let row = entries.iter().find(|other| other.index == 0 && other.tag == entry.tag);
            let [start, middle, end] = row.expect("a row comes with its entries").bounds;
            let mut values = Vec::new();
            let decoded = writer.layout.row.decode(
                &arena[start + PREFIX_LEN..middle],
                &arena[middle..end],
                &mut values,
            );
            let error = match decoded {
                Ok(()) => writer.unique_violation(entry.index, &values, text),
                Err(error) => error,
            };
            (Some(entry.tag), error)
        };
        if let Some(pair) = entries.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
            return Err(violation(&pair[1]));
        }
        let rows = entries.iter().map(|entry| {
            let [start, middle, end] = entry.bounds;
            (arena.slice(start..middle), arena.slice(middle..end))
        });
        match txn.insert_new(rows.collect()).await {
            Ok(()) => Ok(()),
            Err(TxnError::Exists { key: taken }) => {
                let found = entries.binary_search_by(|entry| key(entry).cmp(&taken));
                Err(violation(&entries[found.expect("it is one of the keys")]))
            }
            Err(error) => Err((None, error.into())),
        }
    }
}
