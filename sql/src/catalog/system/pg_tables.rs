//! `pg_tables`: tables, readably.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_tables" 12033 { "schemaname" Name, "tablename" Name, "tableowner" Name, "tablespace" Name, "hasindexes" Bool, "hasrules" Bool, "hastriggers" Bool, "rowsecurity" Bool }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let owner = super::owner_name(source);
    let tables = super::tables(source);
    tables
        .iter()
        .map(|t| {
            VIEW.row(&[
                ("schemaname", name(&super::schema_name(source, t.schema))),
                ("tablename", name(&t.name)),
                ("tableowner", name(&owner)),
                ("hasindexes", flag(t.indexes.iter().any(|i| visible(t, i)))),
                ("hasrules", flag(false)),
                ("hastriggers", flag(false)),
                ("rowsecurity", flag(false)),
            ])
        })
        .collect()
}
