//! `pg_am`: access methods, under the names that clients expect.

use super::cell::*;
use super::{CatalogSource, Row};
use crate::func::proc_oid;

view! {
    PG_CATALOG "pg_am" 2601 { "oid" Oid, "amname" Name, "amhandler" Regproc, "amtype" InternalChar }
}

fn rows(_: &dyn CatalogSource) -> Vec<Row> {
    [(HEAP, "heap", "heap_tableam_handler", b't'), (BTREE, "btree", "bthandler", b'i')]
        .into_iter()
        .map(|(id, am, handler, kind)| {
            VIEW.row(&[
                ("oid", oid(id)),
                ("amname", name(am)),
                ("amhandler", oid(proc_oid(handler).unwrap_or(0))),
                ("amtype", letter(kind)),
            ])
        })
        .collect()
}
