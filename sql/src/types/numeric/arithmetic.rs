//! Exact arithmetic, division and rounding.

use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use num_traits::{Signed, Zero};

use super::Numeric::{self, Finite, Infinity, NaN, NegInfinity};
use super::{MAX_RESULT_SCALE, MAX_SCALE, digit_count, divide_rounded, drop_digits, pow10};
use crate::{Result, SqlError, SqlState};

pub(super) fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

fn infinity(negative: bool) -> Numeric {
    if negative { NegInfinity } else { Infinity }
}

/// Brings two numbers to the larger of their scales.
fn align(a: &BigDecimal, b: &BigDecimal) -> (BigInt, BigInt, i64) {
    let ((x, s), (y, t)) = (a.as_bigint_and_scale(), b.as_bigint_and_scale());
    let scale = s.max(t);
    let raise = |n: std::borrow::Cow<'_, BigInt>, by: i64| {
        if by == 0 { n.into_owned() } else { n.as_ref() * pow10(by) }
    };
    (raise(x, scale - s), raise(y, scale - t), scale)
}

/// Weight (power of 10,000) and value of the leading base-10,000 digit, as PostgreSQL stores numbers.
pub(super) fn leading_digit(digits: &BigInt, scale: i64) -> (i64, i64) {
    let count = digit_count(digits);
    if count == 0 {
        return (0, 0);
    }
    let magnitude = count - 1 - scale;
    let weight = magnitude.div_euclid(4);
    let kept = magnitude - 4 * weight + 1;
    let first = if count >= kept {
        BigInt::from(digits.magnitude().clone()) / pow10(count - kept)
    } else {
        BigInt::from(digits.magnitude().clone()) * pow10(kept - count)
    };
    (weight, i64::try_from(first).expect("at most four digits"))
}

impl Numeric {
    /// Sum.
    pub fn add(&self, other: &Numeric) -> Result<Numeric> {
        Ok(match (self, other) {
            (Finite(a), Finite(b)) => {
                let (x, y, scale) = align(a, b);
                return Numeric::new(x + y, scale);
            }
            (NaN, _) | (_, NaN) | (Infinity, NegInfinity) | (NegInfinity, Infinity) => NaN,
            (Finite(_), infinite) | (infinite, _) => infinite.clone(),
        })
    }

    /// Difference.
    pub fn sub(&self, other: &Numeric) -> Result<Numeric> {
        self.add(&other.neg())
    }

    /// Negation.
    pub fn neg(&self) -> Numeric {
        match self {
            NaN => NaN,
            Infinity => NegInfinity,
            NegInfinity => Infinity,
            Finite(d) => Finite(-d),
        }
    }

    /// Absolute value.
    pub fn abs(&self) -> Numeric {
        if self.signum() < 0 { self.neg() } else { self.clone() }
    }

    /// Product.
    pub fn mul(&self, other: &Numeric) -> Result<Numeric> {
        Ok(match (self, other) {
            (Finite(a), Finite(b)) => {
                let ((x, s), (y, t)) = (a.as_bigint_and_scale(), b.as_bigint_and_scale());
                return Numeric::new(x.as_ref() * y.as_ref(), s + t);
            }
            (NaN, _) | (_, NaN) => NaN,
            _ => match self.signum() * other.signum() {
                0 => NaN,
                sign => infinity(sign < 0),
            },
        })
    }

    /// Quotient, with a scale that gives at least 16 significant digits.
    pub fn div(&self, other: &Numeric) -> Result<Numeric> {
        match (self, other) {
            (NaN, _) | (_, NaN) => Ok(NaN),
            (Finite(a), Finite(b)) => {
                let ((x, s), (y, t)) = (a.as_bigint_and_scale(), b.as_bigint_and_scale());
                if y.is_zero() {
                    return Err(division_by_zero());
                }
                let ((w1, d1), (w2, d2)) = (leading_digit(&x, s), leading_digit(&y, t));
                let quotient_weight = w1 - w2 - i64::from(d1 <= d2);
                let scale = (16 - quotient_weight * 4).max(s).max(t).clamp(0, MAX_RESULT_SCALE);
                Numeric::new(quotient(&x, s, &y, t, scale), scale)
            }
            (Finite(_), _) => Ok(Numeric::zero()),
            (_, Finite(_)) => match other.signum() {
                0 => Err(division_by_zero()),
                sign => Ok(infinity(self.signum() * sign < 0)),
            },
            _ => Ok(NaN),
        }
    }

