//! `to_char`, `to_date`, `to_timestamp` with patterns.

use jiff::tz::TimeZone;

use super::super::args::*;
use super::super::{Body, Builtin};
use super::field::{iso_week, weekday};
use super::{make_date, to_instant};
use crate::types::TypeKind::{self, Date, Float8, Int4, Int8, Text, TimestampTz};
use crate::types::datetime::{MICROS_PER_DAY, MICROS_PER_SECOND, civil_from_days, days_from_civil};
use crate::types::numeric::{Numeric, write_text};
use crate::types::{Datum, timezone};
use crate::{Result, SqlError, SqlState};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// Template patterns, longest first where one begins another.
const PATTERNS: &[&str] = &[
    "Month", "MONTH", "month", "HH24", "HH12", "YYYY", "Y,YYY", "IYYY", "SSSSS", "SSSS", "A.M.", "P.M.",
    "a.m.", "p.m.", "B.C.", "A.D.", "b.c.", "a.d.", "TZH", "TZM", "DAY", "Day", "day", "DDD", "IDDD", "MON",
    "Mon", "mon", "YYY", "IYY", "HH", "MI", "SS", "MS", "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "AM",
    "PM", "am", "pm", "BC", "AD", "bc", "ad", "MM", "DD", "ID", "DY", "Dy", "dy", "WW", "IW", "CC", "YY",
    "IY", "RM", "rm", "TZ", "tz", "OF", "D", "J", "Q", "W", "Y", "I",
];

enum Piece<'a> {
    Field { name: &'static str, fill: bool, ordinal: Option<bool> },
    Literal(&'a str),
}

/// Cuts a template into fields and literal text.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < template.len() {
        let rest = &template[at..];
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            out.push(Piece::Literal(&quoted[..end]));
            at += (end + 2).min(rest.len());
            continue;
        }
        let (fill, after) = match rest.strip_prefix("FM").or_else(|| rest.strip_prefix("fm")) {
            Some(after) => (false, after),
            None => (true, rest),
        };
        let insensitive = |p: &&&str| {
            after.is_char_boundary(p.len().min(after.len()))
                && after.len() >= p.len()
                && if p.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ',')
                    && !is_cased(p)
                {
                    after[..p.len()].eq_ignore_ascii_case(p)
                } else {
                    after.starts_with(**p)
                }
        };
        if let Some(name) = PATTERNS.iter().find(insensitive) {
            at += rest.len() - after.len() + name.len();
            let ordinal = match template.get(at..at + 2) {
                Some("TH") => Some(true),
                Some("th") => Some(false),
                _ => None,
            };
            at += ordinal.map_or(0, |_| 2);
            out.push(Piece::Field { name, fill, ordinal });
            continue;
        }
        if !fill {
            at += 2;
            continue;
        }
        let next = rest.chars().next().expect("not at the end").len_utf8();
        out.push(Piece::Literal(&rest[..next]));
        at += next;
    }
    out
}

/// Whether a pattern's case decides the case of its output.
fn is_cased(pattern: &str) -> bool {
    matches!(pattern, "MONTH" | "DAY" | "MON" | "DY" | "AM" | "PM" | "BC" | "AD" | "RM" | "TZ")
}

fn cased(word: &str, pattern: &str) -> String {
    let mut letters = pattern.chars();
    match (letters.next().is_some_and(char::is_uppercase), letters.next().is_some_and(char::is_uppercase)) {
        (true, true) => word.to_uppercase(),
        (true, false) => word.to_owned(),
        _ => word.to_lowercase(),
    }
}

