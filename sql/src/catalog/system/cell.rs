//! Cells of system views and the constants they hold.

pub(super) use super::SystemView;
pub use crate::catalog::{IndexColumn, IndexDesc, TableDesc};
pub use crate::types::Datum;
pub use crate::types::TypeKind::{self, *};

/// Schema of the catalog's views.
pub const PG_CATALOG: &str = "pg_catalog";
/// Schema of the standard's views.
pub const INFORMATION_SCHEMA: &str = "information_schema";
/// OID of `pg_catalog`.
pub const PG_CATALOG_OID: u32 = crate::catalog::oids::PG_CATALOG;
/// Owner of everything.
pub const OWNER: u32 = crate::catalog::oids::POSTGRES_ROLE;
/// The database.
pub const POSTGRES_DATABASE: u32 = crate::catalog::oids::POSTGRES_DATABASE;
/// Access method of tables, as clients name it.
pub const HEAP: u32 = 2;
/// Access method of indexes, as clients name it.
pub const BTREE: u32 = 403;
/// Number of the encoding UTF8.
pub const UTF8: i32 = 6;
/// `pg_default`.
pub const DEFAULT_TABLESPACE: u32 = 1663;
/// Collation of text.
pub const DEFAULT_COLLATION: u32 = 100;
/// Collation "C", of names.
pub const C_COLLATION: u32 = 950;
/// OIDs of `pg_attrdef` begin here.
pub const DEFAULT_OIDS: u32 = 0xa000_0000;
/// OIDs of `pg_cast` begin here.
pub const CAST_OIDS: u32 = 14_000;
/// OIDs of aggregates begin here.
pub const AGGREGATE_OIDS: u32 = 10_000;
/// Added to an index's OID for its constraint's.
const CONSTRAINT_OIDS: u32 = 0x8000_0000;

/// OID of the constraint that an index enforces.
pub fn constraint_oid(index: u32) -> u32 {
    index | CONSTRAINT_OIDS
}

/// The index whose constraint has an OID.
pub fn index_of_constraint(oid: u32) -> u32 {
    oid & !CONSTRAINT_OIDS
}

/// Whether an index is shown: all but the one that holds the rows of a table without primary key.
pub fn visible(table: &TableDesc, index: &IndexDesc) -> bool {
    index.primary_key || table.indexes.first().is_none_or(|primary| primary.id != index.id)
}

pub(super) fn oid(v: u32) -> Datum {
    Datum::Oid(v)
}

pub(super) fn name(v: &str) -> Datum {
    Datum::text(v)
}

pub(super) fn text(v: &str) -> Datum {
    Datum::text(v)
}

pub(super) fn flag(v: bool) -> Datum {
    Datum::Bool(v)
}

pub(super) fn letter(v: u8) -> Datum {
    Datum::Char(v)
}

pub(super) fn int2(v: usize) -> Datum {
    Datum::Int2(v as i16)
}

pub(super) fn int4(v: i32) -> Datum {
    Datum::Int4(v)
}

pub(super) fn float4(v: f32) -> Datum {
    Datum::Float4(v)
}

/// Whether PostgreSQL passes the type by value.
pub(super) fn by_value(kind: TypeKind) -> bool {
    matches!(kind.info().length, 1 | 2 | 4 | 8)
}

/// `typalign`.
pub(super) fn alignment(kind: TypeKind) -> u8 {
    match (kind.info().length, kind) {
        (_, Name | Uuid | Bool | InternalChar | Unknown | Cstring) => b'c',
        (2, _) => b's',
        (8 | 16, _) => b'd',
        (-1, _)
            if matches!(kind.element(), Some(Int8 | Float8 | Timestamp | TimestampTz | Time | Interval)) =>
        {
            b'd'
        }
        _ => b'i',
    }
}

/// `typcollation`.
pub(super) fn collation(kind: TypeKind) -> u32 {
    match kind {
        Text | Varchar | Bpchar | PgNodeTree | TextArray | VarcharArray | BpcharArray => DEFAULT_COLLATION,
        Name | NameArray => C_COLLATION,
        _ => 0,
    }
}
