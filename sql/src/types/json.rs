//! Syntax check of `json` input; the text itself is stored.

use crate::{Result, SqlError, SqlState};

const MAX_DEPTH: usize = 6_000;

/// Fails unless the text is one JSON value.
pub fn validate(input: &str) -> Result<()> {
    let mut at = 0;
    let bytes = input.as_bytes();
    // Open containers: true for objects.
    let mut open: Vec<bool> = Vec::new();
    let mut expect_value = true;
    let mut may_close = false;
    loop {
        skip_blanks(bytes, &mut at);
        if !expect_value {
            // Behind a value: a comma, a closing bracket, or the end.
            let Some(object) = open.last().copied() else {
                return if at == bytes.len() { Ok(()) } else { Err(invalid()) };
            };
            match bytes.get(at) {
                Some(b',') => {
                    at += 1;
                    if object {
                        key(bytes, &mut at)?;
                    }
                    expect_value = true;
                    may_close = false;
                }
                Some(b'}') if object => close(&mut open, &mut at),
                Some(b']') if !object => close(&mut open, &mut at),
                _ => return Err(invalid()),
            }
            continue;
        }
        match bytes.get(at) {
            Some(b'{') => {
                at += 1;
                open.push(true);
                skip_blanks(bytes, &mut at);
                if bytes.get(at) == Some(&b'}') {
                    close(&mut open, &mut at);
                    expect_value = false;
                } else {
                    key(bytes, &mut at)?;
                    may_close = false;
                }
            }
            Some(b'[') => {
                at += 1;
                open.push(false);
                may_close = true;
            }
            Some(b']') if may_close && open.last() == Some(&false) => {
                close(&mut open, &mut at);
                expect_value = false;
            }
            Some(b'"') => {
                string(bytes, &mut at)?;
                expect_value = false;
            }
            Some(b'-' | b'0'..=b'9') => {
                number(bytes, &mut at)?;
                expect_value = false;
            }
            _ => {
                let word = ["true", "false", "null"].iter().find(|w| bytes[at..].starts_with(w.as_bytes()));
                at += word.ok_or_else(invalid)?.len();
                if bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
                    return Err(invalid());
                }
                expect_value = false;
            }
        }
        if open.len() > MAX_DEPTH {
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded"));
        }
    }
}

fn invalid() -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type json")
}

fn skip_blanks(bytes: &[u8], at: &mut usize) {
    while matches!(bytes.get(*at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        *at += 1;
    }
}

fn close(open: &mut Vec<bool>, at: &mut usize) {
    open.pop();
    *at += 1;
}

fn key(bytes: &[u8], at: &mut usize) -> Result<()> {
    skip_blanks(bytes, at);
    string(bytes, at)?;
    skip_blanks(bytes, at);
    if bytes.get(*at) != Some(&b':') {
        return Err(invalid());
    }
    *at += 1;
    Ok(())
}

fn string(bytes: &[u8], at: &mut usize) -> Result<()> {
    if bytes.get(*at) != Some(&b'"') {
        return Err(invalid());
    }
    *at += 1;
    loop {
        match bytes.get(*at) {
            Some(b'"') => {
                *at += 1;
                return Ok(());
            }
            Some(b'\\') => match bytes.get(*at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => *at += 2,
                Some(b'u')
                    if bytes.get(*at + 2..*at + 6).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)) =>
                {
                    *at += 6;
                }
                _ => return Err(invalid()),
            },
            Some(0..=0x1f) | None => return Err(invalid()),
            Some(_) => *at += 1,
        }
    }
}

fn number(bytes: &[u8], at: &mut usize) -> Result<()> {
    let digits = |at: &mut usize| {
        let start = *at;
        while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
            *at += 1;
        }
        *at - start
    };
    if bytes[*at] == b'-' {
        *at += 1;
    }
    let leading_zero = bytes.get(*at) == Some(&b'0');
    let whole = digits(at);
    if whole == 0 || (leading_zero && whole > 1) {
        return Err(invalid());
    }
    if bytes.get(*at) == Some(&b'.') {
        *at += 1;
        if digits(at) == 0 {
            return Err(invalid());
        }
    }
    if matches!(bytes.get(*at), Some(b'e' | b'E')) {
        *at += 1;
        if matches!(bytes.get(*at), Some(b'+' | b'-')) {
            *at += 1;
        }
        if digits(at) == 0 {
            return Err(invalid());
        }
    }
    if bytes.get(*at).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return Err(invalid());
    }
    Ok(())
}
