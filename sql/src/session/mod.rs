//! Sessions: what one connection holds, between the wire and the executor.
//!
//! The connection (`cairn-server`) decodes messages and calls the methods here in order; output
//! goes through [`ResultSink`], which encodes straight into the connection's write buffer.

mod compile;
mod describe;
mod execute;
mod explain;
mod metrics;
mod node;
mod past;
mod plan_cache;
mod portal;
mod replay;
mod run;
pub mod settings;
mod transaction;
mod utility;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::seam::BoxFuture;
use cairn_txn::CancelToken;
use parking_lot::Mutex;

use crate::ast::Statement;
use crate::copy::CopyIn;
use crate::exec::direct::Scratch;
use crate::parse::{self, Parsed};
use crate::plan::OutputColumn;
use crate::types::{Datum, TextContext, Type};
use crate::{Result, SqlError, SqlState};

pub use metrics::SqlMetrics;
pub use node::{Building, SessionEntry, SqlNode};
use plan_cache::Compiled;
use portal::{Portal, Prepared};
use replay::Pipeline;
use settings::Settings;
use transaction::Transaction;
use view::{Effects, View};

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
    /// Takes away the output since `mark`, encoded; `None` when some of it has been sent, or where
    /// output is not kept in that form.
    fn cut(&mut self, _mark: usize) -> Option<Vec<u8>> {
        None
    }
    /// Puts back a piece of what was cut.
    fn put(&mut self, _encoded: &[u8]) {
        unreachable!("a sink that nothing is cut from")
    }
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

/// One session.
pub struct Session {
    node: Arc<SqlNode>,
    id: u32,
    user: String,
    database: String,
    settings: Settings,
    cancel: CancelToken,
    txn: Option<Box<Transaction>>,
    statements: BTreeMap<String, Arc<Prepared>>,
    portals: BTreeMap<String, Box<Portal>>,
    /// Number of the portal bound last.
    last_portal: u64,
    /// What the implicit transaction consists of, to run it again.
    pipeline: Pipeline,
    /// COPY FROM STDIN under way.
    copy: Option<Box<CopyIn>>,
    /// Rest of a simple query string, and the string.
    pending: VecDeque<Parsed>,
    text: Arc<str>,
    /// What the client was last told of reported settings.
    reported: Vec<(String, String)>,
    /// Settings generation and catalog version of `view` and what goes with it.
    derived: Option<Derived>,
    effects: Arc<Mutex<Effects>>,
    scratch: Scratch,
}

/// What is derived from settings and catalog, kept until either changes.
struct Derived {
    generation: u64,
    version: u64,
    view: Arc<View>,
    text: Arc<TextContext>,
    /// Part of the plan cache's key.
    environment: Arc<str>,
}

