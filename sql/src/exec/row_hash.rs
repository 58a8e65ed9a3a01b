//! Stored rows found by hash: the common part of hash joins, grouping, DISTINCT and set operations.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;
use hashbrown::HashTable;

use super::{Context, Operator};
use crate::Result;
use crate::batch::{BATCH_BYTES, Batch, Column};
use crate::types::TypeKind;

/// Rows kept in columns, found by equality of all their columns (NULLs equal each other).
pub struct RowTable {
    /// The rows.
    pub columns: Vec<Column>,
    hashes: Vec<u64>,
    table: HashTable<u32>,
    /// Bytes accounted for.
    accounted: usize,
}

impl RowTable {
    /// An empty table.
    pub fn new(kinds: &[TypeKind]) -> RowTable {
        RowTable {
            columns: kinds.iter().map(|kind| Column::new(*kind, 0)).collect(),
            hashes: Vec::new(),
            table: HashTable::new(),
            accounted: 0,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The row equal to row `i` of `columns` whose hash is `hash`.
    pub fn find(&self, columns: &[&Column], i: usize, hash: u64) -> Option<usize> {
        let equal = |row: &u32| {
            let stored = self.columns.iter().zip(columns);
            self.hashes[*row as usize] == hash
                && stored.into_iter().all(|(own, other)| own.compare_rows(*row as usize, other, i).is_eq())
        };
        self.table.find(hash, equal).map(|row| *row as usize)
    }

    /// Finds the row, or adds it; returns its number and whether it is new.
    pub fn find_or_add(&mut self, columns: &[&Column], i: usize, hash: u64) -> (usize, bool) {
        if let Some(row) = self.find(columns, i, hash) {
            return (row, false);
        }
        let row = self.len();
        for (own, other) in self.columns.iter_mut().zip(columns) {
            own.push_from(other, i);
        }
        self.hashes.push(hash);
        let hashes = &self.hashes;
        self.table.insert_unique(hash, row as u32, |row| hashes[*row as usize]);
        (row, true)
    }

    /// Accounts for what has been added since.
    pub fn account(&mut self, cx: &Context<'_>) -> Result<()> {
        let bytes = self.columns.iter().map(Column::memory).sum::<usize>() + self.len() * 24;
        cx.memory.take(bytes.saturating_sub(self.accounted))?;
        self.accounted = self.accounted.max(bytes);
        Ok(())
    }

    /// What is accounted for, to be given back.
    pub fn accounted(&self) -> usize {
        self.accounted
    }
}

/// Hashes of the rows of dense columns.
pub fn hash_rows(columns: &[&Column], rows: usize) -> Vec<u64> {
    let mut hashes = vec![0; rows];
    for column in columns {
        column.hash_rows(&mut hashes);
    }
    hashes
}

/// All rows of an input in dense columns, accounted for.
pub struct Materialized {
    /// Columns.
    pub columns: Vec<Column>,
    /// Rows.
    pub rows: usize,
    /// Bytes accounted for.
    pub bytes: usize,
}

/// Reads an input to its end.
pub fn materialize<'a>(
    input: &'a mut Box<dyn Operator>,
    kinds: &'a [TypeKind],
    cx: &'a mut Context<'_>,
) -> BoxFuture<'a, Result<Materialized>> {
    Box::pin(async move {
        let mut all = Materialized {
            columns: kinds.iter().map(|kind| Column::new(*kind, 0)).collect(),
            rows: 0,
            bytes: 0,
        };
        while let Some(batch) = input.next(cx).await? {
            cx.check_cancel()?;
            let batch = batch.compact();
            let bytes = batch.memory();
            cx.memory.take(bytes)?;
            all.bytes += bytes;
            all.rows += batch.rows;
            for (column, more) in all.columns.iter_mut().zip(&batch.columns) {
                column.extend(more);
            }
        }
        Ok(all)
    })
}

/// How many of the pairs of rows make a batch of about [`BATCH_BYTES`]; at least one, if there are any.
/// Rows of NULLs (`u32::MAX`) weigh nothing.
pub fn fitting_pairs(left: &[Arc<Column>], left_rows: &[u32], right: &[Column], right_rows: &[u32]) -> usize {
    let left: Vec<&Column> = left.iter().map(Arc::as_ref).filter(|c| c.varies()).collect();
    let right: Vec<&Column> = right.iter().filter(|c| c.varies()).collect();
    if left.is_empty() && right.is_empty() {
        return left_rows.len();
    }
    let size = |columns: &[&Column], row: u32| {
        if row == u32::MAX { 0 } else { columns.iter().map(|c| c.heap_size(row as usize)).sum::<usize>() }
    };
    let mut bytes = 0;
    for (i, (l, r)) in left_rows.iter().zip(right_rows).enumerate() {
        bytes += size(&left, *l) + size(&right, *r);
        if bytes > BATCH_BYTES {
            return i.max(1);
        }
    }
    left_rows.len()
}

impl Materialized {
    /// How many of the rows make a batch of about [`BATCH_BYTES`]; at least one, if there are any.
    pub fn fitting(&self, rows: &[u32]) -> usize {
        fitting_pairs(&[], rows, &self.columns, rows)
    }

    /// Rows `rows` as a batch.
    pub fn gather(&self, rows: &[u32]) -> Batch {
        let columns = self.columns.iter().map(|c| std::sync::Arc::new(c.gather(rows))).collect();
        Batch::new(columns, rows.len())
    }
}
