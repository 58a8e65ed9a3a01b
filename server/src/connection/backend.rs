//! What a connection needs of the SQL layer. One implementation serves clients, `cairn-sql`'s
//! session; tests of the loop put in one that blocks, fails and panics at will.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use cairn_sql::session::{ClientInfo, Format, Outcome, ResultSink, Session, TransactionStatus};
use cairn_sql::{Result, SqlError};
use cairn_txn::CancelToken;

/// Begins sessions.
pub trait Connect: Send + Sync + 'static {
    /// The sessions.
    type Session: Backend;

    /// See [`Session::new`].
    fn connect(&self, id: u32, client: ClientInfo) -> Result<Self::Session>;
}

/// A session; see [`Session`] for what the methods do.
#[expect(missing_docs, reason = "the methods are those of `Session`")]
pub trait Backend: Send + 'static {
    fn reported_settings(&self) -> Vec<(String, String)>;
    fn cancel_token(&self) -> CancelToken;
    fn status(&self) -> TransactionStatus;
    fn idle_timeout(&self) -> Option<Duration>;
    fn statement_timeout(&self) -> Option<Duration>;
    fn simple_query(
        &mut self,
        sql: &str,
        sink: &mut dyn ResultSink,
    ) -> impl Future<Output = Result<Outcome>> + Send;
    fn parse(&mut self, name: &str, sql: &str, types: &[u32]) -> impl Future<Output = Result<()>> + Send;
    fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameter_formats: &[Format],
        parameters: &[Option<Bytes>],
        result_formats: &[Format],
    ) -> impl Future<Output = Result<()>> + Send;
    fn describe_statement(
        &mut self,
        name: &str,
        sink: &mut dyn ResultSink,
    ) -> impl Future<Output = Result<()>> + Send;
    fn describe_portal(
        &mut self,
        name: &str,
        sink: &mut dyn ResultSink,
    ) -> impl Future<Output = Result<()>> + Send;
    fn execute(
        &mut self,
        portal: &str,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> impl Future<Output = Result<Outcome>> + Send;
    fn close_statement(&mut self, name: &str);
    fn close_portal(&mut self, name: &str);
    fn sync(&mut self, failed: bool, sink: &mut dyn ResultSink) -> impl Future<Output = Result<()>> + Send;
    fn copy_data(&mut self, data: &[u8]) -> impl Future<Output = Result<()>> + Send;
    fn copy_done(&mut self, sink: &mut dyn ResultSink) -> impl Future<Output = Result<Outcome>> + Send;
    fn copy_fail(&mut self, message: &str) -> impl Future<Output = SqlError> + Send;
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

impl Backend for Session {
    fn reported_settings(&self) -> Vec<(String, String)> {
        Session::reported_settings(self)
    }

    fn cancel_token(&self) -> CancelToken {
        Session::cancel_token(self)
    }

    fn status(&self) -> TransactionStatus {
        Session::status(self)
    }

    fn idle_timeout(&self) -> Option<Duration> {
        Session::idle_timeout(self)
    }

    fn statement_timeout(&self) -> Option<Duration> {
        Session::statement_timeout(self)
    }

    fn simple_query(
        &mut self,
        sql: &str,
        sink: &mut dyn ResultSink,
    ) -> impl Future<Output = Result<Outcome>> + Send {
        Session::simple_query(self, sql, sink)
    }

    fn parse(&mut self, name: &str, sql: &str, types: &[u32]) -> impl Future<Output = Result<()>> + Send {
        Session::parse(self, name, sql, types)
    }

    fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameter_formats: &[Format],
        parameters: &[Option<Bytes>],
        result_formats: &[Format],
    ) -> impl Future<Output = Result<()>> + Send {
        Session::bind(self, portal, statement, parameter_formats, parameters, result_formats)
    }

    fn describe_statement(
        &mut self,
        name: &str,
        sink: &mut dyn ResultSink,
    ) -> impl Future<Output = Result<()>> + Send {
        Session::describe_statement(self, name, sink)
    }

    fn describe_portal(
        &mut self,
        name: &str,
        sink: &mut dyn ResultSink,
    ) -> impl Future<Output = Result<()>> + Send {
        Session::describe_portal(self, name, sink)
    }

    fn execute(
        &mut self,
        portal: &str,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> impl Future<Output = Result<Outcome>> + Send {
        Session::execute(self, portal, max_rows, sink)
    }

    fn close_statement(&mut self, name: &str) {
        Session::close_statement(self, name);
    }

    fn close_portal(&mut self, name: &str) {
        Session::close_portal(self, name);
    }

    fn sync(&mut self, failed: bool, sink: &mut dyn ResultSink) -> impl Future<Output = Result<()>> + Send {
        Session::sync(self, failed, sink)
    }

    fn copy_data(&mut self, data: &[u8]) -> impl Future<Output = Result<()>> + Send {
        Session::copy_data(self, data)
    }

    fn copy_done(&mut self, sink: &mut dyn ResultSink) -> impl Future<Output = Result<Outcome>> + Send {
        Session::copy_done(self, sink)
    }

    fn copy_fail(&mut self, message: &str) -> impl Future<Output = SqlError> + Send {
        Session::copy_fail(self, message)
    }

    fn close(&mut self) -> impl Future<Output = ()> + Send {
        Session::close(self)
    }
}
