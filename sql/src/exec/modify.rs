//! INSERT, UPDATE and DELETE. Their output is what RETURNING asks for; without it, batches without
//! columns that count the rows.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::seam::BoxFuture;

use super::bulk::{self, Bulk};
use super::context::Context;
use super::filter::project;
use super::scan::read_row;
use super::writer::{TableWriter, WriteState};
use super::{Meters, Operator, Plan, PlanRef};
use crate::batch::{Batch, Column};
use crate::catalog::Oid;
use crate::expr::{EvalContext, Program};
use crate::storage::key::PREFIX_LEN;
use crate::types::{Datum, TypeKind};
use crate::{Result, SqlError, SqlState};

/// Assignments to columns, by position.
pub type Assignments = Vec<(usize, Program)>;

/// An INSERT.
pub struct InsertPlan {
    /// Table.
    pub writer: TableWriter,
    /// Source rows.
    pub input: PlanRef,
    /// Values of all the table's columns over the source row.
    pub values: Vec<Program>,
    /// ON CONFLICT.
    pub on_conflict: Option<ConflictPlan>,
    /// RETURNING.
    pub returning: Option<Vec<Program>>,
    /// Whether the source reads the table.
    pub reads_own_table: bool,
    /// `nextval` calls for each row.
    pub sequences: Vec<Oid>,
}

/// ON CONFLICT.
pub struct ConflictPlan {
    /// Arbiter.
    pub index: Option<usize>,
    /// DO UPDATE, over existing ++ proposed row; empty: DO NOTHING.
    pub assignments: Assignments,
    /// WHERE of DO UPDATE.
    pub filter: Option<Program>,
}

/// An UPDATE.
pub struct UpdatePlan {
    /// Table.
    pub writer: TableWriter,
    /// Rows: all columns, encoded primary key, further columns.
    pub input: PlanRef,
    /// A row may come more than once: only the first time counts.
    pub may_repeat: bool,
    /// New values over the input row.
    pub assignments: Assignments,
    /// RETURNING, over the new row ++ further columns.
    pub returning: Option<Vec<Program>>,
    /// `nextval` calls for each row.
    pub sequences: Vec<Oid>,
}

/// A DELETE.
pub struct DeletePlan {
    /// Table.
    pub writer: TableWriter,
    /// Rows, as for UPDATE.
    pub input: PlanRef,
    /// As for UPDATE.
    pub may_repeat: bool,
    /// RETURNING, over the old row ++ further columns.
    pub returning: Option<Vec<Program>>,
}

enum Which {
    Insert(Arc<InsertPlan>, Inserted),
    Update(Arc<UpdatePlan>),
    Delete(Arc<DeletePlan>),
}

/// What an INSERT has done. Many rows go in bulk, where nobody wants them back: a plan that returns
/// none runs to its end.
#[derive(Default)]
struct Inserted {
    rows: u64,
    bulk: Bulk,
}

struct Modify {
    which: Which,
    input: Box<dyn Operator>,
    state: WriteState,
    accounted: usize,
}

impl Plan for Arc<InsertPlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        // DO UPDATE changes rows that the statement may have inserted itself: it must not see them.
        let remembers = self.reads_own_table || self.on_conflict.is_some();
        Box::new(Modify {
            input: self.input.open(meters),
            which: Which::Insert(self.clone(), Inserted::default()),
            state: WriteState::new(remembers),
            accounted: 0,
        })
    }
}

impl Plan for Arc<UpdatePlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(Modify {
            input: self.input.open(meters),
            which: Which::Update(self.clone()),
            state: WriteState::new(true),
            accounted: 0,
        })
    }
}

impl Plan for Arc<DeletePlan> {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(Modify {
            input: self.input.open(meters),
            which: Which::Delete(self.clone()),
            state: WriteState::new(true),
            accounted: 0,
        })
    }
}

