//! Execution of physical plans.
//!
//! [`compile`] turns a physical plan into a [`PlanRef`] once: expressions become programs, tables
//! get their storage layouts. A `PlanRef` is immutable, shared through the plan cache, and opened
//! for each execution into a tree of [`Operator`]s. Operators are pulled, a batch at a time, own
//! their state and get everything else through the [`Context`] of the call, so that a suspended
//! portal keeps its tree between calls. Statements on single rows by key take [`direct`] instead.

mod access;
mod aggregate;
mod append;
mod apply;
pub mod bulk;
mod compile;
pub mod context;
pub mod direct;
mod distinct;
mod filter;
mod function_scan;
mod hash_join;
mod limit;
mod lock_rows;
mod lookup_join;
mod modify;
mod nested_loop;
mod row_hash;
mod scan;
mod set_op;
mod sort;
mod system_scan;
mod values;
pub mod writer;

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;
use parking_lot::Mutex;

use crate::Result;
use crate::batch::Batch;
use crate::catalog::Oid;
use crate::expr::EvalContext;
use crate::session::SqlNode;
use crate::types::TypeKind;

pub use compile::{children, collect_sequences, compile};
pub use context::{Context, Memory};

/// A running step of a plan.
pub trait Operator: Send {
    /// The next rows; `None` at the end, after which it is not called again.
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>>;
}

/// A compiled step of a plan.
trait Plan: Send + Sync {
    /// Begins an execution.
    fn open(&self, meters: &Meters) -> Box<dyn Operator>;
}

/// A compiled step with its place in the plan.
#[derive(Clone)]
pub struct PlanRef {
    plan: Arc<dyn Plan>,
    /// Number of the node, in the order in which EXPLAIN prints them.
    number: usize,
    /// Types of the output columns.
    kinds: Arc<[TypeKind]>,
}

impl PlanRef {
    /// Begins an execution of the step and those below it.
    pub fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        let operator = self.plan.open(meters);
        match &meters.0 {
            None => operator,
            Some(counts) => {
                Box::new(Metered { operator, number: self.number, counts: counts.clone(), open: false })
            }
        }
    }

    /// Types of the output columns.
    pub fn kinds(&self) -> &Arc<[TypeKind]> {
        &self.kinds
    }
}

/// What a step did, for EXPLAIN ANALYZE.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    /// Rows it returned, over all its executions.
    pub rows: u64,
    /// How often it was executed.
    pub loops: u64,
    /// Nanoseconds in it and below it.
    pub nanos: u64,
    /// Nanoseconds until its first row.
    pub first_nanos: u64,
}

/// Where steps are measured, if they are.
#[derive(Clone, Default)]
pub struct Meters(Option<Arc<Mutex<Vec<Meter>>>>);

impl Meters {
    /// Measuring `nodes` steps.
    pub fn on(nodes: usize) -> Meters {
        Meters(Some(Arc::new(Mutex::new(vec![Meter::default(); nodes]))))
    }

    /// What was measured, by node.
    pub fn read(&self) -> Vec<Meter> {
        self.0.as_ref().map(|m| m.lock().clone()).unwrap_or_default()
    }
}

struct Metered {
    operator: Box<dyn Operator>,
    number: usize,
    counts: Arc<Mutex<Vec<Meter>>>,
    open: bool,
}

impl Operator for Metered {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let clock = cx.node.db().store().env().clock.clone();
            let start = clock.monotonic_nanos();
            let batch = self.operator.next(cx).await?;
            let nanos = clock.monotonic_nanos().saturating_sub(start);
            let mut counts = self.counts.lock();
            let meter = &mut counts[self.number];
            meter.nanos += nanos;
            if !std::mem::replace(&mut self.open, true) {
                meter.loops += 1;
                meter.first_nanos += nanos;
            }
            meter.rows += batch.as_ref().map_or(0, |b| b.len() as u64);
            Ok(batch)
        })
    }
}

async fn reserve_sequences(cx: &Context<'_>, sequences: &[Oid], rows: u64) -> Result<()> {
    if sequences.is_empty() { Ok(()) } else { reserve(cx.node, cx.eval, sequences, rows).await }
}

/// Sees to it that each of `sequences` has a value for every one of `rows` rows at hand, since
/// evaluation does not wait.
pub async fn reserve(node: &Arc<SqlNode>, eval: &EvalContext, sequences: &[Oid], rows: u64) -> Result<()> {
    for (i, sequence) in sequences.iter().enumerate() {
        if sequences[..i].contains(sequence) {
            continue;
        }
        let calls = sequences[i..].iter().filter(|s| *s == sequence).count() as u64;
        let source = eval.session.catalog();
        if let Some(table) = source.and_then(|catalog| catalog.relation(*sequence)) {
            node.sequences.reserve(node.db(), &table, calls * rows).await?;
        }
    }
    Ok(())
}
