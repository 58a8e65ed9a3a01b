//! Looking at the log of a stopped store: a dump that a person can read, and a check. Neither
//! changes the directory.

use std::collections::BTreeMap;
use std::fmt::Write;

use cairn_kv::effects::Effects;
use cairn_kv::engine::Engine;
use cairn_kv::seam::Disk;
use cairn_kv::{Error, Result, Timestamp};
use prost_011::Message as _;
use raft::eraftpb::{ConfChangeV2, EntryType};

use crate::RangeId;
use crate::command::{Body, Payload, ReplicaDescriptor};
use crate::log::{LiveSegments, Replay, scan};
use crate::open::{LocalState, mismatch};
use crate::record::{Item, Items, Marker, RecordHeader, RecordKind, SnapshotId};
use crate::segment::{self, Identity, Segment, SegmentHeader, live_name, spare_name};
use crate::store::StoreError;

/// What a check found in a sound log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSummary {
    /// Whose log it is.
    pub identity: Identity,
    /// Live segments.
    pub segments: usize,
    /// Records in them.
    pub records: u64,
    /// First and last entry by range, of those not truncated; first > last where there is none.
    pub ranges: BTreeMap<RangeId, (u64, u64)>,
    /// The HLC's durable bound.
    pub hlc_bound: Timestamp,
    /// Number that the next record gets.
    pub next_number: u64,
}

/// Writes a line for each segment and record, and one for each item of a record. Corruption ends
/// the dump with an error that names file and offset, behind everything that precedes it.
pub fn dump_log(disk: &dyn Disk, out: &mut dyn Write) -> Result<()> {
    for &number in &segment::list(disk)?.spares {
        let name = spare_name(number);
        let len = disk.open(&name, false)?.len()?;
        line(out, format_args!("{name}  spare, {len} bytes"))?;
    }
    let mut last_segment = None;
    let mut dump = |segment: &Segment, offset: u64, header: &RecordHeader, body: &[u8]| {
        if last_segment.replace(segment.header.sequence) != Some(segment.header.sequence) {
            let SegmentHeader { salt, first_number, identity, .. } = segment.header;
            let (name, capacity) = (segment.name(), segment.capacity);
            line(
                out,
                format_args!(
                    "{name}  {capacity} bytes, salt {salt:016x}, from record {first_number}, {identity}"
                ),
            )?;
        }
        let kind = match header.kind {
            RecordKind::Batch => "record",
            RecordKind::Checkpoint => "checkpoint",
        };
        line(out, format_args!("  {offset:#010x}  {kind} {}, {} bytes", header.number, header.body_len))?;
        for item in Items::new(body) {
            let item = item.map_err(|reason| {
                Error::Corruption(format!("log file {}, offset {offset}: {reason}", segment.name()))
            })?;
            line(out, format_args!("    {}", describe(&item)))?;
        }
        Ok(())
    };
    match scan(disk, false, &mut dump)? {
        Some(end) => line(
            out,
            format_args!(
                "ends in {} at offset {:#x}; next is record {}",
                end.segment.name(),
                end.end,
                end.next_number
            ),
        ),
        None => line(out, format_args!("no log")),
    }
}

/// Reads the whole log, every entry decoded, as recovery would. An error names file and offset.
pub fn check_log(disk: &dyn Disk) -> Result<LogSummary> {
    let live = LiveSegments::default();
    let mut replay = Replay::new(live);
    let mut records = 0;
    let end = scan(disk, false, &mut |segment, offset, _, body| {
        records += 1;
        for item in Items::new(body).flatten() {
            if let Item::Entry { range, index, entry_type, data, .. } = item
                && !data.is_empty()
            {
                payload_of(entry_type, data).map_err(|e| {
                    let place = format!("log file {}, offset {offset}", segment.name());
                    Error::Corruption(format!("{place}: entry {index} of range {range}: {e}"))
                })?;
            }
        }
        replay.record(segment, offset, body, false, &|_| u64::MAX)
    })?;
    let Some(end) = end else {
        return Err(Error::Corruption(format!("no log: {} is missing", live_name(1))));
    };
    let identity = end.segment.header.identity;
    let recovered = replay.finish(identity)?;
    Ok(LogSummary {
        identity,
        segments: segment::list(disk)?.live.len(),
        records,
        ranges: recovered.ranges.iter().map(|(r, log)| (*r, (log.truncated().0 + 1, log.last()))).collect(),
        hlc_bound: recovered.hlc_bound,
        next_number: end.next_number,
    })
}

/// Whether an engine's own state can be read and is that of the log of `identity`.
pub fn check_engine(engine: &dyn Engine, identity: Identity) -> Result<(), StoreError> {
    match LocalState::read(engine)?.identity {
        Some(own) if own != identity => Err(mismatch(&identity, &own)),
        _ => Ok(()),
    }
}

