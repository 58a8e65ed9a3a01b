//! Intervals: arithmetic, order and text form.

use super::datetime::{
    self, MICROS_PER_DAY, MICROS_PER_SECOND, civil_from_days, days_from_civil, days_in_month,
};
use super::{Interval, datetime::check_timestamp};
use crate::{Result, SqlError, SqlState};

fn out_of_range() -> SqlError {
    SqlError::new(SqlState::DATETIME_OVERFLOW, "interval out of range")
}

impl Interval {
    /// The length in microseconds that orders intervals: months of 30 days, days of 24 hours.
    pub fn span(&self) -> i128 {
        (i128::from(self.months) * 30 + i128::from(self.days)) * i128::from(MICROS_PER_DAY)
            + i128::from(self.micros)
    }

    /// Negation.
    pub fn negate(self) -> Result<Interval> {
        let fields = (self.months.checked_neg(), self.days.checked_neg(), self.micros.checked_neg());
        let (Some(months), Some(days), Some(micros)) = fields else { return Err(out_of_range()) };
        Ok(Interval { months, days, micros })
    }

    /// Sum.
    pub fn plus(self, other: Interval) -> Result<Interval> {
        let fields = (
            self.months.checked_add(other.months),
            self.days.checked_add(other.days),
            self.micros.checked_add(other.micros),
        );
        let (Some(months), Some(days), Some(micros)) = fields else { return Err(out_of_range()) };
        Ok(Interval { months, days, micros })
    }

    /// Product; fractions of months and days spill into smaller units.
    pub fn multiply(self, factor: f64) -> Result<Interval> {
        self.scale(|v| v * factor)
    }

    fn scale(self, scaled: impl Fn(f64) -> f64) -> Result<Interval> {
        let whole = |v: f64| -> Result<i32> {
            if v.is_nan() || v > f64::from(i32::MAX) || v < f64::from(i32::MIN) {
                return Err(out_of_range());
            }
            Ok(v as i32)
        };
        let exact_months = scaled(f64::from(self.months));
        let months = whole(exact_months)?;
        let exact_days = scaled(f64::from(self.days));
        let mut days = whole(exact_days)?;
        // What is left of months counts as days, of days as seconds, at microsecond precision.
        let month_days = (exact_months - f64::from(months)) * 30.0;
        let month_days = round_micro(month_days);
        let mut seconds =
            round_micro((exact_days - f64::from(days) + (month_days - month_days.trunc())) * 86_400.0);
        if seconds.abs() >= 86_400.0 {
            days = days.checked_add((seconds / 86_400.0) as i32).ok_or_else(out_of_range)?;
            seconds %= 86_400.0;
        }
        days = days.checked_add(month_days as i32).ok_or_else(out_of_range)?;
        let micros = (scaled(self.micros as f64) + seconds * 1e6).round_ties_even();
        if micros.is_nan() || micros >= i64::MAX as f64 || micros < i64::MIN as f64 {
            return Err(out_of_range());
        }
        Ok(Interval { months, days, micros: micros as i64 })
    }

    /// Quotient by a number other than zero.
    pub fn divide(self, divisor: f64) -> Result<Interval> {
        self.scale(|v| v / divisor)
    }

    /// Moves whole days out of the time and whole months out of the days, as `justify_interval` does
    /// for the parts asked for.
    pub fn justify(self, hours: bool, days: bool) -> Result<Interval> {
        let mut i = self;
        if hours {
            let carry = i.micros / MICROS_PER_DAY;
            i.micros %= MICROS_PER_DAY;
            i.days = i32::try_from(i64::from(i.days) + carry).map_err(|_| out_of_range())?;
        }
        if days {
            i.months = i.months.checked_add(i.days / 30).ok_or_else(out_of_range)?;
            i.days %= 30;
            // Days take the months' sign; together with hours, a rest of zero days takes the time's.
            let rest = if i.days != 0 || !hours { i64::from(i.days) } else { i.micros };
            if i.months > 0 && rest < 0 {
                i.days += 30;
                i.months -= 1;
            } else if i.months < 0 && rest > 0 {
                i.days -= 30;
                i.months += 1;
            }
        }
        if hours && i.days > 0 && i.micros < 0 {
            i.micros += MICROS_PER_DAY;
            i.days -= 1;
        } else if hours && i.days < 0 && i.micros > 0 {
            i.micros -= MICROS_PER_DAY;
            i.days += 1;
        }
        Ok(i)
    }
}

