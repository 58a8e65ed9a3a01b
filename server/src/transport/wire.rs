//! What goes over a stream.
//!
//! Whoever dials begins: [`MAGIC`], the version, and a [`Hello`]. The other side answers with why it does not take
//! the stream, or an empty text. After that there are frames: a length (four bytes, little-endian), and as many
//! bytes. Nothing comes back. On the stream for [`PROBES`] there are no frames: each byte is to be sent back.

use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use cairn_kv::seam::{Channel, NodeId};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{MAX_FRAME_BYTES, Me};

/// How a stream begins. HTTP begins with a letter.
const MAGIC: [u8; 4] = [0xCA, b'i', b'r', b'n'];

/// Version of what follows.
const VERSION: u8 = 1;

/// In a channel's place: the stream is for signs of life.
const PROBES: u32 = u32::MAX;

/// Bytes of a frame in front of its body.
const HEADER_BYTES: usize = 4;

/// What is read at a time, at least.
const READ_BYTES: usize = 16 << 10;

/// Bodies from this size on share the memory that they were read into; it would be kept whole for small ones.
const SHARED_BYTES: usize = 16 << 10;

/// Who sends, to whom.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Hello {
    /// The sender's cluster.
    #[prost(bytes = "bytes", tag = "1")]
    pub cluster: Bytes,
    /// The sender.
    #[prost(uint64, tag = "2")]
    pub from: NodeId,
    /// Whom it means.
    #[prost(uint64, tag = "3")]
    pub to: NodeId,
    /// Where the sender is reached.
    #[prost(string, tag = "4")]
    pub address: String,
    /// Whose frames come on this stream: the number of a [`Channel`]. Or [`PROBES`].
    #[prost(uint32, tag = "5")]
    pub channel: u32,
}

impl Hello {
    /// Of `me`, reached at `address`, to another node.
    pub fn new(me: Me, to: NodeId, address: &str) -> Hello {
        let cluster = Bytes::copy_from_slice(&me.cluster);
        Hello { cluster, from: me.node, to, address: address.into(), channel: 0 }
    }

    /// For frames of that channel.
    pub fn on(&self, channel: Channel) -> Hello {
        Hello { channel: channel as u32, ..self.clone() }
    }

    /// For signs of life.
    pub fn for_probes(&self) -> Hello {
        Hello { channel: PROBES, ..self.clone() }
    }

    /// Whether it is for signs of life.
    pub fn is_for_probes(&self) -> bool {
        self.channel == PROBES
    }
}

/// Opens a stream to `address`.
pub async fn connect(address: &str, hello: Hello) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut greeting = MAGIC.to_vec();
    greeting.push(VERSION);
    push_text(&mut greeting, &hello.encode_to_vec())?;
    socket.write_all(&greeting).await?;
    let refusal = read_text(&mut socket).await?;
    if refusal.is_empty() {
        return Ok(socket);
    }
    Err(io::Error::other(String::from_utf8_lossy(&refusal).into_owned()))
}

/// Whether what has been accepted begins as a stream does. Takes nothing from it.
pub async fn begins_stream(socket: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    socket.peek(&mut first).await?;
    Ok(first[0] == MAGIC[0])
}

/// Who has opened a stream.
pub async fn read_hello(socket: &mut TcpStream) -> io::Result<Hello> {
    let mut greeting = [0; MAGIC.len() + 1];
    socket.read_exact(&mut greeting).await?;
    if greeting[..MAGIC.len()] != MAGIC {
        return Err(invalid("it is no stream of another node"));
    }
    if greeting[MAGIC.len()] != VERSION {
        write_answer(socket, Some(&"this node speaks another version".into())).await?;
        return Err(invalid("it is of another version"));
    }
    let hello = read_text(socket).await?;
    Hello::decode(&hello[..]).map_err(|_| invalid("it does not say who sends"))
}

/// Answers whoever has opened a stream.
pub async fn write_answer(socket: &mut TcpStream, refusal: Option<&String>) -> io::Result<()> {
    let mut answer = Vec::new();
    push_text(&mut answer, refusal.map_or(&[], |refusal| refusal.as_bytes()))?;
    socket.write_all(&answer).await
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) -> io::Result<()> {
    let len = u16::try_from(text.len()).map_err(|_| invalid("too long"))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text);
    Ok(())
}