fn line(out: &mut dyn Write, text: std::fmt::Arguments<'_>) -> Result<()> {
    writeln!(out, "{text}").map_err(|_| Error::Io("the dump's reader is gone".into()))
}

fn describe(item: &Item<'_>) -> String {
    match *item {
        Item::Entry { range, index, term, entry_type, data, .. } => {
            let what = match (entry_type, data) {
                (0, []) => "start of term".into(),
                (entry_type, data) => match payload_of(entry_type, data) {
                    Ok(payload) => describe_payload(&payload),
                    Err(error) => error.to_string(),
                },
            };
            format!("range {range} entry {index} term {term}: {what}")
        }
        Item::HardState { range, term, vote, commit } => {
            format!("range {range} hard state: term {term}, vote {vote}, commit {commit}")
        }
        Item::Truncation { range, index, term } => {
            format!("range {range} truncated behind entry {index} term {term}")
        }
        Item::LastEntry { range, index } => format!("range {range} reaches up to entry {index}"),
        Item::HlcBound(bound) => format!("hlc bound {bound}"),
        Item::Marker { range, marker: Marker::Ingest { index, term, snapshot, tables } } => {
            let SnapshotId { term: of, number } = snapshot;
            format!(
                "range {range} becomes snapshot {of}.{number} of {tables} tables, behind entry {index} term {term}"
            )
        }
        Item::Marker { range, marker: Marker::Remove { .. } } => format!("range {range} is removed"),
        Item::MarkerEnd { range, .. } => format!("range {range} is flushed behind its marker"),
    }
}

/// An entry's payload; that of a change of replicas is its context.
fn payload_of(entry_type: i32, data: &[u8]) -> Result<Payload> {
    if entry_type == EntryType::EntryNormal as i32 {
        return Payload::decode(data);
    }
    let change = ConfChangeV2::decode(data)
        .map_err(|e| Error::Corruption(format!("log entry: undecodable change of replicas: {e}")))?;
    Payload::decode(&change.context)
}

fn describe_payload(payload: &Payload) -> String {
    match &payload.body {
        Body::Command(effects) => format!(
            "command {}.{}: {}",
            payload.lease_sequence,
            payload.lease_index,
            describe_effects(effects)
        ),
        Body::Lease(grant) => format!(
            "lease {} for replica {} from {}, after lease {}",
            grant.sequence,
            grant.holder,
            Timestamp(grant.start),
            payload.lease_sequence
        ),
        Body::Descriptor(descriptor) => {
            let replica =
                |r: &ReplicaDescriptor| format!("{} on store {}: {:?}", r.replica, r.store, r.role());
            let replicas: Vec<_> = descriptor.replicas.iter().map(replica).collect();
            let (sequence, index) = (payload.lease_sequence, payload.lease_index);
            format!("replicas {sequence}.{index}: {}", replicas.join(", "))
        }
    }
}

/// Effects in a line: keys, not values.
fn describe_effects(effects: &Effects) -> String {
    const SHOWN: usize = 4;
    let mut parts = Vec::new();
    let mut list = |kind: &str, count: usize, shown: Vec<String>| {
        if count > 0 {
            let more = if count > shown.len() {
                format!(" and {} more", count - shown.len())
            } else {
                String::new()
            };
            parts.push(format!("{kind} {}{more}", shown.join(", ")));
        }
    };
    let writes = effects.writes.iter().take(SHOWN).map(|w| {
        let ts = Timestamp(w.ts);
        match &w.value {
            Some(value) => format!("{} @{ts} ({} bytes)", escape(&w.key), value.len()),
            None => format!("{} @{ts} (deleted)", escape(&w.key)),
        }
    });
    list("write", effects.writes.len(), writes.collect());
    for (kind, raw) in [("lock", &effects.locks), ("local", &effects.local)] {
        let shown = raw.iter().take(SHOWN).map(|r| match &r.value {
            Some(value) => format!("{} ({} bytes)", escape(&r.key), value.len()),
            None => format!("{} (removed)", escape(&r.key)),
        });
        list(kind, raw.len(), shown.collect());
    }
    let resolves = effects.resolves.iter().take(SHOWN).map(|r| match r.commit_ts {
        0 => format!("{}..{} aborted", escape(&r.start), escape(&r.end)),
        ts => format!("{}..{} committed @{}", escape(&r.start), escape(&r.end), Timestamp(ts)),
    });
    list("resolve", effects.resolves.len(), resolves.collect());
    if let Some(t) = &effects.thresholds {
        let (gc, tombstone, marker) = (Timestamp(t.gc), Timestamp(t.tombstone), Timestamp(t.marker));
        parts.push(format!("thresholds gc {gc}, tombstone {tombstone}, marker {marker}"));
    }
    if parts.is_empty() { "nothing".into() } else { parts.join("; ") }
}

fn escape(key: &[u8]) -> String {
    format!("\"{}\"", key.escape_ascii())
}
