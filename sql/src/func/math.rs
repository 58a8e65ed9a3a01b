//! Arithmetic and mathematical functions.

use super::args::*;
use super::{Body, Builtin, Kernel};
use crate::types::Datum;
use crate::types::TypeKind::{self, Float4, Float8, Int2, Int4, Int8};
use crate::types::numeric::Numeric as Num;
use crate::{Result, SqlError, SqlState};

const NUMERIC: TypeKind = TypeKind::Numeric;
/// Written so that results round as PostgreSQL's do.
const RADIANS_PER_DEGREE: f64 = 0.017_453_292_519_943_295;

/// 22003 `<type> out of range`.
#[cold]
pub(crate) fn out_of_range(type_name: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{type_name} out of range"))
}

#[cold]
pub(crate) fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

#[cold]
pub(crate) fn float_overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value out of range: overflow")
}

#[cold]
fn float_underflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value out of range: underflow")
}

fn power_error(message: &'static str) -> SqlError {
    SqlError::new(SqlState::INVALID_POWER_ARGUMENT, message)
}

/// Checks a result that only overflow can have made infinite, only underflow zero.
pub(crate) fn checked_f64(value: f64, infinite_ok: bool, zero_ok: bool) -> Result<f64> {
    if value.is_infinite() && !infinite_ok {
        return Err(float_overflow());
    }
    if value == 0.0 && !zero_ok {
        return Err(float_underflow());
    }
    Ok(value)
}

pub(crate) fn add_f64(a: f64, b: f64) -> Result<f64> {
    checked_f64(a + b, a.is_infinite() || b.is_infinite(), true)
}

pub(crate) fn sub_f64(a: f64, b: f64) -> Result<f64> {
    checked_f64(a - b, a.is_infinite() || b.is_infinite(), true)
}

pub(crate) fn mul_f64(a: f64, b: f64) -> Result<f64> {
    checked_f64(a * b, a.is_infinite() || b.is_infinite(), a == 0.0 || b == 0.0)
}

pub(crate) fn div_f64(a: f64, b: f64) -> Result<f64> {
    if b == 0.0 && !a.is_nan() {
        return Err(division_by_zero());
    }
    checked_f64(a / b, a.is_infinite() || b.is_infinite(), a == 0.0 || b.is_infinite())
}

fn narrow(value: f64, a: f32, b: f32, zero_ok: bool) -> Result<Datum> {
    let v = value as f32;
    checked_f64(v.into(), a.is_infinite() || b.is_infinite(), zero_ok)?;
    Ok(Datum::Float4(v))
}

/// The four operations, remainder and bits over two integers of a width that holds both.
macro_rules! integers {
    ($($left:ident $l:ident $right:ident $r:ident $result:ident $ty:ty, $type_name:literal $prefix:literal;)*) => {
        static INTEGERS: &[Builtin] = &[$(
            Builtin::new(concat!($prefix, "pl"), &[$left, $right], $result, Body::Plain(|a| {
                let sum = <$ty>::from($l(&a[0])).checked_add(<$ty>::from($r(&a[1])));
                sum.map(Datum::$result).ok_or_else(|| out_of_range($type_name))
            })).operator("+").kernel(Kernel::Add),
            Builtin::new(concat!($prefix, "mi"), &[$left, $right], $result, Body::Plain(|a| {
                let rest = <$ty>::from($l(&a[0])).checked_sub(<$ty>::from($r(&a[1])));
                rest.map(Datum::$result).ok_or_else(|| out_of_range($type_name))
            })).operator("-").kernel(Kernel::Sub),
            Builtin::new(concat!($prefix, "mul"), &[$left, $right], $result, Body::Plain(|a| {
                let product = <$ty>::from($l(&a[0])).checked_mul(<$ty>::from($r(&a[1])));
                product.map(Datum::$result).ok_or_else(|| out_of_range($type_name))
            })).operator("*").kernel(Kernel::Mul),
            Builtin::new(concat!($prefix, "div"), &[$left, $right], $result, Body::Plain(|a| {
                let (x, y) = (<$ty>::from($l(&a[0])), <$ty>::from($r(&a[1])));
                if y == 0 {
                    return Err(division_by_zero());
                }
                x.checked_div(y).map(Datum::$result).ok_or_else(|| out_of_range($type_name))
            })).operator("/"),
        )*];
    };
}

