//! Hash join: the right side is built, the left side probes.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;
use hashbrown::HashTable;

use super::row_hash::{Materialized, fitting_pairs, hash_rows, materialize};
use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::{BATCH_ROWS, Batch, Column};
use crate::expr::Program;
use crate::plan::physical::JoinKind;
use crate::types::TypeKind;

/// Pairs of rows that end the look-up of a probe batch for now: keys that many rows share would make
/// the square of them.
const MANY_PAIRS: usize = 64 * BATCH_ROWS;

/// A hash join.
pub struct HashJoinPlan {
    /// Kind.
    pub kind: JoinKind,
    /// Probe.
    pub left: PlanRef,
    /// Build.
    pub right: PlanRef,
    /// Keys over the left.
    pub left_keys: Vec<Program>,
    /// Keys over the right.
    pub right_keys: Vec<Program>,
    /// Over left ++ right.
    pub residual: Option<Program>,
}

struct HashJoin {
    plan: Arc<HashJoinPlan>,
    left: Box<dyn Operator>,
    right: Box<dyn Operator>,
    built: Option<Build>,
    /// What is left of the probe batch at work.
    probing: Option<Batch>,
    /// Pairs not yet returned: a piece of the probe batch and matches into both sides.
    pending: Option<Pairs>,
    left_done: bool,
    /// Where the unmatched right rows go on.
    unmatched: usize,
}

struct Build {
    rows: Materialized,
    keys: Vec<Arc<Column>>,
    /// First row of each key's chain.
    table: HashTable<u32>,
    hashes: Vec<u64>,
    /// Next row with the same key; `u32::MAX`: none.
    next: Vec<u32>,
    matched: Vec<bool>,
}

/// Row numbers of pairs of a probe batch: `u32::MAX` on the right is a row of NULLs.
struct Pairs {
    batch: Batch,
    left: Vec<u32>,
    right: Vec<u32>,
    from: usize,
}

/// In place of a right row: a row of NULLs.
pub const NONE: u32 = u32::MAX;

impl Plan for Arc<HashJoinPlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(HashJoin {
            plan: self.clone(),
            left: self.left.open(meters),
            right: self.right.open(meters),
            built: None,
            probing: None,
            pending: None,
            left_done: false,
            unmatched: 0,
        })
    }
}

impl Build {
    async fn new(plan: &HashJoinPlan, right: &mut Box<dyn Operator>, cx: &mut Context<'_>) -> Result<Build> {
        let mut rows = materialize(right, plan.right.kinds(), cx).await?;
        let columns = std::mem::take(&mut rows.columns).into_iter().map(Arc::new).collect();
        let batch = Batch::new(columns, rows.rows);
        let keys = plan.right_keys.iter().map(|p| p.eval(cx.eval, &batch)).collect::<Result<Vec<_>>>()?;
        cx.memory.take(rows.rows * 24)?;
        rows.bytes += rows.rows * 24;
        let borrowed: Vec<&Column> = keys.iter().map(Arc::as_ref).collect();
        let hashes = hash_rows(&borrowed, rows.rows);
        let mut table: HashTable<u32> = HashTable::with_capacity(rows.rows);
        let mut next = vec![NONE; rows.rows];
        // From the last row to the first, so that chains are in order.
        for row in (0..rows.rows).rev() {
            if borrowed.iter().any(|k| k.is_null(row)) {
                continue;
            }
            let equal = |other: &u32| {
                hashes[*other as usize] == hashes[row]
                    && borrowed.iter().all(|k| k.compare_rows(row, k, *other as usize).is_eq())
            };
            match table.find_mut(hashes[row], equal) {
                Some(head) => next[row] = std::mem::replace(head, row as u32),
                None => {
                    table.insert_unique(hashes[row], row as u32, |r| hashes[*r as usize]);
                }
            }
        }
        let matched = match plan.kind {
            JoinKind::Right | JoinKind::Full => vec![false; rows.rows],
            _ => Vec::new(),
        };
        drop(borrowed);
        rows.columns = batch.columns.into_iter().map(Arc::unwrap_or_clone).collect();
        Ok(Build { rows, keys, table, hashes, next, matched })
    }

