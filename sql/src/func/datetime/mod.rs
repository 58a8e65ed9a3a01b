//! Functions over dates, times and intervals.

mod field;
mod format;

use cairn_txn::FOLLOWER_READ_LAG;
use jiff::tz::TimeZone;

use super::args::*;
use super::{Body, Builtin};
use crate::expr::EvalContext;
use crate::types::TypeKind::{self, Bool, Date, Float8, Int4, Text, Time, Timestamp, TimestampTz};
use crate::types::datetime::{
    MICROS_PER_DAY, MICROS_PER_SECOND, check_timestamp, days_from_civil, days_in_month, from_local,
    timestamp_out_of_range, to_local,
};
use crate::types::interval::{add_months_days, add_to_timestamp, age};
use crate::types::{Datum, Interval as Span, timezone};
use crate::{Result, SqlError, SqlState};

const INTERVAL: TypeKind = TypeKind::Interval;

fn is_finite(micros: i64) -> bool {
    micros != i64::MAX && micros != i64::MIN
}

/// The instant of a local time, infinities kept.
pub(crate) fn to_instant(local: i64, zone: &TimeZone) -> Result<i64> {
    if is_finite(local) { check_timestamp(from_local(local, zone).into()) } else { Ok(local) }
}

/// The local time of an instant, infinities kept.
pub(crate) fn to_zone(instant: i64, zone: &TimeZone) -> i64 {
    if is_finite(instant) { to_local(instant, zone) } else { instant }
}

fn date_out_of_range() -> SqlError {
    SqlError::new(SqlState::DATETIME_OVERFLOW, "date out of range")
}

fn add_days(days: i32, n: i64) -> Result<Datum> {
    if days == i32::MAX || days == i32::MIN {
        return Ok(Datum::Date(days));
    }
    let sum = i64::from(days) + n;
    let range = i64::from(crate::types::datetime::MIN_DATE)..i64::from(crate::types::datetime::END_DATE);
    if range.contains(&sum) { Ok(Datum::Date(sum as i32)) } else { Err(date_out_of_range()) }
}

fn plus(local: i64, span: Span) -> Result<Datum> {
    if !is_finite(local) {
        return Ok(Datum::Timestamp(local));
    }
    add_to_timestamp(local, span).map(Datum::Timestamp)
}

/// Months and days by the zone's calendar, the time part on the instant.
fn plus_zoned(instant: i64, span: Span, zone: &TimeZone) -> Result<i64> {
    if !is_finite(instant) {
        return Ok(instant);
    }
    let shifted = if span.months == 0 && span.days == 0 {
        instant
    } else {
        from_local(add_months_days(to_local(instant, zone), span)?, zone)
    };
    check_timestamp(i128::from(shifted) + i128::from(span.micros))
}

fn difference(a: i64, b: i64) -> Result<Datum> {
    if !is_finite(a) || !is_finite(b) {
        return Err(SqlError::new(SqlState::DATETIME_OVERFLOW, "cannot subtract infinite timestamps"));
    }
    let micros = a.checked_sub(b).ok_or_else(timestamp_out_of_range)?;
    // Whole days are shown as days, as PostgreSQL does for this operator.
    Ok(Datum::Interval(Span { micros, ..Span::default() }.justify(true, false)?))
}

fn zone_by_name(name: &str) -> Result<TimeZone> {
    timezone::by_name(name).ok_or_else(|| {
        SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("time zone \"{name}\" not recognized"))
    })
}

fn make_date(year: i32, month: i32, day: i32) -> Result<i64> {
    let invalid = || {
        SqlError::new(
            SqlState::DATETIME_OVERFLOW,
            format!("date field value out of range: {year}-{month:02}-{day:02}"),
        )
    };
    let astronomical = if year < 0 { year + 1 } else { year };
    let valid = year != 0
        && (1..=12).contains(&month)
        && (-4714..6_000_000).contains(&astronomical)
        && (1..=days_in_month(astronomical, month as u32) as i32).contains(&day);
    if !valid {
        return Err(invalid());
    }
    Ok(days_from_civil(astronomical, month as u32, day as u32))
}

