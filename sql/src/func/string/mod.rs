//! Functions over text and bytea.

mod pattern;
mod posix;

use std::sync::Arc;

use super::args::*;
use super::{Body, Builtin};
use crate::types::TypeKind::{
    self, Any, AnyArray, AnyElement, Bool, Bpchar, Bytea, Int4, Int8, Name, Text, TextArray,
};
use crate::types::{Datum, TextContext, Type, text_of};
use crate::{Result, SqlError, SqlState};

/// Largest text a function builds (PostgreSQL's limit of a value).
const MAX_TEXT: usize = 0x3fff_ffff;

fn too_large() -> SqlError {
    SqlError::new(SqlState::PROGRAM_LIMIT, "requested length too large")
}

fn string(value: impl Into<String>) -> Result<Datum> {
    Ok(Datum::text(value.into()))
}

fn count(n: usize) -> Result<Datum> {
    Ok(Datum::Int4(n as i32))
}

/// Byte position of the `n`th character (the end when there are fewer).
fn byte_of(s: &str, n: usize) -> usize {
    if s.is_ascii() { n.min(s.len()) } else { s.char_indices().nth(n).map_or(s.len(), |(at, _)| at) }
}

fn characters(s: &str) -> usize {
    if s.is_ascii() { s.len() } else { s.chars().count() }
}

/// `substring(s from start for length)`; positions before 1 count against the length.
fn substring(s: &str, start: i32, length: Option<i32>) -> Result<&str> {
    let end = match length {
        Some(n) if n < 0 => {
            return Err(SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
        }
        Some(n) => Some(i64::from(start) + i64::from(n)),
        None => None,
    };
    let first = i64::from(start).max(1) - 1;
    let from = byte_of(s, first as usize);
    let to = match end {
        None => s.len(),
        Some(end) if end <= first + 1 => from,
        Some(end) => from + byte_of(&s[from..], (end - 1 - first) as usize),
    };
    Ok(&s[from..to])
}

fn position(haystack: &str, needle: &str) -> i32 {
    haystack.find(needle).map_or(0, |at| characters(&haystack[..at]) as i32 + 1)
}

/// The first `n` characters, or all but the last `-n`.
fn left(s: &str, n: i32) -> &str {
    let keep = if n >= 0 { n as usize } else { characters(s).saturating_sub(n.unsigned_abs() as usize) };
    &s[..byte_of(s, keep)]
}

fn right(s: &str, n: i32) -> &str {
    let total = characters(s);
    let skip = if n >= 0 { total.saturating_sub(n as usize) } else { n.unsigned_abs() as usize };
    &s[byte_of(s, skip)..]
}

fn pad(s: &str, length: i32, fill: &str, at_left: bool) -> Result<Datum> {
    let length = length.max(0) as usize;
    if length > MAX_TEXT / 4 {
        return Err(too_large());
    }
    let have = characters(s);
    if have >= length || fill.is_empty() {
        return string(&s[..byte_of(s, length)]);
    }
    let padding: String = fill.chars().cycle().take(length - have).collect();
    string(if at_left { padding + s } else { [s, &padding].concat() })
}

fn trim<'a>(s: &'a str, set: &str, left: bool, right: bool) -> &'a str {
    let mut s = s;
    if left {
        s = s.trim_start_matches(|c| set.contains(c));
    }
    if right {
        s = s.trim_end_matches(|c| set.contains(c));
    }
    s
}

fn split_part(s: &str, separator: &str, n: i32) -> Result<Datum> {
    if n == 0 {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "field position must not be zero"));
    }
    if separator.is_empty() {
        return string(if n == 1 || n == -1 { s } else { "" });
    }
    let index = n.unsigned_abs() as usize - 1;
    let part = if n > 0 { s.split(separator).nth(index) } else { s.rsplit(separator).nth(index) };
    string(part.unwrap_or(""))
}

fn translate(s: &str, from: &str, to: &str) -> String {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    s.chars()
        .filter_map(|c| match from.iter().position(|f| *f == c) {
            None => Some(c),
            Some(i) => to.get(i).copied(),
        })
        .collect()
}

