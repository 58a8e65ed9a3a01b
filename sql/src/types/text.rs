//! Text input and output of every type.

use std::sync::Arc;

use super::context::TextContext;
use super::{Datum, Type, TypeKind, array, datetime, float, interval, modifier, name, numeric};
use crate::{Result, SqlError, SqlState};

/// Appends the text form of a value that is not NULL (nothing for NULL).
pub fn write_text(value: &Datum, ty: Type, context: &TextContext, out: &mut Vec<u8>) {
    match value {
        Datum::Null => {}
        Datum::Bool(v) => out.push(if *v { b't' } else { b'f' }),
        Datum::Int2(v) => write_i64((*v).into(), out),
        Datum::Int4(v) => write_i64((*v).into(), out),
        Datum::Int8(v) => write_i64(*v, out),
        Datum::Float4(v) => float::write_f32(*v, context.extra_float_digits, out),
        Datum::Float8(v) => float::write_f64(*v, context.extra_float_digits, out),
        Datum::Numeric(v) => numeric::write_text(v, out),
        Datum::Text(v) => out.extend_from_slice(v.as_bytes()),
        Datum::Bytea(v) => write_bytea(v, context.bytea_escape, out),
        Datum::Char(0) => {}
        Datum::Char(v) if v.is_ascii() => out.push(*v),
        Datum::Char(v) => out.extend_from_slice(format!("\\{v:03o}").as_bytes()),
        Datum::Date(v) => datetime::write_date(*v, out),
        Datum::Time(v) => datetime::write_time(*v, out),
        Datum::Timestamp(v) => {
            let zone = (ty.kind == TypeKind::TimestampTz).then_some(&context.time_zone);
            datetime::write_timestamp(*v, zone, out);
        }
        Datum::Interval(v) => interval::write_text(v, out),
        Datum::Uuid(v) => write_uuid(v, out),
        Datum::Oid(v) => write_oid(*v, ty.kind, context, out),
        Datum::Array(a) => {
            // A polymorphic result's type says less than the array itself.
            let kind = if ty.kind.element() == Some(a.element) {
                ty.kind
            } else {
                a.element.array().unwrap_or(TypeKind::TextArray)
            };
            array::write(&a.items, kind, context, out);
        }
    }
}

/// The text form as a string; `None` for NULL.
pub fn text_of(value: &Datum, ty: Type, context: &TextContext) -> Option<Arc<str>> {
    match value {
        Datum::Null => None,
        Datum::Text(v) => Some(v.clone()),
        _ => {
            let mut out = Vec::with_capacity(24);
            write_text(value, ty, context, &mut out);
            Some(String::from_utf8(out).expect("text forms are UTF-8").into())
        }
    }
}

/// Appends a decimal integer.
pub fn write_i64(value: i64, out: &mut Vec<u8>) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&buffer[at..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_bytea(value: &[u8], escape: bool, out: &mut Vec<u8>) {
    if !escape {
        out.reserve(2 + value.len() * 2);
        out.extend_from_slice(b"\\x");
        for b in value {
            out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
        return;
    }
    for b in value {
        match b {
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x20..=0x7e => out.push(*b),
            _ => out.extend_from_slice(format!("\\{b:03o}").as_bytes()),
        }
    }
}

fn write_uuid(value: &[u8; 16], out: &mut Vec<u8>) {
    for (i, b) in value.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    }
}

fn write_oid(oid: u32, kind: TypeKind, context: &TextContext, out: &mut Vec<u8>) {
    let names = context.names.as_deref();
    let shown = match kind {
        TypeKind::Oid | TypeKind::Xid => None,
        _ if oid == 0 => Some("-".to_owned()),
        TypeKind::Regclass => names.and_then(|n| n.relation_name(oid)),
        TypeKind::Regtype => TypeKind::from_oid(oid).map(|k| match k {
            // Without a modifier the SQL name is meant.
            TypeKind::Bpchar => "character".to_owned(),
            TypeKind::BpcharArray => "character[]".to_owned(),
            _ => name::format_type(Type::new(k)),
        }),
        TypeKind::Regproc => crate::func::proc_name(oid).map(str::to_owned),
        TypeKind::Regnamespace => names.and_then(|n| n.schema_name(oid)),
        TypeKind::Regrole => names.and_then(|n| n.role_name(oid)),
        _ => None,
    };
    match shown {
        Some(shown) => out.extend_from_slice(shown.as_bytes()),
        None => write_i64(oid.into(), out),
    }
}

/// 22P02 `invalid input syntax for type …`.
pub fn invalid_syntax(type_name: &str, input: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT, format!("invalid input syntax for type {type_name}: \"{input}\""))
}

