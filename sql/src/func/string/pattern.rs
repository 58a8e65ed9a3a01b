//! LIKE, regular expressions and digests.

use regex::{Regex, RegexBuilder};

use super::super::args::*;
use super::super::{Body, Builtin};
use crate::types::Datum;
use crate::types::TypeKind::{Bool, Bpchar, Bytea, Name, Text, TextArray};
use crate::{Result, SqlError, SqlState};

enum Step {
    /// `%`
    Any,
    /// `_`
    One,
    Literal(char),
    /// An escape character with nothing behind it: an error when a character meets it.
    Dangling,
}

/// A LIKE pattern cut into steps.
fn steps(pattern: &str, escape: Option<char>) -> Vec<Step> {
    let mut out = Vec::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        out.push(if Some(c) == escape {
            characters.next().map_or(Step::Dangling, Step::Literal)
        } else {
            match c {
                '%' => Step::Any,
                '_' => Step::One,
                c => Step::Literal(c),
            }
        });
    }
    out
}

/// Whether a text matches a LIKE pattern: greedy with one point of return, linear in practice.
fn matches(text: &str, steps: &[Step], fold: bool) -> Result<bool> {
    let same = |a: char, b: char| {
        a == b || (fold && (a.eq_ignore_ascii_case(&b) || a.to_lowercase().eq(b.to_lowercase())))
    };
    let mut rest = text.chars();
    let mut at = 0;
    // Where the last % stands, and the text it has not swallowed yet.
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        match steps.get(at) {
            Some(Step::Any) => {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            Some(step) => {
                let mut peek = rest.clone();
                let matched = match (peek.next(), step) {
                    (None, _) => return Ok(false),
                    (Some(_), Step::Dangling) => {
                        return Err(SqlError::new(
                            SqlState::INVALID_ESCAPE,
                            "LIKE pattern must not end with escape character",
                        ));
                    }
                    (Some(_), Step::One) => true,
                    (Some(c), Step::Literal(l)) => same(c, *l),
                    (Some(_), Step::Any) => unreachable!("handled above"),
                };
                if matched {
                    rest = peek;
                    at += 1;
                    continue;
                }
            }
            None if rest.as_str().is_empty() => return Ok(true),
            None => {}
        }
        // Let the last % swallow one character more.
        let Some((after, from)) = &mut retry else { return Ok(false) };
        if from.next().is_none() {
            return Ok(false);
        }
        at = *after;
        rest = from.clone();
    }
}

fn like(text: &str, pattern: &str, escape: Option<char>, fold: bool) -> Result<bool> {
    // The common patterns without a general match.
    if !fold && !pattern.contains(['_', '\\']) && escape == Some('\\') {
        let inner = pattern.trim_matches('%');
        if !inner.contains('%') {
            let (open_start, open_end) = (pattern.starts_with('%'), pattern.ends_with('%'));
            return Ok(match (open_start, open_end) {
                _ if inner.is_empty() && open_start => true,
                (false, false) => text == inner,
                (false, true) => text.starts_with(inner),
                (true, false) => text.ends_with(inner),
                (true, true) => text.contains(inner),
            });
        }
    }
    matches(text, &steps(pattern, escape), fold)
}

/// The literal text that everything matching a LIKE pattern begins with, and whether the pattern is
/// that text alone: what an index range can use.
pub fn like_prefix(pattern: &str) -> Option<(String, bool)> {
    let steps = steps(pattern, Some('\\'));
    let mut prefix = String::new();
    for step in &steps {
        match step {
            Step::Literal(c) => prefix.push(*c),
            _ => return Some((prefix, false)),
        }
    }
    Some((prefix, true))
}

fn escape_character(escape: &str) -> Result<Option<char>> {
    let mut characters = escape.chars();
    match (characters.next(), characters.next()) {
        (first, None) => Ok(first),
        _ => Err(SqlError::new(SqlState::INVALID_ESCAPE, "invalid escape string")
            .hint("Escape string must be empty or one character.")),
    }
}

