//! Lookup join: for each left row the matching rows of a table, found by an index.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::seam::BoxFuture;
use cairn_txn::Scan;

use super::access::AccessPlan;
use super::hash_join::{extend_pairs, join_rows};
use super::scan::{Decoder, fetch_rows, read_row};
use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::{Batch, Column};
use crate::catalog::TableDesc;
use crate::expr::Program;
use crate::plan::physical::JoinKind;
use crate::storage::entry::TableLayout;
use crate::storage::key::PREFIX_LEN;
use crate::types::TypeKind;

/// A lookup join.
pub struct LookupJoinPlan {
    kind: JoinKind,
    left: PlanRef,
    layout: Arc<TableLayout>,
    access: AccessPlan,
    kinds: Vec<TypeKind>,
    decoder: Decoder,
    residual: Option<Program>,
}

impl LookupJoinPlan {
    /// Compiles a lookup join.
    pub fn new(
        kind: JoinKind,
        left: PlanRef,
        table: &TableDesc,
        access: AccessPlan,
        columns: &[usize],
        residual: Option<Program>,
    ) -> LookupJoinPlan {
        let layout = Arc::new(TableLayout::new(table));
        let decoder = Decoder::of_rows(table, &layout, columns);
        let kinds =
            columns.iter().map(|c| table.columns.get(*c).map_or(TypeKind::Bytea, |c| c.ty.kind)).collect();
        LookupJoinPlan { kind, left, layout, access, kinds, decoder, residual }
    }
}

struct LookupJoin {
    plan: Arc<LookupJoinPlan>,
    left: Box<dyn Operator>,
}

impl Plan for Arc<LookupJoinPlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(LookupJoin { plan: self.clone(), left: self.left.open(meters) })
    }
}

impl LookupJoinPlan {
    /// For each left row the keys of the rows its index entries lead to: left row numbers and keys.
    async fn keys(&self, batch: &Batch, cx: &mut Context<'_>) -> Result<(Vec<u32>, Vec<Bytes>)> {
        let index = &self.layout.indexes[self.access.index];
        let primary = self.layout.primary().prefix;
        let (mut left, mut keys) = (Vec::new(), Vec::new());
        let mut row = Vec::new();
        // Points of a unique secondary index: entries first, all at once.
        let mut points: Vec<(u32, Bytes)> = Vec::new();
        for i in 0..batch.rows {
            read_row(batch, i, &mut row);
            if self.access.unique {
                let mut key = Vec::with_capacity(32);
                if self.access.point(&self.layout, cx.eval, &row, &mut key)? {
                    match self.access.index {
                        0 => {
                            left.push(i as u32);
                            keys.push(key.into());
                        }
                        _ => points.push((i as u32, key.into())),
                    }
                }
                continue;
            }
            let Some(span) = self.access.span(&self.layout, cx.eval, &row)? else { continue };
            let mut scan = Scan { start: span.start, end: span.end, reverse: self.access.reverse };
            loop {
                cx.check_cancel()?;
                let mut failure = None;
                let next = cx
                    .txn
                    .scan(&scan, &mut |key, value| {
                        if self.access.index == 0 {
                            keys.push(Bytes::copy_from_slice(key));
                        } else {
                            match index.primary_key(&key[PREFIX_LEN..], value) {
                                Ok(primary_key) => keys.push([&primary, primary_key].concat().into()),
                                Err(error) => failure = Some(error),
                            }
                        }
                        failure.is_none()
                    })
                    .await?;
                if let Some(error) = failure {
                    return Err(error);
                }
                match next {
                    Some(next) if scan.reverse => scan.end = next,
                    Some(next) => scan.start = next,
                    None => break,
                }
            }
            left.resize(keys.len(), i as u32);
            cx.memory.take(0)?;
        }
        if !points.is_empty() {
            let entries: Vec<Bytes> = points.iter().map(|(_, key)| key.clone()).collect();
            cx.txn
                .get_many(&entries, &mut |position, value| {
                    if let Some(primary_key) = value {
                        left.push(points[position].0);
                        keys.push([&primary, primary_key].concat().into());
                    }
                })
                .await?;
        }
        Ok((left, keys))
    }

    async fn join(&self, batch: &Batch, cx: &mut Context<'_>) -> Result<Batch> {
        let (mut left, keys) = self.keys(batch, cx).await?;
        let rows = match self.access.index == 0 && self.access.unique {
            // Here a key is a guess, not something an entry led to.
            true => {
                let mut columns = self.decoder.columns(keys.len());
                let mut found = Vec::new();
                let mut failure = None;
                cx.txn
                    .get_many(&keys, &mut |position, value| {
                        if let Some(value) = value {
                            found.push(left[position]);
                            if let Err(error) = self.decoder.decode(&keys[position], value, &mut columns) {
                                failure.get_or_insert(error);
                            }
                        }
                    })
                    .await?;
                if let Some(error) = failure {
                    return Err(error);
                }
                left = found;
                Batch::new(columns.into_iter().map(Arc::new).collect(), left.len())
            }
            false => fetch_rows(cx, &keys, &self.decoder).await?,
        };
        let columns: Vec<Column> = rows.columns.into_iter().map(Arc::unwrap_or_clone).collect();
        let mut right: Vec<u32> = (0..rows.rows as u32).collect();
        if let Some(residual) = &self.residual {
            let pairs = join_rows(batch, &left, &columns, &self.kinds, &right);
            let kept = residual.select(cx.eval, &pairs)?;
            left = kept.iter().map(|i| left[*i as usize]).collect();
            right = kept;
        }
        let (left, right) = extend_pairs(self.kind, batch.rows, left, right);
        let only_left = matches!(self.kind, JoinKind::Semi | JoinKind::Anti);
        let columns = if only_left { &[][..] } else { &columns[..] };
        Ok(join_rows(batch, &left, columns, &self.kinds, &right))
    }
}

impl Operator for LookupJoin {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let plan = self.plan.clone();
            while let Some(batch) = self.left.next(cx).await? {
                cx.check_cancel()?;
                let joined = plan.join(&batch.compact(), cx).await?;
                if joined.rows > 0 {
                    return Ok(Some(joined));
                }
            }
            Ok(None)
        })
    }
}