impl Operator for Modify {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let Some(batch) = self.input.next(cx).await? else {
                if let Which::Insert(plan, inserted) = &mut self.which {
                    inserted.write(plan, cx).await?;
                }
                return Ok(None);
            };
            cx.check_cancel()?;
            let batch = batch.compact();
            let out = match &mut self.which {
                Which::Insert(plan, inserted) => {
                    insert(&plan.clone(), &mut self.state, inserted, cx, &batch).await?
                }
                Which::Update(plan) => update(&plan.clone(), &mut self.state, cx, &batch).await?,
                Which::Delete(plan) => delete(&plan.clone(), &mut self.state, cx, &batch).await?,
            };
            let memory = self.state.memory();
            cx.memory.take(memory.saturating_sub(self.accounted))?;
            self.accounted = memory;
            Ok(Some(out))
        })
    }
}

/// Rows collected for RETURNING, or counted.
struct Output {
    columns: Vec<Column>,
    rows: usize,
}

impl Output {
    fn new(kinds: Option<Vec<TypeKind>>) -> Output {
        let columns = kinds.unwrap_or_default().into_iter().map(|kind| Column::new(kind, 16)).collect();
        Output { columns, rows: 0 }
    }

    fn push<'d>(&mut self, row: impl IntoIterator<Item = &'d Datum>) {
        self.rows += 1;
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(value);
        }
    }

    fn finish(self, returning: Option<&[Program]>, cx: &Context<'_>) -> Result<Batch> {
        let batch = Batch::new(self.columns.into_iter().map(Arc::new).collect(), self.rows);
        match returning {
            Some(programs) => project(programs, cx, &batch),
            None => Ok(batch),
        }
    }
}

fn table_kinds(writer: &TableWriter) -> Vec<TypeKind> {
    writer.table.columns.iter().map(|c| c.ty.kind).collect()
}

impl Inserted {
    /// Writes the rows that wait.
    async fn write(&mut self, plan: &InsertPlan, cx: &mut Context<'_>) -> Result<()> {
        if self.bulk.is_empty() {
            return Ok(());
        }
        let text = cx.eval.text.clone();
        self.bulk.write(cx.txn, &plan.writer, &text).await.map_err(|(_, error)| error)
    }
}

async fn insert(
    plan: &InsertPlan,
    state: &mut WriteState,
    inserted: &mut Inserted,
    cx: &mut Context<'_>,
    batch: &Batch,
) -> Result<Batch> {
    super::reserve_sequences(cx, &plan.sequences, batch.rows as u64).await?;
    let columns = Program::eval_all(&plan.values, cx.eval, batch)?;
    let mut row_ids = match plan.writer.hidden {
        Some(_) => cx.node.new_row_ids(batch.rows as u64).await?,
        None => 0,
    };
    let text = cx.eval.text.clone();
    let mut output = Output::new(plan.returning.as_ref().map(|_| table_kinds(&plan.writer)));
    let mut row: Vec<Datum> = Vec::new();
    for i in 0..batch.rows {
        row.clear();
        row.extend(columns.iter().map(|c| c.get(i)));
        if let Some(hidden) = plan.writer.hidden {
            row[hidden] = Datum::Int8(row_ids as i64);
            row_ids += 1;
        }
        inserted.rows += 1;
        match &plan.on_conflict {
            None if inserted.rows >= bulk::FEW && plan.returning.is_none() => {
                inserted.bulk.add(&plan.writer, &row, &text, inserted.rows)?;
                output.push(&row);
                if inserted.bulk.is_full() {
                    inserted.write(plan, cx).await?;
                }
            }
            None => {
                plan.writer.insert(cx.txn, state, &row, &text).await?;
                output.push(&row);
            }
            Some(conflict) => {
                plan.writer.check_not_null(&row, &text)?;
                if let Some(written) = insert_or(plan, conflict, state, cx, &row).await? {
                    output.push(&written);
                }
            }
        }
    }
    output.finish(plan.returning.as_deref(), cx)
}

