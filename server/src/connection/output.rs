//! The writing half of a connection: messages to the client are encoded into one buffer, which is
//! sent when a pipeline ends or much has gathered.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::BufMut;
use cairn_kv::seam::BoxFuture;
use cairn_sql::plan::OutputColumn;
use cairn_sql::session::{Format, ResultSink, Severity, TransactionStatus};
use cairn_sql::types::{Datum, TextContext, Type, write_binary, write_text};
use cairn_sql::{Result, SqlError, SqlState};
use tokio::io::AsyncWrite;

use super::registry::Handle;

/// When this much is buffered, it should be sent before more is produced.
const FULL: usize = 64 << 10;

/// What stays allocated for an idle connection.
const KEPT: usize = 16 << 10;

/// Largest message that PostgreSQL's clients take.
const MAX_MESSAGE: usize = 0x3fff_fffe;

/// The writing half.
pub struct Output<W> {
    stream: W,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are sent already.
    written: usize,
    /// Bytes sent before those in `buffer`.
    sent: usize,
    /// Counts completed statements: `statement_timeout` holds for each of a query string.
    completed: Arc<AtomicU64>,
    /// A row that the protocol cannot carry: the statement fails instead.
    refused: Option<SqlError>,
    /// The error of the stream; from then on output goes nowhere.
    broken: Option<io::Error>,
    handle: Arc<Handle>,
    /// What the text form of values depends on.
    context: Arc<TextContext>,
}

impl<W: AsyncWrite + Unpin + Send> Output<W> {
    /// An empty buffer in front of `stream`.
    pub fn new(stream: W, handle: Arc<Handle>) -> Output<W> {
        Output {
            stream,
            buffer: Vec::with_capacity(KEPT / 4),
            written: 0,
            sent: 0,
            completed: Arc::default(),
            refused: None,
            broken: None,
            handle,
            context: Arc::default(),
        }
    }

