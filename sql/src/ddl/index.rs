//! CREATE and DROP INDEX, and the building of indexes over filled tables.
//!
//! A new index has an id that nobody reads yet, so its entries are written by small transactions of
//! their own, sorted, some megabytes at a time, whatever the table's size, a few of them at once and
//! beside the scan of the table, which is locked exclusively meanwhile. Each looks in one pass
//! whether its keys are free, which is how a unique index finds its duplicates. The id is listed as garbage first (in a transaction of its own) and taken
//! off the list by the transaction that publishes the descriptor: after a crash or a rollback the
//! collector removes what was built. Afterwards the transaction refreshes past the build, so that
//! it can use the index itself.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_txn::{Isolation, Scan, TxnError, TxnOptions};
use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::{Ddl, exists, garbage};
use crate::ast::{CreateIndex, Drop, ExprKind};
use crate::catalog::{IndexColumn, IndexDesc, TableDesc, cache};
use crate::exec::writer::describe_index_key;
use crate::session::{Building, SqlNode};
use crate::storage::entry::{EntryKind, IndexLayout, TableLayout};
use crate::storage::key::PREFIX_LEN;
use crate::types::{Datum, TextContext};
use crate::{Result, SqlError, SqlState};

/// Bytes of entries written by one transaction: with keys and overhead below one command.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks of one index written at once.
const UNDER_WAY: usize = 2;

/// An entry to be written: key, value, and the row for messages.
type Entry = (Bytes, Bytes, Option<Vec<Datum>>);

