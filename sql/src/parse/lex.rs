//! Tokens, by the rules of PostgreSQL's scanner.
//!
//! The scanner allocates nothing and keeps no state but its place in the text, so that a token costs
//! some ten nanoseconds (the simple protocol's fingerprint passes here for every statement) and the
//! parser can go back by setting the place.

use std::borrow::Cow;

use crate::error::{Result, SqlError, SqlState};

/// Kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Identifier or keyword.
    Word,
    /// `"quoted identifier"`.
    Quoted,
    /// Digits only.
    Integer,
    /// With a point or an exponent.
    Numeric,
    /// `'string'`.
    String,
    /// `E'string'`.
    EscapeString,
    /// `U&'string'`.
    UnicodeString,
    /// `U&"identifier"`.
    UnicodeIdent,
    /// `B'0101'` or `X'1F'`.
    BitString,
    /// `$tag$string$tag$`.
    DollarString,
    /// `$1`.
    Param,
    /// An operator.
    Operator,
    /// One of `( ) [ ] , ; : .`, or `::`, `:=`, `=>`, `..`.
    Punctuation,
    /// End of the text.
    End,
}

/// A token: its kind and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Kind.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// Byte after the last one.
    pub end: usize,
}

/// Scans one token from `place`.
pub fn scan(sql: &str, place: usize) -> Result<Token> {
    let bytes = sql.as_bytes();
    let start = skip_blank(sql, place)?;
    let token = |kind, end| Ok(Token { kind, start, end });
    let Some(&byte) = bytes.get(start) else { return token(Kind::End, start) };
    let next = bytes.get(start + 1).copied().unwrap_or(0);
    match byte {
        b'\'' => token(Kind::String, quoted_end(sql, start, start, b'\'', false)?),
        b'"' => {
            let end = quoted_end(sql, start, start, b'"', false)?;
            if end == start + 2 {
                return Err(error_at(sql, start, end, "zero-length delimited identifier"));
            }
            token(Kind::Quoted, end)
        }
        b'e' | b'E' if next == b'\'' => {
            token(Kind::EscapeString, quoted_end(sql, start, start + 1, b'\'', true)?)
        }
        b'b' | b'B' | b'x' | b'X' if next == b'\'' => {
            token(Kind::BitString, quoted_end(sql, start, start + 1, b'\'', false)?)
        }
        b'n' | b'N' if next == b'\'' => token(Kind::String, quoted_end(sql, start, start + 1, b'\'', false)?),
        b'u' | b'U' if next == b'&' && matches!(bytes.get(start + 2), Some(b'\'' | b'"')) => {
            let quote = bytes[start + 2];
            let kind = if quote == b'"' { Kind::UnicodeIdent } else { Kind::UnicodeString };
            token(kind, quoted_end(sql, start, start + 2, quote, false)?)
        }
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => {
            token(Kind::Word, start + run(&bytes[start..], is_word_byte))
        }
        b'0'..=b'9' => number(sql, start),
        b'.' if next.is_ascii_digit() => number(sql, start),
        b'.' if next == b'.' => token(Kind::Punctuation, start + 2),
        b'$' if next.is_ascii_digit() => {
            let end = start + 1 + run(&bytes[start + 1..], |b| b.is_ascii_digit());
            if bytes.get(end).is_some_and(|&b| is_word_start(b)) {
                return Err(error_at(sql, start, end + 1, "trailing junk after parameter"));
            }
            token(Kind::Param, end)
        }
        b'$' => dollar_string(sql, start),
        b':' if next == b':' || next == b'=' => token(Kind::Punctuation, start + 2),
        b'=' if next == b'>' && !bytes.get(start + 2).is_some_and(|&b| is_operator_byte(b)) => {
            token(Kind::Punctuation, start + 2)
        }
        b'(' | b')' | b'[' | b']' | b',' | b';' | b':' | b'.' => token(Kind::Punctuation, start + 1),
        _ if is_operator_byte(byte) => token(Kind::Operator, start + operator_len(&bytes[start..])),
        _ => {
            let len = sql[start..].chars().next().map_or(1, char::len_utf8);
            Err(error_at(sql, start, start + len, "syntax error"))
        }
    }
}

