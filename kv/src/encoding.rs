//! Order-preserving, prefix-free encoding of tuples: the order of the bytes is the order of the
//! values, and no encoding is a prefix of another. NULLs sort last ascending, first descending, as
//! in PostgreSQL, unless the column says otherwise.
//!
//! Every element begins with a marker byte that orders NULL against values and carries type and
//! direction, so that a decoder needs no schema to skip an element. A descending element is the
//! complement of the ascending one, marker included; so markers below 0x80 are ascending.
//!
//! | marker | element |
//! |---|---|
//! | 0x01, 0xfe | NULL first, NULL last |
//! | 0x02 | float: 8 bytes |
//! | 0x03 | byte string: 0x00 escaped as 0x00 0xff, ended by 0x00 0x01 |
//! | 0x04 | decimal: class, and for finite numbers exponent, digits in pairs, end |
//! | 0x10–0x17 | negative integer in 8–1 bytes |
//! | 0x18–0x77 | the integers −16 to 79 |
//! | 0x78–0x7f | positive integer in 1–8 bytes |
//!
//! Every value has exactly one encoding; a decoder refuses any other, so that two keys are equal
//! exactly when their bytes are. 0x00 and 0xff never begin an element: 0x00 behind a key makes its
//! successor, and every encoding has a [`prefix_end`].

use std::borrow::Cow;

use crate::{Error, Result};

const NULL_FIRST: u8 = 0x01;
const NULL_LAST: u8 = !NULL_FIRST;
const FLOAT: u8 = 0x02;
const BYTES: u8 = 0x03;
const DECIMAL: u8 = 0x04;
/// Marker of a negative integer of 8 bytes; the one of `n` bytes is `INT_FIRST + 8 - n`.
const INT_FIRST: u8 = 0x10;
const INT_INLINE: u8 = 0x18;
/// Marker of a positive integer of one byte; the one of `n` bytes is `INT_POSITIVE + n - 1`.
const INT_POSITIVE: u8 = 0x78;
const INT_LAST: u8 = 0x7f;
const INLINE_MIN: i64 = -16;
const INLINE_MAX: i64 = 79;

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const TERMINATOR: u8 = 0x01;

const DECIMAL_NEGATIVE_INFINITY: u8 = 0x01;
const DECIMAL_NEGATIVE: u8 = 0x02;
const DECIMAL_ZERO: u8 = 0x03;
const DECIMAL_POSITIVE: u8 = 0x04;
const DECIMAL_INFINITY: u8 = 0x05;
const DECIMAL_NAN: u8 = 0x06;
/// Ends the digit pairs, each of which is stored as its value plus one.
const DIGITS_END: u8 = 0x00;

/// Direction of an element's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Asc,
    /// Descending: the bytes of the value are complemented.
    Desc,
}

/// A decimal for the encoding: ±0.d₁d₂d₃… × 10^exponent with `digits` 0–9, no leading or trailing
/// zero digit; zero has no digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// Sorts above all.
    NaN,
    /// Infinity, negative or not.
    Infinity {
        /// Sign.
        negative: bool,
    },
    /// A finite number.
    Finite {
        /// Sign.
        negative: bool,
        /// Power of ten.
        exponent: i32,
        /// Decimal digits, each 0–9.
        digits: Vec<u8>,
    },
}

/// An element as decoded by [`take`].
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// NULL.
    Null,
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A decimal.
    Decimal(Decimal),
}

/// Appends NULL, which sorts before (`first`) or after all values.
pub fn put_null(out: &mut Vec<u8>, first: bool) {
    out.push(if first { NULL_FIRST } else { NULL_LAST });
}