integers! {
    Int2 int2 Int2 int2 Int2 i16, "smallint" "int2";
    Int4 int4 Int4 int4 Int4 i32, "integer" "int4";
    Int8 int8 Int8 int8 Int8 i64, "bigint" "int8";
    Int2 int2 Int4 int4 Int4 i32, "integer" "int24";
    Int4 int4 Int2 int2 Int4 i32, "integer" "int42";
    Int2 int2 Int8 int8 Int8 i64, "bigint" "int28";
    Int8 int8 Int2 int2 Int8 i64, "bigint" "int82";
    Int4 int4 Int8 int8 Int8 i64, "bigint" "int48";
    Int8 int8 Int4 int4 Int8 i64, "bigint" "int84";
}

macro_rules! per_integer {
    ($($kind:ident $get:ident $ty:ty, $wide:ty, $type_name:literal $prefix:literal;)*) => {
        static PER_INTEGER: &[Builtin] = &[$(
            Builtin::new(concat!($prefix, "mod"), &[$kind, $kind], $kind, Body::Plain(|a| remainder_of(a, |a| {
                let (x, y) = ($get(&a[0]), $get(&a[1]));
                if y == 0 { None } else { Some(Datum::$kind(x.checked_rem(y).unwrap_or(0))) }
            }))).operator("%"),
            Builtin::new("mod", &[$kind, $kind], $kind, Body::Plain(|a| remainder_of(a, |a| {
                let (x, y) = ($get(&a[0]), $get(&a[1]));
                if y == 0 { None } else { Some(Datum::$kind(x.checked_rem(y).unwrap_or(0))) }
            }))),
            Builtin::new(concat!($prefix, "um"), &[$kind], $kind, Body::Plain(|a| {
                $get(&a[0]).checked_neg().map(Datum::$kind).ok_or_else(|| out_of_range($type_name))
            })).operator("-"),
            Builtin::new(concat!($prefix, "up"), &[$kind], $kind, Body::Plain(|a| Ok(a[0].clone()))).operator("+"),
            Builtin::new(concat!($prefix, "abs"), &[$kind], $kind, Body::Plain(|a| {
                $get(&a[0]).checked_abs().map(Datum::$kind).ok_or_else(|| out_of_range($type_name))
            })).operator("@"),
            Builtin::new("abs", &[$kind], $kind, Body::Plain(|a| {
                $get(&a[0]).checked_abs().map(Datum::$kind).ok_or_else(|| out_of_range($type_name))
            })),
            Builtin::new(concat!($prefix, "and"), &[$kind, $kind], $kind,
                Body::Plain(|a| Ok(Datum::$kind($get(&a[0]) & $get(&a[1]))))).operator("&"),
            Builtin::new(concat!($prefix, "or"), &[$kind, $kind], $kind,
                Body::Plain(|a| Ok(Datum::$kind($get(&a[0]) | $get(&a[1]))))).operator("|"),
            Builtin::new(concat!($prefix, "xor"), &[$kind, $kind], $kind,
                Body::Plain(|a| Ok(Datum::$kind($get(&a[0]) ^ $get(&a[1]))))).operator("#"),
            Builtin::new(concat!($prefix, "not"), &[$kind], $kind,
                Body::Plain(|a| Ok(Datum::$kind(!$get(&a[0]))))).operator("~"),
            // As in C: a smallint is shifted as an integer, so nothing of it is left after 16 bits.
            Builtin::new(concat!($prefix, "shl"), &[$kind, Int4], $kind,
                Body::Plain(|a| Ok(Datum::$kind(<$wide>::from($get(&a[0])).wrapping_shl(int4(&a[1]) as u32) as $ty)))).operator("<<"),
            Builtin::new(concat!($prefix, "shr"), &[$kind, Int4], $kind,
                Body::Plain(|a| Ok(Datum::$kind(<$wide>::from($get(&a[0])).wrapping_shr(int4(&a[1]) as u32) as $ty)))).operator(">>"),
        )*];
    };
}

fn remainder_of(a: &[Datum], f: fn(&[Datum]) -> Option<Datum>) -> Result<Datum> {
    f(a).ok_or_else(division_by_zero)
}

