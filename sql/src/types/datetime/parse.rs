//! Input of dates, times and timestamps: ISO and the common traditional forms.
//!
//! The text is cut into fields (numbers, words, times, offsets); each field goes to the part of the
//! date that it can only be, and what stays ambiguous is settled by `DateStyle`'s order.

use jiff::tz::TimeZone;

use super::{
    END_DATE, MICROS_PER_DAY, MICROS_PER_SECOND, MIN_DATE, check_timestamp, days_from_civil, days_in_month,
    from_local, to_local,
};
use crate::types::context::{DateOrder, TextContext};
use crate::types::timezone;
use crate::{Result, SqlError, SqlState};

enum Failure {
    /// Not a date at all.
    Syntax,
    /// A field out of its range.
    Field,
    /// A month or day out of range, which another order of fields might cure.
    MonthDay,
    /// A time zone that does not exist.
    Zone(String),
    /// An offset out of range.
    Displacement,
}

impl Failure {
    fn error(self, type_name: &str, input: &str) -> SqlError {
        match self {
            Failure::Syntax => SqlError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type {type_name}: \"{input}\""),
            ),
            Failure::Field => SqlError::new(
                SqlState::DATETIME_OVERFLOW,
                format!("date/time field value out of range: \"{input}\""),
            ),
            Failure::MonthDay => Failure::Field
                .error(type_name, input)
                .hint("Perhaps you need a different \"datestyle\" setting."),
            Failure::Zone(name) => SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("time zone \"{name}\" not recognized"),
            ),
            Failure::Displacement => SqlError::new(
                SqlState::INVALID_TIME_ZONE_DISPLACEMENT,
                format!("time zone displacement out of range: \"{input}\""),
            ),
        }
    }
}

enum Zone {
    Offset(i32),
    Named(TimeZone),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    Infinity,
    NegInfinity,
    Epoch,
    Now,
    Day(i32),
}

#[derive(Default)]
struct Parsed {
    special: Option<Special>,
    /// Days since 2000.
    date: Option<i64>,
    /// Microseconds since midnight.
    time: Option<i64>,
    zone: Option<Zone>,
}

