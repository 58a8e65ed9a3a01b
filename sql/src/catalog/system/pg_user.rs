//! `pg_user`: roles that can log in.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_user" 12014 { "usename" Name, "usesysid" Oid, "usecreatedb" Bool, "usesuper" Bool, "userepl" Bool, "usebypassrls" Bool, "passwd" Text, "valuntil" TimestampTz, "useconfig" TextArray }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let roles = source.roles();
    roles
        .iter()
        .map(|r| {
            VIEW.row(&[
                ("usename", name(&r.name)),
                ("usesysid", oid(r.oid)),
                ("usecreatedb", flag(true)),
                ("usesuper", flag(true)),
                ("userepl", flag(true)),
                ("usebypassrls", flag(true)),
                ("passwd", text("********")),
            ])
        })
        .collect()
}