per_integer! {
    Int2 int2 i16, i32, "smallint" "int2";
    Int4 int4 i32, i32, "integer" "int4";
    Int8 int8 i64, i64, "bigint" "int8";
}

macro_rules! f8 {
    ($name:literal, $f:expr) => {
        Builtin::new(
            $name,
            &[Float8],
            Float8,
            Body::Plain(|a| {
                let f: fn(f64) -> Result<f64> = $f;
                f(float8(&a[0])).map(Datum::Float8)
            }),
        )
    };
}

macro_rules! num {
    ($name:literal, $f:expr) => {
        Builtin::new(
            $name,
            &[NUMERIC],
            NUMERIC,
            Body::Plain(|a| {
                let f: fn(&Num) -> Result<Num> = $f;
                f(numeric(&a[0])).map(Datum::numeric)
            }),
        )
    };
}

macro_rules! num2 {
    ($name:literal, $f:expr) => {
        Builtin::new(
            $name,
            &[NUMERIC, NUMERIC],
            NUMERIC,
            Body::Plain(|a| {
                let f: fn(&Num, &Num) -> Result<Num> = $f;
                f(numeric(&a[0]), numeric(&a[1])).map(Datum::numeric)
            }),
        )
    };
}

macro_rules! f82 {
    ($name:literal, $f:expr) => {
        Builtin::new(
            $name,
            &[Float8, Float8],
            Float8,
            Body::Plain(|a| {
                let f: fn(f64, f64) -> Result<f64> = $f;
                f(float8(&a[0]), float8(&a[1])).map(Datum::Float8)
            }),
        )
    };
}

macro_rules! f42 {
    ($name:literal, $f:expr) => {
        Builtin::new(
            $name,
            &[Float4, Float4],
            Float4,
            Body::Plain(|a| {
                let f: fn(f32, f32) -> Result<Datum> = $f;
                f(float4(&a[0]), float4(&a[1]))
            }),
        )
    };
}

fn sqrt_f64(v: f64) -> Result<f64> {
    if v < 0.0 {
        return Err(power_error("cannot take square root of a negative number"));
    }
    Ok(v.sqrt())
}

fn logarithm_domain(v: f64) -> Result<()> {
    let message = if v == 0.0 {
        "cannot take logarithm of zero"
    } else if v < 0.0 {
        "cannot take logarithm of a negative number"
    } else {
        return Ok(());
    };
    Err(SqlError::new(SqlState::INVALID_LOGARITHM_ARGUMENT, message))
}

fn exp_f64(v: f64) -> Result<f64> {
    checked_f64(v.exp(), v.is_infinite(), v == f64::NEG_INFINITY)
}

fn power_f64(a: f64, b: f64) -> Result<f64> {
    if a.is_nan() && b == 0.0 || b.is_nan() && a == 1.0 {
        return Ok(1.0);
    }
    if a.is_nan() || b.is_nan() {
        return Ok(f64::NAN);
    }
    if a == 0.0 && b < 0.0 {
        return Err(power_error("zero raised to a negative power is undefined"));
    }
    if a < 0.0 && b.floor() != b {
        return Err(power_error("a negative number raised to a non-integer power yields a complex result"));
    }
    let result = a.powf(b);
    checked_f64(result, a.is_infinite() || b.is_infinite(), a == 0.0 || a.is_infinite() || b.is_infinite())
}

fn trig(v: f64, f: fn(f64) -> f64) -> Result<f64> {
    if v.is_infinite() {
        return Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "input is out of range"));
    }
    Ok(f(v))
}

fn unit_range(v: f64, f: fn(f64) -> f64) -> Result<f64> {
    if !v.is_nan() && !(-1.0..=1.0).contains(&v) {
        return Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "input is out of range"));
    }
    Ok(f(v))
}

fn sign_f64(v: f64) -> Result<f64> {
    Ok(if v > 0.0 {
        1.0
    } else if v < 0.0 {
        -1.0
    } else {
        0.0
    })
}

fn gcd_i64(mut a: i64, mut b: i64) -> Option<i64> {
    while b != 0 {
        (a, b) = (b, a.wrapping_rem(b));
    }
    a.checked_abs()
}

/// Whole and remaining part of a random 53-bit fraction.
fn random_unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

