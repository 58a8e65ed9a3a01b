//! The reading half of a connection: a buffer that is filled also while a statement runs.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use cairn_sql::{SqlError, SqlState};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frontend::{self, Frame, MAX_MESSAGE_BYTES};

/// How much is read ahead of the message at work. Enough to keep COPY busy; a client that pipelines
/// more waits in its socket.
const READ_AHEAD: usize = 64 << 10;

/// Room offered to a read. What a client sends in one go mostly fits.
const READ_BYTES: usize = 8 << 10;

/// Messages up to this size are not counted against [`Budget`].
const UNCOUNTED: usize = 1 << 20;

/// Bytes of large messages that all connections together may hold (R8: memory is bounded by a
/// stated limit, whoever connects).
#[derive(Debug)]
pub struct Budget {
    free: AtomicUsize,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget { free: AtomicUsize::new(bytes) })
    }

    fn try_take(self: &Arc<Budget>, bytes: usize) -> Option<Grant> {
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes))
            .ok()
            .map(|_| Grant { budget: Arc::clone(self), bytes })
    }
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
struct Grant {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Why nothing more will be read.
#[derive(Debug)]
pub enum End {
    /// The client closed its side; what it sent before may still be answered.
    Closed,
    /// The connection broke.
    Broken(io::Error),
}

/// What [`Reader::take`] found.
#[derive(Debug)]
pub enum Incoming {
    /// A message.
    Message(Frame),
    /// A message of this type that was too large and has been skipped.
    Refused(u8, SqlError),
}

/// The reading half.
pub struct Reader<R> {
    stream: R,
    buffer: BytesMut,
    end: Option<End>,
    budget: Arc<Budget>,
    /// Held for the large message that is being read.
    reading: Option<Grant>,
    /// Held for the large message that is being worked on.
    working: Option<Grant>,
    /// The message at work was so large that its memory should be given back.
    large: bool,
    /// Bytes still to skip of a refused message, and its error once that is done.
    skip: Option<(usize, u8, SqlError)>,
    /// Prefix of `buffer` known to hold whole messages without a Terminate.
    scanned: usize,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader with nothing read yet.
    pub fn new(stream: R, budget: Arc<Budget>) -> Reader<R> {
        Reader {
            stream,
            buffer: BytesMut::new(),
            end: None,
            budget,
            reading: None,
            working: None,
            large: false,
            skip: None,
            scanned: 0,
        }
    }

    /// Why nothing more will be read, once that is so.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The next message if it is complete. An error is a protocol violation.
    pub fn take(&mut self) -> Result<Option<Incoming>, SqlError> {
        if let Some((left, kind, error)) = &mut self.skip {
            let skipped = self.buffer.len().min(*left);
            self.buffer.advance(skipped);
            *left -= skipped;
            if *left > 0 {
                return Ok(None);
            }
            let refused = Incoming::Refused(*kind, error.clone());
            self.skip = None;
            return Ok(Some(refused));
        }
        let Some((kind, length)) = frontend::header(&self.buffer)? else { return Ok(None) };
        if self.buffer.len() >= 5 + length {
            let mut body = self.buffer.split_to(5 + length).freeze();
            body.advance(5);
            self.scanned = self.scanned.saturating_sub(5 + length);
            self.working = self.reading.take();
            self.large = length > READ_AHEAD;
            return Ok(Some(Incoming::Message(Frame { kind, body })));
        }
        if let Err(error) = self.admit(length) {
            self.scanned = 0;
            self.skip = Some((5 + length, kind, error));
            return self.take();
        }
        Ok(None)
    }

    /// Forgets what the last message needed, now that it has been dealt with.
    pub fn done(&mut self) {
        if self.large {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.large = false;
        }
        self.working = None;
    }

    /// Whether a Terminate waits behind the messages that were read ahead.
    pub fn sees_terminate(&mut self) -> bool {
        if self.skip.is_some() {
            return false;
        }
        while let Ok(Some((kind, length))) = frontend::header(&self.buffer[self.scanned..]) {
            if kind == b'X' {
                return true;
            }
            if self.buffer.len() - self.scanned < 5 + length {
                break;
            }
            self.scanned += 5 + length;
        }
        false
    }