/// Whether a byte may continue a word.
fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_operator_byte(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

fn run(bytes: &[u8], test: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&b| !test(b)).unwrap_or(bytes.len())
}

/// `message at or near "token"`, at the token.
pub fn error_at(sql: &str, start: usize, end: usize, message: &str) -> SqlError {
    let mut end = end.min(sql.len());
    while !sql.is_char_boundary(end) {
        end += 1;
    }
    let mut near = &sql[start..end];
    // PostgreSQL shows the whole rest of the text for unterminated strings; an error needs no more
    // than its beginning.
    if near.len() > 1000 {
        let cut = (0..=1000).rev().find(|&i| near.is_char_boundary(i)).unwrap_or(0);
        near = &near[..cut];
    }
    SqlError::new(SqlState::SYNTAX_ERROR, format!("{message} at or near \"{near}\"")).at(start)
}

/// Skips white space and comments.
fn skip_blank(sql: &str, mut place: usize) -> Result<usize> {
    let bytes = sql.as_bytes();
    loop {
        place += run(&bytes[place..], |b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c));
        match (bytes.get(place), bytes.get(place + 1)) {
            (Some(b'-'), Some(b'-')) => place += run(&bytes[place..], |b| b != b'\n' && b != b'\r'),
            (Some(b'/'), Some(b'*')) => {
                let start = place;
                let mut depth = 1_usize;
                place += 2;
                while depth > 0 {
                    match (bytes.get(place), bytes.get(place + 1)) {
                        (None, _) => return Err(error_at(sql, start, sql.len(), "unterminated /* comment")),
                        (Some(b'/'), Some(b'*')) => (depth, place) = (depth + 1, place + 2),
                        (Some(b'*'), Some(b'/')) => (depth, place) = (depth - 1, place + 2),
                        _ => place += 1,
                    }
                }
            }
            _ => return Ok(place),
        }
    }
}

/// The end of a string whose opening quote lies at `open` (the token begins at `start`), including
/// the pieces that continue it on later lines.
fn quoted_end(sql: &str, start: usize, open: usize, quote: u8, escapes: bool) -> Result<usize> {
    let bytes = sql.as_bytes();
    let mut place = open + 1;
    loop {
        match bytes.get(place) {
            None => {
                let what = if quote == b'"' {
                    "unterminated quoted identifier"
                } else {
                    "unterminated quoted string"
                };
                return Err(error_at(sql, start, sql.len(), what));
            }
            Some(b'\\') if escapes => place += 2,
            Some(&b) if b == quote => {
                if bytes.get(place + 1) == Some(&quote) {
                    place += 2;
                } else if let Some(next) = (quote == b'\'').then(|| continuation(bytes, place + 1)).flatten()
                {
                    place = next + 1;
                } else {
                    return Ok(place + 1);
                }
            }
            Some(_) => place += 1,
        }
    }
}

/// Where the opening quote of a continued string lies: after white space with a line end.
fn continuation(bytes: &[u8], place: usize) -> Option<usize> {
    let blank = run(&bytes[place..], |b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c));
    let newline = bytes[place..place + blank].iter().any(|b| matches!(b, b'\n' | b'\r'));
    (newline && bytes.get(place + blank) == Some(&b'\'')).then_some(place + blank)
}

fn number(sql: &str, start: usize) -> Result<Token> {
    let bytes = sql.as_bytes();
    let digits = |place: usize| run(&bytes[place.min(bytes.len())..], |b| b.is_ascii_digit());
    let mut end = start + digits(start);
    let mut kind = Kind::Integer;
    // `1..10` is a range, not two numbers.
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1) != Some(&b'.') {
        kind = Kind::Numeric;
        end += 1;
        end += digits(end);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            kind = Kind::Numeric;
            end += 1 + sign + exponent;
        }
    }
    if bytes.get(end).is_some_and(|&b| is_word_start(b)) {
        let junk = end + run(&bytes[end..], is_word_byte);
        return Err(error_at(sql, start, junk.min(end + 1), "trailing junk after numeric literal"));
    }
    Ok(Token { kind, start, end })
}

