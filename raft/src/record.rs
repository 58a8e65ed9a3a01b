//! Records of the log: one per sync, a batch of many ranges' items behind one header.
//!
//! A record starts on a block boundary of its segment and is padded to one. Its header carries a
//! store-wide running number and two checksums, both seeded with the segment incarnation's random
//! salt: one over the header, so that a header alone can be trusted, one over the body. Neither
//! what a recycled segment held before nor a copy of another log inside a value passes them.
//!
//! The body is a sequence of items, `kind` (one byte) and varint fields. A kind that this binary
//! does not know is an error, never skipped: what it meant may have mattered.

use bytes::BufMut;
use cairn_kv::Timestamp;
use raft::eraftpb::{Entry, HardState};

use crate::RangeId;

/// Alignment of records, and the unit that a disk is assumed to write whole.
pub const BLOCK: u64 = 4096;

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 32;

const MAGIC: u32 = u32::from_le_bytes(*b"CREC");

/// Largest body that a reader believes: far above [`crate::store::MAX_COMMAND_BYTES`] and the group limit.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Entries and state changes of one group commit.
    Batch = 1,
    /// The first record of a segment: hard states, truncation points and HLC bound as they stand,
    /// so that older segments are needed for their entries alone.
    Checkpoint = 2,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Store-wide running number.
    pub number: u64,
    /// What it is.
    pub kind: RecordKind,
    /// Bytes of the body.
    pub body_len: u32,
    /// Checksum of the body.
    pub body_crc: u32,
}

impl RecordHeader {
    /// Bytes that the record takes in its segment.
    pub fn padded_len(&self) -> u64 {
        (HEADER_BYTES as u64 + u64::from(self.body_len)).next_multiple_of(BLOCK)
    }

    /// Decodes a header, or says why it is none of this incarnation's.
    pub fn decode(bytes: &[u8], salt: u64) -> Result<RecordHeader, &'static str> {
        let header: &[u8; HEADER_BYTES] =
            bytes.get(..HEADER_BYTES).and_then(|b| b.try_into().ok()).ok_or("short header")?;
        if le32(&header[0..]) != MAGIC {
            return Err("no record header");
        }
        if le32(&header[4..]) != salted_crc(salt, &header[8..]) {
            return Err("header checksum mismatch");
        }
        let kind = match header[24] {
            1 => RecordKind::Batch,
            2 => RecordKind::Checkpoint,
            _ => return Err("unknown record kind"),
        };
        let body_len = le32(&header[16..]);
        if body_len as usize > MAX_BODY_BYTES {
            return Err("implausible record length");
        }
        Ok(RecordHeader { number: le64(&header[8..]), kind, body_len, body_crc: le32(&header[20..]) })
    }

    /// Whether `body` is what the record's writer wrote.
    pub fn body_is_valid(&self, body: &[u8], salt: u64) -> bool {
        body.len() == self.body_len as usize && salted_crc(salt, body) == self.body_crc
    }
}

/// Builds a record in one buffer that is reused from record to record.
#[derive(Default)]
pub struct RecordWriter {
    buf: Vec<u8>,
}

