//! Lines and fields of COPY's formats.

use super::Options;
use crate::{Result, SqlError, SqlState};

/// Fields of one line: ends in `bytes`, and which are NULL.
#[derive(Default)]
pub struct Fields {
    bytes: Vec<u8>,
    ends: Vec<(usize, bool)>,
}

impl Fields {
    /// Number of fields.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field; `None`: NULL.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let start = if i == 0 { 0 } else { self.ends[i - 1].0 };
        let (end, null) = self.ends[i];
        (!null).then(|| &self.bytes[start..end])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Splits a line.
    pub fn split(&mut self, line: &[u8], options: &Options) -> Result<()> {
        self.clear();
        if options.csv {
            self.split_csv(line, options)
        } else {
            self.split_text(line, options)
        }
        Ok(())
    }

    fn split_text(&mut self, line: &[u8], options: &Options) {
        let mut at = 0;
        loop {
            // A field ends at the delimiter, unless a backslash stands before it.
            let start = at;
            let mut escaped = false;
            while at < line.len() && line[at] != options.delimiter {
                if line[at] == b'\\' {
                    escaped = true;
                    at += 1;
                }
                at += 1;
            }
            let raw = &line[start..at.min(line.len())];
            let null = raw == options.null;
            if !null {
                if escaped { unescape(raw, &mut self.bytes) } else { self.bytes.extend_from_slice(raw) }
            }
            self.ends.push((self.bytes.len(), null));
            if at >= line.len() {
                return;
            }
            at += 1;
        }
    }

    fn split_csv(&mut self, line: &[u8], options: &Options) {
        let mut at = 0;
        loop {
            let start = self.bytes.len();
            let (mut quoted, mut within) = (false, false);
            while at < line.len() {
                let byte = line[at];
                if within {
                    let next = line.get(at + 1).copied();
                    if byte == options.escape
                        && next.is_some_and(|n| n == options.quote || n == options.escape)
                    {
                        self.bytes.extend(next);
                        at += 2;
                        continue;
                    }
                    if byte == options.quote {
                        within = false;
                    } else {
                        self.bytes.push(byte);
                    }
                } else if byte == options.quote {
                    (quoted, within) = (true, true);
                } else if byte == options.delimiter {
                    break;
                } else {
                    self.bytes.push(byte);
                }
                at += 1;
            }
            let null = !quoted && self.bytes[start..] == options.null[..];
            self.ends.push((self.bytes.len(), null));
            if at >= line.len() {
                return;
            }
            at += 1;
        }
    }
}

/// Replaces backslash sequences of the text format.
fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < raw.len() {
        let byte = raw[at];
        at += 1;
        if byte != b'\\' || at == raw.len() {
            out.push(byte);
            continue;
        }
        let code = raw[at];
        at += 1;
        match code {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => {
                let mut value = (code - b'0') as u32;
                for _ in 0..2 {
                    match raw.get(at) {
                        Some(digit @ b'0'..=b'7') => value = value * 8 + (digit - b'0') as u32,
                        _ => break,
                    }
                    at += 1;
                }
                out.push(value as u8);
            }
            b'x' if raw.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                let mut value = 0;
                for _ in 0..2 {
                    match raw.get(at).and_then(|b| (*b as char).to_digit(16)) {
                        Some(digit) => value = value * 16 + digit,
                        None => break,
                    }
                    at += 1;
                }
                out.push(value as u8);
            }
            other => out.push(other),
        }
    }
}

/// Collects chunks, cut anywhere, into lines.
#[derive(Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// How far it has been looked at, and whether that is within csv quotes.
    seen: usize,
    quoted: bool,
    /// Number of the line last returned.
    pub number: u64,
    /// The end marker `\.` was seen.
    pub ended: bool,
}

/// Longest line.
const MAX_LINE: usize = 64 << 20;

impl Lines {
    /// Appends a chunk.
    pub fn push(&mut self, data: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.seen -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(data);
    }

    /// The next whole line; with `last`, also what has no line end. Line ends are \n and \r\n.
    pub fn next(&mut self, options: &Options, last: bool) -> Result<Option<std::ops::Range<usize>>> {
        if self.ended {
            return Ok(None);
        }
        let mut at = self.seen;
        while at < self.buffer.len() {
            let byte = self.buffer[at];
            if options.csv {
                // An escaped quote toggles twice, which comes to the same.
                if byte == options.quote {
                    self.quoted = !self.quoted;
                } else if self.quoted && byte == options.escape && options.escape != options.quote {
                    if at + 1 == self.buffer.len() && !last {
                        break;
                    }
                    at += 1;
                }
            } else if byte == b'\\' {
                if at + 1 >= self.buffer.len() && !last {
                    break;
                }
                // A backslash before the line end makes it data, but `\.` ends the copy.
                at += 2;
                continue;
            }
            if byte == b'\n' && !self.quoted {
                let mut end = at;
                if end > self.start && self.buffer[end - 1] == b'\r' {
                    end -= 1;
                }
                return Ok(self.take(end, at + 1));
            }
            at += 1;
        }
        self.seen = at.min(self.buffer.len());
        if self.seen - self.start > MAX_LINE {
            return Err(SqlError::new(
                SqlState::PROGRAM_LIMIT,
                format!("COPY line {} is longer than {MAX_LINE} bytes", self.number + 1),
            ));
        }
        if last && self.start < self.buffer.len() {
            if self.quoted {
                return Err(SqlError::new(SqlState::BAD_COPY_FORMAT, "unterminated CSV quoted field"));
            }
            let end = self.buffer.len();
            return Ok(self.take(end, end));
        }
        Ok(None)
    }

    fn take(&mut self, end: usize, next: usize) -> Option<std::ops::Range<usize>> {
        let line = self.start..end;
        self.start = next;
        self.seen = next;
        self.number += 1;
        if &self.buffer[line.clone()] == b"\\." {
            self.ended = true;
            return None;
        }
        Some(line)
    }

    /// A line's bytes.
    pub fn line(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.buffer[range]
    }
}
