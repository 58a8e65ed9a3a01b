//! Messages of the client: framing and decoding.
//!
//! pgwire's decoders read past the end of a short body (a panic), take the next message's bytes
//! for their own and replace invalid UTF-8. A server that faces strangers needs a frame cut first
//! and every read checked, so the messages of a running session are decoded here, borrowing their
//! text from the frame. Only startup and cancel requests go through pgwire (`startup`).

use bytes::Bytes;
use cairn_sql::session::Format;
use cairn_sql::{SqlError, SqlState};
use smallvec::SmallVec;

/// Largest message with a statement, parameters or COPY data. A value may have 64 MiB; as hex text
/// it takes twice that.
pub const MAX_MESSAGE_BYTES: usize = 130 << 20;

/// Largest message of any other kind.
const MAX_SMALL_MESSAGE_BYTES: usize = 10_000;

/// One message: its type byte and its body, without the length.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub body: Bytes,
}

/// The type and the body's length of the message that starts `buffer`, or `None` when its header is
/// incomplete.
pub fn header(buffer: &[u8]) -> Result<Option<(u8, usize)>, SqlError> {
    let Some(&kind) = buffer.first() else { return Ok(None) };
    let large = match kind {
        b'Q' | b'P' | b'B' | b'd' | b'F' => true,
        b'E' | b'D' | b'C' | b'S' | b'H' | b'X' | b'c' | b'f' | b'p' => false,
        _ => return Err(violation(format!("invalid frontend message type {kind}"))),
    };
    let Some(length) = buffer.get(1..5) else { return Ok(None) };
    let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
    // A large message above our limit is refused without ending the connection (`Reader`), but a
    // length that PostgreSQL's protocol does not allow means that the stream is out of step.
    let limit = if large { 0x3fff_fffe } else { MAX_SMALL_MESSAGE_BYTES as i32 };
    if !(4..=limit).contains(&length) {
        return Err(violation("invalid message length"));
    }
    Ok(Some((kind, length as usize - 4)))
}

/// A protocol violation: the client and we no longer agree on what the bytes mean, so it is FATAL.
pub fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, message)
}

/// What Describe and Close name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

