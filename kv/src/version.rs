//! The stored form of committed versions.
//!
//! | family | key | value |
//! |---|---|---|
//! | `data` | user key | header, commit timestamp, payload |
//! | `history` | user key, commit timestamp complemented | header, `superseded_at`, payload |
//!
//! The header byte holds the format version in its upper half and flags in its lower: a tombstone
//! (in `data` only; R3), and one reserved for an expiry. Both values have the same length, so that
//! moving a version to `history` rewrites eight bytes.
//!
//! User keys are prefix-free, so the order of `history` is that of (user key, newest first). A
//! *bound* of a span of user keys is a key, a key's successor (the key and a zero byte) or the end
//! of a common prefix ([`crate::encoding::prefix_end`]). Entries of `lock` and `history` lie behind
//! their user key's successor, which is why [`physical_end`] exists and why readers of these
//! families compare user keys, not stored ones, with the bounds.

use bytes::Bytes;

use crate::{Error, Result, Timestamp};

/// Newest format of version values that this binary reads.
const FORMAT: u8 = 1;
const TOMBSTONE: u8 = 0b0001;
/// Set when eight bytes of expiry time follow the timestamp: not written by format 1.
const EXPIRES: u8 = 0b0010;

/// Bytes before the payload.
pub const HEADER_LEN: usize = 9;
/// Bytes behind the user key in a key of `history`.
pub const SUFFIX_LEN: usize = 8;

/// The header of a stored version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// In `data` the commit timestamp, in `history` when it was superseded.
    pub ts: Timestamp,
    /// A deletion rather than a value.
    pub tombstone: bool,
}

/// Reads a stored version's header. `key` is named by the error.
#[inline]
pub fn header(key: &[u8], stored: &[u8]) -> Result<Header> {
    // One comparison for the usual case, a value without flags.
    match stored.first_chunk::<HEADER_LEN>() {
        Some([first, ts @ ..]) if *first & !TOMBSTONE == FORMAT << 4 => {
            Ok(Header { ts: Timestamp(u64::from_be_bytes(*ts)), tombstone: first & TOMBSTONE != 0 })
        }
        _ => Err(bad_header(key, stored)),
    }
}

#[cold]
fn bad_header(key: &[u8], stored: &[u8]) -> Error {
    match stored.first() {
        Some(first) if first >> 4 > FORMAT => {
            Error::NewerFormat { found: u32::from(first >> 4), supported: u32::from(FORMAT) }
        }
        Some(first) if first & EXPIRES != 0 && first >> 4 == FORMAT => Error::Corruption(format!(
            "version of key {} has an expiry, which its format does not have",
            escape(key)
        )),
        _ => Error::Corruption(format!("version of key {} has a bad header", escape(key))),
    }
}

/// The stored form of a version for `data`: `None` is a tombstone.
pub fn encode(ts: Timestamp, value: Option<&[u8]>) -> Bytes {
    let mut stored = Vec::with_capacity(HEADER_LEN + value.map_or(0, <[u8]>::len));
    put(&mut stored, ts, value);
    stored.into()
}

/// Appends the stored form of a version for `data` to `out`.
pub fn put(out: &mut Vec<u8>, ts: Timestamp, value: Option<&[u8]>) {
    out.push(FORMAT << 4 | if value.is_none() { TOMBSTONE } else { 0 });
    out.extend_from_slice(&ts.0.to_be_bytes());
    out.extend_from_slice(value.unwrap_or_default());
}

/// Turns a value as stored in `data` into what `history` stores.
pub fn supersede(stored: &mut [u8], superseded_at: Timestamp) {
    stored[1..HEADER_LEN].copy_from_slice(&superseded_at.0.to_be_bytes());
}

/// The key of a version in `history`.
pub fn history_key(key: &[u8], ts: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + SUFFIX_LEN);
    put_history_key(&mut out, key, ts);
    out
}

/// Replaces `out` by the key of a version in `history`.
pub fn put_history_key(out: &mut Vec<u8>, key: &[u8], ts: Timestamp) {
    out.clear();
    out.extend_from_slice(key);
    out.extend_from_slice(&(!ts.0).to_be_bytes());
}

/// Splits a key of `history` into user key and commit timestamp.
pub fn parse_history_key(stored: &[u8]) -> Result<(&[u8], Timestamp)> {
    let (key, suffix) = stored
        .split_last_chunk::<SUFFIX_LEN>()
        .ok_or_else(|| Error::Corruption(format!("history key {} is too short", escape(stored))))?;
    Ok((key, Timestamp(!u64::from_be_bytes(*suffix))))
}

/// An upper bound in `lock` and `history` for the user keys below `end`: entries of a key sort
/// behind its successor, so a bound that may be one gives way to the end of the key's entries.
pub fn physical_end(end: &[u8]) -> Vec<u8> {
    match end.split_last() {
        Some((0, key)) => crate::encoding::prefix_end(key),
        _ => end.to_vec(),
    }
}

/// Whether a user key lies in `[start, end)`; an empty `end` is no bound.
#[inline]
pub fn in_span(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    key >= start && (end.is_empty() || key < end)
}

/// A key for people: printable bytes as they are, others in hexadecimal.
pub fn escape(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len() + 2);
    text.push('"');
    for byte in key {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            0x20..=0x7e => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}
