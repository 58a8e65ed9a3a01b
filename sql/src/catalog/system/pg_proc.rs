//! `pg_proc`: the builtin functions and aggregates.

use super::cell::*;
use super::{CatalogSource, Row};
use crate::func::{Volatility, aggregate::all_aggregates, all_functions};

view! {
    PG_CATALOG "pg_proc" 1255 { "oid" Oid, "proname" Name, "pronamespace" Oid, "proowner" Oid, "prolang" Oid, "procost" Float4, "prorows" Float4, "provariadic" Oid, "prosupport" Regproc, "prokind" InternalChar, "prosecdef" Bool, "proleakproof" Bool, "proisstrict" Bool, "proretset" Bool, "provolatile" InternalChar, "proparallel" InternalChar, "pronargs" Int2, "pronargdefaults" Int2, "prorettype" Oid, "proargtypes" OidVector, "proallargtypes" OidArray, "proargmodes" CharArray, "proargnames" TextArray, "proargdefaults" PgNodeTree, "protrftypes" OidArray, "prosrc" Text, "probin" Text, "prosqlbody" PgNodeTree, "proconfig" TextArray, "proacl" AclitemArray }
}

const INTERNAL_LANGUAGE: u32 = 12;

fn rows(_: &dyn CatalogSource) -> Vec<Row> {
    let functions = all_functions().map(|(id, f)| {
        let volatility = match f.volatility {
            Volatility::Immutable => b'i',
            Volatility::Stable => b's',
            Volatility::Volatile => b'v',
        };
        let variadic = if f.variadic { f.args.last().map_or(0, |k| *k as u32) } else { 0 };
        row(id, f.name, b'f', f.args, f.result, f.strict, volatility, variadic)
    });
    let aggregates = all_aggregates()
        .enumerate()
        .map(|(i, a)| row(AGGREGATE_OIDS + i as u32, a.name, b'a', a.args, a.result, false, b'i', 0));
    functions.chain(aggregates).collect()
}

#[expect(clippy::too_many_arguments, reason = "the columns that vary")]
fn row(
    id: u32,
    function: &str,
    kind: u8,
    args: &[TypeKind],
    result: TypeKind,
    strict: bool,
    volatility: u8,
    variadic: u32,
) -> Row {
    VIEW.row(&[
        ("oid", oid(id)),
        ("proname", name(function)),
        ("pronamespace", oid(PG_CATALOG_OID)),
        ("proowner", oid(OWNER)),
        ("prolang", oid(INTERNAL_LANGUAGE)),
        ("procost", float4(1.0)),
        ("prorows", float4(0.0)),
        ("provariadic", oid(variadic)),
        ("prosupport", oid(0)),
        ("prokind", letter(kind)),
        ("prosecdef", flag(false)),
        ("proleakproof", flag(false)),
        ("proisstrict", flag(strict)),
        ("proretset", flag(false)),
        ("provolatile", letter(volatility)),
        ("proparallel", letter(b's')),
        ("pronargs", int2(args.len())),
        ("pronargdefaults", int2(0)),
        ("prorettype", oid(result as u32)),
        ("proargtypes", Datum::array(Oid, args.iter().map(|k| oid(*k as u32)).collect())),
        ("prosrc", text(function)),
    ])
}
