//! Set-returning functions for FROM.

use super::args::*;
use super::datetime::series;
use crate::Result;
use crate::expr::EvalContext;
use crate::types::TypeKind::{self, AnyArray, AnyElement, Int4, Int8, Text, Timestamp, TimestampTz};
use crate::types::numeric::Numeric as Num;
use crate::types::{Datum, timezone};
use crate::{SqlError, SqlState};

/// The rows of a call.
pub type Rows = Box<dyn Iterator<Item = Result<Vec<Datum>>> + Send>;

/// A set-returning function for FROM.
#[derive(Debug)]
pub struct TableFunction {
    /// Name.
    pub name: &'static str,
    /// Argument types.
    pub args: &'static [TypeKind],
    /// Output columns. `AnyElement` stands for the element type of the array argument.
    pub columns: &'static [(&'static str, TypeKind)],
    body: fn(&EvalContext, &[Datum]) -> Result<Rows>,
}

impl TableFunction {
    /// The rows for some arguments; none when an argument is NULL.
    pub fn rows(&self, context: &EvalContext, args: &[Datum]) -> Result<Rows> {
        if args.iter().any(Datum::is_null) {
            return Ok(Box::new(std::iter::empty()));
        }
        (self.body)(context, args)
    }
}

/// All set-returning functions of a name.
pub fn lookup_table_function(name: &str) -> Vec<&'static TableFunction> {
    FUNCTIONS.iter().filter(|f| f.name == name).collect()
}

/// All set-returning functions.
pub fn all_table_functions() -> impl Iterator<Item = &'static TableFunction> {
    FUNCTIONS.iter()
}

const INTERVAL: TypeKind = TypeKind::Interval;
const NUMERIC: TypeKind = TypeKind::Numeric;

macro_rules! function {
    ($name:literal, [$($arg:expr),*], [$($column:literal $kind:expr),*], $body:expr) => {
        TableFunction { name: $name, args: &[$($arg),*], columns: &[$(($column, $kind)),*], body: $body }
    };
}