fn make_time(hour: i32, minute: i32, second: f64) -> Result<i64> {
    let valid = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60.0).contains(&second);
    let micros = (i64::from(hour) * 3600 + i64::from(minute) * 60) * MICROS_PER_SECOND
        + (second * 1e6).round_ties_even() as i64;
    if !valid || micros > MICROS_PER_DAY {
        return Err(SqlError::new(
            SqlState::DATETIME_OVERFLOW,
            format!("time field value out of range: {hour}:{minute:02}:{second}"),
        ));
    }
    Ok(micros)
}

fn from_epoch(seconds: f64) -> Result<i64> {
    let fail = || {
        let mut shown = Vec::new();
        crate::types::float::write_f64(seconds, 1, &mut shown);
        SqlError::new(
            SqlState::DATETIME_OVERFLOW,
            format!("timestamp out of range: \"{}\"", String::from_utf8_lossy(&shown)),
        )
    };
    if seconds.is_nan() {
        return Err(SqlError::new(SqlState::DATETIME_OVERFLOW, "timestamp cannot be NaN"));
    }
    if seconds.is_infinite() {
        return Ok(if seconds > 0.0 { i64::MAX } else { i64::MIN });
    }
    let since_2000 = seconds - crate::types::datetime::EPOCH_UNIX_MICROS as f64 / 1e6;
    let micros = (since_2000 * 1e6).round_ties_even();
    if micros.abs() > 9.3e18 {
        return Err(fail());
    }
    check_timestamp(micros as i128).map_err(|_| fail())
}

fn today(c: &EvalContext) -> i64 {
    to_local(c.transaction_time(), &c.text.time_zone).div_euclid(MICROS_PER_DAY)
}

fn negated(span: Span) -> Result<Span> {
    span.negate()
}

fn divide(span: Span, by: f64) -> Result<Datum> {
    if by == 0.0 {
        return Err(super::math::division_by_zero());
    }
    span.divide(by).map(Datum::Interval)
}

fn precision(local: i64, digits: i32) -> i64 {
    let unit = 10i64.pow(6 - digits.clamp(0, 6) as u32);
    local.div_euclid(unit) * unit + if local.rem_euclid(unit) * 2 >= unit { unit } else { 0 }
}

macro_rules! tz {
    ($name:literal, |$c:ident| $body:expr) => {
        Builtin::new($name, &[], TimestampTz, Body::Context(|$c, _| Ok(Datum::Timestamp($body)))).stable()
    };
}

static CLOCKS: &[Builtin] = &[
    tz!("now", |c| c.transaction_time()),
    tz!("transaction_timestamp", |c| c.transaction_time()),
    tz!("current_timestamp", |c| c.transaction_time()),
    tz!("statement_timestamp", |c| c.statement_time),
    tz!("clock_timestamp", |c| c.clock()).volatile(),
    // For AS OF SYSTEM TIME: as late as every node can read without asking another one, as a rule.
    tz!("follower_read_timestamp", |c| c.transaction_time() - FOLLOWER_READ_LAG.as_micros() as i64),
    Builtin::new(
        "current_timestamp",
        &[Int4],
        TimestampTz,
        Body::Context(|c, a| Ok(Datum::Timestamp(precision(c.transaction_time(), int4(&a[0]))))),
    )
    .stable(),
    Builtin::new("current_date", &[], Date, Body::Context(|c, _| Ok(Datum::Date(today(c) as i32)))).stable(),
    Builtin::new(
        "localtimestamp",
        &[],
        Timestamp,
        Body::Context(|c, _| Ok(Datum::Timestamp(to_local(c.transaction_time(), &c.text.time_zone)))),
    )
    .stable(),
    Builtin::new(
        "localtime",
        &[],
        Time,
        Body::Context(|c, _| {
            Ok(Datum::Time(to_local(c.transaction_time(), &c.text.time_zone).rem_euclid(MICROS_PER_DAY)))
        }),
    )
    .stable(),
    Builtin::new(
        "timeofday",
        &[],
        Text,
        Body::Context(|c, _| {
            let now = c.clock();
            Ok(Datum::text(format::to_char(now, Some(&c.text.time_zone), "Dy Mon DD HH24:MI:SS.US YYYY TZ")?))
        }),
    )
    .volatile(),
];

