//! Lookup join: for each left row the matching rows of a table, found by an index.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::seam::BoxFuture;
use cairn_txn::Scan;

use super::access::AccessPlan;
use super::hash_join::{NONE, join_rows};
use super::scan::{Decoder, dangling, fetch, read_row};
use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::{Batch, Column};
use crate::catalog::TableDesc;
use crate::expr::Program;
use crate::plan::physical::JoinKind;
use crate::storage::entry::TableLayout;
use crate::storage::key::PREFIX_LEN;
use crate::types::TypeKind;

/// Rows that are found before they are fetched.
const FIND_ROWS: usize = 4096;

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
    probe: Option<Probe>,
}

/// A left batch at work. Its matches are fetched in pieces: one left row may have more of them, or
/// larger ones, than are wanted in memory at once.
struct Probe {
    batch: Batch,
    /// The left row whose matches are looked for next; those before it have theirs.
    row: usize,
    /// Where its index entries go on, if some have been found.
    rest: Option<Scan>,
    /// Rows that were found: of which left row they are matches, and their keys.
    left: Vec<u32>,
    keys: Vec<Bytes>,
    /// Those before it are fetched.
    fetched: usize,
    /// The first left row of which the last piece may not have had all matches.
    unsettled: usize,
    /// Whether it has had one.
    matched: bool,
}

impl Plan for Arc<LookupJoinPlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(LookupJoin { plan: self.clone(), left: self.left.open(meters), probe: None })
    }
}

impl Probe {
    fn new(batch: Batch) -> Probe {
        Probe {
            batch,
            row: 0,
            rest: None,
            left: Vec::new(),
            keys: Vec::new(),
            fetched: 0,
            unsettled: 0,
            matched: false,
        }
    }

    fn is_done(&self) -> bool {
        self.row == self.batch.rows && self.fetched == self.keys.len()
    }

    /// Finds the next rows that index entries lead to.
    async fn find(&mut self, plan: &LookupJoinPlan, cx: &mut Context<'_>) -> Result<()> {
        let index = &plan.layout.indexes[plan.access.index];
        let primary = plan.layout.primary().prefix;
        let (left, keys) = (&mut self.left, &mut self.keys);
        left.clear();
        keys.clear();
        self.fetched = 0;
        let mut row = Vec::new();
        // Points of a unique secondary index: entries first, all at once.
        let mut points: Vec<(u32, Bytes)> = Vec::new();
        while self.row < self.batch.rows && keys.len() + points.len() < FIND_ROWS {
            cx.check_cancel()?;
            let number = self.row as u32;
            if plan.access.unique {
                read_row(&self.batch, self.row, &mut row);
                self.row += 1;
                let mut key = Vec::with_capacity(32);
                if plan.access.point(&plan.layout, cx.eval, &row, &mut key)? {
                    match plan.access.index {
                        0 => {
                            left.push(number);
                            keys.push(key.into());
                        }
                        _ => points.push((number, key.into())),
                    }
                }
                continue;
            }
            let scan = match self.rest.take() {
                Some(rest) => Some(rest),
                None => {
                    read_row(&self.batch, self.row, &mut row);
                    let span = plan.access.span(&plan.layout, cx.eval, &row)?;
                    span.map(|span| Scan { start: span.start, end: span.end, reverse: plan.access.reverse })
                }
            };
            let Some(mut scan) = scan else {
                self.row += 1;
                continue;
            };
            let mut failure = None;
            let next = cx
                .txn
                .scan(&scan, &mut |key, value| {
                    if plan.access.index == 0 {
                        keys.push(Bytes::copy_from_slice(key));
                    } else {
                        match index.primary_key(&key[PREFIX_LEN..], value) {
                            Ok(primary_key) => keys.push([&primary, primary_key].concat().into()),
                            Err(error) => failure = Some(error),
                        }
                    }
                    failure.is_none() && keys.len() < FIND_ROWS
                })
                .await?;
            if let Some(error) = failure {
                return Err(error);
            }
            left.resize(keys.len(), number);
            match next {
                None => self.row += 1,
                Some(next) => {
                    if scan.reverse {
                        scan.end = next;
                    } else {
                        scan.start = next;
                    }
                    self.rest = Some(scan);
                }
            }
        }
        if !points.is_empty() {
            let entries: Vec<Bytes> = points.iter().map(|(_, key)| key.clone()).collect();
            cx.txn
                .get_many(&entries, &mut |position, value| {
                    if let Some(primary_key) = value {
                        left.push(points[position].0);
                        keys.push([&primary, primary_key].concat().into());
                    }
                    true
                })
                .await?;
        }
        Ok(())
    }

