//! LIMIT and OFFSET.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::batch::Batch;
use crate::expr::Program;
use crate::types::Datum;
use crate::{Result, SqlError, SqlState};

/// LIMIT and OFFSET over an input.
pub struct LimitPlan {
    /// Input.
    pub input: PlanRef,
    /// LIMIT.
    pub limit: Option<Arc<Program>>,
    /// OFFSET.
    pub offset: Option<Arc<Program>>,
}

struct Limit {
    input: Box<dyn Operator>,
    limit: Option<Arc<Program>>,
    offset: Option<Arc<Program>>,
    /// Rows to skip and (`u64::MAX`: no bound) to return yet, once evaluated.
    left: Option<(u64, u64)>,
}

impl Plan for LimitPlan {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(Limit {
            input: self.input.open(meters),
            limit: self.limit.clone(),
            offset: self.offset.clone(),
            left: None,
        })
    }
}

impl Operator for Limit {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            if self.left.is_none() {
                let skip = count(self.offset.as_deref(), cx, "OFFSET", b"2201X")?.unwrap_or(0);
                let take = count(self.limit.as_deref(), cx, "LIMIT", b"2201W")?.unwrap_or(u64::MAX);
                self.left = Some((skip, take));
            }
            let (skip, take) = self.left.as_mut().expect("just set");
            while *take > 0 {
                let Some(batch) = self.input.next(cx).await? else { return Ok(None) };
                let len = batch.len() as u64;
                if *skip >= len {
                    *skip -= len;
                    continue;
                }
                let from = *skip as usize;
                let to = len.min(from as u64 + (*take).min(len)) as usize;
                *skip = 0;
                *take -= (to - from) as u64;
                return Ok(Some(slice(batch, from, to)));
            }
            Ok(None)
        })
    }
}

fn count(program: Option<&Program>, cx: &Context<'_>, what: &str, state: &[u8; 5]) -> Result<Option<u64>> {
    let Some(program) = program else { return Ok(None) };
    match program.eval_row(cx.eval, &[])? {
        Datum::Null => Ok(None),
        value => match value.as_i64() {
            Some(n) if n >= 0 => Ok(Some(n as u64)),
            Some(_) => Err(SqlError::new(SqlState(*state), format!("{what} must not be negative"))),
            None => Err(SqlError::new(SqlState::DATATYPE_MISMATCH, format!("{what} must be an integer"))),
        },
    }
}

/// The rows `from..to` of a batch's selected rows.
pub fn slice(mut batch: Batch, from: usize, to: usize) -> Batch {
    if from == 0 && to == batch.len() {
        return batch;
    }
    batch.selection = Some((from..to).map(|i| batch.physical(i) as u32).collect());
    batch
}