impl Ddl<'_> {
    /// CREATE INDEX.
    pub async fn create_index(&mut self, new: &CreateIndex) -> Result<()> {
        let table = self.lock_table(&new.table).await?;
        let mut columns = Vec::new();
        for item in &new.columns {
            let name = match &item.expr.kind {
                ExprKind::Column(parts) if parts.len() == 1 => &parts[0].name,
                _ => return Err(SqlError::unsupported("an index over an expression").at(item.expr.position)),
            };
            let column =
                table.columns.iter().position(|c| c.name == *name && !c.hidden).ok_or_else(|| {
                    SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"))
                })?;
            super::table::check_key_type(table.columns[column].ty)?;
            let descending = item.descending;
            columns.push(IndexColumn {
                column,
                descending,
                nulls_first: item.nulls_first.unwrap_or(descending),
            });
        }
        let name = match &new.name {
            Some(name) => name.name.clone(),
            None => {
                let names: Vec<_> = columns.iter().map(|c| table.columns[c.column].name.clone()).collect();
                self.free_name(&table, &names, "idx")
            }
        };
        let taken = table.indexes.iter().any(|i| i.name == name) || table.name == name;
        if taken || !self.lock_name(table.schema, &name).await? {
            if new.if_not_exists {
                let message = format!("relation \"{name}\" already exists, skipping");
                self.notice(SqlState::DUPLICATE_TABLE, message);
                return Ok(());
            }
            return Err(exists(&name));
        }
        let index = IndexDesc {
            id: self.node.new_oid().await?,
            name,
            unique: new.unique,
            columns,
            ..IndexDesc::default()
        };
        self.add_index(&table, index).await
    }

    /// Adds an index to a locked table and fills it.
    pub(super) async fn add_index(&mut self, table: &TableDesc, index: IndexDesc) -> Result<()> {
        let mut changed = table.clone();
        changed.indexes.push(index);
        let position = changed.indexes.len() - 1;
        self.build(table, &changed, &[position]).await?;
        self.put(changed).await?;
        Ok(())
    }

    /// Fills the indexes at `positions` of `new` from the rows of `old`, the same table before the
    /// change. Columns correspond by attribute number; a hidden row id that `old` lacks is assigned.
    pub(super) async fn build(
        &mut self,
        old: &TableDesc,
        new: &TableDesc,
        positions: &[usize],
    ) -> Result<()> {
        let mut buildings = Vec::new();
        for position in positions {
            let id = new.indexes[*position].id;
            let building = Arc::new(self.node.begin_building(id));
            self.changes.building.push(building.clone());
            buildings.push(building);
            let mut listing = self.node.db().begin(TxnOptions::default());
            listing.begin_statement().await?;
            garbage::list(&mut listing, id, garbage::Reason::Building).await?;
            listing.commit().await?;
            garbage::unlist(self.txn, id).await?;
        }
        let text = TextContext::default();
        let old_layout = TableLayout::new(old);
        let new_layout = TableLayout::new(new);
        let from: Vec<Option<usize>> =
            new.columns.iter().map(|c| old.columns.iter().position(|o| o.attnum == c.attnum)).collect();
        let hidden = new.columns.iter().position(|c| c.hidden).filter(|c| from[*c].is_none());
        let mut builders: Vec<Builder<'_>> = positions
            .iter()
            .zip(buildings)
            .map(|(p, building)| Builder {
                position: *p,
                layout: &new_layout,
                table: new,
                entries: Vec::new(),
                bytes: 0,
                building,
                under_way: VecDeque::new(),
            })
            .collect();
        let mut scan = Scan {
            start: Bytes::copy_from_slice(&old_layout.primary().prefix),
            end: Bytes::copy_from_slice(&crate::storage::key::index_end(old_layout.primary().id)),
            reverse: false,
        };
        loop {
            let mut rows: Vec<Vec<Datum>> = Vec::new();
            let mut failure = None;
            let next = self
                .txn
                .scan(&scan, &mut |key, value| {
                    let mut row = Vec::new();
                    match old_layout.row.decode(&key[PREFIX_LEN..], value, &mut row) {
                        Ok(()) => rows.push(row),
                        Err(error) => failure = Some(error),
                    }
                    failure.is_none()
                })
                .await?;
            if let Some(error) = failure {
                return Err(error);
            }
            let mut row_id = match hidden {
                Some(_) => self.node.new_row_ids(rows.len() as u64).await?,
                None => 0,
            };
            for row in rows {
                let mut mapped: Vec<Datum> = from
                    .iter()
                    .zip(&new.columns)
                    .map(|(from, column)| match from {
                        Some(from) => row[*from].clone(),
                        None => column.missing.clone().unwrap_or(Datum::Null),
                    })
                    .collect();
                if let Some(hidden) = hidden {
                    mapped[hidden] = Datum::Int8(row_id as i64);
                    row_id += 1;
                }
                check_nulls(new, &mapped)?;
                for builder in &mut builders {
                    builder.add(&mapped)?;
                }
            }
            for builder in &mut builders {
                if builder.bytes >= CHUNK_BYTES {
                    builder.flush(self.node, &text).await?;
                }
            }
            match next {
                Some(next) => scan.start = next,
                None => break,
            }
        }
        for builder in &mut builders {
            builder.finish(self.node, &text).await?;
        }
        match self.isolation {
            Isolation::Serializable => {
                let now = self.node.db().now().await?;
                self.txn.refresh_to(now).await?;
            }
            // The next statement's snapshot is later.
            Isolation::ReadCommitted => {}
            Isolation::RepeatableRead if positions.is_empty() => {}
            Isolation::RepeatableRead => {
                return Err(SqlError::unsupported("building an index in a REPEATABLE READ transaction"));
            }
        }
        Ok(())
    }

    /// DROP INDEX.
    pub async fn drop_indexes(&mut self, drop: &Drop) -> Result<()> {
        for name in &drop.names {
            let Some((table, position)) = self.find_index(name) else {
                if self.find(name).is_some() {
                    return Err(super::not_a("index", &name.name));
                }
                if drop.if_exists {
                    self.notice(
                        SqlState::SUCCESS,
                        format!("index \"{}\" does not exist, skipping", name.name),
                    );
                    continue;
                }
                return Err(SqlError::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("index \"{name}\" does not exist"),
                ));
            };
            let id = table.indexes[position].id;
            let Some(table) = self.lock(table.id).await? else { continue };
            let Some(position) = table.indexes.iter().position(|i| i.id == id) else { continue };
            let index = &table.indexes[position];
            if index.constraint || position == 0 {
                return Err(SqlError::new(
                    SqlState::DEPENDENT_OBJECTS,
                    format!(
                        "cannot drop index {0} because constraint {0} on table {1} requires it",
                        index.name, table.name
                    ),
                )
                .hint(format!("You can drop constraint {} on table {} instead.", index.name, table.name)));
            }
            self.remove_index(&table, position).await?;
        }
        Ok(())
    }

    /// Removes a secondary index.
    pub(super) async fn remove_index(
        &mut self,
        table: &TableDesc,
        position: usize,
    ) -> Result<Arc<TableDesc>> {
        let mut changed = table.clone();
        let index = changed.indexes.remove(position);
        self.drop_index_data(index.id).await?;
        self.put(changed).await
    }
}

/// Fails where a NOT NULL column holds a NULL.
fn check_nulls(table: &TableDesc, row: &[Datum]) -> Result<()> {
    for (column, value) in table.columns.iter().zip(row) {
        if column.not_null && value.is_null() {
            let mut error = SqlError::new(
                SqlState::NOT_NULL_VIOLATION,
                format!("column \"{}\" of relation \"{}\" contains null values", column.name, table.name),
            );
            let fields = error.fields_mut();
            fields.schema = Some(cache::schema_name(table.schema).into());
            fields.table = Some(table.name.clone());
            fields.column = Some(column.name.clone());
            return Err(error);
        }
    }
    Ok(())
}

