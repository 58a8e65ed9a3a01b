//! The store's log: the only write-ahead log there is (R6).
//!
//! All ranges share it. It is a sequence of [`segment`](crate::segment)s of which the last is
//! written to, one [`record`](crate::record) per sync, the next only after it. Recovery reads the
//! live segments from the oldest on. Where a record is missing, anything valid behind it proves
//! that it was durable once: that is corruption, and the store refuses to open. With nothing
//! behind it, it is the torn tail of a write whose sync never returned, and is cut. Rot in the very
//! last record looks the same as a torn one; no log can tell these apart.
//!
//! Before anything recovered is relied on, the last record is written again and synced: the
//! process may have died before its sync, or the sync may have failed, after which the operating
//! system shows pages that the disk does not have.
//!
//! A failed write or sync ends the log's life: it is never retried, for the same reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_kv::seam::{Disk, Rng};
use cairn_kv::{Error, Result, Timestamp};
use parking_lot::RwLock;

use crate::RangeId;
use crate::entries::RangeLog;
use crate::record::{BLOCK, Item, Items, Marker, RecordHeader, RecordKind, RecordWriter};
use crate::segment::{self, Identity, Segment, SegmentHeader, live_name, read_full, spare_name};
use crate::spare::SparePool;
use crate::store::Faults;

/// Bytes of a new store's first segment: an empty store stays small and is made quickly.
pub const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

/// Bytes of a segment that is made while a commit waits for it, because no spare is ready yet: small
/// enough to wait for, large enough to last until the spare is.
pub const INTERIM_SEGMENT_BYTES: u64 = 4 << 20;

/// The live segments, for those who read entries back.
pub type LiveSegments = Arc<RwLock<BTreeMap<u64, Segment>>>;

/// A place in the log: segment and offset of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Segment's sequence number.
    pub segment: u64,
    /// Offset of the record in it.
    pub offset: u64,
}

/// The log, open for writing.
pub struct Log {
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
    faults: Faults,
    live: LiveSegments,
    pool: Arc<SparePool>,
    active: Segment,
    /// Where the next record goes.
    offset: u64,
    next_number: u64,
    /// Set while a write is under way, so that one that failed or never ended leaves it set.
    failed: bool,
}

/// What recovery found.
pub struct Recovered {
    /// Whose log it is.
    pub identity: Identity,
    /// Its ranges' logs.
    pub ranges: BTreeMap<RangeId, RangeLog>,
    /// No timestamp at or above it was handed out.
    pub hlc_bound: Timestamp,
    /// What the engine may not have gone through to the end, by range.
    pub markers: BTreeMap<RangeId, Marker>,
}

impl Log {
    /// Makes a new log whose first segment holds only `checkpoint`.
    pub async fn create(
        disk: Arc<dyn Disk>,
        rng: Arc<dyn Rng>,
        segment_bytes: u64,
        faults: Faults,
        identity: Identity,
        checkpoint: &mut RecordWriter,
    ) -> Result<Log> {
        let pool = Arc::new(SparePool::new(Arc::clone(&disk), segment_bytes));
        pool.adopt(&segment::list(&*disk)?.spares).await?;
        let header = SegmentHeader { sequence: 1, salt: rng.next_u64(), first_number: 1, identity };
        let spare = pool.prepare_now(FIRST_SEGMENT_BYTES.min(segment_bytes)).await?;
        let (active, offset) = open_segment(&*disk, spare, header, checkpoint, faults).await?;
        let live = LiveSegments::default();
        live.write().insert(1, active.clone());
        Ok(Log { disk, rng, faults, live, pool, active, offset, next_number: 2, failed: false })
    }