static FLOATS: &[Builtin] = &[
    f82!("float8pl", add_f64).operator("+").kernel(Kernel::Add),
    f82!("float8mi", sub_f64).operator("-").kernel(Kernel::Sub),
    f82!("float8mul", mul_f64).operator("*").kernel(Kernel::Mul),
    f82!("float8div", div_f64).operator("/"),
    f82!("dpow", power_f64).operator("^"),
    f82!("power", power_f64),
    f82!("pow", power_f64),
    f82!("atan2", |a, b| Ok(a.atan2(b))),
    f42!("float4pl", |a, b| narrow(f64::from(a) + f64::from(b), a, b, true)).operator("+"),
    f42!("float4mi", |a, b| narrow(f64::from(a) - f64::from(b), a, b, true)).operator("-"),
    f42!("float4mul", |a, b| narrow(f64::from(a) * f64::from(b), a, b, a == 0.0 || b == 0.0)).operator("*"),
    f42!("float4div", |a, b| {
        if b == 0.0 && !a.is_nan() {
            return Err(division_by_zero());
        }
        narrow(f64::from(a / b), a, b, a == 0.0 || b.is_infinite())
    })
    .operator("/"),
    f8!("float8um", |v| Ok(-v)).operator("-"),
    f8!("float8up", Ok).operator("+"),
    f8!("float8abs", |v| Ok(v.abs())).operator("@"),
    f8!("abs", |v| Ok(v.abs())),
    Builtin::new("float4um", &[Float4], Float4, Body::Plain(|a| Ok(Datum::Float4(-float4(&a[0])))))
        .operator("-"),
    Builtin::new("float4abs", &[Float4], Float4, Body::Plain(|a| Ok(Datum::Float4(float4(&a[0]).abs()))))
        .operator("@"),
    Builtin::new("float4up", &[Float4], Float4, Body::Plain(|a| Ok(a[0].clone()))).operator("+"),
    Builtin::new("abs", &[Float4], Float4, Body::Plain(|a| Ok(Datum::Float4(float4(&a[0]).abs())))),
    f8!("ceil", |v| Ok(v.ceil())),
    f8!("ceiling", |v| Ok(v.ceil())),
    f8!("floor", |v| Ok(v.floor())),
    f8!("round", |v| Ok(v.round_ties_even())),
    f8!("trunc", |v| Ok(v.trunc())),
    f8!("sign", sign_f64),
    f8!("sqrt", sqrt_f64),
    f8!("dsqrt", sqrt_f64).operator("|/"),
    f8!("cbrt", |v| Ok(v.cbrt())),
    f8!("dcbrt", |v| Ok(v.cbrt())).operator("||/"),
    f8!("exp", exp_f64),
    f8!("ln", |v| logarithm_domain(v).map(|()| v.ln())),
    f8!("log", |v| logarithm_domain(v).map(|()| v.log10())),
    f8!("log10", |v| logarithm_domain(v).map(|()| v.log10())),
    f8!("degrees", |v| checked_f64(v / RADIANS_PER_DEGREE, v.is_infinite(), v == 0.0)),
    f8!("radians", |v| checked_f64(v * RADIANS_PER_DEGREE, v.is_infinite(), v == 0.0)),
    f8!("sin", |v| trig(v, f64::sin)),
    f8!("cos", |v| trig(v, f64::cos)),
    f8!("tan", |v| trig(v, f64::tan)),
    f8!("cot", |v| trig(v, |v| 1.0 / v.tan())),
    f8!("asin", |v| unit_range(v, f64::asin)),
    f8!("acos", |v| unit_range(v, f64::acos)),
    f8!("atan", |v| Ok(v.atan())),
    f8!("sinh", |v| Ok(v.sinh())),
    f8!("cosh", |v| Ok(v.cosh())),
    f8!("tanh", |v| Ok(v.tanh())),
    Builtin::new("pi", &[], Float8, Body::Plain(|_| Ok(Datum::Float8(std::f64::consts::PI)))),
    Builtin::new(
        "random",
        &[],
        Float8,
        Body::Context(|c, _| Ok(Datum::Float8(random_unit(c.session.random())))),
    )
    .volatile(),
];

