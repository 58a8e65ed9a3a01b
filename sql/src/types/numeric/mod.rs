//! `numeric`: arbitrary precision with a display scale, NaN and infinities.
//!
//! Results have PostgreSQL's scales: exact operations keep all digits; division and the
//! transcendental functions choose a scale that gives at least 16 significant digits.

mod arithmetic;
mod format;
mod transcendental;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use bigdecimal::BigDecimal;
use num_bigint::{BigInt, Sign};
use num_traits::{Signed, ToPrimitive, Zero};

use crate::{Result, SqlError, SqlState};

pub use format::{parse, read_binary, write_binary, write_text};

/// Most digits behind the decimal point.
pub const MAX_SCALE: i64 = 16_383;
/// Most digits before the decimal point.
pub const MAX_WHOLE_DIGITS: i64 = 131_072;
/// Most digits behind the point that division and the like choose themselves.
pub(crate) const MAX_RESULT_SCALE: i64 = 1_000;

/// A numeric value.
#[derive(Clone, Debug)]
pub enum Numeric {
    /// NaN, which equals itself and sorts above all.
    NaN,
    /// Infinity.
    Infinity,
    /// -Infinity.
    NegInfinity,
    /// A finite value; the scale of `BigDecimal` (never negative) is PostgreSQL's display scale.
    Finite(BigDecimal),
}

use Numeric::{Finite, Infinity, NaN, NegInfinity};

pub(crate) fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value overflows numeric format")
}

/// 10 to a power.
pub(crate) fn pow10(exponent: i64) -> BigInt {
    match u32::try_from(exponent) {
        Ok(e) if e <= 38 => BigInt::from(10u128.pow(e)),
        Ok(e) => BigInt::from(10u8).pow(e),
        Err(_) => BigInt::from(1),
    }
}

/// Number of decimal digits of a non-negative integer; zero has none.
pub(crate) fn digit_count(value: &BigInt) -> i64 {
    if value.is_zero() {
        return 0;
    }
    let bits = value.bits();
    if bits <= 64 {
        let small = value.magnitude().to_u64().expect("64 bits");
        return i64::from(small.ilog10()) + 1;
    }
    // log10(2^(bits-1)) ≤ log10(value) < log10(2^bits): one comparison decides.
    let estimate = ((bits - 1) as f64 * std::f64::consts::LOG10_2).floor() as i64;
    let mut digits = estimate.max(1);
    while *value.magnitude() >= *pow10(digits).magnitude() {
        digits += 1;
    }
    digits
}

/// `value / 10^digits`, rounded half away from zero.
pub(crate) fn drop_digits(value: &BigInt, digits: i64) -> BigInt {
    divide_rounded(value, &pow10(digits))
}

/// A quotient rounded half away from zero.
pub(crate) fn divide_rounded(dividend: &BigInt, divisor: &BigInt) -> BigInt {
    let negative = dividend.is_negative() != divisor.is_negative();
    let (quotient, rest) =
        (dividend.magnitude() / divisor.magnitude(), dividend.magnitude() % divisor.magnitude());
    let rounded = if rest * 2u8 >= *divisor.magnitude() { quotient + 1u8 } else { quotient };
    BigInt::from_biguint(
        if rounded.is_zero() {
            Sign::NoSign
        } else if negative {
            Sign::Minus
        } else {
            Sign::Plus
        },
        rounded,
    )
}

impl From<i64> for Numeric {
    fn from(value: i64) -> Numeric {
        Finite(BigDecimal::new(value.into(), 0))
    }
}

impl From<i128> for Numeric {
    fn from(value: i128) -> Numeric {
        Finite(BigDecimal::new(value.into(), 0))
    }
}

