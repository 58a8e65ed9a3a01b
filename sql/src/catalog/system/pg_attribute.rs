//! `pg_attribute`: columns of tables, indexes and system views.

use super::cell::*;
use super::relation::{RelationColumn, relations};
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_attribute" 1249 { "attrelid" Oid, "attname" Name, "atttypid" Oid, "attstattarget" Int4, "attlen" Int2, "attnum" Int2, "attndims" Int4, "attcacheoff" Int4, "atttypmod" Int4, "attbyval" Bool, "attalign" InternalChar, "attstorage" InternalChar, "attcompression" InternalChar, "attnotnull" Bool, "atthasdef" Bool, "atthasmissing" Bool, "attidentity" InternalChar, "attgenerated" InternalChar, "attisdropped" Bool, "attislocal" Bool, "attinhcount" Int4, "attcollation" Oid, "attacl" AclitemArray, "attoptions" TextArray, "attfdwoptions" TextArray, "attmissingval" TextArray }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let mut rows = Vec::new();
    for relation in relations(source) {
        rows.extend(relation.columns().iter().map(|column| row(relation.oid(), column)));
    }
    rows
}

fn row(relation: u32, column: &RelationColumn) -> Row {
    let info = column.ty.kind.info();
    VIEW.row(&[
        ("attrelid", oid(relation)),
        ("attname", name(&column.name)),
        ("atttypid", oid(column.ty.oid())),
        ("attstattarget", int4(-1)),
        ("attlen", Datum::Int2(info.length)),
        ("attnum", Datum::Int2(column.number)),
        ("attndims", int4(i32::from(column.ty.kind.is_array()))),
        ("attcacheoff", int4(-1)),
        ("atttypmod", int4(column.ty.modifier)),
        ("attbyval", flag(by_value(column.ty.kind))),
        ("attalign", letter(alignment(column.ty.kind))),
        ("attstorage", letter(if info.length < 0 { b'x' } else { b'p' })),
        ("attcompression", letter(0)),
        ("attnotnull", flag(column.not_null)),
        ("atthasdef", flag(column.has_default)),
        ("atthasmissing", flag(false)),
        ("attidentity", letter(0)),
        ("attgenerated", letter(0)),
        ("attisdropped", flag(false)),
        ("attislocal", flag(true)),
        ("attinhcount", int4(0)),
        ("attcollation", oid(collation(column.ty.kind))),
    ])
}
