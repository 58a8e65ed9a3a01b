//! `pg_roles`: roles.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_roles" 12000 { "rolname" Name, "rolsuper" Bool, "rolinherit" Bool, "rolcreaterole" Bool, "rolcreatedb" Bool, "rolcanlogin" Bool, "rolreplication" Bool, "rolconnlimit" Int4, "rolpassword" Text, "rolvaliduntil" TimestampTz, "rolbypassrls" Bool, "rolconfig" TextArray, "oid" Oid }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let roles = source.roles();
    roles
        .iter()
        .map(|r| {
            VIEW.row(&[
                ("oid", oid(r.oid)),
                ("rolname", name(&r.name)),
                ("rolsuper", flag(true)),
                ("rolinherit", flag(true)),
                ("rolcreaterole", flag(true)),
                ("rolcreatedb", flag(true)),
                ("rolcanlogin", flag(true)),
                ("rolreplication", flag(true)),
                ("rolconnlimit", int4(-1)),
                ("rolbypassrls", flag(true)),
                ("rolpassword", text("********")),
            ])
        })
        .collect()
}
