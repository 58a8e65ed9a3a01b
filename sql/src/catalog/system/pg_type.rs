//! `pg_type`: types.

use super::cell::*;
use super::{CatalogSource, Row};
use crate::func::proc_oid;
use crate::types::Category;
use crate::types::name::TYPES;

view! {
    PG_CATALOG "pg_type" 1247 { "oid" Oid, "typname" Name, "typnamespace" Oid, "typowner" Oid, "typlen" Int2, "typbyval" Bool, "typtype" InternalChar, "typcategory" InternalChar, "typispreferred" Bool, "typisdefined" Bool, "typdelim" InternalChar, "typrelid" Oid, "typsubscript" Regproc, "typelem" Oid, "typarray" Oid, "typinput" Regproc, "typoutput" Regproc, "typreceive" Regproc, "typsend" Regproc, "typmodin" Regproc, "typmodout" Regproc, "typanalyze" Regproc, "typalign" InternalChar, "typstorage" InternalChar, "typnotnull" Bool, "typbasetype" Oid, "typtypmod" Int4, "typndims" Int4, "typcollation" Oid, "typdefaultbin" PgNodeTree, "typdefault" Text, "typacl" AclitemArray }
}

fn rows(_: &dyn CatalogSource) -> Vec<Row> {
    let mut rows: Vec<Row> = TYPES
        .iter()
        .map(|info| {
            let pseudo = info.category == Category::Pseudo || info.name == "unknown";
            let array = info.name.starts_with('_');
            let support = |name: &str| oid(if array { proc_oid(name).unwrap_or(0) } else { 0 });
            VIEW.row(&[
                ("oid", oid(info.kind as u32)),
                ("typname", name(info.name)),
                ("typnamespace", oid(PG_CATALOG_OID)),
                ("typowner", oid(OWNER)),
                ("typlen", Datum::Int2(info.length)),
                ("typbyval", flag(by_value(info.kind))),
                ("typtype", letter(if pseudo { b'p' } else { b'b' })),
                ("typcategory", letter(info.category as u8)),
                ("typispreferred", flag(info.preferred)),
                ("typisdefined", flag(true)),
                ("typdelim", letter(b',')),
                ("typrelid", oid(0)),
                ("typsubscript", oid(0)),
                ("typelem", oid(info.element.map_or(0, |k| k as u32))),
                ("typarray", oid(info.array.map_or(0, |k| k as u32))),
                ("typinput", support("array_in")),
                ("typoutput", support("array_out")),
                ("typreceive", support("array_recv")),
                ("typsend", support("array_send")),
                ("typmodin", oid(0)),
                ("typmodout", oid(0)),
                ("typanalyze", oid(0)),
                ("typalign", letter(alignment(info.kind))),
                ("typstorage", letter(if info.length < 0 { b'x' } else { b'p' })),
                ("typnotnull", flag(false)),
                ("typbasetype", oid(0)),
                ("typtypmod", int4(-1)),
                ("typndims", int4(0)),
                ("typcollation", oid(collation(info.kind))),
            ])
        })
        .collect();
    rows.sort_by_key(|r| r[0].as_i64());
    rows
}
