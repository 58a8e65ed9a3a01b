//! The states of aggregates.

use std::sync::Arc;

use super::Accumulator;
use crate::batch::{Column, Values};
use crate::expr::EvalContext;
use crate::func::math::{add_f64, checked_f64, out_of_range};
use crate::types::numeric::Numeric;
use crate::types::{Datum, Interval, TypeKind, compare};
use crate::{Result, SqlError, SqlState};

/// A partial state from another place that does not have the form it must have.
fn malformed() -> SqlError {
    SqlError::new(SqlState::INTERNAL, "malformed partial state of an aggregate")
}

fn int_partial(d: &Datum) -> Result<i64> {
    d.as_i64().ok_or_else(malformed)
}

/// The items of a partial state made by [`pack`].
fn unpack<const N: usize>(partial: &Datum) -> Result<&[Datum; N]> {
    match partial {
        Datum::Array(a) => a.items.as_slice().try_into().map_err(|_| malformed()),
        _ => Err(malformed()),
    }
}

fn pack(items: Vec<Datum>) -> Datum {
    // The element type is not looked at: a partial state is read by its own accumulator only.
    Datum::array(TypeKind::Text, items)
}

/// `count(*)` and `count(x)`.
#[derive(Default)]
pub(super) struct Count(Vec<i64>);

impl Accumulator for Count {
    fn resize(&mut self, groups: usize) {
        self.0.resize(groups.max(self.0.len()), 0);
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        match args.first().filter(|c| c.nulls().is_some()) {
            None => groups.iter().for_each(|g| self.0[*g as usize] += 1),
            Some(c) => {
                for (i, g) in groups.iter().enumerate() {
                    self.0[*g as usize] += i64::from(!c.is_null(i));
                }
            }
        }
        Ok(())
    }

    fn update_one(&mut self, _: &EvalContext, args: &[&Column], rows: usize, group: u32) -> Result<()> {
        let nulls = args.first().and_then(|c| c.nulls());
        let nulls = nulls.map_or(0, |n| (0..rows).filter(|i| n.get(*i)).count());
        self.0[group as usize] += (rows - nulls) as i64;
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        Datum::Int8(self.0[group])
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        self.0[group] += int_partial(partial)?;
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        Ok(Datum::Int8(self.0[group]))
    }

    fn memory(&self) -> usize {
        self.0.len() * 8
    }
}

/// Sum and mean of integers: exact in 128 bits.
pub(super) struct IntSum {
    avg: bool,
    result: TypeKind,
    states: Vec<(i128, i64)>,
}

impl IntSum {
    pub(super) fn new(avg: bool, result: TypeKind) -> IntSum {
        IntSum { avg, result, states: Vec::new() }
    }
}

impl Accumulator for IntSum {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups.max(self.states.len()), (0, 0));
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        let column = args[0];
        let mut add = |i: usize, v: i64| {
            let state = &mut self.states[groups[i] as usize];
            state.0 += i128::from(v);
            state.1 += 1;
        };
        let present = (0..groups.len()).filter(|i| !column.is_null(*i));
        match column.values() {
            Values::I16(v) => present.for_each(|i| add(i, v[i].into())),
            Values::I32(v) => present.for_each(|i| add(i, v[i].into())),
            Values::I64(v) => present.for_each(|i| add(i, v[i])),
            _ => unreachable!("the aggregate is declared over integers"),
        }
        Ok(())
    }

    fn update_one(&mut self, context: &EvalContext, args: &[&Column], rows: usize, group: u32) -> Result<()> {
        let column = args[0];
        if column.nulls().is_some() {
            return self.update(context, args, &vec![group; rows]);
        }
        let sum: i128 = match column.values() {
            Values::I16(v) => v.iter().map(|x| i64::from(*x)).sum::<i64>().into(),
            // A batch is far below 2^31 rows: 64 bits hold the sum of 32-bit values.
            Values::I32(v) => v.iter().map(|x| i64::from(*x)).sum::<i64>().into(),
            Values::I64(v) => v.iter().map(|x| i128::from(*x)).sum(),
            _ => unreachable!("the aggregate is declared over integers"),
        };
        let state = &mut self.states[group as usize];
        state.0 += sum;
        state.1 += rows as i64;
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        let (sum, count) = self.states[group];
        pack(vec![Datum::numeric(Numeric::from(sum)), Datum::Int8(count)])
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        let [Datum::Numeric(sum), count] = unpack(partial)? else { return Err(malformed()) };
        let Numeric::Finite(sum) = &**sum else { return Err(malformed()) };
        let sum = i128::try_from(sum.as_bigint_and_scale().0.into_owned()).map_err(|_| malformed())?;
        self.states[group].0 += sum;
        self.states[group].1 += int_partial(count)?;
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        let (sum, count) = self.states[group];
        if count == 0 {
            return Ok(Datum::Null);
        }
        if self.avg {
            return Numeric::from(sum).div(&Numeric::from(count)).map(Datum::numeric);
        }
        match self.result {
            TypeKind::Int8 => i64::try_from(sum).map(Datum::Int8).map_err(|_| out_of_range("bigint")),
            _ => Ok(Datum::numeric(Numeric::from(sum))),
        }
    }

    fn memory(&self) -> usize {
        self.states.len() * 32
    }
}

