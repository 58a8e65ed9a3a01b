//! Keys: datums in `cairn_kv::encoding`, behind an index's prefix.

use std::fmt::Write as _;

use cairn_kv::encoding::{self, Decimal, Direction, Element};

use super::DATA;
use crate::catalog::Oid;
use crate::types::key::put_key;
use crate::types::{Datum, TypeKind};
use crate::{SqlError, SqlState};

/// Length of an index's prefix.
pub const PREFIX_LEN: usize = 5;

/// The prefix of all keys of an index.
pub fn index_prefix(index: Oid) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = index.to_be_bytes();
    [DATA, a, b, c, d]
}

/// The first key behind all keys of an index.
pub fn index_end(index: Oid) -> [u8; PREFIX_LEN] {
    index_prefix(index + 1)
}

pub use crate::types::key::{key_is_exact as is_exact, take_key as take_datum};

/// Appends a datum. Integers of all widths encode alike, so a bound may be of another width than
/// its column. NULL sorts first where `nulls_first`.
pub fn put_datum(out: &mut Vec<u8>, datum: &Datum, kind: TypeKind, descending: bool, nulls_first: bool) {
    let direction = if descending { Direction::Desc } else { Direction::Asc };
    put_key(out, datum, kind, direction, nulls_first);
}

/// A stored key that does not decode.
pub fn corrupt(error: cairn_kv::Error) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, error.to_string())
}

/// A key in words, for `cairn debug`: `/data/16385/1/"abc"`.
pub fn describe_key(key: &[u8]) -> String {
    let mut out = String::new();
    let (Some((&space, rest)), true) = (key.split_first(), key.len() >= PREFIX_LEN) else {
        return format!("/{}", hex(key));
    };
    let _ = match space {
        DATA => write!(out, "/data"),
        super::OBJECT_LOCK => write!(out, "/object"),
        super::NAME_LOCK => write!(out, "/name"),
        other => write!(out, "/{other:#04x}"),
    };
    let (id, mut rest) = rest.split_at(4);
    let _ = write!(out, "/{}", u32::from_be_bytes(id.try_into().expect("split at four")));
    while !rest.is_empty() {
        let _ = match encoding::take(&mut rest) {
            Ok(Element::Null) => write!(out, "/NULL"),
            Ok(Element::Int(v)) => write!(out, "/{v}"),
            Ok(Element::Float(v)) => write!(out, "/{v:?}"),
            Ok(Element::Bytes(v)) => match std::str::from_utf8(&v) {
                Ok(text) => write!(out, "/{text:?}"),
                Err(_) => write!(out, "/{}", hex(&v)),
            },
            Ok(Element::Decimal(Decimal::NaN)) => write!(out, "/NaN"),
            Ok(Element::Decimal(Decimal::Infinity { negative })) => {
                write!(out, "/{}Infinity", if negative { "-" } else { "" })
            }
            Ok(Element::Decimal(Decimal::Finite { negative, exponent, digits })) => {
                let digits: String = digits.iter().map(|d| (b'0' + d) as char).collect();
                write!(out, "/{}0.{digits}e{exponent}", if negative { "-" } else { "" })
            }
            Err(_) => {
                let r = write!(out, "/?{}", hex(rest));
                rest = &[];
                r
            }
        };
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::from("\\x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}
