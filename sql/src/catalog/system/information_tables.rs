//! `information_schema.tables`: tables and system views.

use super::cell::*;
use super::relation::{Relation, relations};
use super::{CatalogSource, Row};

view! {
    INFORMATION_SCHEMA "tables" 13425 { "table_catalog" Name, "table_schema" Name, "table_name" Name, "table_type" Varchar, "self_referencing_column_name" Name, "reference_generation" Varchar, "user_defined_type_catalog" Name, "user_defined_type_schema" Name, "user_defined_type_name" Name, "is_insertable_into" Varchar, "is_typed" Varchar, "commit_action" Varchar }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let database = source.database();
    let mut rows = Vec::new();
    for relation in relations(source) {
        let kind = match relation {
            Relation::Table(_) => "BASE TABLE",
            Relation::View(_) => "VIEW",
            _ => continue,
        };
        let insertable = if matches!(relation, Relation::Table(_)) { "YES" } else { "NO" };
        rows.push(VIEW.row(&[
            ("table_catalog", name(&database)),
            ("table_schema", name(&super::schema_name(source, relation.schema()))),
            ("table_name", name(relation.name())),
            ("table_type", text(kind)),
            ("is_insertable_into", text(insertable)),
            ("is_typed", text("NO")),
        ]));
    }
    rows
}