/// Sum and mean of floats.
pub(super) struct FloatSum {
    avg: bool,
    result: TypeKind,
    states: Vec<(f64, i64)>,
}

impl FloatSum {
    pub(super) fn new(avg: bool, result: TypeKind) -> FloatSum {
        FloatSum { avg, result, states: Vec::new() }
    }

    fn add(&mut self, group: usize, value: f64) -> Result<()> {
        let state = &mut self.states[group];
        state.0 = if self.result == TypeKind::Float4 {
            // PostgreSQL keeps the sum of float4 in a float4.
            let sum = (state.0 + value) as f32;
            checked_f64(sum.into(), state.0.is_infinite() || value.is_infinite(), true)?
        } else {
            add_f64(state.0, value)?
        };
        state.1 += 1;
        Ok(())
    }
}

impl Accumulator for FloatSum {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups.max(self.states.len()), (0.0, 0));
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        let column = args[0];
        for (i, group) in groups.iter().enumerate() {
            if column.is_null(i) {
                continue;
            }
            let value = match column.values() {
                Values::F32(v) => v[i].into(),
                Values::F64(v) => v[i],
                _ => unreachable!("the aggregate is declared over floats"),
            };
            self.add(*group as usize, value)?;
        }
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        let (sum, count) = self.states[group];
        pack(vec![Datum::Float8(sum), Datum::Int8(count)])
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        let [Datum::Float8(sum), count] = unpack(partial)? else { return Err(malformed()) };
        let count = int_partial(count)?;
        self.add(group, *sum)?;
        self.states[group].1 += count - 1;
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        let (sum, count) = self.states[group];
        Ok(if count == 0 {
            Datum::Null
        } else if self.avg {
            Datum::Float8(sum / count as f64)
        } else if self.result == TypeKind::Float4 {
            Datum::Float4(sum as f32)
        } else {
            Datum::Float8(sum)
        })
    }

    fn memory(&self) -> usize {
        self.states.len() * 16
    }
}

/// Sum and mean of numerics.
pub(super) struct NumericSum {
    avg: bool,
    states: Vec<(Numeric, i64)>,
}

impl NumericSum {
    pub(super) fn new(avg: bool) -> NumericSum {
        NumericSum { avg, states: Vec::new() }
    }
}

impl Accumulator for NumericSum {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups.max(self.states.len()), (Numeric::zero(), 0));
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            if let Datum::Numeric(value) = args[0].get(i) {
                let state = &mut self.states[*group as usize];
                state.0 = state.0.add(&value)?;
                state.1 += 1;
            }
        }
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        let (sum, count) = &self.states[group];
        pack(vec![Datum::numeric(sum.clone()), Datum::Int8(*count)])
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        let [Datum::Numeric(sum), count] = unpack(partial)? else { return Err(malformed()) };
        let state = &mut self.states[group];
        state.0 = state.0.add(sum)?;
        state.1 += int_partial(count)?;
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        let (sum, count) = &self.states[group];
        if *count == 0 {
            return Ok(Datum::Null);
        }
        Ok(Datum::numeric(if self.avg { sum.div(&Numeric::from(*count))? } else { sum.clone() }))
    }

    fn memory(&self) -> usize {
        self.states.iter().map(|s| 64 + s.0.heap_size()).sum()
    }
}

/// Sum and mean of intervals.
pub(super) struct IntervalSum {
    avg: bool,
    states: Vec<(Interval, i64)>,
}

