//! Sort, and the first rows of a sort.

use std::cmp::Ordering;
use std::sync::Arc;

use cairn_kv::seam::BoxFuture;

use super::row_hash::{Materialized, materialize};
use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::{BATCH_ROWS, Batch, Column};
use crate::expr::Program;
use crate::types::TypeKind;

/// A compiled sort key.
pub struct Key {
    /// What to sort by.
    pub program: Program,
    /// Descending.
    pub descending: bool,
    /// NULLs first.
    pub nulls_first: bool,
}

/// A sort.
pub struct SortPlan {
    /// Input.
    pub input: PlanRef,
    /// Keys.
    pub keys: Arc<[Key]>,
    /// How many of the first rows are wanted.
    pub limit: Option<u64>,
}

struct Sort {
    input: Box<dyn Operator>,
    kinds: Arc<[TypeKind]>,
    keys: Arc<[Key]>,
    limit: Option<u64>,
    sorted: Option<(Materialized, Vec<u32>)>,
    next: usize,
}

impl Plan for SortPlan {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(Sort {
            input: self.input.open(meters),
            kinds: self.input.kinds().clone(),
            keys: self.keys.clone(),
            limit: self.limit,
            sorted: None,
            next: 0,
        })
    }
}

/// A top-n keeps at most this many times its limit before it throws rows away.
const SLACK: usize = 4;

impl Sort {
    async fn sort(&mut self, cx: &mut Context<'_>) -> Result<(Materialized, Vec<u32>)> {
        let limit = self.limit.and_then(|l| usize::try_from(l).ok()).filter(|l| *l <= 1 << 20);
        let Some(limit) = limit else {
            let mut all = materialize(&mut self.input, &self.kinds, cx).await?;
            cx.memory.take(all.rows * 8)?;
            let order = self.order(&mut all, cx)?;
            return Ok((all, order));
        };
        let empty = || Materialized {
            columns: self.kinds.iter().map(|kind| Column::new(*kind, 0)).collect(),
            rows: 0,
            bytes: 0,
        };
        let mut kept = empty();
        loop {
            let batch = self.input.next(cx).await?;
            cx.check_cancel()?;
            let done = batch.is_none();
            if let Some(batch) = batch {
                let batch = batch.compact();
                let bytes = batch.memory();
                cx.memory.take(bytes)?;
                kept.bytes += bytes;
                kept.rows += batch.rows;
                for (column, more) in kept.columns.iter_mut().zip(&batch.columns) {
                    column.extend(more);
                }
            }
            if done || kept.rows > (limit * SLACK).max(4 * BATCH_ROWS) {
                let mut order = self.order(&mut kept, cx)?;
                order.truncate(limit);
                if done {
                    return Ok((kept, order));
                }
                let first = kept.gather(&order);
                cx.memory.give(kept.bytes);
                kept = Materialized {
                    rows: first.rows,
                    bytes: first.memory(),
                    columns: first.columns.into_iter().map(Arc::unwrap_or_clone).collect(),
                };
                cx.memory.take(kept.bytes)?;
            }
        }
    }

    /// The rows' numbers in sorted order; equal rows keep theirs.
    fn order(&self, rows: &mut Materialized, cx: &Context<'_>) -> Result<Vec<u32>> {
        // The columns are lent to a batch, not copied.
        let columns = std::mem::take(&mut rows.columns).into_iter().map(Arc::new).collect();
        let batch = Batch::new(columns, rows.rows);
        let mut accounted = 0;
        let keys = self.keys.iter().map(|k| key_column(k, &batch, cx, &mut accounted));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let mut order: Vec<u32> = (0..rows.rows as u32).collect();
        order.sort_by(|a, b| compare(&self.keys, &keys, *a as usize, *b as usize));
        drop(keys);
        cx.memory.give(accounted);
        rows.columns = batch.columns.into_iter().map(Arc::unwrap_or_clone).collect();
        Ok(order)
    }
}

/// A key's values: a column as it is, anything else computed piece by piece, so that it is accounted
/// for before there is too much of it.
fn key_column(key: &Key, batch: &Batch, cx: &Context<'_>, accounted: &mut usize) -> Result<Arc<Column>> {
    if key.program.as_column().is_some() {
        return key.program.eval(cx.eval, batch);
    }
    let mut column = Column::new(key.program.ty().kind, 0);
    for from in (0..batch.rows).step_by(BATCH_ROWS) {
        cx.check_cancel()?;
        let to = batch.rows.min(from + BATCH_ROWS);
        let part = key.program.eval(cx.eval, &super::limit::slice(batch.clone(), from, to).compact())?;
        cx.memory.take(part.memory())?;
        *accounted += part.memory();
        column.extend(&part);
    }
    Ok(Arc::new(column))
}

fn compare(keys: &[Key], columns: &[Arc<Column>], a: usize, b: usize) -> Ordering {
    for (key, column) in keys.iter().zip(columns) {
        let order = match (column.is_null(a), column.is_null(b)) {
            (true, true) => continue,
            (true, false) if key.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if key.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let order = column.compare_rows(a, column, b);
                if key.descending { order.reverse() } else { order }
            }
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

impl Operator for Sort {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            if self.sorted.is_none() {
                let sorted = self.sort(cx).await?;
                self.sorted = Some(sorted);
            }
            let (rows, order) = self.sorted.as_ref().expect("just sorted");
            let end = order.len().min(self.next + BATCH_ROWS);
            let end = self.next + rows.fitting(&order[self.next..end]);
            if self.next == end {
                cx.memory.give(rows.bytes);
                return Ok(None);
            }
            let batch = rows.gather(&order[self.next..end]);
            self.next = end;
            Ok(Some(batch))
        })
    }
}
