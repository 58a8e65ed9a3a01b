//! Writing rows with their index entries: constraints are checked here, for every way of writing.

use std::sync::Arc;

use bytes::Bytes;
use cairn_txn::Txn;
use hashbrown::{HashMap, HashSet};

use crate::catalog::{IndexDesc, TableDesc, cache};
use crate::storage::entry::{EntryKind, IndexLayout, TableLayout};
use crate::storage::key::PREFIX_LEN;
use crate::types::{Datum, TextContext, text_of};
use crate::{Result, SqlError, SqlState};

/// A table to write to.
#[derive(Debug)]
pub struct TableWriter {
    /// Descriptor.
    pub table: Arc<TableDesc>,
    /// Its layout.
    pub layout: Arc<TableLayout>,
    /// Position of the hidden row id, where there is one.
    pub hidden: Option<usize>,
    /// Positions of NOT NULL columns.
    not_null: Vec<usize>,
}

/// What one statement has written so far, as far as its further writes must know.
#[derive(Debug, Default)]
pub struct WriteState {
    /// Whether the statement reads the table it writes. If it does not, its own writes are made
    /// visible to it as it goes; otherwise they are remembered here, since reads must not see them.
    reads_own_table: bool,
    /// Unique keys written: whether they exist now.
    written: HashMap<Bytes, bool>,
    /// Rows already changed, by key: none is changed twice.
    changed: HashSet<Bytes>,
    key: Vec<u8>,
    entry: Vec<u8>,
    old_entry: Vec<u8>,
}

impl WriteState {
    /// For one execution of a statement.
    pub fn new(reads_own_table: bool) -> WriteState {
        WriteState { reads_own_table, ..WriteState::default() }
    }

    /// Marks a row as changed by this statement; false when it was already.
    pub fn first_change(&mut self, row_key: &[u8]) -> bool {
        self.changed.insert(Bytes::copy_from_slice(row_key))
    }

    /// Whether this statement has changed or inserted the row.
    pub fn has_changed(&self, row_key: &[u8]) -> bool {
        self.changed.contains(row_key)
    }

    fn note(&mut self, key: &Bytes, exists: bool) {
        if self.reads_own_table {
            self.written.insert(key.clone(), exists);
        }
    }

    /// Bytes held, for accounting.
    pub fn memory(&self) -> usize {
        (self.written.len() + self.changed.len()) * 96
    }
}

impl TableWriter {
    /// A writer to a table.
    pub fn new(table: Arc<TableDesc>) -> TableWriter {
        let not_null = table.columns.iter().enumerate().filter(|(_, c)| c.not_null && !c.hidden);
        let not_null = not_null.map(|(i, _)| i).collect();
        let layout = Arc::new(TableLayout::new(&table));
        let hidden = table.columns.iter().position(|c| c.hidden);
        TableWriter { table, layout, hidden, not_null }
    }

    /// Fails where a NOT NULL column is NULL.
    pub fn check_not_null(&self, row: &[Datum], text: &TextContext) -> Result<()> {
        for column in &self.not_null {
            if row[*column].is_null() {
                return Err(self.not_null_violation(*column, row, text));
            }
        }
        Ok(())
    }

    fn not_null_violation(&self, column: usize, row: &[Datum], text: &TextContext) -> SqlError {
        let name = &self.table.columns[column].name;
        let mut error = SqlError::new(
            SqlState::NOT_NULL_VIOLATION,
            format!(
                "null value in column \"{name}\" of relation \"{}\" violates not-null constraint",
                self.table.name
            ),
        )
        .detail(format!("Failing row contains ({}).", self.describe_row(row, text)));
        let fields = error.fields_mut();
        fields.schema = Some(cache::schema_name(self.table.schema).into());
        fields.table = Some(self.table.name.clone());
        fields.column = Some(name.clone());
        error
    }

    /// A row's values as PostgreSQL shows them in details.
    fn describe_row(&self, row: &[Datum], text: &TextContext) -> String {
        const LONGEST: usize = 64;
        let columns = self.table.columns.iter().zip(row).filter(|(c, _)| !c.hidden);
        let values = columns.map(|(column, value)| match text_of(value, column.ty, text) {
            None => "null".to_owned(),
            Some(shown) if shown.len() <= LONGEST => shown.to_string(),
            Some(shown) => {
                let mut end = LONGEST;
                while !shown.is_char_boundary(end) {
                    end -= 1;
                }
                format!("{}...", &shown[..end])
            }
        });
        values.collect::<Vec<_>>().join(", ")
    }