/// Upper case at the start of each word of letters and digits.
fn initcap(s: &str) -> String {
    let mut in_word = false;
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if in_word {
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c.to_ascii_uppercase());
        }
        in_word = c.is_ascii_alphanumeric();
    }
    out
}

/// An identifier, quoted where it must be.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !RESERVED.contains(&name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Keywords that PostgreSQL quotes when they are names (all but the unreserved).
static RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// A string literal.
pub fn quote_literal(s: &str) -> String {
    let quoted = s.replace('\'', "''");
    if s.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

fn chr(code: i32) -> Result<Datum> {
    let fail = |message: String| Err(SqlError::new(SqlState::PROGRAM_LIMIT, message));
    match u32::try_from(code) {
        Ok(0) => fail("null character not permitted".into()),
        Err(_) => Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "character number must be positive")),
        Ok(code) => match char::from_u32(code) {
            Some(c) => string(c.to_string()),
            None => fail(format!("requested character too large for encoding: {code}")),
        },
    }
}

fn repeat(s: &str, n: i32) -> Result<Datum> {
    let n = n.max(0) as usize;
    if s.len().saturating_mul(n) > MAX_TEXT {
        return Err(too_large());
    }
    string(s.repeat(n))
}

/// Arguments of any type as text, NULLs left out.
fn texts<'a>(
    context: &'a crate::expr::EvalContext,
    types: &'a [Type],
    args: &'a [Datum],
) -> impl Iterator<Item = std::sync::Arc<str>> + 'a {
    args.iter().zip(types).filter_map(|(value, ty)| text_of(value, *ty, &context.text))
}

/// `format(pattern, …)`: `%s`, `%I`, `%L`, `%%`, with positions and widths.
fn format(context: &crate::expr::EvalContext, types: &[Type], args: &[Datum]) -> Result<Datum> {
    let invalid = |m: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, m);
    let Datum::Text(pattern) = &args[0] else { return Ok(Datum::Null) };
    let mut out = String::new();
    let mut next = 1;
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if rest.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut n = None;
            while let Some(d) = rest.next_if(char::is_ascii_digit) {
                let d = d.to_digit(10).expect("a digit") as usize;
                n = Some(n.unwrap_or(0usize).saturating_mul(10).saturating_add(d));
            }
            n
        };
        let mut width = number(&mut rest);
        let mut position = None;
        let mut at_left = false;
        if let Some(n) = width
            && rest.next_if_eq(&'$').is_some()
        {
            if n == 0 {
                return Err(invalid("format specifies argument 0, but arguments are numbered from 1".into()));
            }
            position = Some(n);
            width = None;
        }
        if rest.next_if_eq(&'-').is_some() {
            at_left = true;
        }
        if width.is_none() {
            width = number(&mut rest);
        }
        let Some(kind) = rest.next() else {
            return Err(
                invalid("unterminated format() type specifier".into()).hint("For a single \"%\" use \"%%\".")
            );
        };
        if !matches!(kind, 's' | 'I' | 'L') {
            return Err(invalid(format!("unrecognized format() type specifier \"{kind}\""))
                .hint("For a single \"%\" use \"%%\"."));
        }
        let index = position.unwrap_or(next);
        next = index + 1;
        let Some(value) = args.get(index) else {
            return Err(invalid("too few arguments for format()".into()));
        };
        let shown = text_of(value, types[index], &context.text);
        let shown = match (kind, shown) {
            ('s', shown) => shown.map_or(String::new(), |s| s.to_string()),
            ('L', None) => "NULL".to_owned(),
            ('L', Some(s)) => quote_literal(&s),
            (_, Some(s)) => quote_identifier(&s),
            (_, None) => {
                return Err(SqlError::new(
                    SqlState::NULL_NOT_ALLOWED,
                    "null values cannot be formatted as an SQL identifier",
                ));
            }
        };
        let width = width.unwrap_or(0);
        if width > MAX_TEXT / 4 {
            return Err(too_large());
        }
        let fill = width.saturating_sub(shown.chars().count());
        if !at_left {
            out.extend(std::iter::repeat_n(' ', fill));
        }
        out.push_str(&shown);
        if at_left {
            out.extend(std::iter::repeat_n(' ', fill));
        }
    }
    string(out)
}

