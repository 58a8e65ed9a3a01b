//! A client that is a SQL session of the simulated node.

use std::sync::Arc;

use cairn_kv::seam::BoxFuture;
use cairn_sql::SqlError;
use cairn_sql::plan::OutputColumn;
use cairn_sql::session::{
    ClientInfo, Format, Outcome, ResultSink, Session, Severity, SqlNode, TransactionStatus,
};
use cairn_sql::types::{Datum, TextContext, Type, text_of};

use crate::client::{Answer, Client, Failure, Op};
use crate::sql_text;

/// A connection.
pub struct SqlClient {
    session: Session,
    /// In a transaction in the past: there may be no tables yet.
    in_past: bool,
}

impl SqlClient {
    /// Connects; `id` is the session's process id.
    pub fn new(node: &Arc<SqlNode>, id: u32) -> Result<SqlClient, SqlError> {
        let client =
            ClientInfo { user: "postgres".into(), database: "postgres".into(), ..ClientInfo::default() };
        Ok(SqlClient { session: Session::new(node, id, client)?, in_past: false })
    }

    /// Runs a string of statements.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Message>, SqlError> {
        let mut answers = Answers::default();
        self.session.simple_query(sql, &mut answers).await?;
        Ok(answers.messages)
    }

    /// Runs a string of statements; errors by what a workload makes of them.
    pub async fn run(&mut self, sql: &str) -> Result<Vec<Message>, Failure> {
        self.query(sql).await.map_err(|error| self.failure(&error, sql))
    }

    /// Runs COPY FROM STDIN with `data`, in pieces that end anywhere.
    async fn copy(&mut self, sql: &str, data: &str) -> Result<Vec<Message>, SqlError> {
        const PIECE: usize = 1_000;
        let mut answers = Answers::default();
        let outcome = self.session.simple_query(sql, &mut answers).await?;
        assert_eq!(outcome, Outcome::CopyIn, "COPY waits for its data");
        for piece in data.as_bytes().chunks(PIECE) {
            self.session.copy_data(piece).await?;
        }
        self.session.copy_done(&mut answers).await?;
        Ok(answers.messages)
    }

    fn failure(&self, error: &SqlError, sql: &str) -> Failure {
        sql_text::failure(error.state().as_str(), error.message(), sql, self.in_past)
    }
}

impl Client for SqlClient {
    async fn create_tables(&mut self) -> Result<(), Failure> {
        for sql in sql_text::create_tables() {
            self.run(&sql).await?;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.run("BEGIN").await.map(|_| ())
    }

    async fn begin_read_committed(&mut self) -> Result<(), Failure> {
        self.run("BEGIN ISOLATION LEVEL READ COMMITTED").await.map(|_| ())
    }

    async fn begin_as_of(&mut self, past: &str) -> Result<(), Failure> {
        self.in_past = true;
        self.run(&format!("BEGIN AS OF SYSTEM TIME '{past}'")).await.map(|_| ())
    }

    async fn past(&mut self) -> Result<String, Failure> {
        let messages = self.run("SELECT clock_timestamp()").await?;
        sql_text::past(&rows(&messages))
    }

    async fn execute(&mut self, op: &Op) -> Result<Answer, Failure> {
        let sql = sql_text::text(op);
        let messages = match *op {
            Op::Load { first, count, value, .. } => {
                let copied = self.copy(&sql, &sql_text::copy_data(first, count, value)).await;
                copied.map_err(|error| self.failure(&error, &sql))?
            }
            _ => self.run(&sql).await?,
        };
        let changed = tag(&messages).rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        sql_text::answer(op, &rows(&messages), changed)
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        let result = self.run("COMMIT").await;
        self.in_past = false;
        match tag(&result?) {
            "COMMIT" => Ok(()),
            other => Err(Failure::Broken(format!("COMMIT answered {other}"))),
        }
    }

    async fn rollback(&mut self) {
        self.in_past = false;
        if self.session.status() != TransactionStatus::Idle {
            // It fails only where the node does, which the next statement will meet.
            let _ = self.run("ROLLBACK").await;
        }
    }
}

/// What a session answers, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Names of the columns of the rows that follow.
    Columns(Vec<String>),
    /// A row.
    Row(Vec<Option<String>>),
    /// A statement's command tag.
    Tag(String),
    /// SQLSTATE and text of a notice.
    Notice(String),
}

fn rows<'a>(messages: &'a [Message]) -> Vec<&'a [Option<String>]> {
    let row = |message: &'a Message| match message {
        Message::Row(row) => Some(&row[..]),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

/// The last statement's command tag.
fn tag(messages: &[Message]) -> &str {
    match messages.last() {
        Some(Message::Tag(tag)) => tag,
        _ => "",
    }
}

/// Gathers what a session answers.
#[derive(Default)]
struct Answers {
    messages: Vec<Message>,
    context: Arc<TextContext>,
}

impl ResultSink for Answers {
    fn text_context(&mut self, context: &Arc<TextContext>) {
        self.context = Arc::clone(context);
    }

    fn row_description(&mut self, columns: &[OutputColumn], _formats: &[Format]) {
        let names = columns.iter().map(|column| column.name.to_string()).collect();
        self.messages.push(Message::Columns(names));
    }

    fn no_data(&mut self) {}

    fn parameter_description(&mut self, _types: &[Type]) {}

    fn row(&mut self, row: &[Datum], columns: &[OutputColumn], _formats: &[Format]) {
        let text = |(datum, column): (&Datum, &OutputColumn)| {
            text_of(datum, column.ty, &self.context).map(|text| text.to_string())
        };
        self.messages.push(Message::Row(row.iter().zip(columns).map(text).collect()));
    }

    fn complete(&mut self, tag: &str) {
        self.messages.push(Message::Tag(tag.to_owned()));
    }

    fn empty_query(&mut self) {}

    fn suspended(&mut self) {}

    fn notice(&mut self, _severity: Severity, notice: &SqlError) {
        self.messages.push(Message::Notice(notice.to_string()));
    }

    fn parameter_status(&mut self, _name: &str, _value: &str) {}

    fn copy_out(&mut self, _columns: usize, _format: Format) {}

    fn copy_data(&mut self, data: &[u8]) {
        self.messages.push(Message::Row(vec![Some(String::from_utf8_lossy(data).into_owned())]));
    }

    fn copy_done(&mut self) {}

    fn copy_in(&mut self, _columns: usize, _format: Format) {}

    fn mark(&self) -> usize {
        self.messages.len()
    }

    fn rewind(&mut self, mark: usize) -> bool {
        self.messages.truncate(mark);
        true
    }

    fn is_full(&self) -> bool {
        false
    }

    fn flush(&mut self) -> BoxFuture<'_, cairn_sql::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