fn round_micro(v: f64) -> f64 {
    (v * 1e6).round_ties_even() / 1e6
}

/// A local timestamp plus an interval: months keep the day of the month where it exists.
pub fn add_to_timestamp(local: i64, interval: Interval) -> Result<i64> {
    let shifted = add_months_days(local, interval)?;
    check_timestamp(i128::from(shifted) + i128::from(interval.micros))
}

/// The months and days of [`add_to_timestamp`] alone, for instants: the time of day of their zone
/// stays, the time part is added to the instant afterwards.
pub fn add_months_days(local: i64, interval: Interval) -> Result<i64> {
    let mut days = local.div_euclid(MICROS_PER_DAY);
    let time = local.rem_euclid(MICROS_PER_DAY);
    if interval.months != 0 {
        let (year, month, day) = civil_from_days(days);
        let months = i64::from(year) * 12 + i64::from(month) - 1 + i64::from(interval.months);
        let year = i32::try_from(months.div_euclid(12)).map_err(|_| datetime::timestamp_out_of_range())?;
        let month = months.rem_euclid(12) as u32 + 1;
        days = days_from_civil(year, month, day.min(days_in_month(year, month)));
    }
    days += i64::from(interval.days);
    check_timestamp(i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(time))
}

/// `age(a, b)`: the difference in years, months and days by the calendar.
pub fn age(a: i64, b: i64) -> Interval {
    let (negative, later, earlier) = if a >= b { (false, a, b) } else { (true, b, a) };
    let (y1, m1, d1) = civil_from_days(later.div_euclid(MICROS_PER_DAY));
    let (y2, m2, d2) = civil_from_days(earlier.div_euclid(MICROS_PER_DAY));
    let mut micros = later.rem_euclid(MICROS_PER_DAY) - earlier.rem_euclid(MICROS_PER_DAY);
    let mut days = i64::from(d1) - i64::from(d2);
    let mut months = (i64::from(y1) - i64::from(y2)) * 12 + i64::from(m1) - i64::from(m2);
    if micros < 0 {
        micros += MICROS_PER_DAY;
        days -= 1;
    }
    if days < 0 {
        // Borrow the days of the earlier date's month.
        days += i64::from(days_in_month(y2, m2));
        months -= 1;
    }
    let sign = if negative { -1 } else { 1 };
    Interval { months: (months * sign) as i32, days: (days * sign) as i32, micros: micros * sign }
}

