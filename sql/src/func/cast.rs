//! Casts: which types convert to which, by what, and in which contexts.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::args::*;
use super::math::{float_overflow, out_of_range};
use super::{Body, Builtin, Kernel};
use crate::types::TypeKind::{self, *};
use crate::types::name::TYPES;
use crate::types::numeric::Numeric as Num;
use crate::types::{Category, Datum, Type, datetime, modifier, order, parse_text, text_of};
use crate::{Result, SqlError, SqlState};

/// The least explicit context in which a cast applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// Anywhere.
    Implicit,
    /// When storing into a column, and explicitly.
    Assignment,
    /// Only where written.
    Explicit,
}

/// How a cast is done.
#[derive(Clone, Copy, Debug)]
pub enum CastMethod {
    /// The representation is the same: nothing to do.
    Relabel,
    /// By a builtin of one argument.
    Call(&'static Builtin),
}

/// A cast between two types.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// Where it applies.
    pub context: CastContext,
    /// How it is done.
    pub method: CastMethod,
}

/// The cast from one type to another: one of the catalog's, or through text (to string types in
/// assignments, from them explicitly), or element by element between arrays.
pub fn cast(from: TypeKind, to: TypeKind) -> Option<Cast> {
    if from == to {
        return Some(Cast { context: CastContext::Implicit, method: CastMethod::Relabel });
    }
    if let Some((from_element, to_element)) = from.element().zip(to.element())
        && !CASTS.contains_key(&(from, to))
    {
        let element = cast(from_element, to_element)?;
        return Some(match element.method {
            CastMethod::Relabel => Cast { context: element.context, method: CastMethod::Relabel },
            CastMethod::Call(_) => {
                Cast { context: element.context, method: CastMethod::Call(TO_ARRAY.get(&to)?) }
            }
        });
    }
    if let Some(cast) = CASTS.get(&(from, to)) {
        return Some(*cast);
    }
    // Through the text form.
    let usable = |kind: TypeKind| !matches!(kind.category(), Category::Pseudo | Category::Unknown);
    if !usable(from) || !usable(to) {
        return None;
    }
    if to.category() == Category::String {
        let builtin = OUTPUT.get(&to)?;
        return Some(Cast { context: CastContext::Assignment, method: CastMethod::Call(builtin) });
    }
    if from.category() == Category::String {
        let builtin = INPUT.get(&to)?;
        return Some(Cast { context: CastContext::Explicit, method: CastMethod::Call(builtin) });
    }
    None
}

/// All casts of the catalog, for `pg_cast`.
pub fn all_casts() -> impl Iterator<Item = (TypeKind, TypeKind, Cast)> {
    CASTS.iter().map(|((from, to), cast)| (*from, *to, *cast))
}

/// The builtin that applies a type's modifier: `(value, modifier int4, explicit bool)`. `None`: the
/// type's values do not depend on its modifier.
pub fn length_coercion(kind: TypeKind) -> Option<&'static Builtin> {
    let kind = kind.element().filter(|_| kind.is_array()).unwrap_or(kind);
    LENGTH.iter().find(|b| b.result == kind)
}

macro_rules! length {
    ($($kind:ident)*) => {
        static LENGTH: &[Builtin] = &[$(
            Builtin::new(stringify!($kind), &[$kind, Int4, Bool], $kind, Body::Plain(|a| {
                let ty = |kind| Type { kind, modifier: int4(&a[1]) };
                let ty = match &a[0] {
                    // Arrays pass through the same builtin, element by element.
                    Datum::Array(_) => ty($kind.array().expect("these types have arrays")),
                    _ => ty($kind),
                };
                modifier::coerce(a[0].clone(), ty, boolean(&a[2]))
            })),
        )*];
    };
}

length! { Varchar Bpchar Numeric Time Timestamp TimestampTz Interval }

/// Reading each type from text, and writing each string type, by result.
static INPUT: LazyLock<BTreeMap<TypeKind, &'static Builtin>> =
    LazyLock::new(|| INPUTS.iter().map(|b| (b.result, b)).collect());
static OUTPUT: LazyLock<BTreeMap<TypeKind, &'static Builtin>> =
    LazyLock::new(|| OUTPUTS.iter().map(|b| (b.result, b)).collect());
