//! What text input and output depend on besides the value: the session's settings and, for
//! `regclass` and its like, names in the catalog.

use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;

/// Names of catalog objects, for input and output of the `reg…` types.
pub trait ObjectNames: Send + Sync {
    /// The relation's name as `regclass` shows it: qualified unless the search path finds it.
    fn relation_name(&self, oid: u32) -> Option<String>;
    /// Finds a relation by name, along the search path when `schema` is `None`.
    fn relation_oid(&self, schema: Option<&str>, name: &str) -> Option<u32>;
    /// A schema's name.
    fn schema_name(&self, oid: u32) -> Option<String>;
    /// A schema's OID.
    fn schema_oid(&self, name: &str) -> Option<u32>;
    /// A role's name.
    fn role_name(&self, oid: u32) -> Option<String>;
    /// A role's OID.
    fn role_oid(&self, name: &str) -> Option<u32>;
}

/// Order of the fields in a date like `02/03/2004`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateOrder {
    /// Month first.
    Mdy,
    /// Day first.
    Dmy,
    /// Year first.
    Ymd,
}

/// Settings and names that text input and output depend on. Output of dates is ISO always.
#[derive(Clone)]
pub struct TextContext {
    /// `TimeZone`.
    pub time_zone: TimeZone,
    /// Order of ambiguous dates in input (`DateStyle`).
    pub date_order: DateOrder,
    /// `extra_float_digits`: above zero (default): shortest exact; else rounded to 15 (6) digits plus it.
    pub extra_float_digits: i32,
    /// `bytea_output` is `escape` rather than `hex`.
    pub bytea_escape: bool,
    /// Start of the transaction, microseconds since 2000 in UTC: the meaning of `now` and `today`.
    pub transaction_time: i64,
    /// Catalog names, where there is a catalog.
    pub names: Option<Arc<dyn ObjectNames>>,
}

impl Default for TextContext {
    fn default() -> TextContext {
        TextContext {
            time_zone: TimeZone::UTC,
            date_order: DateOrder::Mdy,
            extra_float_digits: 1,
            bytea_escape: false,
            transaction_time: 0,
            names: None,
        }
    }
}

impl fmt::Debug for TextContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextContext")
            .field("time_zone", &self.time_zone.iana_name())
            .field("date_order", &self.date_order)
            .field("extra_float_digits", &self.extra_float_digits)
            .field("bytea_escape", &self.bytea_escape)
            .finish_non_exhaustive()
    }
}