enum Field<'a> {
    Number(&'a str),
    Date(&'a str),
    Time(&'a str),
    Offset(&'a str),
    Word(&'a str),
    Signed(&'a str),
    Julian(&'a str),
}

fn fields(input: &str) -> Result<Vec<Field<'_>>, Failure> {
    let bytes = input.as_bytes();
    if !input.is_ascii() {
        return Err(Failure::Syntax);
    }
    let mut fields = Vec::new();
    let mut at = 0;
    let run =
        |from: usize, f: &dyn Fn(u8) -> bool| from + bytes[from..].iter().take_while(|b| f(**b)).count();
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b if b.is_ascii_whitespace() || b == b',' => at += 1,
            b'0'..=b'9' => {
                at = run(at, &|b| b.is_ascii_digit());
                match bytes.get(at) {
                    Some(b':') => {
                        at = run(at, &|b| b.is_ascii_digit() || b == b':' || b == b'.');
                        fields.push(Field::Time(&input[start..at]));
                    }
                    Some(b'-' | b'/') if bytes.get(at + 1).is_some_and(|b| b.is_ascii_alphanumeric()) => {
                        let separator = bytes[at];
                        at = run(at, &|b| b.is_ascii_alphanumeric() || b == separator);
                        // "2001-02-03T04:05": the T begins the time.
                        if let Some(t) = input[start..at].find(['T', 't'])
                            && bytes.get(start + t + 1).is_some_and(|b| b.is_ascii_digit())
                            && bytes[start + t - 1].is_ascii_digit()
                        {
                            at = start + t;
                        }
                        fields.push(Field::Date(&input[start..at]));
                    }
                    Some(b'.') if bytes.get(at + 1).is_some_and(|b| b.is_ascii_digit()) => {
                        at = run(at, &|b| b.is_ascii_digit() || b == b'.');
                        let text = &input[start..at];
                        if text.matches('.').count() == 2 {
                            fields.push(Field::Date(text));
                        } else {
                            fields.push(Field::Number(text));
                        }
                    }
                    _ => fields.push(Field::Number(&input[start..at])),
                }
            }
            b if b.is_ascii_alphabetic() => {
                at = run(at, &|b| b.is_ascii_alphabetic());
                // J2451187: a Julian day.
                if input[start..at].eq_ignore_ascii_case("j") && bytes.get(at).is_some_and(u8::is_ascii_digit)
                {
                    let digits = at;
                    at = run(at, &|b| b.is_ascii_digit());
                    fields.push(Field::Julian(&input[digits..at]));
                    continue;
                }
                // Zone names: Europe/Berlin, America/Port-au-Prince, Etc/GMT+5.
                if bytes.get(at) == Some(&b'/') || bytes.get(at) == Some(&b'_') {
                    at = run(at, &|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+'));
                    fields.push(Field::Word(&input[start..at]));
                } else if bytes.get(at) == Some(&b'-')
                    && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
                    && month(&input[start..at]).is_some()
                {
                    at = run(at, &|b| b.is_ascii_alphanumeric() || b == b'-');
                    fields.push(Field::Date(&input[start..at]));
                } else {
                    fields.push(Field::Word(&input[start..at]));
                    if bytes.get(at) == Some(&b'.') {
                        at += 1;
                    }
                }
            }
            b'+' | b'-' => {
                at += 1;
                at = run(at, &|b| b == b' ');
                match bytes.get(at) {
                    Some(b'0'..=b'9') => {
                        at = run(at, &|b| b.is_ascii_digit() || b == b':' || b == b'.');
                        fields.push(Field::Offset(&input[start..at]));
                    }
                    Some(b) if b.is_ascii_alphabetic() => {
                        at = run(at, &|b| b.is_ascii_alphabetic());
                        fields.push(Field::Signed(&input[start..at]));
                    }
                    _ => return Err(Failure::Syntax),
                }
            }
            _ => return Err(Failure::Syntax),
        }
        if fields.len() > 25 {
            return Err(Failure::Syntax);
        }
    }
    Ok(fields)
}

/// Month of a name or its abbreviation.
pub(crate) fn month(word: &str) -> Option<u32> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let word = word.to_ascii_lowercase();
    if word == "sept" {
        return Some(9);
    }
    NAMES.iter().position(|n| *n == word || (word.len() == 3 && n.starts_with(&word))).map(|i| i as u32 + 1)
}

fn is_weekday(word: &str) -> bool {
    const NAMES: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let word = word.to_ascii_lowercase();
    matches!(word.as_str(), "tues" | "thur" | "thurs" | "weds" | "wednes")
        || NAMES.iter().any(|n| *n == word || (word.len() == 3 && n.starts_with(&word)))
}

/// Parts of a date as they were met.
#[derive(Default)]
struct DateParts<'a> {
    numbers: Vec<&'a str>,
    month: Option<u32>,
    /// How many numbers came before the month's name.
    before_month: usize,
    bc: bool,
}

impl<'a> DateParts<'a> {
    fn resolve(&self, order: DateOrder) -> Result<Option<i64>, Failure> {
        let number = |s: &str| s.parse::<i64>().map_err(|_| Failure::Field);
        let long = |s: &str| s.len() >= 3;
        let (year, month, day) = match (self.month, self.numbers.as_slice()) {
            (None, []) => return if self.bc { Err(Failure::Syntax) } else { Ok(None) },
            (None, [packed]) if packed.len() >= 6 => {
                let split = packed.len() - 4;
                (&packed[..split], number(&packed[split..split + 2])?, &packed[split + 2..])
            }
            (None, [a, b, c]) => {
                if long(a) || order == DateOrder::Ymd {
                    (*a, number(b)?, *c)
                } else if order == DateOrder::Dmy {
                    (*c, number(b)?, *a)
                } else {
                    (*c, number(a)?, *b)
                }
            }
            (Some(m), [a, b]) => {
                if long(a) || (order == DateOrder::Ymd && self.before_month == 1) {
                    (*a, i64::from(m), *b)
                } else {
                    (*b, i64::from(m), *a)
                }
            }
            _ => return Err(Failure::Syntax),
        };
        let mut value = number(year)?;
        if self.bc {
            if value <= 0 {
                return Err(Failure::Field);
            }
            value = 1 - value;
        } else if year.len() <= 2 {
            value += if value < 70 { 2000 } else { 1900 };
        } else if value <= 0 {
            return Err(Failure::Field);
        }
        let day = number(day)?;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(Failure::MonthDay);
        }
        let (month, day) = (month as u32, day as u32);
        let year =
            i32::try_from(value).ok().filter(|y| (-4714..6_000_000).contains(y)).ok_or(Failure::Field)?;
        if day > days_in_month(year, month) {
            return Err(Failure::Field);
        }
        Ok(Some(days_from_civil(year, month, day)))
    }
}

fn parse_clock(text: &str) -> Result<i64, Failure> {
    let mut parts = text.split(':');
    let number = |s: &str| {
        if s.is_empty() || s.len() > 9 || !s.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Failure::Syntax);
        }
        Ok(s.parse::<i64>().expect("nine digits"))
    };
    let hour = number(parts.next().unwrap_or(""))?;
    let minute = parts.next().map_or(Ok(0), number)?;
    let (second, fraction) = match parts.next() {
        None => (0, 0),
        Some(s) => {
            let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
            (number(whole)?, parse_fraction(fraction)?)
        }
    };
    if parts.next().is_some() {
        return Err(Failure::Syntax);
    }
    time_of(hour, minute, second, fraction)
}

