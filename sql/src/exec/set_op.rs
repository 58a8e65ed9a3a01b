//! INTERSECT and EXCEPT.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::row_hash::{RowTable, hash_rows};
use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::{Batch, Column};

/// INTERSECT or EXCEPT of two inputs.
pub struct SetOpPlan {
    /// Left.
    pub left: PlanRef,
    /// Right.
    pub right: PlanRef,
    /// EXCEPT rather than INTERSECT.
    pub except: bool,
    /// ALL.
    pub all: bool,
}

struct SetOp {
    left: Box<dyn Operator>,
    right: Box<dyn Operator>,
    except: bool,
    all: bool,
    /// The right side's distinct rows, then the left's too where duplicates are dropped.
    rows: RowTable,
    /// How often each row came from the right (and was not yet matched).
    counts: Vec<u64>,
    /// Whether a left row equal to it has been returned.
    returned: Vec<bool>,
    built: bool,
}

impl Plan for SetOpPlan {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(SetOp {
            left: self.left.open(meters),
            right: self.right.open(meters),
            except: self.except,
            all: self.all,
            rows: RowTable::new(self.left.kinds()),
            counts: Vec::new(),
            returned: Vec::new(),
            built: false,
        })
    }
}

impl SetOp {
    fn number(&mut self, columns: &[&Column], i: usize, hash: u64) -> usize {
        let (row, new) = self.rows.find_or_add(columns, i, hash);
        if new {
            self.counts.push(0);
            self.returned.push(false);
        }
        row
    }

    /// Whether a left row is part of the result.
    fn keep(&mut self, row: usize) -> bool {
        let matched = self.counts[row] > 0;
        if self.all {
            self.counts[row] -= matched as u64;
            matched != self.except
        } else {
            matched != self.except && !std::mem::replace(&mut self.returned[row], true)
        }
    }
}

impl Operator for SetOp {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            if !std::mem::replace(&mut self.built, true) {
                while let Some(batch) = self.right.next(cx).await? {
                    cx.check_cancel()?;
                    let batch = batch.compact();
                    let columns: Vec<&Column> = batch.columns.iter().map(Arc::as_ref).collect();
                    let hashes = hash_rows(&columns, batch.rows);
                    for (i, hash) in hashes.into_iter().enumerate() {
                        let row = self.number(&columns, i, hash);
                        self.counts[row] += 1;
                    }
                    self.rows.account(cx)?;
                }
            }
            while let Some(batch) = self.left.next(cx).await? {
                cx.check_cancel()?;
                let mut batch = batch.compact();
                let mut kept = Vec::new();
                {
                    let columns: Vec<&Column> = batch.columns.iter().map(Arc::as_ref).collect();
                    let hashes = hash_rows(&columns, batch.rows);
                    for (i, hash) in hashes.into_iter().enumerate() {
                        let row = self.number(&columns, i, hash);
                        if self.keep(row) {
                            kept.push(i as u32);
                        }
                    }
                }
                self.rows.account(cx)?;
                if !kept.is_empty() {
                    batch.selection = Some(kept);
                    return Ok(Some(batch));
                }
            }
            cx.memory.give(self.rows.accounted());
            Ok(None)
        })
    }
}
