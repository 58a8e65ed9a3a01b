//! Sessions: what one connection holds, between the wire and the executor.
//!
//! The connection (`cairn-server`) decodes messages and calls the methods here in order; output
//! goes through [`ResultSink`], which encodes straight into the connection's write buffer.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::seam::BoxFuture;
use cairn_txn::{CancelToken, Db};

use crate::plan::OutputColumn;
use crate::types::{Datum, TextContext, Type};
use crate::{Result, SqlError};

/// Wire format of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text.
    Text,
    /// Binary.
    Binary,
}

/// Severity of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// NOTICE
    Notice,
    /// WARNING
    Warning,
    /// INFO
    Info,
}

/// Where a statement's output goes, in order. Implemented over the connection's write buffer.
pub trait ResultSink: Send {
    /// What the text form of the rows that follow depends on. To be called before the first row of a
    /// session (the default context is in force until then) and when settings have changed it.
    fn text_context(&mut self, context: &Arc<TextContext>);
    /// Columns of the rows that follow (simple protocol and Describe).
    fn row_description(&mut self, columns: &[OutputColumn], formats: &[Format]);
    /// Describe of something without rows.
    fn no_data(&mut self);
    /// Types of a statement's parameters (Describe).
    fn parameter_description(&mut self, types: &[Type]);
    /// One row. `formats` has one entry for each column, or none (all text).
    fn row(&mut self, row: &[Datum], columns: &[OutputColumn], formats: &[Format]);
    /// A statement is complete; the tag is `INSERT 0 1`, `SELECT 5` and so on.
    fn complete(&mut self, tag: &str);
    /// An empty query string.
    fn empty_query(&mut self);
    /// Execute stopped at its row limit.
    fn suspended(&mut self);
    /// A notice.
    fn notice(&mut self, severity: Severity, notice: &SqlError);
    /// A reported setting changed.
    fn parameter_status(&mut self, name: &str, value: &str);
    /// COPY … TO STDOUT begins.
    fn copy_out(&mut self, columns: usize, format: Format);
    /// A chunk of COPY output.
    fn copy_data(&mut self, data: &[u8]);
    /// COPY output ends.
    fn copy_done(&mut self);
    /// COPY … FROM STDIN begins: the connection now feeds [`Session::copy_data`].
    fn copy_in(&mut self, columns: usize, format: Format);
    /// A point to [`ResultSink::rewind`] to.
    fn mark(&self) -> usize;
    /// Forgets output since `mark`; false when some of it has been sent.
    fn rewind(&mut self, mark: usize) -> bool;
    /// Whether so much is buffered that it should be sent before more is produced.
    fn is_full(&self) -> bool;
    /// Sends what is buffered.
    fn flush(&mut self) -> BoxFuture<'_, Result<()>>;
}

/// Transaction status, for ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not in a transaction.
    Idle,
    /// In a transaction.
    Active,
    /// In a failed transaction.
    Failed,
}

/// What [`Session::simple_query`] and [`Session::execute`] left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All done.
    Done,
    /// COPY FROM STDIN has begun: call `copy_data` …, then `copy_done` or `copy_fail`.
    CopyIn,
}

/// Identity of a client, from its startup message.
#[derive(Clone, Debug, Default)]
pub struct ClientInfo {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Peer address, for pg_stat_activity.
    pub address: String,
    /// Run-time settings of the startup message, options included.
    pub settings: Vec<(String, String)>,
}

/// A node's SQL state, shared by its sessions: catalog cache, plan cache, registry of sessions.
pub struct SqlNode {
    _db: Arc<Db>,
}

impl SqlNode {
    /// Opens SQL over a database; writes the initial catalog where there is none.
    pub async fn open(db: Arc<Db>) -> Result<Arc<SqlNode>> {
        let _ = db;
        todo!("sql: open")
    }
}

/// One session.
pub struct Session {
    _node: Arc<SqlNode>,
}

impl Session {
    /// Begins a session; `id` is the backend process id shown to clients. Fails with 3D000 for an
    /// unknown database, 28000 for an unknown role.
    pub fn new(node: &Arc<SqlNode>, id: u32, client: ClientInfo) -> Result<Session> {
        let _ = (node, id, client);
        todo!("sql: Session::new")
    }

    /// Settings reported at startup (ParameterStatus).
    pub fn reported_settings(&self) -> Vec<(String, String)> {
        todo!("sql")
    }

    /// Cancels the running statement from another task.
    pub fn cancel_token(&self) -> CancelToken {
        todo!("sql")
    }

    /// For ReadyForQuery.
    pub fn status(&self) -> TransactionStatus {
        todo!("sql")
    }

    /// `idle_session_timeout`, or `idle_in_transaction_session_timeout` within a transaction.
    pub fn idle_timeout(&self) -> Option<std::time::Duration> {
        todo!("sql")
    }

    /// `statement_timeout`.
    pub fn statement_timeout(&self) -> Option<std::time::Duration> {
        todo!("sql")
    }

    /// Simple protocol: runs all statements of `sql`, the implicit transaction included. An error
    /// ends the string.
    pub async fn simple_query(&mut self, sql: &str, sink: &mut dyn ResultSink) -> Result<Outcome> {
        let _ = (sql, sink);
        todo!("sql")
    }

    /// Parse.
    pub async fn parse(&mut self, name: &str, sql: &str, parameter_types: &[u32]) -> Result<()> {
        let _ = (name, sql, parameter_types);
        todo!("sql")
    }

    /// Bind: `formats` of parameters and results as in the message (none, one for all, or each).
    pub async fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameter_formats: &[Format],
        parameters: &[Option<Bytes>],
        result_formats: &[Format],
    ) -> Result<()> {
        let _ = (portal, statement, parameter_formats, parameters, result_formats);
        todo!("sql")
    }

    /// Describe of a statement: parameter types, then columns or no data.
    pub async fn describe_statement(&mut self, name: &str, sink: &mut dyn ResultSink) -> Result<()> {
        let _ = (name, sink);
        todo!("sql")
    }

    /// Describe of a portal.
    pub async fn describe_portal(&mut self, name: &str, sink: &mut dyn ResultSink) -> Result<()> {
        let _ = (name, sink);
        todo!("sql")
    }

    /// Execute up to `max_rows` (0: all).
    pub async fn execute(
        &mut self,
        portal: &str,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<Outcome> {
        let _ = (portal, max_rows, sink);
        todo!("sql")
    }

    /// Close of a statement.
    pub fn close_statement(&mut self, name: &str) {
        let _ = name;
        todo!("sql")
    }

    /// Close of a portal.
    pub fn close_portal(&mut self, name: &str) {
        let _ = name;
        todo!("sql")
    }

    /// Sync: ends the implicit transaction: commits, or rolls back after `failed`.
    pub async fn sync(&mut self, failed: bool) -> Result<()> {
        let _ = failed;
        todo!("sql")
    }

    /// COPY FROM STDIN: a chunk, cut anywhere.
    pub async fn copy_data(&mut self, data: &[u8]) -> Result<()> {
        let _ = data;
        todo!("sql")
    }

    /// COPY FROM STDIN ends well. In the simple protocol, goes on with the string's further
    /// statements.
    pub async fn copy_done(&mut self, sink: &mut dyn ResultSink) -> Result<Outcome> {
        let _ = sink;
        todo!("sql")
    }

    /// The client gave up COPY.
    pub async fn copy_fail(&mut self, message: &str) -> SqlError {
        let _ = message;
        todo!("sql")
    }

    /// The connection ended: rolls back.
    pub async fn close(&mut self) {
        todo!("sql")
    }
}
