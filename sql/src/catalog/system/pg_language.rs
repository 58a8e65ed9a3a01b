//! `pg_language`: languages of functions: the builtins' one.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_language" 2612 { "oid" Oid, "lanname" Name, "lanowner" Oid, "lanispl" Bool, "lanpltrusted" Bool, "lanplcallfoid" Oid, "laninline" Oid, "lanvalidator" Oid, "lanacl" AclitemArray }
}

fn rows(_: &dyn CatalogSource) -> Vec<Row> {
    [(12, "internal", false), (14, "sql", true)]
        .into_iter()
        .map(|(id, language, trusted)| {
            VIEW.row(&[
                ("oid", oid(id)),
                ("lanname", name(language)),
                ("lanowner", oid(OWNER)),
                ("lanispl", flag(false)),
                ("lanpltrusted", flag(trusted)),
                ("lanplcallfoid", oid(0)),
                ("laninline", oid(0)),
                ("lanvalidator", oid(0)),
            ])
        })
        .collect()
}