    /// Recovers the log of `disk`, or returns `None` if there is none. Entries above
    /// `applied(range)` are kept in memory: they are about to be applied.
    pub async fn recover(
        disk: Arc<dyn Disk>,
        rng: Arc<dyn Rng>,
        segment_bytes: u64,
        faults: Faults,
        applied: &(dyn Fn(RangeId) -> u64 + Sync),
    ) -> Result<Option<(Log, Recovered)>> {
        let live = LiveSegments::default();
        let mut replay = Replay::new(Arc::clone(&live));
        let scan = scan(&*disk, faults.accept_torn_tail, &mut |segment, offset, _, body| {
            live.write().entry(segment.header.sequence).or_insert_with(|| segment.clone());
            replay.record(segment, offset, body, faults.accept_torn_tail, applied)
        })?;
        let Some(scan) = scan else {
            return Ok(None);
        };
        let recovered = replay.finish(scan.segment.header.identity)?;

        // Make what was read, and the cut behind it, durable.
        let file = &scan.segment.file;
        let mut bytes = vec![0; (scan.end - scan.last) as usize];
        let read = read_full(&**file, scan.last, &mut bytes)?;
        file.write_at(scan.last, &bytes[..read])?;
        if scan.end + BLOCK <= scan.segment.capacity {
            file.write_at(scan.end, &[0; BLOCK as usize])?;
        }
        if !faults.skip_sync {
            file.sync().await?;
            disk.sync_dir().await?;
        }

        let pool = Arc::new(SparePool::new(Arc::clone(&disk), segment_bytes));
        pool.adopt(&segment::list(&*disk)?.spares).await?;
        let log = Log {
            disk,
            rng,
            faults,
            live,
            pool,
            active: scan.segment,
            offset: scan.end,
            next_number: scan.next_number,
            failed: false,
        };
        Ok(Some((log, recovered)))
    }

    /// The live segments.
    pub fn live(&self) -> &LiveSegments {
        &self.live
    }

    /// The spare segments.
    pub fn pool(&self) -> &Arc<SparePool> {
        &self.pool
    }

    /// Whether a spare should be made ready in the background, so that the next segment costs no
    /// commit the time to write it full of zeroes.
    pub fn wants_spare(&self) -> bool {
        self.offset > self.active.capacity / 2 && self.pool.is_wanted()
    }

    /// Whether a record of `padded_len` bytes fits the active segment; if not, [`Log::roll`] first.
    pub fn fits(&self, padded_len: u64) -> bool {
        self.offset + padded_len <= self.active.capacity
    }

    /// Where the next record will stand.
    pub fn position(&self) -> Position {
        Position { segment: self.active.header.sequence, offset: self.offset }
    }

    /// Writes a record and makes it durable.
    pub async fn append(&mut self, record: &mut RecordWriter) -> Result<()> {
        self.begin_write()?;
        assert!(self.fits(record.padded_len()), "the caller rolls when a record does not fit");
        let bytes = record.seal(RecordKind::Batch, self.next_number, self.active.header.salt);
        self.active.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        self.next_number += 1;
        if !self.faults.skip_sync {
            self.active.file.sync().await?;
        }
        self.failed = false;
        Ok(())
    }

    /// Goes on to a new segment, which opens with `checkpoint` and has room for a record of
    /// `padded_len` bytes behind it.
    pub async fn roll(&mut self, checkpoint: &mut RecordWriter, padded_len: u64) -> Result<()> {
        self.begin_write()?;
        let needed = BLOCK + checkpoint.padded_len() + padded_len;
        let spare = match self.pool.take(needed) {
            Some(spare) => spare,
            None => {
                let interim = INTERIM_SEGMENT_BYTES.min(self.pool.segment_bytes());
                self.pool.prepare_now(needed.max(interim)).await?
            }
        };
        let header = SegmentHeader {
            sequence: self.active.header.sequence + 1,
            salt: self.rng.next_u64(),
            first_number: self.next_number,
            identity: self.active.header.identity,
        };
        (self.active, self.offset) =
            open_segment(&*self.disk, spare, header, checkpoint, self.faults).await?;
        self.next_number += 1;
        self.live.write().insert(header.sequence, self.active.clone());
        self.failed = false;
        Ok(())
    }