async fn read_text(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = socket.read_u16_le().await?;
    let mut text = vec![0; usize::from(len)];
    socket.read_exact(&mut text).await?;
    Ok(text)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Asks for signs of life, until one does not come, or the stream breaks.
pub async fn probe(mut socket: TcpStream) -> io::Error {
    loop {
        let asked = async {
            socket.write_all(&[1]).await?;
            read_some(&mut socket).await
        };
        match timeout(super::PROBE, asked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(_) => return io::Error::new(io::ErrorKind::TimedOut, "the node does not answer"),
        }
        // What is to be read now is the stream's end.
        if let Ok(Err(error)) = timeout(super::PROBE, read_some(&mut socket)).await {
            return error;
        }
    }
}

async fn read_some(socket: &mut TcpStream) -> io::Result<()> {
    match socket.read(&mut [0; 16]).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node has ended the stream")),
        _ => Ok(()),
    }
}

/// Gives signs of life, until the stream ends, or nobody asks for them any more.
pub async fn answer_probes(mut socket: TcpStream) -> io::Result<()> {
    let mut asked = [0; 16];
    loop {
        let count = timeout(super::SILENCE, socket.read(&mut asked)).await??;
        if count == 0 {
            return Ok(());
        }
        socket.write_all(&asked[..count]).await?;
    }
}

/// A frame on its way out.
pub struct Sending {
    header: [u8; HEADER_BYTES],
    body: Bytes,
    /// Bytes of both that are written.
    written: usize,
}

impl Sending {
    /// A frame.
    pub fn frame(body: Bytes) -> Sending {
        assert!(body.len() <= MAX_FRAME_BYTES, "frames are bounded far below (R8)");
        Sending { header: (body.len() as u32).to_le_bytes(), body, written: 0 }
    }

    /// Writes what `socket` takes; whether that was the rest.
    pub fn write(&mut self, socket: &TcpStream) -> io::Result<bool> {
        loop {
            let header = &self.header[self.written.min(HEADER_BYTES)..];
            let body = &self.body[self.written.saturating_sub(HEADER_BYTES)..];
            if header.is_empty() && body.is_empty() {
                return Ok(true);
            }
            match socket.try_write_vectored(&[IoSlice::new(header), IoSlice::new(body)]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads a stream.
pub struct Frames {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Frames {
    /// What follows the greeting.
    pub fn new(socket: TcpStream) -> Frames {
        Frames { socket, buffer: BytesMut::new() }
    }

    /// The next frame; none: the stream has ended.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if let Some(frame) = take(&mut self.buffer)? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
                self.buffer.reserve(READ_BYTES);
            }
            let read = pin!(self.socket.read_buf(&mut self.buffer));
            if ready!(read.poll(context))? == 0 {
                let is_whole = self.buffer.is_empty();
                let ended = if is_whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
                return Poll::Ready(ended);
            }
        }
    }
}

/// Takes a frame from what was read, if it is there whole.
fn take(buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some((&header, rest)) = buffer.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let len = u32::from_le_bytes(header) as usize;
    if len > MAX_FRAME_BYTES {
        return Err(invalid("a frame is larger than frames may be"));
    }
    let missing = len.saturating_sub(rest.len());
    if missing > 0 {
        buffer.reserve(missing);
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    let body = if len < SHARED_BYTES {
        let body = Bytes::copy_from_slice(&buffer[..len]);
        buffer.advance(len);
        body
    } else {
        buffer.split_to(len).freeze()
    };
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    #[test]
    fn frames_come_out_whole_however_they_come_in() {
        let large = Bytes::from(vec![7; SHARED_BYTES + 1]);
        let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
        let sent = [one, Bytes::new(), large, two];
        let mut stream = Vec::new();
        for body in &sent {
            let sending = Sending::frame(body.clone());
            stream.put_slice(&sending.header);
            stream.put_slice(&sending.body);
        }
        for step in [1, 3, 4096, stream.len()] {
            let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
            for chunk in stream.chunks(step) {
                buffer.put_slice(chunk);
                while let Some(frame) = take(&mut buffer).unwrap() {
                    found.push(frame);
                }
            }
            assert!(buffer.is_empty());
            assert!(found == sent, "in steps of {step}");
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_an_error_before_it_is_there() {
        let header = (MAX_FRAME_BYTES as u32 + 1).to_le_bytes();
        assert!(take(&mut BytesMut::from(&header[..])).is_err());
    }
}
