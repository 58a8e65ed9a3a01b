//! COPY FROM STDIN.

use std::sync::Arc;

use cairn_txn::Txn;

use super::Options;
use super::fields::{Fields, Lines};
use crate::catalog::{Oid, TableDesc};
use crate::exec::bulk::{self, Bulk};
use crate::exec::writer::{TableWriter, WriteState};
use crate::expr::{EvalContext, Program, Scalar};
use crate::session::SqlNode;
use crate::types::{Datum, TextContext, parse_text};
use crate::{Result, SqlError, SqlState};

/// Row ids and sequence values reserved at a time.
const RESERVE: u64 = 1024;

/// A COPY FROM under way.
pub struct CopyIn {
    writer: TableWriter,
    options: Options,
    /// Positions in the table's columns of the fields.
    columns: Vec<usize>,
    /// Values of other columns.
    defaults: Vec<(usize, Program)>,
    sequences: Vec<Oid>,
    lines: Lines,
    fields: Fields,
    row: Vec<Datum>,
    state: WriteState,
    bulk: Bulk,
    row_ids: std::ops::Range<u64>,
    /// Rows for which sequence values are still at hand.
    reserved: u64,
    eval: EvalContext,
    rows: u64,
    header_due: bool,
    /// The query string's statement was its last.
    pub last: bool,
}

impl CopyIn {
    /// Begins.
    pub fn new(
        table: Arc<TableDesc>,
        columns: Vec<usize>,
        defaults: &[(usize, Scalar)],
        options: Options,
        eval: EvalContext,
        last: bool,
    ) -> Result<CopyIn> {
        let mut sequences = Vec::new();
        for (_, scalar) in defaults {
            crate::exec::collect_sequences(scalar, &mut sequences);
        }
        let defaults = defaults
            .iter()
            .map(|(column, scalar)| Ok((*column, Program::compile(scalar)?)))
            .collect::<Result<_>>()?;
        Ok(CopyIn {
            row: vec![Datum::Null; table.columns.len()],
            writer: TableWriter::new(table),
            header_due: options.header,
            options,
            columns,
            defaults,
            sequences,
            lines: Lines::default(),
            fields: Fields::default(),
            state: WriteState::new(false),
            bulk: Bulk::default(),
            row_ids: 0..0,
            reserved: 0,
            eval,
            rows: 0,
            last,
        })
    }

    /// `COPY t, line 3`.
    pub fn position(&self) -> String {
        self.position_of(self.lines.number)
    }

    fn position_of(&self, line: u64) -> String {
        format!("COPY {}, line {}", self.writer.table.name, line.max(1))
    }

    /// Rows inserted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes a chunk.
    pub async fn push(&mut self, node: &Arc<SqlNode>, txn: &mut Txn, data: &[u8]) -> Result<()> {
        self.lines.push(data);
        self.run(node, txn, false).await
    }

    /// The data is complete.
    pub async fn finish(&mut self, node: &Arc<SqlNode>, txn: &mut Txn) -> Result<()> {
        self.run(node, txn, true).await?;
        self.write_bulk(txn).await
    }

    async fn write_bulk(&mut self, txn: &mut Txn) -> Result<()> {
        let written = self.bulk.write(txn, &self.writer, &self.eval.text).await;
        written.map_err(|(line, error)| match line {
            Some(line) => error.context(self.position_of(line)),
            None => error.context(self.position()),
        })
    }

    /// Most clients send a line at a time: the future, which is moved for each, must be small, so that
    /// of what is rare is boxed.
    async fn run(&mut self, node: &Arc<SqlNode>, txn: &mut Txn, last: bool) -> Result<()> {
        let text = self.eval.text.clone();
        loop {
            let range = match self.lines.next(&self.options, last) {
                Ok(Some(range)) => range,
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.context(self.position())),
            };
            let line = self.lines.line(range.clone());
            self.fields.split(line, &self.options)?;
            if std::mem::replace(&mut self.header_due, false) {
                self.check_header()?;
                continue;
            }
            self.parse_fields(range, &text)?;
            self.fill(node).await?;
            let written = if self.rows < bulk::FEW {
                Box::pin(self.writer.insert(txn, &mut self.state, &self.row, &text)).await
            } else {
                self.bulk.add(&self.writer, &self.row, &text, self.lines.number)
            };
            written.map_err(|error| error.context(self.position()))?;
            self.rows += 1;
            if self.bulk.is_full() {
                Box::pin(self.write_bulk(txn)).await?;
            }
        }
    }

    fn check_header(&self) -> Result<()> {
        if !self.options.header_match {
            return Ok(());
        }
        let table = &self.writer.table;
        let names = self.columns.iter().map(|c| table.columns[*c].name.as_bytes());
        let found = (0..self.fields.len()).map(|i| self.fields.get(i).unwrap_or_default());
        if names.eq(found) {
            return Ok(());
        }
        Err(SqlError::new(SqlState::BAD_COPY_FORMAT, "column names in header line do not match the table's")
            .context(self.position()))
    }

    fn parse_fields(&mut self, line: std::ops::Range<usize>, text: &TextContext) -> Result<()> {
        let table = &self.writer.table;
        let whole = |what: String| {
            SqlError::new(SqlState::BAD_COPY_FORMAT, what).context(format!(
                "{}: \"{}\"",
                self.position(),
                shorten(&String::from_utf8_lossy(self.lines.line(line.clone())))
            ))
        };
        if self.fields.len() > self.columns.len() {
            return Err(whole("extra data after last expected column".into()));
        }
        if self.fields.len() < self.columns.len() {
            let missing = &table.columns[self.columns[self.fields.len()]].name;
            return Err(whole(format!("missing data for column \"{missing}\"")));
        }
        for (i, position) in self.columns.iter().enumerate() {
            let column = &table.columns[*position];
            let Some(bytes) = self.fields.get(i) else {
                self.row[*position] = Datum::Null;
                continue;
            };
            let input = std::str::from_utf8(bytes).map_err(|_| {
                SqlError::new(
                    SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\"",
                )
                .context(self.position())
            })?;
            self.row[*position] = parse_text(input, column.ty, text).map_err(|error| {
                let context = format!("{}, column {}: \"{}\"", self.position(), column.name, shorten(input));
                error.context(context)
            })?;
        }
        Ok(())
    }

    /// Defaults and row id.
    async fn fill(&mut self, node: &Arc<SqlNode>) -> Result<()> {
        if !self.sequences.is_empty() {
            if self.reserved == 0 {
                Box::pin(crate::exec::reserve(node, &self.eval, &self.sequences, 32)).await?;
                self.reserved = 32;
            }
            self.reserved -= 1;
        }
        for (column, program) in &self.defaults {
            self.row[*column] = program.eval_row(&self.eval, &[])?;
        }
        if let Some(hidden) = self.writer.hidden {
            if self.row_ids.is_empty() {
                let first = Box::pin(node.new_row_ids(RESERVE)).await?;
                self.row_ids = first..first + RESERVE;
            }
            let id = self.row_ids.next().expect("just refilled");
            self.row[hidden] = Datum::Int8(id as i64);
        }
        Ok(())
    }
}

/// At most 100 characters, as contexts show.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(100) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