impl RecordWriter {
    /// Begins a new record.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.buf.resize(HEADER_BYTES, 0);
        if self.buf.capacity() > 1 << 20 {
            // One bulk command should not pin its size for ever.
            self.buf.shrink_to(1 << 16);
        }
    }

    /// Whether no item was added.
    pub fn is_empty(&self) -> bool {
        self.buf.len() <= HEADER_BYTES
    }

    /// Bytes of header and body so far.
    pub fn len(&self) -> u64 {
        self.buf.len() as u64
    }

    /// Bytes that the record will take in its segment.
    pub fn padded_len(&self) -> u64 {
        (self.buf.len() as u64).next_multiple_of(BLOCK)
    }

    /// Adds a log entry.
    pub fn entry(&mut self, range: RangeId, entry: &Entry) {
        self.buf.reserve(48 + entry.data.len() + entry.context.len());
        self.buf.push(ITEM_ENTRY);
        self.varint(range);
        self.varint(entry.index);
        self.varint(entry.term);
        self.buf.push(entry.entry_type as u8);
        self.varint(entry.data.len() as u64);
        self.buf.put_slice(&entry.data);
        self.varint(entry.context.len() as u64);
        self.buf.put_slice(&entry.context);
    }

    /// Adds a range's hard state.
    pub fn hard_state(&mut self, range: RangeId, state: &HardState) {
        self.buf.push(ITEM_HARD_STATE);
        self.varint(range);
        self.varint(state.term);
        self.varint(state.vote);
        self.varint(state.commit);
    }

    /// Adds a truncation point: what is at or below `index` (of `term`) is flushed.
    pub fn truncation(&mut self, range: RangeId, index: u64, term: u64) {
        self.buf.push(ITEM_TRUNCATION);
        self.varint(range);
        self.varint(index);
        self.varint(term);
    }

    /// Adds, to a checkpoint, the last entry of a range: whichever segments are gone, recovery knows
    /// how far the range's log must reach.
    pub fn last_entry(&mut self, range: RangeId, index: u64) {
        self.buf.push(ITEM_LAST_ENTRY);
        self.varint(range);
        self.varint(index);
    }

    /// Adds a marker of what the engine is about to go through: whatever the log knew of the range ends here.
    pub fn marker(&mut self, range: RangeId, marker: &Marker) {
        match *marker {
            Marker::Ingest { index, term, snapshot, tables } => {
                self.buf.push(ITEM_INGEST);
                for number in [range, index, term, snapshot.term, snapshot.number, tables] {
                    self.varint(number);
                }
            }
            Marker::Remove { number } => {
                self.buf.push(ITEM_REMOVE);
                self.varint(range);
                self.varint(number);
            }
        }
    }

    /// Adds that what a range's marker stands for is flushed.
    pub fn marker_end(&mut self, range: RangeId, number: u64) {
        self.buf.push(ITEM_MARKER_END);
        self.varint(range);
        self.varint(number);
    }

    /// Adds the bound below which timestamps may be handed out (R11).
    pub fn hlc_bound(&mut self, bound: Timestamp) {
        self.buf.push(ITEM_HLC_BOUND);
        self.varint(bound.0);
    }

    /// Completes the record: header, checksums, padding. The result is to be written as it is.
    pub fn seal(&mut self, kind: RecordKind, number: u64, salt: u64) -> &[u8] {
        let body = &self.buf[HEADER_BYTES..];
        assert!(body.len() <= MAX_BODY_BYTES, "groups are bounded far below the record limit");
        let (body_len, body_crc) = (body.len() as u32, salted_crc(salt, body));
        let padded = self.padded_len() as usize;
        self.buf.resize(padded, 0);
        let header = &mut self.buf[..HEADER_BYTES];
        header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[8..16].copy_from_slice(&number.to_le_bytes());
        header[16..20].copy_from_slice(&body_len.to_le_bytes());
        header[20..24].copy_from_slice(&body_crc.to_le_bytes());
        header[24] = kind as u8;
        let crc = salted_crc(salt, &header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        &self.buf
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.push(value as u8);
    }
}

const ITEM_ENTRY: u8 = 1;
const ITEM_HARD_STATE: u8 = 2;
const ITEM_TRUNCATION: u8 = 3;
const ITEM_HLC_BOUND: u8 = 4;
const ITEM_INGEST: u8 = 5;
const ITEM_LAST_ENTRY: u8 = 6;
const ITEM_REMOVE: u8 = 7;
const ITEM_MARKER_END: u8 = 8;

/// Which snapshot of a range: the one with the greater term, then number, is the later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId {
    /// The term of the leader that has sent it.
    pub term: u64,
    /// Its number among that leader's.
    pub number: u64,
}

