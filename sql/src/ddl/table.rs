//! CREATE TABLE, DROP TABLE, TRUNCATE.

use std::sync::Arc;

use super::{Ddl, exists, not_a};
use crate::ast::{Drop, ObjectName, TableConstraint, Truncate};
use crate::catalog::{ColumnDesc, IndexColumn, IndexDesc, Oid, RelationKind, SequenceDesc, TableDesc};
use crate::plan::{NewColumn, NewTable};
use crate::types::{Type, TypeKind};
use crate::{Result, SqlError, SqlState};

/// Longest name, bytes.
const MAX_NAME: usize = 63;

/// Most columns of a table, as in PostgreSQL.
const MAX_COLUMNS: usize = 1600;

impl Ddl<'_> {
    /// CREATE TABLE; `None`: it exists and IF NOT EXISTS was said.
    pub async fn create_table(&mut self, new: &NewTable) -> Result<Option<Arc<TableDesc>>> {
        let schema = self.creation_schema(&new.name)?;
        let name = &new.name.name;
        if !self.lock_name(schema, name).await? {
            if new.if_not_exists {
                let message = format!("relation \"{name}\" already exists, skipping");
                self.notice(SqlState::DUPLICATE_TABLE, message);
                return Ok(None);
            }
            return Err(exists(name));
        }
        if new.columns.len() > MAX_COLUMNS {
            return Err(SqlError::new(
                SqlState(*b"54011"),
                format!("tables can have at most {MAX_COLUMNS} columns"),
            ));
        }
        if new.unlogged {
            let message = format!("table \"{name}\" is logged: Cairn has no unlogged tables");
            self.notice(SqlState::SUCCESS, message);
        }
        let id = self.node.new_oid().await?;
        let mut table = TableDesc { id, schema, name: name.clone(), next_attnum: 1, ..TableDesc::default() };
        for column in &new.columns {
            if table.columns.iter().any(|c| c.name == column.name) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", column.name),
                ));
            }
            let sequence = if column.serial { Some(self.create_serial(&table, column).await?) } else { None };
            push_column(&mut table, column, sequence.as_deref());
        }
        let primary = new.constraints.iter().filter(|c| c.primary_key).collect::<Vec<_>>();
        if let Some(second) = primary.get(1) {
            return Err(multiple_primary_keys(name).at(second.position));
        }
        let index = match primary.first() {
            Some(constraint) => self.primary_index(&mut table, constraint).await?,
            None => self.hidden_index(&mut table).await?,
        };
        table.indexes.push(index);
        for constraint in new.constraints.iter().filter(|c| !c.primary_key) {
            let index = self.unique_index(&table, constraint).await?;
            // A constraint over the same columns as another adds nothing.
            let same =
                |i: &&IndexDesc| i.constraint && i.columns == index.columns && constraint.name.is_none();
            if table.indexes.iter().find(same).is_none() {
                table.indexes.push(index);
            }
        }
        self.put(table).await.map(Some)
    }

    /// The descriptor of a primary key's index; its columns become NOT NULL.
    pub(super) async fn primary_index(
        &mut self,
        table: &mut TableDesc,
        constraint: &TableConstraint,
    ) -> Result<IndexDesc> {
        let columns = key_columns(table, constraint)?;
        for column in &columns {
            table.columns[column.column].not_null = true;
        }
        let name = match &constraint.name {
            Some(name) => name.name.clone(),
            None => self.free_name(table, &[], "pkey"),
        };
        self.claim_index_name(table, &name).await?;
        Ok(IndexDesc {
            id: self.node.new_oid().await?,
            name,
            unique: true,
            columns,
            primary_key: true,
            constraint: true,
            collation_version: 0,
        })
    }

    /// The primary index of a table without primary key, over a hidden row id, which is added to
    /// the columns.
    pub(super) async fn hidden_index(&mut self, table: &mut TableDesc) -> Result<IndexDesc> {
        let mut name = String::from("rowid");
        while table.columns.iter().any(|c| c.name == name) {
            name.push('_');
        }
        let column = table.columns.len();
        table.columns.push(ColumnDesc {
            name,
            ty: Type::new(TypeKind::Int8),
            not_null: true,
            attnum: table.next_attnum,
            hidden: true,
            ..ColumnDesc::default()
        });
        table.next_attnum += 1;
        Ok(IndexDesc {
            id: self.node.new_oid().await?,
            unique: true,
            columns: vec![IndexColumn { column, descending: false, nulls_first: false }],
            ..IndexDesc::default()
        })
    }

    /// The descriptor of a UNIQUE constraint's index.
    pub(super) async fn unique_index(
        &mut self,
        table: &TableDesc,
        constraint: &TableConstraint,
    ) -> Result<IndexDesc> {
        let columns = key_columns(table, constraint)?;
        let name = match &constraint.name {
            Some(name) => name.name.clone(),
            None => {
                let names: Vec<_> = columns.iter().map(|c| table.columns[c.column].name.clone()).collect();
                self.free_name(table, &names, "key")
            }
        };
        self.claim_index_name(table, &name).await?;
        Ok(IndexDesc {
            id: self.node.new_oid().await?,
            name,
            unique: true,
            columns,
            primary_key: false,
            constraint: true,
            collation_version: 0,
        })
    }

    /// Locks an index's name; fails when it is taken.
    pub(super) async fn claim_index_name(&mut self, table: &TableDesc, name: &str) -> Result<()> {
        let taken = table.indexes.iter().any(|i| i.name == name) || table.name == name;
        if taken || !self.lock_name(table.schema, name).await? {
            return Err(exists(name));
        }
        Ok(())
    }

    /// A free name `table_columns_suffix`, as PostgreSQL chooses it.
    pub(super) fn free_name(&self, table: &TableDesc, columns: &[String], suffix: &str) -> String {
        let catalog = self.catalog();
        let columns = columns.join("_");
        for number in 0.. {
            let suffix = if number == 0 { suffix.to_owned() } else { format!("{suffix}{number}") };
            let name = make_name(&table.name, &columns, &suffix);
            let taken = table.indexes.iter().any(|i| i.name == name) || table.name == name;
            if !taken && !catalog.name_taken(table.schema, &name) {
                return name;
            }
        }
        unreachable!("some number is free")
    }

    /// The sequence of a SERIAL column; returns its name.
    pub(super) async fn create_serial(&mut self, table: &TableDesc, column: &NewColumn) -> Result<String> {
        let name = self.free_name(table, std::slice::from_ref(&column.name), "seq");
        if !self.lock_name(table.schema, &name).await? {
            return Err(exists(&name));
        }
        let max = match column.ty.kind {
            TypeKind::Int2 => i16::MAX as i64,
            TypeKind::Int4 => i32::MAX as i64,
            _ => i64::MAX,
        };
        let sequence = SequenceDesc {
            start: 1,
            increment: 1,
            min: 1,
            max,
            cycle: false,
            owned_by: Some((table.id, table.next_attnum)),
        };
        self.put(TableDesc {
            id: self.node.new_oid().await?,
            schema: table.schema,
            name: name.clone(),
            kind: RelationKind::Sequence,
            next_attnum: 1,
            sequence: Some(sequence),
            ..TableDesc::default()
        })
        .await?;
        Ok(name)
    }

    /// DROP TABLE.
    pub async fn drop_tables(&mut self, drop: &Drop) -> Result<()> {
        // All are found before any is dropped, so that an error names what the statement named.
        let mut tables = Vec::new();
        for name in &drop.names {
            match self.find_to_drop(name, RelationKind::Table, drop.if_exists)? {
                Some(table) => tables.push(table.id),
                None => continue,
            }
        }
        for id in tables {
            if let Some(table) = self.lock(id).await? {
                self.drop_relation(&table).await?;
            }
        }
        Ok(())
    }

    /// Finds a relation of a kind that is to be dropped; `None`: absent, which was noticed.
    pub(super) fn find_to_drop(
        &mut self,
        name: &ObjectName,
        kind: RelationKind,
        if_exists: bool,
    ) -> Result<Option<Arc<TableDesc>>> {
        let word = match kind {
            RelationKind::Table => "table",
            RelationKind::Sequence => "sequence",
        };
        match self.find(name) {
            Some(table) if table.kind == kind => Ok(Some(table)),
            Some(table) => {
                let hint = match table.kind {
                    RelationKind::Table => "Use DROP TABLE to remove a table.",
                    RelationKind::Sequence => "Use DROP SEQUENCE to remove a sequence.",
                };
                Err(not_a(word, &table.name).hint(hint))
            }
            None if if_exists => {
                if let Some(schema) = &name.schema
                    && crate::catalog::cache::schema_oid(schema).is_none()
                {
                    self.notice(SqlState::SUCCESS, format!("schema \"{schema}\" does not exist, skipping"));
                } else {
                    self.notice(
                        SqlState::SUCCESS,
                        format!("{word} \"{}\" does not exist, skipping", name.name),
                    );
                }
                Ok(None)
            }
            None => {
                if let Some(schema) = &name.schema
                    && crate::catalog::cache::schema_oid(schema).is_none()
                {
                    return Err(SqlError::new(
                        SqlState::INVALID_SCHEMA_NAME,
                        format!("schema \"{schema}\" does not exist"),
                    ));
                }
                Err(SqlError::new(SqlState::UNDEFINED_TABLE, format!("{word} \"{name}\" does not exist")))
            }
        }
    }

    /// Drops a locked relation, its data and what it owns.
    pub(super) async fn drop_relation(&mut self, table: &TableDesc) -> Result<()> {
        self.remove(table.id).await?;
        for index in &table.indexes {
            self.drop_index_data(index.id).await?;
        }
        for owned in self.owned_sequences(table.id, None) {
            self.lock(owned).await?;
            self.remove(owned).await?;
        }
        Ok(())
    }

    /// Sequences owned by a table, or by one of its columns.
    pub(super) fn owned_sequences(&self, table: Oid, attnum: Option<i16>) -> Vec<Oid> {
        let owned = |t: &Arc<TableDesc>| {
            let (owner, column) = t.sequence.as_ref()?.owned_by?;
            (owner == table && attnum.is_none_or(|a| a == column)).then_some(t.id)
        };
        self.catalog().tables().filter_map(owned).collect()
    }

    /// TRUNCATE: new, empty indexes; what the old ones hold is garbage.
    pub async fn truncate(&mut self, truncate: &Truncate) -> Result<()> {
        for name in &truncate.tables {
            let table = self.lock_table(name).await?;
            let mut table = (*table).clone();
            for index in &mut table.indexes {
                self.drop_index_data(index.id).await?;
                index.id = self.node.new_oid().await?;
            }
            table.stats = None;
            let table = self.put(table).await?;
            if truncate.restart_identity {
                for sequence in self.owned_sequences(table.id, None) {
                    self.restart_sequence(sequence).await?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn push_column(table: &mut TableDesc, column: &NewColumn, sequence: Option<&str>) {
    let default = match sequence {
        Some(name) => Some(format!("nextval({}::regclass)", quote_literal(&quote_ident(name)))),
        None => column.default.clone(),
    };
    table.columns.push(ColumnDesc {
        name: column.name.clone(),
        ty: column.ty,
        not_null: column.not_null,
        default,
        attnum: table.next_attnum,
        hidden: false,
        missing: None,
    });
    table.next_attnum += 1;
}

/// Resolves a constraint's columns.
fn key_columns(table: &TableDesc, constraint: &TableConstraint) -> Result<Vec<IndexColumn>> {
    let mut columns: Vec<IndexColumn> = Vec::new();
    for ident in &constraint.columns {
        let column =
            table.columns.iter().position(|c| c.name == ident.name && !c.hidden).ok_or_else(|| {
                SqlError::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{}\" named in key does not exist", ident.name),
                )
                .at(constraint.position)
            })?;
        if columns.iter().any(|c| c.column == column) {
            let kind = if constraint.primary_key { "primary key" } else { "unique" };
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" appears twice in {kind} constraint", ident.name),
            )
            .at(constraint.position));
        }
        check_key_type(table.columns[column].ty)?;
        columns.push(IndexColumn { column, descending: false, nulls_first: false });
    }
    if columns.len() > 32 {
        return Err(SqlError::new(SqlState(*b"54011"), "cannot use more than 32 columns in an index"));
    }
    Ok(columns)
}

