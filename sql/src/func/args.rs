//! Access to arguments by their representation. The binder coerces arguments to the declared types,
//! so another representation is a broken invariant.

use std::sync::Arc;

use crate::types::numeric::Numeric;
use crate::types::{Array, Datum, Interval};

#[cold]
fn mismatch(wanted: &str, found: &Datum) -> ! {
    panic!("argument of {wanted} has another representation: {found:?}")
}

macro_rules! accessors {
    ($($name:ident $variant:ident $ty:ty;)*) => {
        $(pub(super) fn $name(d: &Datum) -> $ty {
            match d {
                Datum::$variant(v) => *v,
                _ => mismatch(stringify!($name), d),
            }
        })*
    };
}

accessors! {
    boolean Bool bool;
    int2 Int2 i16;
    int4 Int4 i32;
    int8 Int8 i64;
    float4 Float4 f32;
    float8 Float8 f64;
    date Date i32;
    time Time i64;
    timestamp Timestamp i64;
    interval Interval Interval;
    oid Oid u32;
}

pub(super) fn text(d: &Datum) -> &str {
    match d {
        Datum::Text(v) => v,
        _ => mismatch("text", d),
    }
}

pub(super) fn bytea(d: &Datum) -> &[u8] {
    match d {
        Datum::Bytea(v) => v,
        _ => mismatch("bytea", d),
    }
}

pub(super) fn numeric(d: &Datum) -> &Numeric {
    match d {
        Datum::Numeric(v) => v,
        _ => mismatch("numeric", d),
    }
}

pub(super) fn array(d: &Datum) -> &Arc<Array> {
    match d {
        Datum::Array(v) => v,
        _ => mismatch("array", d),
    }
}