fn trim(input: &str) -> &str {
    input.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
}

fn parse_int<T: TryFrom<i64>>(input: &str, type_name: &str) -> Result<T> {
    let text = trim(input);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid_syntax(type_name, input));
    }
    text.parse::<i64>().ok().and_then(|v| T::try_from(v).ok()).ok_or_else(|| {
        SqlError::new(
            SqlState::NUMERIC_OUT_OF_RANGE,
            format!("value \"{input}\" is out of range for type {type_name}"),
        )
    })
}

/// Parses a value's text form; the type's modifier applies as in an assignment.
pub fn parse_text(input: &str, ty: Type, context: &TextContext) -> Result<Datum> {
    let value = match ty.kind {
        TypeKind::Bool => Datum::Bool(parse_bool(input).ok_or_else(|| invalid_syntax("boolean", input))?),
        TypeKind::Int2 => Datum::Int2(parse_int(input, "smallint")?),
        TypeKind::Int4 => Datum::Int4(parse_int(input, "integer")?),
        TypeKind::Int8 => Datum::Int8(parse_int(input, "bigint")?),
        TypeKind::Float4 => Datum::Float4(float::parse_f32(input)?),
        TypeKind::Float8 => Datum::Float8(float::parse_f64(input)?),
        TypeKind::Numeric => {
            Datum::numeric(numeric::parse(input)?.ok_or_else(|| invalid_syntax("numeric", input))?)
        }
        TypeKind::Text
        | TypeKind::Varchar
        | TypeKind::Bpchar
        | TypeKind::Unknown
        | TypeKind::PgNodeTree
        | TypeKind::Cstring => Datum::text(input),
        TypeKind::Json => {
            super::json::validate(input)?;
            Datum::text(input)
        }
        TypeKind::Name => Datum::text(truncate_name(input)),
        TypeKind::InternalChar => Datum::Char(input.bytes().next().unwrap_or(0)),
        TypeKind::Bytea => Datum::Bytea(parse_bytea(input)?.into()),
        TypeKind::Date => Datum::Date(datetime::parse_date(input, context)?),
        TypeKind::Time => Datum::Time(datetime::parse_time(input, context)?),
        TypeKind::Timestamp => Datum::Timestamp(datetime::parse_timestamp(input, context)?),
        TypeKind::TimestampTz => Datum::Timestamp(datetime::parse_timestamptz(input, context)?),
        TypeKind::Interval => Datum::Interval(interval::parse(input)?),
        TypeKind::Uuid => Datum::Uuid(parse_uuid(input).ok_or_else(|| invalid_syntax("uuid", input))?),
        TypeKind::Oid | TypeKind::Xid => Datum::Oid(parse_oid(input, ty.kind.name())?),
        TypeKind::Regclass
        | TypeKind::Regtype
        | TypeKind::Regproc
        | TypeKind::Regnamespace
        | TypeKind::Regrole => Datum::Oid(parse_reg(input, ty.kind, context)?),
        TypeKind::Void => Datum::text(""),
        kind if kind.element().is_some() => return array::parse(input, ty, context),
        kind => {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("cannot accept a value of type {}", kind.name()),
            ));
        }
    };
    modifier::coerce(value, ty, false)
}

/// A boolean's spellings: unambiguous prefixes of true, false, yes, no, on, off, and 1, 0.
pub fn parse_bool(input: &str) -> Option<bool> {
    let text = trim(input);
    let is = |word: &str, least: usize| {
        text.len() >= least
            && text.len() <= word.len()
            && word.as_bytes()[..text.len()].eq_ignore_ascii_case(text.as_bytes())
    };
    if is("true", 1) || is("yes", 1) || is("on", 2) || text == "1" {
        Some(true)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

/// Cuts a name to 63 bytes.
pub fn truncate_name(input: &str) -> &str {
    &input[..input.floor_char_boundary(63)]
}

fn parse_oid(input: &str, type_name: &str) -> Result<u32> {
    let text = trim(input);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid_syntax(type_name, input));
    }
    match text.parse::<i64>() {
        // A negative number wraps, as in PostgreSQL.
        Ok(v) if v >= i64::from(i32::MIN) && v <= i64::from(u32::MAX) => Ok(v as u32),
        _ => Err(SqlError::new(
            SqlState::NUMERIC_OUT_OF_RANGE,
            format!("value \"{input}\" is out of range for type {type_name}"),
        )),
    }
}

