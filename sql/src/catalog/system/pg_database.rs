//! `pg_database`: the database.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_database" 1262 { "oid" Oid, "datname" Name, "datdba" Oid, "encoding" Int4, "datlocprovider" InternalChar, "datistemplate" Bool, "datallowconn" Bool, "datconnlimit" Int4, "datfrozenxid" Xid, "datminmxid" Xid, "dattablespace" Oid, "datcollate" Text, "datctype" Text, "daticulocale" Text, "datcollversion" Text, "datacl" AclitemArray }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    vec![VIEW.row(&[
        ("oid", oid(POSTGRES_DATABASE)),
        ("datname", name(&source.database())),
        ("datdba", oid(OWNER)),
        ("encoding", int4(UTF8)),
        ("datlocprovider", letter(b'c')),
        ("datistemplate", flag(false)),
        ("datallowconn", flag(true)),
        ("datconnlimit", int4(-1)),
        ("datfrozenxid", oid(0)),
        ("datminmxid", oid(0)),
        ("dattablespace", oid(DEFAULT_TABLESPACE)),
        ("datcollate", text("C")),
        ("datctype", text("C")),
    ])]
}
