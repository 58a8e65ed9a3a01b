//! Square root, exponential, logarithm and power, by integer arithmetic at a working scale somewhat
//! beyond the result's.

use std::f64::consts::LOG10_E;

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::Numeric::{self, Finite, Infinity, NaN, NegInfinity};
use super::arithmetic::{leading_digit, quotient};
use super::{MAX_RESULT_SCALE, digit_count, drop_digits, overflow, pow10};
use crate::{Result, SqlError, SqlState};

const MIN_SIGNIFICANT_DIGITS: i64 = 16;
/// Digits carried beyond the result's.
const GUARD: i64 = 12;

fn invalid_logarithm(message: &'static str) -> SqlError {
    SqlError::new(SqlState::INVALID_LOGARITHM_ARGUMENT, message)
}

fn invalid_power(message: &'static str) -> SqlError {
    SqlError::new(SqlState::INVALID_POWER_ARGUMENT, message)
}

fn to_scale(digits: &BigInt, from: i64, to: i64) -> BigInt {
    if from <= to { digits * pow10(to - from) } else { drop_digits(digits, from - to) }
}

/// exp(x / 10^w) × 10^w.
fn exp_fixed(x: &BigInt, w: i64) -> BigInt {
    let one = pow10(w);
    // Halve until small, sum the series, square back.
    let mut halvings = 0u32;
    let mut bits = x.bits() as i64 - one.bits() as i64;
    while bits > -8 {
        halvings += 1;
        bits -= 1;
    }
    let extra = i64::from(halvings) / 3 + 2;
    let w2 = w + extra;
    let one2 = pow10(w2);
    let r = (x * pow10(extra)) >> halvings;
    let mut sum = one2.clone();
    let mut term = one2.clone();
    let mut n = 1u32;
    loop {
        term = &term * &r / &one2 / n;
        if term.is_zero() || (term.is_negative() && (-&term).is_one()) {
            break;
        }
        sum += &term;
        n += 1;
    }
    for _ in 0..halvings {
        sum = &sum * &sum / &one2;
    }
    drop_digits(&sum, extra)
}

/// ln(x / 10^w) × 10^w for positive x.
fn ln_fixed(x: &BigInt, w: i64) -> BigInt {
    // Take roots until near one, then 2·artanh((x-1)/(x+1)).
    let extra = 8 + (x.bits() as i64 - pow10(w).bits() as i64).abs() / 3;
    let w2 = w + extra;
    let one = pow10(w2);
    let mut y = x * pow10(extra);
    let mut roots = 0u32;
    let near = &one / 64u8;
    while (&y - &one).abs() > near {
        y = (&y * &one).sqrt();
        roots += 1;
    }
    let z = (&y - &one) * &one / (&y + &one);
    let square = &z * &z / &one;
    let mut sum = z.clone();
    let mut power = z;
    let mut n = 3u32;
    loop {
        power = &power * &square / &one;
        let term = &power / n;
        if term.is_zero() {
            break;
        }
        sum += term;
        n += 2;
    }
    drop_digits(&((sum * 2u8) << roots), extra)
}

/// Estimated decimal weight of a logarithm.
fn ln_weight(digits: &BigInt, scale: i64) -> i64 {
    let value = Finite(bigdecimal::BigDecimal::new(digits.clone(), scale)).to_f64();
    if (0.9..=1.1).contains(&value) {
        let rest = digits - pow10(scale);
        if rest.is_zero() {
            return 0;
        }
        let (weight, first) = leading_digit(&rest, scale);
        return weight * 4 + (first as f64).log10() as i64;
    }
    let count = digit_count(digits);
    let lead = if count > 15 { digits / pow10(count - 15) } else { digits.clone() };
    let dropped = (count - 15).max(0) - scale;
    let ln = lead.to_f64().expect("15 digits").ln() + dropped as f64 * std::f64::consts::LN_10;
    ln.abs().log10() as i64
}

fn result_scale(weight: i64, scales: &[i64]) -> i64 {
    scales.iter().fold(MIN_SIGNIFICANT_DIGITS - weight, |a, b| a.max(*b)).clamp(0, MAX_RESULT_SCALE)
}

/// ln of digits/10^scale at scale `to`.
fn ln_at(digits: &BigInt, scale: i64, to: i64) -> BigInt {
    let w = to + GUARD + digit_count(digits).saturating_sub(scale).max(scale.min(40));
    drop_digits(&ln_fixed(&to_scale(digits, scale, w.max(scale)), w.max(scale)), w.max(scale) - to)
}

