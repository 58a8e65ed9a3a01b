//! Segments: the log's files. A segment's first block is its header; records follow.
//!
//! A file is live under its sequence number (`log-…`) or a spare (`log-spare-…`). It becomes live
//! by a rename, after its header and its first record, a checkpoint, are synced: so a live segment
//! always has both, and one without is corrupt. A live segment that is no longer needed becomes a
//! spare by the reverse rename, synced before its bytes are touched. What a spare contains does
//! not matter: its next incarnation has a new salt.

use std::sync::Arc;

use cairn_kv::seam::{Disk, DiskFile};
use cairn_kv::{Error, Result};

use crate::record::{BLOCK, HEADER_BYTES, RecordHeader, le32, le64};

/// Newest log format that this binary reads; it writes this one.
pub const LOG_FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"CAIRNLOG";
const LIVE_PREFIX: &str = "log-";
const SPARE_PREFIX: &str = "log-spare-";

/// Which store of which cluster a log or an engine belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Random, made once, at the cluster's birth.
    pub cluster: [u8; 16],
    /// Number of the store within its cluster.
    pub store: u64,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "store {} of cluster {:032x}", self.store, u128::from_be_bytes(self.cluster))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Position among the log's segments.
    pub sequence: u64,
    /// Seeds the checksums of this incarnation's records.
    pub salt: u64,
    /// Number of its first record, the checkpoint.
    pub first_number: u64,
    /// Whose log it is.
    pub identity: Identity,
}

impl SegmentHeader {
    /// The header's block. The format version and its own checksum stand first and never move, so
    /// that any version of Cairn can tell that a log is too new for it.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK as usize);
        block.extend_from_slice(MAGIC);
        block.extend_from_slice(&LOG_FORMAT.to_le_bytes());
        block.extend_from_slice(&crc32c::crc32c(&block).to_le_bytes());
        block.extend_from_slice(&self.sequence.to_le_bytes());
        block.extend_from_slice(&self.salt.to_le_bytes());
        block.extend_from_slice(&self.first_number.to_le_bytes());
        block.extend_from_slice(&self.identity.cluster);
        block.extend_from_slice(&self.identity.store.to_le_bytes());
        block.extend_from_slice(&crc32c::crc32c(&block).to_le_bytes());
        block.resize(BLOCK as usize, 0);
        block
    }

    /// Reads and checks the header of the live segment `name`.
    pub fn read(file: &dyn DiskFile, name: &str) -> Result<SegmentHeader> {
        let corrupt = |what: &str| Error::Corruption(format!("log file {name}, offset 0: {what}"));
        let mut block = [0; 68];
        if read_full(file, 0, &mut block)? < block.len() || &block[..8] != MAGIC {
            return Err(corrupt("not a log segment"));
        }
        if le32(&block[12..]) != crc32c::crc32c(&block[..12]) {
            return Err(corrupt("segment header checksum mismatch"));
        }
        let format = le32(&block[8..]);
        if format > LOG_FORMAT {
            return Err(Error::NewerFormat { found: format, supported: LOG_FORMAT });
        }
        if le32(&block[64..]) != crc32c::crc32c(&block[..64]) {
            return Err(corrupt("segment header checksum mismatch"));
        }
        let header = SegmentHeader {
            sequence: le64(&block[16..]),
            salt: le64(&block[24..]),
            first_number: le64(&block[32..]),
            identity: Identity {
                cluster: block[40..56].try_into().expect("sixteen bytes"),
                store: le64(&block[56..]),
            },
        };
        if name != live_name(header.sequence) {
            return Err(corrupt(&format!("this is the segment {}, renamed", live_name(header.sequence))));
        }
        Ok(header)
    }
}

/// Name of the live segment `sequence`.
pub fn live_name(sequence: u64) -> String {
    format!("{LIVE_PREFIX}{sequence:016x}")
}

/// Name of a spare.
pub fn spare_name(number: u64) -> String {
    format!("{SPARE_PREFIX}{number:016x}")
}

/// The log's files in a directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Sequence numbers of live segments, ascending.
    pub live: Vec<u64>,
    /// Numbers of spares, ascending.
    pub spares: Vec<u64>,
}

