//! `pg_operator`: the builtin operators.

use super::cell::*;
use super::{CatalogSource, Row};
use crate::func::{Builtin, Comparison, all_functions};

view! {
    PG_CATALOG "pg_operator" 2617 { "oid" Oid, "oprname" Name, "oprnamespace" Oid, "oprowner" Oid, "oprkind" InternalChar, "oprcanmerge" Bool, "oprcanhash" Bool, "oprleft" Oid, "oprright" Oid, "oprresult" Oid, "oprcom" Oid, "oprnegate" Oid, "oprcode" Regproc, "oprrest" Regproc, "oprjoin" Regproc }
}

fn rows(_: &dyn CatalogSource) -> Vec<Row> {
    // An operator's OID is its function's: both are one builtin.
    let operators: Vec<(u32, &'static Builtin)> = all_functions()
        .filter(|(_, b)| {
            !b.symbol.is_empty() && !b.symbol.starts_with(|c: char| c.is_alphabetic()) && b.symbol != "[]"
        })
        .collect();
    let oid_of = |other: Option<&'static Builtin>| {
        let found = other.and_then(|o| operators.iter().find(|(_, b)| std::ptr::eq(*b, o)));
        oid(found.map_or(0, |(id, _)| *id))
    };
    operators
        .iter()
        .map(|(id, b)| {
            let (left, right) = match b.args {
                [right] => (0, *right as u32),
                [left, right] => (*left as u32, *right as u32),
                _ => (0, 0),
            };
            let equality = b.comparison() == Some(Comparison::Eq);
            VIEW.row(&[
                ("oid", oid(*id)),
                ("oprname", name(b.symbol)),
                ("oprnamespace", oid(PG_CATALOG_OID)),
                ("oprowner", oid(OWNER)),
                ("oprkind", letter(if left == 0 { b'l' } else { b'b' })),
                ("oprcanmerge", flag(equality)),
                ("oprcanhash", flag(equality)),
                ("oprleft", oid(left)),
                ("oprright", oid(right)),
                ("oprresult", oid(b.result as u32)),
                ("oprcom", oid_of(b.commutator())),
                ("oprnegate", oid_of(b.negator())),
                ("oprcode", oid(*id)),
                ("oprrest", oid(0)),
                ("oprjoin", oid(0)),
            ])
        })
        .collect()
}
