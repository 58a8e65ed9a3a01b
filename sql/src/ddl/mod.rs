//! Schema changes, as part of transactions.
//!
//! A change locks its objects exclusively (statements hold them shared), takes the newest
//! descriptor, refreshes the transaction past it (R16), and writes new descriptors like any row. The
//! transaction sees its own changes through [`SchemaChanges`]; commit publishes them to the node's
//! cache. Data of indexes that go is removed later by [`garbage`].

mod alter;
mod builder;
pub mod garbage;
pub mod index;
mod sequence;
mod table;

pub use table::quote_ident;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::encoding::{self, Direction};
use cairn_txn::{LockStrength, Txn};

use crate::ast::ObjectName;
use crate::catalog::cache::schema_oid;
use crate::catalog::{Catalog, Oid, RelationKind, TableDesc, oids, store};
use crate::session::{Building, SqlNode};
use crate::storage::{NAME_LOCK, OBJECT_LOCK};
use crate::{Result, SqlError, SqlState};

/// What a transaction has changed in the catalog.
#[derive(Clone, Debug, Default)]
pub struct SchemaChanges {
    /// New descriptor, or `None` where it was dropped.
    pub touched: BTreeMap<Oid, Option<Arc<TableDesc>>>,
    /// Rises with every change, for the version of the transaction's own catalog.
    pub count: u64,
    /// Indexes built by this transaction: being built until it ends.
    pub building: Vec<Arc<Building>>,
    /// Whether the collector of garbage has work once this commits.
    pub garbage: bool,
}

impl SchemaChanges {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// The node's catalog with the changes on top.
    pub fn apply(&self, base: &Arc<Catalog>) -> Arc<Catalog> {
        if self.touched.is_empty() {
            return base.clone();
        }
        let mut catalog = (**base).clone();
        for (id, table) in &self.touched {
            match table {
                Some(table) => catalog.put(table.clone()),
                None => catalog.remove(*id),
            }
        }
        // A version that no published catalog has.
        catalog.version = base.version.wrapping_mul(1 << 16).wrapping_add(self.count) | (1 << 63);
        Arc::new(catalog)
    }
}

/// Key in the lock table that stands for a catalog object.
pub fn object_lock(id: Oid) -> Bytes {
    let [a, b, c, d] = id.to_be_bytes();
    Bytes::copy_from_slice(&[OBJECT_LOCK, a, b, c, d])
}

fn name_lock(schema: Oid, name: &str) -> Bytes {
    let mut key = vec![NAME_LOCK];
    key.extend_from_slice(&schema.to_be_bytes());
    encoding::put_bytes(&mut key, name.as_bytes(), Direction::Asc);
    key.into()
}

/// A schema change in progress.
pub struct Ddl<'a> {
    /// The node.
    pub node: &'a Arc<SqlNode>,
    /// The transaction.
    pub txn: &'a mut Txn,
    /// Its changes so far.
    pub changes: &'a mut SchemaChanges,
    /// Schemas in which unqualified names are looked for.
    pub search_path: Arc<[String]>,
    /// Its isolation level.
    pub isolation: cairn_txn::Isolation,
    /// Bytes of memory for building indexes (`maintenance_work_mem`).
    pub memory: usize,
    /// Notices to show.
    pub notices: Vec<SqlError>,
}

impl Ddl<'_> {
    /// The catalog with this transaction's changes.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.changes.apply(&self.node.catalog())
    }

    /// Records a new version of a descriptor, or a new one.
    async fn put(&mut self, mut table: TableDesc) -> Result<Arc<TableDesc>> {
        table.version += 1;
        store::write(self.txn, &table).await?;
        let table = Arc::new(table);
        self.changes.touched.insert(table.id, Some(table.clone()));
        self.changes.count += 1;
        Ok(table)
    }

    async fn remove(&mut self, id: Oid) -> Result<()> {
        store::remove(self.txn, id).await?;
        self.changes.touched.insert(id, None);
        self.changes.count += 1;
        Ok(())
    }

    async fn drop_index_data(&mut self, index: Oid) -> Result<()> {
        self.changes.garbage = true;
        garbage::list(self.txn, index, garbage::Reason::Dropped).await
    }

    /// Locks an object exclusively and returns its newest descriptor; `None`: it was dropped while
    /// we waited.
    async fn lock(&mut self, id: Oid) -> Result<Option<Arc<TableDesc>>> {
        self.txn.lock(&object_lock(id), LockStrength::Exclusive).await?;
        self.node.catch_up_with(self.txn).await?;
        let Some(table) = self.catalog().get(id).cloned() else { return Ok(None) };
        if table.changed_at > self.txn.read_ts().await? {
            self.txn.refresh_to(table.changed_at).await?;
        }
        Ok(Some(table))
    }

    /// Locks a name against another transaction that creates it, then sees whether it is free.
    async fn lock_name(&mut self, schema: Oid, name: &str) -> Result<bool> {
        self.txn.lock(&name_lock(schema, name), LockStrength::Exclusive).await?;
        self.node.catch_up_with(self.txn).await?;
        Ok(!self.catalog().name_taken(schema, name))
    }

    /// The schema in which a new object of this name is created.
    fn creation_schema(&self, name: &ObjectName) -> Result<Oid> {
        let schema = match &name.schema {
            Some(schema) => schema_oid(schema).ok_or_else(|| {
                SqlError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{schema}\" does not exist"))
                    .at(name.position)
            })?,
            None => {
                let mut path = self.search_path.iter().filter(|s| *s != "pg_catalog");
                path.find_map(|s| schema_oid(s)).ok_or_else(|| {
                    SqlError::new(SqlState::INVALID_SCHEMA_NAME, "no schema has been selected to create in")
                })?
            }
        };
        if schema != oids::PUBLIC {
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to create \"{name}\""),
            )
            .detail("System catalog modifications are currently disallowed."));
        }
        Ok(schema)
    }

    /// Finds a relation by name.
    fn find(&self, name: &ObjectName) -> Option<Arc<TableDesc>> {
        let catalog = self.catalog();
        self.in_path(name, |schema| catalog.find(schema, &name.name).cloned())
    }

    /// Finds an index by name.
    fn find_index(&self, name: &ObjectName) -> Option<(Arc<TableDesc>, usize)> {
        let catalog = self.catalog();
        self.in_path(name, |schema| {
            catalog.find_index(schema, &name.name).map(|(table, position)| (table.clone(), position))
        })
    }

    fn in_path<T>(&self, name: &ObjectName, mut find: impl FnMut(Oid) -> Option<T>) -> Option<T> {
        match &name.schema {
            Some(schema) => find(schema_oid(schema)?),
            None => self.search_path.iter().filter_map(|s| schema_oid(s)).find_map(find),
        }
    }

    /// Finds and locks a table; fails as PostgreSQL does when there is none.
    async fn lock_table(&mut self, name: &ObjectName) -> Result<Arc<TableDesc>> {
        loop {
            let Some(found) = self.find(name) else { return Err(undefined_relation(name)) };
            if found.kind != RelationKind::Table {
                return Err(not_a("table", &found.name));
            }
            if let Some(table) = self.lock(found.id).await?
                && table.name == found.name
            {
                return Ok(table);
            }
        }
    }

    fn notice(&mut self, state: SqlState, message: String) {
        self.notices.push(SqlError::new(state, message));
    }
}

fn undefined_relation(name: &ObjectName) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")).at(name.position)
}

fn not_a(kind: &str, name: &str) -> SqlError {
    SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{name}\" is not a {kind}"))
}

fn exists(name: &str) -> SqlError {
    SqlError::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists"))
}
