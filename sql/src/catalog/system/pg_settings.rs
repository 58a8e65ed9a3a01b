//! `pg_settings`: the session's settings.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_settings" 12104 { "name" Text, "setting" Text, "unit" Text, "category" Text, "short_desc" Text, "extra_desc" Text, "context" Text, "vartype" Text, "source" Text, "min_val" Text, "max_val" Text, "enumvals" TextArray, "boot_val" Text, "reset_val" Text, "sourcefile" Text, "sourceline" Int4, "pending_restart" Bool }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let settings = source.settings();
    settings
        .iter()
        .map(|s| {
            VIEW.row(&[
                ("name", text(&s.name)),
                ("setting", text(&s.value)),
                ("category", text("Cairn")),
                ("short_desc", text(&s.description)),
                ("context", text("user")),
                ("vartype", text("string")),
                ("source", text(if s.value == s.reset { "default" } else { "session" })),
                ("boot_val", text(&s.reset)),
                ("reset_val", text(&s.reset)),
                ("pending_restart", flag(false)),
            ])
        })
        .collect()
}
