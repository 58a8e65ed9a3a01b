//! Comparison operators of every ordered type.

use super::{Body, Builtin, Comparison, Kernel};
use crate::types::TypeKind::{self, *};
use crate::types::{Datum, compare};

macro_rules! one {
    ($name:expr, $left:ident, $right:ident, $comparison:ident, $symbol:literal) => {
        Builtin::new(
            $name,
            &[$left, $right],
            TypeKind::Bool,
            Body::Plain(|a| Ok(Datum::Bool(Comparison::$comparison.holds(compare(&a[0], &a[1], $left))))),
        )
        .operator($symbol)
        .kernel(Kernel::Compare(Comparison::$comparison))
    };
}

/// Operators of types: PostgreSQL's function names begin with one prefix for `=` and `<>`, with
/// another for the rest.
macro_rules! comparisons {
    ($($left:ident $right:ident $equal:literal $order:literal;)*) => {
        static COMPARISONS: &[Builtin] = &[$(
            one!(concat!($equal, "eq"), $left, $right, Eq, "="),
            one!(concat!($equal, "ne"), $left, $right, Ne, "<>"),
            one!(concat!($order, "lt"), $left, $right, Lt, "<"),
            one!(concat!($order, "le"), $left, $right, Le, "<="),
            one!(concat!($order, "gt"), $left, $right, Gt, ">"),
            one!(concat!($order, "ge"), $left, $right, Ge, ">="),
        )*];
    };
}

comparisons! {
    Bool Bool "bool" "bool";
    Int2 Int2 "int2" "int2";
    Int4 Int4 "int4" "int4";
    Int8 Int8 "int8" "int8";
    Int2 Int4 "int24" "int24";
    Int4 Int2 "int42" "int42";
    Int2 Int8 "int28" "int28";
    Int8 Int2 "int82" "int82";
    Int4 Int8 "int48" "int48";
    Int8 Int4 "int84" "int84";
    Float4 Float4 "float4" "float4";
    Float8 Float8 "float8" "float8";
    Numeric Numeric "numeric_" "numeric_";
    Text Text "text" "text_";
    Bpchar Bpchar "bpchar" "bpchar";
    Name Name "name" "name";
    Bytea Bytea "bytea" "bytea";
    InternalChar InternalChar "char" "char";
    Date Date "date_" "date_";
    Time Time "time_" "time_";
    Timestamp Timestamp "timestamp_" "timestamp_";
    TimestampTz TimestampTz "timestamptz_" "timestamptz_";
    Interval Interval "interval_" "interval_";
    Uuid Uuid "uuid_" "uuid_";
    Oid Oid "oid" "oid";
    OidVector OidVector "oidvector" "oidvector";
    AnyArray AnyArray "array_" "array_";
}

static OTHERS: &[Builtin] = &[
    Builtin::new(
        "float48eq",
        &[Float4, Float8],
        Bool,
        Body::Plain(|a| Ok(Datum::Bool(mixed(&a[0]) == mixed(&a[1])))),
    )
    .operator("="),
    Builtin::new(
        "float84eq",
        &[Float8, Float4],
        Bool,
        Body::Plain(|a| Ok(Datum::Bool(mixed(&a[0]) == mixed(&a[1])))),
    )
    .operator("="),
    Builtin::new(
        "xideq",
        &[Xid, Xid],
        Bool,
        Body::Plain(|a| Ok(Datum::Bool(compare(&a[0], &a[1], Xid).is_eq()))),
    )
    .operator("="),
    Builtin::new(
        "distinct",
        &[AnyElement, AnyElement],
        Bool,
        Body::Typed(|_, types, a| Ok(Datum::Bool(compare(&a[0], &a[1], types[0].kind).is_ne()))),
    )
    .sees_null()
    .operator("IS DISTINCT FROM"),
    Builtin::new(
        "not_distinct",
        &[AnyElement, AnyElement],
        Bool,
        Body::Typed(|_, types, a| Ok(Datum::Bool(compare(&a[0], &a[1], types[0].kind).is_eq()))),
    )
    .sees_null()
    .operator("IS NOT DISTINCT FROM"),
];

pub(super) static LISTS: &[&[Builtin]] = &[COMPARISONS, OTHERS];

/// A float of either width, NaN made equal to itself.
fn mixed(d: &Datum) -> u64 {
    let v = match *d {
        Datum::Float4(v) => v.into(),
        Datum::Float8(v) => v,
        _ => unreachable!("the operator is declared over floats"),
    };
    if v.is_nan() {
        f64::NAN.to_bits()
    } else if v == 0.0 {
        0
    } else {
        v.to_bits()
    }
}
