//! Run-time settings: SET, SHOW, RESET, and what the session reads of them.
//!
//! A setting acts, or it takes only the values for which what Cairn does anyway is exactly what they
//! ask for: it sets a limit that Cairn never reaches, chooses between treatments of what Cairn does
//! not have, or names the one way in which Cairn does a thing. Any other value is refused.
//!
//! A transaction's changes vanish with it; SET LOCAL's vanish in any case. The state is therefore a
//! pair of value sets, the one in force and the one that a commit leaves, and what a rollback
//! returns to is a saved pair. Sets are copied only when changed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hashbrown::HashMap;

use crate::types::context::{DateOrder, TextContext};
use crate::{Result, SqlError, SqlState};

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bool,
    /// Integers between two bounds, in a unit.
    Int(i64, i64, Unit),
    /// One of a list (lower case).
    Enum(&'static [&'static str]),
    /// One of a list, of which one is not supported.
    EnumBut(&'static [&'static str], &'static str),
    Text,
    TimeZone,
    DateStyle,
    Encoding,
    /// A list of names, shown with commas.
    List,
    /// Only one value is possible.
    Only(&'static str),
    /// Never settable.
    Fixed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    None,
    Millis,
    Kilobytes,
    /// Pages of 8 kB.
    Pages,
}

struct Definition {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    reported: bool,
    about: &'static str,
}

const fn setting(name: &'static str, default: &'static str, kind: Kind, about: &'static str) -> Definition {
    Definition { name, default, kind, reported: false, about }
}

const fn reported(name: &'static str, default: &'static str, kind: Kind, about: &'static str) -> Definition {
    Definition { name, default, kind, reported: true, about }
}

const MILLIS: Kind = Kind::Int(0, i32::MAX as i64, Unit::Millis);
const ISOLATION: Kind =
    Kind::Enum(&["serializable", "repeatable read", "read committed", "read uncommitted"]);

