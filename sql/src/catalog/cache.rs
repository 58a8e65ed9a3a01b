//! The catalog in memory: one immutable version of it, shared by all who use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::system::SystemView;
use super::{CatalogReader, Oid, TableDesc, oids, system};

/// Every descriptor at one version. Cloned to change, then published whole.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Rises with every change this node sees; not stored.
    pub version: u64,
    tables: BTreeMap<Oid, Arc<TableDesc>>,
    names: BTreeMap<(Oid, String), Oid>,
}

impl Catalog {
    /// A relation by OID.
    pub fn get(&self, id: Oid) -> Option<&Arc<TableDesc>> {
        self.tables.get(&id)
    }

    /// A relation by schema and name.
    pub fn find(&self, schema: Oid, name: &str) -> Option<&Arc<TableDesc>> {
        // Lookups allocate the name: they happen when planning, not when a cached plan runs.
        self.tables.get(self.names.get(&(schema, name.to_owned()))?)
    }

    /// All relations by OID.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableDesc>> {
        self.tables.values()
    }

    /// The table that has an index of this name in a schema, and the index's position.
    pub fn find_index(&self, schema: Oid, name: &str) -> Option<(&Arc<TableDesc>, usize)> {
        self.tables.values().filter(|t| t.schema == schema).find_map(|table| {
            let position = table.indexes.iter().position(|i| i.name == name && !i.name.is_empty())?;
            Some((table, position))
        })
    }

    /// Whether a relation (table, sequence or index) of this name exists.
    pub fn name_taken(&self, schema: Oid, name: &str) -> bool {
        self.find(schema, name).is_some() || self.find_index(schema, name).is_some()
    }

    /// Adds or replaces a descriptor.
    pub fn put(&mut self, table: Arc<TableDesc>) {
        self.remove(table.id);
        self.names.insert((table.schema, table.name.clone()), table.id);
        self.tables.insert(table.id, table);
    }

    /// Removes a descriptor.
    pub fn remove(&mut self, id: Oid) {
        if let Some(old) = self.tables.remove(&id) {
            self.names.remove(&(old.schema, old.name.clone()));
        }
    }
}

/// The OID of a schema that exists.
pub fn schema_oid(name: &str) -> Option<Oid> {
    match name {
        "public" => Some(oids::PUBLIC),
        "pg_catalog" => Some(oids::PG_CATALOG),
        "information_schema" => Some(oids::INFORMATION_SCHEMA),
        _ => None,
    }
}

/// The name of a schema.
pub fn schema_name(id: Oid) -> &'static str {
    match id {
        oids::PUBLIC => "public",
        oids::PG_CATALOG => "pg_catalog",
        oids::INFORMATION_SCHEMA => "information_schema",
        _ => "?",
    }
}

/// A catalog as one session sees it: through its search path.
#[derive(Clone, Debug)]
pub struct CatalogView {
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// Schemas searched, in order; `pg_catalog` comes first unless it is listed.
    pub search_path: Arc<[String]>,
}

impl CatalogReader for CatalogView {
    fn table(&self, schema: Option<&str>, name: &str) -> Option<Arc<TableDesc>> {
        if let Some(schema) = schema {
            return self.catalog.find(schema_oid(schema)?, name).cloned();
        }
        let mut path = self.search_path.iter().filter_map(|schema| schema_oid(schema));
        path.find_map(|schema| self.catalog.find(schema, name).cloned())
    }

    fn system_view(&self, schema: Option<&str>, name: &str) -> Option<&'static SystemView> {
        if let Some(schema) = schema {
            return system::lookup(Some(schema), name);
        }
        let listed = self.search_path.iter().any(|s| s == "pg_catalog");
        let first = (!listed).then(|| system::lookup(Some("pg_catalog"), name)).flatten();
        first.or_else(|| self.search_path.iter().find_map(|schema| system::lookup(Some(schema), name)))
    }

    fn schema_exists(&self, schema: &str) -> bool {
        schema_oid(schema).is_some()
    }

    fn version(&self) -> u64 {
        self.catalog.version
    }
}
