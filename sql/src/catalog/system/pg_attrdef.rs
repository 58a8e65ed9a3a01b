//! `pg_attrdef`: defaults of columns. `adbin` holds the SQL text.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_attrdef" 2604 { "oid" Oid, "adrelid" Oid, "adnum" Int2, "adbin" PgNodeTree }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let mut rows = Vec::new();
    for table in source.relations() {
        for column in table.columns.iter().filter(|c| !c.hidden) {
            let Some(default) = &column.default else { continue };
            rows.push(VIEW.row(&[
                ("oid", oid(DEFAULT_OIDS + rows.len() as u32)),
                ("adrelid", oid(table.id)),
                ("adnum", Datum::Int2(column.attnum)),
                ("adbin", text(default)),
            ]));
        }
    }
    rows
}