/// Splits `schema.name`, lower-casing what is not quoted.
pub fn split_name(input: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = trim(input);
    loop {
        rest = rest.trim_start();
        let mut part = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut from = quoted;
            loop {
                let at = from.find('"')?;
                part.push_str(&from[..at]);
                from = &from[at + 1..];
                match from.strip_prefix('"') {
                    Some(more) => {
                        part.push('"');
                        from = more;
                    }
                    None => break,
                }
            }
            rest = from;
        } else {
            let end = rest.find(|c: char| c == '.' || c.is_ascii_whitespace()).unwrap_or(rest.len());
            part = rest[..end].to_lowercase();
            rest = &rest[end..];
        }
        if part.is_empty() {
            return None;
        }
        parts.push(truncate_name(&part).to_owned());
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(parts);
        }
        rest = rest.strip_prefix('.')?;
    }
}

fn parse_reg(input: &str, kind: TypeKind, context: &TextContext) -> Result<u32> {
    let text = trim(input);
    if text == "-" {
        return Ok(0);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return parse_oid(text, "oid");
    }
    let undefined = |state, message: String| Err(SqlError::new(state, message));
    if kind == TypeKind::Regtype {
        return match name::parse_type(text) {
            Some(ty) => Ok(ty.oid()),
            None => undefined(SqlState::UNDEFINED_OBJECT, format!("type \"{text}\" does not exist")),
        };
    }
    let parts =
        split_name(text).ok_or_else(|| SqlError::new(SqlState::INVALID_NAME, "invalid name syntax"))?;
    let (schema, object) = match parts.as_slice() {
        [object] => (None, object.as_str()),
        [schema, object] => (Some(schema.as_str()), object.as_str()),
        [_, schema, object] => (Some(schema.as_str()), object.as_str()),
        _ => return undefined(SqlState::SYNTAX_ERROR, format!("improper qualified name: {text}")),
    };
    let names = context.names.as_deref();
    match kind {
        TypeKind::Regclass => match names.and_then(|n| n.relation_oid(schema, object)) {
            Some(oid) => Ok(oid),
            None => undefined(
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{}\" does not exist", parts.join(".")),
            ),
        },
        TypeKind::Regproc => match crate::func::proc_oid(object) {
            Some(oid) => Ok(oid),
            None => undefined(SqlState::UNDEFINED_FUNCTION, format!("function \"{text}\" does not exist")),
        },
        TypeKind::Regnamespace => match names.and_then(|n| n.schema_oid(object)) {
            Some(oid) => Ok(oid),
            None => undefined(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{object}\" does not exist")),
        },
        _ => match names.and_then(|n| n.role_oid(object)) {
            Some(oid) => Ok(oid),
            None => undefined(SqlState::UNDEFINED_OBJECT, format!("role \"{object}\" does not exist")),
        },
    }
}

/// Parses bytea, hex or escape.
pub fn parse_bytea(input: &str) -> Result<Vec<u8>> {
    if let Some(hex) = input.strip_prefix("\\x") {
        let mut bytes = Vec::with_capacity(hex.len() / 2);
        let mut high: Option<u8> = None;
        for c in hex.chars() {
            if c.is_ascii_whitespace() && high.is_none() {
                continue;
            }
            let Some(digit) = c.to_digit(16) else {
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("invalid hexadecimal digit: \"{c}\""),
                ));
            };
            match high.take() {
                None => high = Some(digit as u8),
                Some(h) => bytes.push(h << 4 | digit as u8),
            }
        }
        if high.is_some() {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "invalid hexadecimal data: odd number of digits",
            ));
        }
        return Ok(bytes);
    }
    let source = input.as_bytes();
    let mut bytes = Vec::with_capacity(source.len());
    let mut at = 0;
    while at < source.len() {
        match source[at..] {
            [b'\\', b'\\', ..] => {
                bytes.push(b'\\');
                at += 2;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                at += 4;
            }
            [b'\\', ..] => {
                return Err(SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type bytea"));
            }
            [b, ..] => {
                bytes.push(b);
                at += 1;
            }
            [] => break,
        }
    }
    Ok(bytes)
}

fn parse_uuid(input: &str) -> Option<[u8; 16]> {
    let text = match input.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}')?,
        None => input,
    };
    let mut value = [0u8; 16];
    let mut bytes = text.bytes().peekable();
    for (i, byte) in value.iter_mut().enumerate() {
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
        // A hyphen may stand behind every group of four digits.
        if i % 2 == 1 && i < 15 && bytes.peek() == Some(&b'-') {
            bytes.next();
        }
    }
    bytes.next().is_none().then_some(value)
}