fn dollar_string(sql: &str, start: usize) -> Result<Token> {
    let bytes = sql.as_bytes();
    let tag = run(&bytes[start + 1..], |b| is_word_byte(b) && b != b'$');
    if bytes.get(start + 1 + tag) != Some(&b'$') {
        return Err(error_at(sql, start, start + 1, "syntax error"));
    }
    let delimiter = &sql[start..start + tag + 2];
    let body = start + delimiter.len();
    match sql[body..].find(delimiter) {
        Some(len) => Ok(Token { kind: Kind::DollarString, start, end: body + len + delimiter.len() }),
        None => Err(error_at(sql, start, sql.len(), "unterminated dollar-quoted string")),
    }
}

/// Length of an operator: the longest run of operator characters that holds no beginning of a
/// comment, without trailing `+` and `-` unless a character occurs that makes them part of it.
fn operator_len(bytes: &[u8]) -> usize {
    let mut len = run(bytes, is_operator_byte);
    for i in 1..len {
        if matches!(&bytes[i..(i + 2).min(bytes.len())], b"--" | b"/*") {
            len = i;
            break;
        }
    }
    let special = bytes[..len].iter().any(|b| b"~!@#^&|`?%".contains(b));
    while len > 1 && !special && matches!(bytes[len - 1], b'+' | b'-') {
        len -= 1;
    }
    len
}

/// The value of a string token.
pub fn string_value(sql: &str, token: Token) -> Result<Cow<'_, str>> {
    let text = &sql[token.start..token.end];
    match token.kind {
        Kind::DollarString => {
            let delimiter = text[1..].find('$').expect("a dollar string has its delimiter") + 2;
            Ok(Cow::Borrowed(&text[delimiter..text.len() - delimiter]))
        }
        Kind::String => {
            let open = text.find('\'').expect("a string has its quote");
            Ok(unquote(&text[open..], '\''))
        }
        Kind::EscapeString => escape_value(sql, token).map(Cow::Owned),
        Kind::UnicodeString => unicode_value(sql, token, &unquote(&text[2..], '\'')).map(Cow::Owned),
        _ => unreachable!("only string tokens have a string's value"),
    }
}

/// The name of an identifier token: folded to lower case unless quoted.
pub fn identifier(sql: &str, token: Token) -> Result<String> {
    let text = &sql[token.start..token.end];
    let name = match token.kind {
        Kind::Quoted => unquote(text, '"').into_owned(),
        Kind::UnicodeIdent => unicode_value(sql, token, &unquote(&text[2..], '"'))?,
        // PostgreSQL folds ASCII only in multi-byte encodings.
        _ => text.to_ascii_lowercase(),
    };
    Ok(truncate_identifier(name))
}

/// Identifiers hold at most 63 bytes; longer ones are cut, as in PostgreSQL.
fn truncate_identifier(mut name: String) -> String {
    if name.len() > 63 {
        let cut = (0..=63).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
        name.truncate(cut);
    }
    name
}