static OPERATORS: &[Builtin] = &[
    Builtin::new("date_pli", &[Date, Int4], Date, Body::Plain(|a| add_days(date(&a[0]), int4(&a[1]).into())))
        .operator("+"),
    Builtin::new(
        "integer_pl_date",
        &[Int4, Date],
        Date,
        Body::Plain(|a| add_days(date(&a[1]), int4(&a[0]).into())),
    )
    .operator("+"),
    Builtin::new(
        "date_mii",
        &[Date, Int4],
        Date,
        Body::Plain(|a| add_days(date(&a[0]), -i64::from(int4(&a[1])))),
    )
    .operator("-"),
    Builtin::new(
        "date_mi",
        &[Date, Date],
        Int4,
        Body::Plain(|a| {
            let (x, y) = (date(&a[0]), date(&a[1]));
            if [x, y].iter().any(|d| *d == i32::MAX || *d == i32::MIN) {
                return Err(SqlError::new(SqlState::DATETIME_OVERFLOW, "cannot subtract infinite dates"));
            }
            Ok(Datum::Int4(x.wrapping_sub(y)))
        }),
    )
    .operator("-"),
    Builtin::new(
        "date_pl_interval",
        &[Date, INTERVAL],
        Timestamp,
        Body::Plain(|a| plus(super::cast::date_to_timestamp(date(&a[0]))?, interval(&a[1]))),
    )
    .operator("+"),
    Builtin::new(
        "interval_pl_date",
        &[INTERVAL, Date],
        Timestamp,
        Body::Plain(|a| plus(super::cast::date_to_timestamp(date(&a[1]))?, interval(&a[0]))),
    )
    .operator("+"),
    Builtin::new(
        "date_mi_interval",
        &[Date, INTERVAL],
        Timestamp,
        Body::Plain(|a| plus(super::cast::date_to_timestamp(date(&a[0]))?, negated(interval(&a[1]))?)),
    )
    .operator("-"),
    Builtin::new(
        "datetime_pl",
        &[Date, Time],
        Timestamp,
        Body::Plain(|a| {
            let midnight = super::cast::date_to_timestamp(date(&a[0]))?;
            Ok(Datum::Timestamp(if is_finite(midnight) { midnight + time(&a[1]) } else { midnight }))
        }),
    )
    .operator("+"),
    Builtin::new(
        "timedate_pl",
        &[Time, Date],
        Timestamp,
        Body::Plain(|a| {
            let midnight = super::cast::date_to_timestamp(date(&a[1]))?;
            Ok(Datum::Timestamp(if is_finite(midnight) { midnight + time(&a[0]) } else { midnight }))
        }),
    )
    .operator("+"),
    Builtin::new(
        "timestamp_pl_interval",
        &[Timestamp, INTERVAL],
        Timestamp,
        Body::Plain(|a| plus(timestamp(&a[0]), interval(&a[1]))),
    )
    .operator("+"),
    Builtin::new(
        "interval_pl_timestamp",
        &[INTERVAL, Timestamp],
        Timestamp,
        Body::Plain(|a| plus(timestamp(&a[1]), interval(&a[0]))),
    )
    .operator("+"),
    Builtin::new(
        "timestamp_mi_interval",
        &[Timestamp, INTERVAL],
        Timestamp,
        Body::Plain(|a| plus(timestamp(&a[0]), negated(interval(&a[1]))?)),
    )
    .operator("-"),
    Builtin::new(
        "timestamptz_pl_interval",
        &[TimestampTz, INTERVAL],
        TimestampTz,
        Body::Context(|c, a| {
            plus_zoned(timestamp(&a[0]), interval(&a[1]), &c.text.time_zone).map(Datum::Timestamp)
        }),
    )
    .stable()
    .operator("+"),
    Builtin::new(
        "interval_pl_timestamptz",
        &[INTERVAL, TimestampTz],
        TimestampTz,
        Body::Context(|c, a| {
            plus_zoned(timestamp(&a[1]), interval(&a[0]), &c.text.time_zone).map(Datum::Timestamp)
        }),
    )
    .stable()
    .operator("+"),
    Builtin::new(
        "timestamptz_mi_interval",
        &[TimestampTz, INTERVAL],
        TimestampTz,
        Body::Context(|c, a| {
            plus_zoned(timestamp(&a[0]), negated(interval(&a[1]))?, &c.text.time_zone).map(Datum::Timestamp)
        }),
    )
    .stable()
    .operator("-"),
    Builtin::new(
        "timestamp_mi",
        &[Timestamp, Timestamp],
        INTERVAL,
        Body::Plain(|a| difference(timestamp(&a[0]), timestamp(&a[1]))),
    )
    .operator("-"),
    Builtin::new(
        "timestamptz_mi",
        &[TimestampTz, TimestampTz],
        INTERVAL,
        Body::Plain(|a| difference(timestamp(&a[0]), timestamp(&a[1]))),
    )
    .operator("-"),
    Builtin::new(
        "interval_pl",
        &[INTERVAL, INTERVAL],
        INTERVAL,
        Body::Plain(|a| interval(&a[0]).plus(interval(&a[1])).map(Datum::Interval)),
    )
    .operator("+"),
    Builtin::new(
        "interval_mi",
        &[INTERVAL, INTERVAL],
        INTERVAL,
        Body::Plain(|a| interval(&a[0]).plus(negated(interval(&a[1]))?).map(Datum::Interval)),
    )
    .operator("-"),
    Builtin::new(
        "interval_um",
        &[INTERVAL],
        INTERVAL,
        Body::Plain(|a| negated(interval(&a[0])).map(Datum::Interval)),
    )
    .operator("-"),
    Builtin::new(
        "interval_mul",
        &[INTERVAL, Float8],
        INTERVAL,
        Body::Plain(|a| interval(&a[0]).multiply(float8(&a[1])).map(Datum::Interval)),
    )
    .operator("*"),
    Builtin::new(
        "mul_d_interval",
        &[Float8, INTERVAL],
        INTERVAL,
        Body::Plain(|a| interval(&a[1]).multiply(float8(&a[0])).map(Datum::Interval)),
    )
    .operator("*"),
    Builtin::new(
        "interval_div",
        &[INTERVAL, Float8],
        INTERVAL,
        Body::Plain(|a| divide(interval(&a[0]), float8(&a[1]))),
    )
    .operator("/"),
    Builtin::new(
        "time_pl_interval",
        &[Time, INTERVAL],
        Time,
        Body::Plain(|a| {
            Ok(Datum::Time(
                (time(&a[0]) + interval(&a[1]).micros % MICROS_PER_DAY).rem_euclid(MICROS_PER_DAY),
            ))
        }),
    )
    .operator("+"),
    Builtin::new(
        "time_mi_interval",
        &[Time, INTERVAL],
        Time,
        Body::Plain(|a| {
            Ok(Datum::Time(
                (time(&a[0]) - interval(&a[1]).micros % MICROS_PER_DAY).rem_euclid(MICROS_PER_DAY),
            ))
        }),
    )
    .operator("-"),
    Builtin::new(
        "time_mi_time",
        &[Time, Time],
        INTERVAL,
        Body::Plain(|a| Ok(Datum::Interval(Span { micros: time(&a[0]) - time(&a[1]), ..Span::default() }))),
    )
    .operator("-"),
];