    /// The index (by position) in which a row to be inserted meets another, with that row's encoded
    /// primary key; `only` looks at one index. Locks the keys looked at.
    pub async fn find_conflict(
        &self,
        txn: &mut Txn,
        state: &mut WriteState,
        row: &[Datum],
        only: Option<usize>,
    ) -> Result<Option<(usize, Bytes)>> {
        let wanted = |position: usize| only.is_none_or(|o| o == position);
        let mut key = std::mem::take(&mut state.key);
        key.clear();
        self.layout.row_key(row, &mut key)?;
        let primary_key = Bytes::copy_from_slice(&key[PREFIX_LEN..]);
        let taken = wanted(0) && self.hidden.is_none() && is_taken(txn, state, &key).await?;
        state.key = key;
        if taken {
            return Ok(Some((0, primary_key)));
        }
        for (position, index) in self.layout.indexes.iter().enumerate().skip(1) {
            if !index.unique || !wanted(position) {
                continue;
            }
            let mut entry = Vec::with_capacity(32);
            if index.entry(row, &primary_key, &mut entry)? == EntryKind::Unique {
                let found = txn.get_for_update(&entry).await?;
                match (state.written.get(&entry[..]), found) {
                    (Some(false), _) | (None, None) => {}
                    (_, Some(other)) => return Ok(Some((position, other))),
                    // Written by this statement: the row's key does not matter to the caller.
                    (Some(true), None) => return Ok(Some((position, Bytes::new()))),
                }
            }
        }
        Ok(None)
    }

    /// Inserts a row whose hidden row id, if any, is set.
    pub async fn insert(
        &self,
        txn: &mut Txn,
        state: &mut WriteState,
        row: &[Datum],
        text: &TextContext,
    ) -> Result<()> {
        self.check_not_null(row, text)?;
        let mut key = std::mem::take(&mut state.key);
        key.clear();
        let outcome = self.insert_under(txn, state, row, text, &mut key).await;
        state.key = key;
        outcome
    }

    async fn insert_under(
        &self,
        txn: &mut Txn,
        state: &mut WriteState,
        row: &[Datum],
        text: &TextContext,
        key: &mut Vec<u8>,
    ) -> Result<()> {
        self.assert_row_id(row);
        self.layout.row_key(row, key)?;
        // Nobody else has this row id.
        if self.hidden.is_none() && is_taken(txn, state, key).await? {
            return Err(self.unique_violation(0, row, text));
        }
        let key = Bytes::copy_from_slice(key);
        for (position, index) in self.layout.indexes.iter().enumerate().skip(1) {
            self.insert_entry(txn, state, position, index, row, &key[PREFIX_LEN..], text).await?;
        }
        let mut value = Vec::with_capacity(64);
        self.layout.row_value(row, &mut value)?;
        if self.hidden.is_none() {
            state.note(&key, true);
        }
        txn.put(key, value.into()).await?;
        if !state.reads_own_table {
            txn.step();
        }
        Ok(())
    }

