//! `pg_sequence`: parameters of sequences.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_sequence" 2224 { "seqrelid" Oid, "seqtypid" Oid, "seqstart" Int8, "seqincrement" Int8, "seqmax" Int8, "seqmin" Int8, "seqcache" Int8, "seqcycle" Bool }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    super::sequences(source)
        .into_iter()
        .map(|(table, s)| {
            VIEW.row(&[
                ("seqrelid", oid(table.id)),
                ("seqtypid", oid(Int8 as u32)),
                ("seqstart", Datum::Int8(s.start)),
                ("seqincrement", Datum::Int8(s.increment)),
                ("seqmax", Datum::Int8(s.max)),
                ("seqmin", Datum::Int8(s.min)),
                ("seqcache", Datum::Int8(1)),
                ("seqcycle", flag(s.cycle)),
            ])
        })
        .collect()
}
