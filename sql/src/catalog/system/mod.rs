//! System views: `pg_catalog` and `information_schema`, computed from the catalog.
//!
//! A view is a file: its columns (PostgreSQL 15's, in order) and a function from a [`CatalogSource`]
//! to rows. What Cairn has no objects for is listed in `empty`.

use std::sync::Arc;

use super::{Oid, TableDesc};
use crate::types::{Datum, TypeKind};

pub use crate::plan::physical::Row;

/// Declares a file's view, whose rows its function `rows` makes.
macro_rules! view {
    ($schema:ident $name:literal $oid:literal { $($column:literal $kind:ident),* $(,)? }) => {
        pub(super) static VIEW: super::SystemView = super::SystemView {
            schema: $schema,
            name: $name,
            oid: $oid,
            columns: &[$(($column, crate::types::TypeKind::$kind)),*],
            rows,
        };
    };
}

/// Declares a view without rows.
macro_rules! empty {
    ($view:ident $schema:ident $name:literal $oid:literal { $($column:literal $kind:ident),* $(,)? }) => {
        static $view: SystemView = SystemView {
            schema: $schema,
            name: $name,
            oid: $oid,
            columns: &[$(($column, $kind)),*],
            rows: |_| Vec::new(),
        };
    };
}

mod cell;
pub mod definition;
mod empty;
mod information_columns;
mod information_key_column_usage;
mod information_schemata;
mod information_table_constraints;
mod information_tables;
mod pg_am;
mod pg_attrdef;
mod pg_attribute;
mod pg_authid;
mod pg_cast;
mod pg_class;
mod pg_collation;
mod pg_constraint;
mod pg_database;
mod pg_index;
mod pg_indexes;
mod pg_language;
mod pg_namespace;
mod pg_operator;
mod pg_proc;
mod pg_roles;
mod pg_sequence;
mod pg_sequences;
mod pg_settings;
mod pg_stat_activity;
mod pg_stats;
mod pg_tables;
mod pg_tablespace;
mod pg_type;
mod pg_user;
mod relation;

pub use cell::{BTREE, HEAP, constraint_oid, visible};
pub use relation::{Relation, find_relation, is_visible};

/// A system view.
#[derive(Debug)]
pub struct SystemView {
    /// Schema's name.
    pub schema: &'static str,
    /// Name.
    pub name: &'static str,
    /// OID of the view itself.
    pub oid: u32,
    /// Columns.
    pub columns: &'static [(&'static str, TypeKind)],
    /// All rows, in `columns`' order.
    pub rows: fn(&dyn CatalogSource) -> Vec<Row>,
}

static VIEWS: &[&SystemView] = &[
    &pg_class::VIEW,
    &pg_namespace::VIEW,
    &pg_attribute::VIEW,
    &pg_type::VIEW,
    &pg_index::VIEW,
    &pg_constraint::VIEW,
    &pg_attrdef::VIEW,
    &pg_am::VIEW,
    &pg_proc::VIEW,
    &pg_operator::VIEW,
    &pg_database::VIEW,
    &pg_roles::VIEW,
    &pg_authid::VIEW,
    &pg_user::VIEW,
    &pg_collation::VIEW,
    &pg_settings::VIEW,
    &pg_stat_activity::VIEW,
    &pg_sequence::VIEW,
    &pg_sequences::VIEW,
    &pg_tables::VIEW,
    &pg_indexes::VIEW,
    &pg_tablespace::VIEW,
    &pg_cast::VIEW,
    &pg_language::VIEW,
    &pg_stats::VIEW,
    &information_tables::VIEW,
    &information_columns::VIEW,
    &information_schemata::VIEW,
    &information_key_column_usage::VIEW,
    &information_table_constraints::VIEW,
];

/// All system views.
pub fn all_views() -> impl Iterator<Item = &'static SystemView> {
    VIEWS.iter().chain(empty::VIEWS).copied()
}

/// Finds a system view; without a schema, one of `pg_catalog`.
pub fn lookup(schema: Option<&str>, name: &str) -> Option<&'static SystemView> {
    let schema = schema.unwrap_or(cell::PG_CATALOG);
    all_views().find(|v| v.name == name && v.schema == schema)
}

impl SystemView {
    /// A row with some columns given and NULL in the others.
    fn row(&self, cells: &[(&str, Datum)]) -> Row {
        let mut row = vec![Datum::Null; self.columns.len()];
        // Cells come in the columns' order, so that each search goes on behind the last.
        let mut at = 0;
        for (name, value) in cells {
            let found = (at..self.columns.len()).chain(0..at).find(|i| self.columns[*i].0 == *name);
            let index = found.unwrap_or_else(|| panic!("{} has no column {name}", self.name));
            row[index] = value.clone();
            at = index + 1;
        }
        row
    }
}

/// A schema.
#[derive(Clone, Debug)]
pub struct SchemaEntry {
    /// OID.
    pub oid: Oid,
    /// Name.
    pub name: String,
}