/// Appends the text form (`IntervalStyle` postgres).
pub fn write_text(interval: &Interval, out: &mut Vec<u8>) {
    let start = out.len();
    let mut negative_before = false;
    let mut field = |value: i64, unit: &str, out: &mut Vec<u8>| {
        if value == 0 {
            return;
        }
        if out.len() > start {
            out.push(b' ');
        }
        if negative_before && value > 0 {
            out.push(b'+');
        }
        out.extend_from_slice(value.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        negative_before = value < 0;
    };
    field(i64::from(interval.months / 12), "year", out);
    field(i64::from(interval.months % 12), "mon", out);
    field(i64::from(interval.days), "day", out);
    if interval.micros != 0 || out.len() == start {
        if out.len() > start {
            out.push(b' ');
        }
        if interval.micros < 0 {
            out.push(b'-');
        } else if negative_before {
            out.push(b'+');
        }
        let micros = interval.micros.unsigned_abs();
        let seconds = micros / MICROS_PER_SECOND as u64;
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        out.extend_from_slice(clock.as_bytes());
        datetime::write_fraction((micros % MICROS_PER_SECOND as u64) as u32, out);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    /// So many months.
    Months(i32),
}

fn unit(word: &str) -> Option<Unit> {
    Some(match word.to_ascii_lowercase().as_str() {
        "us" | "usec" | "usecs" | "useconds" | "microsecond" | "microseconds" | "microsecon" => {
            Unit::Microsecond
        }
        "ms" | "msec" | "msecs" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => {
            Unit::Millisecond
        }
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Second,
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Minute,
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Hour,
        "d" | "day" | "days" => Unit::Day,
        "w" | "week" | "weeks" => Unit::Week,
        "mon" | "mons" | "month" | "months" => Unit::Months(1),
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        "dec" | "decs" | "decade" | "decades" => Unit::Months(120),
        "c" | "cent" | "century" | "centuries" => Unit::Months(1200),
        "mil" | "mils" | "millennia" | "millennium" => Unit::Months(12_000),
        _ => return None,
    })
}

#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i128,
}

impl Sum {
    /// Adds `whole.fraction` units; `None`: out of range.
    fn add(&mut self, whole: i64, fraction: f64, unit: Unit) -> Option<()> {
        let time = |sum: &mut Sum, per_unit: i64| {
            sum.micros += i128::from(whole) * i128::from(per_unit)
                + (fraction * per_unit as f64).round_ties_even() as i128;
        };
        match unit {
            Unit::Microsecond => time(self, 1),
            Unit::Millisecond => time(self, 1000),
            Unit::Second => time(self, MICROS_PER_SECOND),
            Unit::Minute => time(self, 60 * MICROS_PER_SECOND),
            Unit::Hour => time(self, 3600 * MICROS_PER_SECOND),
            Unit::Day => {
                self.days = self.days.checked_add(whole)?;
                self.micros += (fraction * MICROS_PER_DAY as f64).round_ties_even() as i128;
            }
            Unit::Week => {
                self.days = self.days.checked_add(whole.checked_mul(7)?)?;
                self.add_days(fraction * 7.0);
            }
            Unit::Months(1) => {
                self.months = self.months.checked_add(whole)?;
                self.add_days(fraction * 30.0);
            }
            Unit::Months(n) => {
                self.months = self.months.checked_add(whole.checked_mul(n.into())?)?;
                self.months += (fraction * f64::from(n)).round_ties_even() as i64;
            }
        }
        Some(())
    }

    fn add_days(&mut self, days: f64) {
        self.days += days.trunc() as i64;
        self.micros += ((days - days.trunc()) * MICROS_PER_DAY as f64).round_ties_even() as i128;
    }

    fn finish(self) -> Option<Interval> {
        Some(Interval {
            months: self.months.try_into().ok()?,
            days: self.days.try_into().ok()?,
            micros: self.micros.try_into().ok()?,
        })
    }
}

enum Malformed {
    Syntax,
    /// A field is too large.
    Range,
    /// The fields' sum is too large.
    Overflow,
}

/// Parses an interval: units (`1 day 02:00`), SQL (`1-2 3 4:5:6`) or ISO 8601 (`P1DT2H`).
pub fn parse(input: &str) -> Result<Interval> {
    let text = input.trim();
    let parsed = match text.strip_prefix('P') {
        Some(iso) => parse_iso(iso),
        None => parse_units(text),
    };
    parsed.map_err(|malformed| match malformed {
        Malformed::Syntax => SqlError::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type interval: \"{input}\""),
        ),
        Malformed::Range => SqlError::new(
            SqlState::DATETIME_OVERFLOW,
            format!("interval field value out of range: \"{input}\""),
        ),
        Malformed::Overflow => out_of_range(),
    })
}

/// Splits a decimal into whole and signed fraction.
fn decimal(text: &str) -> Result<(i64, f64), Malformed> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return Err(Malformed::Syntax);
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Malformed::Range)? };
    let fraction: f64 = format!("0.{fraction}0").parse().map_err(|_| Malformed::Syntax)?;
    Ok(if negative { (-whole, -fraction) } else { (whole, fraction) })
}

