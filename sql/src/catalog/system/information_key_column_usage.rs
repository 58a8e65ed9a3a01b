//! `information_schema.key_column_usage`: columns of primary keys and unique constraints.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    INFORMATION_SCHEMA "key_column_usage" 13329 { "constraint_catalog" Name, "constraint_schema" Name, "constraint_name" Name, "table_catalog" Name, "table_schema" Name, "table_name" Name, "column_name" Name, "ordinal_position" Int4, "position_in_unique_constraint" Int4 }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let database = source.database();
    let mut rows = Vec::new();
    for table in super::tables(source) {
        let schema = super::schema_name(source, table.schema);
        for index in table.indexes.iter().filter(|i| i.primary_key || i.constraint) {
            for (position, column) in index.columns.iter().enumerate() {
                rows.push(VIEW.row(&[
                    ("constraint_catalog", name(&database)),
                    ("constraint_schema", name(&schema)),
                    ("constraint_name", name(&index.name)),
                    ("table_catalog", name(&database)),
                    ("table_schema", name(&schema)),
                    ("table_name", name(&table.name)),
                    ("column_name", name(&table.columns[column.column].name)),
                    ("ordinal_position", int4(position as i32 + 1)),
                ]));
            }
        }
    }
    rows
}