impl Numeric {
    /// `digits × 10^-scale`; fails above the type's limits.
    pub(crate) fn new(digits: BigInt, scale: i64) -> Result<Numeric> {
        let (digits, scale) = if scale > MAX_SCALE {
            (drop_digits(&digits, scale - MAX_SCALE), MAX_SCALE)
        } else if scale < 0 {
            (digits * pow10(-scale), 0)
        } else {
            (digits, scale)
        };
        // Cheap bound first: most values are far from the limit.
        if digits.bits() > 400_000 && digit_count(&digits) - scale > MAX_WHOLE_DIGITS {
            return Err(overflow());
        }
        Ok(Finite(BigDecimal::new(digits, scale)))
    }

    /// Zero.
    pub fn zero() -> Numeric {
        Numeric::from(0i64)
    }

    /// Whether the value is zero.
    pub fn is_zero(&self) -> bool {
        matches!(self, Finite(d) if d.sign() == Sign::NoSign)
    }

    /// -1, 0 or 1; NaN counts as positive.
    pub fn signum(&self) -> i32 {
        match self {
            NaN | Infinity => 1,
            NegInfinity => -1,
            Finite(d) => match d.sign() {
                Sign::Minus => -1,
                Sign::NoSign => 0,
                Sign::Plus => 1,
            },
        }
    }

    /// Digits behind the point that are shown.
    pub fn scale(&self) -> Option<i64> {
        match self {
            Finite(d) => Some(d.as_bigint_and_scale().1),
            _ => None,
        }
    }

    /// Bytes of the digits.
    pub fn heap_size(&self) -> usize {
        match self {
            Finite(d) => (d.as_bigint_and_scale().0.bits() / 8 + 8) as usize,
            _ => 0,
        }
    }

    /// The nearest of PostgreSQL's conversions from float8: 15 significant digits.
    pub fn from_f64(value: f64) -> Numeric {
        Numeric::from_float(value, 14)
    }

    /// As [`Numeric::from_f64`] for float4: 6 significant digits.
    pub fn from_f32(value: f32) -> Numeric {
        Numeric::from_float(value.into(), 5)
    }

    fn from_float(value: f64, digits: usize) -> Numeric {
        if value.is_nan() {
            return NaN;
        }
        if value.is_infinite() {
            return if value > 0.0 { Infinity } else { NegInfinity };
        }
        let shown = format!("{value:.digits$e}");
        let (mantissa, exponent) = shown.split_once('e').expect("scientific format has an exponent");
        let exponent: i64 = exponent.parse().expect("an exponent is an integer");
        let mut digits = mantissa.replace('.', "");
        let kept = digits.trim_end_matches('0').len();
        let mut scale = kept.saturating_sub(usize::from(digits.starts_with('-'))) as i64 - 1 - exponent;
        digits.truncate(kept);
        if digits.is_empty() || digits == "-" {
            return Numeric::zero();
        }
        let mut number: BigInt = digits.parse().expect("digits of a float");
        if scale < 0 {
            number *= pow10(-scale);
            scale = 0;
        }
        Finite(BigDecimal::new(number, scale))
    }

    /// The nearest float8.
    pub fn to_f64(&self) -> f64 {
        match self {
            NaN => f64::NAN,
            Infinity => f64::INFINITY,
            NegInfinity => f64::NEG_INFINITY,
            Finite(d) => {
                let (digits, scale) = d.as_bigint_and_scale();
                if digits.bits() <= 53 && scale <= 22 {
                    // Both are exact in a float, so one division rounds correctly.
                    return digits.to_f64().expect("53 bits") / 10f64.powi(scale as i32);
                }
                format!("{digits}e-{scale}").parse().expect("a decimal number")
            }
        }
    }