static TO_ARRAY: LazyLock<BTreeMap<TypeKind, &'static Builtin>> =
    LazyLock::new(|| ARRAYS.iter().map(|b| (b.result, b)).collect());

macro_rules! through_text {
    ($($kind:ident)*) => {
        static INPUTS: &[Builtin] = &[$(
            Builtin::new(concat!("from_text_to_", stringify!($kind)), &[Text], $kind, Body::Context(|c, a| {
                parse_text(text(&a[0]), Type::new($kind), &c.text)
            })).stable(),
        )*];
    };
}

through_text! {
    Bool Bytea InternalChar Int8 Int2 Int2Vector Int4 Regproc Oid OidVector Json Float4 Float8 Date Time
    Timestamp TimestampTz Interval Numeric Regclass Regtype Regnamespace Regrole Uuid Xid
    BoolArray ByteaArray CharArray NameArray Int2Array Int4Array TextArray BpcharArray VarcharArray
    Int8Array Float4Array Float8Array OidArray TimestampArray DateArray TimeArray TimestampTzArray
    IntervalArray NumericArray RegclassArray RegtypeArray JsonArray UuidArray
}

macro_rules! to_text {
    ($($kind:ident)*) => {
        static OUTPUTS: &[Builtin] = &[$(
            Builtin::new(concat!("to_text_as_", stringify!($kind)), &[Any], $kind, Body::Typed(|c, types, a| {
                Ok(text_of(&a[0], types[0], &c.text).map_or(Datum::Null, Datum::Text))
            })).stable(),
        )*];
    };
}

to_text! { Text Varchar Bpchar Name }

macro_rules! arrays {
    ($($kind:ident)*) => {
        static ARRAYS: &[Builtin] = &[$(
            Builtin::new(concat!("to_", stringify!($kind)), &[AnyArray], $kind, Body::Typed(|c, _, a| {
                let from = array(&a[0]);
                let to = $kind.element().expect("an array type");
                let method = cast(from.element, to).map(|cast| cast.method);
                let items = from.items.iter().map(|item| match method {
                    Some(CastMethod::Call(b)) => {
                        b.call(c, &[Type::new(from.element)], std::slice::from_ref(item))
                    }
                    _ => Ok(item.clone()),
                });
                Ok(Datum::array(to, items.collect::<Result<Vec<_>>>()?))
            })).stable(),
        )*];
    };
}

arrays! {
    BoolArray ByteaArray CharArray NameArray Int2Array Int4Array TextArray BpcharArray VarcharArray
    Int8Array Float4Array Float8Array OidArray TimestampArray DateArray TimeArray TimestampTzArray
    IntervalArray NumericArray RegclassArray RegtypeArray JsonArray UuidArray
}

static CASTS: LazyLock<BTreeMap<(TypeKind, TypeKind), Cast>> = LazyLock::new(|| {
    let mut map = BTreeMap::new();
    for (from, to, context) in RELABELS {
        map.insert((*from, *to), Cast { context: *context, method: CastMethod::Relabel });
    }
    for (context, builtin) in FUNCTIONS.iter().chain(ZONED) {
        let cast = Cast { context: *context, method: CastMethod::Call(builtin) };
        map.insert((builtin.args[0], builtin.result), cast);
    }
    // Every array is text in assignments, like every other type; nothing to add here, but the reg*
    // types share oid's casts.
    for info in TYPES {
        let reg = matches!(info.kind, Regclass | Regtype | Regproc | Regnamespace | Regrole);
        if reg {
            let relabel = |context| Cast { context, method: CastMethod::Relabel };
            map.insert((info.kind, Oid), relabel(CastContext::Implicit));
            map.insert((Oid, info.kind), relabel(CastContext::Implicit));
            for from in [Int2, Int4, Int8] {
                map.insert((from, info.kind), map[&(from, Oid)]);
            }
            for to in [Int4, Int8] {
                map.insert((info.kind, to), map[&(Oid, to)]);
            }
        }
    }
    map
});

use CastContext::{Assignment, Explicit, Implicit};