static FUNCTIONS: &[TableFunction] = &[
    function!("generate_series", [Int4, Int4], ["generate_series" Int4], |_, a| {
        integers(int4(&a[0]).into(), int4(&a[1]).into(), 1, |v| Datum::Int4(v as i32))
    }),
    function!("generate_series", [Int4, Int4, Int4], ["generate_series" Int4], |_, a| {
        integers(int4(&a[0]).into(), int4(&a[1]).into(), int4(&a[2]).into(), |v| Datum::Int4(v as i32))
    }),
    function!("generate_series", [Int8, Int8], ["generate_series" Int8], |_, a| {
        integers(int8(&a[0]), int8(&a[1]), 1, Datum::Int8)
    }),
    function!("generate_series", [Int8, Int8, Int8], ["generate_series" Int8], |_, a| {
        integers(int8(&a[0]), int8(&a[1]), int8(&a[2]), Datum::Int8)
    }),
    function!("generate_series", [NUMERIC, NUMERIC], ["generate_series" NUMERIC], |_, a| {
        numerics(numeric(&a[0]), numeric(&a[1]), &Num::from(1i64))
    }),
    function!("generate_series", [NUMERIC, NUMERIC, NUMERIC], ["generate_series" NUMERIC], |_, a| {
        numerics(numeric(&a[0]), numeric(&a[1]), numeric(&a[2]))
    }),
    function!("generate_series", [Timestamp, Timestamp, INTERVAL], ["generate_series" Timestamp], |_, a| {
        series(timestamp(&a[0]), timestamp(&a[1]), interval(&a[2]), None)
    }),
    function!("generate_series", [TimestampTz, TimestampTz, INTERVAL], ["generate_series" TimestampTz], |c, a| {
        series(timestamp(&a[0]), timestamp(&a[1]), interval(&a[2]), Some(c.text.time_zone.clone()))
    }),
    function!("generate_subscripts", [AnyArray, Int4], ["generate_subscripts" Int4], |_, a| {
        let len = if int4(&a[1]) == 1 { array(&a[0]).items.len() as i64 } else { 0 };
        integers(1, len, 1, |v| Datum::Int4(v as i32))
    }),
    function!("unnest", [AnyArray], ["unnest" AnyElement], |_, a| {
        let list = array(&a[0]).clone();
        Ok(Box::new((0..list.items.len()).map(move |i| Ok(vec![list.items[i].clone()]))))
    }),
    function!("regexp_split_to_table", [Text, Text], ["regexp_split_to_table" Text], |c, a| {
        let split = super::lookup_function("regexp_split_to_array")[0];
        let list = array(&split.call(c, &[], a)?).clone();
        Ok(Box::new((0..list.items.len()).map(move |i| Ok(vec![list.items[i].clone()]))))
    }),
    function!("string_to_table", [Text, Text], ["string_to_table" Text], |c, a| {
        let split = super::lookup_function("string_to_array")[0];
        let list = array(&split.call(c, &[], a)?).clone();
        Ok(Box::new((0..list.items.len()).map(move |i| Ok(vec![list.items[i].clone()]))))
    }),
    function!("pg_partition_ancestors", [TypeKind::Regclass], ["relid" TypeKind::Regclass], |_, a| {
        // No table is a partition: each is its own only ancestor.
        Ok(Box::new(std::iter::once(Ok(vec![a[0].clone()]))))
    }),
    function!("pg_timezone_names", [], ["name" Text, "abbrev" Text, "utc_offset" INTERVAL, "is_dst" TypeKind::Bool], |c, _| {
        let now = c.clock();
        let rows = timezone::names().into_iter().filter_map(move |name| {
            let zone = timezone::by_name(&name)?;
            let offset = i64::from(timezone::offset_at(&zone, now));
            let span = crate::types::Interval { micros: offset * 1_000_000, ..Default::default() };
            Some(Ok(vec![
                Datum::text(name),
                Datum::text(timezone::abbreviation_at(&zone, now)),
                Datum::Interval(span),
                Datum::Bool(timezone::is_dst_at(&zone, now)),
            ]))
        });
        Ok(Box::new(rows))
    }),
];

fn step_is_zero() -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "step size cannot equal zero")
}

fn integers(start: i64, stop: i64, step: i64, datum: fn(i64) -> Datum) -> Result<Rows> {
    if step == 0 {
        return Err(step_is_zero());
    }
    let within = move |v: &i64| if step > 0 { *v <= stop } else { *v >= stop };
    // The successor of the last value may not exist: the series then ends.
    Ok(Box::new(
        std::iter::successors(Some(start).filter(within), move |v| v.checked_add(step).filter(within))
            .map(move |v| Ok(vec![datum(v)])),
    ))
}

fn numerics(start: &Num, stop: &Num, step: &Num) -> Result<Rows> {
    if step.is_zero() {
        return Err(step_is_zero());
    }
    for (value, what) in [(start, "start"), (stop, "stop"), (step, "step size")] {
        if !matches!(value, Num::Finite(_)) {
            let kind = if matches!(value, Num::NaN) { "NaN" } else { "infinity" };
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("{what} value cannot be {kind}").replace("step size value", "step size"),
            ));
        }
    }
    let (step, stop) = (step.clone(), stop.clone());
    let ascending = step.signum() > 0;
    let scale = start.scale().unwrap_or(0).max(step.scale().unwrap_or(0));
    let mut next = Some(start.round(scale)?);
    Ok(Box::new(std::iter::from_fn(move || {
        let value = next.take()?;
        let order = value.compare(&stop);
        if if ascending { order.is_gt() } else { order.is_lt() } {
            return None;
        }
        match value.add(&step) {
            Ok(v) => next = Some(v),
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(vec![Datum::numeric(value)]))
    })))
}
