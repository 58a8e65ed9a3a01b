//! Time zones: names, offsets and abbreviations, from the tables compiled into the program (so that
//! every node agrees and nothing is read from the machine).

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use super::datetime::{EPOCH_UNIX_MICROS, MICROS_PER_SECOND, civil_from_days};

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Abbreviations with a fixed meaning (PostgreSQL's Default set, the common part), in seconds east.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("z", 0),
    ("zulu", 0),
    ("utc", 0),
    ("ut", 0),
    ("uct", 0),
    ("gmt", 0),
    ("wet", 0),
    ("west", 3600),
    ("bst", 3600),
    ("cet", 3600),
    ("met", 3600),
    ("mez", 3600),
    ("cest", 7200),
    ("mest", 7200),
    ("mesz", 7200),
    ("eet", 7200),
    ("eest", 10800),
    ("msk", 10800),
    ("msd", 14400),
    ("ist", 7200),
    ("est", -18000),
    ("edt", -14400),
    ("cst", -21600),
    ("cdt", -18000),
    ("mst", -25200),
    ("mdt", -21600),
    ("pst", -28800),
    ("pdt", -25200),
    ("akst", -32400),
    ("akdt", -28800),
    ("hst", -36000),
    ("ast", -14400),
    ("adt", -10800),
    ("nst", -12600),
    ("ndt", -9000),
    ("jst", 32400),
    ("kst", 32400),
    ("aest", 36000),
    ("aedt", 39600),
    ("acst", 34200),
    ("acdt", 37800),
    ("awst", 28800),
    ("nzst", 43200),
    ("nzdt", 46800),
    ("pkt", 18000),
    ("sgt", 28800),
    ("hkt", 28800),
    ("brt", -10800),
    ("art", -10800),
];

/// A zone by full name (`Europe/Berlin`, any case), abbreviation, or POSIX-style offset (`+02`,
/// `UTC-5`: positive is west, as POSIX has it and `SET TIME ZONE` documents).
pub fn by_name(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("utc") || name.eq_ignore_ascii_case("gmt") && name.len() == 3 {
        return Some(if name.eq_ignore_ascii_case("utc") {
            TimeZone::UTC
        } else {
            DATABASE.get("GMT").ok()?
        });
    }
    if let Some(seconds) = abbreviation(name) {
        return DATABASE.get(name).ok().or_else(|| fixed(seconds));
    }
    DATABASE.get(name).ok().or_else(|| {
        let digits = name.find(['+', '-'])?;
        let (letters, offset) = name.split_at(digits);
        if !letters.bytes().all(|b| b.is_ascii_alphabetic()) {
            return None;
        }
        fixed(-parse_offset(offset)?)
    })
}

/// A zone with a fixed offset, in seconds east.
pub fn fixed(seconds: i32) -> Option<TimeZone> {
    Some(TimeZone::fixed(Offset::from_seconds(seconds).ok()?))
}

/// An abbreviation's offset in seconds east.
pub fn abbreviation(name: &str) -> Option<i32> {
    ABBREVIATIONS.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, s)| *s)
}

/// Parses `+HH`, `+HHMM`, `+HH:MM`, `+HH:MM:SS` into seconds east; `None`: malformed or ≥ 16 hours.
pub fn parse_offset(text: &str) -> Option<i32> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let number = |s: &str| {
        (!s.is_empty() && s.len() <= 2 && s.bytes().all(|b| b.is_ascii_digit()))
            .then(|| s.parse::<i32>().expect("two digits"))
    };
    let (h, m, s) = if digits.contains(':') {
        let mut parts = digits.split(':');
        let hour = number(parts.next()?)?;
        let minute = number(parts.next()?)?;
        let second = parts.next().map_or(Some(0), number)?;
        parts.next().is_none().then_some((hour, minute, second))?
    } else {
        match digits.len() {
            1 | 2 => (number(digits)?, 0, 0),
            3 | 4 if digits.is_ascii() => {
                let (h, m) = digits.split_at(digits.len() - 2);
                (number(h)?, number(m)?, 0)
            }
            6 if digits.is_ascii() => (number(&digits[..2])?, number(&digits[2..4])?, number(&digits[4..])?),
            _ => return None,
        }
    };
    (h <= 15 && m < 60 && s < 60).then_some(sign * (h * 3600 + m * 60 + s))
}

/// Seconds east of UTC at an instant (microseconds since 2000).
pub fn offset_at(zone: &TimeZone, micros: i64) -> i32 {
    if *zone == TimeZone::UTC {
        return 0;
    }
    zone.to_offset(instant_of(micros)).seconds()
}

/// Abbreviation of a zone's time at an instant.
pub fn abbreviation_at(zone: &TimeZone, micros: i64) -> String {
    zone.to_offset_info(instant_of(micros)).abbreviation().to_owned()
}

/// Whether a zone has daylight saving time at an instant.
pub fn is_dst_at(zone: &TimeZone, micros: i64) -> bool {
    zone.to_offset_info(instant_of(micros)).dst().is_dst()
}

/// The instant, moved into the years that jiff knows.
fn instant_of(micros: i64) -> Timestamp {
    let seconds = (micros.div_euclid(MICROS_PER_SECOND) + EPOCH_UNIX_MICROS / MICROS_PER_SECOND)
        .clamp(Timestamp::MIN.as_second() + 86_400, Timestamp::MAX.as_second() - 86_400);
    Timestamp::from_second(seconds).expect("clamped to the supported years")
}

/// Seconds east of UTC that apply to a local time (microseconds since 2000, local). In a gap the
/// offset before it applies; in a repeated hour the later one, as in PostgreSQL.
pub fn offset_of_local(zone: &TimeZone, local: i64) -> i32 {
    if *zone == TimeZone::UTC {
        return 0;
    }
    let days = local.div_euclid(super::datetime::MICROS_PER_DAY);
    let second = local.rem_euclid(super::datetime::MICROS_PER_DAY) / MICROS_PER_SECOND;
    let (year, month, day) = civil_from_days(days);
    let year = year.clamp(-9998, 9998) as i16;
    // A leap day of a year outside jiff's range falls back to the day before.
    let date = civil::Date::new(year, month as i8, day as i8)
        .or_else(|_| civil::Date::new(year, month as i8, day as i8 - 1))
        .expect("a day of the calendar");
    let time = civil::time((second / 3600) as i8, (second / 60 % 60) as i8, (second % 60) as i8, 0);
    let ambiguous = zone.to_ambiguous_timestamp(date.to_datetime(time));
    match ambiguous.offset() {
        jiff::tz::AmbiguousOffset::Unambiguous { offset } => offset.seconds(),
        jiff::tz::AmbiguousOffset::Gap { before, .. } => before.seconds(),
        jiff::tz::AmbiguousOffset::Fold { after, .. } => after.seconds(),
    }
}

/// Names of the zones, sorted.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = DATABASE.available().map(|n| n.as_str().to_owned()).collect();
    names.sort();
    names
}