static RELABELS: &[(TypeKind, TypeKind, CastContext)] = &[
    (Text, Varchar, Implicit),
    (Varchar, Text, Implicit),
    (Text, Bpchar, Implicit),
    (Varchar, Bpchar, Implicit),
    (Name, Text, Implicit),
    (Json, Text, Assignment),
    (Json, Varchar, Assignment),
    (Name, Varchar, Assignment),
    (Name, Bpchar, Assignment),
    (PgNodeTree, Text, Implicit),
    (Int2Vector, Int2Array, Implicit),
    (OidVector, OidArray, Implicit),
];

macro_rules! casts {
    ($($from:ident => $to:ident $context:ident $kernel:ident |$a:ident| $body:expr;)*) => {
        static FUNCTIONS: &[(CastContext, Builtin)] = &[$(
            ($context, Builtin::new(
                concat!(stringify!($from), "_to_", stringify!($to)), &[$from], $to,
                Body::Plain(|args| { let $a = &args[0]; $body }),
            ).kernel(Kernel::$kernel)),
        )*];
    };
}

casts! {
    Int2 => Int4 Implicit Widen |a| Ok(Datum::Int4(int2(a).into()));
    Int2 => Int8 Implicit Widen |a| Ok(Datum::Int8(int2(a).into()));
    Int2 => Float4 Implicit None |a| Ok(Datum::Float4(int2(a).into()));
    Int2 => Float8 Implicit Widen |a| Ok(Datum::Float8(int2(a).into()));
    Int2 => Numeric Implicit None |a| Ok(Datum::numeric(Num::from(i64::from(int2(a)))));
    Int4 => Int2 Assignment None |a| narrow(int4(a).into());
    Int4 => Int8 Implicit Widen |a| Ok(Datum::Int8(int4(a).into()));
    Int4 => Float4 Implicit None |a| Ok(Datum::Float4(int4(a) as f32));
    Int4 => Float8 Implicit Widen |a| Ok(Datum::Float8(int4(a).into()));
    Int4 => Numeric Implicit None |a| Ok(Datum::numeric(Num::from(i64::from(int4(a)))));
    Int4 => Bool Explicit None |a| Ok(Datum::Bool(int4(a) != 0));
    Bool => Int4 Explicit None |a| Ok(Datum::Int4(boolean(a).into()));
    Int8 => Int2 Assignment None |a| narrow(int8(a));
    Int8 => Int4 Assignment None |a| int_of(int8(a));
    Int8 => Float4 Implicit None |a| Ok(Datum::Float4(int8(a) as f32));
    Int8 => Float8 Implicit Widen |a| Ok(Datum::Float8(int8(a) as f64));
    Int8 => Numeric Implicit None |a| Ok(Datum::numeric(Num::from(int8(a))));
    Float4 => Int2 Assignment None |a| float_to_int(float4(a).into(), "smallint").and_then(narrow);
    Float4 => Int4 Assignment None |a| float_to_int(float4(a).into(), "integer").and_then(int_of);
    Float4 => Int8 Assignment None |a| float_to_int(float4(a).into(), "bigint").map(Datum::Int8);
    Float4 => Float8 Implicit None |a| Ok(Datum::Float8(float4(a).into()));
    Float4 => Numeric Assignment None |a| Ok(Datum::numeric(Num::from_f32(float4(a))));
    Float8 => Int2 Assignment None |a| float_to_int(float8(a), "smallint").and_then(narrow);
    Float8 => Int4 Assignment None |a| float_to_int(float8(a), "integer").and_then(int_of);
    Float8 => Int8 Assignment None |a| float_to_int(float8(a), "bigint").map(Datum::Int8);
    Float8 => Float4 Assignment None |a| float_to_float(float8(a));
    Float8 => Numeric Assignment None |a| Ok(Datum::numeric(Num::from_f64(float8(a))));
    Numeric => Int2 Assignment None |a| numeric(a).to_i64("smallint").and_then(narrow);
    Numeric => Int4 Assignment None |a| numeric(a).to_i64("integer").and_then(int_of);
    Numeric => Int8 Assignment None |a| numeric(a).to_i64("bigint").map(Datum::Int8);
    Numeric => Float4 Implicit None |a| numeric_to_float4(numeric(a));
    Numeric => Float8 Implicit None |a| numeric_to_float8(numeric(a));
    Int2 => Oid Implicit None |a| Ok(Datum::Oid(i32::from(int2(a)) as u32));
    Int4 => Oid Implicit None |a| Ok(Datum::Oid(int4(a) as u32));
    Int8 => Oid Implicit None |a| u32::try_from(int8(a)).map(Datum::Oid).map_err(|_| {
        SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "OID out of range")
    });
    Oid => Int4 Assignment None |a| Ok(Datum::Int4(oid(a) as i32));
    Oid => Int8 Assignment None |a| Ok(Datum::Int8(oid(a).into()));
    Bpchar => Text Implicit None |a| Ok(trimmed(a));
    Bpchar => Varchar Implicit None |a| Ok(trimmed(a));
    Bpchar => Name Implicit None |a| Ok(Datum::text(crate::types::text::truncate_name(order::trim_blanks(text(a)))));
    Text => Name Implicit None |a| Ok(Datum::text(crate::types::text::truncate_name(text(a))));
    Varchar => Name Implicit None |a| Ok(Datum::text(crate::types::text::truncate_name(text(a))));
    Text => InternalChar Assignment None |a| Ok(Datum::Char(text(a).bytes().next().unwrap_or(0)));
    Varchar => InternalChar Assignment None |a| Ok(Datum::Char(text(a).bytes().next().unwrap_or(0)));
    Bpchar => InternalChar Assignment None |a| Ok(Datum::Char(text(a).bytes().next().unwrap_or(0)));
    InternalChar => Text Implicit None |a| Ok(char_text(a));
    InternalChar => Varchar Assignment None |a| Ok(char_text(a));
    InternalChar => Bpchar Assignment None |a| Ok(char_text(a));
    InternalChar => Int4 Explicit None |a| Ok(Datum::Int4(char_byte(a) as i8 as i32));
    Int4 => InternalChar Explicit None |a| match i8::try_from(int4(a)) {
        Ok(v) => Ok(Datum::Char(v as u8)),
        Err(_) => Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "\"char\" out of range")),
    };
    Bool => Text Assignment None |a| Ok(Datum::text(if boolean(a) { "true" } else { "false" }));
    Bool => Varchar Assignment None |a| Ok(Datum::text(if boolean(a) { "true" } else { "false" }));
    Bool => Bpchar Assignment None |a| Ok(Datum::text(if boolean(a) { "true" } else { "false" }));
    Date => Timestamp Implicit None |a| date_to_timestamp(date(a)).map(Datum::Timestamp);
    Timestamp => Date Assignment None |a| Ok(Datum::Date(timestamp_to_date(timestamp(a))));
    Timestamp => Time Assignment None |a| Ok(match timestamp(a) {
        i64::MAX | i64::MIN => Datum::Null,
        t => Datum::Time(t.rem_euclid(datetime::MICROS_PER_DAY)),
    });
    Time => Interval Implicit None |a| Ok(Datum::Interval(crate::types::Interval { micros: time(a), ..Default::default() }));
    Interval => Time Assignment None |a| Ok(Datum::Time(interval(a).micros.rem_euclid(datetime::MICROS_PER_DAY)));
}

