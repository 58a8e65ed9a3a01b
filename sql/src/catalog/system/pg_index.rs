//! `pg_index`: indexes.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_index" 2610 { "indexrelid" Oid, "indrelid" Oid, "indnatts" Int2, "indnkeyatts" Int2, "indisunique" Bool, "indnullsnotdistinct" Bool, "indisprimary" Bool, "indisexclusion" Bool, "indimmediate" Bool, "indisclustered" Bool, "indisvalid" Bool, "indcheckxmin" Bool, "indisready" Bool, "indislive" Bool, "indisreplident" Bool, "indkey" Int2Vector, "indcollation" OidVector, "indclass" OidVector, "indoption" Int2Vector, "indexprs" PgNodeTree, "indpred" PgNodeTree }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let mut rows = Vec::new();
    for table in source.relations() {
        for index in table.indexes.iter().filter(|i| visible(&table, i)) {
            let vector = |kind, items| Datum::array(kind, items);
            let columns = || index.columns.iter().map(|c| (c, &table.columns[c.column]));
            let option =
                |c: &IndexColumn| Datum::Int2(i16::from(c.descending) | i16::from(c.nulls_first) << 1);
            rows.push(VIEW.row(&[
                ("indexrelid", oid(index.id)),
                ("indrelid", oid(table.id)),
                ("indnatts", int2(index.columns.len())),
                ("indnkeyatts", int2(index.columns.len())),
                ("indisunique", flag(index.unique)),
                ("indnullsnotdistinct", flag(false)),
                ("indisprimary", flag(index.primary_key)),
                ("indisexclusion", flag(false)),
                ("indimmediate", flag(true)),
                ("indisclustered", flag(false)),
                ("indisvalid", flag(true)),
                ("indcheckxmin", flag(false)),
                ("indisready", flag(true)),
                ("indislive", flag(true)),
                ("indisreplident", flag(false)),
                ("indkey", vector(Int2, columns().map(|(_, c)| Datum::Int2(c.attnum)).collect())),
                ("indcollation", vector(Oid, columns().map(|(_, c)| oid(collation(c.ty.kind))).collect())),
                ("indclass", vector(Oid, columns().map(|_| oid(0)).collect())),
                ("indoption", vector(Int2, columns().map(|(i, _)| option(i)).collect())),
            ]));
        }
    }
    rows
}
