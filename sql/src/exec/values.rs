//! VALUES: rows of expressions without columns.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::{Context, Meters, Operator, Plan};
use crate::Result;
use crate::batch::{BATCH_ROWS, Batch, Column};
use crate::catalog::Oid;
use crate::expr::Program;
use crate::types::TypeKind;

/// Rows of expressions.
pub struct ValuesPlan {
    /// Rows.
    pub rows: Arc<[Vec<Program>]>,
    /// Types of the columns.
    pub kinds: Arc<[TypeKind]>,
    /// `nextval` calls in all the rows.
    pub sequences: Arc<[Oid]>,
}

struct Values {
    plan: ValuesPlan,
    next: usize,
}

impl Plan for ValuesPlan {
    fn open(&self, _: &Meters) -> Box<dyn Operator> {
        let plan = ValuesPlan {
            rows: self.rows.clone(),
            kinds: self.kinds.clone(),
            sequences: self.sequences.clone(),
        };
        Box::new(Values { plan, next: 0 })
    }
}

impl Operator for Values {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            if self.next == 0 {
                super::reserve_sequences(cx, &self.plan.sequences, 1).await?;
            }
            let count = (self.plan.rows.len() - self.next).min(BATCH_ROWS);
            if count == 0 {
                return Ok(None);
            }
            let mut columns: Vec<Column> = self.plan.kinds.iter().map(|k| Column::new(*k, count)).collect();
            for row in &self.plan.rows[self.next..self.next + count] {
                for (column, program) in columns.iter_mut().zip(row) {
                    column.push(&*program.eval_row_ref(cx.eval, &[])?);
                }
            }
            self.next += count;
            Ok(Some(Batch::new(columns.into_iter().map(Arc::new).collect(), count)))
        })
    }
}
