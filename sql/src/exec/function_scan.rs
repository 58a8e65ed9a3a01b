//! Set-returning functions in FROM.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::{Context, Meters, Operator, Plan};
use crate::Result;
use crate::batch::{BATCH_ROWS, Batch, Column};
use crate::expr::Program;
use crate::func::TableFunction;
use crate::types::{Datum, TypeKind};

/// A function in FROM.
pub struct FunctionScanPlan {
    /// Which.
    pub function: &'static TableFunction,
    /// Arguments.
    pub args: Vec<Program>,
    /// Types of the output.
    pub kinds: Arc<[TypeKind]>,
}

type Rows = Box<dyn Iterator<Item = Result<Vec<Datum>>> + Send>;

struct FunctionScan {
    plan: Arc<FunctionScanPlan>,
    rows: Option<Rows>,
}

impl Plan for Arc<FunctionScanPlan> {
    fn open(&self, _: &Meters) -> Box<dyn Operator> {
        Box::new(FunctionScan { plan: self.clone(), rows: None })
    }
}

impl Operator for FunctionScan {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            cx.breathe().await?;
            if self.rows.is_none() {
                let args = self.plan.args.iter().map(|p| p.eval_row(cx.eval, &[]));
                let args = args.collect::<Result<Vec<_>>>()?;
                self.rows = Some(self.plan.function.rows(cx.eval, &args)?);
            }
            let rows = self.rows.as_mut().expect("just made");
            let mut columns: Vec<Column> = self.plan.kinds.iter().map(|k| Column::new(*k, 64)).collect();
            let mut count = 0;
            for row in rows.take(BATCH_ROWS) {
                for (column, value) in columns.iter_mut().zip(row?) {
                    column.push(&value);
                }
                count += 1;
            }
            Ok((count > 0).then(|| Batch::new(columns.into_iter().map(Arc::new).collect(), count)))
        })
    }
}
