//! Text form of arrays: `{1,NULL,"a, b"}`.

use super::context::TextContext;
use super::{Datum, Type, TypeKind, parse_text, write_text};
use crate::{Result, SqlError, SqlState};

/// Appends an array; int2vector and oidvector are separated by blanks without braces.
pub fn write(items: &[Datum], kind: TypeKind, context: &TextContext, out: &mut Vec<u8>) {
    let element = Type::new(kind.element().unwrap_or(TypeKind::Text));
    if matches!(kind, TypeKind::Int2Vector | TypeKind::OidVector) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            write_text(item, element, context, out);
        }
        return;
    }
    out.push(b'{');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if item.is_null() {
            out.extend_from_slice(b"NULL");
            continue;
        }
        let start = out.len();
        write_text(item, element, context, out);
        quote(start, out);
    }
    out.push(b'}');
}

/// Quotes what was appended from `start` where an array's text needs it.
fn quote(start: usize, out: &mut Vec<u8>) {
    let text = &out[start..];
    let special =
        |b: &u8| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',') || b.is_ascii_whitespace() || *b == 0x0b;
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"null") && !text.iter().any(special) {
        return;
    }
    let text = out.split_off(start);
    out.push(b'"');
    for b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

fn malformed(input: &str, detail: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT, format!("malformed array literal: \"{input}\"")).detail(detail)
}

/// Parses an array of a type.
pub fn parse(input: &str, ty: Type, context: &TextContext) -> Result<Datum> {
    let kind = ty.kind.element().expect("an array type");
    let element = Type { kind, modifier: ty.modifier };
    if matches!(ty.kind, TypeKind::Int2Vector | TypeKind::OidVector) {
        let items = input
            .split_ascii_whitespace()
            .map(|word| parse_text(word, element, context))
            .collect::<Result<Vec<_>>>()?;
        return Ok(Datum::array(kind, items));
    }
    let text = input.trim();
    if text.starts_with('[') {
        return Err(SqlError::unsupported("an array literal with dimension information"));
    }
    let Some(body) = text.strip_prefix('{') else {
        return Err(malformed(input, "Array value must start with \"{\" or dimension information."));
    };
    let mut items = Vec::new();
    let mut rest = body.trim_start();
    if let Some(after) = rest.strip_prefix('}') {
        return if after.trim().is_empty() {
            Ok(Datum::array(kind, items))
        } else {
            Err(malformed(input, "Junk after closing right brace."))
        };
    }
    loop {
        rest = rest.trim_start();
        let (item, quoted, after) = take_item(input, rest)?;
        items.push(if !quoted && item.eq_ignore_ascii_case("null") {
            Datum::Null
        } else {
            parse_text(&item, element, context)?
        });
        let after = after.trim_start();
        if let Some(next) = after.strip_prefix(',') {
            rest = next;
        } else if let Some(end) = after.strip_prefix('}') {
            return if end.trim().is_empty() {
                Ok(Datum::array(kind, items))
            } else {
                Err(malformed(input, "Junk after closing right brace."))
            };
        } else if after.is_empty() {
            return Err(malformed(input, "Unexpected end of input."));
        } else {
            return Err(malformed(input, "Unexpected array element."));
        }
    }
}

/// Takes one element: its text, whether it was quoted, and the rest.
fn take_item<'a>(input: &str, text: &'a str) -> Result<(String, bool, &'a str)> {
    let mut item = String::new();
    let mut quoted = false;
    let mut in_quotes = false;
    // Blanks behind the last quoted or escaped character are not part of the element.
    let mut kept = 0;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => {
                let (_, c) = characters.next().ok_or_else(|| malformed(input, "Unexpected end of input."))?;
                item.push(c);
                kept = item.len();
            }
            '"' if in_quotes => {
                in_quotes = false;
                kept = item.len();
            }
            '"' => {
                if quoted || !item.trim().is_empty() {
                    return Err(malformed(input, "Unexpected array element."));
                }
                item.clear();
                quoted = true;
                in_quotes = true;
            }
            _ if in_quotes => item.push(c),
            ',' | '}' => {
                let end = kept.max(item.trim_end().len());
                item.truncate(end);
                if item.is_empty() && !quoted {
                    return Err(malformed(input, &format!("Unexpected \"{c}\" character.")));
                }
                return Ok((item, quoted, &text[at..]));
            }
            '{' => return Err(SqlError::unsupported("a multidimensional array")),
            _ if quoted && !c.is_whitespace() => return Err(malformed(input, "Unexpected array element.")),
            _ if quoted => {}
            _ => item.push(c),
        }
    }
    Err(malformed(input, "Unexpected end of input."))
}