/// The age between two times. As in PostgreSQL, the infinite past has none.
fn checked_age(a: i64, b: i64) -> Result<Span> {
    if a == i64::MIN || b == i64::MIN {
        return Err(timestamp_out_of_range());
    }
    Ok(age(a, b))
}

static FUNCTIONS: &[Builtin] = &[
    Builtin::new(
        "age",
        &[Timestamp, Timestamp],
        INTERVAL,
        Body::Plain(|a| Ok(Datum::Interval(checked_age(timestamp(&a[0]), timestamp(&a[1]))?))),
    ),
    Builtin::new(
        "age",
        &[TimestampTz, TimestampTz],
        INTERVAL,
        Body::Context(|c, a| {
            let zone = &c.text.time_zone;
            Ok(Datum::Interval(checked_age(
                to_zone(timestamp(&a[0]), zone),
                to_zone(timestamp(&a[1]), zone),
            )?))
        }),
    )
    .stable(),
    Builtin::new(
        "age",
        &[Timestamp],
        INTERVAL,
        Body::Context(|c, a| Ok(Datum::Interval(checked_age(today(c) * MICROS_PER_DAY, timestamp(&a[0]))?))),
    )
    .stable(),
    Builtin::new(
        "age",
        &[TimestampTz],
        INTERVAL,
        Body::Context(|c, a| {
            Ok(Datum::Interval(checked_age(
                today(c) * MICROS_PER_DAY,
                to_zone(timestamp(&a[0]), &c.text.time_zone),
            )?))
        }),
    )
    .stable(),
    Builtin::new(
        "isfinite",
        &[Date],
        Bool,
        Body::Plain(|a| Ok(Datum::Bool(date(&a[0]) != i32::MAX && date(&a[0]) != i32::MIN))),
    ),
    Builtin::new(
        "isfinite",
        &[Timestamp],
        Bool,
        Body::Plain(|a| Ok(Datum::Bool(is_finite(timestamp(&a[0]))))),
    ),
    Builtin::new(
        "isfinite",
        &[TimestampTz],
        Bool,
        Body::Plain(|a| Ok(Datum::Bool(is_finite(timestamp(&a[0]))))),
    ),
    Builtin::new("isfinite", &[INTERVAL], Bool, Body::Plain(|_| Ok(Datum::Bool(true)))),
    Builtin::new(
        "justify_hours",
        &[INTERVAL],
        INTERVAL,
        Body::Plain(|a| interval(&a[0]).justify(true, false).map(Datum::Interval)),
    ),
    Builtin::new(
        "justify_days",
        &[INTERVAL],
        INTERVAL,
        Body::Plain(|a| interval(&a[0]).justify(false, true).map(Datum::Interval)),
    ),
    Builtin::new(
        "justify_interval",
        &[INTERVAL],
        INTERVAL,
        Body::Plain(|a| interval(&a[0]).justify(true, true).map(Datum::Interval)),
    ),
    Builtin::new(
        "make_date",
        &[Int4, Int4, Int4],
        Date,
        Body::Plain(|a| Ok(Datum::Date(make_date(int4(&a[0]), int4(&a[1]), int4(&a[2]))? as i32))),
    ),
    Builtin::new(
        "make_time",
        &[Int4, Int4, Float8],
        Time,
        Body::Plain(|a| make_time(int4(&a[0]), int4(&a[1]), float8(&a[2])).map(Datum::Time)),
    ),
    Builtin::new(
        "make_timestamp",
        &[Int4, Int4, Int4, Int4, Int4, Float8],
        Timestamp,
        Body::Plain(|a| {
            let days = make_date(int4(&a[0]), int4(&a[1]), int4(&a[2]))?;
            let time = make_time(int4(&a[3]), int4(&a[4]), float8(&a[5]))?;
            check_timestamp(i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(time))
                .map(Datum::Timestamp)
        }),
    ),
    Builtin::new(
        "to_timestamp",
        &[Float8],
        TimestampTz,
        Body::Plain(|a| from_epoch(float8(&a[0])).map(Datum::Timestamp)),
    ),
    Builtin::new(
        "timezone",
        &[Text, TimestampTz],
        Timestamp,
        Body::Plain(|a| Ok(Datum::Timestamp(to_zone(timestamp(&a[1]), &zone_by_name(text(&a[0]))?)))),
    ),
    Builtin::new(
        "timezone",
        &[Text, Timestamp],
        TimestampTz,
        Body::Plain(|a| to_instant(timestamp(&a[1]), &zone_by_name(text(&a[0]))?).map(Datum::Timestamp)),
    ),
    Builtin::new(
        "date_trunc",
        &[Text, Timestamp],
        Timestamp,
        Body::Plain(|a| {
            field::truncate(text(&a[0]), timestamp(&a[1]), "timestamp without time zone")
                .map(Datum::Timestamp)
        }),
    ),
    Builtin::new(
        "date_trunc",
        &[Text, TimestampTz],
        TimestampTz,
        Body::Context(|c, a| {
            field::truncate_zoned(text(&a[0]), timestamp(&a[1]), &c.text.time_zone).map(Datum::Timestamp)
        }),
    )
    .stable(),
    Builtin::new(
        "date_trunc",
        &[Text, TimestampTz, Text],
        TimestampTz,
        Body::Plain(|a| {
            field::truncate_zoned(text(&a[0]), timestamp(&a[1]), &zone_by_name(text(&a[2]))?)
                .map(Datum::Timestamp)
        }),
    ),
    Builtin::new(
        "date_trunc",
        &[Text, INTERVAL],
        INTERVAL,
        Body::Plain(|a| field::truncate_interval(text(&a[0]), interval(&a[1])).map(Datum::Interval)),
    ),
    Builtin::new(
        "to_char",
        &[Timestamp, Text],
        Text,
        Body::Plain(|a| {
            if !is_finite(timestamp(&a[0])) {
                return Ok(Datum::Null);
            }
            format::to_char(timestamp(&a[0]), None, text(&a[1])).map(Datum::text)
        }),
    )
    .stable(),
    Builtin::new(
        "to_char",
        &[TimestampTz, Text],
        Text,
        Body::Context(|c, a| {
            if !is_finite(timestamp(&a[0])) {
                return Ok(Datum::Null);
            }
            format::to_char(timestamp(&a[0]), Some(&c.text.time_zone), text(&a[1])).map(Datum::text)
        }),
    )
    .stable(),
];

pub(super) static LISTS: &[&[Builtin]] = &[CLOCKS, OPERATORS, FUNCTIONS, field::FUNCTIONS, format::FUNCTIONS];

/// `generate_series` over timestamps; `zone` for instants.
pub(super) fn series(
    start: i64,
    stop: i64,
    step: Span,
    zone: Option<TimeZone>,
) -> Result<Box<dyn Iterator<Item = Result<Vec<Datum>>> + Send>> {
    let ascending = step.span() > 0;
    if step.span() == 0 {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "step size cannot equal zero"));
    }
    let mut next = Some(start);
    Ok(Box::new(std::iter::from_fn(move || {
        let at = next?;
        if if ascending { at > stop } else { at < stop } {
            next = None;
            return None;
        }
        let following = match &zone {
            Some(zone) => plus_zoned(at, step, zone),
            None => add_to_timestamp(at, step),
        };
        match following {
            Ok(t) => next = Some(t),
            Err(error) => {
                next = None;
                return Some(Err(error));
            }
        }
        Some(Ok(vec![Datum::Timestamp(at)]))
    })))
}
