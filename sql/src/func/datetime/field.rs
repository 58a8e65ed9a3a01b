//! Fields of dates: `extract`, `date_part`, `date_trunc`.

use jiff::tz::TimeZone;
use num_bigint::BigInt;

use super::super::args::*;
use super::super::{Body, Builtin};
use super::{INTERVAL, is_finite, to_zone};
use crate::types::TypeKind::{self, Date, Float8, Text, Time, Timestamp, TimestampTz};
use crate::types::datetime::{
    EPOCH_UNIX_MICROS, MICROS_PER_DAY, MICROS_PER_SECOND, civil_from_days, days_from_civil, from_local,
    to_local,
};
use crate::types::numeric::Numeric;
use crate::types::{Datum, Interval, timezone};
use crate::{Result, SqlError, SqlState};

/// An exact field: `digits × 10^-scale`.
struct Field(i128, i64);

impl Field {
    fn whole(v: impl Into<i128>) -> Field {
        Field(v.into(), 0)
    }

    fn to_f64(&self) -> f64 {
        self.0 as f64 / 10f64.powi(self.1 as i32)
    }

    fn to_numeric(&self) -> Result<Numeric> {
        Numeric::new(BigInt::from(self.0), self.1)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Epoch,
    Dow,
    IsoDow,
    Doy,
    IsoYear,
    Julian,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

fn unit(name: &str) -> Option<Unit> {
    use Unit::*;
    Some(match name.to_ascii_lowercase().as_str() {
        "microseconds" | "microsecond" | "us" | "usec" | "usecs" | "useconds" => Microseconds,
        "milliseconds" | "millisecond" | "ms" | "msec" | "msecs" => Milliseconds,
        "second" | "seconds" | "s" | "sec" | "secs" => Second,
        "minute" | "minutes" | "m" | "min" | "mins" => Minute,
        "hour" | "hours" | "h" | "hr" | "hrs" => Hour,
        "day" | "days" | "d" => Day,
        "week" | "weeks" | "w" => Week,
        "month" | "months" | "mon" | "mons" => Month,
        "quarter" | "qtr" => Quarter,
        "year" | "years" | "y" | "yr" | "yrs" => Year,
        "decade" | "decades" | "dec" | "decs" => Decade,
        "century" | "centuries" | "c" | "cent" => Century,
        "millennium" | "millennia" | "mil" | "mils" => Millennium,
        "epoch" => Epoch,
        "dow" => Dow,
        "isodow" => IsoDow,
        "doy" => Doy,
        "isoyear" => IsoYear,
        "julian" | "jd" | "j" => Julian,
        "timezone" => Timezone,
        "timezone_hour" | "timezone_h" => TimezoneHour,
        "timezone_minute" | "timezone_m" => TimezoneMinute,
        _ => return None,
    })
}

fn unknown(name: &str, type_name: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unit \"{}\" not recognized for type {type_name}", name.to_ascii_lowercase()),
    )
}

fn unsupported(name: &str, type_name: &str) -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("unit \"{}\" not supported for type {type_name}", name.to_ascii_lowercase()),
    )
}

/// Day of the week, Sunday 0.
pub(super) fn weekday(days: i64) -> i64 {
    (days + 6).rem_euclid(7)
}