impl IntervalSum {
    pub(super) fn new(avg: bool) -> IntervalSum {
        IntervalSum { avg, states: Vec::new() }
    }
}

impl Accumulator for IntervalSum {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups.max(self.states.len()), (Interval::default(), 0));
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            if let Datum::Interval(value) = args[0].get(i) {
                let state = &mut self.states[*group as usize];
                state.0 = state.0.plus(value)?;
                state.1 += 1;
            }
        }
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        let (sum, count) = self.states[group];
        pack(vec![Datum::Interval(sum), Datum::Int8(count)])
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        let [Datum::Interval(sum), count] = unpack(partial)? else { return Err(malformed()) };
        let state = &mut self.states[group];
        state.0 = state.0.plus(*sum)?;
        state.1 += int_partial(count)?;
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        let (sum, count) = self.states[group];
        Ok(match (count, self.avg) {
            (0, _) => Datum::Null,
            (_, false) => Datum::Interval(sum),
            (_, true) => Datum::Interval(sum.divide(count as f64)?),
        })
    }

    fn memory(&self) -> usize {
        self.states.len() * 24
    }
}

/// Least and greatest value.
pub(super) struct Extreme {
    greatest: bool,
    kind: TypeKind,
    states: Vec<Datum>,
}

impl Extreme {
    pub(super) fn new(greatest: bool, kind: TypeKind) -> Extreme {
        Extreme { greatest, kind, states: Vec::new() }
    }

    fn offer(&mut self, group: usize, value: Datum) {
        let state = &mut self.states[group];
        if value.is_null() {
            return;
        }
        let better = state.is_null() || {
            let order = compare(&value, state, self.kind);
            if self.greatest { order.is_gt() } else { order.is_lt() }
        };
        if better {
            *state = value;
        }
    }
}

impl Accumulator for Extreme {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups.max(self.states.len()), Datum::Null);
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            self.offer(*group as usize, args[0].get(i));
        }
        Ok(())
    }

    fn update_one(&mut self, _: &EvalContext, args: &[&Column], rows: usize, group: u32) -> Result<()> {
        let column = args[0];
        let present = (0..rows).filter(|i| !column.is_null(*i));
        // The batch's own extreme first, then one offer.
        let pick = |a: usize, b: usize| {
            let order = column.compare_rows(b, column, a);
            let better = if self.greatest { order.is_gt() } else { order.is_lt() };
            if better { b } else { a }
        };
        if let Some(best) = present.reduce(pick) {
            self.offer(group as usize, column.get(best));
        }
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        self.states[group].clone()
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        self.offer(group, partial.clone());
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        Ok(self.states[group].clone())
    }

    fn memory(&self) -> usize {
        self.states.iter().map(|d| 24 + d.heap_size()).sum()
    }
}

/// `bool_and` and `bool_or`.
pub(super) struct BoolAgg {
    all: bool,
    states: Vec<Option<bool>>,
}

impl BoolAgg {
    pub(super) fn new(all: bool) -> BoolAgg {
        BoolAgg { all, states: Vec::new() }
    }

    fn offer(&mut self, group: usize, value: bool) {
        let state = &mut self.states[group];
        *state = Some(match *state {
            None => value,
            Some(s) if self.all => s && value,
            Some(s) => s || value,
        });
    }
}

impl Accumulator for BoolAgg {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups.max(self.states.len()), None);
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            if let Some(value) = args[0].get(i).as_bool() {
                self.offer(*group as usize, value);
            }
        }
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        self.states[group].map_or(Datum::Null, Datum::Bool)
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        if let Some(value) = partial.as_bool() {
            self.offer(group, value);
        }
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        Ok(self.partial(group))
    }

    fn memory(&self) -> usize {
        self.states.len()
    }
}

/// `bit_and` and `bit_or`.
pub(super) struct BitAgg {
    all: bool,
    kind: TypeKind,
    states: Vec<Option<i64>>,
}

impl BitAgg {
    pub(super) fn new(all: bool, kind: TypeKind) -> BitAgg {
        BitAgg { all, kind, states: Vec::new() }
    }

    fn offer(&mut self, group: usize, value: i64) {
        let state = &mut self.states[group];
        *state = Some(match *state {
            None => value,
            Some(s) if self.all => s & value,
            Some(s) => s | value,
        });
    }
}

