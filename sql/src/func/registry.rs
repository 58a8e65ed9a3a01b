//! Look-up of builtins by name and symbol.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Builtin, catalog, comparison, datetime, math, session, string};

/// The lists of builtins that have names.
static LISTS: &[&[&[Builtin]]] =
    &[comparison::LISTS, math::LISTS, string::LISTS, datetime::LISTS, session::LISTS, catalog::LISTS];

/// Functions that the catalog names but that are not called by SQL.
static SUPPORT: &[&str] =
    &["array_in", "array_out", "array_recv", "array_send", "heap_tableam_handler", "bthandler"];

const FIRST_OID: u32 = 8_000;

static ORDERED: LazyLock<Vec<&'static Builtin>> =
    LazyLock::new(|| LISTS.iter().flat_map(|lists| lists.iter()).flat_map(|list| list.iter()).collect());

static BY_NAME: LazyLock<BTreeMap<&'static str, Vec<&'static Builtin>>> = LazyLock::new(|| {
    let mut map: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for builtin in ORDERED.iter().copied() {
        map.entry(builtin.name).or_default().push(builtin);
    }
    map
});

static BY_SYMBOL: LazyLock<BTreeMap<&'static str, Vec<&'static Builtin>>> = LazyLock::new(|| {
    let mut map: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for builtin in ORDERED.iter().copied().filter(|b| !b.symbol.is_empty()) {
        map.entry(builtin.symbol).or_default().push(builtin);
    }
    map
});

/// All functions of a name, in a fixed order.
pub fn lookup_function(name: &str) -> &'static [&'static Builtin] {
    BY_NAME.get(name).map_or(&[], Vec::as_slice)
}

/// All operators of a symbol: two arguments, or one for a prefix operator.
pub fn lookup_operator(symbol: &str) -> &'static [&'static Builtin] {
    let symbol = if symbol == "!=" { "<>" } else { symbol };
    BY_SYMBOL.get(symbol).map_or(&[], Vec::as_slice)
}

/// All functions with the OIDs that the catalog gives them.
pub fn all_functions() -> impl Iterator<Item = (u32, &'static Builtin)> {
    ORDERED.iter().enumerate().map(|(i, b)| (FIRST_OID + i as u32, *b))
}

/// A function's name by OID.
pub fn proc_name(oid: u32) -> Option<&'static str> {
    let index = oid.checked_sub(FIRST_OID)? as usize;
    match ORDERED.get(index) {
        Some(builtin) => Some(builtin.name),
        None => SUPPORT.get(index - ORDERED.len()).copied(),
    }
}

/// The OID of the first function of a name.
pub fn proc_oid(name: &str) -> Option<u32> {
    let index = ORDERED
        .iter()
        .position(|b| b.name == name)
        .or_else(|| SUPPORT.iter().position(|n| *n == name).map(|i| i + ORDERED.len()))?;
    Some(FIRST_OID + index as u32)
}
