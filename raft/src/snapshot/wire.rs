//! Frames of the channel of snapshots.

use bytes::{Buf as _, BufMut as _, Bytes};
use cairn_kv::engine::Cf;
use cairn_kv::{Error, Result};
use prost::Message as _;

use crate::RangeId;
use crate::record::SnapshotId;

/// Newest format of frames.
const FORMAT: u32 = 1;

/// A frame: from the sender a question where the receiver stands, or a piece; from the receiver an acknowledgement.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Frame {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(uint64, tag = "2")]
    pub range: RangeId,
    #[prost(uint64, tag = "3")]
    pub term: u64,
    #[prost(uint64, tag = "4")]
    pub number: u64,
    #[prost(message, optional, tag = "5")]
    pub piece: Option<Piece>,
    #[prost(message, optional, tag = "6")]
    pub ack: Option<Ack>,
}

/// Part of a snapshot, of one family.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Piece {
    /// Its place, from zero.
    #[prost(uint64, tag = "1")]
    pub at: u64,
    /// Position in [`Cf::ALL`].
    #[prost(uint32, tag = "2")]
    pub family: u32,
    /// What the piece replaces.
    #[prost(message, repeated, tag = "3")]
    pub clears: Vec<Clear>,
    /// Keys and values, each behind its length.
    #[prost(bytes = "bytes", tag = "4")]
    pub entries: Bytes,
    /// CRC-32C of the entries.
    #[prost(uint32, tag = "5")]
    pub checksum: u32,
    /// The table ends with it.
    #[prost(bool, tag = "6")]
    pub ends_table: bool,
    /// The snapshot ends with it.
    #[prost(bool, tag = "7")]
    pub is_last: bool,
}

/// A span of which nothing stays but the entries that come with it.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(super) struct Clear {
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
}

/// How far the receiver has come.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub(super) struct Ack {
    /// It waits for this piece.
    #[prost(uint64, tag = "1")]
    pub next: u64,
    /// All of the snapshot is staged.
    #[prost(bool, tag = "2")]
    pub staged: bool,
    /// It does not want this snapshot: it has heard of a later one.
    #[prost(bool, tag = "3")]
    pub refused: bool,
    /// From this piece on it would have to begin again after a restart.
    #[prost(uint64, tag = "4")]
    pub durable: u64,
    /// The life of its store.
    #[prost(uint64, tag = "5")]
    pub incarnation: u64,
}

impl Frame {
    pub(super) fn new(range: RangeId, id: SnapshotId) -> Frame {
        Frame { format: FORMAT, range, term: id.term, number: id.number, piece: None, ack: None }
    }

    pub(super) fn id(&self) -> SnapshotId {
        SnapshotId { term: self.term, number: self.number }
    }

    pub(super) fn decode_frame(bytes: Bytes) -> Result<Frame> {
        let frame = Frame::decode(bytes)
            .map_err(|e| Error::Corruption(format!("undecodable frame of a snapshot: {e}")))?;
        if frame.format > FORMAT {
            return Err(Error::NewerFormat { found: frame.format, supported: FORMAT });
        }
        Ok(frame)
    }
}

impl Piece {
    pub(super) fn cf(&self) -> Result<Cf> {
        Cf::ALL.get(self.family as usize).copied().ok_or_else(|| damaged("an unknown family"))
    }

    /// Whether its entries are what was sent.
    pub(super) fn is_whole(&self) -> bool {
        crc32c::crc32c(&self.entries) == self.checksum
    }

    /// Whether it can follow on the key `last` in a table: keys ascend, and spans to clear are spans.
    pub(super) fn check(&self, last: &[u8]) -> Result<()> {
        if self.clears.iter().any(|clear| clear.start >= clear.end) {
            return Err(damaged("it clears what is no span"));
        }
        let mut last = last.to_vec();
        self.for_each(|key, _| {
            if key <= &last[..] {
                return Err(damaged("its keys are out of order"));
            }
            last.clear();
            last.extend_from_slice(key);
            Ok(())
        })
    }

    /// Calls `visit` with each entry.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
            let length = if rest.len() < 4 { usize::MAX } else { rest.get_u32() as usize };
            rest.split_off(..length).ok_or_else(|| damaged("it ends early"))
        }
        let mut rest = &self.entries[..];
        while !rest.is_empty() {
            let (key, value) = (take(&mut rest)?, take(&mut rest)?);
            visit(key, value)?;
        }
        Ok(())
    }
}

/// Appends an entry of a piece.
pub(super) fn put_entry(entries: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        entries.put_u32(part.len() as u32);
        entries.extend_from_slice(part);
    }
}

pub(super) fn damaged(what: &str) -> Error {
    Error::Corruption(format!("a piece of a snapshot is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_and_damage_is_noticed() {
        let mut entries = Vec::new();
        put_entry(&mut entries, b"a", b"");
        put_entry(&mut entries, b"b", b"value");
        let mut piece =
            Piece { checksum: crc32c::crc32c(&entries), entries: entries.into(), ..Piece::default() };
        let mut found = Vec::new();
        let mut read = |piece: &Piece| {
            found.clear();
            piece.for_each(|key, value| {
                found.push((key.to_vec(), value.to_vec()));
                Ok(())
            })?;
            Ok::<_, Error>(found.clone())
        };
        let expected = vec![(b"a".to_vec(), b"".to_vec()), (b"b".to_vec(), b"value".to_vec())];
        assert!(piece.is_whole());
        assert_eq!(read(&piece).expect("whole"), expected);
        piece.entries = piece.entries.slice(..piece.entries.len() - 1);
        assert!(!piece.is_whole());
        assert!(read(&piece).is_err(), "an entry is cut short");
    }

    #[test]
    fn a_piece_of_nonsense_is_told_from_one_of_sense() {
        let piece = |keys: &[&str]| {
            let mut entries = Vec::new();
            keys.iter().for_each(|key| put_entry(&mut entries, key.as_bytes(), b"v"));
            Piece { entries: entries.into(), ..Piece::default() }
        };
        let clear = |start: &'static str, end: &'static str| Clear { start: start.into(), end: end.into() };
        assert!(piece(&["a", "b"]).check(b"").is_ok());
        assert!(piece(&["b"]).check(b"a").is_ok());
        assert!(piece(&["b"]).check(b"b").is_err(), "it begins where its table is already");
        assert!(piece(&["b", "a"]).check(b"").is_err());
        assert!(piece(&["a", "a"]).check(b"").is_err());
        assert!(Piece { clears: vec![clear("a", "b")], ..piece(&[]) }.check(b"").is_ok());
        assert!(Piece { clears: vec![clear("b", "a")], ..piece(&[]) }.check(b"").is_err());
        assert!(Piece { family: 9, ..piece(&[]) }.cf().is_err());
    }
}
