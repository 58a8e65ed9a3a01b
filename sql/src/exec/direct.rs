//! Statements on single rows by key: no operators, no batches. The plan's expressions run as the
//! same programs that batches use, over one row; buffers live with the session.

use std::sync::Arc;

use cairn_kv::encoding;

use super::Context;
use super::access::AccessPlan;
use super::modify::{Assignments, assign};
use super::writer::{TableWriter, WriteState};
use crate::catalog::{Oid, TableDesc};
use crate::expr::{Program, Scalar};
use crate::plan::physical::{Node, Op};
use crate::plan::{Direct, QueryPlan};
use crate::storage::entry::TableLayout;
use crate::storage::key::{self, PREFIX_LEN};
use crate::storage::row::{Place, RowReader};
use crate::types::{Datum, TypeKind};
use crate::{Result, SqlError, SqlState};

/// A compiled direct plan.
pub enum DirectPlan {
    /// SELECT by primary key.
    Read(PointRead),
    /// UPDATE by primary key.
    Update(PointUpdate),
    /// DELETE by primary key.
    Delete(PointDelete),
    /// INSERT of one row.
    Insert(InsertRow),
}

/// Buffers of a session.
#[derive(Default)]
pub struct Scratch {
    key: Vec<u8>,
    row: Vec<Datum>,
    out: Vec<Datum>,
}

/// SELECT by primary key.
pub struct PointRead {
    layout: Arc<TableLayout>,
    access: AccessPlan,
    decoder: RowDecoder,
    filter: Option<Program>,
    exprs: Option<Vec<Program>>,
}

/// UPDATE by primary key.
pub struct PointUpdate {
    writer: TableWriter,
    access: AccessPlan,
    filter: Option<Program>,
    assignments: Assignments,
    returning: Option<Vec<Program>>,
}

/// DELETE by primary key.
pub struct PointDelete {
    writer: TableWriter,
    access: AccessPlan,
    filter: Option<Program>,
    returning: Option<Vec<Program>>,
}

/// INSERT of one row.
pub struct InsertRow {
    writer: TableWriter,
    /// Values of the source row, and of the table's columns over it.
    source: Vec<Program>,
    values: Vec<Program>,
    returning: Option<Vec<Program>>,
    sequences: Vec<Oid>,
}

/// Decodes wanted columns of one row into data.
struct RowDecoder {
    /// For each key element up to the last one wanted: its type and where it goes.
    key: Vec<(TypeKind, Option<usize>)>,
    /// Stored columns and where they go.
    values: Vec<(usize, usize)>,
    primary_key: Option<usize>,
    width: usize,
}

impl RowDecoder {
    fn new(table: &TableDesc, layout: &TableLayout, columns: &[usize]) -> RowDecoder {
        let mut key: Vec<(TypeKind, Option<usize>)> =
            layout.primary().columns.iter().map(|c| (c.kind, None)).collect();
        let (mut values, mut primary_key) = (Vec::new(), None);
        for (out, column) in columns.iter().enumerate() {
            if *column == table.columns.len() {
                primary_key = Some(out);
                continue;
            }
            match layout.row.place(*column) {
                Place::Key(n) if key[n].1.is_none() => key[n].1 = Some(out),
                // The same column twice: plans do not have it, but it would be right.
                Place::Key(n) => key.push((key[n].0, Some(out))),
                _ => values.push((*column, out)),
            }
        }
        while key.last().is_some_and(|(_, out)| out.is_none()) {
            key.pop();
        }
        RowDecoder { key, values, primary_key, width: columns.len() }
    }

    fn decode(&self, layout: &TableLayout, key: &[u8], value: &[u8], row: &mut Vec<Datum>) -> Result<()> {
        row.clear();
        row.resize(self.width, Datum::Null);
        let mut rest = &key[PREFIX_LEN..];
        for (kind, out) in &self.key {
            match out {
                Some(out) => row[*out] = key::take_datum(&mut rest, *kind)?,
                None => encoding::skip(&mut rest).map_err(key::corrupt)?,
            }
        }
        if !self.values.is_empty() {
            let reader = RowReader::new(&layout.row, value)?;
            for (column, out) in &self.values {
                row[*out] = reader.datum(*column)?;
            }
        }
        if let Some(out) = self.primary_key {
            row[out] = Datum::Bytea(key[PREFIX_LEN..].into());
        }
        Ok(())
    }
}

/// The scan under filters and projections, with its filter; `None`: another shape.
fn find_scan(node: &Node) -> Option<(&Node, Vec<&Scalar>)> {
    match &node.op {
        Op::TableScan { filter, .. } => Some((node, filter.iter().collect())),
        Op::Filter { input, predicate } => {
            let (scan, mut filters) = find_scan(input)?;
            filters.push(predicate);
            Some((scan, filters))
        }
        _ => None,
    }
}