/// Appends an integer in 1 to 9 bytes.
pub fn put_i64(out: &mut Vec<u8>, value: i64, direction: Direction) {
    let start = out.len();
    if (INLINE_MIN..=INLINE_MAX).contains(&value) {
        out.push(INT_INLINE + (value - INLINE_MIN) as u8);
    } else {
        let bytes = value.to_be_bytes();
        if value > 0 {
            let len = 8 - (value.leading_zeros() / 8) as usize;
            out.push(INT_POSITIVE + len as u8 - 1);
            out.extend_from_slice(&bytes[8 - len..]);
        } else {
            // The bytes that are all ones carry no information: the marker says how many.
            let len = 8 - (value.leading_ones() / 8) as usize;
            out.push(INT_FIRST + 8 - len as u8);
            out.extend_from_slice(&bytes[8 - len..]);
        }
    }
    complement(&mut out[start..], direction);
}

/// Appends a float; -0.0 equals 0.0, NaN sorts above all and equals itself.
pub fn put_f64(out: &mut Vec<u8>, value: f64, direction: Direction) {
    let start = out.len();
    let value = if value.is_nan() {
        f64::from_bits(CANONICAL_NAN)
    } else if value == 0.0 {
        0.0
    } else {
        value
    };
    let bits = value.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.push(FLOAT);
    out.extend_from_slice(&ordered.to_be_bytes());
    complement(&mut out[start..], direction);
}

const CANONICAL_NAN: u64 = 0x7ff8_0000_0000_0000;

/// Appends a byte string (escaped and terminated).
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8], direction: Direction) {
    let start = out.len();
    out.reserve(value.len() + 3);
    out.push(BYTES);
    let mut rest = value;
    while let Some(zero) = rest.iter().position(|byte| *byte == ESCAPE) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[ESCAPE, ESCAPED_ZERO]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[ESCAPE, TERMINATOR]);
    complement(&mut out[start..], direction);
}

/// Appends a decimal.
pub fn put_decimal(out: &mut Vec<u8>, value: &Decimal, direction: Direction) {
    let start = out.len();
    out.push(DECIMAL);
    match value {
        Decimal::NaN => out.push(DECIMAL_NAN),
        Decimal::Infinity { negative: true } => out.push(DECIMAL_NEGATIVE_INFINITY),
        Decimal::Infinity { negative: false } => out.push(DECIMAL_INFINITY),
        Decimal::Finite { digits, .. } if digits.is_empty() => out.push(DECIMAL_ZERO),
        Decimal::Finite { negative, exponent, digits } => {
            assert!(
                digits.first() != Some(&0) && digits.last() != Some(&0) && digits.iter().all(|d| *d <= 9),
                "a decimal is normalized before it is encoded"
            );
            out.push(if *negative { DECIMAL_NEGATIVE } else { DECIMAL_POSITIVE });
            let magnitude = out.len();
            put_i64(out, i64::from(*exponent), Direction::Asc);
            for pair in digits.chunks(2) {
                out.push(pair[0] * 10 + pair.get(1).copied().unwrap_or(0) + 1);
            }
            out.push(DIGITS_END);
            if *negative {
                // The greater the magnitude, the smaller the number.
                complement(&mut out[magnitude..], Direction::Desc);
            }
        }
    }
    complement(&mut out[start..], direction);
}

/// Decodes the element at the front of `input` and moves `input` behind it.
pub fn take(input: &mut &[u8]) -> Result<Element> {
    let mut reader = Reader::new(input)?;
    let element = match reader.marker {
        NULL_FIRST => Element::Null,
        FLOAT => Element::Float(reader.float()?),
        BYTES => {
            let mut bytes = Vec::new();
            reader.bytes(&mut bytes)?;
            Element::Bytes(bytes)
        }
        DECIMAL => Element::Decimal(reader.decimal()?),
        INT_FIRST..=INT_LAST => Element::Int(reader.int()?),
        _ => return Err(corrupt("unknown element")),
    };
    *input = reader.rest;
    Ok(element)
}

