//! `pg_cast`: casts.

use super::cell::*;
use super::{CatalogSource, Row};
use crate::func::cast::{CastContext, CastMethod, all_casts};

view! {
    PG_CATALOG "pg_cast" 2605 { "oid" Oid, "castsource" Oid, "casttarget" Oid, "castfunc" Oid, "castcontext" InternalChar, "castmethod" InternalChar }
}

fn rows(_: &dyn CatalogSource) -> Vec<Row> {
    all_casts()
        .enumerate()
        .map(|(i, (from, to, cast))| {
            let context = match cast.context {
                CastContext::Implicit => b'i',
                CastContext::Assignment => b'a',
                CastContext::Explicit => b'e',
            };
            let method = if matches!(cast.method, CastMethod::Relabel) { b'b' } else { b'f' };
            VIEW.row(&[
                ("oid", oid(CAST_OIDS + i as u32)),
                ("castsource", oid(from as u32)),
                ("casttarget", oid(to as u32)),
                ("castfunc", oid(0)),
                ("castcontext", letter(context)),
                ("castmethod", letter(method)),
            ])
        })
        .collect()
}
