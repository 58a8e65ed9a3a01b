//! COPY TO STDOUT.

use super::Options;
use crate::plan::OutputColumn;
use crate::types::{Datum, TextContext, write_text};

/// Writes lines.
pub struct Writer {
    options: Options,
    value: Vec<u8>,
}

impl Writer {
    /// A writer.
    pub fn new(options: Options) -> Writer {
        Writer { options, value: Vec::new() }
    }

    /// Whether a header line comes first.
    pub fn has_header(&self) -> bool {
        self.options.header
    }

    /// Appends the header line.
    pub fn header(&mut self, columns: &[OutputColumn], out: &mut Vec<u8>) {
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                out.push(self.options.delimiter);
            }
            self.value.clear();
            self.value.extend_from_slice(column.name.as_bytes());
            self.put_value(columns.len() == 1, out);
        }
        out.push(b'\n');
    }

    /// Appends a row's line.
    pub fn row(&mut self, row: &[Datum], columns: &[OutputColumn], text: &TextContext, out: &mut Vec<u8>) {
        for (i, (value, column)) in row.iter().zip(columns).enumerate() {
            if i > 0 {
                out.push(self.options.delimiter);
            }
            if value.is_null() {
                out.extend_from_slice(&self.options.null);
                continue;
            }
            self.value.clear();
            write_text(value, column.ty, text, &mut self.value);
            self.put_value(row.len() == 1, out);
        }
        out.push(b'\n');
    }

    fn put_value(&self, only: bool, out: &mut Vec<u8>) {
        let o = &self.options;
        if o.csv {
            let special = |b: &u8| *b == o.delimiter || *b == o.quote || *b == b'\n' || *b == b'\r';
            let quote =
                self.value == o.null || self.value.iter().any(special) || (only && self.value == b"\\.");
            if !quote {
                out.extend_from_slice(&self.value);
                return;
            }
            out.push(o.quote);
            for byte in &self.value {
                if *byte == o.quote || *byte == o.escape {
                    out.push(o.escape);
                }
                out.push(*byte);
            }
            out.push(o.quote);
            return;
        }
        for byte in &self.value {
            let code = match byte {
                b'\\' => b'\\',
                8 => b'b',
                12 => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                11 => b'v',
                byte if *byte == o.delimiter => *byte,
                byte => {
                    out.push(*byte);
                    continue;
                }
            };
            out.extend_from_slice(&[b'\\', code]);
        }
    }
}