impl Numeric {
    /// Square root.
    pub fn sqrt(&self) -> Result<Numeric> {
        let Finite(d) = self else { return self.sqrt_to(0) };
        let (digits, scale) = d.as_bigint_and_scale();
        let (weight, _) = leading_digit(&digits, scale);
        let result_weight = if weight >= 0 { weight * 4 / 2 + 1 } else { 1 - (1 - weight * 4) / 2 };
        self.sqrt_to(result_scale(result_weight, &[scale]))
    }

    /// The square root with `to` digits behind the point.
    pub fn sqrt_to(&self, to: i64) -> Result<Numeric> {
        match self {
            NaN => Ok(NaN),
            Infinity => Ok(Infinity),
            _ if self.signum() < 0 => Err(invalid_power("cannot take square root of a negative number")),
            Finite(d) => {
                let (digits, scale) = d.as_bigint_and_scale();
                // One digit more, then round: the root of an integer is exact or irrational.
                let shifted = digits.as_ref() * pow10(2 * (to + 1)) / pow10(scale);
                Numeric::new(drop_digits(&shifted.sqrt(), 1), to)
            }
            NegInfinity => unreachable!("negative"),
        }
    }

    /// e to the power of the value.
    pub fn exp(&self) -> Result<Numeric> {
        let Finite(d) = self else {
            return Ok(match self {
                NegInfinity => Numeric::zero(),
                other => other.clone(),
            });
        };
        let (digits, scale) = d.as_bigint_and_scale();
        let value = self.to_f64();
        let weight = (value * LOG10_E).clamp(-2000.0, 2000.0) as i64;
        let to = result_scale(weight, &[scale]);
        if value.abs() > 6000.0 {
            return if value > 0.0 { Err(overflow()) } else { Numeric::new(BigInt::zero(), to) };
        }
        exp_at(&digits, scale, weight, to)
    }

    /// Natural logarithm.
    pub fn ln(&self) -> Result<Numeric> {
        match self {
            NaN => Ok(NaN),
            Infinity => Ok(Infinity),
            _ if self.signum() < 0 => Err(invalid_logarithm("cannot take logarithm of a negative number")),
            _ if self.is_zero() => Err(invalid_logarithm("cannot take logarithm of zero")),
            Finite(d) => {
                let (digits, scale) = d.as_bigint_and_scale();
                let to = result_scale(ln_weight(&digits, scale), &[scale]);
                Numeric::new(ln_at(&digits, scale, to), to)
            }
            NegInfinity => unreachable!("negative"),
        }
    }

    /// Logarithm of `self` to a base.
    pub fn log(&self, base: &Numeric) -> Result<Numeric> {
        let (Finite(n), Finite(b)) = (self, base) else {
            if matches!(self, NaN) || matches!(base, NaN) {
                return Ok(NaN);
            }
            let (over, under) = (self.ln()?, base.ln()?);
            return over.div(&under);
        };
        let ((n, ns), (b, bs)) = (n.as_bigint_and_scale(), b.as_bigint_and_scale());
        for v in [&*b, &*n] {
            if v.is_negative() {
                return Err(invalid_logarithm("cannot take logarithm of a negative number"));
            }
            if v.is_zero() {
                return Err(invalid_logarithm("cannot take logarithm of zero"));
            }
        }
        let weight = ln_weight(&n, ns) - ln_weight(&b, bs);
        let to = result_scale(weight, &[ns, bs]);
        let w = to + GUARD + ln_weight(&b, bs).abs() + weight.abs();
        let under = ln_at(&b, bs, w);
        if under.is_zero() {
            return Err(super::arithmetic::division_by_zero());
        }
        Numeric::new(quotient(&ln_at(&n, ns, w), w, &under, w, to), to)
    }

