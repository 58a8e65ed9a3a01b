//! Scans of system views.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::{Context, Meters, Operator, Plan};
use crate::batch::{Batch, Column};
use crate::catalog::system::SystemView;
use crate::expr::Program;
use crate::{Result, SqlError, SqlState};

/// A scan of a system view.
pub struct SystemScanPlan {
    /// Which.
    pub view: &'static SystemView,
    /// Positions in the view's columns.
    pub columns: Vec<usize>,
    /// Over the output columns.
    pub filter: Option<Program>,
}

struct SystemScan {
    plan: Arc<SystemScanPlan>,
    done: bool,
}

impl Plan for Arc<SystemScanPlan> {
    fn open(&self, _: &Meters) -> Box<dyn Operator> {
        Box::new(SystemScan { plan: self.clone(), done: false })
    }
}

impl Operator for SystemScan {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            if std::mem::replace(&mut self.done, true) {
                return Ok(None);
            }
            let source = cx.eval.session.catalog();
            let source = source.ok_or_else(|| SqlError::new(SqlState::INTERNAL, "no catalog to scan"))?;
            let rows = (self.plan.view.rows)(&*source);
            let mut columns: Vec<Column> = self
                .plan
                .columns
                .iter()
                .map(|c| Column::new(self.plan.view.columns[*c].1, rows.len()))
                .collect();
            for row in &rows {
                for (column, position) in columns.iter_mut().zip(&self.plan.columns) {
                    column.push(&row[*position]);
                }
            }
            let mut batch = Batch::new(columns.into_iter().map(Arc::new).collect(), rows.len());
            if let Some(filter) = &self.plan.filter
                && batch.rows > 0
            {
                filter.filter(cx.eval, &mut batch)?;
            }
            Ok((!batch.is_empty()).then_some(batch))
        })
    }
}