/// Casts that depend on the session's time zone.
static ZONED: &[(CastContext, Builtin)] = &[
    (
        Implicit,
        Builtin::new(
            "date_to_timestamptz",
            &[Date],
            TimestampTz,
            Body::Context(|c, a| {
                let local = date_to_timestamp(date(&a[0]))?;
                Ok(Datum::Timestamp(super::datetime::to_instant(local, &c.text.time_zone)?))
            }),
        )
        .stable(),
    ),
    (
        Implicit,
        Builtin::new(
            "timestamp_to_timestamptz",
            &[Timestamp],
            TimestampTz,
            Body::Context(|c, a| {
                Ok(Datum::Timestamp(super::datetime::to_instant(timestamp(&a[0]), &c.text.time_zone)?))
            }),
        )
        .stable(),
    ),
    (
        Assignment,
        Builtin::new(
            "timestamptz_to_timestamp",
            &[TimestampTz],
            Timestamp,
            Body::Context(|c, a| {
                Ok(Datum::Timestamp(super::datetime::to_zone(timestamp(&a[0]), &c.text.time_zone)))
            }),
        )
        .stable(),
    ),
    (
        Assignment,
        Builtin::new(
            "timestamptz_to_date",
            &[TimestampTz],
            Date,
            Body::Context(|c, a| {
                let local = super::datetime::to_zone(timestamp(&a[0]), &c.text.time_zone);
                Ok(Datum::Date(timestamp_to_date(local)))
            }),
        )
        .stable(),
    ),
    (
        Assignment,
        Builtin::new(
            "timestamptz_to_time",
            &[TimestampTz],
            Time,
            Body::Context(|c, a| {
                Ok(match super::datetime::to_zone(timestamp(&a[0]), &c.text.time_zone) {
                    i64::MAX | i64::MIN => Datum::Null,
                    t => Datum::Time(t.rem_euclid(datetime::MICROS_PER_DAY)),
                })
            }),
        )
        .stable(),
    ),
    (
        Implicit,
        Builtin::new(
            "text_to_regclass",
            &[Text],
            Regclass,
            Body::Context(|c, a| parse_text(text(&a[0]), Type::new(Regclass), &c.text)),
        )
        .stable(),
    ),
    (
        Implicit,
        Builtin::new(
            "varchar_to_regclass",
            &[Varchar],
            Regclass,
            Body::Context(|c, a| parse_text(text(&a[0]), Type::new(Regclass), &c.text)),
        )
        .stable(),
    ),
];

