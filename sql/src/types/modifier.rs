//! Type modifiers: `varchar(n)`, `numeric(p,s)`, `timestamp(p)`, in PostgreSQL's encoding
//! (`atttypmod`), and their effect on values.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Datum, Interval, Type, TypeKind, format_type, numeric};
use crate::{Result, SqlError, SqlState};

const HEADER: i32 = 4;
/// Longest `varchar(n)` and `char(n)`.
pub const MAX_CHARACTERS: i32 = 10_485_760;

/// Encodes the arguments of a type name.
pub fn parse(kind: TypeKind, arguments: &[i32]) -> Result<i32> {
    let invalid = |m: String| Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, m));
    let kind = kind.element().unwrap_or(kind);
    match kind {
        TypeKind::Varchar | TypeKind::Bpchar => {
            let name = if kind == TypeKind::Varchar { "varchar" } else { "char" };
            match *arguments {
                [n] if n < 1 => invalid(format!("length for type {name} must be at least 1")),
                [n] if n > MAX_CHARACTERS => {
                    invalid(format!("length for type {name} cannot exceed {MAX_CHARACTERS}"))
                }
                [n] => Ok(n + HEADER),
                _ => invalid("invalid type modifier".into()),
            }
        }
        TypeKind::Numeric => {
            let (precision, scale) = match *arguments {
                [p] => (p, 0),
                [p, s] => (p, s),
                _ => return invalid("invalid NUMERIC type modifier".into()),
            };
            if !(1..=1000).contains(&precision) {
                return invalid(format!("NUMERIC precision {precision} must be between 1 and 1000"));
            }
            if !(-1000..=1000).contains(&scale) {
                return invalid(format!("NUMERIC scale {scale} must be between -1000 and 1000"));
            }
            Ok(((precision << 16) | (scale & 0x7ff)) + HEADER)
        }
        TypeKind::Time | TypeKind::Timestamp | TypeKind::TimestampTz => match *arguments {
            [p] if p < 0 => invalid(format!(
                "{}({p}){} precision must not be negative",
                if kind == TypeKind::Time { "TIME" } else { "TIMESTAMP" },
                if kind == TypeKind::TimestampTz { " WITH TIME ZONE" } else { "" },
            )),
            [p] => Ok(p.min(6)),
            _ => invalid("invalid type modifier".into()),
        },
        TypeKind::Interval => match *arguments {
            [p] if p < 0 => invalid(format!("INTERVAL({p}) precision must not be negative")),
            [p] => Ok((0x7fff << 16) | p.min(6)),
            _ => invalid("invalid type modifier".into()),
        },
        _ => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("type modifier is not allowed for type \"{}\"", kind.name()),
        )),
    }
}

/// Precision and scale of a numeric modifier.
pub fn precision_scale(modifier: i32) -> Option<(i32, i32)> {
    if modifier < HEADER {
        return None;
    }
    let m = modifier - HEADER;
    Some(((m >> 16) & 0xffff, ((m & 0x7ff) ^ 1024) - 1024))
}

/// Length of a `varchar(n)` or `char(n)`.
pub fn length(modifier: i32) -> Option<usize> {
    (modifier > HEADER).then(|| (modifier - HEADER) as usize)
}

/// The modifier as written behind the type's name; `None`: there is none.
pub fn print(kind: TypeKind, modifier: i32) -> Option<String> {
    match kind {
        TypeKind::Varchar | TypeKind::Bpchar => length(modifier).map(|n| format!("({n})")),
        TypeKind::Numeric => precision_scale(modifier).map(|(p, s)| format!("({p},{s})")),
        TypeKind::Interval if modifier >= 0 && modifier & 0xffff != 0xffff => {
            Some(format!("({})", modifier & 0xffff))
        }
        _ => None,
    }
}

/// Whether [`coerce`] would do anything for a value of this type.
pub fn is_coercion(ty: Type) -> bool {
    ty.modifier >= 0
        && matches!(
            ty.kind.element().unwrap_or(ty.kind),
            TypeKind::Varchar
                | TypeKind::Bpchar
                | TypeKind::Numeric
                | TypeKind::Time
                | TypeKind::Timestamp
                | TypeKind::TimestampTz
                | TypeKind::Interval
        )
}

