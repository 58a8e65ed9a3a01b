//! `information_schema.columns`: columns of tables and system views.

use super::cell::*;
use super::relation::{Relation, RelationColumn, relations};
use super::{CatalogSource, Row};
use crate::types::{format_type, modifier};

view! {
    INFORMATION_SCHEMA "columns" 13295 { "table_catalog" Name, "table_schema" Name, "table_name" Name, "column_name" Name, "ordinal_position" Int4, "column_default" Varchar, "is_nullable" Varchar, "data_type" Varchar, "character_maximum_length" Int4, "character_octet_length" Int4, "numeric_precision" Int4, "numeric_precision_radix" Int4, "numeric_scale" Int4, "datetime_precision" Int4, "interval_type" Varchar, "interval_precision" Int4, "character_set_catalog" Name, "character_set_schema" Name, "character_set_name" Name, "collation_catalog" Name, "collation_schema" Name, "collation_name" Name, "domain_catalog" Name, "domain_schema" Name, "domain_name" Name, "udt_catalog" Name, "udt_schema" Name, "udt_name" Name, "scope_catalog" Name, "scope_schema" Name, "scope_name" Name, "maximum_cardinality" Int4, "dtd_identifier" Name, "is_self_referencing" Varchar, "is_identity" Varchar, "identity_generation" Varchar, "identity_start" Varchar, "identity_increment" Varchar, "identity_maximum" Varchar, "identity_minimum" Varchar, "identity_cycle" Varchar, "is_generated" Varchar, "generation_expression" Varchar, "is_updatable" Varchar }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let database = source.database();
    let mut rows = Vec::new();
    for relation in relations(source) {
        if matches!(relation, Relation::Table(_) | Relation::View(_)) {
            let schema = super::schema_name(source, relation.schema());
            for (position, column) in relation.columns().iter().enumerate() {
                rows.push(row(&database, &schema, &relation, position, column));
            }
        }
    }
    rows
}

fn row(database: &str, schema: &str, relation: &Relation, position: usize, column: &RelationColumn) -> Row {
    let ty = column.ty;
    let characters = match ty.kind {
        Varchar | Bpchar => modifier::length(ty.modifier).map(|n| n as i32),
        _ => None,
    };
    let octets = match ty.kind {
        Text | Varchar | Bpchar => Some(characters.map_or(1 << 30, |n| n * 4)),
        _ => None,
    };
    let (precision, radix, scale) = match ty.kind {
        Int2 => (Some(16), Some(2), Some(0)),
        Int4 => (Some(32), Some(2), Some(0)),
        Int8 => (Some(64), Some(2), Some(0)),
        Float4 => (Some(24), Some(2), None),
        Float8 => (Some(53), Some(2), None),
        Numeric => match modifier::precision_scale(ty.modifier) {
            Some((p, s)) => (Some(p), Some(10), Some(s)),
            None => (None, Some(10), None),
        },
        _ => (None, None, None),
    };
    let fraction = match ty.kind {
        Date => Some(0),
        Time | Timestamp | TimestampTz | Interval => {
            Some(if ty.modifier < 0 { 6 } else { ty.modifier & 0xffff })
        }
        _ => None,
    };
    let number = |n: Option<i32>| n.map_or(Datum::Null, int4);
    let shown = if ty.kind.name().starts_with('_') {
        "ARRAY".to_owned()
    } else if ty.kind == Bpchar {
        "character".to_owned()
    } else {
        format_type(ty.kind.into())
    };
    let updatable = if matches!(relation, Relation::Table(_)) { "YES" } else { "NO" };
    VIEW.row(&[
        ("table_catalog", name(database)),
        ("table_schema", name(schema)),
        ("table_name", name(relation.name())),
        ("column_name", name(&column.name)),
        ("ordinal_position", int4(position as i32 + 1)),
        ("column_default", column.default.as_deref().map_or(Datum::Null, text)),
        ("is_nullable", text(if column.not_null { "NO" } else { "YES" })),
        ("data_type", text(&shown)),
        ("character_maximum_length", number(characters)),
        ("character_octet_length", number(octets)),
        ("numeric_precision", number(precision)),
        ("numeric_precision_radix", number(radix)),
        ("numeric_scale", number(scale)),
        ("datetime_precision", number(fraction)),
        ("udt_catalog", name(database)),
        ("udt_schema", name("pg_catalog")),
        ("udt_name", name(ty.kind.name())),
        ("dtd_identifier", name(&(position + 1).to_string())),
        ("is_self_referencing", text("NO")),
        ("is_identity", text("NO")),
        ("identity_cycle", text("NO")),
        ("is_generated", text("NEVER")),
        ("is_updatable", text(updatable)),
    ])
}