/// A role.
#[derive(Clone, Debug)]
pub struct RoleEntry {
    /// OID.
    pub oid: Oid,
    /// Name.
    pub name: String,
}

/// A session, for `pg_stat_activity`.
#[derive(Clone, Debug, Default)]
pub struct SessionEntry {
    /// Backend process id.
    pub pid: i32,
    /// Role.
    pub user: String,
    /// `application_name`.
    pub application: String,
    /// Client's address.
    pub address: String,
    /// `idle`, `active`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: &'static str,
    /// The statement that runs or ran last.
    pub query: String,
    /// When the session, transaction and statement began and the state changed: microseconds since
    /// 2000; the transaction's is absent outside of one.
    pub backend_start: i64,
    /// See `backend_start`.
    pub xact_start: Option<i64>,
    /// See `backend_start`.
    pub query_start: Option<i64>,
    /// See `backend_start`.
    pub state_change: Option<i64>,
}

/// A sequence's parameters and state.
#[derive(Clone, Debug)]
pub struct SequenceEntry {
    /// START.
    pub start: i64,
    /// INCREMENT.
    pub increment: i64,
    /// MINVALUE.
    pub min: i64,
    /// MAXVALUE.
    pub max: i64,
    /// CYCLE.
    pub cycle: bool,
    /// The value handed out last, if any was.
    pub last_value: Option<i64>,
}

/// A setting, for `pg_settings`.
#[derive(Clone, Debug)]
pub struct SettingEntry {
    /// Name.
    pub name: String,
    /// Value as SHOW prints it.
    pub value: String,
    /// One line on what it does.
    pub description: String,
    /// Value after RESET.
    pub reset: String,
}

/// The catalog and the node as the system views and functions like `pg_get_indexdef` see them, at
/// one version.
pub trait CatalogSource: Send + Sync {
    /// All tables and sequences, ordered by OID.
    fn relations(&self) -> Vec<Arc<TableDesc>>;
    /// One of them.
    fn relation(&self, oid: Oid) -> Option<Arc<TableDesc>> {
        self.relations().into_iter().find(|t| t.id == oid)
    }
    /// User schemas (`public` and those created), ordered by OID; the built-in ones are added here.
    fn schemas(&self) -> Vec<SchemaEntry>;
    /// Schemas of the session's search path, without the implicit `pg_catalog`.
    fn search_path(&self) -> Vec<String>;
    /// The database.
    fn database(&self) -> String;
    /// Roles, ordered by OID.
    fn roles(&self) -> Vec<RoleEntry> {
        vec![RoleEntry { oid: super::oids::POSTGRES_ROLE, name: "postgres".into() }]
    }
    /// Sessions of this node.
    fn sessions(&self) -> Vec<SessionEntry> {
        Vec::new()
    }
    /// Settings of the session, ordered by name.
    fn settings(&self) -> Vec<SettingEntry> {
        Vec::new()
    }
    /// Bytes that a relation's index occupies (the primary index holds the rows); approximate.
    fn index_size(&self, index: Oid) -> Option<u64> {
        let _ = index;
        None
    }
    /// A sequence's parameters and state.
    fn sequence(&self, sequence: Oid) -> Option<SequenceEntry> {
        let _ = sequence;
        None
    }
}

/// All schemas, built-in ones included, ordered by OID.
pub fn schemas(source: &dyn CatalogSource) -> Vec<SchemaEntry> {
    let mut all = source.schemas();
    for (oid, name) in [
        (super::oids::PG_CATALOG, cell::PG_CATALOG),
        (super::oids::INFORMATION_SCHEMA, cell::INFORMATION_SCHEMA),
    ] {
        if !all.iter().any(|s| s.oid == oid) {
            all.push(SchemaEntry { oid, name: name.to_owned() });
        }
    }
    all.sort_by_key(|s| s.oid);
    all
}

/// A schema's name by OID (empty when it is gone).
pub fn schema_name(source: &dyn CatalogSource, oid: Oid) -> String {
    schemas(source).into_iter().find(|s| s.oid == oid).map_or(String::new(), |s| s.name)
}

/// Tables without the sequences.
fn tables(source: &dyn CatalogSource) -> Vec<Arc<TableDesc>> {
    source.relations().into_iter().filter(|t| t.kind == super::RelationKind::Table).collect()
}

/// Sequences with their parameters.
fn sequences(source: &dyn CatalogSource) -> Vec<(Arc<TableDesc>, SequenceEntry)> {
    let sequences = source.relations().into_iter().filter(|t| t.kind == super::RelationKind::Sequence);
    sequences.filter_map(|t| source.sequence(t.id).map(|s| (t, s))).collect()
}

/// Name of the role that owns everything.
fn owner_name(source: &dyn CatalogSource) -> String {
    let owner = source.roles().into_iter().find(|r| r.oid == cell::OWNER);
    owner.map_or_else(|| "postgres".to_owned(), |r| r.name)
}
