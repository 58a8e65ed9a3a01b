//! Entries of indexes, and everything about a table's storage in one place.

use bytes::Bytes;
use cairn_kv::encoding;

use super::key::{self, PREFIX_LEN};
use super::row::{KeyColumn, RowLayout};
use super::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::catalog::{Oid, TableDesc};
use crate::types::Datum;
use crate::{Result, SqlError, SqlState};

/// How a table is stored: derived from its descriptor once for each plan.
#[derive(Clone, Debug)]
pub struct TableLayout {
    /// Rows.
    pub row: RowLayout,
    /// By position in `TableDesc::indexes`; the first is the primary one.
    pub indexes: Vec<IndexLayout>,
}

/// How an index is stored.
#[derive(Clone, Debug)]
pub struct IndexLayout {
    /// OID.
    pub id: Oid,
    /// Prefix of all its keys.
    pub prefix: [u8; PREFIX_LEN],
    /// UNIQUE.
    pub unique: bool,
    /// Its columns.
    pub columns: Vec<KeyColumn>,
    /// Number of the primary key's columns.
    primary_columns: usize,
}

/// What kind of entry [`IndexLayout::entry`] built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The columns alone are the key, the value is the row's primary key: only one row can have it.
    Unique,
    /// The primary key is part of the key; the value is empty.
    Plain,
}

impl TableLayout {
    /// Derives the layout.
    pub fn new(table: &TableDesc) -> TableLayout {
        let primary_columns = table.indexes.first().map_or(0, |i| i.columns.len());
        let indexes = table
            .indexes
            .iter()
            .map(|index| IndexLayout {
                id: index.id,
                prefix: key::index_prefix(index.id),
                unique: index.unique,
                columns: index
                    .columns
                    .iter()
                    .map(|c| KeyColumn {
                        column: c.column,
                        kind: table.columns[c.column].ty.kind,
                        descending: c.descending,
                        nulls_first: c.nulls_first,
                    })
                    .collect(),
                primary_columns,
            })
            .collect();
        TableLayout { row: RowLayout::new(table), indexes }
    }

    /// The primary index.
    pub fn primary(&self) -> &IndexLayout {
        &self.indexes[0]
    }

    /// The row's whole key: prefix and encoded primary key.
    pub fn row_key(&self, row: &[Datum], out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&self.primary().prefix);
        self.row.encode_key(row, out)?;
        check_key(out)
    }

    /// The row's value.
    pub fn row_value(&self, row: &[Datum], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        self.row.encode(row, out)?;
        if out.len() - start > MAX_VALUE_BYTES {
            return Err(SqlError::new(
                SqlState::PROGRAM_LIMIT,
                format!("row of {} bytes exceeds the limit of {MAX_VALUE_BYTES} bytes", out.len() - start),
            ));
        }
        Ok(())
    }
}

impl IndexLayout {
    /// Appends the key of a row's entry in this (secondary) index. `primary_key` is the row's
    /// encoded primary key without prefix.
    pub fn entry(&self, row: &[Datum], primary_key: &[u8], out: &mut Vec<u8>) -> Result<EntryKind> {
        out.extend_from_slice(&self.prefix);
        let mut null = false;
        for c in &self.columns {
            let datum = &row[c.column];
            null |= matches!(datum, Datum::Null);
            key::put_datum(out, datum, c.kind, c.descending, c.nulls_first);
        }
        let kind = if self.unique && !null { EntryKind::Unique } else { EntryKind::Plain };
        if kind == EntryKind::Plain {
            out.extend_from_slice(primary_key);
        }
        check_key(out)?;
        Ok(kind)
    }

    /// The encoded primary key (without prefix) that an entry leads to, given its key behind the
    /// prefix and its value.
    pub fn primary_key<'a>(&self, mut key: &'a [u8], value: &'a [u8]) -> Result<&'a [u8]> {
        for _ in 0..self.columns.len() {
            encoding::skip(&mut key).map_err(key::corrupt)?;
        }
        let primary_key = if key.is_empty() { value } else { key };
        if primary_key.is_empty() && self.primary_columns > 0 {
            return Err(SqlError::new(SqlState::DATA_CORRUPTED, "index entry without a primary key"));
        }
        Ok(primary_key)
    }

    /// The value of an entry.
    pub fn entry_value(kind: EntryKind, primary_key: &[u8]) -> Bytes {
        match kind {
            EntryKind::Unique => Bytes::copy_from_slice(primary_key),
            EntryKind::Plain => Bytes::new(),
        }
    }
}

fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > MAX_KEY_BYTES {
        return Err(SqlError::new(
            SqlState::PROGRAM_LIMIT,
            format!("index row of {} bytes exceeds the limit of {MAX_KEY_BYTES} bytes", key.len()),
        ));
    }
    Ok(())
}
