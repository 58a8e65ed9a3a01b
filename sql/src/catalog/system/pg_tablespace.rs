//! `pg_tablespace`: tablespaces: the names that clients expect.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_tablespace" 1213 { "oid" Oid, "spcname" Name, "spcowner" Oid, "spcacl" AclitemArray, "spcoptions" TextArray }
}

fn rows(_: &dyn CatalogSource) -> Vec<Row> {
    [(DEFAULT_TABLESPACE, "pg_default"), (1664, "pg_global")]
        .into_iter()
        .map(|(id, space)| VIEW.row(&[("oid", oid(id)), ("spcname", name(space)), ("spcowner", oid(OWNER))]))
        .collect()
}
