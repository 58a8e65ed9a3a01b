//! Aggregate functions.
//!
//! An [`Accumulator`] holds the states of all groups of one aggregate call in one vector. Batches
//! update it, partial states merge (for aggregation spread over nodes), and each group yields its
//! value.

mod state;

use crate::Result;
use crate::batch::Column;
use crate::expr::EvalContext;
use crate::types::{Datum, Type, TypeKind};
use TypeKind::*;

use state::{
    ArrayAgg, BoolAgg, Count, Extreme, FloatSum, IntSum, IntervalSum, NumericSum, StringAgg, Variance,
};

/// What an aggregate computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateKind {
    /// Rows, or arguments that are not NULL.
    Count,
    /// Sum.
    Sum,
    /// Mean.
    Avg,
    /// Least value.
    Min,
    /// Greatest value.
    Max,
    /// Whether all are true.
    BoolAnd,
    /// Whether any is true.
    BoolOr,
    /// Bitwise and.
    BitAnd,
    /// Bitwise or.
    BitOr,
    /// Values joined by a delimiter.
    StringAgg,
    /// Values as an array.
    ArrayAgg,
    /// Sample variance.
    VarSamp,
    /// Population variance.
    VarPop,
    /// Sample standard deviation.
    StddevSamp,
    /// Population standard deviation.
    StddevPop,
}

/// An aggregate function of one signature.
#[derive(Debug)]
pub struct Aggregate {
    /// Name.
    pub name: &'static str,
    /// Argument types; empty: `count(*)`.
    pub args: &'static [TypeKind],
    /// Result type.
    pub result: TypeKind,
    /// What it computes.
    pub kind: AggregateKind,
}

/// States of one aggregate call for groups numbered from 0.
pub trait Accumulator: Send {
    /// Makes room for groups below `groups`.
    fn resize(&mut self, groups: usize);
    /// Takes a batch: row `i` of the arguments belongs to group `groups[i]`.
    fn update(&mut self, context: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()>;
    /// Takes a batch of one group; `rows` counts where there are no arguments.
    fn update_one(&mut self, context: &EvalContext, args: &[&Column], rows: usize, group: u32) -> Result<()> {
        self.update(context, args, &vec![group; rows])
    }
    /// A group's state as a datum, for [`Accumulator::merge`] elsewhere.
    fn partial(&self, group: usize) -> Datum;
    /// Merges a partial state into a group.
    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()>;
    /// A group's value.
    fn finish(&self, group: usize) -> Result<Datum>;
    /// Bytes of memory of the states, roughly.
    fn memory(&self) -> usize;
}

macro_rules! aggregates {
    ($($name:literal ($($arg:ident),*) -> $result:ident $kind:ident;)*) => {
        static AGGREGATES: &[Aggregate] = &[$(Aggregate {
            name: $name, args: &[$($arg),*], result: $result, kind: AggregateKind::$kind,
        }),*];
    };
}

aggregates! {
    "count"() -> Int8 Count;
    "count"(Any) -> Int8 Count;
    "sum"(Int2) -> Int8 Sum;
    "sum"(Int4) -> Int8 Sum;
    "sum"(Int8) -> Numeric Sum;
    "sum"(Float4) -> Float4 Sum;
    "sum"(Float8) -> Float8 Sum;
    "sum"(Numeric) -> Numeric Sum;
    "sum"(Interval) -> Interval Sum;
    "avg"(Int2) -> Numeric Avg;
    "avg"(Int4) -> Numeric Avg;
    "avg"(Int8) -> Numeric Avg;
    "avg"(Float4) -> Float8 Avg;
    "avg"(Float8) -> Float8 Avg;
    "avg"(Numeric) -> Numeric Avg;
    "avg"(Interval) -> Interval Avg;
    "min"(Int2) -> Int2 Min;
    "min"(Int4) -> Int4 Min;
    "min"(Int8) -> Int8 Min;
    "min"(Float4) -> Float4 Min;
    "min"(Float8) -> Float8 Min;
    "min"(Numeric) -> Numeric Min;
    "min"(Text) -> Text Min;
    "min"(Bpchar) -> Bpchar Min;
    "min"(Date) -> Date Min;
    "min"(Time) -> Time Min;
    "min"(Timestamp) -> Timestamp Min;
    "min"(TimestampTz) -> TimestampTz Min;
    "min"(Interval) -> Interval Min;
    "min"(Oid) -> Oid Min;
    "min"(AnyArray) -> AnyArray Min;
    "max"(Int2) -> Int2 Max;
    "max"(Int4) -> Int4 Max;
    "max"(Int8) -> Int8 Max;
    "max"(Float4) -> Float4 Max;
    "max"(Float8) -> Float8 Max;
    "max"(Numeric) -> Numeric Max;
    "max"(Text) -> Text Max;
    "max"(Bpchar) -> Bpchar Max;
    "max"(Date) -> Date Max;
    "max"(Time) -> Time Max;
    "max"(Timestamp) -> Timestamp Max;
    "max"(TimestampTz) -> TimestampTz Max;
    "max"(Interval) -> Interval Max;
    "max"(Oid) -> Oid Max;
    "max"(AnyArray) -> AnyArray Max;
    "bool_and"(Bool) -> Bool BoolAnd;
    "every"(Bool) -> Bool BoolAnd;
    "bool_or"(Bool) -> Bool BoolOr;
    "bit_and"(Int2) -> Int2 BitAnd;
    "bit_and"(Int4) -> Int4 BitAnd;
    "bit_and"(Int8) -> Int8 BitAnd;
    "bit_or"(Int2) -> Int2 BitOr;
    "bit_or"(Int4) -> Int4 BitOr;
    "bit_or"(Int8) -> Int8 BitOr;
    "string_agg"(Text, Text) -> Text StringAgg;
    "array_agg"(AnyElement) -> AnyArray ArrayAgg;
    "variance"(Int2) -> Numeric VarSamp;
    "variance"(Int4) -> Numeric VarSamp;
    "variance"(Int8) -> Numeric VarSamp;
    "variance"(Numeric) -> Numeric VarSamp;
    "variance"(Float4) -> Float8 VarSamp;
    "variance"(Float8) -> Float8 VarSamp;
    "var_samp"(Int2) -> Numeric VarSamp;
    "var_samp"(Int4) -> Numeric VarSamp;
    "var_samp"(Int8) -> Numeric VarSamp;
    "var_samp"(Numeric) -> Numeric VarSamp;
    "var_samp"(Float4) -> Float8 VarSamp;
    "var_samp"(Float8) -> Float8 VarSamp;
    "var_pop"(Int2) -> Numeric VarPop;
    "var_pop"(Int4) -> Numeric VarPop;
    "var_pop"(Int8) -> Numeric VarPop;
    "var_pop"(Numeric) -> Numeric VarPop;
    "var_pop"(Float4) -> Float8 VarPop;
    "var_pop"(Float8) -> Float8 VarPop;
    "stddev"(Int2) -> Numeric StddevSamp;
    "stddev"(Int4) -> Numeric StddevSamp;
    "stddev"(Int8) -> Numeric StddevSamp;
    "stddev"(Numeric) -> Numeric StddevSamp;
    "stddev"(Float4) -> Float8 StddevSamp;
    "stddev"(Float8) -> Float8 StddevSamp;
    "stddev_samp"(Int2) -> Numeric StddevSamp;
    "stddev_samp"(Int4) -> Numeric StddevSamp;
    "stddev_samp"(Int8) -> Numeric StddevSamp;
    "stddev_samp"(Numeric) -> Numeric StddevSamp;
    "stddev_samp"(Float4) -> Float8 StddevSamp;
    "stddev_samp"(Float8) -> Float8 StddevSamp;
    "stddev_pop"(Int2) -> Numeric StddevPop;
    "stddev_pop"(Int4) -> Numeric StddevPop;
    "stddev_pop"(Int8) -> Numeric StddevPop;
    "stddev_pop"(Numeric) -> Numeric StddevPop;
    "stddev_pop"(Float4) -> Float8 StddevPop;
    "stddev_pop"(Float8) -> Float8 StddevPop;
}

/// All aggregates of a name.
pub fn lookup_aggregate(name: &str) -> Vec<&'static Aggregate> {
    AGGREGATES.iter().filter(|a| a.name == name).collect()
}