/// A POSIX pattern in the regex crate's syntax. Both share most of it; what PostgreSQL has beyond
/// (back references, look-around) is refused.
fn regex(pattern: &str, fold: bool, flags: &str) -> Result<Regex> {
    let mut pattern = pattern;
    let mut literal = false;
    if let Some(rest) = pattern.strip_prefix("***=") {
        pattern = rest;
        literal = true;
    } else if let Some(rest) = pattern.strip_prefix("***:") {
        pattern = rest;
    }
    let translated = if literal { regex::escape(pattern) } else { translate(pattern)? };
    let mut fold = fold;
    let (mut lines, mut dot_newline) = (false, true);
    for flag in flags.chars() {
        match flag {
            'i' => fold = true,
            'c' => fold = false,
            'n' | 'm' => (lines, dot_newline) = (true, false),
            's' => (lines, dot_newline) = (false, true),
            'g' => {}
            _ => {
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("invalid regular expression option: \"{flag}\""),
                ));
            }
        }
    }
    RegexBuilder::new(&translated)
        .case_insensitive(fold)
        .multi_line(lines)
        .dot_matches_new_line(dot_newline)
        .size_limit(1 << 22)
        .build()
        .map_err(|_| {
            SqlError::new(
                SqlState::INVALID_REGULAR_EXPRESSION,
                format!("invalid regular expression: {}", fault(pattern)),
            )
        })
}

/// PostgreSQL's word for what is wrong with a pattern.
fn fault(pattern: &str) -> &'static str {
    let count = |c: char| pattern.matches(c).count();
    if count('(') != count(')') {
        "parentheses () not balanced"
    } else if count('[') > count(']') {
        "brackets [] not balanced"
    } else if pattern.starts_with(['*', '+', '?']) {
        "quantifier operand invalid"
    } else if pattern.ends_with('\\') {
        "invalid escape \\ sequence"
    } else {
        "invalid character range"
    }
}

