//! A session that does what the statement says, so that tests decide when it waits, fails or panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_server::connection::backend::{Backend, Connect};
use cairn_sql::plan::OutputColumn;
use cairn_sql::session::{ClientInfo, Format, Outcome, ResultSink, Severity, TransactionStatus};
use cairn_sql::types::{Datum, Type, TypeKind};
use cairn_sql::{Result, SqlError, SqlState};
use cairn_txn::CancelToken;

/// What all puppets of a test share.
#[derive(Default)]
pub struct Stage {
    /// Statements that wait at present.
    pub waiting: AtomicUsize,
    /// Sessions closed in good order.
    pub closed: AtomicUsize,
    /// Bytes that COPY received.
    pub copied: AtomicUsize,
}

/// Begins puppets.
#[derive(Clone, Default)]
pub struct Puppeteer(pub Arc<Stage>);

impl Connect for Puppeteer {
    type Session = Puppet;

    fn connect(&self, _: u32, client: ClientInfo) -> Result<Puppet> {
        if client.database == "nowhere" {
            return Err(SqlError::new(SqlState::INVALID_CATALOG_NAME, "database \"nowhere\" does not exist"));
        }
        Ok(Puppet {
            stage: Arc::clone(&self.0),
            client,
            cancel: CancelToken::default(),
            status: TransactionStatus::Idle,
            idle_timeout: None,
            statement_timeout: None,
            statement: String::new(),
            left: 0,
        })
    }
}

/// A session.
pub struct Puppet {
    stage: Arc<Stage>,
    client: ClientInfo,
    cancel: CancelToken,
    status: TransactionStatus,
    idle_timeout: Option<Duration>,
    statement_timeout: Option<Duration>,
    /// The unnamed statement.
    statement: String,
    /// Rows that the portal has left.
    left: usize,
}

fn column() -> OutputColumn {
    OutputColumn { name: "word".into(), ty: Type::new(TypeKind::Text), source: (0, 0) }
}

impl Puppet {
    async fn rows(&mut self, count: usize, sink: &mut dyn ResultSink) -> Result<()> {
        let columns = [column()];
        for i in 0..count {
            sink.row(&[Datum::Text(format!("row {i}").into())], &columns, &[]);
            if sink.is_full() {
                sink.flush().await?;
            }
        }
        sink.complete(&format!("SELECT {count}"));
        Ok(())
    }

    async fn perform(&mut self, sql: &str, simple: bool, sink: &mut dyn ResultSink) -> Result<Outcome> {
        let (verb, rest) = sql.split_once(' ').unwrap_or((sql, ""));
        match verb {
            "" => sink.empty_query(),
            "rows" => {
                if simple {
                    sink.row_description(&[column()], &[]);
                }
                self.rows(rest.parse().expect("a number"), sink).await?;
            }
            "client" => {
                sink.row_description(&[column()], &[]);
                let client =
                    format!("{} {} {:?}", self.client.user, self.client.database, self.client.settings);
                sink.row(&[Datum::Text(client.into())], &[column()], &[]);
                sink.complete("SELECT 1");
            }
            "wait" => {
                self.stage.waiting.fetch_add(1, Ordering::SeqCst);
                self.cancel.canceled().await;
                self.stage.waiting.fetch_sub(1, Ordering::SeqCst);
                let message = "canceling statement due to user request";
                return Err(SqlError::new(SqlState::QUERY_CANCELED, message));
            }
            "panic" => {
                sink.row_description(&[column()], &[]);
                panic!("the statement said so");
            }
            "fail" => {
                if self.status == TransactionStatus::Active {
                    self.status = TransactionStatus::Failed;
                }
                let mut error = SqlError::new(SqlState::UNIQUE_VIOLATION, "duplicate key")
                    .detail("Key (a)=(1) exists.")
                    .hint("Use another.")
                    .context("puppet")
                    .at(sql.find('!').unwrap_or(0));
                let fields = error.fields_mut();
                fields.schema = Some("public".into());
                fields.table = Some("t".into());
                fields.column = Some("a".into());
                fields.constraint = Some("t_pkey".into());
                return Err(error);
            }
            "begin" => {
                self.status = TransactionStatus::Active;
                sink.complete("BEGIN");
            }
            "commit" => {
                self.status = TransactionStatus::Idle;
                sink.complete("COMMIT");
            }
            "idle_timeout" => {
                self.idle_timeout = Some(Duration::from_millis(rest.parse().expect("milliseconds")));
                sink.complete("SET");
            }
            "statement_timeout" => {
                self.statement_timeout = Some(Duration::from_millis(rest.parse().expect("milliseconds")));
                sink.complete("SET");
            }
            "notice" => {
                sink.notice(Severity::Warning, &SqlError::new(SqlState::SUCCESS, rest.to_owned()));
                sink.parameter_status("TimeZone", "UTC");
                sink.complete("SET");
            }
            "copyin" => {
                sink.copy_in(2, Format::Text);
                return Ok(Outcome::CopyIn);
            }
            "copyout" => {
                sink.copy_out(1, Format::Text);
                for i in 0..rest.parse().expect("a number") {
                    sink.copy_data(format!("{i}\n").as_bytes());
                    if sink.is_full() {
                        sink.flush().await?;
                    }
                }
                sink.copy_done();
                sink.complete("COPY");
            }
            "length" => sink.complete(&format!("LENGTH {}", sql.len())),
            _ => {
                let message = format!("puppets cannot {verb}");
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
        }
        Ok(Outcome::Done)
    }
}

impl Backend for Puppet {
    fn reported_settings(&self) -> Vec<(String, String)> {
        vec![("server_version".into(), "15.0".into())]
    }

    fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    fn status(&self) -> TransactionStatus {
        self.status
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    fn statement_timeout(&self) -> Option<Duration> {
        self.statement_timeout
    }

    async fn simple_query(&mut self, sql: &str, sink: &mut dyn ResultSink) -> Result<Outcome> {
        self.perform(sql, true, sink).await
    }

    async fn parse(&mut self, _: &str, sql: &str, _: &[u32]) -> Result<()> {
        if let Some(at) = sql.find('!') {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error").at(at));
        }
        self.statement = sql.to_owned();
        Ok(())
    }

    async fn bind(
        &mut self,
        _: &str,
        _: &str,
        _: &[Format],
        parameters: &[Option<Bytes>],
        _: &[Format],
    ) -> Result<()> {
        self.left = match self.statement.strip_prefix("rows ") {
            Some(rows) => rows.parse().expect("a number"),
            None => 0,
        };
        if let Some(Some(parameter)) = parameters.first() {
            self.statement = format!("length {}", "x".repeat(parameter.len()));
        }
        Ok(())
    }

    async fn describe_statement(&mut self, _: &str, sink: &mut dyn ResultSink) -> Result<()> {
        sink.parameter_description(&[Type::new(TypeKind::Int4)]);
        sink.row_description(&[column()], &[]);
        Ok(())
    }

    async fn describe_portal(&mut self, _: &str, sink: &mut dyn ResultSink) -> Result<()> {
        sink.no_data();
        Ok(())
    }

    async fn execute(&mut self, _: &str, max_rows: u32, sink: &mut dyn ResultSink) -> Result<Outcome> {
        if self.left > max_rows as usize && max_rows > 0 {
            let columns = [column()];
            for _ in 0..max_rows {
                sink.row(&[Datum::Null], &columns, &[]);
            }
            self.left -= max_rows as usize;
            sink.suspended();
            return Ok(Outcome::Done);
        }
        let statement = self.statement.clone();
        self.perform(&statement, false, sink).await
    }

    fn close_statement(&mut self, _: &str) {}

    fn close_portal(&mut self, _: &str) {}

    async fn sync(&mut self, failed: bool, _: &mut dyn ResultSink) -> Result<()> {
        if failed && self.status == TransactionStatus::Active {
            self.status = TransactionStatus::Failed;
        }
        Ok(())
    }

    async fn copy_data(&mut self, data: &[u8]) -> Result<()> {
        if data.starts_with(b"bad") {
            return Err(SqlError::new(SqlState::BAD_COPY_FORMAT, "bad COPY data"));
        }
        self.stage.copied.fetch_add(data.len(), Ordering::SeqCst);
        Ok(())
    }

    async fn copy_done(&mut self, sink: &mut dyn ResultSink) -> Result<Outcome> {
        sink.complete("COPY 1");
        Ok(Outcome::Done)
    }

    async fn copy_fail(&mut self, message: &str) -> SqlError {
        SqlError::new(SqlState::QUERY_CANCELED, format!("COPY from stdin failed: {message}"))
    }

    async fn close(&mut self) {
        self.stage.closed.fetch_add(1, Ordering::SeqCst);
    }
}