/// Formats a timestamp by a template; an instant is shown in its zone.
pub(super) fn to_char(micros: i64, zone: Option<&TimeZone>, template: &str) -> Result<String> {
    let offset = zone.map_or(0, |zone| timezone::offset_at(zone, micros));
    let local = micros + i64::from(offset) * MICROS_PER_SECOND;
    let days = local.div_euclid(MICROS_PER_DAY);
    let time = local.rem_euclid(MICROS_PER_DAY);
    let (year, month, day) = civil_from_days(days);
    let shown_year = if year > 0 { year } else { 1 - year };
    let (hour, minute, second) =
        (time / 3_600_000_000, time / 60_000_000 % 60, time / MICROS_PER_SECOND % 60);
    let fraction = time % MICROS_PER_SECOND;
    let (iso_year, iso) = iso_week(days);
    let mut out = String::new();
    for piece in pieces(template) {
        let (name, fill, ordinal) = match piece {
            Piece::Literal(text) => {
                out.push_str(text);
                continue;
            }
            Piece::Field { name, fill, ordinal } => (name, fill, ordinal),
        };
        let number = |v: i64, width: usize| if fill { format!("{v:0width$}") } else { v.to_string() };
        let padded = |word: String, width: usize| if fill { format!("{word:width$}") } else { word };
        let twelve = (hour + 11) % 12 + 1;
        let shown = match name {
            "HH24" => number(hour, 2),
            "HH" | "HH12" => number(twelve, 2),
            "MI" => number(minute, 2),
            "SS" => number(second, 2),
            "MS" => number(fraction / 1000, 3),
            "US" => number(fraction, 6),
            "SSSS" | "SSSSS" => (time / MICROS_PER_SECOND).to_string(),
            "AM" | "PM" => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
            "am" | "pm" => (if hour < 12 { "am" } else { "pm" }).to_owned(),
            "A.M." | "P.M." => (if hour < 12 { "A.M." } else { "P.M." }).to_owned(),
            "a.m." | "p.m." => (if hour < 12 { "a.m." } else { "p.m." }).to_owned(),
            "BC" | "AD" => (if year > 0 { "AD" } else { "BC" }).to_owned(),
            "bc" | "ad" => (if year > 0 { "ad" } else { "bc" }).to_owned(),
            "B.C." | "A.D." => (if year > 0 { "A.D." } else { "B.C." }).to_owned(),
            "b.c." | "a.d." => (if year > 0 { "a.d." } else { "b.c." }).to_owned(),
            "YYYY" => number(shown_year.into(), 4),
            "Y,YYY" => format!("{},{:03}", shown_year / 1000, shown_year % 1000),
            "YYY" => number((shown_year % 1000).into(), 3),
            "YY" => number((shown_year % 100).into(), 2),
            "Y" => (shown_year % 10).to_string(),
            "IYYY" => number(iso_year.into(), 4),
            "IYY" => number((iso_year % 1000).into(), 3),
            "IY" => number((iso_year % 100).into(), 2),
            "I" => (iso_year % 10).to_string(),
            "MONTH" | "Month" | "month" => padded(cased(MONTHS[month as usize - 1], name), 9),
            "MON" | "Mon" | "mon" => cased(&MONTHS[month as usize - 1][..3], name),
            "MM" => number(month.into(), 2),
            "RM" => padded(ROMAN[month as usize - 1].to_owned(), 4),
            "rm" => padded(ROMAN[month as usize - 1].to_lowercase(), 4),
            "DAY" | "Day" | "day" => padded(cased(DAYS[weekday(days) as usize], name), 9),
            "DY" | "Dy" | "dy" => cased(&DAYS[weekday(days) as usize][..3], name),
            "DDD" => number(days - days_from_civil(year, 1, 1) + 1, 3),
            "IDDD" => number((iso - 1) * 7 + (weekday(days) + 6) % 7 + 1, 3),
            "DD" => number(day.into(), 2),
            "D" => (weekday(days) + 1).to_string(),
            "ID" => ((weekday(days) + 6) % 7 + 1).to_string(),
            "W" => ((day - 1) / 7 + 1).to_string(),
            "WW" => number((days - days_from_civil(year, 1, 1)) / 7 + 1, 2),
            "IW" => number(iso, 2),
            "CC" => number(((shown_year + 99) / 100).into(), 2),
            "J" => (days + 2_451_545).to_string(),
            "Q" => ((month - 1) / 3 + 1).to_string(),
            "TZ" => zone.map_or(String::new(), |z| timezone::abbreviation_at(z, micros)),
            "tz" => zone.map_or(String::new(), |z| timezone::abbreviation_at(z, micros).to_lowercase()),
            "TZH" => format!("{}{:02}", if offset < 0 { '-' } else { '+' }, offset.abs() / 3600),
            "TZM" => format!("{:02}", offset.abs() / 60 % 60),
            "OF" => {
                let minutes = offset.abs() / 60 % 60;
                let sign = if offset < 0 { '-' } else { '+' };
                let hours = offset.abs() / 3600;
                if minutes == 0 {
                    format!("{sign}{hours:02}")
                } else {
                    format!("{sign}{hours:02}:{minutes:02}")
                }
            }
            _ => {
                // FF1 to FF6: so many digits of the fraction.
                let digits = name.as_bytes()[2] - b'0';
                format!("{fraction:06}")[..usize::from(digits)].to_owned()
            }
        };
        out.push_str(&shown);
        if let Some(upper) = ordinal {
            let n: i64 = shown.trim().parse().unwrap_or(0);
            let suffix = match (n % 10, n % 100 / 10) {
                (1, t) if t != 1 => "st",
                (2, t) if t != 1 => "nd",
                (3, t) if t != 1 => "rd",
                _ => "th",
            };
            out.push_str(&if upper { suffix.to_uppercase() } else { suffix.to_owned() });
        }
    }
    Ok(out)
}