    /// Without an id of its own a row would replace another.
    pub(super) fn assert_row_id(&self, row: &[Datum]) {
        if let Some(hidden) = self.hidden {
            assert!(matches!(row[hidden], Datum::Int8(_)), "a row to insert has its hidden row id");
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one write")]
    async fn insert_entry(
        &self,
        txn: &mut Txn,
        state: &mut WriteState,
        position: usize,
        index: &IndexLayout,
        row: &[Datum],
        primary_key: &[u8],
        text: &TextContext,
    ) -> Result<()> {
        let mut entry = std::mem::take(&mut state.entry);
        entry.clear();
        let kind = index.entry(row, primary_key, &mut entry)?;
        if kind == EntryKind::Unique && is_taken(txn, state, &entry).await? {
            return Err(self.unique_violation(position, row, text));
        }
        let key = Bytes::copy_from_slice(&entry);
        state.entry = entry;
        if kind == EntryKind::Unique {
            state.note(&key, true);
        }
        txn.put(key, IndexLayout::entry_value(kind, primary_key)).await?;
        Ok(())
    }

    /// Replaces a row. Its key is locked.
    pub async fn update(
        &self,
        txn: &mut Txn,
        state: &mut WriteState,
        old: &[Datum],
        old_key: &[u8],
        new: &[Datum],
        text: &TextContext,
    ) -> Result<()> {
        self.check_not_null(new, text)?;
        let mut key = std::mem::take(&mut state.key);
        key.clear();
        self.layout.row_key(new, &mut key)?;
        let moved = key != old_key;
        if moved && is_taken(txn, state, &key).await? {
            return Err(self.unique_violation(0, new, text));
        }
        for (position, index) in self.layout.indexes.iter().enumerate().skip(1) {
            let (mut old_entry, mut entry) =
                (std::mem::take(&mut state.old_entry), std::mem::take(&mut state.entry));
            old_entry.clear();
            entry.clear();
            let old_kind = index.entry(old, &old_key[PREFIX_LEN..], &mut old_entry)?;
            let kind = index.entry(new, &key[PREFIX_LEN..], &mut entry)?;
            if old_entry == entry {
                if moved && kind == EntryKind::Unique {
                    let value = IndexLayout::entry_value(kind, &key[PREFIX_LEN..]);
                    txn.get_for_update(&entry).await?;
                    txn.put(Bytes::copy_from_slice(&entry), value).await?;
                }
            } else {
                if kind == EntryKind::Unique && is_taken(txn, state, &entry).await? {
                    return Err(self.unique_violation(position, new, text));
                }
                self.delete_entry(txn, state, old_kind, &old_entry).await?;
                let entry = Bytes::copy_from_slice(&entry);
                if kind == EntryKind::Unique {
                    state.note(&entry, true);
                }
                txn.put(entry, IndexLayout::entry_value(kind, &key[PREFIX_LEN..])).await?;
            }
            (state.old_entry, state.entry) = (old_entry, entry);
        }
        if moved {
            let old_key = Bytes::copy_from_slice(old_key);
            state.note(&old_key, false);
            txn.delete(old_key).await?;
        }
        let new_key = Bytes::copy_from_slice(&key);
        state.key = key;
        let mut value = Vec::with_capacity(64);
        self.layout.row_value(new, &mut value)?;
        if moved {
            state.note(&new_key, true);
        }
        txn.put(new_key, value.into()).await?;
        Ok(())
    }

    /// Deletes a row. Its key is locked.
    pub async fn delete(
        &self,
        txn: &mut Txn,
        state: &mut WriteState,
        old: &[Datum],
        old_key: &[u8],
    ) -> Result<()> {
        for index in self.layout.indexes.iter().skip(1) {
            let mut entry = std::mem::take(&mut state.entry);
            entry.clear();
            let kind = index.entry(old, &old_key[PREFIX_LEN..], &mut entry)?;
            self.delete_entry(txn, state, kind, &entry).await?;
            state.entry = entry;
        }
        let key = Bytes::copy_from_slice(old_key);
        state.note(&key, false);
        txn.delete(key).await?;
        Ok(())
    }

    async fn delete_entry(
        &self,
        txn: &mut Txn,
        state: &mut WriteState,
        kind: EntryKind,
        entry: &[u8],
    ) -> Result<()> {
        if kind == EntryKind::Unique {
            // Others may wait to insert the same columns: the key is locked like the row.
            txn.get_for_update(entry).await?;
        }
        let entry = Bytes::copy_from_slice(entry);
        if kind == EntryKind::Unique {
            state.note(&entry, false);
        }
        txn.delete(entry).await?;
        Ok(())
    }

    /// The error for a row whose key in an index is taken.
    pub fn unique_violation(&self, position: usize, row: &[Datum], text: &TextContext) -> SqlError {
        let index = &self.table.indexes[position];
        let mut error = SqlError::new(
            SqlState::UNIQUE_VIOLATION,
            format!("duplicate key value violates unique constraint \"{}\"", index.name),
        )
        .detail(format!("Key {} already exists.", describe_index_key(&self.table, index, row, text)));
        let fields = error.fields_mut();
        fields.schema = Some(cache::schema_name(self.table.schema).into());
        fields.table = Some(self.table.name.clone());
        fields.constraint = Some(index.name.clone());
        error
    }
}

/// Whether a unique key is taken, by a committed row or one that this transaction wrote. Locks it.
async fn is_taken(txn: &mut Txn, state: &WriteState, key: &[u8]) -> Result<bool> {
    let exists = txn.get_for_update(key).await?.is_some();
    Ok(state.written.get(key).copied().unwrap_or(exists))
}

/// `(a, b)=(1, x)`, as in details.
pub fn describe_index_key(table: &TableDesc, index: &IndexDesc, row: &[Datum], text: &TextContext) -> String {
    let names: Vec<&str> = index.columns.iter().map(|c| table.columns[c.column].name.as_str()).collect();
    let values: Vec<String> = index
        .columns
        .iter()
        .map(|c| {
            let shown = text_of(&row[c.column], table.columns[c.column].ty, text);
            shown.map_or("null".to_owned(), |s| s.to_string())
        })
        .collect();
    format!("({})=({})", names.join(", "), values.join(", "))
}
