//! Nested loops: every pair of rows; and LATERAL, where the right side runs anew for each left row.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::hash_join::{extend_pairs, join_rows, nulls};
use super::row_hash::{Materialized, fitting_pairs, materialize};
use super::scan::read_row;
use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::{BATCH_ROWS, Batch, Column};
use crate::expr::Program;
use crate::plan::physical::JoinKind;
use crate::types::Datum;

/// A nested-loop join.
pub struct NestedLoopPlan {
    /// Kind.
    pub kind: JoinKind,
    /// Left.
    pub left: PlanRef,
    /// Right, materialized.
    pub right: PlanRef,
    /// Over left ++ right.
    pub on: Option<Program>,
}

struct NestedLoop {
    plan: Arc<NestedLoopPlan>,
    left: Box<dyn Operator>,
    right: Box<dyn Operator>,
    rows: Option<Materialized>,
    matched: Vec<bool>,
    /// The left batch at work and its next row.
    current: Option<(Batch, usize)>,
    /// Pairs not yet returned: some rows of the left batch and matches into both sides.
    pending: Option<Pairs>,
    left_done: bool,
    unmatched: usize,
}

/// Row numbers of pairs: `u32::MAX` on the right is a row of NULLs.
struct Pairs {
    part: Batch,
    left: Vec<u32>,
    right: Vec<u32>,
    from: usize,
}

impl Plan for Arc<NestedLoopPlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(NestedLoop {
            plan: self.clone(),
            left: self.left.open(meters),
            right: self.right.open(meters),
            rows: None,
            matched: Vec::new(),
            current: None,
            pending: None,
            left_done: false,
            unmatched: 0,
        })
    }
}

impl NestedLoop {
    /// Pairs of left rows of a dense batch from `from` on: as many as give about a batch of pairs.
    fn join(&mut self, batch: &Batch, from: usize, cx: &Context<'_>) -> Result<(Pairs, usize)> {
        let right = self.rows.as_ref().expect("materialized before joining");
        let per_row = right.rows.max(1);
        let to = batch.rows.min(from + (4 * BATCH_ROWS / per_row).max(1));
        let (mut left_rows, mut right_rows) = (Vec::new(), Vec::new());
        let first_only = self.plan.on.is_none() && matches!(self.plan.kind, JoinKind::Semi | JoinKind::Anti);
        let count = if first_only { right.rows.min(1) } else { right.rows };
        for l in from..to {
            left_rows.extend(std::iter::repeat_n((l - from) as u32, count));
            right_rows.extend(0..count as u32);
        }
        let part = super::limit::slice(batch.clone(), from, to).compact();
        let kinds = self.plan.right.kinds();
        if let Some(on) = &self.plan.on {
            let mut kept = (Vec::new(), Vec::new());
            // One left row may have more pairs than are wanted in memory at once.
            let mut at = 0;
            while at < left_rows.len() {
                cx.check_cancel()?;
                let to = left_rows.len().min(at + 8 * BATCH_ROWS);
                let (l, r) = (&left_rows[at..to], &right_rows[at..to]);
                let fitting = fitting_pairs(&part.columns, l, &right.columns, r);
                let (l, r) = (&l[..fitting], &r[..fitting]);
                let pairs = join_rows(&part, l, &right.columns, kinds, r);
                for i in on.select(cx.eval, &pairs)? {
                    kept.0.push(l[i as usize]);
                    kept.1.push(r[i as usize]);
                }
                at += fitting;
            }
            (left_rows, right_rows) = kept;
        }
        if !self.matched.is_empty() {
            for row in &right_rows {
                self.matched[*row as usize] = true;
            }
        }
        let (left, right) = extend_pairs(self.plan.kind, to - from, left_rows, right_rows);
        Ok((Pairs { part, left, right, from: 0 }, to))
    }

    /// The next batch of pending pairs.
    fn emit(&mut self) -> Option<Batch> {
        let pairs = self.pending.as_mut()?;
        let right = self.rows.as_ref().expect("materialized before joining");
        let to = pairs.left.len().min(pairs.from + 8 * BATCH_ROWS);
        let (l, r) = (&pairs.left[pairs.from..to], &pairs.right[pairs.from..to]);
        let only_left = matches!(self.plan.kind, JoinKind::Semi | JoinKind::Anti);
        let columns = if only_left { &[][..] } else { &right.columns[..] };
        let fitting = fitting_pairs(&pairs.part.columns, l, columns, r);
        if fitting == 0 {
            self.pending = None;
            return None;
        }
        pairs.from += fitting;
        Some(join_rows(&pairs.part, &l[..fitting], columns, self.plan.right.kinds(), &r[..fitting]))
    }
}

