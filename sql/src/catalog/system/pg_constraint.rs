//! `pg_constraint`: primary keys and unique constraints.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_constraint" 2606 { "oid" Oid, "conname" Name, "connamespace" Oid, "contype" InternalChar, "condeferrable" Bool, "condeferred" Bool, "convalidated" Bool, "conrelid" Oid, "contypid" Oid, "conindid" Oid, "conparentid" Oid, "confrelid" Oid, "confupdtype" InternalChar, "confdeltype" InternalChar, "confmatchtype" InternalChar, "conislocal" Bool, "coninhcount" Int4, "connoinherit" Bool, "conkey" Int2Array, "confkey" Int2Array, "conpfeqop" OidArray, "conppeqop" OidArray, "conffeqop" OidArray, "confdelsetcols" Int2Array, "conexclop" OidArray, "conbin" PgNodeTree }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let mut rows = Vec::new();
    for table in source.relations() {
        for index in table.indexes.iter().filter(|i| i.primary_key || i.constraint) {
            let keys = index.columns.iter().map(|c| Datum::Int2(table.columns[c.column].attnum)).collect();
            rows.push(VIEW.row(&[
                ("oid", oid(constraint_oid(index.id))),
                ("conname", name(&index.name)),
                ("connamespace", oid(table.schema)),
                ("contype", letter(if index.primary_key { b'p' } else { b'u' })),
                ("condeferrable", flag(false)),
                ("condeferred", flag(false)),
                ("convalidated", flag(true)),
                ("conrelid", oid(table.id)),
                ("contypid", oid(0)),
                ("conindid", oid(index.id)),
                ("conparentid", oid(0)),
                ("confrelid", oid(0)),
                ("confupdtype", letter(b' ')),
                ("confdeltype", letter(b' ')),
                ("confmatchtype", letter(b' ')),
                ("conislocal", flag(true)),
                ("coninhcount", int4(0)),
                ("connoinherit", flag(true)),
                ("conkey", Datum::array(Int2, keys)),
            ]));
        }
    }
    rows
}