/// ISO year and week of a day.
pub(super) fn iso_week(days: i64) -> (i32, i64) {
    let thursday = days - (weekday(days) + 6) % 7 + 3;
    let (year, _, _) = civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// Years as shown: there is no year 0.
fn shown_year(year: i32) -> i32 {
    if year > 0 { year } else { year - 1 }
}

fn century(year: i32) -> i32 {
    if year > 0 { (year + 99) / 100 } else { -((99 - (year - 1)) / 100) }
}

fn millennium(year: i32) -> i32 {
    if year > 0 { (year + 999) / 1000 } else { -((999 - (year - 1)) / 1000) }
}

fn of_clock(unit: Unit, micros: i64) -> Option<Field> {
    Some(match unit {
        Unit::Microseconds => Field::whole(micros % (60 * MICROS_PER_SECOND)),
        Unit::Milliseconds => Field((micros % (60 * MICROS_PER_SECOND)).into(), 3),
        Unit::Second => Field((micros % (60 * MICROS_PER_SECOND)).into(), 6),
        Unit::Minute => Field::whole(micros / (60 * MICROS_PER_SECOND) % 60),
        Unit::Hour => Field::whole(micros / (3600 * MICROS_PER_SECOND)),
        _ => return None,
    })
}

fn of_calendar(unit: Unit, days: i64) -> Option<Field> {
    let (year, month, day) = civil_from_days(days);
    Some(match unit {
        Unit::Day => Field::whole(day),
        Unit::Week => Field::whole(iso_week(days).1),
        Unit::Month => Field::whole(month),
        Unit::Quarter => Field::whole((month - 1) / 3 + 1),
        Unit::Year => Field::whole(shown_year(year)),
        Unit::Decade => Field::whole(if year >= 0 { year / 10 } else { -((8 - (year - 1)) / 10) }),
        Unit::Century => Field::whole(century(year)),
        Unit::Millennium => Field::whole(millennium(year)),
        Unit::Dow => Field::whole(weekday(days)),
        Unit::IsoDow => Field::whole((weekday(days) + 6) % 7 + 1),
        Unit::Doy => Field::whole(days - days_from_civil(year, 1, 1) + 1),
        Unit::IsoYear => Field::whole(shown_year(iso_week(days).0)),
        _ => return None,
    })
}

/// `None`: NULL (a field that an infinite time does not have).
fn of_timestamp(name: &str, micros: i64, zone: Option<&TimeZone>) -> Result<Option<Part>> {
    let type_name = if zone.is_some() { "timestamp with time zone" } else { "timestamp without time zone" };
    let unit = unit(name).ok_or_else(|| unknown(name, type_name))?;
    if !is_finite(micros) {
        return Ok(infinite(unit, micros > 0).unwrap_or(None));
    }
    let offset = zone.map(|zone| i64::from(timezone::offset_at(zone, micros)));
    let local = micros + offset.unwrap_or(0) * MICROS_PER_SECOND;
    let (days, time) = (local.div_euclid(MICROS_PER_DAY), local.rem_euclid(MICROS_PER_DAY));
    let field = match (unit, offset) {
        (Unit::Epoch, _) => Field(i128::from(micros) + i128::from(EPOCH_UNIX_MICROS), 6),
        (Unit::Julian, _) => return Ok(Some(Part::Julian(days, time))),
        (Unit::Timezone, Some(o)) => Field::whole(o),
        (Unit::TimezoneHour, Some(o)) => Field::whole(o / 3600),
        (Unit::TimezoneMinute, Some(o)) => Field::whole(o / 60 % 60),
        _ => of_clock(unit, time)
            .or_else(|| of_calendar(unit, days))
            .ok_or_else(|| unsupported(name, type_name))?,
    };
    Ok(Some(Part::Exact(field)))
}

fn infinite(unit: Unit, positive: bool) -> Result<Option<Part>, ()> {
    use Unit::*;
    match unit {
        Year | Decade | Century | Millennium | Julian | IsoYear | Epoch => Ok(Some(Part::Infinite(positive))),
        Timezone | TimezoneHour | TimezoneMinute => Err(()),
        _ => Ok(None),
    }
}

fn of_date(name: &str, days: i32) -> Result<Option<Part>> {
    let unit = unit(name).ok_or_else(|| unknown(name, "date"))?;
    if days == i32::MAX || days == i32::MIN {
        if matches!(unit, Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour)
        {
            return Err(unsupported(name, "date"));
        }
        return infinite(unit, days > 0).map_err(|()| unsupported(name, "date"));
    }
    let field = match unit {
        Unit::Epoch => Field::whole((i64::from(days) + EPOCH_UNIX_MICROS / MICROS_PER_DAY) * 86_400),
        Unit::Julian => Field::whole(i64::from(days) + 2_451_545),
        _ => of_calendar(unit, days.into()).ok_or_else(|| unsupported(name, "date"))?,
    };
    Ok(Some(Part::Exact(field)))
}

fn of_time(name: &str, micros: i64) -> Result<Option<Part>> {
    const TYPE: &str = "time without time zone";
    let unit = unit(name).ok_or_else(|| unknown(name, TYPE))?;
    let field = match unit {
        Unit::Epoch => Field(micros.into(), 6),
        _ => of_clock(unit, micros).ok_or_else(|| unsupported(name, TYPE))?,
    };
    Ok(Some(Part::Exact(field)))
}

fn of_interval(name: &str, span: Interval) -> Result<Option<Part>> {
    let unit = unit(name).ok_or_else(|| unknown(name, "interval"))?;
    let years = span.months / 12;
    let field = match unit {
        Unit::Day => Field::whole(span.days),
        Unit::Month => Field::whole(span.months % 12),
        Unit::Quarter => Field::whole(span.months % 12 / 3 + 1),
        Unit::Year => Field::whole(years),
        Unit::Decade => Field::whole(years / 10),
        Unit::Century => Field::whole(years / 100),
        Unit::Millennium => Field::whole(years / 1000),
        Unit::Epoch => {
            // A year counts 365.25 days here, a month of the rest 30.
            let days = i128::from(years) * 1461 * 6
                + i128::from(span.months % 12) * 30 * 24
                + i128::from(span.days) * 24;
            Field(days * 3600 * 1_000_000 + i128::from(span.micros), 6)
        }
        _ => of_clock(unit, span.micros).ok_or_else(|| unsupported(name, "interval"))?,
    };
    Ok(Some(Part::Exact(field)))
}

enum Part {
    Exact(Field),
    Infinite(bool),
    /// Julian day and time of day.
    Julian(i64, i64),
}

fn as_float(part: Option<Part>) -> Result<Datum> {
    Ok(match part {
        None => Datum::Null,
        Some(Part::Exact(f)) => Datum::Float8(f.to_f64()),
        Some(Part::Infinite(positive)) => {
            Datum::Float8(if positive { f64::INFINITY } else { f64::NEG_INFINITY })
        }
        Some(Part::Julian(days, time)) => {
            Datum::Float8((days + 2_451_545) as f64 + time as f64 / MICROS_PER_DAY as f64)
        }
    })
}

fn as_numeric(part: Option<Part>) -> Result<Datum> {
    Ok(Datum::numeric(match part {
        None => return Ok(Datum::Null),
        Some(Part::Exact(f)) => f.to_numeric()?,
        Some(Part::Infinite(true)) => Numeric::Infinity,
        Some(Part::Infinite(false)) => Numeric::NegInfinity,
        Some(Part::Julian(days, time)) => {
            Numeric::from(days + 2_451_545).add(&Numeric::from(time).div(&Numeric::from(MICROS_PER_DAY))?)?
        }
    }))
}

fn truncate_days(unit: Unit, days: i64) -> Option<i64> {
    let (year, month, _) = civil_from_days(days);
    Some(match unit {
        Unit::Day => days,
        Unit::Week => days - (weekday(days) + 6) % 7,
        Unit::Month => days_from_civil(year, month, 1),
        Unit::Quarter => days_from_civil(year, (month - 1) / 3 * 3 + 1, 1),
        Unit::Year => days_from_civil(year, 1, 1),
        Unit::Decade => days_from_civil(year.div_euclid(10) * 10, 1, 1),
        Unit::Century => {
            let first = if year > 0 { (year + 99) / 100 * 100 - 99 } else { -((99 - year) / 100) * 100 + 1 };
            days_from_civil(first, 1, 1)
        }
        Unit::Millennium => {
            let first =
                if year > 0 { (year + 999) / 1000 * 1000 - 999 } else { -((999 - year) / 1000) * 1000 + 1 };
            days_from_civil(first, 1, 1)
        }
        _ => return None,
    })
}

fn step_of(unit: Unit) -> Option<i64> {
    Some(match unit {
        Unit::Microseconds => 1,
        Unit::Milliseconds => 1000,
        Unit::Second => MICROS_PER_SECOND,
        Unit::Minute => 60 * MICROS_PER_SECOND,
        Unit::Hour => 3600 * MICROS_PER_SECOND,
        _ => return None,
    })
}

/// The unit of a `date_trunc`: units that are no span of time are not even recognized.
fn truncation_unit(name: &str, type_name: &str) -> Result<Unit> {
    match unit(name) {
        None | Some(Unit::Epoch | Unit::Dow | Unit::IsoDow | Unit::Doy | Unit::IsoYear | Unit::Julian) => {
            Err(unknown(name, type_name))
        }
        Some(unit) => Ok(unit),
    }
}

/// `date_trunc` of a local time.
pub(super) fn truncate(name: &str, local: i64, type_name: &str) -> Result<i64> {
    let unit = truncation_unit(name, type_name)?;
    if !is_finite(local) {
        return Ok(local);
    }
    if let Some(step) = step_of(unit) {
        return Ok(local.div_euclid(step) * step);
    }
    truncate_days(unit, local.div_euclid(MICROS_PER_DAY))
        .map(|days| days * MICROS_PER_DAY)
        .ok_or_else(|| unsupported(name, type_name))
}

/// `date_trunc` of an instant in a zone.
pub(super) fn truncate_zoned(name: &str, instant: i64, zone: &TimeZone) -> Result<i64> {
    const TYPE: &str = "timestamp with time zone";
    let unit = truncation_unit(name, TYPE)?;
    let local = truncate(name, to_zone(instant, zone), TYPE)?;
    if !is_finite(instant) {
        return Ok(instant);
    }
    if unit < Unit::Day {
        // Below a day the offset stays the instant's own, also in a repeated hour.
        return Ok(local - (to_local(instant, zone) - instant));
    }
    Ok(from_local(local, zone))
}

/// `date_trunc` of an interval.
pub(super) fn truncate_interval(name: &str, span: Interval) -> Result<Interval> {
    let unit = truncation_unit(name, "interval")?;
    let months = |n: i32| Interval { months: span.months / n * n, ..Interval::default() };
    Ok(match unit {
        Unit::Day => Interval { micros: 0, ..span },
        Unit::Month => months(1),
        Unit::Quarter => months(3),
        Unit::Year => months(12),
        Unit::Decade => months(120),
        Unit::Century => months(1200),
        Unit::Millennium => months(12_000),
        _ => match step_of(unit) {
            Some(step) => Interval { micros: span.micros / step * step, ..span },
            None if unit == Unit::Week => {
                return Err(unsupported(name, "interval").detail("Months usually have fractional weeks."));
            }
            None => return Err(unsupported(name, "interval")),
        },
    })
}

const NUMERIC: TypeKind = TypeKind::Numeric;

macro_rules! parts {
    ($($kind:ident $plain:ident |$c:ident, $a:ident| $body:expr;)*) => {
        pub(super) static FUNCTIONS: &[Builtin] = &[$(
            Builtin::new("date_part", &[Text, $kind], Float8, Body::Context(|$c, $a| as_float($body))).$plain(),
            Builtin::new("extract", &[Text, $kind], NUMERIC, Body::Context(|$c, $a| as_numeric($body))).$plain(),
        )*];
    };
}

impl Builtin {
    const fn immutable(self) -> Builtin {
        self
    }
}

parts! {
    Date immutable |_c, a| of_date(text(&a[0]), date(&a[1]))?;
    Time immutable |_c, a| of_time(text(&a[0]), time(&a[1]))?;
    Timestamp immutable |_c, a| of_timestamp(text(&a[0]), timestamp(&a[1]), None)?;
    TimestampTz stable |c, a| of_timestamp(text(&a[0]), timestamp(&a[1]), Some(&c.text.time_zone))?;
    INTERVAL immutable |_c, a| of_interval(text(&a[0]), interval(&a[1]))?;
}