    fn find(&self, keys: &[&Column], i: usize, hash: u64) -> u32 {
        if keys.iter().any(|k| k.is_null(i)) {
            return NONE;
        }
        let equal = |row: &u32| {
            self.hashes[*row as usize] == hash
                && self.keys.iter().zip(keys).all(|(own, k)| own.compare_rows(*row as usize, k, i).is_eq())
        };
        self.table.find(hash, equal).copied().unwrap_or(NONE)
    }
}

/// Left rows and right rows (or NULLs) side by side.
pub fn join_rows(
    left: &Batch,
    left_rows: &[u32],
    right: &[Column],
    right_kinds: &[TypeKind],
    right_rows: &[u32],
) -> Batch {
    let mut columns: Vec<Arc<Column>> = left.columns.iter().map(|c| Arc::new(c.gather(left_rows))).collect();
    let no_nulls = right_rows.iter().all(|r| *r != NONE);
    for (column, kind) in right.iter().zip(right_kinds) {
        columns.push(Arc::new(match no_nulls {
            true => column.gather(right_rows),
            false => {
                let mut out = Column::new(*kind, right_rows.len());
                for row in right_rows {
                    match *row {
                        NONE => out.push_null(),
                        row => out.push_from(column, row as usize),
                    }
                }
                out
            }
        }));
    }
    Batch::new(columns, left_rows.len())
}

impl HashJoin {
    /// Matches of a probe batch, residual condition included. Where there are many, the rest of the batch
    /// waits in `probing`.
    fn probe(&mut self, batch: Batch, cx: &mut Context<'_>) -> Result<Pairs> {
        let plan = self.plan.clone();
        let build = self.built.as_mut().expect("built before probing");
        let keys = plan.left_keys.iter().map(|p| p.eval(cx.eval, &batch)).collect::<Result<Vec<_>>>()?;
        let keys: Vec<&Column> = keys.iter().map(Arc::as_ref).collect();
        let hashes = hash_rows(&keys, batch.rows);
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut looked_up = batch.rows;
        for (i, hash) in hashes.into_iter().enumerate() {
            if left.len() >= MANY_PAIRS {
                looked_up = i;
                self.probing = Some(super::limit::slice(batch.clone(), i, batch.rows).compact());
                break;
            }
            let mut row = build.find(&keys, i, hash);
            let stop_at_first =
                plan.residual.is_none() && matches!(plan.kind, JoinKind::Semi | JoinKind::Anti);
            while row != NONE {
                left.push(i as u32);
                right.push(row);
                row = if stop_at_first { NONE } else { build.next[row as usize] };
            }
        }
        if let Some(residual) = &plan.residual {
            let mut kept = (Vec::new(), Vec::new());
            let mut from = 0;
            while from < left.len() {
                cx.check_cancel()?;
                let to = left.len().min(from + 4 * BATCH_ROWS);
                let (l, r) = (&left[from..to], &right[from..to]);
                let fitting = fitting_pairs(&batch.columns, l, &build.rows.columns, r);
                let (l, r) = (&l[..fitting], &r[..fitting]);
                let pairs = join_rows(&batch, l, &build.rows.columns, plan.right.kinds(), r);
                for i in residual.select(cx.eval, &pairs)? {
                    kept.0.push(l[i as usize]);
                    kept.1.push(r[i as usize]);
                }
                from += fitting;
            }
            (left, right) = kept;
        }
        if !build.matched.is_empty() {
            for row in &right {
                build.matched[*row as usize] = true;
            }
        }
        let (left, right) = extend_pairs(plan.kind, looked_up, left, right);
        Ok(Pairs { batch, left, right, from: 0 })
    }
}

