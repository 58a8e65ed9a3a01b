//! Text form of float4 and float8.

use std::io::Write;

use num_bigint::BigInt;

use crate::{Result, SqlError, SqlState};

/// A small buffer on the stack, long enough for any float's digits.
struct Scratch {
    bytes: [u8; 40],
    len: usize,
}

impl Write for Scratch {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = buf.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&buf[..n]);
        self.len += n;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Scratch {
    fn new() -> Scratch {
        Scratch { bytes: [0; 40], len: 0 }
    }

    fn shown(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn special(value: f64, out: &mut Vec<u8>) -> bool {
    let text: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value == f64::INFINITY {
        b"Infinity"
    } else if value == f64::NEG_INFINITY {
        b"-Infinity"
    } else if value == 0.0 {
        if value.is_sign_negative() { b"-0" } else { b"0" }
    } else {
        return false;
    };
    out.extend_from_slice(text);
    true
}

/// Appends a float8: with `extra_digits` above zero the shortest text that reads back the same, else
/// rounded to 15 significant digits plus it.
pub fn write_f64(value: f64, extra_digits: i32, out: &mut Vec<u8>) {
    if special(value, out) {
        return;
    }
    let mut scratch = Scratch::new();
    if extra_digits <= 0 {
        let digits = (14 + extra_digits).max(0) as usize;
        write!(scratch, "{value:.digits$e}").expect("a float fits");
        return layout(scratch.shown(), digits as i32 + 1, true, out);
    }
    write!(scratch, "{value:e}").expect("a float fits");
    let (mantissa, power) = parts_f64(value);
    if on_boundary(mantissa, power, scratch.shown()) {
        // PostgreSQL takes a digit more rather than a decimal halfway between two floats.
        for digits in 1..=16 {
            let mut longer = Scratch::new();
            write!(longer, "{value:.digits$e}").expect("a float fits");
            let text = std::str::from_utf8(longer.shown()).expect("ASCII");
            if text.parse() == Ok(value) && !on_boundary(mantissa, power, longer.shown()) {
                scratch = longer;
                break;
            }
        }
    }
    layout(scratch.shown(), 15, false, out);
}

/// Appends a float4.
pub fn write_f32(value: f32, extra_digits: i32, out: &mut Vec<u8>) {
    if special(value.into(), out) {
        return;
    }
    let mut scratch = Scratch::new();
    if extra_digits <= 0 {
        let digits = (5 + extra_digits).max(0) as usize;
        write!(scratch, "{value:.digits$e}").expect("a float fits");
        layout(scratch.shown(), digits as i32 + 1, true, out);
    } else {
        write!(scratch, "{value:e}").expect("a float fits");
        let (mantissa, power) = parts_f32(value);
        if on_boundary(mantissa, power, scratch.shown()) {
            for digits in 1..=8 {
                let mut longer = Scratch::new();
                write!(longer, "{value:.digits$e}").expect("a float fits");
                let text = std::str::from_utf8(longer.shown()).expect("ASCII");
                if text.parse() == Ok(value) && !on_boundary(mantissa, power, longer.shown()) {
                    scratch = longer;
                    break;
                }
            }
        }
        layout(scratch.shown(), 6, false, out);
    }
}

/// Whether a short decimal lies exactly halfway between a float (`mantissa` × 2^`power`) and its
/// neighbour, which can only be for large even mantissas.
fn on_boundary(mantissa: u64, power: i64, shown: &[u8]) -> bool {
    if !(1..=110).contains(&power) || mantissa & 1 == 1 {
        return false;
    }
    let text = std::str::from_utf8(shown).expect("ASCII").trim_start_matches('-');
    let (digits, exponent) = text.split_once('e').expect("scientific format has an exponent");
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent: i64 = exponent.parse().expect("an exponent is an integer");
    let shift = exponent - fraction.len() as i64;
    if shift < 0 {
        return false;
    }
    let digits: BigInt = [whole, fraction].concat().parse().expect("digits of a float");
    let decimal = digits * super::numeric::pow10(shift);
    let exact = BigInt::from(mantissa) << power as usize;
    let half = BigInt::from(1) << (power - 1) as usize;
    decimal == &exact + &half || decimal == exact - half
}

fn parts_f64(value: f64) -> (u64, i64) {
    let bits = value.abs().to_bits();
    ((bits & ((1 << 52) - 1)) | 1 << 52, (bits >> 52) as i64 - 1075)
}

fn parts_f32(value: f32) -> (u64, i64) {
    let bits = value.abs().to_bits();
    (u64::from(bits & ((1 << 23) - 1)) | 1 << 23, i64::from(bits >> 23) - 150)
}

/// Lays out `d.ddde±x`: plain from 1e-4 up to 10^`limit`, else scientific with two digits of exponent.
fn layout(scientific: &[u8], limit: i32, trim: bool, out: &mut Vec<u8>) {
    let at = scientific.iter().position(|b| *b == b'e').expect("scientific format has an exponent");
    let exponent: i32 = std::str::from_utf8(&scientific[at + 1..])
        .expect("ASCII")
        .parse()
        .expect("an exponent is an integer");
    let mut mantissa = &scientific[..at];
    if let [b'-', rest @ ..] = mantissa {
        out.push(b'-');
        mantissa = rest;
    }
    let mut digits = [0u8; 40];
    let mut count = 0;
    for b in mantissa.iter().filter(|b| **b != b'.') {
        digits[count] = *b;
        count += 1;
    }
    while trim && count > 1 && digits[count - 1] == b'0' {
        count -= 1;
    }
    let digits = &digits[..count];
    if exponent < -4 || exponent >= limit {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()).expect("a Vec grows");
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
    } else {
        let whole = exponent as usize + 1;
        if count <= whole {
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', whole - count));
        } else {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

/// Whether the text is a number that `strtod` takes (Rust's parser takes the same, less hex).
fn parse<F: std::str::FromStr + Copy>(input: &str, type_name: &str) -> Result<(F, bool)> {
    let text = input.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let invalid = || {
        SqlError::new(
            SqlState::INVALID_TEXT,
            format!("invalid input syntax for type {type_name}: \"{input}\""),
        )
    };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let named = unsigned.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if named && !["nan", "inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name)) {
        return Err(invalid());
    }
    Ok((text.parse().map_err(|_| invalid())?, named))
}

/// Whether the digits before the exponent are all zero.
fn is_zero(text: &str) -> bool {
    !text.bytes().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| matches!(b, b'1'..=b'9'))
}

fn out_of_range(input: &str, type_name: &str) -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_OUT_OF_RANGE,
        format!("\"{}\" is out of range for type {type_name}", input.trim()),
    )
}

/// Parses a float8.
pub fn parse_f64(input: &str) -> Result<f64> {
    let (value, named): (f64, bool) = parse(input, "double precision")?;
    if !named && (value.is_infinite() || (value == 0.0 && !is_zero(input))) {
        return Err(out_of_range(input, "double precision"));
    }
    Ok(value)
}

/// Parses a float4.
pub fn parse_f32(input: &str) -> Result<f32> {
    let (value, named): (f32, bool) = parse(input, "real")?;
    if !named && (value.is_infinite() || (value == 0.0 && !is_zero(input))) {
        return Err(out_of_range(input, "real"));
    }
    Ok(value)
}