    /// Quotient truncated to an integer.
    pub fn div_trunc(&self, other: &Numeric) -> Result<Numeric> {
        match (self, other) {
            (Finite(a), Finite(b)) => {
                let (x, y, _) = align(a, b);
                if y.is_zero() {
                    return Err(division_by_zero());
                }
                Numeric::new(x / y, 0)
            }
            _ => self.div(other),
        }
    }

    /// Remainder, with the dividend's sign.
    pub fn rem(&self, other: &Numeric) -> Result<Numeric> {
        match (self, other) {
            (NaN, _) | (_, NaN) => Ok(NaN),
            (_, Finite(b)) if b.as_bigint_and_scale().0.is_zero() => Err(division_by_zero()),
            (Finite(a), Finite(b)) => {
                let (x, y, scale) = align(a, b);
                Numeric::new(x % y, scale)
            }
            (Finite(_), _) => Ok(self.clone()),
            _ => Ok(NaN),
        }
    }

    /// Rounds half away from zero to `scale` digits behind the point (before it, if negative).
    pub fn round(&self, scale: i64) -> Result<Numeric> {
        self.rescale(scale, drop_digits)
    }

    /// Cuts to `scale` digits behind the point.
    pub fn trunc(&self, scale: i64) -> Result<Numeric> {
        self.rescale(scale, |digits, drop| digits / pow10(drop))
    }

    fn rescale(&self, scale: i64, cut: impl Fn(&BigInt, i64) -> BigInt) -> Result<Numeric> {
        let Finite(d) = self else { return Ok(self.clone()) };
        let scale = scale.clamp(-MAX_WHOLE_DIGITS_ROUND, MAX_SCALE);
        let (digits, from) = d.as_bigint_and_scale();
        if from <= scale {
            return Numeric::new(digits.as_ref() * pow10(scale - from), scale);
        }
        if from - scale > digit_count(&digits) + 1 {
            return Numeric::new(BigInt::from(0), scale.max(0));
        }
        Numeric::new(cut(&digits, from - scale), scale)
    }

    /// Smallest integer not below.
    pub fn ceil(&self) -> Result<Numeric> {
        let cut = self.trunc(0)?;
        if self.compare(&cut).is_gt() { cut.add(&Numeric::from(1i64)) } else { Ok(cut) }
    }

    /// Largest integer not above.
    pub fn floor(&self) -> Result<Numeric> {
        let cut = self.trunc(0)?;
        if self.compare(&cut).is_lt() { cut.sub(&Numeric::from(1i64)) } else { Ok(cut) }
    }

    /// Without trailing zeroes behind the point.
    pub fn trim_scale(&self) -> Numeric {
        let Finite(d) = self else { return self.clone() };
        let (mut digits, mut scale) = {
            let (d, s) = d.as_bigint_and_scale();
            (d.into_owned(), s)
        };
        while scale > 0 && (&digits % 10i32).is_zero() {
            digits /= 10i32;
            scale -= 1;
        }
        Finite(BigDecimal::new(digits, scale))
    }

    /// Greatest common divisor.
    pub fn gcd(&self, other: &Numeric) -> Result<Numeric> {
        let (Finite(a), Finite(b)) = (self, other) else { return Ok(NaN) };
        let (mut x, mut y, scale) = align(a, b);
        while !y.is_zero() {
            (x, y) = (y.clone(), x % y);
        }
        Numeric::new(x.abs(), scale)
    }
}

const MAX_WHOLE_DIGITS_ROUND: i64 = super::MAX_WHOLE_DIGITS;

/// `(x / 10^s) / (y / 10^t)` as digits at `scale`, rounded.
pub(super) fn quotient(x: &BigInt, s: i64, y: &BigInt, t: i64, scale: i64) -> BigInt {
    let shift = scale + t - s;
    if shift >= 0 { divide_rounded(&(x * pow10(shift)), y) } else { divide_rounded(x, &(y * pow10(-shift))) }
}
