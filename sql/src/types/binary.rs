//! Binary send and receive of every type, in the wire protocol's formats.

use super::{Array, Datum, Interval, Type, TypeKind, datetime, json, modifier, numeric};
use crate::{Result, SqlError, SqlState};

/// Appends the binary form of a value that is not NULL (nothing for NULL).
pub fn write_binary(value: &Datum, ty: Type, out: &mut Vec<u8>) {
    match value {
        Datum::Null => {}
        Datum::Bool(v) => out.push((*v).into()),
        Datum::Int2(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Int4(v) | Datum::Date(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Float4(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Float8(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Numeric(v) => numeric::write_binary(v, out),
        Datum::Text(v) => out.extend_from_slice(v.as_bytes()),
        Datum::Bytea(v) => out.extend_from_slice(v),
        Datum::Char(v) => out.push(*v),
        Datum::Interval(v) => {
            out.extend_from_slice(&v.micros.to_be_bytes());
            out.extend_from_slice(&v.days.to_be_bytes());
            out.extend_from_slice(&v.months.to_be_bytes());
        }
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Oid(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Array(a) => write_array(a, ty.kind, out),
    }
}

fn write_array(array: &Array, kind: TypeKind, out: &mut Vec<u8>) {
    let int = |v: i32, out: &mut Vec<u8>| out.extend_from_slice(&v.to_be_bytes());
    let element = kind.element().unwrap_or(array.element);
    int(i32::from(!array.items.is_empty()), out);
    int(i32::from(array.items.iter().any(Datum::is_null)), out);
    out.extend_from_slice(&(element as u32).to_be_bytes());
    if array.items.is_empty() {
        return;
    }
    int(array.items.len() as i32, out);
    int(i32::from(!matches!(kind, TypeKind::Int2Vector | TypeKind::OidVector)), out);
    for item in &array.items {
        let at = out.len();
        int(-1, out);
        if !item.is_null() {
            write_binary(item, Type::new(element), out);
            let len = (out.len() - at - 4) as i32;
            out[at..at + 4].copy_from_slice(&len.to_be_bytes());
        }
    }
}

fn wrong_format() -> SqlError {
    SqlError::new(SqlState::INVALID_BINARY, "incorrect binary data format")
}

fn insufficient() -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message")
}

fn fixed<const N: usize>(input: &[u8]) -> Result<[u8; N]> {
    input.try_into().map_err(|_| if input.len() < N { insufficient() } else { wrong_format() })
}

/// Text in the client's encoding, which is UTF-8.
pub fn utf8(input: &[u8]) -> Result<&str> {
    let bad = |at: usize| {
        // PostgreSQL shows the bytes of the character that is wrong, as its first byte announces.
        let announced = match input[at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        let shown: Vec<String> = input[at..].iter().take(announced).map(|b| format!("0x{b:02x}")).collect();
        SqlError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
        )
    };
    let text = std::str::from_utf8(input).map_err(|e| bad(e.valid_up_to()))?;
    match input.iter().position(|b| *b == 0) {
        None => Ok(text),
        Some(at) => Err(bad(at)),
    }
}

/// Reads a value's binary form; the type's modifier applies as in an assignment.
pub fn read_binary(input: &[u8], ty: Type) -> Result<Datum> {
    let value = match ty.kind {
        TypeKind::Bool => Datum::Bool(fixed::<1>(input)?[0] != 0),
        TypeKind::Int2 => Datum::Int2(i16::from_be_bytes(fixed(input)?)),
        TypeKind::Int4 => Datum::Int4(i32::from_be_bytes(fixed(input)?)),
        TypeKind::Int8 => Datum::Int8(i64::from_be_bytes(fixed(input)?)),
        TypeKind::Float4 => Datum::Float4(f32::from_be_bytes(fixed(input)?)),
        TypeKind::Float8 => Datum::Float8(f64::from_be_bytes(fixed(input)?)),
        TypeKind::Numeric => Datum::numeric(numeric::read_binary(input)?),
        TypeKind::Text | TypeKind::Varchar | TypeKind::Bpchar | TypeKind::Unknown => {
            Datum::text(utf8(input)?)
        }
        TypeKind::Json => {
            let text = utf8(input)?;
            json::validate(text)?;
            Datum::text(text)
        }
        TypeKind::Name => {
            let text = utf8(input)?;
            if text.len() > 63 {
                return Err(SqlError::new(SqlState::NAME_TOO_LONG, "identifier too long")
                    .detail("Identifier must be less than 64 characters."));
            }
            Datum::text(text)
        }
        TypeKind::Bytea => Datum::Bytea(input.into()),
        TypeKind::InternalChar => Datum::Char(fixed::<1>(input)?[0]),
        TypeKind::Date => {
            let days = i32::from_be_bytes(fixed(input)?);
            let finite = (datetime::MIN_DATE..datetime::END_DATE).contains(&days);
            if !finite && days != i32::MAX && days != i32::MIN {
                return Err(SqlError::new(SqlState::DATETIME_OVERFLOW, "date out of range"));
            }
            Datum::Date(days)
        }
        TypeKind::Time => {
            let micros = i64::from_be_bytes(fixed(input)?);
            if !(0..=datetime::MICROS_PER_DAY).contains(&micros) {
                return Err(SqlError::new(SqlState::DATETIME_OVERFLOW, "time out of range"));
            }
            Datum::Time(micros)
        }
        TypeKind::Timestamp | TypeKind::TimestampTz => {
            let micros = i64::from_be_bytes(fixed(input)?);
            if micros != i64::MAX && micros != i64::MIN {
                datetime::check_timestamp(micros.into())?;
            }
            Datum::Timestamp(micros)
        }
        TypeKind::Interval => {
            let b: [u8; 16] = fixed(input)?;
            Datum::Interval(Interval {
                micros: i64::from_be_bytes(fixed(&b[..8])?),
                days: i32::from_be_bytes(fixed(&b[8..12])?),
                months: i32::from_be_bytes(fixed(&b[12..])?),
            })
        }
        TypeKind::Uuid => Datum::Uuid(
            input.try_into().map_err(|_| if input.len() < 16 { insufficient() } else { wrong_format() })?,
        ),
        TypeKind::Oid
        | TypeKind::Xid
        | TypeKind::Regclass
        | TypeKind::Regtype
        | TypeKind::Regproc
        | TypeKind::Regnamespace
        | TypeKind::Regrole => Datum::Oid(u32::from_be_bytes(fixed(input)?)),
        TypeKind::Void => Datum::text(""),
        kind => match kind.element() {
            Some(element) => read_array(input, Type { kind: element, modifier: ty.modifier })?,
            None => {
                return Err(SqlError::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("no binary input function available for type {}", kind.name()),
                ));
            }
        },
    };
    modifier::coerce(value, ty, false)
}

fn read_array(input: &[u8], element: Type) -> Result<Datum> {
    let mut rest = input;
    let mut take = |n: usize| -> Result<&[u8]> {
        let (head, tail) = rest.split_at_checked(n).ok_or_else(insufficient)?;
        rest = tail;
        Ok(head)
    };
    let dimensions = i32::from_be_bytes(fixed(take(4)?)?);
    let flags = i32::from_be_bytes(fixed(take(4)?)?);
    if flags != 0 && flags != 1 {
        return Err(SqlError::new(SqlState::INVALID_BINARY, "invalid array flags"));
    }
    let oid = u32::from_be_bytes(fixed(take(4)?)?);
    if oid != element.kind as u32 {
        return Err(SqlError::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "binary data has array element type {oid} ({}) instead of expected {} ({})",
                TypeKind::from_oid(oid).map_or("???".to_owned(), |k| super::format_type(Type::new(k))),
                element.kind as u32,
                super::format_type(Type::new(element.kind))
            ),
        ));
    }
    match dimensions {
        0 => {
            return if rest.is_empty() {
                Ok(Datum::array(element.kind, Vec::new()))
            } else {
                Err(wrong_format())
            };
        }
        1 => {}
        ..0 => {
            return Err(SqlError::new(
                SqlState::INVALID_BINARY,
                format!("invalid number of dimensions: {dimensions}"),
            ));
        }
        _ => return Err(SqlError::unsupported("a multidimensional array")),
    }
    let count = i32::from_be_bytes(fixed(take(4)?)?);
    take(4)?;
    let count = usize::try_from(count)
        .map_err(|_| SqlError::new(SqlState::PROGRAM_LIMIT, "array size exceeds the maximum allowed"))?;
    // Each element takes four bytes at least: a lying count cannot reserve much.
    let mut items = Vec::with_capacity(count.min(rest_len(input)));
    for _ in 0..count {
        let len = i32::from_be_bytes(fixed(take(4)?)?);
        items.push(match len {
            -1 => Datum::Null,
            _ => {
                let len = usize::try_from(len).map_err(|_| insufficient())?;
                read_binary(take(len)?, element)?
            }
        });
    }
    if !take(0)?.is_empty() || !rest.is_empty() {
        return Err(wrong_format());
    }
    Ok(Datum::array(element.kind, items))
}

fn rest_len(input: &[u8]) -> usize {
    input.len() / 4
}
