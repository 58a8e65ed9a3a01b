//! Rows inserted in bulk: thousands are encoded, sorted and written together, as intents. That their
//! keys are free is found out for all at once while they are written ([`Txn::insert_new`]), so a row
//! costs neither a lock nor a read of its own.

use cairn_txn::{Txn, TxnError};

use super::writer::TableWriter;
use crate::storage::entries::{Entries, Entry};
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
    entries: Entries,
}

impl Bulk {
    /// Adds a row whose hidden row id, if any, is set.
    pub fn add(&mut self, writer: &TableWriter, row: &[Datum], text: &TextContext, tag: u64) -> Result<()> {
        writer.check_not_null(row, text)?;
        writer.assert_row_id(row);
        self.entries.add(&writer.layout, 0..writer.layout.indexes.len(), row, tag)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it is time to write.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES || self.entries.bytes() >= MAX_BYTES
    }

    /// Writes what waits. An error that concerns one row comes with its tag.
    pub async fn write(
        &mut self,
        txn: &mut Txn,
        writer: &TableWriter,
        text: &TextContext,
    ) -> std::result::Result<(), (Option<u64>, SqlError)> {
        let sorted = self.entries.sort();
        let violation = |entry: &Entry| {
            let is_row = |other: &&Entry| other.index == 0 && other.tag == entry.tag;
            let row = sorted.entries().iter().find(is_row).expect("a row comes with its entries");
            let mut values = Vec::new();
            let key = &sorted.key(row)[PREFIX_LEN..];
            let error = match writer.layout.row.decode(key, sorted.value(row), &mut values) {
                Ok(()) => writer.unique_violation(entry.index, &values, text),
                Err(error) => error,
            };
            (Some(entry.tag), error)
        };
        if let Some(entry) = sorted.duplicate() {
            return Err(violation(entry));
        }
        match txn.insert_new(sorted.writes(0..sorted.entries().len())).await {
            Ok(()) => Ok(()),
            Err(TxnError::Exists { key }) => {
                Err(violation(sorted.find(&key).expect("it is one of the keys")))
            }
            Err(error) => Err((None, error.into())),
        }
    }
}
