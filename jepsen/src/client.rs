//! What a workload asks of a database, whichever way it is reached.
//!
//! Every table has the same shape, `(k bigint PRIMARY KEY, v bigint NOT NULL)`, some with a secondary
//! index on `v`, one without the primary key, one with lists in `v`. The drivers: SQL text in a session of the simulated node, the same text over a
//! socket, and bare `cairn_txn` transactions that keep the index themselves.

use std::fmt;
use std::future::Future;

/// A table of the workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Bank: account → balance.
    Accounts,
    /// Bank: transfer → who, whom, how much.
    Ledger,
    /// Register workload.
    Registers,
    /// Set workload.
    Items,
    /// Random transactions.
    Cells,
    /// Load workload: row → batch.
    Loads,
    /// Load workload: the same without a key.
    Heap,
    /// Append workload: key → list, as text.
    Lists,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 8] = [
        Table::Accounts,
        Table::Ledger,
        Table::Registers,
        Table::Items,
        Table::Cells,
        Table::Loads,
        Table::Heap,
        Table::Lists,
    ];

    /// Whether it has an index on `v`. Writes of an index entry are blind, so a transaction that
    /// makes one commits at a timestamp of its own; where there is none it may commit at its snapshot.
    pub const fn is_indexed(self) -> bool {
        matches!(self, Table::Accounts | Table::Items | Table::Loads)
    }

    /// Whether `k` is its primary key.
    pub const fn has_key(self) -> bool {
        !matches!(self, Table::Heap)
    }

    /// Type of `v` in SQL.
    pub const fn value_type(self) -> &'static str {
        match self {
            Table::Lists => "text",
            _ => "bigint",
        }
    }

    /// Name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Accounts => "accounts",
            Table::Ledger => "ledger",
            Table::Registers => "registers",
            Table::Items => "items",
            Table::Cells => "cells",
            Table::Loads => "loads",
            Table::Heap => "heap",
            Table::Lists => "lists",
        }
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The value at a key; `lock` reads it FOR UPDATE where the driver can.
    Get {
        /// Table.
        table: Table,
        /// Key.
        key: i64,
        /// Lock the row.
        lock: bool,
    },
    /// `v = v + delta`.
    Add {
        /// Table.
        table: Table,
        /// Key.
        key: i64,
        /// Added to the value.
        delta: i64,
    },
    /// `v = value`.
    Set {
        /// Table.
        table: Table,
        /// Key.
        key: i64,
        /// New value.
        value: i64,
    },
    /// `v = new` where `v = old`.
    CompareAndSet {
        /// Table.
        table: Table,
        /// Key.
        key: i64,
        /// Value that must be there.
        old: i64,
        /// New value.
        new: i64,
    },
    /// A new row.
    Insert {
        /// Table.
        table: Table,
        /// Key.
        key: i64,
        /// Value.
        value: i64,
    },
    /// Removes a row.
    Delete {
        /// Table.
        table: Table,
        /// Key.
        key: i64,
    },
    /// `amount` from one account to another, in one statement.
    Transfer {
        /// From this account.
        from: i64,
        /// To this one.
        to: i64,
        /// This much.
        amount: i64,
    },
    /// Rows by COPY: keys from `first` on, all with the same value.
    Load {
        /// Table.
        table: Table,
        /// First key.
        first: i64,
        /// Number of rows.
        count: i64,
        /// Value.
        value: i64,
    },
    /// An element at the end of a list, which is there.
    Append {
        /// Key of the list.
        key: i64,
        /// The element.
        element: i64,
    },
    /// A list.
    List {
        /// Its key.
        key: i64,
    },
    /// All rows in order of keys.
    Scan {
        /// Table.
        table: Table,
    },
    /// The rows with a value, by the secondary index if there is one, in order of keys.
    ByValue {
        /// Table.
        table: Table,
        /// Value.
        value: i64,
    },
}

impl Op {
    /// Whether it changes nothing.
    pub const fn is_read(&self) -> bool {
        matches!(self, Op::Get { .. } | Op::List { .. } | Op::Scan { .. } | Op::ByValue { .. })
    }
}

/// What a statement answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Rows as key and value (a `Get`: at most one).
    Rows(Vec<(i64, i64)>),
    /// Number of rows written.
    Changed(u64),
    /// The elements of a list.
    Elements(Vec<i64>),
}

impl Answer {
    /// The rows of a query.
    pub fn rows(self) -> Vec<(i64, i64)> {
        match self {
            Answer::Rows(rows) => rows,
            _ => panic!("a query answers with rows"),
        }
    }

    /// The elements of a list.
    pub fn elements(self) -> Vec<i64> {
        match self {
            Answer::Elements(elements) => elements,
            _ => panic!("a list is asked for"),
        }
    }

    /// The value of a `Get`.
    pub fn value(self) -> Option<i64> {
        self.rows().first().map(|(_, value)| *value)
    }

    /// Whether a write found its row.
    pub fn changed(self) -> bool {
        matches!(self, Answer::Changed(n) if n > 0)
    }
}

/// Why a statement or commit failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A conflict (40001, 40P01) or a cancellation (57014): certainly without effect.
    Retry(String),
    /// A duplicate key (23505): certainly without effect.
    Duplicate,
    /// The snapshot asked for is no longer kept (72000).
    TooOld,
    /// The outcome is unknown (40003, connection lost, node stopped).
    Unknown(String),
    /// Anything else: no workload expects it.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Retry(reason) => write!(f, "conflict: {reason}"),
            Failure::Duplicate => f.write_str("duplicate key"),
            Failure::TooOld => f.write_str("snapshot too old"),
            Failure::Unknown(reason) => write!(f, "outcome unknown: {reason}"),
            Failure::Broken(reason) => write!(f, "unexpected error: {reason}"),
        }
    }
}

/// A connection.
pub trait Client: Send {
    /// Creates the tables and their indexes.
    fn create_tables(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Begins a transaction; without one each statement commits itself.
    fn begin(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Begins a transaction with a snapshot per statement.
    fn begin_read_committed(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Begins a read-only transaction in the past, at what [`Client::past`] gave.
    fn begin_as_of(&mut self, past: &str) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Names the present for [`Client::begin_as_of`]; asked outside a transaction.
    fn past(&mut self) -> impl Future<Output = Result<String, Failure>> + Send;
    /// Runs a statement.
    fn execute(&mut self, op: &Op) -> impl Future<Output = Result<Answer, Failure>> + Send;
    /// Commits.
    fn commit(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Rolls back; also after a failure.
    fn rollback(&mut self) -> impl Future<Output = ()> + Send;
}