fn parse_fraction(digits: &str) -> Result<i64, Failure> {
    if digits.is_empty() {
        return Ok(0);
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Failure::Syntax);
    }
    let value: f64 = format!("0.{digits}").parse().map_err(|_| Failure::Syntax)?;
    Ok((value * 1e6).round_ties_even() as i64)
}

fn time_of(hour: i64, minute: i64, second: i64, fraction: i64) -> Result<i64, Failure> {
    let valid = minute < 60
        && (second < 60 || (second == 60 && fraction == 0))
        && (hour < 24 || (hour == 24 && minute == 0 && second == 0 && fraction == 0));
    if !valid {
        return Err(Failure::Field);
    }
    Ok(((hour * 60 + minute) * 60 + second) * MICROS_PER_SECOND + fraction)
}

fn parse(input: &str, order: DateOrder, time_only: bool) -> Result<Parsed, Failure> {
    let fields = fields(input)?;
    if fields.is_empty() {
        return Err(Failure::Syntax);
    }
    let mut parsed = Parsed::default();
    let mut date = DateParts::default();
    let mut complete = false;
    let mut after_t = false;
    let mut julian: Option<i64> = None;
    let mut meridian: Option<bool> = None;
    for field in fields {
        match field {
            Field::Date(text) => {
                let separator = if text.contains('-') {
                    '-'
                } else if text.contains('/') {
                    '/'
                } else {
                    '.'
                };
                if complete || !date.numbers.is_empty() {
                    return Err(Failure::Syntax);
                }
                for part in text.split(separator) {
                    if part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() {
                        date.numbers.push(part);
                    } else if let Some(m) = month(part)
                        && date.month.is_none()
                    {
                        date.month = Some(m);
                        date.before_month = date.numbers.len();
                    } else {
                        return Err(Failure::Syntax);
                    }
                }
                complete = true;
            }
            Field::Time(text) => {
                if parsed.time.is_some() {
                    return Err(Failure::Syntax);
                }
                parsed.time = Some(parse_clock(text)?);
            }
            Field::Number(text) => {
                let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
                let known = complete || date.numbers.len() + usize::from(date.month.is_some()) >= 3;
                let as_time = if after_t {
                    matches!(whole.len(), 2 | 4 | 6)
                } else {
                    (known || time_only) && matches!(whole.len(), 4 | 6)
                };
                if as_time && parsed.time.is_none() {
                    let part = |i: usize| {
                        whole.get(i..i + 2).map_or(Ok(0), |s| s.parse().map_err(|_| Failure::Syntax))
                    };
                    parsed.time = Some(time_of(part(0)?, part(2)?, part(4)?, parse_fraction(fraction)?)?);
                } else if whole.len() == 4
                    && fraction.len() == 3
                    && date.numbers.is_empty()
                    && date.month.is_none()
                {
                    // 1999.008: year and day of the year.
                    let (Ok(year), Ok(day)) = (whole.parse(), fraction.parse::<i64>()) else {
                        return Err(Failure::Syntax);
                    };
                    let days_of_year = days_from_civil(year + 1, 1, 1) - days_from_civil(year, 1, 1);
                    if !(1..=days_of_year).contains(&day) {
                        return Err(Failure::Field);
                    }
                    julian = Some(days_from_civil(year, 1, 1) + day - 1);
                    complete = true;
                } else if !known && fraction.is_empty() && !text.contains('.') {
                    complete = whole.len() >= 6 && date.numbers.is_empty() && date.month.is_none();
                    date.numbers.push(whole);
                } else {
                    return Err(Failure::Syntax);
                }
            }
            Field::Offset(text) => {
                if parsed.zone.is_some() {
                    return Err(Failure::Syntax);
                }
                let offset = timezone::parse_offset(text).ok_or(Failure::Displacement)?;
                parsed.zone = Some(Zone::Offset(offset));
            }
            Field::Julian(digits) => {
                let day: i64 = digits.parse().map_err(|_| Failure::Field)?;
                julian = Some(day.saturating_add(MIN_DATE.into()));
                complete = true;
            }
            Field::Signed(text) => match text.to_ascii_lowercase().as_str() {
                "-infinity" | "-inf" => parsed.special = Some(Special::NegInfinity),
                "+infinity" | "+inf" => parsed.special = Some(Special::Infinity),
                _ => return Err(Failure::Syntax),
            },
            Field::Word(word) => match word.to_ascii_lowercase().as_str() {
                "t" => after_t = true,
                "am" => meridian = Some(false),
                "pm" => meridian = Some(true),
                "ad" => {}
                "bc" => date.bc = true,
                "infinity" | "inf" => parsed.special = Some(Special::Infinity),
                "epoch" => parsed.special = Some(Special::Epoch),
                "now" => parsed.special = Some(Special::Now),
                "today" => parsed.special = Some(Special::Day(0)),
                "tomorrow" => parsed.special = Some(Special::Day(1)),
                "yesterday" => parsed.special = Some(Special::Day(-1)),
                "allballs" => parsed.time = Some(0),
                "at" | "on" => {}
                lower => {
                    if let Some(m) = month(lower)
                        && date.month.is_none()
                    {
                        date.month = Some(m);
                        date.before_month = date.numbers.len();
                    } else if is_weekday(lower) {
                    } else if let Some(seconds) = timezone::abbreviation(lower)
                        && parsed.zone.is_none()
                    {
                        parsed.zone = Some(Zone::Offset(seconds));
                    } else if let Some(zone) = timezone::by_name(word)
                        && parsed.zone.is_none()
                    {
                        parsed.zone = Some(Zone::Named(zone));
                    } else if word.contains('/') {
                        return Err(Failure::Zone(word.to_ascii_lowercase()));
                    } else {
                        return Err(Failure::Syntax);
                    }
                }
            },
        }
    }
    if let (Some(pm), Some(time)) = (meridian, parsed.time) {
        let hour = time / (3600 * MICROS_PER_SECOND);
        if !(1..=12).contains(&hour) {
            return Err(Failure::Field);
        }
        let shift = match (pm, hour) {
            (true, 12) | (false, 1..=11) => 0,
            (true, _) => 12,
            (false, _) => -12,
        };
        parsed.time = Some(time + shift * 3600 * MICROS_PER_SECOND);
    } else if meridian.is_some() {
        return Err(Failure::Syntax);
    }
    parsed.date = match julian {
        Some(days) if date.numbers.is_empty() && date.month.is_none() => Some(days),
        Some(_) => return Err(Failure::Syntax),
        None => date.resolve(order)?,
    };
    if parsed.special.is_some() && parsed.date.is_some() {
        return Err(Failure::Syntax);
    }
    Ok(parsed)
}