/// Every setting, sorted by name without regard to case.
static DEFINITIONS: &[Definition] = &[
    reported("application_name", "", Kind::Text, "Name of the application, shown in statistics."),
    setting(
        "backslash_quote",
        "safe_encoding",
        Kind::Only("safe_encoding"),
        "Whether \\' is allowed in literals.",
    ),
    setting("bytea_output", "hex", Kind::Enum(&["escape", "hex"]), "Output format of bytea."),
    setting("check_function_bodies", "on", Kind::Bool, "Checks of function bodies; there are no functions."),
    reported("client_encoding", "UTF8", Kind::Encoding, "The client's character set: UTF8."),
    setting(
        "client_min_messages",
        "notice",
        Kind::Enum(&["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"]),
        "Lowest level of messages sent to the client.",
    ),
    reported(
        "DateStyle",
        "ISO, MDY",
        Kind::DateStyle,
        "Display format of dates and order of ambiguous ones.",
    ),
    setting("default_table_access_method", "heap", Kind::Only("heap"), "How tables are stored."),
    setting("default_tablespace", "", Kind::Only(""), "Tablespace of new tables: there are none."),
    setting(
        "default_transaction_deferrable",
        "off",
        Kind::Bool,
        "Deferrable by default: a reading transaction never fails for a conflict.",
    ),
    setting(
        "default_transaction_isolation",
        "serializable",
        ISOLATION,
        "Isolation level of new transactions.",
    ),
    reported("default_transaction_read_only", "off", Kind::Bool, "Read-only status of new transactions."),
    setting("enable_hashjoin", "on", Kind::Bool, "Whether the planner uses hash joins."),
    setting("enable_indexscan", "on", Kind::Bool, "Whether the planner uses index scans."),
    setting("enable_nestloop", "on", Kind::Bool, "Whether the planner uses nested loops."),
    setting("enable_seqscan", "on", Kind::Bool, "Whether the planner uses full scans."),
    setting(
        "escape_string_warning",
        "on",
        Kind::Bool,
        "Warns of backslashes that escape, which they do only in E'…'.",
    ),
    setting("extra_float_digits", "1", Kind::Int(-15, 3, Unit::None), "Digits of floating-point output."),
    setting("idle_in_transaction_session_timeout", "0", MILLIS, "Longest idle time within a transaction."),
    setting("idle_session_timeout", "0", MILLIS, "Longest idle time outside a transaction."),
    reported("in_hot_standby", "off", Kind::Fixed, "Whether this is a standby."),
    reported("integer_datetimes", "on", Kind::Fixed, "Dates and times are integers."),
    reported("IntervalStyle", "postgres", Kind::Only("postgres"), "Display format of intervals."),
    reported("is_superuser", "on", Kind::Fixed, "Whether the user is a superuser."),
    setting("jit", "off", Kind::Only("off"), "Just-in-time compilation."),
    setting("lc_collate", "C", Kind::Fixed, "Collation."),
    setting("lc_ctype", "C", Kind::Fixed, "Character classification."),
    setting("lc_messages", "C", Kind::Only("C"), "Language of messages."),
    setting("lc_monetary", "C", Kind::Only("C"), "Format of monetary amounts."),
    setting("lc_numeric", "C", Kind::Only("C"), "Format of numbers."),
    setting("lc_time", "C", Kind::Only("C"), "Format of dates."),
    setting("lock_timeout", "0", MILLIS, "Longest wait for a lock."),
    setting(
        "maintenance_work_mem",
        "64MB",
        Kind::Int(1024, 2147483647, Unit::Kilobytes),
        "Memory for sorting the entries of an index that is built.",
    ),
    setting("max_connections", "100", Kind::Fixed, "Most connections."),
    setting("max_identifier_length", "63", Kind::Fixed, "Longest name."),
    setting("max_index_keys", "32", Kind::Fixed, "Most columns of an index."),
    setting(
        "max_parallel_workers_per_gather",
        "0",
        Kind::Int(0, 1024, Unit::None),
        "Most parallel workers of a query, which uses none.",
    ),
    setting("quote_all_identifiers", "off", Kind::Only("off"), "Quotes where SQL is shown."),
    setting("random_page_cost", "4", Kind::Only("4"), "Fixed: the planner counts no pages."),
    setting("row_security", "on", Kind::Bool, "Whether policies filter or fail; there are none."),
    setting("search_path", "\"$user\", public", Kind::List, "Schemas searched for unqualified names."),
    setting("seq_page_cost", "1", Kind::Only("1"), "Fixed: the planner counts no pages."),
    reported("server_encoding", "UTF8", Kind::Fixed, "The server's character set."),
    reported("server_version", "15.0", Kind::Fixed, "PostgreSQL version whose behaviour is followed."),
    setting("server_version_num", "150000", Kind::Fixed, "The same as a number."),
    reported("session_authorization", "postgres", Kind::Fixed, "The session's user."),
    setting("session_replication_role", "origin", Kind::Only("origin"), "Role for triggers."),
    reported("standard_conforming_strings", "on", Kind::Only("on"), "Backslashes in '…' are ordinary."),
    setting("statement_timeout", "0", MILLIS, "Longest run of a statement."),
    setting("synchronize_seqscans", "off", Kind::Only("off"), "Whether scans begin where others are."),
    setting(
        "synchronous_commit",
        "on",
        Kind::EnumBut(&["local", "remote_write", "remote_apply", "on", "off"], "off"),
        "Commits are always durable; off is refused.",
    ),
    setting(
        "temp_buffers",
        "8MB",
        Kind::Int(100, 1073741823, Unit::Pages),
        "Most memory of temporary tables, of which there are none.",
    ),
    reported("TimeZone", "UTC", Kind::TimeZone, "Time zone for display and input."),
    setting(
        "transaction_deferrable",
        "off",
        Kind::Bool,
        "Whether this transaction is deferrable: a reading one never fails for a conflict.",
    ),
    setting("transaction_isolation", "serializable", ISOLATION, "Isolation level of this transaction."),
    setting("transaction_read_only", "off", Kind::Bool, "Read-only status of this transaction."),
    setting(
        "work_mem",
        "64MB",
        Kind::Int(64, 2147483647, Unit::Kilobytes),
        "Memory of one statement's sorts and hashes.",
    ),
    setting("xmloption", "content", Kind::Only("content"), "What XML without a mark is."),
];

