//! `pg_sequences`: sequences, readably.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_sequences" 12048 { "schemaname" Name, "sequencename" Name, "sequenceowner" Name, "data_type" Regtype, "start_value" Int8, "min_value" Int8, "max_value" Int8, "increment_by" Int8, "cycle" Bool, "cache_size" Int8, "last_value" Int8 }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let owner = super::owner_name(source);
    super::sequences(source)
        .into_iter()
        .map(|(table, s)| {
            VIEW.row(&[
                ("schemaname", name(&super::schema_name(source, table.schema))),
                ("sequencename", name(&table.name)),
                ("sequenceowner", name(&owner)),
                ("data_type", oid(Int8 as u32)),
                ("start_value", Datum::Int8(s.start)),
                ("min_value", Datum::Int8(s.min)),
                ("max_value", Datum::Int8(s.max)),
                ("increment_by", Datum::Int8(s.increment)),
                ("cycle", flag(s.cycle)),
                ("cache_size", Datum::Int8(1)),
                ("last_value", s.last_value.map_or(Datum::Null, Datum::Int8)),
            ])
        })
        .collect()
}
