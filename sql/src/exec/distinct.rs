//! DISTINCT and DISTINCT ON.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::row_hash::{RowTable, hash_rows};
use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::{Batch, Column};
use crate::expr::Program;
use crate::types::TypeKind;

/// The first row of each key.
pub struct DistinctPlan {
    /// Input.
    pub input: PlanRef,
    /// Keys; empty: whole rows.
    pub on: Arc<[Program]>,
}

struct Distinct {
    input: Box<dyn Operator>,
    on: Arc<[Program]>,
    seen: RowTable,
}

impl Plan for DistinctPlan {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        let kinds: Vec<TypeKind> = match self.on.is_empty() {
            true => self.input.kinds().to_vec(),
            false => self.on.iter().map(|p| p.ty().kind).collect(),
        };
        Box::new(Distinct {
            input: self.input.open(meters),
            on: self.on.clone(),
            seen: RowTable::new(&kinds),
        })
    }
}

impl Operator for Distinct {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            while let Some(batch) = self.input.next(cx).await? {
                cx.check_cancel()?;
                let mut batch = batch.compact();
                let keys: Vec<Arc<Column>> = match self.on.is_empty() {
                    true => batch.columns.clone(),
                    false => self.on.iter().map(|p| p.eval(cx.eval, &batch)).collect::<Result<_>>()?,
                };
                let keys: Vec<&Column> = keys.iter().map(|c| &**c).collect();
                let hashes = hash_rows(&keys, batch.rows);
                let new = (0..batch.rows).filter(|i| self.seen.find_or_add(&keys, *i, hashes[*i]).1);
                let new: Vec<u32> = new.map(|i| i as u32).collect();
                self.seen.account(cx)?;
                if !new.is_empty() {
                    batch.selection = Some(new);
                    return Ok(Some(batch));
                }
            }
            cx.memory.give(self.seen.accounted());
            Ok(None)
        })
    }
}