fn encode(bytes: &[u8], encoding: &str) -> Result<Datum> {
    let mut out = Vec::new();
    match encoding.to_ascii_lowercase().as_str() {
        "hex" => {
            crate::types::write_text(
                &Datum::Bytea(bytes.into()),
                Type::new(Bytea),
                &Default::default(),
                &mut out,
            );
            out.drain(..2);
        }
        "base64" => {
            const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let mut line = 0;
            for chunk in bytes.chunks(3) {
                let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
                for i in 0..4 {
                    out.push(if i <= chunk.len() {
                        ALPHABET[(n >> (18 - 6 * i)) as usize & 63]
                    } else {
                        b'='
                    });
                }
                line += 4;
                if line >= 76 {
                    out.push(b'\n');
                    line = 0;
                }
            }
        }
        "escape" => {
            for b in bytes {
                match b {
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    0 | 0x80.. => out.extend_from_slice(format!("\\{b:03o}").as_bytes()),
                    _ => out.push(*b),
                }
            }
        }
        _ => return Err(unknown_encoding(encoding)),
    }
    string(String::from_utf8(out).expect("these encodings are ASCII"))
}

fn unknown_encoding(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unrecognized encoding: \"{name}\""))
}

fn decode(s: &str, encoding: &str) -> Result<Datum> {
    let bytes = match encoding.to_ascii_lowercase().as_str() {
        "hex" => crate::types::text::parse_bytea(&format!("\\x{s}"))?,
        "escape" => crate::types::text::parse_bytea(s)?,
        "base64" => {
            let mut out = Vec::new();
            let (mut bits, mut count, mut padding) = (0u32, 0, 0);
            for c in s.bytes().filter(|b| !b.is_ascii_whitespace()) {
                let v = match c {
                    b'A'..=b'Z' => c - b'A',
                    b'a'..=b'z' => c - b'a' + 26,
                    b'0'..=b'9' => c - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    b'=' if count >= 2 => {
                        padding += 1;
                        0
                    }
                    _ => {
                        return Err(SqlError::new(
                            SqlState::INVALID_PARAMETER_VALUE,
                            format!(
                                "invalid symbol \"{}\" found while decoding base64 sequence",
                                char::from(c)
                            ),
                        ));
                    }
                };
                bits = bits << 6 | u32::from(v);
                count += 1;
                if count == 4 {
                    out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
                    (bits, count) = (0, 0);
                }
            }
            if count != 0 {
                return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "invalid base64 end sequence")
                    .hint("Input data is missing padding, is truncated, or is otherwise corrupted."));
            }
            out
        }
        _ => return Err(unknown_encoding(encoding)),
    };
    Ok(Datum::Bytea(bytes.into()))
}

fn array_to_string(
    context: &crate::expr::EvalContext,
    list: &crate::types::Array,
    separator: &str,
    null: Option<&str>,
) -> Result<Datum> {
    let mut out = String::new();
    let mut first = true;
    for item in &list.items {
        let shown = text_of(item, Type::new(list.element), &context.text);
        let Some(shown) = shown.as_deref().or(null) else { continue };
        if !first {
            out.push_str(separator);
        }
        first = false;
        out.push_str(shown);
    }
    string(out)
}

fn string_to_array(s: &str, separator: Option<&str>, null: Option<&str>) -> Result<Datum> {
    let item = |part: &str| if Some(part) == null { Datum::Null } else { Datum::text(part) };
    let items = match separator {
        _ if s.is_empty() => Vec::new(),
        None => s.chars().map(|c| item(c.encode_utf8(&mut [0; 4]))).collect(),
        Some("") => vec![item(s)],
        Some(separator) => s.split(separator).map(item).collect(),
    };
    Ok(Datum::array(Text, items))
}

fn element_at(args: &[Datum]) -> Result<Datum> {
    let list = array(&args[0]);
    // The vectors of the catalog count from 0, all other arrays from 1; the type decides (below).
    let index = i64::from(int4(&args[1])) - 1;
    Ok(usize::try_from(index).ok().and_then(|i| list.items.get(i)).cloned().unwrap_or(Datum::Null))
}

