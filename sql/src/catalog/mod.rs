//! The catalog: descriptors of tables and indexes, stored as rows, versioned like data.

pub mod cache;
pub mod codec;
pub mod counter;
pub mod sequence;
pub mod store;
pub mod system;

use cairn_kv::Timestamp;

use crate::types::{Datum, Type, TypeKind};

pub use cache::Catalog;

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
    /// The hidden row id of a table without primary key: not shown by `*`. Its value is assigned
    /// by the executor when an INSERT leaves it NULL.
    pub hidden: bool,
    /// What rows written before the column was added hold in it (`None`: NULL).
    pub missing: Option<Datum>,
}

impl Default for ColumnDesc {
    fn default() -> ColumnDesc {
        ColumnDesc {
            name: String::new(),
            ty: Type::new(TypeKind::Int4),
            not_null: false,
            default: None,
            attnum: 0,
            hidden: false,
            missing: None,
        }
    }
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
#[derive(Clone, Debug, Default)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RelationKind {
    /// Table.
    #[default]
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
#[derive(Clone, Debug, Default)]
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
    /// Number of the next column added.
    pub next_attnum: i16,
    /// Newest ANALYZE.
    pub stats: Option<TableStats>,
    /// Columns dropped: stored rows still hold them, so decoding must know their types.
    pub dropped: Vec<DroppedColumn>,
    /// Parameters, where this is a sequence.
    pub sequence: Option<SequenceDesc>,
    /// Commit timestamp of this version as far as this node has seen it committed (zero: before
    /// the node started): a transaction that read below it must refresh past it (R16). Not stored.
    pub changed_at: Timestamp,
}

/// A column that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedColumn {
    /// Attribute number.
    pub attnum: i16,
    /// Type it was stored as.
    pub ty: Type,
}

/// Parameters of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceDesc {
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
    /// Column (table's OID and attribute number) with which it is dropped.
    pub owned_by: Option<(Oid, i16)>,
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