/// From matching pairs in order of the left to the pairs that a kind of join returns.
pub fn extend_pairs(kind: JoinKind, rows: usize, left: Vec<u32>, right: Vec<u32>) -> (Vec<u32>, Vec<u32>) {
    match kind {
        JoinKind::Inner | JoinKind::Right => (left, right),
        JoinKind::Semi => {
            let mut left = left;
            left.dedup();
            let right = vec![NONE; left.len()];
            (left, right)
        }
        JoinKind::Anti => {
            let mut matched = left.into_iter().peekable();
            let mut unmatched = Vec::new();
            for row in 0..rows as u32 {
                let mut found = false;
                while matched.next_if_eq(&row).is_some() {
                    found = true;
                }
                if !found {
                    unmatched.push(row);
                }
            }
            let right = vec![NONE; unmatched.len()];
            (unmatched, right)
        }
        JoinKind::Left | JoinKind::Full => {
            let mut out = (Vec::with_capacity(left.len()), Vec::with_capacity(left.len()));
            let mut pairs = left.into_iter().zip(right).peekable();
            for row in 0..rows as u32 {
                let mut found = false;
                while let Some((l, r)) = pairs.next_if(|(l, _)| *l == row) {
                    found = true;
                    out.0.push(l);
                    out.1.push(r);
                }
                if !found {
                    out.0.push(row);
                    out.1.push(NONE);
                }
            }
            out
        }
    }
}

impl Operator for HashJoin {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            if self.built.is_none() {
                self.built = Some(Build::new(&self.plan, &mut self.right, cx).await?);
            }
            let only_left = matches!(self.plan.kind, JoinKind::Semi | JoinKind::Anti);
            loop {
                cx.breathe().await?;
                if let Some(pairs) = &mut self.pending {
                    let to = pairs.left.len().min(pairs.from + 4 * BATCH_ROWS);
                    let (left, right) = (&pairs.left[pairs.from..to], &pairs.right[pairs.from..to]);
                    if !left.is_empty() {
                        let build = self.built.as_ref().expect("built before probing");
                        let columns = if only_left { &[][..] } else { &build.rows.columns[..] };
                        let fitting = fitting_pairs(&pairs.batch.columns, left, columns, right);
                        let (left, right) = (&left[..fitting], &right[..fitting]);
                        let batch = join_rows(&pairs.batch, left, columns, self.plan.right.kinds(), right);
                        pairs.from += fitting;
                        return Ok(Some(batch));
                    }
                    self.pending = None;
                }
                if let Some(rest) = self.probing.take() {
                    let pairs = self.probe(rest, cx)?;
                    self.pending = Some(pairs);
                    continue;
                }
                if !self.left_done {
                    match self.left.next(cx).await? {
                        Some(batch) => {
                            let pairs = self.probe(batch.compact(), cx)?;
                            self.pending = Some(pairs);
                        }
                        None => self.left_done = true,
                    }
                    continue;
                }
                let build = self.built.as_ref().expect("built before probing");
                if let JoinKind::Right | JoinKind::Full = self.plan.kind {
                    let unmatched = (self.unmatched..build.rows.rows).filter(|r| !build.matched[*r]);
                    let rows: Vec<u32> = unmatched.take(BATCH_ROWS).map(|r| r as u32).collect();
                    if let Some(last) = rows.last() {
                        self.unmatched = *last as usize + 1;
                        let left_kinds = self.plan.left.kinds();
                        let mut columns: Vec<Arc<Column>> =
                            left_kinds.iter().map(|kind| Arc::new(nulls(*kind, rows.len()))).collect();
                        columns.extend(build.rows.gather(&rows).columns);
                        return Ok(Some(Batch::new(columns, rows.len())));
                    }
                }
                cx.memory.give(build.rows.bytes);
                return Ok(None);
            }
        })
    }
}

/// A column of NULLs.
pub fn nulls(kind: TypeKind, rows: usize) -> Column {
    let mut column = Column::new(kind, rows);
    for _ in 0..rows {
        column.push_null();
    }
    column
}