/// Lists the log's files; others are not looked at.
pub fn list(disk: &dyn Disk) -> Result<Listing> {
    let mut listing = Listing::default();
    let number = |hex: &str| (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok()).flatten();
    for name in disk.list()? {
        if let Some(spare) = name.strip_prefix(SPARE_PREFIX) {
            listing.spares.extend(number(spare));
        } else if let Some(live) = name.strip_prefix(LIVE_PREFIX) {
            listing.live.extend(number(live));
        }
    }
    listing.live.sort_unstable();
    listing.spares.sort_unstable();
    Ok(listing)
}

/// An open segment as readers see it.
#[derive(Clone)]
pub struct Segment {
    /// Its header.
    pub header: SegmentHeader,
    /// Its file.
    pub file: Arc<dyn DiskFile>,
    /// Bytes of the file.
    pub capacity: u64,
}

impl Segment {
    /// Opens the live segment `sequence` and checks its header.
    pub fn open(disk: &dyn Disk, sequence: u64) -> Result<Segment> {
        let name = live_name(sequence);
        let file = disk.open(&name, false)?;
        let header = SegmentHeader::read(&*file, &name)?;
        let capacity = file.len()? / BLOCK * BLOCK;
        Ok(Segment { header, file, capacity })
    }

    /// Its file's name.
    pub fn name(&self) -> String {
        live_name(self.header.sequence)
    }

    /// Reads the record at `offset` into `body`. The inner error says why there is no valid one;
    /// then `body` holds what was read of it, and the header is given if that was valid.
    pub fn read_record(&self, offset: u64, body: &mut Vec<u8>) -> Result<Result<RecordHeader, Invalid>> {
        body.clear();
        let header = match self.read_header(offset)? {
            Ok(header) => header,
            Err(reason) => return Ok(Err(Invalid { reason, header: None })),
        };
        let invalid = |reason| Ok(Err(Invalid { reason, header: Some(header) }));
        if offset + header.padded_len() > self.capacity {
            return invalid("record reaches beyond the file");
        }
        body.resize(header.body_len as usize, 0);
        let read = read_full(&*self.file, offset + HEADER_BYTES as u64, body)?;
        if read < body.len() || !header.body_is_valid(body, self.header.salt) {
            return invalid("record checksum mismatch");
        }
        Ok(Ok(header))
    }

    /// Reads the record header at `offset`, or says why there is none.
    pub fn read_header(&self, offset: u64) -> Result<Result<RecordHeader, &'static str>> {
        if offset + BLOCK > self.capacity {
            return Ok(Err("end of file"));
        }
        let mut header = [0; HEADER_BYTES];
        let read = read_full(&*self.file, offset, &mut header)?;
        Ok(RecordHeader::decode(&header[..read], self.header.salt))
    }

    /// The first block behind `offset` that starts with a valid record header numbered `least` or
    /// higher. The next record is only written after the sync of the one before it, so such a
    /// header proves that what stands before it was durable once.
    pub fn find_later(&self, offset: u64, least: u64) -> Result<Option<(u64, u64)>> {
        const CHUNK: u64 = 1 << 20;
        let mut chunk = vec![0; CHUNK as usize];
        let mut start = offset + BLOCK;
        while start < self.capacity {
            let read = read_full(&*self.file, start, &mut chunk)?;
            for at in (0..read).step_by(BLOCK as usize) {
                match RecordHeader::decode(&chunk[at..read], self.header.salt) {
                    Ok(header) if header.number >= least => {
                        return Ok(Some((start + at as u64, header.number)));
                    }
                    _ => {}
                }
            }
            if (read as u64) < CHUNK {
                break;
            }
            start += CHUNK;
        }
        Ok(None)
    }
}

/// Why there is no valid record at an offset.
#[derive(Clone, Copy, Debug)]
pub struct Invalid {
    /// For messages.
    pub reason: &'static str,
    /// The header, where that much is valid.
    pub header: Option<RecordHeader>,
}

/// Reads until `buf` is full or the file ends; returns how many bytes.
pub(crate) fn read_full(file: &dyn DiskFile, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(offset + filled as u64, &mut buf[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