macro_rules! t1 {
    ($name:literal, $result:ident, |$s:ident| $body:expr) => {
        Builtin::new(
            $name,
            &[Text],
            $result,
            Body::Plain(|a| {
                let $s = text(&a[0]);
                $body
            }),
        )
    };
}

macro_rules! t2 {
    ($name:literal, $result:ident, |$s:ident, $t:ident| $body:expr) => {
        Builtin::new(
            $name,
            &[Text, Text],
            $result,
            Body::Plain(|a| {
                let ($s, $t) = (text(&a[0]), text(&a[1]));
                $body
            }),
        )
    };
}

/// What `value::text` gives: the output form, but a boolean in full.
fn cast_to_text(value: &Datum, ty: Type, context: &TextContext) -> Arc<str> {
    match value {
        Datum::Bool(true) => "true".into(),
        Datum::Bool(false) => "false".into(),
        _ => text_of(value, ty, context).expect("strict functions get no NULL"),
    }
}

static TEXTS: &[Builtin] = &[
    t2!("textcat", Text, |s, t| string([s, t].concat())).operator("||"),
    Builtin::new(
        "textanycat",
        &[Text, Any],
        Text,
        Body::Typed(|c, types, a| {
            let right = cast_to_text(&a[1], types[1], &c.text);
            string([text(&a[0]), &right].concat())
        }),
    )
    .stable()
    .operator("||"),
    Builtin::new(
        "anytextcat",
        &[Any, Text],
        Text,
        Body::Typed(|c, types, a| {
            let left = cast_to_text(&a[0], types[0], &c.text);
            string([&*left, text(&a[1])].concat())
        }),
    )
    .stable()
    .operator("||"),
    Builtin::new(
        "byteacat",
        &[Bytea, Bytea],
        Bytea,
        Body::Plain(|a| Ok(Datum::Bytea([bytea(&a[0]), bytea(&a[1])].concat().into()))),
    )
    .operator("||"),
    t1!("length", Int4, |s| count(characters(s))),
    t1!("char_length", Int4, |s| count(characters(s))),
    t1!("character_length", Int4, |s| count(characters(s))),
    Builtin::new(
        "length",
        &[Bpchar],
        Int4,
        Body::Plain(|a| count(characters(crate::types::order::trim_blanks(text(&a[0]))))),
    ),
    Builtin::new(
        "char_length",
        &[Bpchar],
        Int4,
        Body::Plain(|a| count(characters(crate::types::order::trim_blanks(text(&a[0]))))),
    ),
    Builtin::new("length", &[Bytea], Int4, Body::Plain(|a| count(bytea(&a[0]).len()))),
    t1!("octet_length", Int4, |s| count(s.len())),
    Builtin::new("octet_length", &[Bpchar], Int4, Body::Plain(|a| count(text(&a[0]).len()))),
    Builtin::new("octet_length", &[Bytea], Int4, Body::Plain(|a| count(bytea(&a[0]).len()))),
    t1!("bit_length", Int4, |s| count(s.len() * 8)),
    t1!("lower", Text, |s| string(s.to_ascii_lowercase())),
    t1!("upper", Text, |s| string(s.to_ascii_uppercase())),
    t1!("initcap", Text, |s| string(initcap(s))),
    t1!("reverse", Text, |s| string(s.chars().rev().collect::<String>())),
    t1!("ascii", Int4, |s| Ok(Datum::Int4(s.chars().next().map_or(0, |c| c as i32)))),
    Builtin::new("chr", &[Int4], Text, Body::Plain(|a| chr(int4(&a[0])))),
    Builtin::new(
        "substring",
        &[Text, Int4],
        Text,
        Body::Plain(|a| string(substring(text(&a[0]), int4(&a[1]), None)?)),
    ),
    Builtin::new(
        "substring",
        &[Text, Int4, Int4],
        Text,
        Body::Plain(|a| string(substring(text(&a[0]), int4(&a[1]), Some(int4(&a[2])))?)),
    ),
    Builtin::new(
        "substr",
        &[Text, Int4],
        Text,
        Body::Plain(|a| string(substring(text(&a[0]), int4(&a[1]), None)?)),
    ),
    Builtin::new(
        "substr",
        &[Text, Int4, Int4],
        Text,
        Body::Plain(|a| string(substring(text(&a[0]), int4(&a[1]), Some(int4(&a[2])))?)),
    ),
    Builtin::new(
        "substring",
        &[Bytea, Int4, Int4],
        Bytea,
        Body::Plain(|a| {
            if int4(&a[2]) < 0 {
                return Err(SqlError::new(
                    SqlState::SUBSTRING_ERROR,
                    "negative substring length not allowed",
                ));
            }
            let bytes = bytea(&a[0]);
            let end =
                (i64::from(int4(&a[1])) + i64::from(int4(&a[2])) - 1).clamp(0, bytes.len() as i64) as usize;
            let from = (i64::from(int4(&a[1])) - 1).clamp(0, end as i64) as usize;
            Ok(Datum::Bytea(bytes[from..end].into()))
        }),
    ),
    t2!("position", Int4, |s, t| Ok(Datum::Int4(position(s, t)))),
    t2!("strpos", Int4, |s, t| Ok(Datum::Int4(position(s, t)))),
    Builtin::new("left", &[Text, Int4], Text, Body::Plain(|a| string(left(text(&a[0]), int4(&a[1]))))),
    Builtin::new("right", &[Text, Int4], Text, Body::Plain(|a| string(right(text(&a[0]), int4(&a[1]))))),
    Builtin::new("lpad", &[Text, Int4], Text, Body::Plain(|a| pad(text(&a[0]), int4(&a[1]), " ", true))),
    Builtin::new(
        "lpad",
        &[Text, Int4, Text],
        Text,
        Body::Plain(|a| pad(text(&a[0]), int4(&a[1]), text(&a[2]), true)),
    ),
    Builtin::new("rpad", &[Text, Int4], Text, Body::Plain(|a| pad(text(&a[0]), int4(&a[1]), " ", false))),
    Builtin::new(
        "rpad",
        &[Text, Int4, Text],
        Text,
        Body::Plain(|a| pad(text(&a[0]), int4(&a[1]), text(&a[2]), false)),
    ),
    t1!("btrim", Text, |s| string(trim(s, " ", true, true))),
    t1!("ltrim", Text, |s| string(trim(s, " ", true, false))),
    t1!("rtrim", Text, |s| string(trim(s, " ", false, true))),
    t2!("btrim", Text, |s, t| string(trim(s, t, true, true))),
    t2!("ltrim", Text, |s, t| string(trim(s, t, true, false))),
    t2!("rtrim", Text, |s, t| string(trim(s, t, false, true))),
    Builtin::new(
        "replace",
        &[Text, Text, Text],
        Text,
        Body::Plain(|a| {
            let (s, from) = (text(&a[0]), text(&a[1]));
            string(if from.is_empty() { s.to_owned() } else { s.replace(from, text(&a[2])) })
        }),
    ),
    Builtin::new(
        "translate",
        &[Text, Text, Text],
        Text,
        Body::Plain(|a| string(translate(text(&a[0]), text(&a[1]), text(&a[2])))),
    ),
    Builtin::new(
        "overlay",
        &[Text, Text, Int4, Int4],
        Text,
        Body::Plain(|a| overlay(text(&a[0]), text(&a[1]), int4(&a[2]), int4(&a[3]))),
    ),
    Builtin::new(
        "overlay",
        &[Text, Text, Int4],
        Text,
        Body::Plain(|a| overlay(text(&a[0]), text(&a[1]), int4(&a[2]), characters(text(&a[1])) as i32)),
    ),
    Builtin::new("repeat", &[Text, Int4], Text, Body::Plain(|a| repeat(text(&a[0]), int4(&a[1])))),
    Builtin::new(
        "split_part",
        &[Text, Text, Int4],
        Text,
        Body::Plain(|a| split_part(text(&a[0]), text(&a[1]), int4(&a[2]))),
    ),
    t2!("starts_with", Bool, |s, t| Ok(Datum::Bool(s.starts_with(t)))),
    t2!("starts_with", Bool, |s, t| Ok(Datum::Bool(s.starts_with(t)))).operator("^@"),
    Builtin::new(
        "concat",
        &[Any],
        Text,
        Body::Typed(|c, types, a| string(texts(c, types, a).collect::<Vec<_>>().concat())),
    )
    .stable()
    .sees_null()
    .variadic(),
    Builtin::new(
        "concat_ws",
        &[Text, Any],
        Text,
        Body::Typed(|c, types, a| {
            let Datum::Text(separator) = &a[0] else { return Ok(Datum::Null) };
            string(texts(c, &types[1..], &a[1..]).collect::<Vec<_>>().join(separator))
        }),
    )
    .stable()
    .sees_null()
    .variadic(),
    Builtin::new("format", &[Text], Text, Body::Typed(format)).stable().sees_null(),
    Builtin::new("format", &[Text, Any], Text, Body::Typed(format)).stable().sees_null().variadic(),
    t1!("quote_ident", Text, |s| string(quote_identifier(s))),
    t1!("quote_literal", Text, |s| string(quote_literal(s))),
    Builtin::new(
        "quote_literal",
        &[AnyElement],
        Text,
        Body::Typed(|c, types, a| string(quote_literal(&cast_to_text(&a[0], types[0], &c.text)))),
    )
    .stable(),
    Builtin::new(
        "quote_nullable",
        &[Text],
        Text,
        Body::Plain(|a| match &a[0] {
            Datum::Text(s) => string(quote_literal(s)),
            _ => string("NULL"),
        }),
    )
    .sees_null(),
    t1!("md5", Text, |s| string(md5(s.as_bytes()))),
    Builtin::new("md5", &[Bytea], Text, Body::Plain(|a| string(md5(bytea(&a[0]))))),
    Builtin::new("encode", &[Bytea, Text], Text, Body::Plain(|a| encode(bytea(&a[0]), text(&a[1])))),
    Builtin::new("decode", &[Text, Text], Bytea, Body::Plain(|a| decode(text(&a[0]), text(&a[1])))),
    Builtin::new(
        "convert_from",
        &[Bytea, Name],
        Text,
        Body::Plain(|a| string(crate::types::binary::utf8(bytea(&a[0]))?)),
    ),
    Builtin::new(
        "convert_to",
        &[Text, Name],
        Bytea,
        Body::Plain(|a| Ok(Datum::Bytea(text(&a[0]).as_bytes().into()))),
    ),
    Builtin::new(
        "get_byte",
        &[Bytea, Int4],
        Int4,
        Body::Plain(|a| {
            let bytes = bytea(&a[0]);
            let index = usize::try_from(int4(&a[1])).ok().and_then(|i| bytes.get(i));
            index.map(|b| Datum::Int4((*b).into())).ok_or_else(|| {
                SqlError::new(
                    SqlState::ARRAY_SUBSCRIPT,
                    format!("index {} out of valid range, 0..{}", int4(&a[1]), bytes.len() as i64 - 1),
                )
            })
        }),
    ),
    Builtin::new(
        "sha256",
        &[Bytea],
        Bytea,
        Body::Plain(|a| Ok(Datum::Bytea(pattern::sha256(bytea(&a[0])).into()))),
    ),
];

