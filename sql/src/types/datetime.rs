//! Dates and timestamps: the calendar, text output (ISO) and input.

mod parse;

use jiff::tz::TimeZone;

use super::timezone;
use crate::{SqlError, SqlState};

pub use parse::{parse_date, parse_time, parse_timestamp, parse_timestamptz};

/// Microseconds of a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;
/// Microseconds of a day.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// 2000-01-01 in microseconds of the Unix epoch.
pub const EPOCH_UNIX_MICROS: i64 = 10_957 * MICROS_PER_DAY;
/// First day: 4714-11-24 BC, Julian day 0.
pub const MIN_DATE: i32 = -2_451_545;
/// Above the last day: 5874898-01-01.
pub const END_DATE: i32 = 2_145_031_949;
/// First timestamp.
pub const MIN_TIMESTAMP: i64 = MIN_DATE as i64 * MICROS_PER_DAY;
/// Above the last timestamp: 294277-01-01.
pub const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;

/// Days since 2000-01-01 of a date in the proleptic Gregorian calendar (year 0 is 1 BC).
pub fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    // Years begin in March, so that the leap day is the last of its year.
    let y = i64::from(year) - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 730_425
}

/// The date of a day since 2000-01-01.
pub fn civil_from_days(days: i64) -> (i32, u32, u32) {
    let z = days + 730_425;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year as i32, month, day)
}

/// Days of a month.
pub fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// 22008 `timestamp out of range`.
pub fn timestamp_out_of_range() -> SqlError {
    SqlError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range")
}

/// Checks a finite timestamp's range.
pub fn check_timestamp(micros: i128) -> crate::Result<i64> {
    if (i128::from(MIN_TIMESTAMP)..i128::from(END_TIMESTAMP)).contains(&micros) {
        Ok(micros as i64)
    } else {
        Err(timestamp_out_of_range())
    }
}

/// The local time of an instant, microseconds since 2000.
pub fn to_local(instant: i64, zone: &TimeZone) -> i64 {
    instant + i64::from(timezone::offset_at(zone, instant)) * MICROS_PER_SECOND
}

/// The instant of a local time.
pub fn from_local(local: i64, zone: &TimeZone) -> i64 {
    local - i64::from(timezone::offset_of_local(zone, local)) * MICROS_PER_SECOND
}

fn two(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

fn civil(days: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil_from_days(days);
    let (shown, bc) = if year > 0 { (year, false) } else { (1 - year, true) };
    if shown < 10_000 {
        two(shown as u32 / 100, out);
        two(shown as u32 % 100, out);
    } else {
        out.extend_from_slice(shown.to_string().as_bytes());
    }
    out.push(b'-');
    two(month, out);
    out.push(b'-');
    two(day, out);
    bc
}

/// Appends `HH:MM:SS[.ffffff]`.
pub fn write_time(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros / MICROS_PER_SECOND;
    two((seconds / 3600) as u32, out);
    out.push(b':');
    two((seconds / 60 % 60) as u32, out);
    out.push(b':');
    two((seconds % 60) as u32, out);
    write_fraction((micros % MICROS_PER_SECOND) as u32, out);
}

/// Appends `.ffffff` without trailing zeroes, nothing for zero.
pub fn write_fraction(mut fraction: u32, out: &mut Vec<u8>) {
    if fraction == 0 {
        return;
    }
    out.push(b'.');
    let mut unit = 100_000;
    while fraction > 0 {
        out.push(b'0' + (fraction / unit) as u8);
        fraction %= unit;
        unit /= 10;
    }
}

/// Appends a date.
pub fn write_date(days: i32, out: &mut Vec<u8>) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            if civil(days.into(), out) {
                out.extend_from_slice(b" BC");
            }
        }
    }
}

/// Appends a timestamp; with a zone, an instant in that zone's time and its offset.
pub fn write_timestamp(micros: i64, zone: Option<&TimeZone>, out: &mut Vec<u8>) {
    match micros {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        i64::MIN => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let offset = zone.map_or(0, |zone| timezone::offset_at(zone, micros));
    let local = micros + i64::from(offset) * MICROS_PER_SECOND;
    let bc = civil(local.div_euclid(MICROS_PER_DAY), out);
    out.push(b' ');
    write_time(local.rem_euclid(MICROS_PER_DAY), out);
    if zone.is_some() {
        write_offset(offset, out);
    }
    if bc {
        out.extend_from_slice(b" BC");
    }
}

/// Appends `+HH[:MM[:SS]]`.
pub fn write_offset(offset: i32, out: &mut Vec<u8>) {
    out.push(if offset < 0 { b'-' } else { b'+' });
    let offset = offset.unsigned_abs();
    two(offset / 3600, out);
    if !offset.is_multiple_of(3600) {
        out.push(b':');
        two(offset / 60 % 60, out);
        if !offset.is_multiple_of(60) {
            out.push(b':');
            two(offset % 60, out);
        }
    }
}
