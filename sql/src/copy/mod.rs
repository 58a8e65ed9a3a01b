//! COPY: text and csv, in and out.

mod fields;
mod from;
mod to;

pub use from::CopyIn;
pub use to::Writer;

use crate::ast::{CopyFormat, CopyOptions};
use crate::{Result, SqlError, SqlState};

/// Options with their defaults filled in.
#[derive(Clone, Debug)]
pub struct Options {
    /// CSV rather than text.
    pub csv: bool,
    /// Delimiter.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: Vec<u8>,
    /// Header line.
    pub header: bool,
    /// The header must match.
    pub header_match: bool,
    /// Quote.
    pub quote: u8,
    /// Escape within quotes.
    pub escape: u8,
}

impl Options {
    /// Checks and completes options.
    pub fn new(given: &CopyOptions) -> Result<Options> {
        let csv = match given.format {
            CopyFormat::Text => false,
            CopyFormat::Csv => true,
            CopyFormat::Binary => return Err(SqlError::unsupported("COPY in binary format")),
        };
        let byte = |name: &str, value: &Option<String>, default: u8| match value.as_deref().map(str::as_bytes)
        {
            None => Ok(default),
            Some([byte]) => Ok(*byte),
            Some(_) => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("COPY {name} must be a single one-byte character"),
            )),
        };
        if !csv && (given.quote.is_some() || given.escape.is_some() || given.force_quote.is_some()) {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "COPY quote, escape and force quote are available only in CSV mode",
            ));
        }
        if !given.force_null.is_empty() || !given.force_not_null.is_empty() {
            return Err(SqlError::unsupported("FORCE_NULL and FORCE_NOT_NULL of COPY"));
        }
        if given.force_quote.is_some() {
            return Err(SqlError::unsupported("FORCE_QUOTE of COPY"));
        }
        if let Some(encoding) = &given.encoding
            && !encoding.eq_ignore_ascii_case("utf8")
            && !encoding.eq_ignore_ascii_case("utf-8")
        {
            return Err(SqlError::unsupported(format_args!("COPY in encoding \"{encoding}\"")));
        }
        let quote = byte("quote", &given.quote, b'"')?;
        Ok(Options {
            csv,
            delimiter: byte("delimiter", &given.delimiter, if csv { b',' } else { b'\t' })?,
            null: given.null.clone().unwrap_or(if csv { String::new() } else { "\\N".into() }).into_bytes(),
            header: given.header,
            header_match: given.header_match,
            quote,
            escape: byte("escape", &given.escape, quote)?,
        })
    }
}