/// Reads a date and time by a template: days since 2000 and microseconds of the day.
fn parse(input: &str, template: &str) -> Result<(i64, i64)> {
    let (mut year, mut month, mut day) = (0i32, 1i32, 1i32);
    let (mut hour, mut minute, mut second, mut micros) = (0i64, 0i64, 0i64, 0i64);
    let mut day_of_year = None;
    let mut pm = None;
    let mut bc = false;
    let mut rest = input;
    let invalid = |value: &str, name: &str| {
        SqlError::new(SqlState::INVALID_DATETIME_FORMAT, format!("invalid value \"{value}\" for \"{name}\""))
    };
    for piece in pieces(template) {
        let name = match piece {
            Piece::Literal(text) => {
                // Any separator stands for any other, as in PostgreSQL.
                if let Some(after) = rest.strip_prefix(text) {
                    rest = after;
                } else if !text.chars().all(char::is_alphanumeric) {
                    rest = rest.strip_prefix(|c: char| !c.is_alphanumeric()).unwrap_or(rest);
                } else {
                    let skip = text.chars().count();
                    rest = rest.char_indices().nth(skip).map_or("", |(at, _)| &rest[at..]);
                }
                continue;
            }
            Piece::Field { name, .. } => name,
        };
        rest = rest.trim_start();
        let number = |rest: &mut &str, width: usize| -> Result<i64> {
            let end = rest.bytes().take(width).take_while(u8::is_ascii_digit).count();
            let (digits, after) = rest.split_at(end);
            if digits.is_empty() {
                let shown: String = rest.chars().take(width).collect();
                return Err(invalid(&shown, name).detail("Value must be an integer."));
            }
            *rest = after;
            digits.parse().map_err(|_| invalid(digits, name))
        };
        match name {
            "YYYY" | "IYYY" => year = number(&mut rest, if template.len() == 4 { 9 } else { 4 })? as i32,
            "YY" => {
                let two = number(&mut rest, 2)? as i32;
                year = if two < 70 { 2000 + two } else { 1900 + two };
            }
            "MM" => month = number(&mut rest, 2)? as i32,
            "DD" => day = number(&mut rest, 2)? as i32,
            "DDD" => day_of_year = Some(number(&mut rest, 3)?),
            "HH24" | "HH" | "HH12" => hour = number(&mut rest, 2)?,
            "MI" => minute = number(&mut rest, 2)?,
            "SS" => second = number(&mut rest, 2)?,
            "MS" => {
                let before = rest.len();
                let value = number(&mut rest, 3)?;
                micros += value * 10i64.pow(3 - (before - rest.len()) as u32) * 1000;
            }
            "US" => {
                let before = rest.len();
                let value = number(&mut rest, 6)?;
                micros += value * 10i64.pow(6 - (before - rest.len()) as u32);
            }
            "AM" | "PM" | "am" | "pm" => {
                pm = Some(rest.get(..1).is_some_and(|c| c.eq_ignore_ascii_case("p")));
                rest = rest.get(2..).unwrap_or("");
            }
            "BC" | "AD" | "bc" | "ad" => {
                bc = rest.get(..1).is_some_and(|c| c.eq_ignore_ascii_case("b"));
                rest = rest.get(2..).unwrap_or("");
            }
            "MONTH" | "Month" | "month" | "MON" | "Mon" | "mon" => {
                let full = name.len() > 3;
                let found = MONTHS.iter().position(|m| {
                    let word = if full { m } else { &m[..3] };
                    rest.get(..word.len()).is_some_and(|r| r.eq_ignore_ascii_case(word))
                });
                let Some(index) = found else {
                    let shown = rest.split_whitespace().next().unwrap_or("");
                    return Err(invalid(shown, name)
                        .detail("The given value did not match any of the allowed values for this field."));
                };
                month = index as i32 + 1;
                rest = &rest[if full { MONTHS[index].len() } else { 3 }..];
            }
            "DAY" | "Day" | "day" | "DY" | "Dy" | "dy" => {
                rest = rest.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            }
            _ => return Err(SqlError::unsupported(format!("template pattern \"{name}\" in input"))),
        }
    }
    let range = || {
        SqlError::new(SqlState::DATETIME_OVERFLOW, format!("date/time field value out of range: \"{input}\""))
    };
    if let Some(pm) = pm {
        if !(1..=12).contains(&hour) {
            return Err(SqlError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("hour \"{hour}\" is invalid for the 12-hour clock"),
            )
            .hint("Use the 24-hour clock, or give an hour between 1 and 12."));
        }
        hour = hour % 12 + if pm { 12 } else { 0 };
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(range());
    }
    let shown = if bc { -year } else { year };
    let days = match day_of_year {
        Some(n) => make_date(shown, 1, 1).map_err(|_| range())? + n - 1,
        None => make_date(if shown == 0 { -1 } else { shown }, month, day).map_err(|_| range())?,
    };
    Ok((days, ((hour * 60 + minute) * 60 + second) * MICROS_PER_SECOND + micros))
}

