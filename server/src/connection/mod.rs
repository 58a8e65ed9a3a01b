//! Connections: PostgreSQL's protocol between a socket and a session.
//!
//! A connection is one task, and a statement runs on it: a message is read, decoded ([`frontend`]),
//! handed to the session ([`backend`]) whose output is encoded straight into the write buffer
//! ([`output`]), and one write answers the pipeline. So a round trip costs one read and one write
//! and crosses no thread. While a statement waits, [`watch`] reads ahead ([`reader`]) and looks for
//! what should end it. [`listener`] accepts, [`gate`] lets in, [`registry`] knows all connections,
//! [`startup`] is the handshake.
//!
//! The loop is our own because pgwire's awaits its handler before it reads again and flushes after
//! every message (DESIGN §6); pgwire encodes and decodes the messages of the startup.

pub mod backend;
mod frontend;
pub mod gate;
pub mod listener;
mod output;
mod reader;
pub mod registry;
mod startup;
mod watch;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Poll;

use bytes::Bytes;
use cairn_sql::session::{Outcome, ResultSink, TransactionStatus};
use cairn_sql::{SqlError, SqlState};
use cairn_txn::CancelToken;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout_at};

use backend::Backend;
use frontend::{Bind, Frame, Message, Target};
use output::Output;
pub use reader::Budget;
use reader::{End, Incoming, Reader};
use registry::{Handle, Phase};
use watch::{Cause, Watch};

/// Why a connection ends.
#[derive(Debug)]
enum Ending {
    /// The client said goodbye or is gone.
    Quiet,
    /// The client is told.
    Fatal(SqlError),
}

/// How a statement failed.
#[derive(Debug)]
enum Failure {
    /// The client is told and goes on.
    Error(SqlError),
    /// The connection ends.
    Ending(Ending),
}

impl From<Ending> for Failure {
    fn from(ending: Ending) -> Failure {
        Failure::Ending(ending)
    }
}

/// What a wait for the client is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Between pipelines: idle timeouts run, and the node's end comes at once outside a
    /// transaction.
    Ready,
    /// Within a pipeline.
    Pipeline,
    /// For COPY data: a cancel request ends the wait.
    Copy,
}

/// A connection with a session.
struct Connection<B, R, W> {
    session: B,
    reader: Reader<R>,
    output: Output<W>,
    handle: Arc<Handle>,
    cancel: CancelToken,
    completed: Arc<AtomicU64>,
    /// After an error in the extended protocol everything is skipped up to Sync.
    skipping: bool,
    /// Extended messages since the last Sync.
    pipeline: bool,
    /// The pipeline's newest statement, to which an error's position refers; see [`text_of`].
    statement: Bytes,
}