/// What the engine is going through, which takes more than one step (R9): recovery does all of it again, unless the
/// marker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A snapshot's staged tables are ingested, in place of all that was there of the range.
    Ingest {
        /// The log goes on behind this entry.
        index: u64,
        /// Its term.
        term: u64,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// How many tables it has.
        tables: u64,
    },
    /// The replica is removed.
    Remove {
        /// Tells one removal from another.
        number: u64,
    },
}

impl Marker {
    /// Tells it from others of its range.
    pub fn number(&self) -> u64 {
        match self {
            Marker::Ingest { snapshot, .. } => snapshot.number,
            Marker::Remove { number } => *number,
        }
    }
}

/// One item of a record's body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// A log entry.
    Entry {
        /// Range.
        range: RangeId,
        /// Raft index.
        index: u64,
        /// Raft term.
        term: u64,
        /// `raft::eraftpb::EntryType` as a number.
        entry_type: i32,
        /// Payload.
        data: &'a [u8],
        /// Context.
        context: &'a [u8],
    },
    /// A range's hard state.
    HardState {
        /// Range.
        range: RangeId,
        /// Term.
        term: u64,
        /// Vote.
        vote: u64,
        /// Commit index.
        commit: u64,
    },
    /// A truncation point.
    Truncation {
        /// Range.
        range: RangeId,
        /// Last index dropped.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// How far a range's log reached at a checkpoint.
    LastEntry {
        /// Range.
        range: RangeId,
        /// Index of its last entry.
        index: u64,
    },
    /// The HLC's durable bound.
    HlcBound(Timestamp),
    /// What the engine is about to go through.
    Marker {
        /// Range.
        range: RangeId,
        /// What.
        marker: Marker,
    },
    /// The engine has flushed what a marker stands for.
    MarkerEnd {
        /// Range.
        range: RangeId,
        /// The marker's number.
        number: u64,
    },
}

/// Iterates over the items of a body.
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// The items of `body`.
    pub fn new(body: &'a [u8]) -> Items<'a> {
        Items { rest: body }
    }

    fn read(&mut self) -> Result<Item<'a>, &'static str> {
        let kind = self.byte()?;
        Ok(match kind {
            ITEM_ENTRY => Item::Entry {
                range: self.varint()?,
                index: self.varint()?,
                term: self.varint()?,
                entry_type: i32::from(self.byte()?),
                data: self.slice()?,
                context: self.slice()?,
            },
            ITEM_HARD_STATE => Item::HardState {
                range: self.varint()?,
                term: self.varint()?,
                vote: self.varint()?,
                commit: self.varint()?,
            },
            ITEM_TRUNCATION => {
                Item::Truncation { range: self.varint()?, index: self.varint()?, term: self.varint()? }
            }
            ITEM_LAST_ENTRY => Item::LastEntry { range: self.varint()?, index: self.varint()? },
            ITEM_HLC_BOUND => Item::HlcBound(Timestamp(self.varint()?)),
            ITEM_INGEST => {
                let range = self.varint()?;
                let (index, term) = (self.varint()?, self.varint()?);
                let snapshot = SnapshotId { term: self.varint()?, number: self.varint()? };
                let marker = Marker::Ingest { index, term, snapshot, tables: self.varint()? };
                Item::Marker { range, marker }
            }
            ITEM_REMOVE => {
                let range = self.varint()?;
                Item::Marker { range, marker: Marker::Remove { number: self.varint()? } }
            }
            ITEM_MARKER_END => Item::MarkerEnd { range: self.varint()?, number: self.varint()? },
            _ => return Err("unknown item in a record"),
        })
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let (&first, rest) = self.rest.split_first().ok_or("record body ends early")?;
        self.rest = rest;
        Ok(first)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("overlong number in a record")
    }

    fn slice(&mut self) -> Result<&'a [u8], &'static str> {
        let len = self.varint()?;
        if len > self.rest.len() as u64 {
            return Err("record body ends early");
        }
        let (slice, rest) = self.rest.split_at(len as usize);
        self.rest = rest;
        Ok(slice)
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.read();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// CRC32C over the salt, then `bytes`.
fn salted_crc(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

pub(crate) fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"))
}

pub(crate) fn le64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}