/// Applies a type's modifier to a value. An explicit cast truncates strings silently; assignment
/// (and input) fails when something other than blanks would be lost.
pub fn coerce(value: Datum, ty: Type, explicit: bool) -> Result<Datum> {
    if ty.modifier < 0 {
        return Ok(value);
    }
    Ok(match (ty.kind, value) {
        (_, Datum::Null) => Datum::Null,
        (TypeKind::Varchar, Datum::Text(s)) => match cut(&s, ty, explicit)? {
            Some(end) => Datum::Text(s[..end].into()),
            None => Datum::Text(s),
        },
        (TypeKind::Bpchar, Datum::Text(s)) => match pad(&s, ty, explicit)? {
            Cow::Borrowed(cut) if cut.len() == s.len() => Datum::Text(s),
            padded => Datum::Text(padded.into()),
        },
        (TypeKind::Numeric, Datum::Numeric(n)) => {
            let (precision, scale) = precision_scale(ty.modifier).expect("a modifier was given");
            Datum::Numeric(Arc::new(numeric::fit(&n, precision, scale)?))
        }
        (TypeKind::Time, Datum::Time(t)) => Datum::Time(round_micros(t, ty.modifier)),
        (TypeKind::Timestamp | TypeKind::TimestampTz, Datum::Timestamp(t))
            if t != i64::MAX && t != i64::MIN =>
        {
            Datum::Timestamp(round_micros(t, ty.modifier))
        }
        (TypeKind::Interval, Datum::Interval(i)) => {
            Datum::Interval(Interval { micros: round_micros(i.micros, ty.modifier & 0xffff), ..i })
        }
        (kind, Datum::Array(a)) if kind.element().is_some() => {
            let element = Type { kind: kind.element().expect("just tested"), modifier: ty.modifier };
            let items =
                a.items.iter().map(|d| coerce(d.clone(), element, explicit)).collect::<Result<Vec<_>>>()?;
            Datum::array(a.element, items)
        }
        (_, value) => value,
    })
}

fn round_micros(value: i64, precision: i32) -> i64 {
    if !(0..6).contains(&precision) {
        return value;
    }
    let unit = 10i64.pow(6 - precision as u32);
    let half = if value >= 0 { unit / 2 } else { -(unit / 2) };
    (value.saturating_add(half)) / unit * unit
}

fn too_long(ty: Type) -> SqlError {
    SqlError::new(SqlState::STRING_TRUNCATION, format!("value too long for type {}", format_type(ty)))
}

/// Where to cut a varchar; `None`: it fits.
fn cut(s: &str, ty: Type, explicit: bool) -> Result<Option<usize>> {
    let Some(limit) = length(ty.modifier) else { return Ok(None) };
    if s.len() <= limit {
        return Ok(None);
    }
    match s.char_indices().nth(limit) {
        None => Ok(None),
        Some((end, _)) if explicit || s[end..].bytes().all(|b| b == b' ') => Ok(Some(end)),
        Some(_) => Err(too_long(ty)),
    }
}

/// A char(n): cut or blank-padded to its length.
pub fn pad(s: &str, ty: Type, explicit: bool) -> Result<Cow<'_, str>> {
    let Some(limit) = length(ty.modifier) else { return Ok(Cow::Borrowed(s)) };
    let characters = if s.is_ascii() { s.len() } else { s.chars().count() };
    if characters > limit {
        let end = cut(s, ty, explicit)?.expect("longer than the limit");
        return Ok(Cow::Borrowed(&s[..end]));
    }
    if characters == limit {
        return Ok(Cow::Borrowed(s));
    }
    let mut padded = String::with_capacity(s.len() + limit - characters);
    padded.push_str(s);
    padded.extend(std::iter::repeat_n(' ', limit - characters));
    Ok(Cow::Owned(padded))
}
