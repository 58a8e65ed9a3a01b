//! `pg_namespace`: schemas.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_namespace" 2615 { "oid" Oid, "nspname" Name, "nspowner" Oid, "nspacl" AclitemArray }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let all = super::schemas(source);
    all.iter()
        .map(|s| VIEW.row(&[("oid", oid(s.oid)), ("nspname", name(&s.name)), ("nspowner", oid(OWNER))]))
        .collect()
}