/// Parses a date: days since 2000.
pub fn parse_date(input: &str, context: &TextContext) -> Result<i32> {
    let fail = |f: Failure| f.error("date", input);
    let parsed = parse(input, context.date_order, false).map_err(fail)?;
    let today = || to_local(context.transaction_time, &context.time_zone).div_euclid(MICROS_PER_DAY);
    let days = match (parsed.special, parsed.date) {
        (Some(Special::Infinity), _) => return Ok(i32::MAX),
        (Some(Special::NegInfinity), _) => return Ok(i32::MIN),
        (Some(Special::Epoch), _) => -10_957,
        (Some(Special::Now), _) => today(),
        (Some(Special::Day(d)), _) => today() + i64::from(d),
        (None, Some(days)) => days,
        (None, None) => return Err(fail(Failure::Syntax)),
    };
    if !(i64::from(MIN_DATE)..i64::from(END_DATE)).contains(&days) {
        return Err(SqlError::new(SqlState::DATETIME_OVERFLOW, format!("date out of range: \"{input}\"")));
    }
    Ok(days as i32)
}

/// Parses a time of day: microseconds since midnight.
pub fn parse_time(input: &str, context: &TextContext) -> Result<i64> {
    let fail = |f: Failure| f.error("time", input);
    let parsed = parse(input, context.date_order, true).map_err(fail)?;
    match (parsed.special, parsed.time) {
        (Some(Special::Now), _) => {
            Ok(to_local(context.transaction_time, &context.time_zone).rem_euclid(MICROS_PER_DAY))
        }
        (None, Some(time)) => Ok(time),
        _ => Err(fail(Failure::Syntax)),
    }
}