/// One index being filled.
struct Builder<'a> {
    position: usize,
    layout: &'a TableLayout,
    table: &'a TableDesc,
    entries: Vec<Entry>,
    bytes: usize,
    building: Arc<Building>,
    /// What is being written, oldest first.
    under_way: VecDeque<UnderWay>,
}

/// Entries that one transaction writes.
#[derive(Default)]
struct Chunk {
    writes: Vec<(Bytes, Bytes)>,
    /// The rows of a unique index's entries.
    kept: HashMap<Bytes, Vec<Datum>>,
}

/// A chunk being written.
struct UnderWay {
    kept: HashMap<Bytes, Vec<Datum>>,
    outcome: oneshot::Receiver<std::result::Result<Timestamp, TxnError>>,
}

impl Builder<'_> {
    fn add(&mut self, row: &[Datum]) -> Result<()> {
        let mut key = Vec::with_capacity(32);
        let unique = self.table.indexes[self.position].unique;
        let kept = unique.then(|| row.to_vec());
        let (key, value) = if self.position == 0 {
            self.layout.row_key(row, &mut key)?;
            let mut value = Vec::with_capacity(64);
            self.layout.row_value(row, &mut value)?;
            (Bytes::from(key), Bytes::from(value))
        } else {
            let mut primary_key = Vec::new();
            self.layout.row.encode_key(row, &mut primary_key)?;
            let kind: EntryKind = self.layout.indexes[self.position].entry(row, &primary_key, &mut key)?;
            (Bytes::from(key), IndexLayout::entry_value(kind, &primary_key))
        };
        self.bytes += key.len() + value.len() + 32;
        self.entries.push((key, value, kept));
        Ok(())
    }

    /// Hands the entries collected over to be written, sorted, while more are collected. Waits while
    /// much is under way.
    async fn flush(&mut self, node: &Arc<SqlNode>, text: &TextContext) -> Result<()> {
        let mut entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(self.duplicate(pair[0].2.as_deref(), text));
        }
        let mut rest = entries.into_iter().peekable();
        while rest.peek().is_some() {
            let mut chunk = Chunk::default();
            let mut bytes = 0;
            while bytes < CHUNK_BYTES
                && let Some((key, value, row)) = rest.next()
            {
                bytes += key.len() + value.len() + 32;
                if let Some(row) = row {
                    chunk.kept.insert(key.clone(), row);
                }
                chunk.writes.push((key, value));
            }
            while self.under_way.len() >= UNDER_WAY {
                self.settle(text).await?;
            }
            self.under_way.push_back(self.start(chunk, node));
        }
        Ok(())
    }

    /// Writes a chunk by a transaction of its own, in a task of its own.
    fn start(&self, mut chunk: Chunk, node: &Arc<SqlNode>) -> UnderWay {
        let (sender, outcome) = oneshot::channel();
        let txn = node.db().begin(TxnOptions::default());
        let writes = std::mem::take(&mut chunk.writes);
        // Whoever waits may go away: the index must not pass for given up before this has ended.
        let building = self.building.clone();
        let write = async move {
            let _ = sender.send(txn.commit_new(writes).await);
            drop(building);
        };
        node.db().store().env().runtime.spawn("chunk of an index", Box::pin(write));
        UnderWay { kept: chunk.kept, outcome }
    }

    /// Waits for the oldest chunk under way.
    async fn settle(&mut self, text: &TextContext) -> Result<()> {
        let Some(UnderWay { kept, outcome }) = self.under_way.pop_front() else { return Ok(()) };
        match outcome.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(TxnError::Exists { key })) => Err(self.duplicate(kept.get(&key).map(Vec::as_slice), text)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(TxnError::Unavailable("the node is stopping".into()).into()),
        }
    }

    /// Writes what is left and waits until all is written.
    async fn finish(&mut self, node: &Arc<SqlNode>, text: &TextContext) -> Result<()> {
        self.flush(node, text).await?;
        while !self.under_way.is_empty() {
            self.settle(text).await?;
        }
        Ok(())
    }

    fn duplicate(&self, row: Option<&[Datum]>, text: &TextContext) -> SqlError {
        let index = &self.table.indexes[self.position];
        let mut error = SqlError::new(
            SqlState::UNIQUE_VIOLATION,
            format!("could not create unique index \"{}\"", index.name),
        );
        if let Some(row) = row {
            error = error
                .detail(format!("Key {} is duplicated.", describe_index_key(self.table, index, row, text)));
        }
        let fields = error.fields_mut();
        fields.schema = Some(cache::schema_name(self.table.schema).into());
        fields.table = Some(self.table.name.clone());
        fields.constraint = Some(index.name.clone());
        error
    }
}