fn translate(pattern: &str) -> Result<String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    let mut class_start = false;
    while let Some(c) = characters.next() {
        if in_class {
            match c {
                '[' if matches!(characters.peek(), Some(':')) => {
                    // A named class is the same in both.
                    out.push('[');
                    for c in characters.by_ref() {
                        out.push(c);
                        if c == ']' {
                            break;
                        }
                    }
                    class_start = false;
                    continue;
                }
                '[' => out.push_str("\\["),
                ']' if class_start => out.push_str("\\]"),
                ']' => {
                    in_class = false;
                    out.push(']');
                }
                '\\' => escape(&mut characters, true, &mut out)?,
                '&' | '~' => {
                    out.push('\\');
                    out.push(c);
                }
                '^' if class_start && out.ends_with('[') => {
                    out.push('^');
                    continue;
                }
                c => out.push(c),
            }
            class_start = false;
            continue;
        }
        match c {
            '[' => {
                in_class = true;
                class_start = true;
                out.push('[');
            }
            '\\' => escape(&mut characters, false, &mut out)?,
            '(' if characters.peek() == Some(&'?') => {
                out.push('(');
                out.push('?');
                characters.next();
                match characters.peek() {
                    Some(':') => {}
                    Some('=' | '!' | '<') => {
                        return Err(SqlError::unsupported("look-around in a regular expression"));
                    }
                    _ => {}
                }
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// What follows a backslash. Letters mean other things than in the regex crate (`\b` is a
/// backspace, `\y` the edge of a word), and classes are those of the "C" locale.
fn escape(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    in_class: bool,
    out: &mut String,
) -> Result<()> {
    let invalid = || {
        SqlError::new(
            SqlState::INVALID_REGULAR_EXPRESSION,
            "invalid regular expression: invalid escape \\ sequence",
        )
    };
    let Some(c) = characters.next() else { return Err(invalid()) };
    let mut hexadecimal = |least: usize, most: usize| {
        let mut digits = String::new();
        while digits.len() < most
            && let Some(digit) = characters.next_if(char::is_ascii_hexdigit)
        {
            digits.push(digit);
        }
        if digits.len() < least {
            return Err(invalid());
        }
        u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).ok_or_else(invalid)
    };
    let (digit, space, word) = ("0-9", " \\t-\\r", "0-9A-Za-z_");
    let literal = match c {
        'd' | 's' | 'w' => {
            let members = match c {
                'd' => digit,
                's' => space,
                _ => word,
            };
            out.push_str(&if in_class { members.to_owned() } else { format!("[{members}]") });
            return Ok(());
        }
        'D' | 'S' | 'W' if !in_class => {
            let members = match c {
                'D' => digit,
                'S' => space,
                _ => word,
            };
            out.push_str(&format!("[^{members}]"));
            return Ok(());
        }
        'y' | 'Y' | 'm' | 'M' | 'A' | 'Z' if !in_class => {
            out.push_str(match c {
                'y' => "(?-u:\\b)",
                'Y' => "(?-u:\\B)",
                'm' => "(?-u:\\b{start})",
                'M' => "(?-u:\\b{end})",
                'A' => "\\A",
                _ => "\\z",
            });
            return Ok(());
        }
        '1'..='9' if !in_class => {
            return Err(SqlError::unsupported("a back reference in a regular expression"));
        }
        'a' => '\u{7}',
        'b' => '\u{8}',
        'B' => '\\',
        'e' => '\u{1b}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '0' => '\0',
        'c' => match characters.next() {
            Some(control) => char::from((u32::from(control) & 31) as u8),
            None => return Err(invalid()),
        },
        'x' => hexadecimal(1, 255)?,
        'u' => hexadecimal(4, 4)?,
        'U' => hexadecimal(8, 8)?,
        c if c.is_ascii_alphanumeric() => return Err(invalid()),
        c => c,
    };
    out.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
    Ok(())
}

thread_local! {
    /// The pattern used last on this thread, compiled: an expression usually repeats one.
    static LAST: std::cell::RefCell<Option<(String, bool, Regex)>> = const { std::cell::RefCell::new(None) };
}

fn with_regex<R>(pattern: &str, fold: bool, f: impl FnOnce(&Regex) -> R) -> Result<R> {
    LAST.with_borrow_mut(|last| {
        if let Some((p, i, compiled)) = last
            && p == pattern
            && *i == fold
        {
            return Ok(f(compiled));
        }
        let compiled = regex(pattern, fold, "")?;
        let result = f(&compiled);
        *last = Some((pattern.to_owned(), fold, compiled));
        Ok(result)
    })
}

/// `\1` and `\&` of a replacement, in the regex crate's terms.
fn replacement(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match characters.next() {
                Some(d @ '1'..='9') => out.push_str(&format!("${{{d}}}")),
                Some('&') => out.push_str("${0}"),
                Some(c) => out.push(c),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

fn regexp_replace(args: &[Datum], flags: &str) -> Result<Datum> {
    let compiled = regex(text(&args[1]), false, flags)?;
    let with = replacement(text(&args[2]));
    let source = text(&args[0]);
    let replaced = if flags.contains('g') {
        compiled.replace_all(source, with.as_str())
    } else {
        compiled.replace(source, with.as_str())
    };
    Ok(Datum::text(replaced.into_owned()))
}

/// First group of the first match, or the match.
fn regexp_substring(source: &str, pattern: &str) -> Result<Datum> {
    with_regex(pattern, false, |compiled| {
        let Some(captures) = compiled.captures(source) else { return Datum::Null };
        let found = if captures.len() > 1 { captures.get(1) } else { captures.get(0) };
        found.map_or(Datum::Null, |m| Datum::text(m.as_str()))
    })
}

fn regexp_match(source: &str, pattern: &str, flags: &str) -> Result<Datum> {
    let compiled = regex(pattern, false, flags)?;
    let Some(captures) = compiled.captures(source) else { return Ok(Datum::Null) };
    let item = |m: Option<regex::Match<'_>>| m.map_or(Datum::Null, |m| Datum::text(m.as_str()));
    let items = if captures.len() > 1 {
        captures.iter().skip(1).map(item).collect()
    } else {
        vec![item(captures.get(0))]
    };
    Ok(Datum::array(Text, items))
}

macro_rules! patterns {
    ($($left:ident $prefix:literal;)*) => {
        static PER_TYPE: &[Builtin] = &[$(
            Builtin::new(concat!($prefix, "like"), &[$left, Text], Bool, Body::Plain(|a| {
                Ok(Datum::Bool(like(text(&a[0]), text(&a[1]), Some('\\'), false)?))
            })).operator("~~"),
            Builtin::new(concat!($prefix, "nlike"), &[$left, Text], Bool, Body::Plain(|a| {
                Ok(Datum::Bool(!like(text(&a[0]), text(&a[1]), Some('\\'), false)?))
            })).operator("!~~"),
            Builtin::new(concat!($prefix, "iclike"), &[$left, Text], Bool, Body::Plain(|a| {
                Ok(Datum::Bool(like(text(&a[0]), text(&a[1]), Some('\\'), true)?))
            })).operator("~~*"),
            Builtin::new(concat!($prefix, "icnlike"), &[$left, Text], Bool, Body::Plain(|a| {
                Ok(Datum::Bool(!like(text(&a[0]), text(&a[1]), Some('\\'), true)?))
            })).operator("!~~*"),
            Builtin::new(concat!($prefix, "regexeq"), &[$left, Text], Bool, Body::Plain(|a| {
                with_regex(text(&a[1]), false, |r| Datum::Bool(r.is_match(text(&a[0]))))
            })).operator("~"),
            Builtin::new(concat!($prefix, "regexne"), &[$left, Text], Bool, Body::Plain(|a| {
                with_regex(text(&a[1]), false, |r| Datum::Bool(!r.is_match(text(&a[0]))))
            })).operator("!~"),
            Builtin::new(concat!($prefix, "icregexeq"), &[$left, Text], Bool, Body::Plain(|a| {
                with_regex(text(&a[1]), true, |r| Datum::Bool(r.is_match(text(&a[0]))))
            })).operator("~*"),
            Builtin::new(concat!($prefix, "icregexne"), &[$left, Text], Bool, Body::Plain(|a| {
                with_regex(text(&a[1]), true, |r| Datum::Bool(!r.is_match(text(&a[0]))))
            })).operator("!~*"),
        )*];
    };
}

patterns! {
    Text "text";
    Bpchar "bpchar";
    Name "name";
}

static OTHERS: &[Builtin] = &[
    // The pattern with another escape character, rewritten for the operators: LIKE … ESCAPE.
    Builtin::new(
        "like_escape",
        &[Text, Text],
        Text,
        Body::Plain(|a| {
            let escape = escape_character(text(&a[1]))?;
            let mut out = String::new();
            let mut characters = text(&a[0]).chars();
            while let Some(c) = characters.next() {
                if Some(c) == escape {
                    out.push('\\');
                    out.extend(characters.next());
                } else if c == '\\' {
                    out.push_str("\\\\");
                } else {
                    out.push(c);
                }
            }
            Ok(Datum::text(out))
        }),
    ),
    Builtin::new(
        "bytealike",
        &[Bytea, Bytea],
        Bool,
        Body::Plain(|a| {
            let latin = |b: &[u8]| b.iter().map(|b| char::from(*b)).collect::<String>();
            Ok(Datum::Bool(like(&latin(bytea(&a[0])), &latin(bytea(&a[1])), Some('\\'), false)?))
        }),
    )
    .operator("~~"),
    Builtin::new("regexp_replace", &[Text, Text, Text], Text, Body::Plain(|a| regexp_replace(a, ""))),
    Builtin::new(
        "regexp_replace",
        &[Text, Text, Text, Text],
        Text,
        Body::Plain(|a| regexp_replace(a, text(&a[3]))),
    ),
    Builtin::new(
        "substring",
        &[Text, Text],
        Text,
        Body::Plain(|a| regexp_substring(text(&a[0]), text(&a[1]))),
    ),
    Builtin::new(
        "regexp_match",
        &[Text, Text],
        TextArray,
        Body::Plain(|a| regexp_match(text(&a[0]), text(&a[1]), "")),
    ),
    Builtin::new(
        "regexp_match",
        &[Text, Text, Text],
        TextArray,
        Body::Plain(|a| regexp_match(text(&a[0]), text(&a[1]), text(&a[2]))),
    ),
    Builtin::new(
        "regexp_like",
        &[Text, Text],
        Bool,
        Body::Plain(|a| with_regex(text(&a[1]), false, |r| Datum::Bool(r.is_match(text(&a[0]))))),
    ),
    Builtin::new(
        "regexp_split_to_array",
        &[Text, Text],
        TextArray,
        Body::Plain(|a| {
            with_regex(text(&a[1]), false, |r| {
                Datum::array(Text, r.split(text(&a[0])).map(Datum::text).collect())
            })
        }),
    ),
];

pub(super) static FUNCTIONS: &[Builtin] = PER_TYPE;
pub(super) static MORE: &[Builtin] = OTHERS;

/// MD5 (RFC 1321).
pub(super) fn md5(data: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded(data, u64::to_le_bytes).chunks_exact(64) {
        let word = |i: usize| u32::from_le_bytes(block[i * 4..i * 4 + 4].try_into().expect("four bytes"));
        let [mut a, mut b, mut c, mut d] = state;
        for i in 0..64 {
            let (mix, k) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                2 => (b ^ c ^ d, (3 * i + 5) % 16),
                _ => (c ^ (b | !d), 7 * i % 16),
            };
            // The constants are the sines of the rounds.
            let sine = (((i + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mix).wrapping_add(sine).wrapping_add(word(k));
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d]) {
            *s = s.wrapping_add(v);
        }
    }
    let mut out = [0; 16];
    for (chunk, s) in out.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&s.to_le_bytes());
    }
    out
}

/// A message with a 1 bit, zeroes and its length in bits, in blocks of 64 bytes.
fn padded(data: &[u8], length: fn(u64) -> [u8; 8]) -> Vec<u8> {
    let mut message = data.to_vec();
    message.push(0x80);
    message.resize(message.len().next_multiple_of(64), 0);
    if message.len() - data.len() - 1 < 8 {
        message.resize(message.len() + 64, 0);
    }
    let end = message.len();
    message[end - 8..].copy_from_slice(&length(data.len() as u64 * 8));
    message
}

/// SHA-256 (FIPS 180-4).
pub(super) fn sha256(data: &[u8]) -> [u8; 32] {
    // The constants are the first bits of the fractional parts of roots of the first primes.
    let primes: Vec<u32> =
        (2..312u32).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).collect();
    let cube: Vec<u32> = primes.iter().take(64).map(|p| root_fraction(*p, 3)).collect();
    let mut state: Vec<u32> = primes.iter().take(8).map(|p| root_fraction(*p, 2)).collect();
    for block in padded(data, u64::to_be_bytes).chunks_exact(64) {
        let mut w: Vec<u32> =
            block.chunks_exact(4).map(|b| u32::from_be_bytes(b.try_into().expect("four bytes"))).collect();
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ (w[i - 15] >> 3);
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ (w[i - 2] >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v: [u32; 8] = state.as_slice().try_into().expect("eight words");
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let t1 = v[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(cube[i]).wrapping_add(w[i]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v = [
                t1.wrapping_add(s0.wrapping_add(majority)),
                v[0],
                v[1],
                v[2],
                v[3].wrapping_add(t1),
                v[4],
                v[5],
                v[6],
            ];
        }
        for (s, v) in state.iter_mut().zip(v) {
            *s = s.wrapping_add(v);
        }
    }
    let mut out = [0; 32];
    for (chunk, s) in out.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&s.to_be_bytes());
    }
    out
}

/// The first 32 bits of the fraction of a root, by integer search.
fn root_fraction(n: u32, degree: u32) -> u32 {
    // The largest r with r^degree ≤ n × 2^(32·degree).
    let target = u128::from(n) << (32 * degree);
    let (mut low, mut high) = (0u128, 1u128 << 40);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if middle.checked_pow(degree).is_some_and(|p| p <= target) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low as u32
}
