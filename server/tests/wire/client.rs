//! A client that sends bytes and shows what comes back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::fields::Fields;

/// A raw connection.
pub struct Client {
    pub stream: TcpStream,
    /// BackendKeyData: process id and key.
    pub key: Vec<u8>,
}

/// A message with its type byte and length.
pub fn message(kind: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind as u8];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A startup packet.
pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(format!("{name}\0{value}\0").bytes());
    }
    body.push(0);
    packet(&body)
}

/// A packet without type byte.
pub fn packet(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

impl Client {
    /// Connects, without a startup message.
    pub fn dial(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the node listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout above zero");
        stream.set_nodelay(true).expect("TCP");
        Client { stream, key: Vec::new() }
    }

    /// Connects as postgres and reads up to ReadyForQuery.
    pub fn connect(address: SocketAddr) -> Client {
        let mut client = Client::dial(address);
        client.send(&startup(196_608, &[("user", "postgres")]));
        let greeting = client.until_ready();
        assert!(greeting.ends_with("ReadyForQuery I\n"), "{greeting}");
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the node reads");
    }

    pub fn query(&mut self, sql: &str) -> String {
        self.send(&message('Q', format!("{sql}\0").as_bytes()));
        self.until_ready()
    }

    /// The next message, or `None` at the end of the stream.
    pub fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
            {
                return None;
            }
            Err(error) => panic!("no answer: {error}"),
        }
        let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).expect("whole messages");
        if header[0] == b'K' {
            self.key.clone_from(&body);
        }
        Some((header[0], body))
    }

    /// Shows messages up to ReadyForQuery, the start of COPY FROM STDIN, or the end.
    pub fn until_ready(&mut self) -> String {
        self.until(|kind| matches!(kind, b'Z' | b'G'))
    }

    /// Shows messages up to the first of which `last` is true, or the end.
    pub fn until(&mut self, last: impl Fn(u8) -> bool) -> String {
        let mut text = String::new();
        loop {
            let Some((kind, body)) = self.read() else {
                text.push_str("(closed)\n");
                return text;
            };
            text.push_str(&show(kind, &body));
            text.push('\n');
            if last(kind) {
                return text;
            }
        }
    }
}

/// A message in words.
pub fn show(kind: u8, body: &[u8]) -> String {
    let mut fields = Fields(body);
    match kind {
        b'R' => format!("Authentication {}", fields.i32()),
        b'K' => format!("BackendKeyData, key of {} bytes", body.len() - 4),
        b'S' => format!("ParameterStatus {} = {}", fields.text(), fields.text()),
        b'Z' => format!("ReadyForQuery {}", body[0] as char),
        b'C' => format!("CommandComplete {}", fields.text()),
        b'1' => "ParseComplete".into(),
        b'2' => "BindComplete".into(),
        b'3' => "CloseComplete".into(),
        b'n' => "NoData".into(),
        b's' => "PortalSuspended".into(),
        b'I' => "EmptyQueryResponse".into(),
        b'c' => "CopyDone".into(),
        b'd' => format!("CopyData {:?}", String::from_utf8_lossy(body)),
        b'v' => {
            let (version, count) = (fields.i32(), fields.i32());
            let options: Vec<String> = (0..count).map(|_| fields.text()).collect();
            format!("NegotiateProtocolVersion {}.{} {options:?}", version >> 16, version & 0xffff)
        }
        b'G' | b'H' => {
            let name = if kind == b'G' { "CopyInResponse" } else { "CopyOutResponse" };
            format!("{name} format {}, {} columns", body[0], (body.len() - 3) / 2)
        }
        b't' => {
            let count = fields.i16();
            let oids: Vec<i32> = (0..count).map(|_| fields.i32()).collect();
            format!("ParameterDescription {oids:?}")
        }
        b'T' => {
            let mut text = String::from("RowDescription");
            for _ in 0..fields.i16() {
                text += &format!(" {}", fields.text());
                let (table, column, oid) = (fields.i32(), fields.i16(), fields.i32());
                let (length, modifier, format) = (fields.i16(), fields.i32(), fields.i16());
                text += &format!(
                    "(table {table}.{column}, type {oid}, length {length}, modifier {modifier}, format {format})"
                );
            }
            text
        }
        b'D' => {
            let mut text = String::from("DataRow");
            for _ in 0..fields.i16() {
                match fields.i32() {
                    -1 => text.push_str(" NULL"),
                    length => {
                        text += &format!(" {:?}", String::from_utf8_lossy(fields.take(length as usize)))
                    }
                }
            }
            text
        }
        b'E' | b'N' => {
            let mut text = String::from(if kind == b'E' { "ErrorResponse" } else { "NoticeResponse" });
            while fields.0.len() > 1 {
                let code = fields.take(1)[0] as char;
                text += &format!(" {code}={:?}", fields.text());
            }
            text
        }
        _ => format!("{} {body:?}", kind as char),
    }
}
