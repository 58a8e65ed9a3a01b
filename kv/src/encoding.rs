//! Order-preserving, prefix-free encoding of tuples: the order of the bytes is the order of the
//! values, and no encoding is a prefix of another. NULLs sort last ascending, first descending, as
//! in PostgreSQL.
//!
//! Every element begins with a marker byte that orders NULL against values and carries the
//! direction, so that a decoder needs no schema to skip an element.

use crate::{Error, Result};

/// Direction of an element's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Asc,
    /// Descending: the bytes of the value are complemented.
    Desc,
}

/// Appends NULL, which sorts before (`first`) or after all values.
pub fn put_null(out: &mut Vec<u8>, first: bool) {
    let _ = (out, first);
    todo!("kv: encoding")
}

/// Appends an integer in 1 to 9 bytes.
pub fn put_i64(out: &mut Vec<u8>, value: i64, direction: Direction) {
    let _ = (out, value, direction);
    todo!("kv: encoding")
}

/// Appends a float; -0.0 equals 0.0, NaN sorts above all and equals itself.
pub fn put_f64(out: &mut Vec<u8>, value: f64, direction: Direction) {
    let _ = (out, value, direction);
    todo!("kv: encoding")
}

/// Appends a byte string (escaped and terminated).
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8], direction: Direction) {
    let _ = (out, value, direction);
    todo!("kv: encoding")
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

/// Appends a decimal.
pub fn put_decimal(out: &mut Vec<u8>, value: &Decimal, direction: Direction) {
    let _ = (out, value, direction);
    todo!("kv: encoding")
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

/// Decodes the element at the front of `input` and moves `input` behind it.
pub fn take(input: &mut &[u8]) -> Result<Element> {
    let _ = input;
    todo!("kv: encoding")
}

/// Decodes an integer at the front (`None`: NULL) without the detour of [`Element`].
pub fn take_i64(input: &mut &[u8]) -> Result<Option<i64>> {
    let _ = input;
    todo!("kv: encoding")
}

/// Moves `input` behind the element at its front.
pub fn skip(input: &mut &[u8]) -> Result<()> {
    let _ = input;
    Err(Error::Corruption("key encoding".into()))
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