/// Formats a number by a template of `9`, `0`, `.`, `,`, `D`, `G`, `S`, `MI`, `PL`, `SG`, `FM`, `$`/`L`.
fn number_to_char(value: &Numeric, template: &str) -> Result<String> {
    let mut fill = true;
    let mut items: Vec<&str> = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let known =
            ["FM", "fm", "MI", "mi", "PL", "pl", "SG", "sg", "PR", "pr", "TH", "th", "EEEE", "RN", "V"];
        if let Some(word) = known.iter().find(|w| rest.starts_with(**w)) {
            match *word {
                "FM" | "fm" => fill = false,
                "PR" | "pr" | "TH" | "th" | "EEEE" | "RN" | "V" => {
                    return Err(SqlError::unsupported(format!("number template pattern \"{word}\"")));
                }
                _ => items.push(word),
            }
            rest = &rest[word.len()..];
            continue;
        }
        let len = rest.chars().next().expect("not empty").len_utf8();
        items.push(&rest[..len]);
        rest = &rest[len..];
    }
    let is_digit = |i: &&&str| matches!(**i, "9" | "0");
    let point = items.iter().position(|i| matches!(*i, "." | "D" | "d"));
    let whole_digits = items[..point.unwrap_or(items.len())].iter().filter(is_digit).count();
    let fraction_digits = point.map_or(0, |p| items[p..].iter().filter(is_digit).count());
    let rounded = value.round(fraction_digits as i64)?;
    let negative = rounded.signum() < 0;
    let mut shown = Vec::new();
    write_text(&rounded.abs(), &mut shown);
    let shown = String::from_utf8(shown).expect("digits");
    if !matches!(value, Numeric::Finite(_)) {
        return Ok(format!("{}{}", if negative { "-" } else { " " }, "#".repeat(whole_digits)));
    }
    let (whole, fraction) = shown.split_once('.').unwrap_or((&shown, ""));
    let whole = if whole == "0" { "" } else { whole };
    let overflow = whole.len() > whole_digits;
    let explicit_sign = items.iter().any(|i| matches!(*i, "S" | "s" | "MI" | "mi" | "SG" | "sg"));
    // Where the first digit's place lies in the output.
    let mut digits_start = None;
    let first_zero = items[..point.unwrap_or(items.len())].iter().position(|i| *i == "0");
    // Position of each whole digit from the right tells whether it is shown.
    let mut out = String::new();
    let mut seen = 0;
    let mut started = false;
    let mut fraction_seen = 0;
    let kept_fraction = if fill {
        fraction_digits
    } else {
        fraction.trim_end_matches('0').len().max(required_zeroes(&items, point))
    };
    for (at, item) in items.iter().enumerate() {
        if matches!(*item, "9" | "0" | "." | "D" | "d") {
            digits_start.get_or_insert(out.len());
        }
        let in_fraction = point.is_some_and(|p| at > p);
        match *item {
            "9" | "0" if in_fraction => {
                if fraction_seen < kept_fraction {
                    out.push(if overflow { '#' } else { char::from(fraction.as_bytes()[fraction_seen]) });
                }
                fraction_seen += 1;
            }
            "9" | "0" => {
                let from_right = whole_digits - seen;
                seen += 1;
                let zero = first_zero.is_some_and(|z| at >= z);
                if overflow {
                    out.push('#');
                    started = true;
                } else if from_right <= whole.len() {
                    out.push(char::from(whole.as_bytes()[whole.len() - from_right]));
                    started = true;
                } else if zero || (from_right == 1 && point.is_none()) {
                    out.push('0');
                    started = true;
                } else if fill {
                    out.push(' ');
                }
            }
            "." | "D" | "d" => out.push('.'),
            "," | "G" | "g" => {
                if started {
                    out.push(',');
                } else if fill {
                    out.push(' ');
                }
            }
            "S" | "s" if at == 0 => out.push('\u{1}'),
            "S" | "s" | "SG" | "sg" => out.push(if negative { '-' } else { '+' }),
            "MI" | "mi" => out.push_str(if negative {
                "-"
            } else if fill {
                " "
            } else {
                ""
            }),
            "PL" | "pl" => out.push_str(if negative { if fill { " " } else { "" } } else { "+" }),
            "L" | "l" => out.push('$'),
            other => out.push_str(other),
        }
    }
    // A floating sign goes in front of the first digit.
    let sign = match (explicit_sign, negative) {
        (false, true) => "-",
        (false, false) if fill => " ",
        (false, false) => "",
        (true, _) => "",
    };
    if let Some(rest) = out.strip_prefix('\u{1}') {
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        return Ok(format!("{}{}{}", " ".repeat(blanks), if negative { '-' } else { '+' }, &rest[blanks..]));
    }
    let start = digits_start.unwrap_or(0);
    let first = start + out[start..].len() - out[start..].trim_start_matches(' ').len();
    out.insert_str(first, sign);
    Ok(out)
}