fn overlay(s: &str, with: &str, start: i32, length: i32) -> Result<Datum> {
    if start <= 0 {
        return Err(SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
    }
    let head = substring(s, 1, Some(start - 1))?;
    let tail = substring(s, start.saturating_add(length), None)?;
    string([head, with, tail].concat())
}

fn upper_bound(list: &crate::types::Array, dimension: i32) -> Option<i32> {
    (dimension == 1 && !list.items.is_empty()).then_some(list.items.len() as i32)
}

static ARRAYS: &[Builtin] = &[
    Builtin::new(
        "array_to_string",
        &[AnyArray, Text],
        Text,
        Body::Context(|c, a| array_to_string(c, array(&a[0]), text(&a[1]), None)),
    )
    .stable(),
    Builtin::new(
        "array_to_string",
        &[AnyArray, Text, Text],
        Text,
        Body::Context(|c, a| {
            if a[0].is_null() || a[1].is_null() {
                return Ok(Datum::Null);
            }
            array_to_string(c, array(&a[0]), text(&a[1]), a[2].as_str())
        }),
    )
    .stable()
    .sees_null(),
    Builtin::new(
        "string_to_array",
        &[Text, Text],
        TextArray,
        Body::Plain(|a| match &a[0] {
            Datum::Null => Ok(Datum::Null),
            s => string_to_array(text(s), a[1].as_str(), None),
        }),
    )
    .sees_null(),
    Builtin::new(
        "string_to_array",
        &[Text, Text, Text],
        TextArray,
        Body::Plain(|a| match &a[0] {
            Datum::Null => Ok(Datum::Null),
            s => string_to_array(text(s), a[1].as_str(), a[2].as_str()),
        }),
    )
    .sees_null(),
    Builtin::new(
        "array_length",
        &[AnyArray, Int4],
        Int4,
        Body::Plain(|a| Ok(upper_bound(array(&a[0]), int4(&a[1])).map_or(Datum::Null, Datum::Int4))),
    ),
    Builtin::new(
        "array_upper",
        &[AnyArray, Int4],
        Int4,
        Body::Typed(|_, types, a| {
            let base = i32::from(!matches!(types[0].kind, TypeKind::Int2Vector | TypeKind::OidVector));
            Ok(upper_bound(array(&a[0]), int4(&a[1])).map_or(Datum::Null, |n| Datum::Int4(n - 1 + base)))
        }),
    ),
    Builtin::new(
        "array_lower",
        &[AnyArray, Int4],
        Int4,
        Body::Typed(|_, types, a| {
            let base = i32::from(!matches!(types[0].kind, TypeKind::Int2Vector | TypeKind::OidVector));
            Ok(upper_bound(array(&a[0]), int4(&a[1])).map_or(Datum::Null, |_| Datum::Int4(base)))
        }),
    ),
    Builtin::new(
        "array_ndims",
        &[AnyArray],
        Int4,
        Body::Plain(|a| Ok(if array(&a[0]).items.is_empty() { Datum::Null } else { Datum::Int4(1) })),
    ),
    Builtin::new("cardinality", &[AnyArray], Int4, Body::Plain(|a| count(array(&a[0]).items.len()))),
    Builtin::new(
        "array_subscript",
        &[AnyArray, Int4],
        AnyElement,
        Body::Typed(|_, types, a| {
            if matches!(types[0].kind, TypeKind::Int2Vector | TypeKind::OidVector) {
                let index = usize::try_from(int4(&a[1])).ok();
                return Ok(index.and_then(|i| array(&a[0]).items.get(i)).cloned().unwrap_or(Datum::Null));
            }
            element_at(a)
        }),
    )
    .operator("[]"),
    Builtin::new(
        "array_append",
        &[AnyArray, AnyElement],
        AnyArray,
        Body::Typed(|_, types, a| {
            let (element, mut items) = items_of(&a[0], types[1].kind);
            items.push(a[1].clone());
            Ok(Datum::array(element, items))
        }),
    )
    .sees_null()
    .operator("||"),
    Builtin::new(
        "array_prepend",
        &[AnyElement, AnyArray],
        AnyArray,
        Body::Typed(|_, types, a| {
            let (element, mut items) = items_of(&a[1], types[0].kind);
            items.insert(0, a[0].clone());
            Ok(Datum::array(element, items))
        }),
    )
    .sees_null()
    .operator("||"),
    Builtin::new(
        "array_cat",
        &[AnyArray, AnyArray],
        AnyArray,
        Body::Plain(|a| match (&a[0], &a[1]) {
            (Datum::Null, other) | (other, Datum::Null) => Ok(other.clone()),
            (x, y) => {
                let (x, y) = (array(x), array(y));
                Ok(Datum::array(x.element, x.items.iter().chain(&y.items).cloned().collect()))
            }
        }),
    )
    .sees_null()
    .operator("||"),
    Builtin::new(
        "array_position",
        &[AnyArray, AnyElement],
        Int4,
        Body::Plain(|a| {
            if a[0].is_null() {
                return Ok(Datum::Null);
            }
            let list = array(&a[0]);
            let at = list.items.iter().position(|i| crate::types::is_equal(i, &a[1], list.element));
            Ok(at.map_or(Datum::Null, |i| Datum::Int4(i as i32 + 1)))
        }),
    )
    .sees_null(),
    Builtin::new(
        "array_remove",
        &[AnyArray, AnyElement],
        AnyArray,
        Body::Plain(|a| {
            if a[0].is_null() {
                return Ok(Datum::Null);
            }
            let list = array(&a[0]);
            let keep = |i: &&Datum| !crate::types::is_equal(i, &a[1], list.element);
            Ok(Datum::array(list.element, list.items.iter().filter(keep).cloned().collect()))
        }),
    )
    .sees_null(),
    Builtin::new(
        "arraycontains",
        &[AnyArray, AnyArray],
        Bool,
        Body::Plain(|a| Ok(Datum::Bool(contains(array(&a[0]), array(&a[1]))))),
    )
    .operator("@>"),
    Builtin::new(
        "arraycontained",
        &[AnyArray, AnyArray],
        Bool,
        Body::Plain(|a| Ok(Datum::Bool(contains(array(&a[1]), array(&a[0]))))),
    )
    .operator("<@"),
    Builtin::new(
        "arrayoverlap",
        &[AnyArray, AnyArray],
        Bool,
        Body::Plain(|a| {
            let (x, y) = (array(&a[0]), array(&a[1]));
            Ok(Datum::Bool(x.items.iter().any(|i| !i.is_null() && has(y, i))))
        }),
    )
    .operator("&&"),
];

fn has(list: &crate::types::Array, item: &Datum) -> bool {
    list.items.iter().any(|i| !i.is_null() && crate::types::is_equal(i, item, list.element))
}

/// Whether every item is in the list; NULL is in none.
fn contains(list: &crate::types::Array, items: &crate::types::Array) -> bool {
    items.items.iter().all(|i| !i.is_null() && has(list, i))
}

/// An array's element type and items; NULL is an empty array.
fn items_of(value: &Datum, element: TypeKind) -> (TypeKind, Vec<Datum>) {
    match value {
        Datum::Array(a) => (a.element, a.items.clone()),
        _ => (element, Vec::new()),
    }
}

static OTHERS: &[Builtin] = &[
    Builtin::new(
        "pg_typeof",
        &[Any],
        TypeKind::Regtype,
        Body::Typed(|_, types, _| Ok(Datum::Oid(types[0].oid()))),
    )
    .sees_null(),
    Builtin::new(
        "pg_column_size",
        &[Any],
        Int4,
        Body::Typed(|_, types, a| {
            let mut out = Vec::new();
            crate::types::write_binary(&a[0], types[0], &mut out);
            count(out.len() + if types[0].kind.info().length < 0 { 4 } else { 0 })
        }),
    ),
    Builtin::new("num_nulls", &[Any], Int4, Body::Plain(|a| count(a.iter().filter(|d| d.is_null()).count())))
        .sees_null()
        .variadic(),
    Builtin::new(
        "num_nonnulls",
        &[Any],
        Int4,
        Body::Plain(|a| count(a.iter().filter(|d| !d.is_null()).count())),
    )
    .sees_null()
    .variadic(),
    Builtin::new("pg_size_pretty", &[Int8], Text, Body::Plain(|a| string(size_pretty(int8(&a[0]))))),
];

/// A size in the largest unit in which it is at least 10,240 of the next smaller one's steps.
fn size_pretty(size: i64) -> String {
    let mut value = size;
    let mut last = "bytes";
    for (i, unit) in ["bytes", "kB", "MB", "GB", "TB", "PB"].into_iter().enumerate() {
        last = unit;
        let limit = if i == 0 { 10 * 1024 } else { 20 * 1024 - 1 };
        if value.unsigned_abs() < limit as u64 || unit == "PB" {
            break;
        }
        // Half-units are kept so that the last step can round.
        value = if i == 0 { value / 512 } else { value / 1024 };
    }
    if last != "bytes" {
        value = (value + value.signum()) / 2;
    }
    format!("{value} {last}")
}

fn md5(data: &[u8]) -> String {
    pattern::md5(data).iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) static LISTS: &[&[Builtin]] = &[TEXTS, ARRAYS, OTHERS, pattern::FUNCTIONS, pattern::MORE];

pub use pattern::like_prefix;
