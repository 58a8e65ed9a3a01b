//! `pg_indexes`: indexes, readably.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_indexes" 12043 { "schemaname" Name, "tablename" Name, "indexname" Name, "tablespace" Name, "indexdef" Text }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let mut rows = Vec::new();
    for table in super::tables(source) {
        let schema = super::schema_name(source, table.schema);
        for index in table.indexes.iter().filter(|i| visible(&table, i)) {
            rows.push(VIEW.row(&[
                ("schemaname", name(&schema)),
                ("tablename", name(&table.name)),
                ("indexname", name(&index.name)),
                ("indexdef", text(&super::definition::index(source, &table, index))),
            ]));
        }
    }
    rows
}