    /// How many statements have completed, to watch while one runs.
    pub fn completed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.completed)
    }

    /// The error that broke the stream.
    pub fn broken(&self) -> Option<&io::Error> {
        self.broken.as_ref()
    }

    /// The error of a row that could not be sent.
    pub fn take_refused(&mut self) -> Option<SqlError> {
        self.refused.take()
    }

    /// Forgets everything unsent. After a panic the end may be half a message.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.written = 0;
        self.refused = None;
    }

    /// A message that pgwire encodes.
    pub fn pgwire<M: pgwire::messages::Message>(&mut self, message: &M) {
        let mut encoded = bytes::BytesMut::new();
        message.encode(&mut encoded).expect("messages of the startup are small");
        self.buffer.put_slice(&encoded);
    }

    /// ParseComplete
    pub fn parse_complete(&mut self) {
        self.buffer.put_slice(b"1\0\0\0\x04");
    }

    /// BindComplete
    pub fn bind_complete(&mut self) {
        self.buffer.put_slice(b"2\0\0\0\x04");
    }

    /// CloseComplete
    pub fn close_complete(&mut self) {
        self.buffer.put_slice(b"3\0\0\0\x04");
    }

    /// ReadyForQuery
    pub fn ready_for_query(&mut self, status: TransactionStatus) {
        let status = match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::Active => b'T',
            TransactionStatus::Failed => b'E',
        };
        self.buffer.put_slice(&[b'Z', 0, 0, 0, 5, status]);
    }

    /// ErrorResponse. `statement` is the text that the error's position refers to.
    pub fn error(&mut self, severity: &str, error: &SqlError, statement: &str) {
        report(&mut self.buffer, b'E', severity, error, statement);
    }

    /// Sends what is buffered.
    pub async fn send(&mut self) -> Result<()> {
        poll_fn(|cx| self.poll_send(cx)).await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while self.broken.is_none() && self.written < self.buffer.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.buffer[self.written..]) {
                Poll::Ready(Ok(0)) => self.broken = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => self.written += n,
                Poll::Ready(Err(error)) => self.broken = Some(error),
                // A client that does not read must not hold up the end of the node.
                Poll::Pending if self.handle.is_killed() => {
                    self.broken = Some(io::ErrorKind::TimedOut.into());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        self.sent += self.buffer.len();
        self.written = 0;
        if self.buffer.capacity() > FULL + KEPT {
            self.buffer = Vec::with_capacity(KEPT);
        } else {
            self.buffer.clear();
        }
        Poll::Ready(match (&self.broken, self.refused.take()) {
            (Some(error), _) => Err(connection_failure(error)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        })
    }

    /// Ends the stream.
    pub async fn shutdown(&mut self) {
        let _ = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
    }

    fn begin(&mut self, kind: u8) -> usize {
        self.buffer.put_u8(kind);
        self.buffer.put_u32(0);
        self.buffer.len() - 4
    }

    fn end(&mut self, start: usize) {
        let length = self.buffer.len() - start;
        if length > MAX_MESSAGE {
            self.buffer.truncate(start - 1);
            let message = format!("a message of {length} bytes exceeds the limit of {MAX_MESSAGE} bytes");
            self.refused = Some(SqlError::new(SqlState::PROGRAM_LIMIT, message));
            return;
        }
        self.buffer[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
    }

    fn copy_response(&mut self, kind: u8, columns: usize, format: Format) {
        let start = self.begin(kind);
        self.buffer.put_u8(format as u8);
        self.buffer.put_u16(columns as u16);
        for _ in 0..columns {
            self.buffer.put_u16(format as u16);
        }
        self.end(start);
    }
}

/// The bytes of a FATAL ErrorResponse, for a client without a session.
pub fn fatal(error: &SqlError) -> Vec<u8> {
    let mut buffer = Vec::new();
    report(&mut buffer, b'E', "FATAL", error, "");
    buffer
}

/// ErrorResponse or NoticeResponse.
fn report(buffer: &mut Vec<u8>, kind: u8, severity: &str, error: &SqlError, statement: &str) {
    let fields = error.fields();
    let position = fields.position.map(|byte| characters_before(statement, byte).to_string());
    buffer.put_u8(kind);
    let start = buffer.len();
    buffer.put_u32(0);
    for (code, value) in [
        (b'S', Some(severity)),
        (b'V', Some(severity)),
        (b'C', Some(fields.state.as_str())),
        (b'M', Some(&*fields.message)),
        (b'D', fields.detail.as_deref()),
        (b'H', fields.hint.as_deref()),
        (b'P', position.as_deref()),
        (b'W', fields.context.as_deref()),
        (b's', fields.schema.as_deref()),
        (b't', fields.table.as_deref()),
        (b'c', fields.column.as_deref()),
        (b'n', fields.constraint.as_deref()),
    ] {
        if let Some(value) = value {
            buffer.put_u8(code);
            put_text(buffer, value);
        }
    }
    buffer.put_u8(0);
    let length = (buffer.len() - start) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A zero-terminated string.
fn put_text(buffer: &mut Vec<u8>, text: &str) {
    // A zero within would end the field early and leave the rest to be misread.
    let text = text.split('\0').next().unwrap_or_default();
    buffer.put_slice(text.as_bytes());
    buffer.put_u8(0);
}

/// PostgreSQL counts an error's position in characters, from 1.
fn characters_before(statement: &str, byte: usize) -> usize {
    match statement.get(..byte) {
        Some(before) => before.chars().count() + 1,
        None => byte + 1,
    }
}

fn connection_failure(error: &io::Error) -> SqlError {
    SqlError::new(SqlState(*b"08006"), format!("connection to client lost: {error}"))
}

impl<W: AsyncWrite + Unpin + Send> ResultSink for Output<W> {
    fn text_context(&mut self, context: &Arc<TextContext>) {
        self.context = Arc::clone(context);
    }

    fn row_description(&mut self, columns: &[OutputColumn], formats: &[Format]) {
        let start = self.begin(b'T');
        self.buffer.put_u16(columns.len() as u16);
        for (i, column) in columns.iter().enumerate() {
            put_text(&mut self.buffer, &column.name);
            let (table, attribute) = column.source;
            self.buffer.put_u32(table);
            self.buffer.put_i16(attribute);
            self.buffer.put_u32(column.ty.oid());
            self.buffer.put_i16(column.ty.kind.info().length);
            self.buffer.put_i32(column.ty.modifier);
            self.buffer.put_u16(format_of(formats, i) as u16);
        }
        self.end(start);
    }

    fn no_data(&mut self) {
        self.buffer.put_slice(b"n\0\0\0\x04");
    }

    fn parameter_description(&mut self, types: &[Type]) {
        let start = self.begin(b't');
        self.buffer.put_u16(types.len() as u16);
        for ty in types {
            self.buffer.put_u32(ty.oid());
        }
        self.end(start);
    }

    fn row(&mut self, row: &[Datum], columns: &[OutputColumn], formats: &[Format]) {
        let start = self.begin(b'D');
        self.buffer.put_u16(row.len() as u16);
        for (i, (datum, column)) in row.iter().zip(columns).enumerate() {
            if matches!(datum, Datum::Null) {
                self.buffer.put_i32(-1);
                continue;
            }
            self.buffer.put_u32(0);
            let value = self.buffer.len();
            match format_of(formats, i) {
                Format::Text => write_text(datum, column.ty, &self.context, &mut self.buffer),
                Format::Binary => write_binary(datum, column.ty, &mut self.buffer),
            }
            let length = (self.buffer.len() - value) as u32;
            self.buffer[value - 4..value].copy_from_slice(&length.to_be_bytes());
        }
        self.end(start);
    }

    fn complete(&mut self, tag: &str) {
        self.completed.fetch_add(1, Ordering::Relaxed);
        self.buffer.put_u8(b'C');
        self.buffer.put_u32(tag.len() as u32 + 5);
        self.buffer.put_slice(tag.as_bytes());
        self.buffer.put_u8(0);
    }

    fn empty_query(&mut self) {
        self.buffer.put_slice(b"I\0\0\0\x04");
    }

    fn suspended(&mut self) {
        self.buffer.put_slice(b"s\0\0\0\x04");
    }

    fn notice(&mut self, severity: Severity, notice: &SqlError) {
        let severity = match severity {
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Info => "INFO",
        };
        report(&mut self.buffer, b'N', severity, notice, "");
    }

    fn parameter_status(&mut self, name: &str, value: &str) {
        let start = self.begin(b'S');
        put_text(&mut self.buffer, name);
        put_text(&mut self.buffer, value);
        self.end(start);
    }

    fn copy_out(&mut self, columns: usize, format: Format) {
        self.copy_response(b'H', columns, format);
    }

    fn copy_data(&mut self, data: &[u8]) {
        let start = self.begin(b'd');
        self.buffer.put_slice(data);
        self.end(start);
    }

    fn copy_done(&mut self) {
        self.buffer.put_slice(b"c\0\0\0\x04");
    }

    fn copy_in(&mut self, columns: usize, format: Format) {
        self.copy_response(b'G', columns, format);
    }

    fn mark(&self) -> usize {
        self.sent + self.buffer.len()
    }

    fn rewind(&mut self, mark: usize) -> bool {
        if self.written > 0 || mark < self.sent {
            return false;
        }
        self.buffer.truncate(mark - self.sent);
        self.refused = None;
        true
    }

    fn cut(&mut self, mark: usize) -> Option<Vec<u8>> {
        let whole = self.written == 0 && mark >= self.sent;
        whole.then(|| self.buffer.split_off(mark - self.sent))
    }

    fn put(&mut self, encoded: &[u8]) {
        self.buffer.put_slice(encoded);
    }

    fn is_full(&self) -> bool {
        self.buffer.len() >= FULL || self.refused.is_some()
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.send())
    }
}

/// One format code stands for all columns; none means text.
fn format_of(formats: &[Format], column: usize) -> Format {
    match formats {
        [] => Format::Text,
        [all] => *all,
        each => each.get(column).copied().unwrap_or(Format::Text),
    }
}
