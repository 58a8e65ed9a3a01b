//! What is to be sent to a peer on one channel.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::QUEUE_BYTES;
use super::wire::Sending;

/// The frames, and the stream that they go to while there is one.
#[derive(Default)]
pub struct Outgoing {
    state: Mutex<State>,
    /// Something waits that its sender could not write.
    waits: Notify,
}

#[derive(Default)]
struct State {
    socket: Option<Arc<TcpStream>>,
    /// Written in part: nothing may come between.
    begun: Option<Sending>,
    frames: VecDeque<Bytes>,
    /// Of the frames.
    bytes: usize,
}

impl Outgoing {
    /// Writes a frame if nothing is before it and the stream takes it; else it waits, unless the queue is full. Never
    /// blocks.
    pub fn send(&self, frame: Bytes) {
        let mut state = self.state.lock();
        if state.is_idle()
            && let Some(socket) = &state.socket
        {
            let mut sending = Sending::frame(frame);
            if matches!(sending.write(socket), Ok(true)) {
                return;
            }
            // An error, too, is met by whoever writes what waits: the stream is its to end.
            state.begun = Some(sending);
        } else {
            if state.bytes + frame.len() > QUEUE_BYTES {
                return;
            }
            state.bytes += frame.len();
            state.frames.push_back(frame);
        }
        drop(state);
        self.waits.notify_one();
    }

    /// There is a stream, which the peer has taken.
    pub fn connect(&self, socket: Arc<TcpStream>) {
        self.state.lock().socket = Some(socket);
    }

    /// The stream has broken, and what waited for it is stale.
    pub fn disconnect(&self) {
        *self.state.lock() = State::default();
    }

    /// Writes what waits, as it comes, until the stream breaks.
    pub async fn write_what_waits(&self, socket: &TcpStream) -> io::Error {
        loop {
            match self.write_next(socket) {
                Ok(Written::Frame) => {}
                Ok(Written::All) => self.waits.notified().await,
                Ok(Written::Part) => {
                    if let Err(error) = socket.writable().await {
                        return error;
                    }
                }
                Err(error) => return error,
            }
        }
    }

    /// One frame at a time, so that whoever sends does not wait for more.
    fn write_next(&self, socket: &TcpStream) -> io::Result<Written> {
        let mut state = self.state.lock();
        let next = state.begun.take().or_else(|| state.next());
        let Some(mut sending) = next else { return Ok(Written::All) };
        if sending.write(socket)? {
            return Ok(Written::Frame);
        }
        state.begun = Some(sending);
        Ok(Written::Part)
    }
}

enum Written {
    Frame,
    Part,
    All,
}

impl State {
    fn is_idle(&self) -> bool {
        self.begun.is_none() && self.frames.is_empty()
    }

    fn next(&mut self) -> Option<Sending> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(Sending::frame(frame))
    }
}