fn conjunction(filters: Vec<&Scalar>) -> Result<Option<Program>> {
    match filters.as_slice() {
        [] => Ok(None),
        [one] => Program::compile(one).map(Some),
        many => Program::compile(&Scalar::And(many.iter().map(|s| (*s).clone()).collect())).map(Some),
    }
}

fn is_key_access(scan: &Node) -> bool {
    matches!(&scan.op, Op::TableScan { table, access, .. }
        if access.index == 0 && access.unique && access.prefix.len() == table.indexes[0].columns.len())
}

fn programs(scalars: &Option<Vec<Scalar>>) -> Result<Option<Vec<Program>>> {
    scalars.as_ref().map(Program::compile_all).transpose()
}

impl DirectPlan {
    /// Compiles a plan that the optimizer marked, if it has the shape expected.
    pub fn new(plan: &QueryPlan) -> Result<Option<DirectPlan>> {
        match plan.direct {
            None => Ok(None),
            Some(Direct::PointRead) => Self::read(&plan.root),
            Some(Direct::UpdateByKey) => Self::update(&plan.root),
            Some(Direct::DeleteByKey) => Self::delete(&plan.root),
            Some(Direct::InsertRow) => Self::insert(&plan.root),
        }
    }

    fn read(root: &Node) -> Result<Option<DirectPlan>> {
        let (node, exprs) = match &root.op {
            Op::Project { input, exprs } => (&**input, Some(exprs)),
            _ => (root, None),
        };
        let Some((scan, filters)) = find_scan(node).filter(|(scan, _)| is_key_access(scan)) else {
            return Ok(None);
        };
        let Op::TableScan { table, access, columns, .. } = &scan.op else { return Ok(None) };
        let layout = Arc::new(TableLayout::new(table));
        let decoder = RowDecoder::new(table, &layout, columns);
        Ok(Some(DirectPlan::Read(PointRead {
            access: AccessPlan::new(access)?,
            decoder,
            filter: conjunction(filters)?,
            exprs: exprs.map(Program::compile_all).transpose()?,
            layout,
        })))
    }

    /// The scan below an UPDATE or DELETE: it must read all columns in order and the key.
    fn target(input: &Node) -> Result<Option<(AccessPlan, Option<Program>)>> {
        let Some((scan, filters)) = find_scan(input).filter(|(scan, _)| is_key_access(scan)) else {
            return Ok(None);
        };
        let Op::TableScan { table, access, columns, .. } = &scan.op else { return Ok(None) };
        if !columns.iter().copied().eq(0..=table.columns.len()) {
            return Ok(None);
        }
        Ok(Some((AccessPlan::new(access)?, conjunction(filters)?)))
    }

    fn update(root: &Node) -> Result<Option<DirectPlan>> {
        let Op::Update { table, input, assignments, returning } = &root.op else { return Ok(None) };
        let Some((access, filter)) = Self::target(input)? else { return Ok(None) };
        let assignments = assignments
            .iter()
            .map(|a| Ok((a.column, Program::compile(&a.value)?)))
            .collect::<Result<Assignments>>()?;
        Ok(Some(DirectPlan::Update(PointUpdate {
            writer: TableWriter::new(table.clone()),
            access,
            filter,
            assignments,
            returning: programs(returning)?,
        })))
    }

    fn delete(root: &Node) -> Result<Option<DirectPlan>> {
        let Op::Delete { table, input, returning } = &root.op else { return Ok(None) };
        let Some((access, filter)) = Self::target(input)? else { return Ok(None) };
        Ok(Some(DirectPlan::Delete(PointDelete {
            writer: TableWriter::new(table.clone()),
            access,
            filter,
            returning: programs(returning)?,
        })))
    }

    fn insert(root: &Node) -> Result<Option<DirectPlan>> {
        let Op::Insert { table, input, values, on_conflict: None, returning } = &root.op else {
            return Ok(None);
        };
        let Op::Values { rows } = &input.op else { return Ok(None) };
        let [source] = rows.as_slice() else { return Ok(None) };
        let mut sequences = Vec::new();
        for scalar in source.iter().chain(values) {
            super::compile::collect_sequences(scalar, &mut sequences);
        }
        Ok(Some(DirectPlan::Insert(InsertRow {
            writer: TableWriter::new(table.clone()),
            source: Program::compile_all(source)?,
            values: Program::compile_all(values)?,
            returning: programs(returning)?,
            sequences,
        })))
    }