impl Session {
    /// Begins a session; `id` is the backend process id shown to clients. Fails with 3D000 for an
    /// unknown database, 28000 for an unknown role.
    pub fn new(node: &Arc<SqlNode>, id: u32, client: ClientInfo) -> Result<Session> {
        if client.user != "postgres" {
            return Err(SqlError::new(
                SqlState::INVALID_AUTHORIZATION,
                format!("role \"{}\" does not exist", client.user),
            ));
        }
        let database = if client.database.is_empty() { client.user.clone() } else { client.database };
        if database != "postgres" {
            return Err(SqlError::new(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{database}\" does not exist"),
            ));
        }
        let mut settings = Settings::new(&client.user);
        for (name, value) in &client.settings {
            settings.set(name, Some(std::slice::from_ref(value)), false)?;
        }
        settings.set_initial();
        let cancel = CancelToken::default();
        node.register(
            id,
            SessionEntry {
                user: client.user.clone(),
                database: database.clone(),
                application: settings.text("application_name").to_owned(),
                address: client.address,
                query: "".into(),
                state: "idle",
                cancel: cancel.clone(),
                started: node.db().store().env().clock.wall_micros(),
            },
        );
        let reported = settings.reported().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Ok(Session {
            node: node.clone(),
            id,
            user: client.user,
            database,
            settings,
            cancel,
            txn: None,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            last_portal: 0,
            pipeline: Pipeline::default(),
            copy: None,
            pending: VecDeque::new(),
            text: "".into(),
            reported,
            derived: None,
            effects: Arc::default(),
            scratch: Scratch::default(),
        })
    }

    /// Settings reported at startup (ParameterStatus).
    pub fn reported_settings(&self) -> Vec<(String, String)> {
        self.settings.reported().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    /// Cancels the running statement from another task.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// For ReadyForQuery.
    pub fn status(&self) -> TransactionStatus {
        match &self.txn {
            Some(txn) if txn.failed && txn.explicit => TransactionStatus::Failed,
            Some(txn) if txn.explicit => TransactionStatus::Active,
            _ => TransactionStatus::Idle,
        }
    }

    /// `idle_session_timeout`, or `idle_in_transaction_session_timeout` within a transaction.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.settings.timeout(match self.status() {
            TransactionStatus::Idle => "idle_session_timeout",
            _ => "idle_in_transaction_session_timeout",
        })
    }

    /// `statement_timeout`.
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.settings.timeout("statement_timeout")
    }

    /// Simple protocol: runs all statements of `sql`, the implicit transaction included. An error
    /// ends the string.
    pub async fn simple_query(&mut self, sql: &str, sink: &mut dyn ResultSink) -> Result<Outcome> {
        self.cancel.reset();
        self.portals.remove("");
        let began = self.nanos();
        let outcome = self.simple_string(sql, sink).await;
        self.measure(began, outcome.is_err());
        if outcome.is_err() {
            self.pending.clear();
            self.fail().await;
        }
        self.report_settings(sink);
        outcome
    }

    async fn simple_string(&mut self, sql: &str, sink: &mut dyn ResultSink) -> Result<Outcome> {
        // An implicit transaction, of a pipeline that was not synced, ends with this string. A failed one refuses
        // whatever it is; the past, and changes of the schema, have a catalog of their own, whose plans are not kept.
        let plain = |t: &Transaction| t.explicit && !t.failed && t.past.is_none() && t.changes.is_empty();
        if self.txn.as_deref().is_none_or(plain)
            && let Some(outcome) = self.run_fingerprint(sql, sink).await?
        {
            return Ok(outcome);
        }
        let parsed = parse::parse(sql)?;
        if parsed.is_empty() {
            sink.empty_query();
            return Ok(Outcome::Done);
        }
        self.text = sql.into();
        self.pending = parsed.into();
        self.run_pending(sink).await
    }

    /// Parse.
    pub async fn parse(&mut self, name: &str, sql: &str, parameter_types: &[u32]) -> Result<()> {
        let outcome = self.prepare(name, sql, parameter_types).await;
        self.after_message(outcome).await
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
        let outcome =
            self.bind_portal(portal, statement, parameter_formats, parameters, result_formats).await;
        self.after_message(outcome).await
    }

    /// Describe of a statement: parameter types, then columns or no data.
    pub async fn describe_statement(&mut self, name: &str, sink: &mut dyn ResultSink) -> Result<()> {
        let outcome = self.describe_prepared(name, sink).await;
        self.after_message(outcome).await
    }

    /// Describe of a portal.
    pub async fn describe_portal(&mut self, name: &str, sink: &mut dyn ResultSink) -> Result<()> {
        let outcome = match self.portals.get(name) {
            Some(portal) => {
                let (compiled, formats) = (portal.compiled.clone(), portal.formats.clone());
                self.describe_columns(&compiled, &formats, sink).await
            }
            None => Err(portal::no_portal(name)),
        };
        self.after_message(outcome).await
    }

    /// Execute up to `max_rows` (0: all).
    pub async fn execute(
        &mut self,
        portal: &str,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<Outcome> {
        self.cancel.reset();
        let began = self.nanos();
        self.record_execute(portal, max_rows, sink.mark());
        let outcome = match self.execute_portal(portal, max_rows, sink).await {
            Ok(outcome) => {
                self.record_end(sink.mark());
                Ok(outcome)
            }
            Err(error) => self.run_again(error, false, sink).await.map(|()| Outcome::Done),
        };
        self.measure(began, outcome.is_err());
        self.report_settings(sink);
        self.after_message(outcome).await
    }

    fn nanos(&self) -> u64 {
        self.node.db().store().env().clock.monotonic_nanos()
    }

    /// Something that began then has been executed.
    fn measure(&self, began: u64, failed: bool) {
        let metrics = self.node.metrics();
        metrics.execution.observe((self.nanos() - began) as f64 * 1e-9);
        if failed {
            metrics.errors.inc();
        }
    }

    /// An error fails the transaction.
    async fn after_message<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.fail().await;
        }
        outcome
    }

    /// Close of a statement.
    pub fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    /// Close of a portal.
    pub fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    /// Sync: ends the implicit transaction: commits, or rolls back after `failed`. A conflict that
    /// shows only now is not for the client to see while no answer has been sent.
    pub async fn sync(&mut self, failed: bool, sink: &mut dyn ResultSink) -> Result<()> {
        let implicit = self.txn.as_ref().is_some_and(|t| !t.explicit);
        let outcome = match (implicit, failed) {
            (true, false) => {
                // A reader's end is no work.
                let began = self.txn.as_ref().filter(|t| t.txn.has_writes()).map(|_| self.nanos());
                let outcome = match self.commit().await {
                    Ok(()) => Ok(()),
                    Err(error) => self.run_again(error, true, sink).await,
                };
                if let Some(began) = began {
                    self.measure(began, outcome.is_err());
                }
                outcome
            }
            (true, true) => {
                self.rollback().await;
                Ok(())
            }
            (false, _) => Ok(()),
        };
        if self.txn.is_none() {
            self.portals.clear();
        }
        outcome
    }

    /// COPY FROM STDIN: a chunk, cut anywhere.
    pub async fn copy_data(&mut self, data: &[u8]) -> Result<()> {
        let outcome = self.copy_chunk(data).await;
        if outcome.is_err() {
            self.copy = None;
            self.pending.clear();
        }
        self.after_message(outcome).await
    }

    /// COPY FROM STDIN ends well. In the simple protocol, goes on with the string's further
    /// statements.
    pub async fn copy_done(&mut self, sink: &mut dyn ResultSink) -> Result<Outcome> {
        let outcome = self.copy_finish(sink).await;
        self.copy = None;
        if outcome.is_err() {
            self.pending.clear();
        }
        self.report_settings(sink);
        self.after_message(outcome).await
    }

    /// The client gave up COPY.
    pub async fn copy_fail(&mut self, message: &str) -> SqlError {
        let context = self.copy.take().map(|copy| copy.position());
        self.pending.clear();
        self.fail().await;
        let error = SqlError::new(SqlState::QUERY_CANCELED, format!("COPY from stdin failed: {message}"));
        match context {
            Some(context) => error.context(context),
            None => error,
        }
    }

    /// The connection ended: rolls back.
    pub async fn close(&mut self) {
        self.portals.clear();
        self.copy = None;
        self.rollback().await;
        self.node.unregister(self.id);
    }

    /// Sends a notice, unless the client does not want it.
    fn tell(&self, severity: Severity, notice: &SqlError, sink: &mut dyn ResultSink) {
        let wanted = match severity {
            Severity::Info => true,
            Severity::Notice => !matches!(self.settings.text("client_min_messages"), "warning" | "error"),
            Severity::Warning => self.settings.text("client_min_messages") != "error",
        };
        if wanted {
            sink.notice(severity, notice);
        }
    }

    /// Tells the client of reported settings that changed.
    fn report_settings(&mut self, sink: &mut dyn ResultSink) {
        if self.derived.as_ref().is_some_and(|d| d.generation == self.settings.generation()) {
            return;
        }
        for ((name, value), told) in self.settings.reported().zip(&mut self.reported) {
            if told.1 != value {
                sink.parameter_status(name, value);
                told.1 = value.to_owned();
            }
        }
    }
}

/// A statement to run, with what errors and statistics need.
#[derive(Clone)]
struct Work {
    statement: Arc<Statement>,
    text: Arc<str>,
    compiled: Option<Arc<Compiled>>,
}
