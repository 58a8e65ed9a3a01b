//! Snapshots: how a replica gets a range's whole state, where the log does not go back far enough.
//!
//! raft-rs finds out that a follower needs one, or a store is told of a replica that it does not have and says that
//! it has nothing. The leader's driver takes a view of the engine between two applies, so that all families agree on
//! one applied index, and a task of its own streams it ([`send`]): pieces of some hundred KiB, with a window of
//! unacknowledged bytes and at a bounded rate, behind all other messages. The receiver stages them as tables, some
//! tens of MiB each ([`stage`]). What is lost is sent again; a receiver that restarts goes on behind its last finished
//! table. Where the sender restarts or leads no more, its view is gone: the next snapshot begins anew.
//!
//! When all is staged, the leader's raft-rs is told; it sends its word through Raft's own messages, and the
//! receiver's driver brings the replica over to the snapshot, in these steps (R9):
//!
//! | step | a crash after it |
//! |---|---|
//! | all tables are staged, durably; the leader says so | the replica is as it was; the leader says it again |
//! | a marker (snapshot, entry, number of tables) and the hard state are synced in the log: all that it knew of the range ends there, it goes on behind the snapshot's entry | recovery ingests all tables before it makes replicas |
//! | the tables are ingested family by family, `local` last, with descriptor and applied state | the same, and again at each further crash: each table begins with the removal of all it stands for |
//! | the replica is made anew from engine and log, as by recovery; it answers the leader, and goes on with the log | the same: what was applied since is in the log, which is not truncated before the marker ends |
//! | the engine flushes, having begun after that | the same |
//! | the end of the marker is synced in the log | the replica is as the engine has it, the tables are left over |
//! | the tables are discarded | nothing is left |
//!
//! So raft-rs never sees a snapshot that it does not have already: its replica is made again, rather than changed.
//!
//! A replica that is removed goes the same way without tables: a marker, the removal of its spans from the engine, a
//! flush, the end of the marker. Recovery removes the spans again while there is a marker.

mod install;
mod send;
mod stage;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::engine::{BEYOND_ALL_KEYS, Cf, Engine, EngineSnapshot, WriteBatch};
use cairn_kv::seam::{Channel, NodeId};
use cairn_kv::{Result, local_keys, version};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use prost::Message as _;
use raft::eraftpb;

use crate::RangeId;
use crate::command::RangeDescriptor;
use crate::driver::Core;
use crate::membership::conf_state;
use crate::record::SnapshotId;
use crate::store::Inner;

pub(crate) use install::redo;

/// Sizes of the stream of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Bytes of entries that close a piece.
    pub piece_bytes: usize,
    /// Bytes of entries that close a table; a receiver that restarts loses less than one.
    pub table_bytes: usize,
    /// Bytes of pieces that are sent and not acknowledged.
    pub window_bytes: usize,
    /// What is sent in a second at most, so that commits have the disks and the link too.
    pub bytes_per_second: u64,
}

impl Default for SnapshotConfig {
    fn default() -> SnapshotConfig {
        SnapshotConfig {
            piece_bytes: 256 << 10,
            table_bytes: 32 << 20,
            window_bytes: 4 << 20,
            bytes_per_second: 64 << 20,
        }
    }
}

/// Keys of one family that belong to a range.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    cf: Cf,
    start: Bytes,
    end: Bytes,
}

/// All that a range has in the engine, families in the order of [`Cf::ALL`], each family's spans ascending.
fn spans(descriptor: &RangeDescriptor) -> Vec<Span> {
    let (start, end) = (&descriptor.start, &descriptor.end);
    let span = |cf, start: &[u8], end: &[u8]| {
        let end = if end.is_empty() { BEYOND_ALL_KEYS } else { end };
        Span { cf, start: Bytes::copy_from_slice(start), end: Bytes::copy_from_slice(end) }
    };
    let mut spans = vec![
        span(Cf::Lock, start, &version::physical_end(end)),
        span(Cf::Data, start, end),
        span(Cf::History, start, &version::physical_end(end)),
    ];
    let keys = [
        local_keys::range_state(descriptor.range),
        local_keys::range_descriptor(start),
        local_keys::thresholds(start),
    ];
    let mut local: Vec<Span> =
        keys.iter().map(|key| span(Cf::Local, key, &[&key[..], &[0]].concat())).collect();
    local.extend(local_keys::anchored_in(start, end).iter().map(|(start, end)| span(Cf::Local, start, end)));
    local.sort_by(|a, b| a.start.cmp(&b.start));
    spans.extend(local);
    spans
}