/// Whether a column of the type can be indexed.
pub(super) fn check_key_type(ty: Type) -> Result<()> {
    if ty.kind == TypeKind::Json {
        return Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            "data type json has no default operator class for access method \"btree\"",
        )
        .hint("You must specify an operator class for the index or define a default operator class for the data type."));
    }
    Ok(())
}

pub(super) fn multiple_primary_keys(table: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_TABLE_DEFINITION,
        format!("multiple primary keys for table \"{table}\" are not allowed"),
    )
}

/// `a_b_suffix` cut to the longest name: the longer of `a` and `b` is shortened first.
fn make_name(a: &str, b: &str, suffix: &str) -> String {
    let joints = if b.is_empty() { 1 } else { 2 };
    let room = MAX_NAME - suffix.len() - joints;
    let (mut left, mut right) = (a.len(), b.len());
    while left + right > room {
        if left > right { left -= 1 } else { right -= 1 }
    }
    let cut = |s: &str, mut n: usize| {
        while !s.is_char_boundary(n) {
            n -= 1;
        }
        s[..n].to_owned()
    };
    match b.is_empty() {
        true => format!("{}_{suffix}", cut(a, left)),
        false => format!("{}_{}_{suffix}", cut(a, left), cut(b, right)),
    }
}

/// An identifier as SQL writes it.
pub fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

pub(super) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