/// Parses a timestamp without time zone (one given is ignored): microseconds since 2000.
pub fn parse_timestamp(input: &str, context: &TextContext) -> Result<i64> {
    local_time(input, "timestamp", context).map(|(local, _)| local)
}

/// Parses a timestamp with time zone: microseconds since 2000 in UTC.
pub fn parse_timestamptz(input: &str, context: &TextContext) -> Result<i64> {
    let (local, zone) = local_time(input, "timestamp with time zone", context)?;
    if local == i64::MAX || local == i64::MIN {
        return Ok(local);
    }
    let instant = match zone {
        Some(Zone::Offset(seconds)) => {
            i128::from(local) - i128::from(seconds) * i128::from(MICROS_PER_SECOND)
        }
        Some(Zone::Named(zone)) => from_local(local, &zone).into(),
        None => from_local(local, &context.time_zone).into(),
    };
    check_timestamp(instant).map_err(|_| out_of_range(input))
}

fn out_of_range(input: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_OVERFLOW, format!("timestamp out of range: \"{input}\""))
}

fn local_time(input: &str, type_name: &str, context: &TextContext) -> Result<(i64, Option<Zone>)> {
    let fail = |f: Failure| f.error(type_name, input);
    let parsed = parse(input, context.date_order, false).map_err(fail)?;
    let now = || to_local(context.transaction_time, &context.time_zone);
    let time = i128::from(parsed.time.unwrap_or(0));
    let days = match (parsed.special, parsed.date) {
        (Some(Special::Infinity), _) => return Ok((i64::MAX, None)),
        (Some(Special::NegInfinity), _) => return Ok((i64::MIN, None)),
        (Some(Special::Epoch), _) => return Ok((-10_957 * MICROS_PER_DAY, Some(Zone::Offset(0)))),
        (Some(Special::Now), _) => return Ok((now(), None)),
        (Some(Special::Day(d)), _) => now().div_euclid(MICROS_PER_DAY) + i64::from(d),
        (None, Some(days)) => days,
        (None, None) => return Err(fail(Failure::Syntax)),
    };
    let local = i128::from(days) * i128::from(MICROS_PER_DAY) + time;
    let local = check_timestamp(local).map_err(|_| out_of_range(input))?;
    Ok((local, parsed.zone))
}