/// INSERT … ON CONFLICT of one row; returns the row inserted or updated.
async fn insert_or(
    plan: &InsertPlan,
    conflict: &ConflictPlan,
    state: &mut WriteState,
    cx: &mut Context<'_>,
    row: &[Datum],
) -> Result<Option<Vec<Datum>>> {
    let text = cx.eval.text.clone();
    let writer = &plan.writer;
    let Some((_, primary_key)) = writer.find_conflict(cx.txn, state, row, conflict.index).await? else {
        writer.insert(cx.txn, state, row, &text).await?;
        let mut key = Vec::new();
        writer.layout.row_key(row, &mut key)?;
        state.first_change(&key);
        return Ok(Some(row.to_vec()));
    };
    if conflict.assignments.is_empty() {
        return Ok(None);
    }
    let key: Bytes = [&writer.layout.primary().prefix, &primary_key[..]].concat().into();
    if primary_key.is_empty() || state.has_changed(&key) {
        return Err(SqlError::new(
            SqlState::CARDINALITY_VIOLATION,
            "ON CONFLICT DO UPDATE command cannot affect row a second time",
        )
        .hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values."));
    }
    let Some(value) = cx.txn.get_for_update(&key).await? else {
        return Err(super::scan::dangling(&key));
    };
    let mut existing = Vec::new();
    writer.layout.row.decode(&key[PREFIX_LEN..], &value, &mut existing)?;
    let mut both = existing.clone();
    both.extend_from_slice(row);
    if let Some(filter) = &conflict.filter
        && !filter.is_true(cx.eval, &both)?
    {
        return Ok(None);
    }
    let new = assign(&conflict.assignments, &existing, &both, cx.eval)?;
    writer.update(cx.txn, state, &existing, &key, &new, &text).await?;
    state.first_change(&key);
    let mut new_key = Vec::new();
    writer.layout.row_key(&new, &mut new_key)?;
    state.first_change(&new_key);
    Ok(Some(new))
}

/// The row with assigned columns replaced.
pub fn assign(
    assignments: &Assignments,
    old: &[Datum],
    input: &[Datum],
    eval: &EvalContext,
) -> Result<Vec<Datum>> {
    let mut new = old.to_vec();
    for (column, program) in assignments {
        new[*column] = program.eval_row(eval, input)?;
    }
    Ok(new)
}

/// The whole key of the input row's table row.
fn row_key(writer: &TableWriter, input: &[Datum]) -> Option<Vec<u8>> {
    match &input[writer.table.columns.len()] {
        Datum::Bytea(primary_key) => Some([&writer.layout.primary().prefix, &primary_key[..]].concat()),
        // An outer join without a row of the table.
        _ => None,
    }
}

fn returning_kinds(writer: &TableWriter, input: &PlanRef) -> Vec<TypeKind> {
    let mut kinds = table_kinds(writer);
    kinds.extend(&input.kinds()[writer.table.columns.len() + 1..]);
    kinds
}

async fn update(
    plan: &UpdatePlan,
    state: &mut WriteState,
    cx: &mut Context<'_>,
    batch: &Batch,
) -> Result<Batch> {
    super::reserve_sequences(cx, &plan.sequences, batch.rows as u64).await?;
    let width = plan.writer.table.columns.len();
    let text = cx.eval.text.clone();
    let mut output = Output::new(plan.returning.as_ref().map(|_| returning_kinds(&plan.writer, &plan.input)));
    let mut input = Vec::new();
    for i in 0..batch.rows {
        read_row(batch, i, &mut input);
        let Some(key) = row_key(&plan.writer, &input) else { continue };
        if plan.may_repeat && !state.first_change(&key) {
            continue;
        }
        // A newer version than the one read makes this fail, and the statement runs again.
        cx.txn.get_for_update(&key).await?;
        let new = assign(&plan.assignments, &input[..width], &input, cx.eval)?;
        plan.writer.update(cx.txn, state, &input[..width], &key, &new, &text).await?;
        output.push(new.iter().chain(&input[width + 1..]));
    }
    output.finish(plan.returning.as_deref(), cx)
}

async fn delete(
    plan: &DeletePlan,
    state: &mut WriteState,
    cx: &mut Context<'_>,
    batch: &Batch,
) -> Result<Batch> {
    let width = plan.writer.table.columns.len();
    let mut output = Output::new(plan.returning.as_ref().map(|_| returning_kinds(&plan.writer, &plan.input)));
    let mut input = Vec::new();
    for i in 0..batch.rows {
        read_row(batch, i, &mut input);
        let Some(key) = row_key(&plan.writer, &input) else { continue };
        if plan.may_repeat && !state.first_change(&key) {
            continue;
        }
        cx.txn.get_for_update(&key).await?;
        plan.writer.delete(cx.txn, state, &input[..width], &key).await?;
        output.push(input[..width].iter().chain(&input[width + 1..]));
    }
    output.finish(plan.returning.as_deref(), cx)
}