/// All aggregates.
pub fn all_aggregates() -> impl Iterator<Item = &'static Aggregate> {
    AGGREGATES.iter()
}

impl Aggregate {
    /// States for a call whose arguments have these types (which polymorphic signatures leave open).
    pub fn accumulator(&self, args: &[Type]) -> Box<dyn Accumulator> {
        use AggregateKind as K;
        let first = args.first().map_or(Text, |t| t.kind);
        match self.kind {
            K::Count => Box::new(Count::default()),
            K::Sum | K::Avg => {
                let avg = self.kind == K::Avg;
                match first {
                    Int2 | Int4 | Int8 => Box::new(IntSum::new(avg, self.result)),
                    Float4 | Float8 => Box::new(FloatSum::new(avg, self.result)),
                    Interval => Box::new(IntervalSum::new(avg)),
                    _ => Box::new(NumericSum::new(avg)),
                }
            }
            K::Min => Box::new(Extreme::new(false, first)),
            K::Max => Box::new(Extreme::new(true, first)),
            K::BoolAnd => Box::new(BoolAgg::new(true)),
            K::BoolOr => Box::new(BoolAgg::new(false)),
            K::BitAnd => Box::new(state::BitAgg::new(true, first)),
            K::BitOr => Box::new(state::BitAgg::new(false, first)),
            K::StringAgg => Box::new(StringAgg::default()),
            K::ArrayAgg => Box::new(ArrayAgg::new(first)),
            K::VarSamp => Box::new(Variance::new(true, false, self.result)),
            K::VarPop => Box::new(Variance::new(false, false, self.result)),
            K::StddevSamp => Box::new(Variance::new(true, true, self.result)),
            K::StddevPop => Box::new(Variance::new(false, true, self.result)),
        }
    }
}