impl Accumulator for BitAgg {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups.max(self.states.len()), None);
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            if let Some(value) = args[0].get(i).as_i64() {
                self.offer(*group as usize, value);
            }
        }
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        self.states[group].map_or(Datum::Null, Datum::Int8)
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        if let Some(value) = partial.as_i64() {
            self.offer(group, value);
        }
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        // Bits of sign-extended values fit the type they came from.
        Ok(match (self.states[group], self.kind) {
            (None, _) => Datum::Null,
            (Some(v), TypeKind::Int2) => Datum::Int2(v as i16),
            (Some(v), TypeKind::Int4) => Datum::Int4(v as i32),
            (Some(v), _) => Datum::Int8(v),
        })
    }

    fn memory(&self) -> usize {
        self.states.len() * 16
    }
}

/// `string_agg`. A state keeps its first delimiter: a merge needs it, the value does not.
#[derive(Default)]
pub(super) struct StringAgg(Vec<Option<(String, String)>>);

impl StringAgg {
    fn offer(&mut self, group: usize, delimiter: &str, value: &str) {
        match &mut self.0[group] {
            None => self.0[group] = Some((delimiter.to_owned(), value.to_owned())),
            Some((_, joined)) => {
                joined.push_str(delimiter);
                joined.push_str(value);
            }
        }
    }
}

impl Accumulator for StringAgg {
    fn resize(&mut self, groups: usize) {
        self.0.resize(groups.max(self.0.len()), None);
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            let (value, delimiter) = (args[0].get(i), args[1].get(i));
            if let Some(value) = value.as_str() {
                self.offer(*group as usize, delimiter.as_str().unwrap_or(""), value);
            }
        }
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        match &self.0[group] {
            None => Datum::Null,
            Some((delimiter, joined)) => {
                pack(vec![Datum::text(delimiter.as_str()), Datum::text(joined.as_str())])
            }
        }
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        if partial.is_null() {
            return Ok(());
        }
        let [Datum::Text(delimiter), Datum::Text(joined)] = unpack(partial)? else { return Err(malformed()) };
        self.offer(group, delimiter, joined);
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        Ok(self.0[group].as_ref().map_or(Datum::Null, |(_, joined)| Datum::text(joined.as_str())))
    }

    fn memory(&self) -> usize {
        self.0.iter().map(|s| 56 + s.as_ref().map_or(0, |s| s.1.capacity())).sum()
    }
}

/// `array_agg`.
pub(super) struct ArrayAgg {
    element: TypeKind,
    states: Vec<Option<Vec<Datum>>>,
}

impl ArrayAgg {
    pub(super) fn new(element: TypeKind) -> ArrayAgg {
        ArrayAgg { element, states: Vec::new() }
    }
}

impl Accumulator for ArrayAgg {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups.max(self.states.len()), None);
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            self.states[*group as usize].get_or_insert_default().push(args[0].get(i));
        }
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        self.states[group].as_ref().map_or(Datum::Null, |items| Datum::array(self.element, items.clone()))
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        match partial {
            Datum::Null => {}
            Datum::Array(a) => self.states[group].get_or_insert_default().extend_from_slice(&a.items),
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        Ok(self.partial(group))
    }

    fn memory(&self) -> usize {
        let item = |d: &Datum| 24 + d.heap_size();
        self.states.iter().flatten().map(|items| 24 + items.iter().map(item).sum::<usize>()).sum()
    }
}

/// Variance and standard deviation: sums of values and squares, exact for integers and numerics;
/// for floats the Youngs–Cramer recurrence, as PostgreSQL does.
pub(super) struct Variance {
    sample: bool,
    root: bool,
    float: bool,
    states: Vec<VarianceState>,
}

#[derive(Clone)]
enum VarianceState {
    Exact { count: i64, sum: Arc<Numeric>, squares: Arc<Numeric> },
    Float { count: f64, sum: f64, deviations: f64 },
}

impl Variance {
    pub(super) fn new(sample: bool, root: bool, result: TypeKind) -> Variance {
        Variance { sample, root, float: result == TypeKind::Float8, states: Vec::new() }
    }
}

