//! `pg_stats`: statistics of columns, as ANALYZE left them.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_stats" 12053 { "schemaname" Name, "tablename" Name, "attname" Name, "inherited" Bool, "null_frac" Float4, "avg_width" Int4, "n_distinct" Float4, "most_common_vals" TextArray, "most_common_freqs" Float4Array, "histogram_bounds" TextArray, "correlation" Float4, "most_common_elems" TextArray, "most_common_elem_freqs" Float4Array, "elem_count_histogram" Float4Array }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let mut rows = Vec::new();
    for table in super::tables(source) {
        let Some(stats) = &table.stats else { continue };
        let schema = super::schema_name(source, table.schema);
        for (column, s) in table.columns.iter().zip(&stats.columns).filter(|(c, _)| !c.hidden) {
            let bounds = s.histogram.iter().map(|b| text(b)).collect::<Vec<_>>();
            rows.push(VIEW.row(&[
                ("schemaname", name(&schema)),
                ("tablename", name(&table.name)),
                ("attname", name(&column.name)),
                ("inherited", flag(false)),
                ("null_frac", float4(s.null_fraction as f32)),
                ("n_distinct", float4(s.distinct as f32)),
                (
                    "histogram_bounds",
                    if bounds.is_empty() { Datum::Null } else { Datum::array(Text, bounds) },
                ),
            ]));
        }
    }
    rows
}