/// What removes a range from the engine.
fn clearing(descriptor: &RangeDescriptor) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for Span { cf, start, end } in spans(descriptor) {
        batch.delete_range(cf, start, end);
    }
    batch
}

/// A staged table, as its name says: pieces `first..next` of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TableName {
    range: RangeId,
    snapshot: SnapshotId,
    first: u64,
    next: u64,
    cf: Cf,
    is_last: bool,
}

impl TableName {
    fn encode(&self) -> String {
        let TableName { range, snapshot, first, next, cf, is_last } = self;
        let (term, number, cf) = (snapshot.term, snapshot.number, cf.name());
        let last = if *is_last { "-last" } else { "" };
        format!("{range:016x}-{term:016x}-{number:016x}-{first:08x}-{next:08x}-{cf}{last}")
    }

    fn decode(name: &str) -> Option<TableName> {
        let parts: Vec<&str> = name.split('-').collect();
        let number = |at: usize| parts.get(at).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let cf = Cf::ALL.into_iter().find(|cf| parts.get(5).is_some_and(|name| *name == cf.name()))?;
        let decoded = TableName {
            range: number(0)?,
            snapshot: SnapshotId { term: number(1)?, number: number(2)? },
            first: number(3)?,
            next: number(4)?,
            cf,
            is_last: parts.get(6) == Some(&"last"),
        };
        (decoded.encode() == name).then_some(decoded)
    }
}

/// The staged tables of a snapshot from its first piece on, without a gap.
fn staged_tables(engine: &dyn Engine, range: RangeId, snapshot: SnapshotId) -> Result<Vec<TableName>> {
    let mut tables: Vec<TableName> = Vec::new();
    // By name they are in order.
    for table in engine.staged()?.iter().filter_map(|name| TableName::decode(name)) {
        let next = tables.last().map_or(0, |table| table.next);
        if (table.range, table.snapshot) == (range, snapshot) && table.first == next {
            tables.push(table);
        }
    }
    Ok(tables)
}

/// Forgets the staged tables of a range, save those of the snapshots that are `kept`.
fn discard(engine: &dyn Engine, range: RangeId, kept: impl Fn(SnapshotId) -> bool) -> Result<()> {
    for name in engine.staged()? {
        if TableName::decode(&name).is_some_and(|table| table.range == range && !kept(table.snapshot)) {
            engine.discard(&name)?;
        }
    }
    Ok(())
}

/// Forgets the staged tables of one snapshot.
fn discard_one(engine: &dyn Engine, range: RangeId, snapshot: SnapshotId) -> Result<()> {
    discard(engine, range, |of| of != snapshot)
}

/// How the driver and the task of snapshots meet.
#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<DeskState>,
    arrived: tokio::sync::Notify,
}

#[derive(Default)]
struct DeskState {
    last_number: u64,
    /// A snapshot is being sent. One at a time: each keeps what it shows in the engine.
    is_sending: bool,
    to_send: Option<Shipping>,
    /// Snapshots whose tables must stay.
    held: BTreeSet<(RangeId, SnapshotId)>,
}

/// A snapshot to be sent.
pub(crate) struct Shipping {
    range: RangeId,
    /// To whom.
    replica: u64,
    store: NodeId,
    id: SnapshotId,
    /// What the leader's raft-rs is given once all is staged.
    snapshot: eraftpb::Snapshot,
    view: Box<dyn EngineSnapshot>,
    spans: Vec<Span>,
    cancelled: Arc<AtomicBool>,
}

impl Desk {
    /// A number above all earlier ones, of earlier lives too, which are below the clock's `reading`.
    fn number(&self, reading: u64) -> u64 {
        let mut state = self.state.lock();
        state.last_number = reading.max(state.last_number + 1);
        state.last_number
    }

    fn is_held(&self, range: RangeId, snapshot: SnapshotId) -> bool {
        self.state.lock().held.contains(&(range, snapshot))
    }
}

