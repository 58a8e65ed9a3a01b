//! Total order and hash of values: what sorting, grouping, joins and indexes agree on.

use std::cmp::Ordering;
use std::hash::Hasher;

use super::{Datum, TypeKind};

/// bpchar without the trailing blanks that do not count.
pub fn trim_blanks(text: &str) -> &str {
    text.trim_end_matches(' ')
}

/// Order of floats: -0.0 equals 0.0, NaN equals itself and is above all.
pub fn compare_f64(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Compares two values of one type. NULL equals NULL and is above all values (the order that arrays
/// and default sorts use; operators never see NULL).
pub fn compare(a: &Datum, b: &Datum, kind: TypeKind) -> Ordering {
    use Datum::*;
    match (a, b) {
        (Null, Null) => Ordering::Equal,
        (Null, _) => Ordering::Greater,
        (_, Null) => Ordering::Less,
        (Int4(x), Int4(y)) | (Date(x), Date(y)) => x.cmp(y),
        (Int8(x), Int8(y)) | (Time(x), Time(y)) | (Timestamp(x), Timestamp(y)) => x.cmp(y),
        (Int2(x), Int2(y)) => x.cmp(y),
        (Text(x), Text(y)) if kind == TypeKind::Bpchar => trim_blanks(x).cmp(trim_blanks(y)),
        (Text(x), Text(y)) => x.cmp(y),
        (Bool(x), Bool(y)) => x.cmp(y),
        (Float4(x), Float4(y)) => compare_f64((*x).into(), (*y).into()),
        (Float8(x), Float8(y)) => compare_f64(*x, *y),
        (Numeric(x), Numeric(y)) => x.compare(y),
        (Bytea(x), Bytea(y)) => x.cmp(y),
        (Char(x), Char(y)) => x.cmp(y),
        (Interval(x), Interval(y)) => x.span().cmp(&y.span()),
        (Uuid(x), Uuid(y)) => x.cmp(y),
        (Oid(x), Oid(y)) => x.cmp(y),
        (Array(x), Array(y)) => {
            let element = x.element;
            for (p, q) in x.items.iter().zip(&y.items) {
                let order = compare(p, q, element);
                if order.is_ne() {
                    return order;
                }
            }
            x.items.len().cmp(&y.items.len())
        }
        // Numbers of different widths, which cross-type operators compare.
        _ => match (a.as_i64(), b.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => unreachable!("values of one type share a representation: {a:?} and {b:?}"),
        },
    }
}

/// Whether two values of one type are equal (NULL equals NULL).
pub fn is_equal(a: &Datum, b: &Datum, kind: TypeKind) -> bool {
    compare(a, b, kind).is_eq()
}

/// Feeds a value to a hasher such that equal values agree.
pub fn hash_into<H: Hasher>(value: &Datum, kind: TypeKind, state: &mut H) {
    match value {
        Datum::Null => state.write_u8(0xff),
        Datum::Bool(v) => state.write_u8((*v).into()),
        // One form for all integers, so that joins across widths may hash.
        Datum::Int2(v) => state.write_i64((*v).into()),
        Datum::Int4(v) | Datum::Date(v) => state.write_i64((*v).into()),
        Datum::Oid(v) => state.write_i64((*v).into()),
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) => state.write_i64(*v),
        Datum::Float4(v) => hash_f64((*v).into(), state),
        Datum::Float8(v) => hash_f64(*v, state),
        Datum::Numeric(v) => v.hash_into(state),
        Datum::Text(v) => {
            let text = if kind == TypeKind::Bpchar { trim_blanks(v) } else { v };
            state.write(text.as_bytes());
            state.write_u8(0);
        }
        Datum::Bytea(v) => {
            state.write_usize(v.len());
            state.write(v);
        }
        Datum::Char(v) => state.write_u8(*v),
        Datum::Interval(v) => state.write_i128(v.span()),
        Datum::Uuid(v) => state.write(v),
        Datum::Array(a) => {
            state.write_usize(a.items.len());
            for item in &a.items {
                hash_into(item, a.element, state);
            }
        }
    }
}

fn hash_f64<H: Hasher>(value: f64, state: &mut H) {
    let canonical = if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f64::NAN
    } else {
        value
    };
    state.write_u64(canonical.to_bits());
}

/// Hash of one value. The same on every run and node.
pub fn hash(value: &Datum, kind: TypeKind) -> u64 {
    let mut hasher = StableHasher::default();
    hash_into(value, kind, &mut hasher);
    hasher.finish()
}

/// A fast hasher without a random seed, so that simulations replay: multiply and rotate per word,
/// mixed well at the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct StableHasher(u64);

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl StableHasher {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
    }
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.word(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut last = [0u8; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
        self.word(bytes.len() as u64);
    }

    fn write_u8(&mut self, v: u8) {
        self.word(v.into());
    }

    fn write_u64(&mut self, v: u64) {
        self.word(v);
    }

    fn write_i64(&mut self, v: i64) {
        self.word(v as u64);
    }

    fn write_usize(&mut self, v: usize) {
        self.word(v as u64);
    }

    fn finish(&self) -> u64 {
        let mut h = self.0;
        h ^= h >> 32;
        h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
        h ^= h >> 29;
        h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
        h ^ (h >> 32)
    }
}