/// Takes quotes away: the outer ones, doubled ones inside, and seams of continued pieces.
fn unquote(text: &str, quote: char) -> Cow<'_, str> {
    let inner = &text[1..text.len() - 1];
    if !inner.contains(quote) {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find(quote) {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix(quote) {
            out.push(quote);
            rest = tail;
        } else {
            let seam = after.find(quote).expect("a continued string opens again");
            rest = &after[seam + 1..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn escape_value(sql: &str, token: Token) -> Result<String> {
    let text = &sql[token.start + 2..token.end - 1];
    let bytes = text.as_bytes();
    let fail = |message: &str| SqlError::new(SqlState(*b"22025"), message.to_owned()).at(token.start);
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'\'' if bytes.get(i + 1) == Some(&b'\'') => {
                out.push(b'\'');
                i += 2;
            }
            b'\'' => {
                let seam = bytes[i + 1..].iter().position(|&b| b == b'\'');
                i += 2 + seam.expect("a continued string opens again");
            }
            b'\\' => {
                let byte = bytes[i + 1];
                i += 2;
                match byte {
                    b'b' => out.push(8),
                    b'f' => out.push(12),
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b'0'..=b'7' => {
                        let len = run(&bytes[i..(i + 2).min(bytes.len())], |b| matches!(b, b'0'..=b'7'));
                        let digits = &text[i - 1..i + len];
                        out.push(u32::from_str_radix(digits, 8).expect("octal digits") as u8);
                        i += len;
                    }
                    b'x' if bytes.get(i).is_some_and(u8::is_ascii_hexdigit) => {
                        let len = run(&bytes[i..(i + 2).min(bytes.len())], |b| b.is_ascii_hexdigit());
                        out.push(u8::from_str_radix(&text[i..i + len], 16).expect("hexadecimal digits"));
                        i += len;
                    }
                    b'u' | b'U' => {
                        let len = if byte == b'u' { 4 } else { 8 };
                        let code = unicode_digits(bytes, i, len).ok_or_else(|| {
                            fail("invalid Unicode escape")
                                .hint("Unicode escapes must be \\uXXXX or \\UXXXXXXXX.")
                        })?;
                        i += len;
                        let c = surrogate_or_char(code, || {
                            if bytes.get(i) != Some(&b'\\') {
                                return None;
                            }
                            let len = if *bytes.get(i + 1)? == b'u' { 4 } else { 8 };
                            let low = unicode_digits(bytes, i + 2, len)?;
                            i += 2 + len;
                            Some(low)
                        })
                        .ok_or_else(|| fail("invalid Unicode surrogate pair"))?;
                        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    other => out.push(other),
                }
            }
            byte => {
                out.push(byte);
                i += 1;
            }
        }
    }
    if out.contains(&0) {
        return Err(not_utf8("0x00").at(token.start));
    }
    String::from_utf8(out).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let bytes: Vec<String> = e.as_bytes()[at..].iter().take(4).map(|b| format!("0x{b:02x}")).collect();
        not_utf8(&bytes.join(" ")).at(token.start)
    })
}

fn not_utf8(bytes: &str) -> SqlError {
    SqlError::new(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        format!("invalid byte sequence for encoding \"UTF8\": {bytes}"),
    )
}

fn unicode_digits(bytes: &[u8], at: usize, len: usize) -> Option<u32> {
    let digits = bytes.get(at..at + len)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The character of a code, which may be the first of a surrogate pair.
fn surrogate_or_char(code: u32, low: impl FnOnce() -> Option<u32>) -> Option<char> {
    let code = match code {
        0xd800..=0xdbff => {
            let low = low().filter(|low| (0xdc00..=0xdfff).contains(low))?;
            0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
        }
        0 => return None,
        code => code,
    };
    char::from_u32(code)
}

/// `U&'…'` with backslash as its escape character (UESCAPE is left out).
fn unicode_value(_sql: &str, token: Token, text: &str) -> Result<String> {
    let fail = |message: &str| SqlError::new(SqlState::SYNTAX_ERROR, message.to_owned()).at(token.start);
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let code_at = |i: usize| match bytes.get(i + 1) {
        Some(b'+') => Some((unicode_digits(bytes, i + 2, 6)?, i + 8)),
        _ => Some((unicode_digits(bytes, i + 1, 4)?, i + 5)),
    };
    while i < bytes.len() {
        let Some(at) = text[i..].find('\\') else {
            out.push_str(&text[i..]);
            break;
        };
        out.push_str(&text[i..i + at]);
        i += at;
        if bytes.get(i + 1) == Some(&b'\\') {
            out.push('\\');
            i += 2;
            continue;
        }
        let (code, next) = code_at(i).ok_or_else(|| fail("invalid Unicode escape"))?;
        i = next;
        let c = surrogate_or_char(code, || {
            let (low, next) = (bytes.get(i) == Some(&b'\\')).then(|| code_at(i)).flatten()?;
            i = next;
            Some(low)
        });
        out.push(c.ok_or_else(|| fail("invalid Unicode surrogate pair"))?);
    }
    Ok(out)
}
