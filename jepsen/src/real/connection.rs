//! A client that is a connection over a socket.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use crate::client::{Answer, Client, Failure, Op};
use crate::sql_text;

use super::cluster;

/// What is not answered within this is given up, its outcome unknown.
const DEADLINE: Duration = Duration::from_secs(5);

/// A node that does not accept a connection within this is not waited for.
const CONNECT: Duration = Duration::from_secs(1);

/// A connection.
pub struct Connection {
    client: tokio_postgres::Client,
    /// Moves its bytes.
    mover: JoinHandle<()>,
    /// An answer is outstanding that nobody waits for any more.
    given_up: bool,
    /// In a transaction in the past: there may be no tables yet.
    in_past: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.mover.abort();
    }
}

impl Connection {
    /// Connects to a node.
    pub async fn open(address: SocketAddr) -> Result<Connection, String> {
        match timeout(CONNECT, cluster::connect(address)).await {
            Ok(Ok((client, connection))) => {
                // It ends with an error where the node does, which the next statement is told.
                let mover = tokio::spawn(async move { drop(connection.await) });
                Ok(Connection { client, mover, given_up: false, in_past: false })
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {CONNECT:?}")),
        }
    }

    /// Whether statements can be sent.
    pub fn is_open(&self) -> bool {
        !self.given_up && !self.client.is_closed()
    }

    /// Runs a string of statements: rows of the last one that gave some, and rows changed.
    pub async fn run(&mut self, sql: &str) -> Result<(Vec<Vec<Option<String>>>, u64), Failure> {
        let messages = self.in_time(self.client.simple_query(sql)).await;
        let messages = self.told(messages, sql)?;
        let mut rows = Vec::new();
        let mut changed = 0;
        for message in messages {
            match message {
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
                }
                SimpleQueryMessage::CommandComplete(count) => changed = count,
                _ => {}
            }
        }
        Ok((rows, changed))
    }

    /// COPY FROM STDIN.
    async fn copy(&mut self, sql: &str, data: String) -> Result<u64, Failure> {
        let copied = self
            .in_time(async {
                let mut sink = std::pin::pin!(self.client.copy_in::<_, Bytes>(sql).await?);
                sink.send(data.into()).await?;
                sink.finish().await
            })
            .await;
        self.told(copied, sql)
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Option<Result<T, tokio_postgres::Error>> {
        if self.given_up {
            return None;
        }
        timeout(DEADLINE, answer).await.ok()
    }

    fn told<T>(&mut self, answer: Option<Result<T, tokio_postgres::Error>>, sql: &str) -> Result<T, Failure> {
        let Some(answer) = answer else {
            self.given_up = true;
            return Err(Failure::Unknown(format!("no answer within {DEADLINE:?} ({sql})")));
        };
        answer.map_err(|error| failure(&error, sql, self.in_past))
    }
}

/// What an error in answer to `sql` means; `in_past`: in a transaction that reads the past.
pub fn failure(error: &tokio_postgres::Error, sql: &str, in_past: bool) -> Failure {
    match error.as_db_error() {
        None => Failure::Unknown(format!("{error} ({sql})")),
        Some(error) => sql_text::failure(error.code().code(), error.message(), sql, in_past),
    }
}

fn slices(rows: &[Vec<Option<String>>]) -> Vec<&[Option<String>]> {
    rows.iter().map(|row| &row[..]).collect()
}

impl Client for Connection {
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
        let (rows, _) = self.run("SELECT clock_timestamp()").await?;
        sql_text::past(&slices(&rows))
    }

    async fn execute(&mut self, op: &Op) -> Result<Answer, Failure> {
        let sql = sql_text::text(op);
        let (rows, changed) = match *op {
            Op::Load { first, count, value, .. } => {
                (Vec::new(), self.copy(&sql, sql_text::copy_data(first, count, value)).await?)
            }
            _ => self.run(&sql).await?,
        };
        sql_text::answer(op, &slices(&rows), changed)
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        let result = self.run("COMMIT").await;
        self.in_past = false;
        result.map(|_| ())
    }

    async fn rollback(&mut self) {
        self.in_past = false;
        // Outside a transaction it is a warning. It fails only where the connection does, which the next
        // statement will meet.
        let _ = self.run("ROLLBACK").await;
    }
}