/// Values that PostgreSQL takes and does not list: name, value, what SHOW prints.
const HIDDEN: [(&str, &str, &str); 2] =
    [("client_min_messages", "debug", "debug2"), ("client_min_messages", "info", "info")];

/// One value: as SHOW prints it and, for numbers and booleans, as a number in the base unit.
#[derive(Clone, Debug, PartialEq)]
struct Value {
    text: Arc<str>,
    number: i64,
}

#[derive(Clone, Debug, PartialEq)]
struct Values {
    /// By position in [`DEFINITIONS`].
    known: Vec<Value>,
    /// Names with a dot, which PostgreSQL lets anyone make up.
    custom: BTreeMap<String, Arc<str>>,
}

/// A point to return to.
#[derive(Clone, Debug)]
pub struct Saved {
    current: Arc<Values>,
    session: Arc<Values>,
}

/// A session's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// In force now.
    current: Arc<Values>,
    /// In force when the transaction commits.
    session: Arc<Values>,
    /// In force when the session began: what RESET returns to.
    initial: Arc<Values>,
    /// Rises with every change, for those who cache what they derive.
    generation: u64,
}

impl Settings {
    /// The defaults, for a user.
    pub fn new(user: &str) -> Settings {
        let known = DEFINITIONS
            .iter()
            .map(|d| {
                let text = if d.name == "session_authorization" { user } else { d.default };
                parse(d, text, true).expect("defaults are valid")
            })
            .collect();
        let values = Arc::new(Values { known, custom: BTreeMap::new() });
        Settings { current: values.clone(), session: values.clone(), initial: values, generation: 0 }
    }

    /// Makes the present values those of the session's start.
    pub fn set_initial(&mut self) {
        self.initial = self.current.clone();
        self.session = self.current.clone();
    }

    /// Changes when any value does.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Sets a setting; `None`: to its value at the session's start.
    pub fn set(&mut self, name: &str, value: Option<&[String]>, local: bool) -> Result<()> {
        let Some(index) = find(name) else {
            return self.set_custom(name, value, local);
        };
        let definition = &DEFINITIONS[index];
        let value = match value {
            None => self.initial.known[index].clone(),
            Some(parts) => {
                let text = match definition.kind {
                    Kind::List => join_names(parts),
                    _ => parts.join(", "),
                };
                parse(definition, &text, false)?
            }
        };
        self.generation += 1;
        Arc::make_mut(&mut self.current).known[index] = value.clone();
        if !local {
            Arc::make_mut(&mut self.session).known[index] = value;
        }
        Ok(())
    }

    fn set_custom(&mut self, name: &str, value: Option<&[String]>, local: bool) -> Result<()> {
        if !name.contains('.') {
            return Err(unknown(name));
        }
        self.generation += 1;
        let put = |values: &mut Arc<Values>| match value {
            Some(parts) => Arc::make_mut(values).custom.insert(name.to_owned(), parts.join(", ").into()),
            None => Arc::make_mut(values).custom.remove(name),
        };
        put(&mut self.current);
        if !local {
            put(&mut self.session);
        }
        Ok(())
    }