/// Decodes an integer at the front (`None`: NULL) without the detour of [`Element`].
pub fn take_i64(input: &mut &[u8]) -> Result<Option<i64>> {
    let mut reader = Reader::new(input)?;
    let value = match reader.marker {
        NULL_FIRST => None,
        INT_FIRST..=INT_LAST => Some(reader.int()?),
        _ => return Err(corrupt("integer expected")),
    };
    *input = reader.rest;
    Ok(value)
}

/// Decodes a float at the front (`None`: NULL).
pub fn take_f64(input: &mut &[u8]) -> Result<Option<f64>> {
    let mut reader = Reader::new(input)?;
    let value = match reader.marker {
        NULL_FIRST => None,
        FLOAT => Some(reader.float()?),
        _ => return Err(corrupt("float expected")),
    };
    *input = reader.rest;
    Ok(value)
}

/// Decodes a byte string at the front (`None`: NULL); borrowed where the encoding holds it as it is.
pub fn take_bytes<'a>(input: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>> {
    let mut reader = Reader::new(input)?;
    let value = match reader.marker {
        NULL_FIRST => None,
        BYTES => Some(match reader.plain_bytes() {
            Some(bytes) => Cow::Borrowed(bytes),
            None => {
                let mut bytes = Vec::new();
                reader.bytes(&mut bytes)?;
                Cow::Owned(bytes)
            }
        }),
        _ => return Err(corrupt("byte string expected")),
    };
    *input = reader.rest;
    Ok(value)
}

/// Moves `input` behind the element at its front.
pub fn skip(input: &mut &[u8]) -> Result<()> {
    let mut reader = Reader::new(input)?;
    match reader.marker {
        NULL_FIRST => {}
        FLOAT => {
            reader.array::<8>()?;
        }
        BYTES => reader.skip_bytes()?,
        DECIMAL => {
            reader.decimal()?;
        }
        INT_FIRST..=INT_LAST => {
            reader.int()?;
        }
        _ => return Err(corrupt("unknown element")),
    }
    *input = reader.rest;
    Ok(())
}

/// The first key above every key that starts with `prefix` (empty: no bound).
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    end
}

fn complement(bytes: &mut [u8], direction: Direction) {
    if direction == Direction::Desc {
        for byte in bytes {
            *byte = !*byte;
        }
    }
}

fn corrupt(what: &str) -> Error {
    Error::Corruption(format!("key encoding: {what}"))
}

