//! `pg_authid`: roles.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_authid" 1260 { "oid" Oid, "rolname" Name, "rolsuper" Bool, "rolinherit" Bool, "rolcreaterole" Bool, "rolcreatedb" Bool, "rolcanlogin" Bool, "rolreplication" Bool, "rolbypassrls" Bool, "rolconnlimit" Int4, "rolpassword" Text, "rolvaliduntil" TimestampTz }
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
            ])
        })
        .collect()
}