/// A decoded message.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // lives on the stack for one dispatch: a box would cost an allocation per message
pub enum Message<'a> {
    Query { sql: &'a str },
    Parse { name: &'a str, sql: &'a str, types: SmallVec<[u32; 8]> },
    Bind(Bind<'a>),
    Describe { target: Target, name: &'a str },
    Execute { portal: &'a str, max_rows: u32 },
    Close { target: Target, name: &'a str },
    Sync,
    Flush,
    Terminate,
    CopyData(&'a [u8]),
    CopyDone,
    CopyFail { message: &'a str },
    FunctionCall,
    Password,
}

/// Bind.
#[derive(Debug)]
pub struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    pub parameter_formats: SmallVec<[Format; 8]>,
    pub parameters: SmallVec<[Option<Bytes>; 8]>,
    pub result_formats: SmallVec<[Format; 8]>,
}

impl Frame {
    /// Decodes the body. The error is a protocol violation (08P01, FATAL) or something wrong with
    /// the contents that fails only the statement.
    pub fn decode(&self) -> Result<Message<'_>, SqlError> {
        let mut body = Body { rest: &self.body };
        let message = match self.kind {
            b'Q' => Message::Query { sql: body.text()? },
            b'P' => {
                let (name, sql) = (body.text()?, body.text()?);
                let count = body.u16()?;
                let mut types = SmallVec::new();
                for _ in 0..count {
                    types.push(body.u32()?);
                }
                Message::Parse { name, sql, types }
            }
            b'B' => Message::Bind(body.bind(&self.body)?),
            b'D' => Message::Describe { target: body.target("DESCRIBE")?, name: body.text()? },
            b'E' => {
                let portal = body.text()?;
                // PostgreSQL takes a negative limit for none.
                let max_rows = (body.u32()? as i32).max(0) as u32;
                Message::Execute { portal, max_rows }
            }
            b'C' => Message::Close { target: body.target("CLOSE")?, name: body.text()? },
            b'S' => Message::Sync,
            b'H' => Message::Flush,
            b'X' => Message::Terminate,
            b'd' => return Ok(Message::CopyData(&self.body)),
            b'c' => Message::CopyDone,
            b'f' => Message::CopyFail { message: body.text()? },
            b'F' => return Ok(Message::FunctionCall),
            b'p' => return Ok(Message::Password),
            kind => return Err(violation(format!("invalid frontend message type {kind}"))),
        };
        if !body.rest.is_empty() {
            return Err(violation("invalid message format"));
        }
        Ok(message)
    }
}

/// What is left of a body.
struct Body<'a> {
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], SqlError> {
        let (head, tail) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| violation("insufficient data left in message"))?;
        self.rest = tail;
        Ok(head)
    }

    fn u16(&mut self) -> Result<u16, SqlError> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into().expect("two bytes")))
    }

    fn u32(&mut self) -> Result<u32, SqlError> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    /// A zero-terminated string.
    fn text(&mut self) -> Result<&'a str, SqlError> {
        let end = self
            .rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or_else(|| violation("invalid string in message"))?;
        let text = self.take(end + 1)?;
        std::str::from_utf8(&text[..end]).map_err(|error| {
            let bad = &text[error.valid_up_to()..end];
            let shown: Vec<String> = bad[..error.error_len().unwrap_or(bad.len()).min(4)]
                .iter()
                .map(|b| format!("0x{b:02x}"))
                .collect();
            SqlError::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
            )
        })
    }

    fn target(&mut self, message: &str) -> Result<Target, SqlError> {
        match self.take(1)?[0] {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            kind => Err(violation(format!("invalid {message} message subtype {kind}"))),
        }
    }

    fn formats(&mut self) -> Result<SmallVec<[Format; 8]>, SqlError> {
        let count = self.u16()?;
        let mut formats = SmallVec::new();
        for _ in 0..count {
            formats.push(match self.u16()? {
                0 => Format::Text,
                1 => Format::Binary,
                code => {
                    let message = format!("unsupported format code: {code}");
                    return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
                }
            });
        }
        Ok(formats)
    }

    fn bind(&mut self, whole: &Bytes) -> Result<Bind<'a>, SqlError> {
        let (portal, statement) = (self.text()?, self.text()?);
        let parameter_formats = self.formats()?;
        let count = self.u16()?;
        let mut parameters = SmallVec::new();
        for _ in 0..count {
            parameters.push(match self.u32()? as i32 {
                -1 => None,
                length => {
                    let length = usize::try_from(length)
                        .map_err(|_| violation("insufficient data left in message"))?;
                    Some(whole.slice_ref(self.take(length)?))
                }
            });
        }
        let result_formats = self.formats()?;
        let formats = parameter_formats.len();
        if formats > 1 && formats != parameters.len() {
            return Err(violation(format!(
                "bind message has {formats} parameter formats but {} parameters",
                parameters.len()
            )));
        }
        Ok(Bind { portal, statement, parameter_formats, parameters, result_formats })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, body: &[u8]) -> Frame {
        Frame { kind, body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn a_bind_keeps_nulls_and_empty_values_apart() {
        let body = b"p\0s\0\0\x01\0\x01\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0\0\x01\0\0";
        let frame = frame(b'B', body);
        let Message::Bind(bind) = frame.decode().unwrap() else { panic!("not a Bind") };
        assert_eq!((bind.portal, bind.statement), ("p", "s"));
        assert_eq!(bind.parameter_formats.as_slice(), [Format::Binary]);
        assert_eq!(bind.parameters.as_slice(), [Some(Bytes::from_static(b"ab")), None, Some(Bytes::new())]);
        assert_eq!(bind.result_formats.as_slice(), [Format::Text]);
    }

    #[test]
    fn short_long_and_unterminated_bodies_are_violations() {
        for (kind, body) in [
            (b'Q', &b"select"[..]),
            (b'Q', b"a\0b"),
            (b'S', b"x"),
            (b'P', b"\0\0\0\x02\0\0\0\0"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x09a"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'D', b"Z\0"),
            (b'E', b"\0\0\0"),
        ] {
            let error = frame(kind, body).decode().unwrap_err();
            assert_eq!(error.state(), SqlState::PROTOCOL_VIOLATION, "{} {body:?}", kind as char);
        }
    }

    #[test]
    fn invalid_utf8_is_the_statements_error() {
        let error = frame(b'Q', b"select '\xc3\x28'\0").decode().unwrap_err();
        assert_eq!(error.to_string(), "22021: invalid byte sequence for encoding \"UTF8\": 0xc3");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = frame(kind, &body).decode();
            let mut framed = vec![kind];
            framed.extend(&body);
            let _ = header(&framed);
        }

        #[test]
        fn cut_or_flipped_binds_never_panic(cut in 0usize..30, at in 0usize..30, flip in any::<u8>()) {
            let mut body = b"p\0s\0\0\x01\0\x01\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0\0\x01\0\0".to_vec();
            let at = at % body.len();
            body[at] ^= flip;
            body.truncate(cut);
            let _ = frame(b'B', &body).decode();
        }
    }
}
