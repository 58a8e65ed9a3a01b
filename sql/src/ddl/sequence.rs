//! CREATE and DROP SEQUENCE.

use super::table::{quote_ident, quote_literal};
use super::{Ddl, exists};
use crate::ast::{CreateSequence, Drop};
use crate::catalog::store::system_key;
use crate::catalog::{ColumnDesc, Oid, RelationKind, SequenceDesc, TableDesc};

use crate::storage::ids;
use crate::{Result, SqlError, SqlState};

impl Ddl<'_> {
    /// CREATE SEQUENCE.
    pub async fn create_sequence(&mut self, new: &CreateSequence) -> Result<()> {
        let schema = self.creation_schema(&new.name)?;
        let name = &new.name.name;
        if !self.lock_name(schema, name).await? {
            if new.if_not_exists {
                let message = format!("relation \"{name}\" already exists, skipping");
                self.notice(SqlState::DUPLICATE_TABLE, message);
                return Ok(());
            }
            return Err(exists(name));
        }
        let (type_min, type_max) = match new.ty.as_ref().map(|t| t.name.as_str()) {
            None | Some("int8") => (i64::MIN, i64::MAX),
            Some("int4") => (i32::MIN as i64, i32::MAX as i64),
            Some("int2") => (i16::MIN as i64, i16::MAX as i64),
            Some(_) => return Err(invalid("sequence type must be smallint, integer, or bigint".into())),
        };
        let increment = new.increment.unwrap_or(1);
        if increment == 0 {
            return Err(invalid("INCREMENT must not be zero".into()));
        }
        let up = increment > 0;
        let min = new.min.unwrap_or(if up { 1 } else { type_min });
        let max = new.max.unwrap_or(if up { type_max } else { -1 });
        if min >= max {
            return Err(invalid(format!("MINVALUE ({min}) must be less than MAXVALUE ({max})")));
        }
        let start = new.start.unwrap_or(if up { min } else { max });
        if start < min {
            return Err(invalid(format!("START value ({start}) cannot be less than MINVALUE ({min})")));
        }
        if start > max {
            return Err(invalid(format!("START value ({start}) cannot be greater than MAXVALUE ({max})")));
        }
        if new.cache.is_some_and(|c| c < 1) {
            return Err(invalid(format!("CACHE ({}) must be greater than zero", new.cache.unwrap_or(0))));
        }
        let owned_by = match &new.owned_by {
            None => None,
            Some((table, column)) => {
                let table = self.lock_table(table).await?;
                let found = table.columns.iter().find(|c| c.name == column.name && !c.hidden);
                let found = found.ok_or_else(|| {
                    SqlError::new(
                        SqlState::UNDEFINED_COLUMN,
                        format!("column \"{}\" of relation \"{}\" does not exist", column.name, table.name),
                    )
                })?;
                Some((table.id, found.attnum))
            }
        };
        self.put(TableDesc {
            id: self.node.new_oid().await?,
            schema,
            name: name.clone(),
            kind: RelationKind::Sequence,
            next_attnum: 1,
            sequence: Some(SequenceDesc { start, increment, min, max, cycle: new.cycle, owned_by }),
            ..TableDesc::default()
        })
        .await?;
        Ok(())
    }

    /// DROP SEQUENCE.
    pub async fn drop_sequences(&mut self, drop: &Drop) -> Result<()> {
        for name in &drop.names {
            let Some(found) = self.find_to_drop(name, RelationKind::Sequence, drop.if_exists)? else {
                continue;
            };
            let Some(sequence) = self.lock(found.id).await? else { continue };
            let users: Vec<Oid> = {
                let catalog = self.catalog();
                let users = catalog.tables().filter(|table| table.columns.iter().any(|c| uses(c, &sequence)));
                users.map(|table| table.id).collect()
            };
            for user in users {
                let Some(table) = self.lock(user).await? else { continue };
                let Some(column) = table.columns.iter().find(|column| uses(column, &sequence)) else {
                    continue;
                };
                if !drop.cascade {
                    let column = &column.name;
                    return Err(SqlError::new(
                        SqlState::DEPENDENT_OBJECTS,
                        format!("cannot drop sequence {} because other objects depend on it", sequence.name),
                    )
                    .detail(format!(
                        "default value for column {column} of table {} depends on sequence {}",
                        table.name, sequence.name
                    ))
                    .hint("Use DROP ... CASCADE to drop the dependent objects too."));
                }
                let mut table = (*table).clone();
                for column in table.columns.iter_mut().filter(|column| uses(column, &sequence)) {
                    column.default = None;
                }
                self.put(table).await?;
            }
            self.remove(sequence.id).await?;
            self.node.sequences.forget(sequence.id);
        }
        Ok(())
    }

    /// Starts a sequence over. Unlike in PostgreSQL a rollback does not take it back: values are
    /// never handed out twice within a transaction's lifetime either way.
    pub(super) async fn restart_sequence(&mut self, id: Oid) -> Result<()> {
        let key = system_key(ids::SEQUENCES, id as u64);
        self.txn.get_for_update(&key).await?;
        self.txn.delete(key).await?;
        self.node.sequences.forget(id);
        Ok(())
    }
}

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Whether a column's default calls a sequence: SERIAL names it, an expression holds its OID.
fn uses(column: &ColumnDesc, sequence: &TableDesc) -> bool {
    let id = format!("nextval('{}'::regclass)", sequence.id);
    let name = format!("nextval({}::regclass)", quote_literal(&quote_ident(&sequence.name)));
    column.default.as_ref().is_some_and(|default| default.contains(&id) || default.contains(&name))
}