impl Operator for NestedLoop {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            if self.rows.is_none() {
                let rows = materialize(&mut self.right, self.plan.right.kinds(), cx).await?;
                if let JoinKind::Right | JoinKind::Full = self.plan.kind {
                    self.matched = vec![false; rows.rows];
                }
                self.rows = Some(rows);
            }
            loop {
                cx.breathe().await?;
                if let Some(joined) = self.emit() {
                    return Ok(Some(joined));
                }
                if let Some((batch, from)) = self.current.take() {
                    let (pairs, to) = self.join(&batch, from, cx)?;
                    self.pending = Some(pairs);
                    if to < batch.rows {
                        self.current = Some((batch, to));
                    }
                    continue;
                }
                if !self.left_done {
                    match self.left.next(cx).await? {
                        Some(batch) if batch.is_empty() => {}
                        Some(batch) => self.current = Some((batch.compact(), 0)),
                        None => self.left_done = true,
                    }
                    continue;
                }
                let right = self.rows.as_ref().expect("materialized before joining");
                if !self.matched.is_empty() {
                    let unmatched = (self.unmatched..right.rows).filter(|r| !self.matched[*r]);
                    let rows: Vec<u32> = unmatched.take(BATCH_ROWS).map(|r| r as u32).collect();
                    if let Some(last) = rows.last() {
                        self.unmatched = *last as usize + 1;
                        let kinds = self.plan.left.kinds();
                        let mut columns: Vec<Arc<Column>> =
                            kinds.iter().map(|kind| Arc::new(nulls(*kind, rows.len()))).collect();
                        columns.extend(right.gather(&rows).columns);
                        return Ok(Some(Batch::new(columns, rows.len())));
                    }
                }
                cx.memory.give(right.bytes);
                return Ok(None);
            }
        })
    }
}

/// A LATERAL join.
pub struct LateralPlan {
    /// Inner or Left.
    pub kind: JoinKind,
    /// Left.
    pub left: PlanRef,
    /// Right, run for each left row.
    pub right: PlanRef,
    /// Slots and their values over the left row.
    pub slots: Vec<(usize, Program)>,
    /// Over left ++ right.
    pub on: Option<Program>,
}

struct Lateral {
    plan: Arc<LateralPlan>,
    meters: Meters,
    left: Box<dyn Operator>,
    current: Option<(Batch, usize)>,
}

impl Plan for Arc<LateralPlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(Lateral {
            plan: self.clone(),
            meters: meters.clone(),
            left: self.left.open(meters),
            current: None,
        })
    }
}

/// Sets slots of the context from a row.
pub fn set_slots(slots: &[(usize, Program)], cx: &mut Context<'_>, row: &[Datum]) -> Result<()> {
    for (slot, program) in slots {
        let value = program.eval_row(cx.eval, row)?;
        cx.eval.outer[*slot] = value;
    }
    Ok(())
}

impl Operator for Lateral {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let plan = self.plan.clone();
            let mut row = Vec::new();
            loop {
                cx.check_cancel()?;
                let Some((batch, i)) = self.current.take() else {
                    match self.left.next(cx).await? {
                        Some(batch) if batch.is_empty() => {}
                        Some(batch) => self.current = Some((batch.compact(), 0)),
                        None => return Ok(None),
                    }
                    continue;
                };
                read_row(&batch, i, &mut row);
                set_slots(&plan.slots, cx, &row)?;
                let mut right = plan.right.open(&self.meters);
                let rows = materialize(&mut right, plan.right.kinds(), cx).await?;
                let part = super::limit::slice(batch.clone(), i, i + 1).compact();
                let mut right_rows: Vec<u32> = (0..rows.rows as u32).collect();
                if let Some(on) = &plan.on {
                    let zeroes = vec![0; right_rows.len()];
                    let pairs = join_rows(&part, &zeroes, &rows.columns, plan.right.kinds(), &right_rows);
                    right_rows = on.select(cx.eval, &pairs)?;
                }
                let left_rows = vec![0; right_rows.len()];
                let (l, r) = extend_pairs(plan.kind, 1, left_rows, right_rows);
                let joined = join_rows(&part, &l, &rows.columns, plan.right.kinds(), &r);
                cx.memory.give(rows.bytes);
                if i + 1 < batch.rows {
                    self.current = Some((batch, i + 1));
                }
                if joined.rows > 0 {
                    return Ok(Some(joined));
                }
            }
        })
    }
}
