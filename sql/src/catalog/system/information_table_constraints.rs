//! `information_schema.table_constraints`: primary keys and unique constraints.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    INFORMATION_SCHEMA "table_constraints" 13411 { "constraint_catalog" Name, "constraint_schema" Name, "constraint_name" Name, "table_catalog" Name, "table_schema" Name, "table_name" Name, "constraint_type" Varchar, "is_deferrable" Varchar, "initially_deferred" Varchar, "enforced" Varchar, "nulls_distinct" Varchar }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let database = source.database();
    let mut rows = Vec::new();
    for table in super::tables(source) {
        let schema = super::schema_name(source, table.schema);
        for index in table.indexes.iter().filter(|i| i.primary_key || i.constraint) {
            rows.push(VIEW.row(&[
                ("constraint_catalog", name(&database)),
                ("constraint_schema", name(&schema)),
                ("constraint_name", name(&index.name)),
                ("table_catalog", name(&database)),
                ("table_schema", name(&schema)),
                ("table_name", name(&table.name)),
                ("constraint_type", text(if index.primary_key { "PRIMARY KEY" } else { "UNIQUE" })),
                ("is_deferrable", text("NO")),
                ("initially_deferred", text("NO")),
                ("enforced", text("YES")),
                ("nulls_distinct", if index.primary_key { Datum::Null } else { text("YES") }),
            ]));
        }
    }
    rows
}