    /// RESET ALL.
    pub fn reset_all(&mut self) {
        self.generation += 1;
        let keep = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];
        let mut values = (*self.initial).clone();
        for name in keep {
            let index = find(name).expect("it is in the table");
            values.known[index] = self.current.known[index].clone();
        }
        self.current = Arc::new(values);
        self.session = self.current.clone();
    }

    /// SHOW.
    pub fn show(&self, name: &str) -> Result<String> {
        match find(name) {
            Some(index) => Ok(self.current.known[index].text.to_string()),
            None => match self.current.custom.get(name) {
                Some(value) => Ok(value.to_string()),
                None => Err(unknown(name)),
            },
        }
    }

    /// The name as it is written in PostgreSQL's documentation: the column name of SHOW.
    pub fn canonical_name(name: &str) -> &str {
        find(name).map_or(name, |index| DEFINITIONS[index].name)
    }

    /// SHOW ALL: name, value, description.
    pub fn show_all(&self) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
        DEFINITIONS.iter().zip(&self.current.known).map(|(d, v)| (d.name, &*v.text, d.about))
    }

    /// Reported settings and their values.
    pub fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = DEFINITIONS.iter().zip(&self.current.known);
        all.filter(|(d, _)| d.reported).map(|(d, v)| (d.name, &*v.text))
    }

    /// What a rollback returns to.
    pub fn save(&self) -> Saved {
        Saved { current: self.current.clone(), session: self.session.clone() }
    }

    /// Returns to a saved point.
    pub fn restore(&mut self, saved: &Saved) {
        if !Arc::ptr_eq(&self.current, &saved.current) || !Arc::ptr_eq(&self.session, &saved.session) {
            self.generation += 1;
            self.current = saved.current.clone();
            self.session = saved.session.clone();
        }
    }

    /// The transaction ended well: SET LOCAL's values go.
    pub fn commit(&mut self) {
        if !Arc::ptr_eq(&self.current, &self.session) {
            self.generation += 1;
            self.current = self.session.clone();
        }
    }

    /// A boolean setting. Who asks here names one of the table, as it stands there: each message of a client does.
    pub fn flag(&self, name: &'static str) -> bool {
        self.number(name) != 0
    }

    /// A number, in the setting's base unit.
    pub fn number(&self, name: &'static str) -> i64 {
        self.current.known[POSITIONS[name]].number
    }

    /// A text.
    pub fn text(&self, name: &'static str) -> &str {
        &self.current.known[POSITIONS[name]].text
    }

    /// A timeout; zero: none.
    pub fn timeout(&self, name: &'static str) -> Option<Duration> {
        let millis = self.number(name);
        (millis > 0).then(|| Duration::from_millis(millis as u64))
    }

    /// The schemas of `search_path`, `"$user"` left out unless such a schema exists.
    pub fn search_path(&self, user: &str) -> Vec<String> {
        let names = split_names(self.text("search_path")).unwrap_or_default();
        let names = names.into_iter().map(|n| if n == "$user" { user.to_owned() } else { n });
        names.filter(|n| crate::catalog::cache::schema_oid(n).is_some()).collect()
    }

    /// What text input and output depend on.
    pub fn text_context(&self) -> TextContext {
        let style = self.text("DateStyle");
        TextContext {
            time_zone: time_zone(self.text("TimeZone")).unwrap_or(jiff::tz::TimeZone::UTC),
            date_order: match style.rsplit(", ").next() {
                Some("DMY") => DateOrder::Dmy,
                Some("YMD") => DateOrder::Ymd,
                _ => DateOrder::Mdy,
            },
            extra_float_digits: self.number("extra_float_digits") as i32,
            bytea_escape: self.text("bytea_output") == "escape",
            ..TextContext::default()
        }
    }
}

/// Positions in [`DEFINITIONS`] by the names that stand there.
static POSITIONS: LazyLock<HashMap<&'static str, usize>> =
    LazyLock::new(|| DEFINITIONS.iter().enumerate().map(|(position, d)| (d.name, position)).collect());

fn find(name: &str) -> Option<usize> {
    let name = match name {
        // SET's special spellings.
        "names" => "client_encoding",
        "time zone" => "TimeZone",
        name => name,
    };
    DEFINITIONS.iter().position(|d| d.name.eq_ignore_ascii_case(name))
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

fn invalid(name: &str, text: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{name}\": \"{text}\""),
    )
}