fn parse_units(text: &str) -> Result<Interval, Malformed> {
    if text.is_empty() {
        return Err(Malformed::Syntax);
    }
    let bytes = text.as_bytes();
    let mut sum = Sum::default();
    let mut at = 0;
    let mut ago = false;
    // A number whose unit has not come yet.
    let mut pending: Option<(i64, f64)> = None;
    let mut any = false;
    while at < bytes.len() {
        let start = at;
        let b = bytes[at];
        if b.is_ascii_whitespace() || b == b',' || b == b'@' {
            at += 1;
        } else if b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.') {
            at += 1;
            while at < bytes.len() && (bytes[at].is_ascii_digit() || matches!(bytes[at], b'.' | b':' | b'-'))
            {
                at += 1;
            }
            let field = &text[start..at];
            if let Some(previous) = pending.take() {
                // "1 04:05:06": a bare number before a time is days.
                if !field.contains(':') {
                    return Err(Malformed::Syntax);
                }
                sum.add(previous.0, previous.1, Unit::Day).ok_or(Malformed::Range)?;
            }
            if field.contains(':') {
                sum.micros += clock(field)?;
                any = true;
            } else if let Some(dash) = field[1..].find('-') {
                let (years, months) = (&field[..=dash], &field[dash + 2..]);
                let (y, _) = decimal(years)?;
                let (m, _) = decimal(months)?;
                if !(0..12).contains(&m) {
                    return Err(Malformed::Range);
                }
                let m = if field.starts_with('-') { -m } else { m };
                sum.months = y.checked_mul(12).and_then(|n| n.checked_add(m)).ok_or(Malformed::Range)?;
                any = true;
            } else {
                pending = Some(decimal(field)?);
            }
        } else if b.is_ascii_alphabetic() {
            while at < bytes.len() && bytes[at].is_ascii_alphabetic() {
                at += 1;
            }
            let word = &text[start..at];
            if word.eq_ignore_ascii_case("ago") && any && pending.is_none() {
                ago = true;
            } else if let (Some(unit), Some((whole, fraction))) = (unit(word), pending.take()) {
                sum.add(whole, fraction, unit).ok_or(Malformed::Range)?;
                any = true;
            } else {
                return Err(Malformed::Syntax);
            }
        } else {
            return Err(Malformed::Syntax);
        }
    }
    if let Some((whole, fraction)) = pending {
        sum.add(whole, fraction, Unit::Second).ok_or(Malformed::Range)?;
        any = true;
    }
    if !any {
        return Err(Malformed::Syntax);
    }
    let interval = sum.finish().ok_or(Malformed::Overflow)?;
    if ago { interval.negate().map_err(|_| Malformed::Range) } else { Ok(interval) }
}

/// `[-]HH:MM[:SS[.f]]`, or `MM:SS.f` where the last of two parts has a fraction.
fn clock(field: &str) -> Result<i128, Malformed> {
    let (negative, unsigned) = match field.as_bytes()[0] {
        b'-' => (true, &field[1..]),
        b'+' => (false, &field[1..]),
        _ => (false, field),
    };
    let parts: Vec<&str> = unsigned.split(':').collect();
    let (h, m, s) = match parts[..] {
        [m, s] if s.contains('.') => ("0", m, s),
        [h, m] => (h, m, "0"),
        [h, m, s] => (h, m, s),
        _ => return Err(Malformed::Syntax),
    };
    let ((h, _), (m, _), (s, f)) = (decimal(h)?, decimal(m)?, decimal(s)?);
    if !(0..60).contains(&m) || !(0..=60).contains(&s) {
        return Err(Malformed::Range);
    }
    let micros = (i128::from(h) * 3600 + i128::from(m) * 60 + i128::from(s)) * i128::from(MICROS_PER_SECOND)
        + (f * 1e6).round_ties_even() as i128;
    Ok(if negative { -micros } else { micros })
}

fn parse_iso(text: &str) -> Result<Interval, Malformed> {
    let mut sum = Sum::default();
    let mut in_time = false;
    let mut rest = text;
    if rest.is_empty() {
        return Err(Malformed::Syntax);
    }
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T') {
            in_time = true;
            rest = time;
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or(Malformed::Syntax)?;
        let (whole, fraction) = decimal(&rest[..end])?;
        let unit = match (rest.as_bytes()[end], in_time) {
            (b'Y', false) => Unit::Months(12),
            (b'M', false) => Unit::Months(1),
            (b'W', false) => Unit::Week,
            (b'D', false) => Unit::Day,
            (b'H', true) => Unit::Hour,
            (b'M', true) => Unit::Minute,
            (b'S', true) => Unit::Second,
            _ => return Err(Malformed::Syntax),
        };
        sum.add(whole, fraction, unit).ok_or(Malformed::Range)?;
        rest = &rest[end + 1..];
    }
    sum.finish().ok_or(Malformed::Overflow)
}