static NUMERICS: &[Builtin] = &[
    num2!("numeric_add", Num::add).operator("+"),
    num2!("numeric_sub", Num::sub).operator("-"),
    num2!("numeric_mul", Num::mul).operator("*"),
    num2!("numeric_div", Num::div).operator("/"),
    num2!("numeric_mod", Num::rem).operator("%"),
    num2!("mod", Num::rem),
    num2!("div", Num::div_trunc),
    num2!("numeric_power", Num::power).operator("^"),
    num2!("power", Num::power),
    num2!("pow", Num::power),
    num2!("log", |base, value| value.log(base)),
    num2!("gcd", Num::gcd),
    num!("numeric_uminus", |v| Ok(v.neg())).operator("-"),
    num!("numeric_uplus", |v| Ok(v.clone())).operator("+"),
    num!("numeric_abs", |v| Ok(v.abs())).operator("@"),
    num!("abs", |v| Ok(v.abs())),
    num!("sign", |v| Ok(if matches!(v, Num::NaN) { Num::NaN } else { Num::from(i64::from(v.signum())) })),
    num!("ceil", Num::ceil),
    num!("ceiling", Num::ceil),
    num!("floor", Num::floor),
    num!("round", |v| v.round(0)),
    num!("trunc", |v| v.trunc(0)),
    num!("sqrt", Num::sqrt),
    num!("exp", Num::exp),
    num!("ln", Num::ln),
    num!("log", |v| v.log(&Num::from(10i64))),
    num!("log10", |v| v.log(&Num::from(10i64))),
    num!("trim_scale", |v| Ok(v.trim_scale())),
    Builtin::new(
        "round",
        &[NUMERIC, Int4],
        NUMERIC,
        Body::Plain(|a| numeric(&a[0]).round(int4(&a[1]).into()).map(Datum::numeric)),
    ),
    Builtin::new(
        "trunc",
        &[NUMERIC, Int4],
        NUMERIC,
        Body::Plain(|a| numeric(&a[0]).trunc(int4(&a[1]).into()).map(Datum::numeric)),
    ),
    Builtin::new(
        "scale",
        &[NUMERIC],
        Int4,
        Body::Plain(|a| Ok(numeric(&a[0]).scale().map_or(Datum::Null, |s| Datum::Int4(s as i32)))),
    ),
    Builtin::new(
        "gcd",
        &[Int4, Int4],
        Int4,
        Body::Plain(|a| {
            let gcd = gcd_i64(int4(&a[0]).into(), int4(&a[1]).into());
            gcd.and_then(|v| v.try_into().ok()).map(Datum::Int4).ok_or_else(|| out_of_range("integer"))
        }),
    ),
    Builtin::new(
        "gcd",
        &[Int8, Int8],
        Int8,
        Body::Plain(|a| {
            gcd_i64(int8(&a[0]), int8(&a[1])).map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))
        }),
    ),
    Builtin::new(
        "lcm",
        &[Int4, Int4],
        Int4,
        Body::Plain(|a| {
            let (x, y) = (i64::from(int4(&a[0])), i64::from(int4(&a[1])));
            let lcm = if x == 0 || y == 0 { Some(0) } else { gcd_i64(x, y).map(|g| (x / g * y).abs()) };
            lcm.and_then(|v| v.try_into().ok()).map(Datum::Int4).ok_or_else(|| out_of_range("integer"))
        }),
    ),
    Builtin::new(
        "lcm",
        &[Int8, Int8],
        Int8,
        Body::Plain(|a| {
            let (x, y) = (int8(&a[0]), int8(&a[1]));
            if x == 0 || y == 0 {
                return Ok(Datum::Int8(0));
            }
            let lcm = gcd_i64(x, y).and_then(|g| (x / g).checked_mul(y)).and_then(i64::checked_abs);
            lcm.map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))
        }),
    ),
];

static CONVERSIONS: &[Builtin] = &[
    Builtin::new(
        "to_hex",
        &[Int4],
        TypeKind::Text,
        Body::Plain(|a| Ok(Datum::text(format!("{:x}", int4(&a[0]))))),
    ),
    Builtin::new(
        "to_hex",
        &[Int8],
        TypeKind::Text,
        Body::Plain(|a| Ok(Datum::text(format!("{:x}", int8(&a[0]))))),
    ),
];

pub(super) static LISTS: &[&[Builtin]] = &[INTEGERS, PER_INTEGER, FLOATS, NUMERICS, CONVERSIONS];