fn required_zeroes(items: &[&str], point: Option<usize>) -> usize {
    let Some(point) = point else { return 0 };
    let digits: Vec<&&str> = items[point..].iter().filter(|i| matches!(**i, "9" | "0")).collect();
    digits.iter().rposition(|i| **i == "0").map_or(0, |at| at + 1)
}

const NUMERIC: TypeKind = TypeKind::Numeric;

pub(super) static FUNCTIONS: &[Builtin] = &[
    Builtin::new(
        "to_char",
        &[Int4, Text],
        Text,
        Body::Plain(|a| number_to_char(&Numeric::from(i64::from(int4(&a[0]))), text(&a[1])).map(Datum::text)),
    )
    .stable(),
    Builtin::new(
        "to_char",
        &[Int8, Text],
        Text,
        Body::Plain(|a| number_to_char(&Numeric::from(int8(&a[0])), text(&a[1])).map(Datum::text)),
    )
    .stable(),
    Builtin::new(
        "to_char",
        &[NUMERIC, Text],
        Text,
        Body::Plain(|a| number_to_char(numeric(&a[0]), text(&a[1])).map(Datum::text)),
    )
    .stable(),
    Builtin::new(
        "to_char",
        &[Float8, Text],
        Text,
        Body::Plain(|a| number_to_char(&Numeric::from_f64(float8(&a[0])), text(&a[1])).map(Datum::text)),
    )
    .stable(),
    Builtin::new(
        "to_date",
        &[Text, Text],
        Date,
        Body::Plain(|a| Ok(Datum::Date(parse(text(&a[0]), text(&a[1]))?.0 as i32))),
    )
    .stable(),
    Builtin::new(
        "to_timestamp",
        &[Text, Text],
        TimestampTz,
        Body::Context(|c, a| {
            let (days, time) = parse(text(&a[0]), text(&a[1]))?;
            to_instant(days * MICROS_PER_DAY + time, &c.text.time_zone).map(Datum::Timestamp)
        }),
    )
    .stable(),
];
