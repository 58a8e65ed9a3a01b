//! LIKE, the functions of regular expressions, and digests.

use super::super::args::*;
use super::super::{Body, Builtin};
use super::posix::pattern;
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
    // As in the "C" locale: ASCII's letters.
    let same = |a: char, b: char| a == b || (fold && a.eq_ignore_ascii_case(&b));
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

fn regexp_replace(args: &[Datum], flags: &str) -> Result<Datum> {
    let replaced =
        pattern(text(&args[1]), flags)?.replace(text(&args[0]), text(&args[2]), flags.contains('g'));
    Ok(Datum::text(replaced))
}

/// First group of the first match, or the match.
fn regexp_substring(source: &str, of: &str) -> Result<Datum> {
    let Some(groups) = pattern(of, "")?.groups(source, 0) else { return Ok(Datum::Null) };
    Ok(item(source, &groups[usize::from(groups.len() > 1)]))
}

fn regexp_match(source: &str, of: &str, flags: &str) -> Result<Datum> {
    let Some(groups) = pattern(of, flags)?.groups(source, 0) else { return Ok(Datum::Null) };
    let items = &groups[usize::from(groups.len() > 1)..];
    Ok(Datum::array(Text, items.iter().map(|place| item(source, place)).collect()))
}

fn item(source: &str, place: &Option<std::ops::Range<usize>>) -> Datum {
    place.clone().map_or(Datum::Null, |place| Datum::text(&source[place]))
}

fn is_match(args: &[Datum], flags: &str) -> Result<bool> {
    Ok(pattern(text(&args[1]), flags)?.is_match(text(&args[0])))
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
                Ok(Datum::Bool(is_match(a, "")?))
            })).operator("~"),
            Builtin::new(concat!($prefix, "regexne"), &[$left, Text], Bool, Body::Plain(|a| {
                Ok(Datum::Bool(!is_match(a, "")?))
            })).operator("!~"),
            Builtin::new(concat!($prefix, "icregexeq"), &[$left, Text], Bool, Body::Plain(|a| {
                Ok(Datum::Bool(is_match(a, "i")?))
            })).operator("~*"),
            Builtin::new(concat!($prefix, "icregexne"), &[$left, Text], Bool, Body::Plain(|a| {
                Ok(Datum::Bool(!is_match(a, "i")?))
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
    Builtin::new("regexp_like", &[Text, Text], Bool, Body::Plain(|a| Ok(Datum::Bool(is_match(a, "")?)))),
    Builtin::new(
        "regexp_like",
        &[Text, Text, Text],
        Bool,
        Body::Plain(|a| Ok(Datum::Bool(is_match(a, text(&a[2]))?))),
    ),
    Builtin::new(
        "regexp_split_to_array",
        &[Text, Text],
        TextArray,
        Body::Plain(|a| {
            let pieces = pattern(text(&a[1]), "")?;
            Ok(Datum::array(Text, pieces.split(text(&a[0])).into_iter().map(Datum::text).collect()))
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