    /// Runs the plan. `output` gets each row for the client; returns the rows found or changed.
    pub async fn run(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        output: &mut (dyn FnMut(&[Datum]) + Send),
    ) -> Result<u64> {
        match self {
            DirectPlan::Read(plan) => plan.run(cx, scratch, output).await,
            DirectPlan::Update(plan) => plan.run(cx, scratch, output).await,
            DirectPlan::Delete(plan) => plan.run(cx, scratch, output).await,
            DirectPlan::Insert(plan) => plan.run(cx, scratch, output).await,
        }
    }
}

fn evaluate(programs: &[Program], cx: &Context<'_>, row: &[Datum], out: &mut Vec<Datum>) -> Result<()> {
    out.clear();
    for program in programs {
        out.push(program.eval_row(cx.eval, row)?);
    }
    Ok(())
}

impl PointRead {
    async fn run(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        output: &mut (dyn FnMut(&[Datum]) + Send),
    ) -> Result<u64> {
        let Scratch { key, row, out } = scratch;
        key.clear();
        if !self.access.point(&self.layout, cx.eval, &[], key)? {
            return Ok(0);
        }
        let Some(value) = cx.txn.get(key).await? else { return Ok(0) };
        self.decoder.decode(&self.layout, key, &value, row)?;
        if let Some(filter) = &self.filter
            && !filter.is_true(cx.eval, row)?
        {
            return Ok(0);
        }
        match &self.exprs {
            None => output(row),
            Some(exprs) => {
                evaluate(exprs, cx, row, out)?;
                output(out);
            }
        }
        Ok(1)
    }
}

/// Locks and reads the row; false: none, or the filter refuses it. The row is followed by its
/// encoded primary key, as the plan's expressions expect.
async fn lock_row(
    cx: &mut Context<'_>,
    writer: &TableWriter,
    access: &AccessPlan,
    filter: Option<&Program>,
    key: &mut Vec<u8>,
    row: &mut Vec<Datum>,
) -> Result<bool> {
    key.clear();
    if !access.point(&writer.layout, cx.eval, &[], key)? {
        return Ok(false);
    }
    let Some(value) = cx.txn.get_for_update(key).await? else { return Ok(false) };
    writer.layout.row.decode(&key[PREFIX_LEN..], &value, row)?;
    row.push(Datum::Null);
    match filter {
        Some(filter) => filter.is_true(cx.eval, row),
        None => Ok(true),
    }
}

impl PointUpdate {
    async fn run(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        output: &mut (dyn FnMut(&[Datum]) + Send),
    ) -> Result<u64> {
        let Scratch { key, row, out } = scratch;
        if !lock_row(cx, &self.writer, &self.access, self.filter.as_ref(), key, row).await? {
            return Ok(0);
        }
        let width = self.writer.table.columns.len();
        let new = assign(&self.assignments, &row[..width], row, cx.eval)?;
        let text = cx.eval.text.clone();
        let mut state = WriteState::new(false);
        self.writer.update(cx.txn, &mut state, &row[..width], key, &new, &text).await?;
        if let Some(returning) = &self.returning {
            evaluate(returning, cx, &new, out)?;
            output(out);
        }
        Ok(1)
    }
}

impl PointDelete {
    async fn run(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        output: &mut (dyn FnMut(&[Datum]) + Send),
    ) -> Result<u64> {
        let Scratch { key, row, out } = scratch;
        if !lock_row(cx, &self.writer, &self.access, self.filter.as_ref(), key, row).await? {
            return Ok(0);
        }
        let width = self.writer.table.columns.len();
        let mut state = WriteState::new(false);
        self.writer.delete(cx.txn, &mut state, &row[..width], key).await?;
        if let Some(returning) = &self.returning {
            evaluate(returning, cx, row, out)?;
            output(out);
        }
        Ok(1)
    }
}

impl InsertRow {
    async fn run(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        output: &mut (dyn FnMut(&[Datum]) + Send),
    ) -> Result<u64> {
        let Scratch { row, out, .. } = scratch;
        super::reserve_sequences(cx, &self.sequences, 1).await?;
        evaluate(&self.source, cx, &[], out)?;
        evaluate(&self.values, cx, out, row)?;
        if row.len() != self.writer.table.columns.len() {
            return Err(SqlError::new(SqlState::INTERNAL, "INSERT has not a value for every column"));
        }
        if let Some(hidden) = self.writer.hidden {
            row[hidden] = Datum::Int8(cx.node.new_row_ids(1).await? as i64);
        }
        let text = cx.eval.text.clone();
        self.writer.insert(cx.txn, &mut WriteState::new(false), row, &text).await?;
        if let Some(returning) = &self.returning {
            evaluate(returning, cx, row, out)?;
            output(out);
        }
        Ok(1)
    }
}