impl Accumulator for Variance {
    fn resize(&mut self, groups: usize) {
        let zero = Arc::new(Numeric::zero());
        let empty = if self.float {
            VarianceState::Float { count: 0.0, sum: 0.0, deviations: 0.0 }
        } else {
            VarianceState::Exact { count: 0, sum: zero.clone(), squares: zero }
        };
        self.states.resize(groups.max(self.states.len()), empty);
    }

    fn update(&mut self, _: &EvalContext, args: &[&Column], groups: &[u32]) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            let value = args[0].get(i);
            if value.is_null() {
                continue;
            }
            match &mut self.states[*group as usize] {
                VarianceState::Exact { count, sum, squares } => {
                    let value = match value {
                        Datum::Numeric(v) => v,
                        other => Arc::new(Numeric::from(other.as_i64().expect("an integer"))),
                    };
                    *count += 1;
                    *squares = Arc::new(squares.add(&value.mul(&value)?)?);
                    *sum = Arc::new(sum.add(&value)?);
                }
                VarianceState::Float { count, sum, deviations } => {
                    let value = match value {
                        Datum::Float4(v) => v.into(),
                        Datum::Float8(v) => v,
                        _ => unreachable!("the aggregate is declared over floats"),
                    };
                    *count += 1.0;
                    *sum += value;
                    if *count > 1.0 {
                        let distance = value * *count - *sum;
                        *deviations += distance * distance / (*count * (*count - 1.0));
                        if (sum.is_infinite() || deviations.is_infinite()) && value.is_finite() {
                            return Err(crate::func::math::float_overflow());
                        }
                    }
                    if value.is_infinite() || value.is_nan() {
                        *deviations = f64::NAN;
                    }
                }
            }
        }
        Ok(())
    }

    fn partial(&self, group: usize) -> Datum {
        pack(match &self.states[group] {
            VarianceState::Exact { count, sum, squares } => {
                vec![Datum::Int8(*count), Datum::Numeric(sum.clone()), Datum::Numeric(squares.clone())]
            }
            VarianceState::Float { count, sum, deviations } => {
                vec![Datum::Float8(*count), Datum::Float8(*sum), Datum::Float8(*deviations)]
            }
        })
    }

    fn merge(&mut self, group: usize, partial: &Datum) -> Result<()> {
        match (&mut self.states[group], unpack(partial)?) {
            (
                VarianceState::Exact { count, sum, squares },
                [Datum::Int8(n), Datum::Numeric(s), Datum::Numeric(q)],
            ) => {
                *count += n;
                *sum = Arc::new(sum.add(s)?);
                *squares = Arc::new(squares.add(q)?);
            }
            (
                VarianceState::Float { count, sum, deviations },
                [Datum::Float8(n), Datum::Float8(s), Datum::Float8(d)],
            ) => {
                if *n == 0.0 {
                    return Ok(());
                }
                if *count == 0.0 {
                    (*count, *sum, *deviations) = (*n, *s, *d);
                    return Ok(());
                }
                let distance = *sum / *count - s / n;
                let total = *count + n;
                *deviations += d + *count * n * distance * distance / total;
                *sum += s;
                *count = total;
            }
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn finish(&self, group: usize) -> Result<Datum> {
        match &self.states[group] {
            VarianceState::Exact { count, sum, squares } => {
                let least = if self.sample { 2 } else { 1 };
                if *count < least {
                    return Ok(Datum::Null);
                }
                let n = Numeric::from(*count);
                // n·Σx² − (Σx)², over n² or n·(n−1).
                let above = n.mul(squares)?.sub(&sum.mul(sum)?)?;
                if above.signum() <= 0 && !matches!(above, Numeric::NaN) {
                    return Ok(Datum::numeric(Numeric::zero()));
                }
                let below = n.mul(&if self.sample { Numeric::from(*count - 1) } else { n.clone() })?;
                let variance = above.div(&below)?;
                // The root is shown with as many digits as the variance.
                let scale = variance.scale().unwrap_or(0);
                Ok(Datum::numeric(if self.root { variance.sqrt_to(scale)? } else { variance }))
            }
            VarianceState::Float { count, deviations, .. } => {
                let divisor = if self.sample { *count - 1.0 } else { *count };
                if divisor <= 0.0 {
                    return Ok(Datum::Null);
                }
                let variance = deviations / divisor;
                Ok(Datum::Float8(if self.root { variance.sqrt() } else { variance }))
            }
        }
    }

    fn memory(&self) -> usize {
        self.states.len() * 160
    }
}