/// Reads one element. Bytes pass through `flip`, which undoes a descending element's complement
/// (and, inside a negative decimal, that of the magnitude).
struct Reader<'a> {
    marker: u8,
    flip: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(input: &'a [u8]) -> Result<Reader<'a>> {
        let (marker, rest) = input.split_first().ok_or_else(|| corrupt("element expected"))?;
        let flip = if *marker < 0x80 { 0x00 } else { 0xff };
        Ok(Reader { marker: marker ^ flip, flip, rest })
    }

    fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self.rest.split_first().ok_or_else(|| corrupt("cut short"))?;
        self.rest = rest;
        Ok(byte ^ self.flip)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| corrupt("cut short"))?;
        self.rest = rest;
        Ok(array.map(|byte| byte ^ self.flip))
    }

    /// The integer whose marker has been read.
    fn int(&mut self) -> Result<i64> {
        let marker = self.marker;
        if (INT_INLINE..INT_POSITIVE).contains(&marker) {
            return Ok(i64::from(marker - INT_INLINE) + INLINE_MIN);
        }
        let positive = marker >= INT_POSITIVE;
        let len = usize::from(if positive { marker - INT_POSITIVE + 1 } else { INT_FIRST + 8 - marker });
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(|| corrupt("cut short"))?;
        self.rest = rest;
        let mut whole = [if positive { 0x00 } else { 0xff }; 8];
        for (to, from) in whole[8 - len..].iter_mut().zip(bytes) {
            *to = from ^ self.flip;
        }
        let value = i64::from_be_bytes(whole);
        let redundant = len > 1 && whole[8 - len] == if positive { 0x00 } else { 0xff };
        if redundant || (value > 0) != positive || (INLINE_MIN..=INLINE_MAX).contains(&value) {
            return Err(corrupt("integer is not in its shortest form"));
        }
        Ok(value)
    }

    fn float(&mut self) -> Result<f64> {
        let ordered = u64::from_be_bytes(self.array()?);
        let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
        let value = f64::from_bits(bits);
        if (value.is_nan() && bits != CANONICAL_NAN) || (value == 0.0 && bits != 0) {
            return Err(corrupt("float is not canonical"));
        }
        Ok(value)
    }

    /// Position of the escape byte at or behind `from`.
    fn escape(&self, from: usize) -> Result<usize> {
        let escape = ESCAPE ^ self.flip;
        let at = self.rest[from..].iter().position(|byte| *byte == escape);
        at.map(|at| from + at).ok_or_else(|| corrupt("byte string has no end"))
    }

    /// The string as it stands, when it is ascending and holds no zero byte.
    fn plain_bytes(&mut self) -> Option<&'a [u8]> {
        let end = self.escape(0).ok()?;
        if self.flip != 0 || self.rest.get(end + 1) != Some(&TERMINATOR) {
            return None;
        }
        let bytes = &self.rest[..end];
        self.rest = &self.rest[end + 2..];
        Some(bytes)
    }

    fn bytes(&mut self, out: &mut Vec<u8>) -> Result<()> {
        loop {
            let end = self.escape(0)?;
            out.extend(self.rest[..end].iter().map(|byte| byte ^ self.flip));
            self.rest = &self.rest[end + 1..];
            match self.byte()? {
                TERMINATOR => return Ok(()),
                ESCAPED_ZERO => out.push(0),
                _ => return Err(corrupt("byte string has a bad escape")),
            }
        }
    }

    fn skip_bytes(&mut self) -> Result<()> {
        loop {
            let end = self.escape(0)?;
            self.rest = &self.rest[end + 1..];
            match self.byte()? {
                TERMINATOR => return Ok(()),
                ESCAPED_ZERO => {}
                _ => return Err(corrupt("byte string has a bad escape")),
            }
        }
    }

    fn decimal(&mut self) -> Result<Decimal> {
        let negative = match self.byte()? {
            DECIMAL_NAN => return Ok(Decimal::NaN),
            DECIMAL_NEGATIVE_INFINITY => return Ok(Decimal::Infinity { negative: true }),
            DECIMAL_INFINITY => return Ok(Decimal::Infinity { negative: false }),
            DECIMAL_ZERO => {
                return Ok(Decimal::Finite { negative: false, exponent: 0, digits: Vec::new() });
            }
            DECIMAL_NEGATIVE => true,
            DECIMAL_POSITIVE => false,
            _ => return Err(corrupt("unknown class of decimal")),
        };
        if negative {
            self.flip = !self.flip;
        }
        self.marker = self.byte()?;
        if !(INT_FIRST..=INT_LAST).contains(&self.marker) {
            return Err(corrupt("decimal has no exponent"));
        }
        let exponent =
            i32::try_from(self.int()?).map_err(|_| corrupt("exponent of decimal is out of range"))?;
        let mut digits = Vec::new();
        loop {
            match self.byte()? {
                DIGITS_END => break,
                pair @ 1..=100 => digits.extend([(pair - 1) / 10, (pair - 1) % 10]),
                _ => return Err(corrupt("bad digits of decimal")),
            }
        }
        if digits.last() == Some(&0) {
            digits.pop(); // the padding of an odd number of digits
        }
        if digits.is_empty() || digits[0] == 0 || digits.last() == Some(&0) {
            return Err(corrupt("decimal is not normalized"));
        }
        Ok(Decimal::Finite { negative, exponent, digits })
    }
}
