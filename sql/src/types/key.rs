//! Values as elements of keys.
//!
//! The order of the bytes is the order of [`super::compare`]. Where that order is coarser than the
//! values' bytes (numeric scale, -0.0, trailing blanks, equal intervals), the element does not give
//! the original back: [`key_is_exact`] says so, and the row's value holds the original.

use cairn_kv::encoding::{self, Direction, Element};

use super::order::trim_blanks;
use super::{Datum, TypeKind};
use crate::{Result, SqlError, SqlState};

/// Appends a value as a key element.
pub fn put_key(out: &mut Vec<u8>, value: &Datum, kind: TypeKind, direction: Direction, nulls_first: bool) {
    match value {
        Datum::Null => encoding::put_null(out, nulls_first),
        Datum::Bool(v) => encoding::put_i64(out, (*v).into(), direction),
        Datum::Int2(v) => encoding::put_i64(out, (*v).into(), direction),
        Datum::Int4(v) | Datum::Date(v) => encoding::put_i64(out, (*v).into(), direction),
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) => encoding::put_i64(out, *v, direction),
        Datum::Oid(v) => encoding::put_i64(out, (*v).into(), direction),
        Datum::Char(v) => encoding::put_i64(out, (*v).into(), direction),
        Datum::Float4(v) => encoding::put_f64(out, (*v).into(), direction),
        Datum::Float8(v) => encoding::put_f64(out, *v, direction),
        Datum::Numeric(v) => encoding::put_decimal(out, &v.to_decimal(), direction),
        Datum::Text(v) => {
            let text = if kind == TypeKind::Bpchar { trim_blanks(v) } else { v };
            encoding::put_bytes(out, text.as_bytes(), direction);
        }
        Datum::Bytea(v) => encoding::put_bytes(out, v, direction),
        Datum::Uuid(v) => encoding::put_bytes(out, v, direction),
        Datum::Interval(v) => {
            // Flipping the sign bit makes the bytes of a signed number order like the number.
            let span = (v.span() as u128) ^ (1 << 127);
            encoding::put_bytes(out, &span.to_be_bytes(), direction);
        }
        Datum::Array(a) => {
            // Elements are prefix-free and the string is terminated, so a prefix sorts first.
            let mut items = Vec::new();
            for item in &a.items {
                put_key(&mut items, item, a.element, Direction::Asc, false);
            }
            encoding::put_bytes(out, &items, direction);
        }
    }
}

/// Whether [`take_key`] gives back exactly what [`put_key`] was given.
pub fn key_is_exact(kind: TypeKind) -> bool {
    match kind {
        TypeKind::Float4 | TypeKind::Float8 | TypeKind::Numeric | TypeKind::Bpchar | TypeKind::Interval => {
            false
        }
        _ => kind.element().is_none_or(key_is_exact),
    }
}

/// Decodes the key element at the front of `input`. For types whose key is not exact, a value that
/// is equal to the original.
pub fn take_key(input: &mut &[u8], kind: TypeKind) -> Result<Datum> {
    let corrupt =
        || SqlError::new(SqlState::DATA_CORRUPTED, format!("key element does not decode as {}", kind.name()));
    let int = match kind {
        TypeKind::Bool
        | TypeKind::Int2
        | TypeKind::Int4
        | TypeKind::Int8
        | TypeKind::Date
        | TypeKind::Time
        | TypeKind::Timestamp
        | TypeKind::TimestampTz
        | TypeKind::Oid
        | TypeKind::Xid
        | TypeKind::Regclass
        | TypeKind::Regtype
        | TypeKind::Regproc
        | TypeKind::Regnamespace
        | TypeKind::Regrole
        | TypeKind::InternalChar => encoding::take_i64(input).map_err(|_| corrupt())?,
        _ => return take_other(input, kind, &corrupt),
    };
    let Some(v) = int else { return Ok(Datum::Null) };
    let datum = match kind {
        TypeKind::Bool => Some(Datum::Bool(v != 0)),
        TypeKind::Int2 => v.try_into().ok().map(Datum::Int2),
        TypeKind::Int4 => v.try_into().ok().map(Datum::Int4),
        TypeKind::Int8 => Some(Datum::Int8(v)),
        TypeKind::Date => v.try_into().ok().map(Datum::Date),
        TypeKind::Time => Some(Datum::Time(v)),
        TypeKind::Timestamp | TypeKind::TimestampTz => Some(Datum::Timestamp(v)),
        TypeKind::InternalChar => v.try_into().ok().map(Datum::Char),
        _ => v.try_into().ok().map(Datum::Oid),
    };
    datum.ok_or_else(corrupt)
}

fn take_other(input: &mut &[u8], kind: TypeKind, corrupt: &dyn Fn() -> SqlError) -> Result<Datum> {
    use super::numeric::{self, Numeric};
    use cairn_kv::encoding::Decimal;
    let element = encoding::take(input).map_err(|_| corrupt())?;
    Ok(match (element, kind) {
        (Element::Null, _) => Datum::Null,
        (Element::Float(v), TypeKind::Float4) => Datum::Float4(v as f32),
        (Element::Float(v), TypeKind::Float8) => Datum::Float8(v),
        (Element::Decimal(d), TypeKind::Numeric) => Datum::numeric(match d {
            Decimal::NaN => Numeric::NaN,
            Decimal::Infinity { negative: false } => Numeric::Infinity,
            Decimal::Infinity { negative: true } => Numeric::NegInfinity,
            Decimal::Finite { negative, exponent, digits } => {
                let text: String = digits.iter().map(|d| char::from(b'0' + d)).collect();
                let sign = if negative { "-" } else { "" };
                if digits.is_empty() {
                    Numeric::zero()
                } else {
                    numeric::parse(&format!("{sign}0.{text}e{exponent}"))?.ok_or_else(corrupt)?
                }
            }
        }),
        (Element::Bytes(b), TypeKind::Bytea) => Datum::Bytea(b.into()),
        (Element::Bytes(b), TypeKind::Uuid) => Datum::Uuid(b.try_into().map_err(|_| corrupt())?),
        (Element::Bytes(b), TypeKind::Interval) => {
            let bytes: [u8; 16] = b.try_into().map_err(|_| corrupt())?;
            let span = (u128::from_be_bytes(bytes) ^ (1 << 127)) as i128;
            let day = i128::from(super::datetime::MICROS_PER_DAY);
            let (days, micros) = (span / day, span % day);
            Datum::Interval(super::Interval {
                months: (days / 30).try_into().map_err(|_| corrupt())?,
                days: (days % 30) as i32,
                micros: micros as i64,
            })
        }
        (Element::Bytes(b), _) => match kind.element() {
            Some(element) => {
                let mut rest = b.as_slice();
                let mut items = Vec::new();
                while !rest.is_empty() {
                    items.push(take_key(&mut rest, element)?);
                }
                Datum::array(element, items)
            }
            None => Datum::Text(String::from_utf8(b).map_err(|_| corrupt())?.into()),
        },
        _ => return Err(corrupt()),
    })
}