    /// The nearest integer (half away from zero), where it fits; `name` is the type's for errors.
    pub fn to_i64(&self, name: &str) -> Result<i64> {
        match self {
            NaN => {
                Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("cannot convert NaN to {name}")))
            }
            Infinity | NegInfinity => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("cannot convert infinity to {name}"),
            )),
            Finite(d) => {
                let (digits, scale) = d.as_bigint_and_scale();
                let whole = if scale == 0 { digits.into_owned() } else { drop_digits(&digits, scale) };
                whole.to_i64().ok_or_else(|| {
                    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{name} out of range"))
                })
            }
        }
    }

    /// Order of values: scale does not matter, NaN is above all.
    pub fn compare(&self, other: &Numeric) -> Ordering {
        let rank = |n: &Numeric| match n {
            NegInfinity => 0,
            Finite(_) => 1,
            Infinity => 2,
            NaN => 3,
        };
        let (Finite(a), Finite(b)) = (self, other) else { return rank(self).cmp(&rank(other)) };
        let ((x, s), (y, t)) = (a.as_bigint_and_scale(), b.as_bigint_and_scale());
        match s.cmp(&t) {
            Ordering::Equal => x.cmp(&y),
            _ if x.sign() != y.sign() => x.sign().cmp(&y.sign()),
            Ordering::Less => (x.as_ref() * pow10(t - s)).cmp(&y),
            Ordering::Greater => x.as_ref().cmp(&(y.as_ref() * pow10(s - t))),
        }
    }

    /// Feeds a hash so that equal values of different scales agree.
    pub fn hash_into<H: Hasher>(&self, state: &mut H) {
        match self {
            NaN => state.write_u8(1),
            Infinity => state.write_u8(2),
            NegInfinity => state.write_u8(3),
            Finite(d) => {
                let (mut digits, mut scale) = d.as_bigint_and_scale();
                if digits.is_zero() {
                    return state.write_u8(0);
                }
                if let Some(mut small) = digits.to_i64() {
                    while small % 10 == 0 {
                        small /= 10;
                        scale -= 1;
                    }
                    small.hash(state);
                    return scale.hash(state);
                }
                let ten = BigInt::from(10u8);
                while (digits.as_ref() % &ten).is_zero() {
                    digits = std::borrow::Cow::Owned(digits.as_ref() / &ten);
                    scale -= 1;
                }
                match digits.to_i64() {
                    Some(small) => small.hash(state),
                    None => digits.hash(state),
                }
                scale.hash(state);
            }
        }
    }

    /// The value for key encoding.
    pub fn to_decimal(&self) -> cairn_kv::encoding::Decimal {
        use cairn_kv::encoding::Decimal;
        match self {
            NaN => Decimal::NaN,
            Infinity => Decimal::Infinity { negative: false },
            NegInfinity => Decimal::Infinity { negative: true },
            Finite(d) => {
                let (number, scale) = d.as_bigint_and_scale();
                if number.is_zero() {
                    return Decimal::Finite { negative: false, exponent: 0, digits: Vec::new() };
                }
                let mut digits = number.magnitude().to_radix_be(10);
                let exponent = (digits.len() as i64 - scale) as i32;
                while digits.last() == Some(&0) {
                    digits.pop();
                }
                Decimal::Finite { negative: number.is_negative(), exponent, digits }
            }
        }
    }
}

/// Applies `numeric(precision, scale)`.
pub fn fit(value: &Numeric, precision: i32, scale: i32) -> Result<Numeric> {
    let detail =
        |limit: String| SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "numeric field overflow").detail(limit);
    let Finite(d) = value else {
        return match value {
            NaN => Ok(NaN),
            _ => Err(detail(format!(
                "A field with precision {precision}, scale {scale} cannot hold an infinite value."
            ))),
        };
    };
    let (digits, from) = d.as_bigint_and_scale();
    let to = i64::from(scale);
    let rounded = match from.cmp(&to) {
        Ordering::Equal => digits.into_owned(),
        Ordering::Less => digits.as_ref() * pow10(to - from),
        Ordering::Greater => drop_digits(&digits, from - to),
    };
    if digit_count(&rounded) > i64::from(precision) {
        let whole = precision - scale;
        let bound = if whole == 0 { "1".to_owned() } else { format!("10^{whole}") };
        return Err(detail(format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
        )));
    }
    Numeric::new(rounded, to)
}