    /// Recycles segments older than `oldest`, of which no entry is needed any more. The truncation
    /// points that say so are durable.
    pub async fn release(&mut self, oldest: u64) -> Result<()> {
        let oldest = oldest.min(self.active.header.sequence);
        loop {
            let Some(segment) = self.live.read().first_key_value().map(|(_, s)| s.clone()) else {
                return Ok(());
            };
            if segment.header.sequence >= oldest {
                return Ok(());
            }
            self.begin_write()?;
            self.live.write().remove(&segment.header.sequence);
            // One at a time, oldest first, each durable: a crash leaves no hole in the sequence.
            if segment.capacity == self.pool.segment_bytes() && !self.pool.is_full() {
                let number = self.pool.new_number();
                self.disk.rename(&segment.name(), &spare_name(number))?;
                self.disk.sync_dir().await?;
                self.pool.put(number, segment.capacity);
            } else {
                self.disk.remove(&segment.name())?;
                self.disk.sync_dir().await?;
            }
            self.failed = false;
        }
    }

    fn begin_write(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(Error::Io("the log has failed before and is not written again".into()));
        }
        Ok(())
    }
}

/// Turns a spare into the live segment of `header`; returns it and the offset behind the
/// checkpoint. Live only once complete: the rename comes after the sync.
async fn open_segment(
    disk: &dyn Disk,
    spare: crate::spare::Spare,
    header: SegmentHeader,
    checkpoint: &mut RecordWriter,
    faults: Faults,
) -> Result<(Segment, u64)> {
    let from = spare_name(spare.number);
    let file = disk.open(&from, false)?;
    file.write_at(0, &header.encode())?;
    let record = checkpoint.seal(RecordKind::Checkpoint, header.first_number, header.salt);
    file.write_at(BLOCK, record)?;
    if !faults.skip_sync {
        file.sync().await?;
    }
    disk.rename(&from, &live_name(header.sequence))?;
    disk.sync_dir().await?;
    Ok((Segment { header, file, capacity: spare.capacity }, BLOCK + record.len() as u64))
}

/// Where a log ends.
pub struct Scan {
    /// The last segment.
    pub segment: Segment,
    /// Offset of the last record.
    pub last: u64,
    /// Offset behind it.
    pub end: u64,
    /// Number of the next record.
    pub next_number: u64,
}

/// Called by [`scan`] with each record: segment, offset, header, body.
pub type Visit<'a> = dyn FnMut(&Segment, u64, &RecordHeader, &[u8]) -> Result<()> + 'a;