fn parse(definition: &Definition, text: &str, initial: bool) -> Result<Value> {
    let name = definition.name;
    let value = |text: &str, number: i64| Ok(Value { text: text.into(), number });
    match definition.kind {
        Kind::Bool => match parse_bool(text) {
            Some(v) => value(if v { "on" } else { "off" }, v as i64),
            None => Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("parameter \"{name}\" requires a Boolean value"),
            )),
        },
        Kind::Int(min, max, unit) => {
            let Some(number) = parse_number(text, unit) else {
                let hint = match unit {
                    Unit::None => None,
                    Unit::Millis => Some(
                        "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".",
                    ),
                    Unit::Kilobytes | Unit::Pages => {
                        Some("Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".")
                    }
                };
                let error = invalid(name, text);
                let digits = text.trim().starts_with(|c: char| c.is_ascii_digit());
                return Err(match hint.filter(|_| digits) {
                    Some(hint) => error.hint(hint),
                    None => error,
                });
            };
            if number < min || number > max {
                let unit = match unit {
                    Unit::None => "",
                    Unit::Millis => " ms",
                    Unit::Kilobytes => " kB",
                    Unit::Pages => " 8kB",
                };
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!(
                        "{number}{unit} is outside the valid range for parameter \"{name}\" ({min} .. {max})"
                    ),
                ));
            }
            value(&show_number(number, unit), number)
        }
        Kind::Enum(values) | Kind::EnumBut(values, _) => {
            let lower = text.to_ascii_lowercase();
            // Booleans' other spellings are accepted where "on" is a value.
            let lower = match parse_bool(&lower) {
                Some(true) if values.contains(&"on") => "on".to_owned(),
                Some(false) if values.contains(&"off") => "off".to_owned(),
                _ => lower,
            };
            if let Some((_, _, shown)) = HIDDEN.iter().find(|(n, v, _)| *n == name && *v == lower) {
                return value(shown, 0);
            }
            match values.iter().position(|v| *v == lower) {
                Some(_) if matches!(definition.kind, Kind::EnumBut(_, refused) if refused == lower) => {
                    Err(SqlError::unsupported(format_args!("{name} = {text}")))
                }
                Some(position) => value(values[position], position as i64),
                None => Err(invalid(name, text).hint(format!("Available values: {}.", values.join(", ")))),
            }
        }
        Kind::Text => value(text, 0),
        Kind::List => {
            split_names(text).ok_or_else(|| invalid(name, text).detail("List syntax is invalid."))?;
            value(text, 0)
        }
        Kind::TimeZone => match time_zone(text) {
            Some(zone) => value(zone.iana_name().unwrap_or(text), 0),
            None => Err(invalid(name, text)),
        },
        Kind::DateStyle => value(&date_style(text).ok_or_else(|| invalid(name, text))??, 0),
        Kind::Encoding => match text.to_ascii_uppercase().replace(['-', '_'], "").as_str() {
            "UTF8" | "UNICODE" => value("UTF8", 0),
            _ => Err(SqlError::unsupported(format_args!("client encoding \"{text}\""))),
        },
        Kind::Only(only) => {
            let number = |text: &str| text.trim().parse::<f64>().ok();
            let same = text.eq_ignore_ascii_case(only)
                || parse_bool(text).is_some_and(|v| (if v { "on" } else { "off" }) == only)
                || number(only).is_some_and(|v| number(text) == Some(v));
            if same {
                return value(only, 0);
            }
            let shown = if text.is_empty() { "''" } else { text };
            Err(SqlError::unsupported(format_args!("{name} = {shown}")))
        }
        Kind::Fixed if initial => value(text, 0),
        Kind::Fixed => {
            Err(SqlError::new(SqlState(*b"55P02"), format!("parameter \"{name}\" cannot be changed")))
        }
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    let is = |full: &str, least: usize| text.len() >= least && full.starts_with(&text);
    match text.as_str() {
        "1" => Some(true),
        "0" => Some(false),
        _ if is("true", 1) || is("yes", 1) || is("on", 2) => Some(true),
        _ if is("false", 1) || is("no", 1) || is("off", 2) => Some(false),
        _ => None,
    }
}

