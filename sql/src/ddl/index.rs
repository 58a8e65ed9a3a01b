//! CREATE and DROP INDEX, and the building of indexes over filled tables.
//!
//! A new index has an id that nobody reads yet, so its entries are written by small transactions of
//! their own, sorted, whatever the table's size, a few of them at once and beside the scan of the
//! table, which is locked exclusively meanwhile ([`Builder`]). Each finds out in one pass that its keys
//! are free, which is how a unique index meets its duplicates. The id is listed as garbage first (in a
//! transaction of its own) and taken off the list by the transaction that publishes the descriptor:
//! after a crash or a rollback the collector removes what was built. Afterwards the transaction
//! refreshes past the build, so that it can use the index itself.

use std::sync::Arc;

use bytes::Bytes;
use cairn_txn::{Isolation, LockStrength, Scan, TxnOptions};

use super::builder::Builder;
use super::{Ddl, exists, garbage, object_lock};
use crate::ast::{CreateIndex, Drop, ExprKind};
use crate::catalog::{IndexColumn, IndexDesc, TableDesc, cache};
use crate::storage::entry::TableLayout;
use crate::storage::key::PREFIX_LEN;
use crate::types::Datum;
use crate::{Result, SqlError, SqlState};

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
        let mut building = Vec::new();
        for position in positions {
            let id = new.indexes[*position].id;
            // For the other nodes, whose collectors do not see the mark.
            self.txn.lock(&object_lock(id), LockStrength::Exclusive).await?;
            let mark = Arc::new(self.node.begin_building(id));
            self.changes.building.push(mark.clone());
            building.push(mark);
            let mut listing = self.node.db().begin(TxnOptions::default());
            listing.begin_statement().await?;
            garbage::list(&mut listing, id, garbage::Reason::Building).await?;
            listing.commit().await?;
            garbage::unlist(self.txn, id).await?;
        }
        let old_layout = TableLayout::new(old);
        let from: Vec<Option<usize>> =
            new.columns.iter().map(|c| old.columns.iter().position(|o| o.attnum == c.attnum)).collect();
        let hidden = new.columns.iter().position(|c| c.hidden).filter(|c| from[*c].is_none());
        let mut builder = Builder::new(self.node, new, positions, building, self.memory);
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
                builder.add(mapped).await?;
            }
            match next {
                Some(next) => scan.start = next,
                None => break,
            }
        }
        builder.finish().await?;
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
