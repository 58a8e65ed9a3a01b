//! Text and binary formats.

use num_bigint::{BigInt, Sign};
use num_traits::{Signed, Zero};

use super::Numeric::{self, Finite, Infinity, NaN, NegInfinity};
use super::{MAX_SCALE, MAX_WHOLE_DIGITS, overflow, pow10};
use crate::{Result, SqlError, SqlState};

const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xc000;
const SIGN_INFINITY: u16 = 0xd000;
const SIGN_NEG_INFINITY: u16 = 0xf000;

/// Parses a number; `None`: it is none.
pub fn parse(input: &str) -> Result<Option<Numeric>> {
    let text = input.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if unsigned.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) {
        return Ok(if text.eq_ignore_ascii_case("nan") {
            Some(NaN)
        } else if unsigned.eq_ignore_ascii_case("infinity") || unsigned.eq_ignore_ascii_case("inf") {
            Some(if negative { NegInfinity } else { Infinity })
        } else {
            None
        });
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return Ok(None);
    }
    let exponent: i64 = match exponent {
        None => 0,
        Some(e) => {
            let unsigned = e.strip_prefix(['+', '-']).unwrap_or(e);
            if unsigned.is_empty() || !digits(unsigned) {
                return Ok(None);
            }
            match e.parse::<i64>() {
                Ok(e) if e.abs() < i64::from(i32::MAX) / 2 => e,
                _ => return Err(overflow()),
            }
        }
    };
    let scale = fraction.len() as i64 - exponent;
    if whole.len() + fraction.len() <= 18 {
        let mut small = 0i64;
        for b in whole.bytes().chain(fraction.bytes()) {
            small = small * 10 + i64::from(b - b'0');
        }
        return finish(BigInt::from(if negative { -small } else { small }), scale).map(Some);
    }
    let joined = [whole, fraction].concat();
    let number = BigInt::parse_bytes(joined.as_bytes(), 10).expect("only digits");
    finish(if negative { -number } else { number }, scale).map(Some)
}

fn finish(digits: BigInt, scale: i64) -> Result<Numeric> {
    if digits.is_zero() {
        return Numeric::new(digits, scale.clamp(0, MAX_SCALE));
    }
    if scale < -MAX_WHOLE_DIGITS {
        return Err(overflow());
    }
    if scale > MAX_SCALE + super::digit_count(&digits) {
        return Numeric::new(BigInt::from(0), MAX_SCALE);
    }
    Numeric::new(digits, scale)
}

/// Appends the text form.
pub fn write_text(value: &Numeric, out: &mut Vec<u8>) {
    let d = match value {
        NaN => return out.extend_from_slice(b"NaN"),
        Infinity => return out.extend_from_slice(b"Infinity"),
        NegInfinity => return out.extend_from_slice(b"-Infinity"),
        Finite(d) => d,
    };
    let (digits, scale) = d.as_bigint_and_scale();
    if digits.sign() == Sign::Minus {
        out.push(b'-');
    }
    let mut buffer = [0u8; 20];
    let long;
    let shown: &[u8] = match u64::try_from(digits.magnitude()) {
        Ok(mut small) => {
            let mut at = buffer.len();
            loop {
                at -= 1;
                buffer[at] = b'0' + (small % 10) as u8;
                small /= 10;
                if small == 0 {
                    break;
                }
            }
            &buffer[at..]
        }
        Err(_) => {
            long = digits.magnitude().to_str_radix(10);
            long.as_bytes()
        }
    };
    let scale = scale as usize;
    if scale == 0 {
        out.extend_from_slice(shown);
    } else if shown.len() > scale {
        let (whole, fraction) = shown.split_at(shown.len() - scale);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', scale - shown.len()));
        out.extend_from_slice(shown);
    }
}

/// Appends the binary form: base-10,000 digits.
pub fn write_binary(value: &Numeric, out: &mut Vec<u8>) {
    let mut header = |digits: u16, weight: i16, sign: u16, scale: u16| {
        for field in [digits, weight as u16, sign, scale] {
            out.extend_from_slice(&field.to_be_bytes());
        }
    };
    let d = match value {
        NaN => return header(0, 0, SIGN_NAN, 0),
        Infinity => return header(0, 0, SIGN_INFINITY, 0),
        NegInfinity => return header(0, 0, SIGN_NEG_INFINITY, 0),
        Finite(d) => d,
    };
    let (number, scale) = d.as_bigint_and_scale();
    // Align the point to a boundary of four digits.
    let fraction_groups = (scale as usize).div_ceil(4);
    let aligned = number.as_ref() * pow10(fraction_groups as i64 * 4 - scale);
    let mut groups: Vec<u16> = Vec::new();
    let decimal = aligned.magnitude().to_radix_be(10);
    if !aligned.is_zero() {
        let lead = decimal.len() % 4;
        let value = |d: &[u8]| d.iter().fold(0u16, |n, digit| n * 10 + u16::from(*digit));
        if lead > 0 {
            groups.push(value(&decimal[..lead]));
        }
        groups.extend(decimal[lead..].chunks(4).map(value));
    }
    let weight = groups.len() as i64 - fraction_groups as i64 - 1;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let sign = if number.is_negative() { SIGN_NEGATIVE } else { 0 };
    header(groups.len() as u16, if groups.is_empty() { 0 } else { weight as i16 }, sign, scale as u16);
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

/// Reads the binary form.
pub fn read_binary(input: &[u8]) -> Result<Numeric> {
    let invalid = |what: &str| {
        SqlError::new(SqlState::INVALID_BINARY, format!("invalid {what} in external \"numeric\" value"))
    };
    let field = |i: usize| input.get(i * 2..i * 2 + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let short = || SqlError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message");
    let (Some(count), Some(weight), Some(sign), Some(scale)) = (field(0), field(1), field(2), field(3))
    else {
        return Err(short());
    };
    if input.len() < 8 + usize::from(count) * 2 {
        return Err(short());
    }
    if input.len() > 8 + usize::from(count) * 2 {
        return Err(SqlError::new(SqlState::INVALID_BINARY, "incorrect binary data format"));
    }
    match sign {
        0 | SIGN_NEGATIVE => {}
        SIGN_NAN => return Ok(NaN),
        SIGN_INFINITY => return Ok(Infinity),
        SIGN_NEG_INFINITY => return Ok(NegInfinity),
        _ => return Err(invalid("sign")),
    }
    if i64::from(scale) > MAX_SCALE {
        return Err(invalid("scale"));
    }
    let mut decimal = Vec::with_capacity(usize::from(count) * 4);
    for i in 0..usize::from(count) {
        let group = field(4 + i).expect("length was checked");
        if group >= 10_000 {
            return Err(invalid("digit"));
        }
        for unit in [1000, 100, 10, 1] {
            decimal.push((group / unit % 10) as u8);
        }
    }
    let number = if decimal.is_empty() {
        BigInt::from(0)
    } else {
        let sign = if sign == SIGN_NEGATIVE { Sign::Minus } else { Sign::Plus };
        BigInt::from_radix_be(sign, &decimal, 10).expect("digits are 0 to 9")
    };
    // value = number × 10000^(weight + 1 - count)
    let from = -4 * (i64::from(weight as i16) + 1 - i64::from(count));
    let to = i64::from(scale);
    if from > to {
        // Digits beyond the scale are cut, as PostgreSQL does.
        let cut = number / pow10(from - to);
        return Numeric::new(cut, to);
    }
    Numeric::new(number * pow10(to - from), to)
}