/// A number with an optional unit, in the base unit.
fn parse_number(text: &str, unit: Unit) -> Option<i64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: f64 = number.trim().parse().ok()?;
    // Factors to microseconds and to bytes.
    let time = |s: &str| {
        Some(match s {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "min" => 60e6,
            "h" => 3600e6,
            "d" => 86400e6,
            _ => return None,
        })
    };
    let size = |s: &str| {
        Some(match s {
            "B" => 1.0,
            "kB" => 1024.0,
            "MB" => 1048576.0,
            "GB" => 1073741824.0,
            "TB" => 1099511627776.0,
            _ => return None,
        })
    };
    let base = match unit {
        Unit::None => 1.0,
        Unit::Millis => 1e3,
        Unit::Kilobytes => 1024.0,
        Unit::Pages => 8192.0,
    };
    let value = match (suffix, unit) {
        ("", _) => number,
        (_, Unit::None) => return None,
        (suffix, Unit::Millis) => number * time(suffix)? / base,
        (suffix, Unit::Kilobytes | Unit::Pages) => number * size(suffix)? / base,
    };
    value.is_finite().then(|| value.round() as i64)
}

/// As SHOW prints it: in the largest unit that divides the number.
fn show_number(number: i64, unit: Unit) -> String {
    let units: &[(&str, i64)] = match unit {
        Unit::None => &[],
        Unit::Millis => &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)],
        Unit::Kilobytes => &[("TB", 1 << 30), ("GB", 1 << 20), ("MB", 1 << 10), ("kB", 1)],
        Unit::Pages => &[("TB", 1 << 27), ("GB", 1 << 17), ("MB", 1 << 7)],
    };
    if number > 0
        && let Some((name, factor)) = units.iter().find(|(_, factor)| number % factor == 0)
    {
        return format!("{}{name}", number / factor);
    }
    match unit {
        Unit::Pages if number > 0 => format!("{}kB", number * 8),
        _ => number.to_string(),
    }
}

fn time_zone(text: &str) -> Option<jiff::tz::TimeZone> {
    let text = text.trim();
    if let Ok(hours) = text.parse::<f64>() {
        // A bare number counts hours east of Greenwich.
        let offset = jiff::tz::Offset::from_seconds((hours * 3600.0) as i32).ok()?;
        return Some(jiff::tz::TimeZone::fixed(offset));
    }
    match text.to_ascii_lowercase().as_str() {
        "utc" | "z" | "zulu" | "default" | "local" => Some(jiff::tz::TimeZone::UTC),
        "gmt" => jiff::tz::TimeZone::get("GMT").ok(),
        _ => jiff::tz::TimeZone::get(text).ok(),
    }
}

/// The style in full; the outer `None`: not a style at all.
fn date_style(text: &str) -> Option<Result<String>> {
    let mut order = "MDY";
    for word in text.split([',', ' ']).map(str::trim).filter(|w| !w.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "iso" | "default" => {}
            "mdy" | "us" | "noneuro" | "noneuropean" => order = "MDY",
            "dmy" | "euro" | "european" => order = "DMY",
            "ymd" => order = "YMD",
            "postgres" | "sql" | "german" => {
                return Some(Err(SqlError::unsupported(format_args!("DateStyle \"{word}\""))));
            }
            _ => return None,
        }
    }
    Some(Ok(format!("ISO, {order}")))
}

/// Names joined as `search_path` shows them: quoted where needed.
fn join_names(names: &[String]) -> String {
    let quote = |name: &String| {
        let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        // `SET search_path = 'a, b'` gives one name, as in PostgreSQL.
        if plain { name.clone() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
    };
    names.iter().map(quote).collect::<Vec<_>>().join(", ")
}

/// Splits a list of possibly quoted names.
fn split_names(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut out = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                let (at, c) = chars.next()?;
                match c {
                    '"' if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                        chars.next();
                        out.push('"');
                    }
                    '"' => break at + 1,
                    c => out.push(c),
                }
            };
            name = out;
            rest = quoted[end..].trim_start();
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            name = rest[..end].trim().to_ascii_lowercase();
            rest = &rest[end..];
            if name.is_empty() {
                return None;
            }
        }
        names.push(name);
        rest = match rest.strip_prefix(',') {
            Some(rest) if !rest.trim().is_empty() => rest.trim_start(),
            Some(_) => return None,
            None if rest.is_empty() => "",
            None => return None,
        };
    }
    Some(names)
}
