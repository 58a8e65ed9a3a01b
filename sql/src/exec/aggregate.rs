//! Grouping and aggregation by hash.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::row_hash::{RowTable, hash_rows};
use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::{BATCH_ROWS, Batch, Column};
use crate::expr::Program;
use crate::func::Aggregate;
use crate::func::aggregate::Accumulator;
use crate::types::{Type, TypeKind};

/// A compiled aggregate call.
pub struct Call {
    /// Which.
    pub function: &'static Aggregate,
    /// Arguments.
    pub args: Vec<Program>,
    /// Over distinct arguments.
    pub distinct: bool,
    /// FILTER.
    pub filter: Option<Program>,
    /// Result type.
    pub ty: Type,
}

/// Grouping and aggregation.
pub struct AggregatePlan {
    /// Input.
    pub input: PlanRef,
    /// Group keys.
    pub keys: Vec<Program>,
    /// Aggregates.
    pub calls: Vec<Call>,
}

struct Aggregation {
    plan: Arc<AggregatePlan>,
    input: Box<dyn Operator>,
    /// Group keys by group number.
    groups: RowTable,
    states: Vec<State>,
    accounted: usize,
    done: bool,
    next: usize,
}

/// States of one call.
struct State {
    accumulator: Box<dyn Accumulator>,
    /// For DISTINCT: (group, arguments) seen.
    seen: Option<RowTable>,
}

impl Plan for Arc<AggregatePlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        let kinds: Vec<TypeKind> = self.keys.iter().map(|p| p.ty().kind).collect();
        let states = self.calls.iter().map(|call| {
            let types: Vec<Type> = call.args.iter().map(Program::ty).collect();
            let seen = call.distinct.then(|| {
                let kinds: Vec<TypeKind> =
                    std::iter::once(TypeKind::Int8).chain(types.iter().map(|t| t.kind)).collect();
                RowTable::new(&kinds)
            });
            State { accumulator: call.function.accumulator(&types), seen }
        });
        Box::new(Aggregation {
            input: self.input.open(meters),
            groups: RowTable::new(&kinds),
            states: states.collect(),
            plan: self.clone(),
            accounted: 0,
            done: false,
            next: 0,
        })
    }
}

impl Aggregation {
    fn take(&mut self, batch: &Batch, cx: &Context<'_>) -> Result<()> {
        let plan = self.plan.clone();
        let rows = batch.rows;
        let mut group_of: Vec<u32> = Vec::new();
        if !plan.keys.is_empty() {
            let keys = plan.keys.iter().map(|p| p.eval(cx.eval, batch)).collect::<Result<Vec<_>>>()?;
            let keys: Vec<&Column> = keys.iter().map(Arc::as_ref).collect();
            let hashes = hash_rows(&keys, rows);
            group_of.extend((0..rows).map(|i| self.groups.find_or_add(&keys, i, hashes[i]).0 as u32));
        }
        let groups = if plan.keys.is_empty() { 1 } else { self.groups.len() };
        for (call, state) in plan.calls.iter().zip(&mut self.states) {
            state.accumulator.resize(groups);
            // Rows that FILTER lets through, where it does not let all.
            let narrowed = match &call.filter {
                None => None,
                Some(filter) => {
                    let selected = filter.select(cx.eval, batch)?;
                    let mut part = batch.clone();
                    part.selection = Some(selected.clone());
                    Some((part.compact(), selected))
                }
            };
            let (input, picked) = match &narrowed {
                None => (batch, None),
                Some((part, selected)) => (part, Some(selected)),
            };
            let mut args = call.args.iter().map(|p| p.eval(cx.eval, input)).collect::<Result<Vec<_>>>()?;
            let mut owners: Vec<u32> = match (picked, plan.keys.is_empty()) {
                (_, true) => Vec::new(),
                (None, false) => group_of.clone(),
                (Some(selected), false) => selected.iter().map(|i| group_of[*i as usize]).collect(),
            };
            let mut count = input.rows;
            if let Some(seen) = &mut state.seen {
                let mut owner = Column::new(TypeKind::Int8, count);
                for i in 0..count {
                    owner.push_i64(owners.get(i).copied().unwrap_or(0) as i64);
                }
                let columns: Vec<&Column> =
                    std::iter::once(&owner).chain(args.iter().map(Arc::as_ref)).collect();
                let hashes = hash_rows(&columns, count);
                let new = (0..count).filter(|i| seen.find_or_add(&columns, *i, hashes[*i]).1);
                let new: Vec<u32> = new.map(|i| i as u32).collect();
                args = args.iter().map(|c| Arc::new(c.gather(&new))).collect();
                if !owners.is_empty() {
                    owners = new.iter().map(|i| owners[*i as usize]).collect();
                }
                count = new.len();
                seen.account(cx)?;
            }
            let args: Vec<&Column> = args.iter().map(Arc::as_ref).collect();
            match plan.keys.is_empty() {
                true => state.accumulator.update_one(cx.eval, &args, count, 0)?,
                false => state.accumulator.update(cx.eval, &args, &owners)?,
            }
        }
        self.groups.account(cx)?;
        let bytes = self.states.iter().map(|s| s.accumulator.memory()).sum::<usize>();
        cx.memory.take(bytes.saturating_sub(self.accounted))?;
        self.accounted = self.accounted.max(bytes);
        Ok(())
    }
}

impl Operator for Aggregation {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            if !self.done {
                while let Some(batch) = self.input.next(cx).await? {
                    cx.check_cancel()?;
                    self.take(&batch.compact(), cx)?;
                }
                self.done = true;
            }
            let groups = if self.plan.keys.is_empty() { 1 } else { self.groups.len() };
            if self.next >= groups {
                cx.memory.give(self.accounted + self.groups.accounted());
                return Ok(None);
            }
            let end = groups.min(self.next + BATCH_ROWS);
            let rows: Vec<u32> = (self.next as u32..end as u32).collect();
            let mut columns: Vec<Arc<Column>> =
                self.groups.columns.iter().map(|c| Arc::new(c.gather(&rows))).collect();
            for (call, state) in self.plan.calls.iter().zip(&mut self.states) {
                state.accumulator.resize(groups);
                let mut column = Column::new(call.ty.kind, rows.len());
                for group in self.next..end {
                    column.push(&state.accumulator.finish(group)?);
                }
                columns.push(Arc::new(column));
            }
            self.next = end;
            Ok(Some(Batch::new(columns, rows.len())))
        })
    }
}
