//! Filter and projection.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::Batch;
use crate::expr::Program;

/// Keeps rows whose predicate is true.
pub struct FilterPlan {
    /// Input.
    pub input: PlanRef,
    /// Predicate.
    pub predicate: Arc<Program>,
}

struct Filter {
    input: Box<dyn Operator>,
    predicate: Arc<Program>,
}

impl Plan for FilterPlan {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(Filter { input: self.input.open(meters), predicate: self.predicate.clone() })
    }
}

impl Operator for Filter {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            while let Some(mut batch) = self.input.next(cx).await? {
                self.predicate.filter(cx.eval, &mut batch)?;
                if !batch.is_empty() {
                    return Ok(Some(batch));
                }
                cx.check_cancel()?;
            }
            Ok(None)
        })
    }
}

/// Computes expressions.
pub struct ProjectPlan {
    /// Input.
    pub input: PlanRef,
    /// One for each output column.
    pub exprs: Arc<[Program]>,
    /// `nextval` calls for each row.
    pub sequences: Arc<[crate::catalog::Oid]>,
}

struct Project {
    input: Box<dyn Operator>,
    exprs: Arc<[Program]>,
    sequences: Arc<[crate::catalog::Oid]>,
}

impl Plan for ProjectPlan {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(Project {
            input: self.input.open(meters),
            exprs: self.exprs.clone(),
            sequences: self.sequences.clone(),
        })
    }
}

impl Operator for Project {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let Some(batch) = self.input.next(cx).await? else { return Ok(None) };
            super::reserve_sequences(cx, &self.sequences, batch.len() as u64).await?;
            project(&self.exprs, cx, &batch).map(Some)
        })
    }
}

/// Evaluates programs over a batch's selected rows.
pub fn project(exprs: &[Program], cx: &Context<'_>, batch: &Batch) -> Result<Batch> {
    Ok(Batch::new(Program::eval_all(exprs, cx.eval, batch)?, batch.len()))
}