fn narrow(value: i64) -> Result<Datum> {
    value.try_into().map(Datum::Int2).map_err(|_| out_of_range("smallint"))
}

fn int_of(value: i64) -> Result<Datum> {
    value.try_into().map(Datum::Int4).map_err(|_| out_of_range("integer"))
}

fn float_to_int(value: f64, type_name: &str) -> Result<i64> {
    let rounded = value.round_ties_even();
    let (low, high) = match type_name {
        "smallint" => (-32_768.0, 32_768.0),
        "integer" => (-2_147_483_648.0, 2_147_483_648.0),
        _ => (-9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0),
    };
    if rounded >= low && rounded < high { Ok(rounded as i64) } else { Err(out_of_range(type_name)) }
}

fn float_to_float(value: f64) -> Result<Datum> {
    let narrow = value as f32;
    if narrow.is_infinite() && value.is_finite() {
        return Err(float_overflow());
    }
    if narrow == 0.0 && value != 0.0 {
        return Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value out of range: underflow"));
    }
    Ok(Datum::Float4(narrow))
}

fn shown(value: &Num) -> String {
    let mut out = Vec::new();
    crate::types::numeric::write_text(value, &mut out);
    String::from_utf8(out).expect("digits")
}

fn numeric_to_float8(value: &Num) -> Result<Datum> {
    let float = value.to_f64();
    if matches!(value, Num::Finite(_)) && (float.is_infinite() || (float == 0.0 && !value.is_zero())) {
        return crate::types::float::parse_f64(&shown(value)).map(Datum::Float8);
    }
    Ok(Datum::Float8(float))
}

fn numeric_to_float4(value: &Num) -> Result<Datum> {
    match value {
        Num::Finite(_) => crate::types::float::parse_f32(&shown(value)).map(Datum::Float4),
        _ => Ok(Datum::Float4(value.to_f64() as f32)),
    }
}

fn trimmed(value: &Datum) -> Datum {
    let full = text(value);
    let cut = order::trim_blanks(full);
    if cut.len() == full.len() { value.clone() } else { Datum::text(cut) }
}

fn char_byte(value: &Datum) -> u8 {
    match value {
        Datum::Char(v) => *v,
        _ => unreachable!("the cast is declared over \"char\""),
    }
}

fn char_text(value: &Datum) -> Datum {
    let mut out = Vec::new();
    crate::types::write_text(value, Type::new(InternalChar), &Default::default(), &mut out);
    Datum::text(String::from_utf8(out).expect("ASCII"))
}

pub(super) fn date_to_timestamp(days: i32) -> Result<i64> {
    match days {
        i32::MAX => Ok(i64::MAX),
        i32::MIN => Ok(i64::MIN),
        _ => datetime::check_timestamp(i128::from(days) * i128::from(datetime::MICROS_PER_DAY))
            .map_err(|_| SqlError::new(SqlState::DATETIME_OVERFLOW, "date out of range for timestamp")),
    }
}

pub(super) fn timestamp_to_date(micros: i64) -> i32 {
    match micros {
        i64::MAX => i32::MAX,
        i64::MIN => i32::MIN,
        _ => micros.div_euclid(datetime::MICROS_PER_DAY) as i32,
    }
}