    /// Fetches rows up to about a batch's bytes of pairs; returns the left row of each, and them.
    async fn fetch(
        &mut self,
        plan: &LookupJoinPlan,
        cx: &mut Context<'_>,
    ) -> Result<(Vec<u32>, Vec<Column>)> {
        let (left, keys) = (&self.left[self.fetched..], &self.keys[self.fetched..]);
        // Otherwise a key is not a guess but something that an entry led to.
        let guessed = plan.access.index == 0 && plan.access.unique;
        let varying: Vec<&Column> =
            self.batch.columns.iter().map(Arc::as_ref).filter(|c| c.varies()).collect();
        let mut columns = plan.decoder.columns(keys.len());
        let mut found = Vec::with_capacity(keys.len());
        let fetched = fetch(cx, keys, |position, value| match value {
            Some(value) => {
                let row = left[position];
                found.push(row);
                plan.decoder.decode(&keys[position], value, &mut columns)?;
                Ok(value.len() + varying.iter().map(|c| c.heap_size(row as usize)).sum::<usize>())
            }
            None if guessed => Ok(0),
            None => Err(dangling(&keys[position])),
        })
        .await?;
        self.fetched += fetched;
        Ok((found, columns))
    }

    /// The next piece of the join; it may be empty.
    async fn piece(&mut self, plan: &LookupJoinPlan, cx: &mut Context<'_>) -> Result<Batch> {
        if self.fetched == self.keys.len() {
            self.find(plan, cx).await?;
        }
        let (mut left, columns) = self.fetch(plan, cx).await?;
        let mut right: Vec<u32> = (0..left.len() as u32).collect();
        if let Some(residual) = &plan.residual {
            let pairs = join_rows(&self.batch, &left, &columns, &plan.kinds, &right);
            let kept = residual.select(cx.eval, &pairs)?;
            left = kept.iter().map(|i| left[*i as usize]).collect();
            right = kept;
        }
        let (left, right) = self.settle(plan.kind, left, right);
        let only_left = matches!(plan.kind, JoinKind::Semi | JoinKind::Anti);
        let columns = if only_left { &[][..] } else { &columns[..] };
        Ok(join_rows(&self.batch, &left, columns, &plan.kinds, &right))
    }

    /// From matching pairs, in order of the left, to those that the kind of join returns.
    fn settle(&mut self, kind: JoinKind, left: Vec<u32>, right: Vec<u32>) -> (Vec<u32>, Vec<u32>) {
        // The first left row that further matches may be found for.
        let open = self.left.get(self.fetched).map_or(self.row, |row| *row as usize);
        let mut out = (Vec::with_capacity(left.len()), Vec::with_capacity(left.len()));
        let mut put = |left: u32, right: u32| {
            out.0.push(left);
            out.1.push(right);
        };
        let mut pairs = left.into_iter().zip(right).peekable();
        for row in self.unsettled..=open {
            while let Some((left, right)) = pairs.next_if(|(left, _)| *left as usize == row) {
                match kind {
                    JoinKind::Semi if !self.matched => put(left, NONE),
                    JoinKind::Semi | JoinKind::Anti => {}
                    JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full => put(left, right),
                }
                self.matched = true;
            }
            if row < open {
                let outer = matches!(kind, JoinKind::Left | JoinKind::Full | JoinKind::Anti);
                if outer && !self.matched {
                    put(row as u32, NONE);
                }
                self.matched = false;
            }
        }
        self.unsettled = open;
        out
    }
}

impl Operator for LookupJoin {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let plan = self.plan.clone();
            loop {
                let Some(probe) = &mut self.probe else {
                    let Some(batch) = self.left.next(cx).await? else { return Ok(None) };
                    self.probe = Some(Probe::new(batch.compact()));
                    continue;
                };
                cx.check_cancel()?;
                let joined = probe.piece(&plan, cx).await?;
                if probe.is_done() {
                    self.probe = None;
                }
                if joined.rows > 0 {
                    return Ok(Some(joined));
                }
            }
        })
    }
}