/// Reads the log of `disk` in order without changing anything. `None`: there is no log. Corruption
/// is an error that names file and offset. `accept_torn` is [`Faults::accept_torn_tail`].
pub fn scan(disk: &dyn Disk, accept_torn: bool, visit: &mut Visit<'_>) -> Result<Option<Scan>> {
    let live = segment::list(disk)?.live;
    for pair in live.windows(2) {
        if pair[0] + 1 != pair[1] {
            return Err(Error::Corruption(format!(
                "log file {} is missing between {} and {}",
                live_name(pair[0] + 1),
                live_name(pair[0]),
                live_name(pair[1])
            )));
        }
    }
    let mut previous: Option<(Scan, &'static str)> = None;
    let mut body = Vec::new();
    for (i, &sequence) in live.iter().enumerate() {
        let segment = Segment::open(disk, sequence)?;
        if let Some((before, reason)) = &previous {
            if segment.header.first_number != before.next_number {
                return Err(corruption(
                    &before.segment,
                    before.end,
                    &format!(
                        "{reason}, but the log goes on in {} with record {}: records from {} on are lost",
                        segment.name(),
                        segment.header.first_number,
                        before.next_number
                    ),
                ));
            }
            if segment.header.identity != before.segment.header.identity {
                return Err(Error::Corruption(format!(
                    "log file {} belongs to {}, {} to {}",
                    segment.name(),
                    segment.header.identity,
                    before.segment.name(),
                    before.segment.header.identity
                )));
            }
        }
        let first_number = segment.header.first_number;
        let mut at = Scan { segment, last: BLOCK, end: BLOCK, next_number: first_number };
        let is_last = i + 1 == live.len();
        let reason = loop {
            let header = match at.segment.read_record(at.end, &mut body)? {
                Ok(header) => header,
                Err(invalid) => match invalid.header {
                    Some(header) if accept_torn && is_last && header.number == at.next_number => header,
                    _ => break invalid.reason,
                },
            };
            if header.number != at.next_number {
                break "a record out of sequence";
            }
            if (header.kind == RecordKind::Checkpoint) != (header.number == first_number) {
                break "a checkpoint out of place";
            }
            visit(&at.segment, at.end, &header, &body)?;
            at.last = at.end;
            at.end += header.padded_len();
            at.next_number += 1;
        };
        if at.end == BLOCK {
            return Err(corruption(
                &at.segment,
                BLOCK,
                &format!("{reason} where the segment's checkpoint stands"),
            ));
        }
        if is_last && let Some((offset, number)) = at.segment.find_later(at.end, at.next_number)? {
            return Err(corruption(
                &at.segment,
                at.end,
                &format!(
                    "{reason} at record {}, but record {number} behind it at offset {offset} is there: \
                     this is not a torn tail",
                    at.next_number
                ),
            ));
        }
        previous = Some((at, reason));
    }
    Ok(previous.map(|(scan, _)| scan))
}

/// An error that names file and offset.
fn corruption(segment: &Segment, offset: u64, what: &str) -> Error {
    Error::Corruption(format!("log file {}, offset {offset}: {what}", segment.name()))
}

/// Rebuilds the ranges' logs from records.
pub(crate) struct Replay {
    live: LiveSegments,
    ranges: BTreeMap<RangeId, RangeLog>,
    hlc_bound: Timestamp,
    markers: BTreeMap<RangeId, Marker>,
}

impl Replay {
    pub(crate) fn new(live: LiveSegments) -> Replay {
        Replay { live, ranges: BTreeMap::new(), hlc_bound: Timestamp::ZERO, markers: BTreeMap::new() }
    }

    pub(crate) fn record(
        &mut self,
        segment: &Segment,
        offset: u64,
        body: &[u8],
        lenient: bool,
        applied: &dyn Fn(RangeId) -> u64,
    ) -> Result<()> {
        let position = Position { segment: segment.header.sequence, offset };
        for item in Items::new(body) {
            let item = match item {
                Ok(item) => item,
                Err(_) if lenient => break,
                Err(reason) => return Err(corruption(segment, offset, reason)),
            };
            let result = match item {
                Item::Entry { range, index, term, entry_type, data, context: _ } => {
                    let kept = (index > applied(range)).then(|| data.to_vec());
                    self.range(range).recover_entry(index, term, entry_type, data.len(), kept, position)
                }
                Item::HardState { range, term, vote, commit } => {
                    self.range(range).recover_hard_state(term, vote, commit);
                    Ok(())
                }
                Item::Truncation { range, index, term } => {
                    self.range(range).recover_truncation(index, term);
                    Ok(())
                }
                Item::LastEntry { range, index } => {
                    self.range(range).recover_last(index);
                    Ok(())
                }
                Item::HlcBound(bound) => {
                    self.hlc_bound = self.hlc_bound.max(bound);
                    Ok(())
                }
                Item::Marker { range, marker } => {
                    self.marker(range, marker);
                    Ok(())
                }
                Item::MarkerEnd { range, number } => {
                    if self.markers.get(&range).is_some_and(|marker| marker.number() == number) {
                        self.markers.remove(&range);
                    }
                    Ok(())
                }
            };
            if let Err(reason) = result
                && !lenient
            {
                return Err(corruption(segment, offset, &reason));
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self, identity: Identity) -> Result<Recovered> {
        for (range, log) in &self.ranges {
            log.recovery_is_complete()
                .map_err(|reason| Error::Corruption(format!("log of range {range}: {reason}")))?;
        }
        let Replay { ranges, hlc_bound, markers, .. } = self;
        Ok(Recovered { identity, ranges, hlc_bound, markers })
    }

    /// A checkpoint repeats a marker, which changes nothing then.
    fn marker(&mut self, range: RangeId, marker: Marker) {
        if self.markers.insert(range, marker) == Some(marker) {
            return;
        }
        self.ranges.remove(&range);
        if let Marker::Ingest { index, term, .. } = marker {
            let log = RangeLog::behind(range, Arc::clone(&self.live), (index, term));
            self.ranges.insert(range, log);
        }
    }

    fn range(&mut self, range: RangeId) -> &mut RangeLog {
        let live = &self.live;
        self.ranges.entry(range).or_insert_with(|| RangeLog::new(range, Arc::clone(live)))
    }
}
