//! The catalog: descriptors of tables and indexes, stored as rows, versioned like data.

pub mod system;

use crate::types::Type;

/// OID of a catalog object. Table and index ids are OIDs too; both are key prefixes.
pub type Oid = u32;

/// First OID of user objects, as in PostgreSQL.
pub const FIRST_USER_OID: Oid = 16384;

/// OIDs that PostgreSQL fixes.
pub mod oids {
    /// Schema `pg_catalog`.
    pub const PG_CATALOG: u32 = 11;
    /// Schema `public`.
    pub const PUBLIC: u32 = 2200;
    /// Schema `information_schema`.
    pub const INFORMATION_SCHEMA: u32 = 13000;
    /// Role `postgres`.
    pub const POSTGRES_ROLE: u32 = 10;
    /// Database `postgres`.
    pub const POSTGRES_DATABASE: u32 = 5;
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct ColumnDesc {
    /// Name.
    pub name: String,
    /// Type.
    pub ty: Type,
    /// NOT NULL (primary key columns too).
    pub not_null: bool,
    /// DEFAULT, as SQL text (deparsed), bound anew when planned.
    pub default: Option<String>,
    /// Attribute number, from 1; never reused. It identifies the column in stored rows.
    pub attnum: i16,
    /// The hidden row id of a table without primary key: not shown by `*`.
    pub hidden: bool,
}

/// A column of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexColumn {
    /// Position in `TableDesc::columns`.
    pub column: usize,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

/// An index. `indexes[0]` of a table is its primary index, whose entries are the rows.
#[derive(Clone, Debug)]
pub struct IndexDesc {
    /// OID; second part of the key prefix.
    pub id: Oid,
    /// Name.
    pub name: String,
    /// UNIQUE.
    pub unique: bool,
    /// Key columns.
    pub columns: Vec<IndexColumn>,
    /// It enforces PRIMARY KEY (false for the primary index over the hidden row id).
    pub primary_key: bool,
    /// It was made by a UNIQUE constraint of this name rather than CREATE INDEX.
    pub constraint: bool,
    /// Collation version the entries were written under ("C" is 0).
    pub collation_version: u32,
}

/// Kind of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// Table.
    Table,
    /// Sequence.
    Sequence,
}

/// Statistics of ANALYZE.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableStats {
    /// Rows.
    pub rows: f64,
    /// For each column, by position: distinct values (negative: a fraction of the rows, as in
    /// pg_stats) and fraction of NULLs.
    pub columns: Vec<ColumnStats>,
}

/// Statistics of a column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnStats {
    /// Distinct values; negative: a fraction of the rows.
    pub distinct: f64,
    /// Fraction of NULLs.
    pub null_fraction: f64,
    /// Equi-depth histogram bounds as text, where ordered.
    pub histogram: Vec<String>,
}

/// A table at one version of the catalog. Immutable; shared.
#[derive(Clone, Debug)]
pub struct TableDesc {
    /// OID; first part of the key prefix (until TRUNCATE gives new index ids).
    pub id: Oid,
    /// Schema's OID.
    pub schema: Oid,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: RelationKind,
    /// Rises with every change.
    pub version: u64,
    /// Live columns in order.
    pub columns: Vec<ColumnDesc>,
    /// Indexes; the first is the primary one.
    pub indexes: Vec<IndexDesc>,
    /// Name of the PRIMARY KEY constraint's index is `indexes[0].name` where that enforces it.
    pub next_attnum: i16,
    /// Newest ANALYZE.
    pub stats: Option<TableStats>,
}

/// What the binder asks of the catalog, at one version of it.
pub trait CatalogReader: Send + Sync {
    /// Finds a relation by name: in `schema`, or along the search path.
    fn table(&self, schema: Option<&str>, name: &str) -> Option<std::sync::Arc<TableDesc>>;
    /// Finds a system view likewise (`pg_catalog` is searched first, as in PostgreSQL).
    fn system_view(&self, schema: Option<&str>, name: &str) -> Option<&'static system::SystemView>;
    /// Whether a schema exists.
    fn schema_exists(&self, schema: &str) -> bool;
    /// The catalog's version, part of the plan cache's key.
    fn version(&self) -> u64;
}
