//! What comes from the peers on one channel.

use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cairn_kv::seam::NodeId;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::wire::Frames;

/// The streams of one channel. Whoever waits for its frames reads them, on its own thread: nobody has to be woken
/// for it.
#[derive(Default)]
pub struct Incoming {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Taken, and not yet known to the reader's runtime.
    new: Vec<(NodeId, std::net::TcpStream)>,
    streams: Vec<Stream>,
    /// The one to look at first, so that none waits behind another that never ends.
    turn: usize,
    reader: Option<Waker>,
    has_ended: bool,
}

struct Stream {
    from: NodeId,
    frames: Frames,
}

impl Incoming {
    /// Takes a peer's stream, behind its greeting. It takes the place of an earlier one, which may have died unheard.
    pub fn add(&self, from: NodeId, socket: TcpStream) -> io::Result<()> {
        let socket = socket.into_std()?;
        let mut state = self.state.lock();
        if state.has_ended {
            return Ok(());
        }
        state.new.push((from, socket));
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    /// Closes all streams, for good.
    pub fn end(&self) {
        *self.state.lock() = State { has_ended: true, ..State::default() };
    }

    /// The next frame, and whose it is.
    pub async fn next(&self) -> (NodeId, Bytes) {
        std::future::poll_fn(|context| self.state.lock().poll_next(context)).await
    }
}

impl State {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(NodeId, Bytes)> {
        for (from, socket) in std::mem::take(&mut self.new) {
            self.streams.retain(|stream| stream.from != from);
            match TcpStream::from_std(socket) {
                Ok(socket) => self.streams.push(Stream { from, frames: Frames::new(socket) }),
                Err(error) => tracing::warn!(from, %error, "a stream is not taken"),
            }
        }
        let mut looked = 0;
        while looked < self.streams.len() {
            let at = self.turn % self.streams.len();
            let Stream { from, frames } = &mut self.streams[at];
            match frames.poll_next(context) {
                Poll::Ready(Ok(Some(frame))) => {
                    let from = *from;
                    self.turn = at + 1;
                    return Poll::Ready((from, frame));
                }
                Poll::Pending => {
                    looked += 1;
                    self.turn = at + 1;
                }
                Poll::Ready(ended) => {
                    let error = ended.err();
                    tracing::debug!(from, ?error, "a node's stream is over");
                    self.streams.remove(at);
                    looked = 0;
                }
            }
        }
        self.reader = Some(context.waker().clone());
        Poll::Pending
    }
}
