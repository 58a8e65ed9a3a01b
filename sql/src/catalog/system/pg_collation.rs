//! `pg_collation`: collations: bytewise order under each of its names.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_collation" 3456 { "oid" Oid, "collname" Name, "collnamespace" Oid, "collowner" Oid, "collprovider" InternalChar, "collisdeterministic" Bool, "collencoding" Int4, "collcollate" Text, "collctype" Text, "colliculocale" Text, "collversion" Text }
}

fn rows(_: &dyn CatalogSource) -> Vec<Row> {
    let collation = |id: u32, collation: &str, provider: u8, locale: Option<&str>| {
        VIEW.row(&[
            ("oid", oid(id)),
            ("collname", name(collation)),
            ("collnamespace", oid(PG_CATALOG_OID)),
            ("collowner", oid(OWNER)),
            ("collprovider", letter(provider)),
            ("collisdeterministic", flag(true)),
            ("collencoding", int4(-1)),
            ("collcollate", locale.map_or(Datum::Null, text)),
            ("collctype", locale.map_or(Datum::Null, text)),
        ])
    };
    vec![
        collation(DEFAULT_COLLATION, "default", b'd', None),
        collation(C_COLLATION, "C", b'c', Some("C")),
        collation(951, "POSIX", b'c', Some("POSIX")),
    ]
}
