//! A session over the wire, and its answers as text.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::fields::Fields;
use crate::script::{Messages, Statement};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    Extended,
}

pub struct Session {
    stream: TcpStream,
    /// The last query, to be named where it is not answered.
    last: String,
}

impl Session {
    pub fn connect(address: SocketAddr, user: &str) -> Session {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for (name, value) in [("user", user), ("database", "postgres"), ("TimeZone", "America/New_York")] {
            body.extend(format!("{name}\0{value}\0").bytes());
        }
        body.push(0);
        let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
        packet.extend(body);
        stream.write_all(&packet).unwrap();
        let mut session = Session { stream, last: String::new() };
        let greeting = session.answer(false);
        assert!(!greeting.contains("ERROR"), "{greeting}");
        session
    }

    /// Runs one query in the simple protocol.
    pub fn query(&mut self, sql: &str) -> String {
        self.last = sql.to_owned();
        self.send(&[message(b'Q', &[sql.as_bytes(), b"\0"])]);
        self.answer(false)
    }

    /// Runs a statement of a script.
    pub fn run(&mut self, statement: &Statement, protocol: Protocol) -> String {
        self.last.clone_from(&statement.sql);
        let sql = statement.sql.as_bytes();
        let sync = message(b'S', &[]);
        match &statement.messages {
            Messages::Bind(portal) => {
                let portal = portal.as_bytes();
                let bind = message(b'B', &[portal, b"\0\0\0\0\0\0\0\0"]);
                self.send(&[message(b'P', &[b"\0", sql, b"\0\0\0"]), bind, sync]);
                return self.answer(false);
            }
            Messages::Fetch => {
                let (portal, rows) = statement.sql.split_once(' ').expect("a portal and a number");
                let rows: u32 = rows.parse().expect("a number");
                self.send(&[message(b'E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()]), sync]);
                return self.answer(false);
            }
            Messages::Either | Messages::Simple => {}
        }
        let extended = protocol == Protocol::Extended && statement.messages == Messages::Either;
        let copies = statement.data.is_some();
        if extended {
            self.send(&[
                message(b'P', &[b"\0", sql, b"\0\0\0"]),
                message(b'B', &[b"\0\0\0\0\0\0\0\0"]),
                message(b'D', &[b"P\0"]),
                message(b'E', &[b"\0\0\0\0\0"]),
                // While data are copied in, a Sync would be passed over.
                if copies { message(b'H', &[]) } else { sync.clone() },
            ]);
        } else {
            self.send(&[message(b'Q', &[sql, b"\0"])]);
        }
        let mut text = String::new();
        if let Some(data) = &statement.data {
            let begins = self.until(|kind| matches!(kind, b'G' | b'E' | b'Z'), &mut text);
            match begins {
                b'G' => {
                    // In pieces, so that a line is cut in two.
                    for piece in data.as_bytes().chunks(7) {
                        self.send(&[message(b'd', &[piece])]);
                    }
                    self.send(&[message(b'c', &[])]);
                }
                b'Z' => return text,
                _ => {}
            }
            if extended {
                self.send(&[sync]);
            }
        }
        text + &self.answer(statement.unordered)
    }

    fn send(&mut self, messages: &[Vec<u8>]) {
        self.stream.write_all(&messages.concat()).unwrap();
    }

    /// What comes up to ReadyForQuery.
    fn answer(&mut self, sorted: bool) -> String {
        let mut text = String::new();
        self.until(|kind| kind == b'Z', &mut text);
        if sorted {
            let mut lines: Vec<&str> = text.lines().collect();
            let rows = 1..lines.len().saturating_sub(1).max(1);
            lines[rows].sort_unstable();
            text = lines.iter().map(|line| format!("{line}\n")).collect();
        }
        text
    }

    /// Adds what comes up to a message of which `last` is true; returns its kind.
    fn until(&mut self, last: impl Fn(u8) -> bool, text: &mut String) -> u8 {
        loop {
            let mut header = [0; 5];
            if let Err(error) = self.stream.read_exact(&mut header) {
                panic!("no answer to {}: {error}", self.last);
            }
            let mut body = vec![0; u32::from_be_bytes(header[1..].try_into().unwrap()) as usize - 4];
            self.stream.read_exact(&mut body).expect("whole messages");
            show(header[0], &body, text);
            if last(header[0]) {
                return header[0];
            }
        }
    }
}

/// Behind the line that describes columns.
const COLUMNS: &str = " :";

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![kind];
    bytes.extend((length as u32 + 4).to_be_bytes());
    bytes.extend(parts.concat());
    bytes
}

fn show(kind: u8, body: &[u8], text: &mut String) {
    let mut fields = Fields(body);
    match kind {
        b'C' => *text += &format!("{}\n", fields.text()),
        b'I' => text.push_str("(empty)\n"),
        b's' => text.push_str("(suspended)\n"),
        b'd' => *text += &format!("{}\n", String::from_utf8_lossy(body).trim_end_matches('\n')),
        // In front of the last line's end: the state of the transaction, where there is one.
        b'Z' if body[0] != b'I' && !text.is_empty() => {
            text.truncate(text.trim_end_matches('\n').len());
            *text += if body[0] == b'T' { "  {in transaction}\n" } else { "  {failed transaction}\n" };
        }
        b'T' => {
            let columns: Vec<String> = (0..fields.i16())
                .map(|_| {
                    let name = fields.text();
                    fields.take(6);
                    let oid = fields.i32();
                    fields.take(2);
                    let modifier = fields.i32();
                    fields.take(2);
                    let modifier = if modifier == -1 { String::new() } else { format!("[{modifier}]") };
                    format!("{name} {}{modifier}", type_name(oid))
                })
                .collect();
            *text += &format!("{}{COLUMNS}\n", columns.join(" | "));
        }
        b'D' => {
            let columns: Vec<String> = (0..fields.i16())
                .map(|_| match fields.i32() {
                    -1 => "NULL".to_owned(),
                    length => shown(&String::from_utf8_lossy(fields.take(length as usize))),
                })
                .collect();
            *text += &format!("{}\n", columns.join(" | "));
        }
        b'E' | b'N' => {
            let (mut head, mut tail, mut names) = (String::new(), String::new(), Vec::new());
            while fields.0.len() > 1 {
                let code = fields.take(1)[0];
                let value = fields.text();
                match code {
                    b'S' => head = format!("{value}{head}"),
                    b'C' => head += &format!(" {value}"),
                    b'M' => head += &format!(": {value}"),
                    b'D' => tail += &format!("DETAIL: {value}\n"),
                    b'H' => tail += &format!("HINT: {value}\n"),
                    b'W' => tail += &format!("CONTEXT: {value}\n"),
                    b'P' => head += &format!(" at {value}"),
                    b't' => names.push(format!("table {value}")),
                    b'c' => names.push(format!("column {value}")),
                    b'n' => names.push(format!("constraint {value}")),
                    b'd' => names.push(format!("type {value}")),
                    // Schema, and PostgreSQL's source files.
                    _ => {}
                }
            }
            // Whether an error comes before or behind the columns that it leaves without rows says
            // only whether it was found in planning.
            if kind == b'E' && text.lines().last().is_some_and(|line| line.ends_with(COLUMNS)) {
                let without = text.trim_end_matches('\n').rfind('\n').map_or(0, |end| end + 1);
                text.truncate(without);
            }
            if !names.is_empty() {
                head += &format!(" ({})", names.join(", "));
            }
            *text += &format!("{head}\n{tail}");
        }
        _ => {}
    }
}

/// A value that cannot be taken for another one.
fn shown(value: &str) -> String {
    let plain = !value.is_empty()
        && value != "NULL"
        && value.trim() == value
        && !value.contains(['|', '"', '\n', '\r', '\t']);
    if plain { value.to_owned() } else { format!("{value:?}") }
}

fn type_name(oid: i32) -> String {
    let known = [
        (16, "bool"),
        (17, "bytea"),
        (18, "\"char\""),
        (19, "name"),
        (20, "int8"),
        (21, "int2"),
        (23, "int4"),
        (25, "text"),
        (26, "oid"),
        (700, "float4"),
        (701, "float8"),
        (705, "unknown"),
        (1042, "bpchar"),
        (1043, "varchar"),
        (1082, "date"),
        (1083, "time"),
        (1114, "timestamp"),
        (1184, "timestamptz"),
        (1186, "interval"),
        (1700, "numeric"),
        (2950, "uuid"),
        (2205, "regclass"),
        (2206, "regtype"),
        (1007, "int4[]"),
        (1009, "text[]"),
        (2278, "void"),
        (2249, "record"),
    ];
    match known.iter().find(|(known, _)| *known == oid) {
        Some((_, name)) => (*name).to_owned(),
        // Numbered in the order in which all scripts create them.
        None if oid >= 16384 => "of a table".to_owned(),
        None => oid.to_string(),
    }
}