impl Core {
    /// Begins to send a snapshot to a follower that needs one.
    pub(crate) fn start_snapshots(&mut self, inner: &Inner) -> Result<()> {
        for replica in self.replicas.values_mut() {
            for (to, store) in replica.takes_wanted_snapshots() {
                // raft-rs asks again at the follower's next answer.
                if inner.desk.state.lock().is_sending {
                    continue;
                }
                let id = SnapshotId {
                    term: replica.raw.raft.term,
                    number: inner.desk.number(inner.hlc.reading().0),
                };
                let view = Arc::clone(&inner.engine).snapshot()?;
                let (index, term, cancelled) = replica.ships(to);
                let mut spans = spans(replica.descriptor());
                if inner.config.faults.snapshot_without_history {
                    spans.retain(|span| span.cf != Cf::History);
                }
                let metadata = eraftpb::SnapshotMetadata {
                    conf_state: Some(conf_state(replica.descriptor())),
                    index,
                    term,
                };
                let data = [id.term.to_be_bytes(), id.number.to_be_bytes()].concat();
                let snapshot = eraftpb::Snapshot { data, metadata: Some(metadata) };
                let range = replica.range;
                tracing::info!(range, store, index, "a snapshot is sent");
                let mut state = inner.desk.state.lock();
                state.is_sending = true;
                state.to_send =
                    Some(Shipping { range, replica: to, store, id, snapshot, view, spans, cancelled });
                inner.desk.arrived.notify_one();
            }
        }
        Ok(())
    }
}

/// How long to wait where there is nothing to do but for frames.
const IDLE: Duration = Duration::from_secs(10);

/// The task: sends one snapshot, receives others.
pub(crate) async fn run(weak: Weak<Inner>) {
    let Some(env) = weak.upgrade().map(|inner| inner.env.clone()) else { return };
    let mut sending: Option<send::Sending> = None;
    let mut receiving = stage::Receiving::new(env.clock.monotonic_nanos());
    loop {
        let Some(inner) = weak.upgrade() else { return };
        if inner.queue.lock().failed {
            return;
        }
        if sending.is_none() {
            let next = inner.desk.state.lock().to_send.take();
            sending = next.map(|shipping| send::Sending::new(shipping, inner.config.snapshot));
        }
        let mut wait = IDLE;
        if let Some(under_way) = &mut sending {
            match under_way.step(&inner, env.clock.monotonic_nanos()) {
                Ok(send::Step::Wait(pause)) => wait = pause,
                Ok(send::Step::Ended { staged }) => {
                    let shipping = sending.take().expect("it is under way").into_shipping();
                    inner.desk.state.lock().is_sending = false;
                    inner.hand_in([shipping.outcome(staged)]);
                    inner.cluster.work_waits.notify_one();
                    continue;
                }
                Err(error) => {
                    inner.fail(&format!("snapshot of the engine: {error}"));
                    return;
                }
            }
        }
        if let Err(error) = receiving.forget_idle(&inner, env.clock.monotonic_nanos()) {
            inner.fail(&format!("staged tables: {error}"));
            return;
        }
        let desk = Arc::clone(&inner.desk);
        drop(inner);
        let frame = tokio::select! {
            biased;
            frame = env.transport.receive(Channel::Snapshot) => Some(frame),
            () = desk.arrived.notified() => None,
            () = env.runtime.sleep(wait) => None,
        };
        let mut frames: Vec<(NodeId, Bytes)> = frame.into_iter().collect();
        while let Some(frame) = env.transport.receive(Channel::Snapshot).now_or_never() {
            frames.push(frame);
        }
        let Some(inner) = weak.upgrade() else { return };
        for (from, frame) in frames {
            let frame = match wire::Frame::decode_frame(frame) {
                Ok(frame) => frame,
                Err(error) => {
                    tracing::warn!(from, %error, "a frame of a snapshot is not taken");
                    continue;
                }
            };
            if let Some(ack) = frame.ack {
                if let Some(under_way) = &mut sending {
                    under_way.acknowledged(from, frame.id(), ack, env.clock.monotonic_nanos());
                }
                continue;
            }
            let now = env.clock.monotonic_nanos();
            match receiving.receive(&inner, from, frame, now).await {
                Ok(Some(answer)) => {
                    inner.env.transport.send(from, Channel::Snapshot, answer.encode_to_vec().into());
                }
                Ok(None) => {}
                Err(error) => {
                    inner.fail(&format!("staging a snapshot: {error}"));
                    return;
                }
            }
        }
    }
}