    /// `self` to the power of `exponent`.
    pub fn power(&self, exponent: &Numeric) -> Result<Numeric> {
        let one = Numeric::from(1i64);
        match (self, exponent) {
            (Finite(_), Finite(_)) => {}
            _ => return self.power_special(exponent, &one),
        }
        let (Finite(base), Finite(e)) = (self, exponent) else { unreachable!("both are finite") };
        let ((b, bs), (e, es)) = (base.as_bigint_and_scale(), e.as_bigint_and_scale());
        if b.is_zero() && e.is_negative() {
            return Err(invalid_power("zero raised to a negative power is undefined"));
        }
        let whole = exponent.compare(&exponent.trunc(0)?).is_eq();
        if b.is_negative() && !whole {
            return Err(invalid_power(
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        if whole
            && let Ok(n) = exponent.to_i64("integer")
            && let Ok(n) = i32::try_from(n)
        {
            return power_integer(&b, bs, n, result_scale(0, &[bs]));
        }
        if b.is_zero() {
            return Numeric::new(BigInt::zero(), result_scale(0, &[bs, es]));
        }
        let negative = b.is_negative() && exponent.rem(&Numeric::from(2i64))?.signum() != 0;
        let b = b.abs();
        let estimate =
            Finite(bigdecimal::BigDecimal::new(ln_at(&b, bs, 20), 20)).to_f64() * exponent.to_f64();
        if estimate.abs() > 6020.0 {
            return if estimate > 0.0 {
                Err(overflow())
            } else {
                Numeric::new(BigInt::zero(), MAX_RESULT_SCALE)
            };
        }
        let weight = (estimate * LOG10_E) as i64;
        let to = result_scale(weight, &[bs, es]);
        let w = to + GUARD + weight.abs() + digit_count(&e).saturating_sub(es).max(0);
        let ln = ln_at(&b, bs, w) * e.as_ref();
        let result = exp_at(&ln, w + es, weight, to)?;
        Ok(if negative { result.neg() } else { result })
    }

    fn power_special(&self, exponent: &Numeric, one: &Numeric) -> Result<Numeric> {
        if exponent.is_zero() || self.compare(one).is_eq() {
            return Ok(one.clone());
        }
        if matches!(self, NaN) || matches!(exponent, NaN) {
            return Ok(NaN);
        }
        if self.is_zero() {
            return if exponent.signum() < 0 {
                Err(invalid_power("zero raised to a negative power is undefined"))
            } else {
                Ok(Numeric::zero())
            };
        }
        if let Infinity | NegInfinity = exponent {
            let magnitude = self.abs().compare(one);
            return Ok(match (magnitude, exponent) {
                (std::cmp::Ordering::Equal, _) => one.clone(),
                (std::cmp::Ordering::Greater, Infinity) | (std::cmp::Ordering::Less, NegInfinity) => Infinity,
                _ => Numeric::zero(),
            });
        }
        if exponent.signum() < 0 {
            return Ok(Numeric::zero());
        }
        let whole = exponent.compare(&exponent.trunc(0)?).is_eq();
        if matches!(self, NegInfinity) && !whole {
            return Err(invalid_power(
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        let odd = whole && exponent.rem(&Numeric::from(2i64))?.signum() != 0;
        Ok(if matches!(self, NegInfinity) && odd { NegInfinity } else { Infinity })
    }
}

fn exp_at(digits: &BigInt, scale: i64, weight: i64, to: i64) -> Result<Numeric> {
    let w = to + weight.max(0) + GUARD;
    let x = to_scale(digits, scale, w);
    Numeric::new(drop_digits(&exp_fixed(&x, w), w - to), to)
}

fn power_integer(base: &BigInt, scale: i64, exponent: i32, to: i64) -> Result<Numeric> {
    if exponent == 0 {
        return Numeric::new(pow10(to), to);
    }
    if base.is_zero() {
        return Numeric::new(BigInt::zero(), to);
    }
    let n = exponent.unsigned_abs();
    let magnitude = (digit_count(base) - scale) as f64;
    let log10 = {
        let count = digit_count(base);
        let lead = if count > 15 { base.abs() / pow10(count - 15) } else { base.abs() };
        (lead.to_f64().expect("15 digits")).log10() + ((count - 15).max(0) - scale) as f64
    };
    let weight = log10 * f64::from(exponent);
    if weight > 131_072.0 + magnitude.abs() {
        return Err(overflow());
    }
    if weight + 1.0 < -(to as f64) {
        return Numeric::new(BigInt::zero(), to);
    }
    // Exact by squaring, cut to the digits that can matter.
    let significant = to + weight.abs() as i64 + GUARD + i64::from(n.ilog2()) + 4;
    let trim = |(digits, scale): (BigInt, i64)| {
        let excess = digit_count(&digits) - significant;
        if excess > 0 { (drop_digits(&digits, excess), scale - excess) } else { (digits, scale) }
    };
    let mut result = (BigInt::one(), 0i64);
    let mut square = (base.clone(), scale);
    let mut bits = n;
    loop {
        if bits & 1 == 1 {
            result = trim((&result.0 * &square.0, result.1 + square.1));
        }
        bits >>= 1;
        if bits == 0 {
            break;
        }
        square = trim((&square.0 * &square.0, square.1 * 2));
    }
    let (digits, scale) = result;
    if exponent < 0 {
        return Numeric::new(quotient(&BigInt::one(), 0, &digits, scale, to), to);
    }
    Numeric::new(to_scale(&digits, scale, to), to)
}
