//! `information_schema.schemata`: schemas.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    INFORMATION_SCHEMA "schemata" 13382 { "catalog_name" Name, "schema_name" Name, "schema_owner" Name, "default_character_set_catalog" Name, "default_character_set_schema" Name, "default_character_set_name" Name, "sql_path" Varchar }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let (database, owner) = (source.database(), super::owner_name(source));
    let all = super::schemas(source);
    all.iter()
        .map(|s| {
            VIEW.row(&[
                ("catalog_name", name(&database)),
                ("schema_name", name(&s.name)),
                ("schema_owner", name(&owner)),
            ])
        })
        .collect()
}
