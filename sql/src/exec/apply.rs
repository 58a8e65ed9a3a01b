//! Correlated subqueries in expressions: a subplan run for each input row gives one more column.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::nested_loop::set_slots;
use super::scan::read_row;
use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::batch::{Batch, Column};
use crate::expr::Program;
use crate::func::Builtin;
use crate::types::{Datum, Type, TypeKind};
use crate::{Result, SqlError, SqlState};

/// What is appended.
pub enum Kind {
    /// The single value.
    Scalar,
    /// Whether there is a row.
    Exists,
    /// `left op ANY/ALL (subplan)`.
    Quantified {
        /// Left side.
        left: Program,
        /// Comparison.
        operator: &'static Builtin,
        /// ALL.
        all: bool,
    },
    /// An array of the single column.
    Array(TypeKind),
}

/// An apply.
pub struct ApplyPlan {
    /// Input.
    pub input: PlanRef,
    /// Subplan.
    pub subplan: PlanRef,
    /// Slots and their values over the input row.
    pub slots: Vec<(usize, Program)>,
    /// What is appended.
    pub kind: Kind,
    /// Type of the appended column.
    pub ty: TypeKind,
}

struct Apply {
    plan: Arc<ApplyPlan>,
    meters: Meters,
    input: Box<dyn Operator>,
    /// Result of a subplan that depends on nothing: its rows' first column.
    once: Option<Vec<Datum>>,
}

impl Plan for Arc<ApplyPlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(Apply {
            plan: self.clone(),
            meters: meters.clone(),
            input: self.input.open(meters),
            once: None,
        })
    }
}

impl ApplyPlan {
    /// The subplan's first column, as far as it matters.
    async fn run(&self, meters: &Meters, cx: &mut Context<'_>) -> Result<Vec<Datum>> {
        let mut subplan = self.subplan.open(meters);
        let mut values = Vec::new();
        while let Some(batch) = subplan.next(cx).await? {
            cx.check_cancel()?;
            for i in 0..batch.len() {
                let at = batch.physical(i);
                values.push(batch.columns.first().map_or(Datum::Null, |c| c.get(at)));
            }
            match self.kind {
                Kind::Exists if !values.is_empty() => break,
                Kind::Scalar if values.len() > 1 => {
                    return Err(SqlError::new(
                        SqlState::CARDINALITY_VIOLATION,
                        "more than one row returned by a subquery used as an expression",
                    ));
                }
                _ => {}
            }
        }
        Ok(values)
    }

    fn value(&self, values: &[Datum], row: &[Datum], cx: &Context<'_>) -> Result<Datum> {
        Ok(match &self.kind {
            Kind::Scalar => values.first().cloned().unwrap_or(Datum::Null),
            Kind::Exists => Datum::Bool(!values.is_empty()),
            Kind::Array(element) => Datum::array(*element, values.to_vec()),
            Kind::Quantified { left, operator, all } => {
                let left = left.eval_row(cx.eval, row)?;
                let types: Vec<Type> = operator.args.iter().map(|kind| Type::new(*kind)).collect();
                let mut unknown = false;
                for value in values {
                    match operator.call(cx.eval, &types, &[left.clone(), value.clone()])? {
                        Datum::Bool(v) if v != *all => return Ok(Datum::Bool(v)),
                        Datum::Bool(_) => {}
                        _ => unknown = true,
                    }
                }
                if unknown { Datum::Null } else { Datum::Bool(*all) }
            }
        })
    }
}

impl Operator for Apply {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let Some(batch) = self.input.next(cx).await? else { return Ok(None) };
            let mut batch = batch.compact();
            let (plan, meters) = (self.plan.clone(), self.meters.clone());
            let mut column = Column::new(self.plan.ty, batch.rows);
            let mut row = Vec::new();
            for i in 0..batch.rows {
                read_row(&batch, i, &mut row);
                let value = if self.plan.slots.is_empty() {
                    if self.once.is_none() {
                        self.once = Some(plan.run(&meters, cx).await?);
                    }
                    plan.value(self.once.as_ref().expect("just run"), &row, cx)?
                } else {
                    set_slots(&self.plan.slots, cx, &row)?;
                    let values = plan.run(&meters, cx).await?;
                    plan.value(&values, &row, cx)?
                };
                column.push(&value);
            }
            batch.columns.push(Arc::new(column));
            Ok(Some(batch))
        })
    }
}
