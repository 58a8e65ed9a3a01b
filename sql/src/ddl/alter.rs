//! ALTER TABLE.

use std::sync::Arc;

use super::table::{multiple_primary_keys, push_column};
use super::{Ddl, exists};
use crate::ast::{AlterAction, AlterTable};
use crate::catalog::{DroppedColumn, IndexDesc, TableDesc};
use crate::plan::NewColumn;
use crate::types::Datum;
use crate::{Result, SqlError, SqlState};

impl Ddl<'_> {
    /// ALTER TABLE. `columns` are the added ones in order of their actions, each with the value that
    /// existing rows get (`None`: its default is not a constant); `defaults` likewise for SET DEFAULT.
    pub async fn alter_table(
        &mut self,
        alter: &AlterTable,
        columns: &[(NewColumn, Option<Datum>)],
        defaults: &[Option<String>],
    ) -> Result<()> {
        if alter.index {
            return self.alter_index(alter).await;
        }
        if self.find(&alter.name).is_none() && alter.if_exists {
            let message = format!("relation \"{}\" does not exist, skipping", alter.name.name);
            self.notice(SqlState::SUCCESS, message);
            return Ok(());
        }
        let mut columns = columns.iter();
        let mut defaults = defaults.iter();
        for action in &alter.actions {
            let name = crate::ast::ObjectName { ..alter.name.clone() };
            let table = self.lock_table(&name).await?;
            match action {
                AlterAction::AddConstraint(constraint) => {
                    if constraint.using_index.is_some() {
                        return Err(SqlError::unsupported("ADD CONSTRAINT … USING INDEX"));
                    }
                    if constraint.primary_key {
                        self.add_primary_key(&table, constraint).await?;
                    } else {
                        let index = self.unique_index(&table, constraint).await?;
                        self.add_index(&table, index).await?;
                    }
                }
                AlterAction::DropConstraint { name, if_exists, .. } => {
                    match table.indexes.iter().position(|i| i.constraint && i.name == name.name) {
                        Some(0) => self.drop_primary_key(&table).await?,
                        Some(position) => {
                            self.remove_index(&table, position).await?;
                        }
                        None if *if_exists => {
                            let message = format!(
                                "constraint \"{}\" of relation \"{}\" does not exist, skipping",
                                name.name, table.name
                            );
                            self.notice(SqlState::SUCCESS, message);
                        }
                        None => {
                            return Err(SqlError::new(
                                SqlState::UNDEFINED_OBJECT,
                                format!(
                                    "constraint \"{}\" of relation \"{}\" does not exist",
                                    name.name, table.name
                                ),
                            ));
                        }
                    }
                }
                AlterAction::AddColumn { if_not_exists, .. } => {
                    let (column, value) = columns.next().expect("one for each ADD COLUMN");
                    self.add_column(&table, column, value.as_ref(), *if_not_exists).await?;
                }
                AlterAction::DropColumn { name, if_exists, .. } => {
                    self.drop_column(&table, &name.name, *if_exists).await?;
                }
                AlterAction::RenameTable(to) => {
                    if !self.lock_name(table.schema, &to.name).await? {
                        return Err(exists(&to.name));
                    }
                    let changed = TableDesc { name: to.name.clone(), ..(*table).clone() };
                    self.put(changed).await?;
                }
                AlterAction::RenameColumn { from, to } => {
                    let position = column_position(&table, &from.name)?;
                    if table.columns.iter().any(|c| c.name == to.name) {
                        return Err(duplicate_column(&to.name, &table.name));
                    }
                    let mut changed = (*table).clone();
                    changed.columns[position].name = to.name.clone();
                    self.put(changed).await?;
                }
                AlterAction::RenameConstraint { from, to } => {
                    self.rename_index(&table, &from.name, &to.name).await?;
                }
                AlterAction::SetDefault { column, .. } => {
                    let position = column_position(&table, &column.name)?;
                    let mut changed = (*table).clone();
                    changed.columns[position].default =
                        defaults.next().expect("one for each SET DEFAULT").clone();
                    self.put(changed).await?;
                }
                AlterAction::SetNotNull { column, not_null } => {
                    let position = column_position(&table, &column.name)?;
                    let in_key = table.indexes[0].columns.iter().any(|c| c.column == position);
                    if !not_null && in_key {
                        return Err(SqlError::new(
                            SqlState::INVALID_TABLE_DEFINITION,
                            format!("column \"{}\" is in a primary key", column.name),
                        ));
                    }
                    let mut changed = (*table).clone();
                    changed.columns[position].not_null = *not_null;
                    // Looks at every row without building anything.
                    self.build(&table, &changed, &[]).await?;
                    self.put(changed).await?;
                }
                AlterAction::OwnerTo(role) if role.name == "postgres" => {}
                AlterAction::OwnerTo(role) => {
                    return Err(SqlError::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!("role \"{}\" does not exist", role.name),
                    ));
                }
            }
        }
        Ok(())
    }

    async fn alter_index(&mut self, alter: &AlterTable) -> Result<()> {
        for action in &alter.actions {
            let AlterAction::RenameTable(to) = action else {
                return Err(SqlError::unsupported("ALTER INDEX other than RENAME TO"));
            };
            let Some((table, position)) = self.find_index(&alter.name) else {
                if alter.if_exists {
                    let message = format!("relation \"{}\" does not exist, skipping", alter.name.name);
                    self.notice(SqlState::SUCCESS, message);
                    continue;
                }
                return Err(super::undefined_relation(&alter.name));
            };
            let from = table.indexes[position].name.clone();
            if let Some(table) = self.lock(table.id).await? {
                self.rename_index(&table, &from, &to.name).await?;
            }
        }
        Ok(())
    }

    async fn rename_index(&mut self, table: &TableDesc, from: &str, to: &str) -> Result<()> {
        let position = table.indexes.iter().position(|i| i.name == from).ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!("constraint \"{from}\" for table \"{}\" does not exist", table.name),
            )
        })?;
        self.claim_index_name(table, to).await?;
        let mut changed = table.clone();
        changed.indexes[position].name = to.to_owned();
        self.put(changed).await?;
        Ok(())
    }

    /// New ids for all indexes, the rows and entries written anew under them.
    async fn rewrite(&mut self, old: &TableDesc, mut new: TableDesc) -> Result<Arc<TableDesc>> {
        for index in &mut new.indexes[1..] {
            index.id = self.node.new_oid().await?;
        }
        let positions: Vec<usize> = (0..new.indexes.len()).collect();
        self.build(old, &new, &positions).await?;
        for index in &old.indexes {
            self.drop_index_data(index.id).await?;
        }
        self.put(new).await
    }

    async fn add_primary_key(
        &mut self,
        table: &TableDesc,
        constraint: &crate::ast::TableConstraint,
    ) -> Result<()> {
        if table.indexes[0].primary_key {
            return Err(multiple_primary_keys(&table.name));
        }
        let mut new = table.clone();
        // The row id gives way; the positions behind it move.
        let hidden = new.columns.iter().position(|c| c.hidden).expect("there is no primary key");
        remove_column(&mut new, hidden);
        let index = self.primary_index(&mut new, constraint).await?;
        new.indexes[0] = index;
        self.rewrite(table, new).await?;
        Ok(())
    }

    async fn drop_primary_key(&mut self, table: &TableDesc) -> Result<()> {
        let mut new = table.clone();
        let index: IndexDesc = self.hidden_index(&mut new).await?;
        new.indexes[0] = index;
        self.rewrite(table, new).await?;
        Ok(())
    }

    async fn add_column(
        &mut self,
        table: &TableDesc,
        column: &NewColumn,
        value: Option<&Datum>,
        if_not_exists: bool,
    ) -> Result<()> {
        if table.columns.iter().any(|c| c.name == column.name) {
            if if_not_exists {
                let message = format!(
                    "column \"{}\" of relation \"{}\" already exists, skipping",
                    column.name, table.name
                );
                self.notice(SqlState::DUPLICATE_COLUMN, message);
                return Ok(());
            }
            return Err(duplicate_column(&column.name, &table.name));
        }
        let Some(value) = value else {
            return Err(SqlError::unsupported("ADD COLUMN with a default that is not constant"));
        };
        let mut new = table.clone();
        push_column(&mut new, column, None);
        new.columns.last_mut().expect("just pushed").missing = Some(value.clone());
        if column.not_null && value.is_null() {
            self.build(table, &new, &[]).await?;
        }
        self.put(new).await?;
        Ok(())
    }

    async fn drop_column(&mut self, table: &TableDesc, name: &str, if_exists: bool) -> Result<()> {
        let position = match column_position(table, name) {
            Ok(position) => position,
            Err(_) if if_exists => {
                let message =
                    format!("column \"{name}\" of relation \"{}\" does not exist, skipping", table.name);
                self.notice(SqlState::SUCCESS, message);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if table.indexes[0].columns.iter().any(|c| c.column == position) {
            return Err(SqlError::unsupported("dropping a column of the primary key"));
        }
        let mut new = table.clone();
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut new.indexes)
            .into_iter()
            .partition(|i| i.columns.iter().any(|c| c.column == position));
        new.indexes = kept;
        for index in gone {
            self.drop_index_data(index.id).await?;
        }
        let attnum = new.columns[position].attnum;
        new.dropped.push(DroppedColumn { attnum, ty: new.columns[position].ty });
        remove_column(&mut new, position);
        for sequence in self.owned_sequences(table.id, Some(attnum)) {
            self.lock(sequence).await?;
            self.remove(sequence).await?;
        }
        self.put(new).await?;
        Ok(())
    }
}

/// Takes a column out of the list; indexes' positions behind it move.
fn remove_column(table: &mut TableDesc, position: usize) {
    table.columns.remove(position);
    for index in &mut table.indexes {
        for column in &mut index.columns {
            if column.column > position {
                column.column -= 1;
            }
        }
    }
    // Statistics go by position.
    table.stats = None;
}

fn column_position(table: &TableDesc, name: &str) -> Result<usize> {
    table.columns.iter().position(|c| c.name == name && !c.hidden).ok_or_else(|| {
        SqlError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{name}\" of relation \"{}\" does not exist", table.name),
        )
    })
}

fn duplicate_column(name: &str, table: &str) -> SqlError {
    SqlError::new(
        SqlState::DUPLICATE_COLUMN,
        format!("column \"{name}\" of relation \"{table}\" already exists"),
    )
}