impl<B, R, W> Connection<B, R, W>
where
    B: Backend,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    fn new(session: B, reader: Reader<R>, output: Output<W>, handle: Arc<Handle>) -> Self {
        let cancel = session.cancel_token();
        handle.set_cancel(cancel.clone());
        let completed = output.completed();
        Connection {
            session,
            reader,
            output,
            handle,
            cancel,
            completed,
            skipping: false,
            pipeline: false,
            statement: Bytes::new(),
        }
    }

    /// Sends the welcome and serves the client until it leaves.
    async fn serve(&mut self) -> Ending {
        let mut served = self.send().await;
        let ending = loop {
            match served {
                Ok(()) => served = self.step().await,
                Err(ending) => break ending,
            }
        };
        self.session.close().await;
        ending
    }

    /// Takes one message and answers it.
    async fn step(&mut self) -> Result<(), Ending> {
        if self.output.broken().is_some() {
            return Err(Ending::Quiet);
        }
        let waiting = if self.pipeline { Waiting::Pipeline } else { Waiting::Ready };
        let frame = match self.next(waiting).await? {
            Incoming::Message(frame) => frame,
            Incoming::Refused(kind, error) => return self.refuse(kind, error).await,
        };
        let message = match frame.decode() {
            Ok(message) => message,
            Err(error) if error.state() == SqlState::PROTOCOL_VIOLATION => return Err(Ending::Fatal(error)),
            Err(error) => return self.refuse(frame.kind, error).await,
        };
        self.answer(message, &frame).await?;
        drop(frame);
        self.reader.done();
        Ok(())
    }

    async fn answer(&mut self, message: Message<'_>, frame: &Frame) -> Result<(), Ending> {
        match message {
            Message::Terminate => Err(Ending::Quiet),
            Message::Password => Err(Ending::Fatal(frontend::violation("invalid frontend message type 112"))),
            // What is left of a COPY that failed.
            Message::CopyData(_) | Message::CopyDone | Message::CopyFail { .. } => Ok(()),
            Message::Query { sql } => {
                self.begin();
                self.statement = text_of(frame, sql);
                let result = self.query(sql).await;
                self.finish_simple(result).await
            }
            Message::FunctionCall => {
                let error = SqlError::unsupported("the function call protocol");
                self.refuse(frame.kind, error).await
            }
            Message::Sync => {
                if !self.pipeline {
                    self.begin();
                }
                self.sync().await
            }
            Message::Flush => self.send().await,
            _ if self.skipping => Ok(()),
            message => {
                if !self.pipeline {
                    self.begin();
                    self.pipeline = true;
                }
                let result = self.extended(message, frame).await;
                self.finish_extended(result).await
            }
        }
    }

    /// A new statement or pipeline begins: a cancel request that came before it is late.
    fn begin(&mut self) {
        self.cancel.reset();
    }

    async fn query(&mut self, sql: &str) -> Result<(), Failure> {
        let (result, cause) = {
            let watch = watching(&self.session, &self.handle, &self.cancel, &self.completed);
            let statement = pin!(self.session.simple_query(sql, &mut self.output));
            watch::run(statement, &mut self.reader, watch).await
        };
        let outcome = self.settle(result, cause)?;
        self.copy_in(outcome).await
    }

    async fn extended(&mut self, message: Message<'_>, frame: &Frame) -> Result<(), Failure> {
        let watch = watching(&self.session, &self.handle, &self.cancel, &self.completed);
        match message {
            Message::Parse { name, sql, types } => {
                self.statement = text_of(frame, sql);
                let (result, cause) = {
                    let statement = pin!(self.session.parse(name, sql, &types));
                    watch::run(statement, &mut self.reader, watch).await
                };
                self.settle(result, cause)?;
                self.output.parse_complete();
            }
            Message::Bind(Bind { portal, statement, parameter_formats, parameters, result_formats }) => {
                let (result, cause) = {
                    let statement = pin!(self.session.bind(
                        portal,
                        statement,
                        &parameter_formats,
                        &parameters,
                        &result_formats
                    ));
                    watch::run(statement, &mut self.reader, watch).await
                };
                self.settle(result, cause)?;
                self.output.bind_complete();
            }
            Message::Describe { target: Target::Statement, name } => {
                let (result, cause) = {
                    let statement = pin!(self.session.describe_statement(name, &mut self.output));
                    watch::run(statement, &mut self.reader, watch).await
                };
                self.settle(result, cause)?;
            }
            Message::Describe { target: Target::Portal, name } => {
                let (result, cause) = {
                    let statement = pin!(self.session.describe_portal(name, &mut self.output));
                    watch::run(statement, &mut self.reader, watch).await
                };
                self.settle(result, cause)?;
            }
            Message::Execute { portal, max_rows } => {
                let (result, cause) = {
                    let statement = pin!(self.session.execute(portal, max_rows, &mut self.output));
                    watch::run(statement, &mut self.reader, watch).await
                };
                let outcome = self.settle(result, cause)?;
                self.copy_in(outcome).await?;
            }
            Message::Close { target, name } => {
                match target {
                    Target::Statement => self.session.close_statement(name),
                    Target::Portal => self.session.close_portal(name),
                }
                self.output.close_complete();
            }
            _ => unreachable!("the other messages are answered by the caller"),
        }
        Ok(())
    }

    /// Feeds COPY FROM STDIN until the client ends it or it fails.
    async fn copy_in(&mut self, mut outcome: Outcome) -> Result<(), Failure> {
        // One statement, however many messages it takes and however long the client lets it wait.
        let deadline = self.session.statement_timeout().map(|timeout| Instant::now() + timeout);
        while outcome == Outcome::CopyIn {
            self.send().await?;
            outcome = loop {
                let incoming = match deadline {
                    None => self.next(Waiting::Copy).await,
                    Some(deadline) => match timeout_at(deadline, self.next(Waiting::Copy)).await {
                        Ok(incoming) if Instant::now() < deadline => incoming,
                        _ => {
                            let error = statement_timeout();
                            self.session.copy_fail(error.message()).await;
                            return Err(Failure::Error(error));
                        }
                    },
                };
                let frame = match incoming {
                    Ok(Incoming::Message(frame)) => frame,
                    Ok(Incoming::Refused(_, error)) => {
                        self.session.copy_fail(error.message()).await;
                        return Err(Failure::Error(error));
                    }
                    Err(Ending::Fatal(error)) if error.state() == SqlState::QUERY_CANCELED => {
                        self.session.copy_fail(error.message()).await;
                        return Err(Failure::Error(error));
                    }
                    Err(ending) => return Err(Failure::Ending(ending)),
                };
                let message = frame.decode().map_err(|error| Failure::Ending(Ending::Fatal(error)))?;
                let mut watch = watching(&self.session, &self.handle, &self.cancel, &self.completed);
                watch.timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                match message {
                    Message::CopyData(data) => {
                        let (result, cause) = {
                            let statement = pin!(self.session.copy_data(data));
                            watch::run(statement, &mut self.reader, watch).await
                        };
                        drop(frame);
                        self.reader.done();
                        self.settle(result, cause)?;
                    }
                    Message::CopyDone => {
                        let (result, cause) = {
                            let statement = pin!(self.session.copy_done(&mut self.output));
                            watch::run(statement, &mut self.reader, watch).await
                        };
                        break self.settle(result, cause)?;
                    }
                    Message::CopyFail { message } => {
                        return Err(Failure::Error(self.session.copy_fail(message).await));
                    }
                    Message::Flush | Message::Sync => {}
                    Message::Terminate => return Err(Failure::Ending(Ending::Quiet)),
                    _ => {
                        let message =
                            format!("unexpected message type 0x{:02X} during COPY from stdin", frame.kind);
                        self.session.copy_fail(&message).await;
                        return Err(Failure::Error(SqlError::new(SqlState::PROTOCOL_VIOLATION, message)));
                    }
                }
            };
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Ending> {
        let failed = std::mem::take(&mut self.skipping);
        self.pipeline = false;
        let (result, cause) = {
            let watch = watching(&self.session, &self.handle, &self.cancel, &self.completed);
            let statement = pin!(self.session.sync(failed, &mut self.output));
            watch::run(statement, &mut self.reader, watch).await
        };
        let result = self.settle(result, cause);
        self.finish_simple(result).await
    }

    /// Answers a message that was not even tried.
    async fn refuse(&mut self, kind: u8, error: SqlError) -> Result<(), Ending> {
        match kind {
            b'd' => Ok(()),
            b'Q' | b'F' => {
                self.begin();
                // The session has not seen the error: an open transaction fails all the same.
                let failed = self.session.sync(true, &mut self.output).await;
                self.finish_simple(failed.and(Err(error)).map_err(Failure::Error)).await
            }
            _ if self.skipping => Ok(()),
            _ => {
                self.pipeline = true;
                self.finish_extended(Err(Failure::Error(error))).await
            }
        }
    }

    /// Ends a simple query or a pipeline: ReadyForQuery, all sent.
    async fn finish_simple(&mut self, result: Result<(), Failure>) -> Result<(), Ending> {
        match result {
            Ok(()) => {}
            Err(Failure::Error(error)) => self.report(&error),
            Err(Failure::Ending(ending)) => return Err(ending),
        }
        self.statement = Bytes::new();
        self.output.ready_for_query(self.session.status());
        self.send().await
    }

    /// Ends a message of the extended protocol; its answer waits for the pipeline's end.
    async fn finish_extended(&mut self, result: Result<(), Failure>) -> Result<(), Ending> {
        match result {
            Ok(()) => {}
            Err(Failure::Error(error)) => {
                self.report(&error);
                self.skipping = true;
            }
            Err(Failure::Ending(ending)) => return Err(ending),
        }
        if self.output.is_full() {
            return self.send().await;
        }
        Ok(())
    }

    fn report(&mut self, error: &SqlError) {
        let statement = std::str::from_utf8(&self.statement).unwrap_or_default();
        self.output.error("ERROR", error, statement);
    }

    /// Sends what is buffered, unless the client is gone.
    async fn send(&mut self) -> Result<(), Ending> {
        self.output.send().await.map_err(|_| Ending::Quiet)
    }

    /// Puts together what a statement returned and why it was told to end.
    fn settle<T>(&mut self, result: Result<T, SqlError>, cause: Option<Cause>) -> Result<T, Failure> {
        let result = match self.output.take_refused() {
            Some(error) => Err(error),
            None => result,
        };
        let error = match result {
            Ok(value) => {
                if cause.is_some() {
                    // It was done first; the next one is not to be hit instead.
                    self.cancel.reset();
                }
                return Ok(value);
            }
            Err(error) => error,
        };
        if self.output.broken().is_some() {
            return Err(Failure::Ending(Ending::Quiet));
        }
        Err(match cause {
            Some(Cause::Gone) => Failure::Ending(Ending::Quiet),
            Some(Cause::Shutdown) => Failure::Ending(Ending::Fatal(admin_shutdown())),
            Some(Cause::Timeout) if error.state() == SqlState::QUERY_CANCELED => {
                Failure::Error(statement_timeout())
            }
            _ => Failure::Error(error),
        })
    }

    /// The next message.
    async fn next(&mut self, waiting: Waiting) -> Result<Incoming, Ending> {
        let Connection { session, reader, handle, cancel, .. } = self;
        let idle = match waiting {
            Waiting::Ready => session.idle_timeout(),
            Waiting::Pipeline | Waiting::Copy => None,
        };
        let mut idle = pin!(idle.map(sleep));
        let mut canceled = pin!((waiting == Waiting::Copy).then(|| cancel.canceled()));
        let in_transaction = session.status() != TransactionStatus::Idle;
        poll_fn(|cx| {
            let phase = handle.phase();
            loop {
                match phase {
                    Phase::Serving => {}
                    Phase::Draining if waiting != Waiting::Ready || in_transaction => {}
                    Phase::Draining | Phase::Killed => {
                        return Poll::Ready(Err(Ending::Fatal(admin_shutdown())));
                    }
                }
                match reader.take() {
                    Ok(Some(incoming)) => return Poll::Ready(Ok(incoming)),
                    Ok(None) => {}
                    Err(violation) => return Poll::Ready(Err(Ending::Fatal(violation))),
                }
                match reader.end() {
                    None => {}
                    Some(End::Closed) => return Poll::Ready(Err(Ending::Quiet)),
                    Some(End::Broken(error)) => {
                        tracing::debug!(session = handle.id(), %error, "connection broke");
                        return Poll::Ready(Err(Ending::Quiet));
                    }
                }
                if reader.poll_fill(cx).is_pending() {
                    break;
                }
            }
            handle.watch(cx.waker());
            if let Some(canceled) = canceled.as_mut().as_pin_mut()
                && canceled.poll(cx).is_ready()
            {
                let message = "canceling statement due to user request";
                return Poll::Ready(Err(Ending::Fatal(SqlError::new(SqlState::QUERY_CANCELED, message))));
            }
            if let Some(idle) = idle.as_mut().as_pin_mut()
                && idle.poll(cx).is_ready()
            {
                return Poll::Ready(Err(Ending::Fatal(idle_timeout(in_transaction))));
            }
            // The phase may have changed between the look at it and the registration.
            if handle.phase() != phase {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }
}

/// What to watch while `session` runs a statement.
fn watching<'a, B: Backend>(
    session: &B,
    handle: &'a Handle,
    cancel: &'a CancelToken,
    completed: &'a AtomicU64,
) -> Watch<'a> {
    Watch { handle, cancel, timeout: session.statement_timeout(), completed }
}

/// The part of a frame that holds `text`, to find positions in it. In ASCII a position is known
/// without it.
fn text_of(frame: &Frame, text: &str) -> Bytes {
    if text.is_ascii() { Bytes::new() } else { frame.body.slice_ref(text.as_bytes()) }
}

fn statement_timeout() -> SqlError {
    SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to statement timeout")
}

fn admin_shutdown() -> SqlError {
    SqlError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

fn idle_timeout(in_transaction: bool) -> SqlError {
    if in_transaction {
        let message = "terminating connection due to idle-in-transaction timeout";
        SqlError::new(SqlState::IDLE_IN_TRANSACTION_TIMEOUT, message)
    } else {
        SqlError::new(SqlState::IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout")
    }
}
