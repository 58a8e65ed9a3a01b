//! Filling indexes that nobody reads yet.

use std::collections::VecDeque;
use std::sync::Arc;

use cairn_kv::Timestamp;
use cairn_txn::{TxnError, TxnOptions};
use tokio::sync::oneshot;

use crate::catalog::{TableDesc, cache};
use crate::exec::writer::describe_index_key;
use crate::session::{Building, SqlNode};
use crate::storage::entries::{Entries, Entry, Sorted};
use crate::storage::entry::TableLayout;
use crate::types::{Datum, TextContext};
use crate::{Result, SqlError, SqlState};

/// Bytes written by one transaction: below one command.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks written at once.
const UNDER_WAY: usize = 2;

/// Some indexes of a table being filled. Entries are collected and sorted, as many as memory allows,
/// and written chunk by chunk in the background.
pub struct Builder<'a> {
    node: &'a Arc<SqlNode>,
    table: &'a TableDesc,
    layout: TableLayout,
    positions: &'a [usize],
    /// What marks the indexes as being built.
    building: Vec<Arc<Building>>,
    /// Bytes to collect.
    memory: usize,
    /// Whether an index is unique, so that rows are kept for messages.
    unique: bool,
    /// Tags are positions among the rows.
    entries: Entries,
    rows: Vec<Vec<Datum>>,
    row_bytes: usize,
    /// What is being written, oldest first.
    under_way: VecDeque<UnderWay>,
}

/// Sorted entries, with the rows they are of if those are kept.
struct Run {
    sorted: Sorted,
    rows: Vec<Vec<Datum>>,
}

/// A chunk being written.
struct UnderWay {
    run: Arc<Run>,
    outcome: oneshot::Receiver<std::result::Result<Timestamp, TxnError>>,
}

impl<'a> Builder<'a> {
    /// Fills the indexes at `positions` of `table`, using so many bytes of memory.
    pub fn new(
        node: &'a Arc<SqlNode>,
        table: &'a TableDesc,
        positions: &'a [usize],
        building: Vec<Arc<Building>>,
        memory: usize,
    ) -> Builder<'a> {
        Builder {
            node,
            table,
            layout: TableLayout::new(table),
            positions,
            building,
            memory,
            unique: positions.iter().any(|position| table.indexes[*position].unique),
            entries: Entries::default(),
            rows: Vec::new(),
            row_bytes: 0,
            under_way: VecDeque::new(),
        }
    }

    /// Takes a row.
    pub async fn add(&mut self, row: Vec<Datum>) -> Result<()> {
        self.entries.add(&self.layout, self.positions.iter().copied(), &row, self.rows.len() as u64)?;
        if self.unique {
            self.row_bytes += size_of::<Vec<Datum>>()
                + row.iter().map(|d| size_of::<Datum>() + d.heap_size()).sum::<usize>();
            self.rows.push(row);
        }
        if self.entries.bytes() + self.row_bytes >= self.memory {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes what is left and waits until all is written.
    pub async fn finish(mut self) -> Result<()> {
        self.write().await?;
        while !self.under_way.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }

    /// Hands what was collected over to be written.
    async fn write(&mut self) -> Result<()> {
        let run = Run { sorted: self.entries.sort(), rows: std::mem::take(&mut self.rows) };
        self.row_bytes = 0;
        if let Some(entry) = run.sorted.duplicate() {
            return Err(self.duplicate(entry, &run));
        }
        let (run, mut start) = (Arc::new(run), 0);
        while start < run.sorted.entries().len() {
            let end = run.sorted.part(start, CHUNK_BYTES);
            while self.under_way.len() >= UNDER_WAY {
                self.settle().await?;
            }
            let chunk = self.start(run.clone(), start..end);
            self.under_way.push_back(chunk);
            start = end;
        }
        Ok(())
    }

    /// Writes a chunk by a transaction of its own, in a task of its own.
    fn start(&self, run: Arc<Run>, range: std::ops::Range<usize>) -> UnderWay {
        let (sender, outcome) = oneshot::channel();
        let txn = self.node.db().begin(TxnOptions::default());
        let writes = run.sorted.writes(range);
        // Whoever waits may go away: the indexes must not pass for given up before this has ended.
        let building = self.building.clone();
        let write = async move {
            let _ = sender.send(txn.commit_new(writes).await);
            drop(building);
        };
        self.node.db().store().env().runtime.spawn("chunk of an index", Box::pin(write));
        UnderWay { run, outcome }
    }

    /// Waits for the oldest chunk under way.
    async fn settle(&mut self) -> Result<()> {
        let Some(UnderWay { run, outcome }) = self.under_way.pop_front() else { return Ok(()) };
        match outcome.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(TxnError::Exists { key })) => {
                let entry = run.sorted.find(&key).expect("it is one of the keys");
                Err(self.duplicate(entry, &run))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(TxnError::Unavailable("the node is stopping".into()).into()),
        }
    }

    fn duplicate(&self, entry: &Entry, run: &Run) -> SqlError {
        let index = &self.table.indexes[entry.index];
        let mut error = SqlError::new(
            SqlState::UNIQUE_VIOLATION,
            format!("could not create unique index \"{}\"", index.name),
        );
        if let Some(row) = run.rows.get(entry.tag as usize) {
            let key = describe_index_key(self.table, index, row, &TextContext::default());
            error = error.detail(format!("Key {key} is duplicated."));
        }
        let fields = error.fields_mut();
        fields.schema = Some(cache::schema_name(self.table.schema).into());
        fields.table = Some(self.table.name.clone());
        fields.constraint = Some(index.name.clone());
        error
    }
}
