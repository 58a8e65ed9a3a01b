//! Tables of a stopped store held against their indexes, for `cairn debug check`.
//!
//! A flush covers all families at one point of the log, so the newest committed versions agree
//! with one another in whatever was flushed. Keys with an intent are left out: their transaction
//! may have been resolved on one side only.

use cairn_kv::engine::{Cf, Engine};
use cairn_kv::version::{self, HEADER_LEN};
use cairn_kv::{Error, Result, mvcc};

use super::entry::{IndexLayout, TableLayout};
use super::{ids, key};
use crate::SqlError;
use crate::catalog::{RelationKind, TableDesc, codec};

/// What was found of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCheck {
    /// Its name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Entries of its secondary indexes.
    pub entries: u64,
}

/// Checks all tables: each row decodes and has its entry in each index, each entry its row. What
/// is wrong goes to `problem`, with family and key.
pub fn check_tables(engine: &dyn Engine, problem: &mut dyn FnMut(String)) -> Result<Vec<TableCheck>> {
    let mut tables = Vec::new();
    let (start, end) = (key::index_prefix(ids::DESCRIPTORS), key::index_end(ids::DESCRIPTORS));
    for_each_version(engine, &start, &end, &mut |key, value| {
        match codec::decode(value) {
            Ok(table) if table.kind == RelationKind::Table => tables.push(table),
            Ok(_) => {}
            Err(error) => problem(at(key, error.message())),
        }
        Ok(())
    })?;
    tables.iter().map(|table| check_table(engine, table, problem)).collect()
}

/// Checks one table.
pub fn check_table(
    engine: &dyn Engine,
    table: &TableDesc,
    problem: &mut dyn FnMut(String),
) -> Result<TableCheck> {
    let layout = TableLayout::new(table);
    let mut found = TableCheck { name: table.name.clone(), rows: 0, entries: 0 };
    let name = |position: usize| format!("index {} of table {}", table.indexes[position].name, table.name);
    let (mut row, mut entry) = (Vec::new(), Vec::new());
    let primary = layout.primary();
    for_each_version(engine, &primary.prefix, &key::index_end(primary.id), &mut |row_key, value| {
        found.rows += 1;
        let primary_key = &row_key[key::PREFIX_LEN..];
        if let Err(error) = layout.row.decode(primary_key, value, &mut row) {
            problem(at(row_key, &format!("row of table {}: {}", table.name, error.message())));
            return Ok(());
        }
        for (position, index) in layout.indexes.iter().enumerate().skip(1) {
            entry.clear();
            let kind = index.entry(&row, primary_key, &mut entry).map_err(corruption)?;
            let there = newest(engine, &entry)?;
            if there.as_deref() != Some(&IndexLayout::entry_value(kind, primary_key)[..])
                && !is_intended(engine, &[row_key, &entry])?
            {
                let what = match there {
                    None => "is missing".to_owned(),
                    Some(other) => format!("leads to another row, {}", version::escape(&other)),
                };
                let row = version::escape(row_key);
                problem(at(&entry, &format!("{} {what}: the entry of row {row}", name(position))));
            }
        }
        Ok(())
    })?;
    for (position, index) in layout.indexes.iter().enumerate().skip(1) {
        for_each_version(engine, &index.prefix, &key::index_end(index.id), &mut |entry_key, value| {
            found.entries += 1;
            let orphan = |why: &str| at(entry_key, &format!("{}: {why}", name(position)));
            let primary_key = match index.primary_key(&entry_key[key::PREFIX_LEN..], value) {
                Ok(primary_key) => primary_key,
                Err(error) => {
                    problem(orphan(error.message()));
                    return Ok(());
                }
            };
            let row_key = [&primary.prefix[..], primary_key].concat();
            let why = match newest(engine, &row_key)? {
                None => "an entry without its row",
                Some(value) => {
                    entry.clear();
                    match layout.row.decode(primary_key, &value, &mut row) {
                        // Said already, above.
                        Err(_) => return Ok(()),
                        Ok(()) => index.entry(&row, primary_key, &mut entry).map_err(corruption)?,
                    };
                    if entry == entry_key {
                        return Ok(());
                    }
                    "an entry that its row does not have"
                }
            };
            if !is_intended(engine, &[&row_key, entry_key])? {
                problem(orphan(&format!("{why}, {}", version::escape(&row_key))));
            }
            Ok(())
        })?;
    }
    Ok(found)
}

fn at(key: &[u8], what: &str) -> String {
    format!("family data, key {} ({}): {what}", version::escape(key), key::describe_key(key))
}

fn corruption(error: SqlError) -> Error {
    Error::Corruption(error.message().to_string())
}

/// The newest committed value of a key.
fn newest(engine: &dyn Engine, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut stored = Vec::new();
    if !engine.get(Cf::Data, key, &mut stored)? || version::header(key, &stored)?.tombstone {
        return Ok(None);
    }
    Ok(Some(stored.split_off(HEADER_LEN)))
}

/// Whether a transaction has an intent on one of the keys.
fn is_intended(engine: &dyn Engine, keys: &[&[u8]]) -> Result<bool> {
    for key in keys {
        if !mvcc::locks(engine, key, &[*key, &[0][..]].concat(), 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Called with key and value.
type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// Visits the newest committed values of a span.
fn for_each_version(engine: &dyn Engine, start: &[u8], end: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
    let mut iter = engine.iter(Cf::Data, start, end)?;
    iter.seek_to_first();
    while iter.valid() {
        if !version::header(iter.key(), iter.value())?.tombstone {
            visit(iter.key(), &iter.value()[HEADER_LEN..])?;
        }
        iter.next();
    }
    iter.status()
}