    /// Waits until more has been read, or the end. Nothing happens while so much is buffered that
    /// reading on would only cost memory.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        let wanted = match (&self.skip, frontend::header(&self.buffer)) {
            (None, Ok(Some((_, length)))) if length > READ_AHEAD && self.grant_allows(length) => 5 + length,
            _ => READ_AHEAD,
        };
        if self.buffer.len() >= wanted {
            return Poll::Pending;
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 2 {
            let missing = wanted - self.buffer.len();
            self.buffer.reserve(if wanted > READ_AHEAD { missing } else { READ_BYTES });
        }
        // Dropping the future of `read_buf` loses nothing: it reads at once or not at all.
        match pin!(self.stream.read_buf(&mut self.buffer)).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.end = Some(End::Closed);
                Poll::Ready(())
            }
            Poll::Ready(Ok(_)) => Poll::Ready(()),
            Poll::Ready(Err(error)) => {
                self.end = Some(End::Broken(error));
                Poll::Ready(())
            }
        }
    }

    fn grant_allows(&self, length: usize) -> bool {
        length <= UNCOUNTED || self.reading.is_some()
    }

    /// Takes memory for a message of `length` whose end has not been read yet.
    fn admit(&mut self, length: usize) -> Result<(), SqlError> {
        if self.grant_allows(length) {
            return Ok(());
        }
        if length > MAX_MESSAGE_BYTES {
            let message = format!("message of {length} bytes exceeds the limit of {MAX_MESSAGE_BYTES} bytes");
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT, message));
        }
        let Some(grant) = self.budget.try_take(length) else {
            return Err(SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory")
                .detail(format!(
                    "A message of {length} bytes does not fit beside the large messages of other sessions."
                ))
                .hint("Try again later."));
        };
        self.reading = Some(grant);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    async fn next<R: AsyncRead + Unpin>(reader: &mut Reader<R>) -> Option<Incoming> {
        loop {
            if let Some(incoming) = reader.take().unwrap() {
                return Some(incoming);
            }
            if reader.end().is_some() {
                return None;
            }
            poll_fn(|cx| reader.poll_fill(cx)).await;
        }
    }

    #[tokio::test]
    async fn a_message_beyond_the_limit_is_skipped_and_the_next_one_read() {
        let mut bytes = message(b'Q', &vec![b'x'; MAX_MESSAGE_BYTES + 1]);
        bytes.extend(message(b'S', b""));
        let mut reader = Reader::new(&bytes[..], Budget::new(usize::MAX));
        let Some(Incoming::Refused(b'Q', error)) = next(&mut reader).await else { panic!("not refused") };
        assert_eq!(error.state(), SqlState::PROGRAM_LIMIT);
        assert!(reader.buffer.capacity() < 1 << 20, "the refused message was not buffered");
        let Some(Incoming::Message(frame)) = next(&mut reader).await else { panic!("lost step") };
        assert_eq!(frame.kind, b'S');
    }

    #[tokio::test]
    async fn a_large_message_takes_from_the_budget_and_gives_back() {
        let budget = Budget::new(3 << 20);
        let mut bytes = message(b'd', &vec![1; 2 << 20]);
        bytes.extend(message(b'd', &vec![2; 2 << 20]));
        let mut one = Reader::new(&bytes[..], Arc::clone(&budget));
        let mut two = Reader::new(&bytes[..], Arc::clone(&budget));
        let first = next(&mut one).await;
        assert!(matches!(&first, Some(Incoming::Message(frame)) if frame.body.len() == 2 << 20));
        let Some(Incoming::Refused(b'd', error)) = next(&mut two).await else { panic!("over the budget") };
        assert_eq!(error.state(), SqlState::OUT_OF_MEMORY);
        drop(first);
        one.done();
        assert!(matches!(next(&mut two).await, Some(Incoming::Message(_))));
        two.done();
        assert_eq!(budget.free.load(Ordering::Relaxed), 3 << 20);
    }

    #[tokio::test]
    async fn a_terminate_is_seen_behind_other_messages() {
        let mut bytes = message(b'Q', b"select 1\0");
        bytes.extend(message(b'd', b"X"));
        bytes.extend(message(b'X', b""));
        let mut reader = Reader::new(&bytes[..], Budget::new(0));
        poll_fn(|cx| reader.poll_fill(cx)).await;
        assert!(matches!(reader.take(), Ok(Some(Incoming::Message(_)))));
        assert!(reader.sees_terminate());
    }
}
