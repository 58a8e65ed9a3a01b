//! Inline group commit.
//!
//! Whoever brings work and finds the log idle takes the *seat* and drives the log on its own task:
//! it steps Raft with all that is queued, writes and syncs one record, applies, answers. Work that
//! arrives meanwhile is queued and makes the next batch. On an idle store a commit so crosses no
//! thread; under load one sync serves many. After a few batches the driver, whose own caller waits
//! too, hands the seat to one of those in the queue.
//!
//! Where there are other stores one task drives, which reads their messages too, on a thread of its own
//! ([`crate::cluster`]): a commit waits for another store's answer in any case, which wakes that thread, and the workers,
//! of which no sync takes one away, answer others meanwhile.
//!
//! The seat always has exactly one place: idle in the queue, in the hands of a driver, or on its
//! way to a waiter. A driver's future that is dropped goes on as a task of its own, so what is half
//! written is completed and nobody hangs. A seat that is dropped all the same (a panic, a runtime
//! that ends) fails the store: what was under way has an unknown outcome.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use cairn_kv::effects::Effects;
use cairn_kv::seam::{BoxFuture, Channel, NodeId};
use cairn_kv::{Result, Timestamp};
use parking_lot::Mutex;
use prost::Message as _;
use raft::eraftpb::{self, Entry, HardState, MessageType};

use crate::RangeId;
use crate::log::Log;
use crate::membership::Change;
use crate::message::{FRAME_BYTES, RaftFrame, RangeMessage};
use crate::metrics;
use crate::record::{BLOCK, Marker, RecordWriter};
use crate::replica::{Received, Replica};
use crate::store::{Applied, Inner, Lease, ProposeError, ReplicaProgress};
use crate::waiter::{Reply, Signal, Waiter, Waiting};

/// Batches that a driver completes before it hands the seat over.
const BATCHES_PER_DRIVER: usize = 4;

/// Payload bytes that close a batch (R8): with the last command on top, a record stays below twice
/// the largest command.
const GROUP_BYTES: usize = crate::store::MAX_COMMAND_BYTES;

/// Bytes of received messages that may wait for the log.
const MAX_RECEIVED_BYTES: usize = 64 << 20;

/// Work for the log.
pub(crate) enum Work {
    /// Replicate and apply a command.
    Propose { range: RangeId, lease: Lease, payload: Vec<u8>, effects: Effects, reply: Reply },
    /// Make a higher HLC bound durable (R11).
    RaiseBound { reply: Reply },
    /// Drop what is flushed: range and index; and markers whose engine work is flushed, by number.
    Truncate { points: Vec<(RangeId, u64)>, ended: Vec<(RangeId, u64)>, reply: Reply },
    /// Change the range's replicas.
    Change { range: RangeId, change: Change, reply: Reply },
    /// Say how far the range's replicas have come, where this store leads.
    Look { range: RangeId, seen: Arc<Mutex<Option<Vec<ReplicaProgress>>>>, reply: Reply },
    /// What became of a snapshot that was sent. Nobody waits for it.
    Shipped { range: RangeId, replica: u64, snapshot: Box<eraftpb::Snapshot>, staged: bool },
    /// Nothing commits at or below the timestamp any more: note and tell it.
    Close { range: RangeId, upto: Timestamp, reply: Reply },
    /// Have another store's replica lead.
    Cede { range: RangeId, to: NodeId, reply: Reply },
    /// Messages of another store's replicas. Nobody waits for it.
    Receive { from: NodeId, frame: RaftFrame },
    /// Time has passed. Nobody waits for it.
    Tick,
}

impl Work {
    fn reply(&self) -> Option<&Reply> {
        match self {
            Work::Propose { reply, .. }
            | Work::RaiseBound { reply }
            | Work::Truncate { reply, .. }
            | Work::Change { reply, .. }
            | Work::Look { reply, .. }
            | Work::Close { reply, .. }
            | Work::Cede { reply, .. } => Some(reply),
            Work::Receive { .. } | Work::Shipped { .. } | Work::Tick => None,
        }
    }

    fn into_reply(self) -> Option<Reply> {
        match self {
            Work::Propose { reply, .. }
            | Work::RaiseBound { reply }
            | Work::Truncate { reply, .. }
            | Work::Change { reply, .. }
            | Work::Look { reply, .. }
            | Work::Close { reply, .. }
            | Work::Cede { reply, .. } => Some(reply),
            Work::Receive { .. } | Work::Shipped { .. } | Work::Tick => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Work::Propose { payload, .. } => payload.len(),
            _ => self.received_bytes(),
        }
    }

    fn received_bytes(&self) -> usize {
        match self {
            Work::Receive { frame, .. } => frame.messages.iter().map(|m| m.raft.len()).sum(),
            _ => 0,
        }
    }
}

/// Work that waits for the driver, and the seat while nobody drives.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) work: VecDeque<Work>,
    pub(crate) idle: Option<Box<Core>>,
    /// Bytes of the messages in `work`.
    received_bytes: usize,
    /// Why new proposals are refused: closed, or failed.
    pub(crate) refusal: Option<String>,
    /// The log has failed: not even internal work is taken.
    pub(crate) failed: bool,
}

/// What became of the leases that new leaders want.
enum Leases {
    NoneWanted,
    Proposed,
    /// The clock's bound must rise first.
    NeedBound,
}

/// What only the driver touches.
pub(crate) struct Core {
    pub(crate) log: Log,
    pub(crate) replicas: BTreeMap<RangeId, Replica>,
    record: RecordWriter,
    /// Internal work of the present batch.
    waiting: Vec<Reply>,
    /// How long a sync took lately.
    sync_nanos: u64,
    /// Messages to other stores.
    outgoing: BTreeMap<NodeId, Vec<RangeMessage>>,
    /// What the engine is going through, or has gone through and not flushed.
    pub(crate) markers: BTreeMap<RangeId, Marker>,
    /// Replicas that are none any more.
    pub(crate) removals: Vec<RangeId>,
    /// Leaders' words that a snapshot is staged here.
    pub(crate) installs: Vec<(RangeId, Received)>,
}

/// What the log may forget.
#[derive(Default)]
struct Truncations {
    /// Range, index and term.
    points: Vec<(RangeId, u64, u64)>,
    /// Range and number of markers.
    ended: Vec<(RangeId, u64)>,
}

impl Truncations {
    fn is_empty(&self) -> bool {
        self.points.is_empty() && self.ended.is_empty()
    }
}

impl Inner {
    /// Queues work that nobody waits for, for whoever drives next.
    pub(crate) fn hand_in(&self, work: impl IntoIterator<Item = Work>) {
        let mut queue = self.queue.lock();
        if queue.failed {
            return;
        }
        for work in work {
            // What is dropped here is sent again.
            if !matches!(work, Work::Receive { .. }) || queue.received_bytes <= MAX_RECEIVED_BYTES {
                queue.received_bytes += work.received_bytes();
                queue.work.push_back(work);
            }
        }
    }

    /// Drives one batch, if there is work and nobody drives.
    pub(crate) async fn drive(self: &Arc<Self>) {
        let core = {
            let mut queue = self.queue.lock();
            if queue.work.is_empty() { None } else { queue.idle.take() }
        };
        if let Some(core) = core {
            Seat::new(Arc::clone(self), core).drive_inline().await;
        }
    }

    /// Queues `work`, drives if the log is idle, and waits for the outcome.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        make: impl FnOnce(Reply) -> Work,
    ) -> Result<Applied, ProposeError> {
        let waiting = Waiting(Arc::new(Waiter::default()));
        let work = make(Reply::new(Arc::clone(&waiting.0)));
        let core = {
            let mut queue = self.queue.lock();
            let refused = match work {
                Work::Propose { .. } => queue.refusal.is_some(),
                _ => queue.failed,
            };
            if refused {
                let reason = queue.refusal.clone().unwrap_or_default();
                return Err(ProposeError::Unavailable(reason));
            }
            queue.work.push_back(work);
            if self.cluster.has_met() {
                self.cluster.work_waits.notify_one();
                None
            } else {
                queue.idle.take()
            }
        };
        if let Some(core) = core {
            Seat::new(Arc::clone(self), core).drive_inline().await;
        }
        loop {
            match waiting.0.signal().await {
                Signal::Done(outcome) => return outcome,
                Signal::Drive(seat) => seat.drive_inline().await,
            }
        }
    }

    /// The store has failed: nothing that is queued or comes later is done.
    pub(crate) fn fail(&self, reason: &str) {
        let queued = {
            let mut queue = self.queue.lock();
            if queue.failed {
                return;
            }
            queue.failed = true;
            queue.refusal = Some(format!("the store has stopped: {reason}"));
            std::mem::take(&mut queue.work)
        };
        tracing::error!(reason, "the store has stopped");
        self.withdraw_leases();
        for work in queued {
            // It never reached the log.
            let refusal = ProposeError::Unavailable(format!("the store has stopped: {reason}"));
            if let Some(reply) = work.into_reply() {
                reply.send(Err(refusal));
            }
        }
        self.failure.notify_waiters();
    }
}

/// The right, and duty, to drive the log.
pub(crate) struct Seat {
    inner: Arc<Inner>,
    core: Option<Box<Core>>,
}

impl Seat {
    fn new(inner: Arc<Inner>, core: Box<Core>) -> Seat {
        Seat { inner, core: Some(core) }
    }

    /// Drives on the caller's task. If the caller goes away, driving goes on as a task.
    fn drive_inline(self) -> Driving {
        Driving { inner: Arc::clone(&self.inner), drive: Some(Box::pin(self.drive())) }
    }

    /// Drives as a task.
    pub(crate) fn drive_as_task(self) {
        let runtime = Arc::clone(&self.inner.env.runtime);
        runtime.spawn("log driver", Box::pin(self.drive()));
    }

    async fn drive(mut self) {
        let mut work = Vec::new();
        for _ in 0..BATCHES_PER_DRIVER {
            if !self.take_work(&mut work) {
                return;
            }
            let core = self.core.as_mut().expect("a driver has the core");
            if let Err(error) = core.process(&self.inner, &mut work).await {
                self.fail(&error.to_string());
                return;
            }
            if self.inner.cluster.has_met() {
                // Messages of other stores come before the next batch.
                break;
            }
        }
        self.hand_over();
    }

    /// Takes a batch from the queue; leaves the seat there and returns false if there is none.
    fn take_work(&mut self, batch: &mut Vec<Work>) -> bool {
        let mut queue = self.inner.queue.lock();
        let mut bytes = 0;
        while bytes < GROUP_BYTES
            && let Some(work) = queue.work.pop_front()
        {
            bytes += work.bytes();
            queue.received_bytes -= work.received_bytes();
            batch.push(work);
        }
        if batch.is_empty() {
            queue.idle = self.core.take();
        }
        !batch.is_empty()
    }

    /// Gives the seat to the first in the queue who still waits; to a task if none does. Where there are other stores,
    /// to whoever reads their messages.
    fn hand_over(mut self) {
        if self.inner.cluster.has_met() {
            let mut queue = self.inner.queue.lock();
            queue.idle = self.core.take();
            if !queue.work.is_empty() {
                self.inner.cluster.work_waits.notify_one();
            }
            return;
        }
        let mut offered = 0;
        loop {
            let waiter = {
                let mut queue = self.inner.queue.lock();
                if queue.work.is_empty() {
                    queue.idle = self.core.take();
                    return;
                }
                let waiting = queue.work.iter().filter_map(Work::reply);
                waiting.skip(offered).map(|reply| Arc::clone(reply.waiter())).next()
            };
            match waiter {
                Some(waiter) => match waiter.offer(self) {
                    Ok(()) => return,
                    Err(seat) => self = seat,
                },
                None => return self.drive_as_task(),
            }
            offered += 1;
        }
    }

    fn fail(&mut self, reason: &str) {
        if let Some(mut core) = self.core.take() {
            self.inner.fail(reason);
            core.abandon(reason);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.fail("the log's driver ended in the middle of its work");
    }
}

/// Drives within the caller's future.
struct Driving {
    inner: Arc<Inner>,
    drive: Option<BoxFuture<'static, ()>>,
}

impl Future for Driving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(drive) = &mut self.drive else {
            return Poll::Ready(());
        };
        let poll = drive.as_mut().poll(context);
        if poll.is_ready() {
            self.drive = None;
        }
        poll
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        // A driver that panicked must not be polled again: its seat's destructor cleans up.
        if let Some(drive) = self.drive.take()
            && !std::thread::panicking()
        {
            self.inner.env.runtime.spawn("log driver", drive);
        }
    }
}

impl Core {
    pub(crate) fn new(
        log: Log,
        replicas: BTreeMap<RangeId, Replica>,
        markers: BTreeMap<RangeId, Marker>,
    ) -> Core {
        Core {
            log,
            replicas,
            record: RecordWriter::default(),
            waiting: Vec::new(),
            sync_nanos: 0,
            outgoing: BTreeMap::new(),
            markers,
            removals: Vec::new(),
            installs: Vec::new(),
        }
    }

    /// One group commit: steps Raft with `work`, makes durable what is ready, applies what that
    /// commits and answers, until Raft has nothing more to do.
    pub(crate) async fn process(&mut self, inner: &Inner, work: &mut Vec<Work>) -> Result<()> {
        let mut raise_bound = false;
        let (mut points, mut truncations) = (Vec::new(), Truncations::default());
        let now = inner.hlc.reading();
        for work in work.drain(..) {
            match work {
                Work::Propose { range, lease, payload, effects, reply } => {
                    match self.replicas.get_mut(&range) {
                        Some(replica) => replica.gather(lease, payload, effects, reply, now),
                        None => reply
                            .send(Err(ProposeError::Unavailable(format!("no range {range} in this store")))),
                    }
                }
                Work::RaiseBound { reply } => {
                    raise_bound = true;
                    self.waiting.push(reply);
                }
                Work::Truncate { points: of_flush, ended, reply } => {
                    points.extend(of_flush);
                    truncations.ended.extend(ended);
                    self.waiting.push(reply);
                }
                Work::Change { range, change, reply } => {
                    let terms = inner.cluster.terms.read();
                    let refused = match self.replicas.get_mut(&range) {
                        Some(replica) => replica.propose_change(&change, &terms, now, Some(reply)).err(),
                        None => Some((format!("no range {range} in this store"), Some(reply))),
                    };
                    if let Some((reason, Some(reply))) = refused {
                        reply.send(Err(ProposeError::Unavailable(reason)));
                    }
                }
                Work::Look { range, seen, reply } => {
                    let now = inner.now_for_liveness();
                    *seen.lock() = self.replicas.get(&range).and_then(|replica| replica.progress(now));
                    reply.send(Ok(Applied { index: 0 }));
                }
                Work::Shipped { range, replica, snapshot, staged } => {
                    if staged {
                        inner.metrics.snapshots_sent.inc();
                    }
                    if let Some(of) = self.replicas.get_mut(&range) {
                        of.shipped(replica, *snapshot, staged, inner.now_for_liveness());
                    }
                }
                Work::Close { range, upto, reply } => {
                    if let Some(replica) = self.replicas.get_mut(&range) {
                        let index = replica.closes(upto);
                        for (id, store) in replica.others() {
                            let unhurried = !replica.waits_for(id);
                            let told =
                                RangeMessage { unhurried, ..RangeMessage::closed(range, index, upto.0) };
                            self.outgoing.entry(store).or_default().push(told);
                        }
                    }
                    reply.send(Ok(Applied { index: 0 }));
                }
                Work::Cede { range, to, reply } => {
                    let now = inner.now_for_liveness();
                    let ceded = match self.replicas.get_mut(&range) {
                        Some(replica) => replica.cede(to, now),
                        None => Err(format!("no range {range} in this store")),
                    };
                    if ceded.is_ok() {
                        inner.publish_leadership(range, Some(&self.replicas[&range]));
                    }
                    reply.send(match ceded {
                        Ok(()) => Ok(Applied { index: 0 }),
                        Err(reason) => Err(ProposeError::Unavailable(reason)),
                    });
                }
                Work::Receive { from, frame } => self.receive(inner, from, &frame)?,
                Work::Tick => self.tick(inner)?,
            }
        }
        for replica in self.replicas.values_mut() {
            if replica.step_gathered() {
                // What gets lost of it is sent again by a tick.
                inner.cluster.stir();
            }
        }
        // Someone else's record may have raised it since.
        raise_bound &= inner.bound_is_near();
        for (range, flushed) in points {
            let Some(replica) = self.replicas.get(&range) else { continue };
            let pending = self.markers.get(&range).map(|marker| (range, marker.number()));
            if pending.is_some_and(|marker| !truncations.ended.contains(&marker)) {
                // Recovery would go back to before what is flushed.
                continue;
            }
            let index = replica.truncation_point(flushed, inner.config.log_bytes_for_followers);
            if index > replica.raw.store().truncated().0
                && let Some(term) = replica.raw.store().term_of(index)
            {
                truncations.points.push((range, index, term));
            }
        }
        let mut forced = raise_bound || !truncations.is_empty();
        loop {
            while self.step_ready(inner, forced, &truncations).await? {
                forced = false;
            }
            match self.propose_leases(inner)? {
                Leases::Proposed => {}
                // Once: where a sync takes longer than the bound then leads, the next tick tries again.
                Leases::NeedBound if !raise_bound => (forced, raise_bound) = (true, true),
                Leases::NeedBound | Leases::NoneWanted => break,
            }
        }
        self.finish_truncation(inner, &truncations).await?;
        while self.change_replicas(inner).await? {
            while self.step_ready(inner, false, &Truncations::default()).await? {}
        }
        for (range, replica) in &mut self.replicas {
            if let Some(upto) = replica.takes_closed() {
                inner.pasts.close(*range, upto);
            }
        }
        self.start_snapshots(inner)?;
        // What no replica's step has sent.
        self.send(inner);
        for reply in self.waiting.drain(..) {
            reply.send(Ok(Applied { index: 0 }));
        }
        if self.log.wants_spare() {
            let prepare = Arc::clone(self.log.pool()).prepare_in_background(Arc::clone(&inner.env.runtime));
            inner.env.runtime.spawn("log spare", Box::pin(prepare));
        }
        Ok(())
    }

    fn receive(&mut self, inner: &Inner, from: NodeId, frame: &RaftFrame) -> Result<()> {
        let (terms, now) = (inner.cluster.terms.read(), inner.now_for_liveness());
        // By this reading votes may be granted: what is sent of them must not show less.
        inner.hlc.observe(now.hlc);
        for sent in &frame.messages {
            let range = sent.range;
            if sent.asks != 0 || sent.removed != 0 {
                self.receive_membership(from, sent);
                continue;
            }
            if sent.closed != 0 {
                if let Some(replica) = self.replicas.get_mut(&range) {
                    replica.told.hear(sent.closed_at, Timestamp(sent.closed));
                }
                continue;
            }
            let message = match sent.message() {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(from, %error, "a message is not taken");
                    continue;
                }
            };
            let incarnation = frame.incarnation;
            let received =
                Received { from, incarnation, follows_in: sent.follows_in, passed: sent.passed, message };
            let message = &received.message;
            let is_snapshot = message.msg_type() == MessageType::MsgSnapshot;
            let Some(replica) = self.replicas.get_mut(&range) else {
                if is_snapshot {
                    self.installs.push((range, received));
                } else if let Some(answer) = answer_for_nobody(message) {
                    self.outgoing.entry(from).or_default().push(RangeMessage::new(range, 0, &answer));
                }
                continue;
            };
            if message.to > replica.id() && !replica.leads() {
                // A later replica of this store: this one was removed, and has not heard of it.
                self.removals.push(range);
            } else if replica.was_removed(message.from) {
                let told = RangeMessage::removed(range, message.from);
                self.outgoing.entry(from).or_default().push(told);
            } else if is_snapshot
                && message.to == replica.id()
                && message.term >= replica.raw.raft.term
                && !replica.covers(message.get_snapshot())
            {
                self.installs.push((range, received));
            } else {
                replica.receive(received, &terms, now)?;
                replica.settle_leadership(&terms);
            }
        }
        Ok(())
    }

    /// A replica asks whether it is one, or is told that it is not.
    fn receive_membership(&mut self, from: NodeId, sent: &RangeMessage) {
        let range = sent.range;
        let Some(replica) = self.replicas.get(&range) else { return };
        if sent.asks != 0 && replica.was_removed(sent.asks) {
            let told = RangeMessage::removed(range, sent.asks);
            self.outgoing.entry(from).or_default().push(told);
        }
        if sent.removed == replica.id() && !replica.leads() {
            self.removals.push(range);
        }
    }

    fn tick(&mut self, inner: &Inner) -> Result<()> {
        let (terms, now) = (inner.cluster.terms.read(), inner.now_for_liveness());
        let mut is_quiet = true;
        for (range, replica) in &mut self.replicas {
            let silence = inner.config.liveness.support;
            is_quiet &= replica.tick(&terms, now, silence, || inner.env.rng.next_u64())?;
            replica.settle_leadership(&terms);
            if replica.takes_lease_due() {
                inner.publish_leadership(*range, Some(replica));
            }
            if replica.asks_for_membership(now) {
                for store in replica.peers() {
                    let asked = RangeMessage::ask(*range, replica.id());
                    self.outgoing.entry(store).or_default().push(asked);
                }
            }
        }
        // While no promise can be withdrawn: that comes before this, which has seen it, or stirs what is quiet after it.
        inner.cluster.ticked(is_quiet);
        drop(terms);
        Ok(())
    }

    /// Has new leaders propose their leases.
    fn propose_leases(&mut self, inner: &Inner) -> Result<Leases> {
        let mut outcome = Leases::NoneWanted;
        for replica in self.replicas.values_mut().filter(|replica| replica.wants_lease()) {
            let Some(start) = inner.hlc.try_now() else { return Ok(Leases::NeedBound) };
            replica.propose_lease(start)?;
            inner.metrics.leases.inc();
            outcome = Leases::Proposed;
        }
        Ok(outcome)
    }

    /// Sends messages of a replica's group to the other replicas' stores.
    fn post(&mut self, range: RangeId, messages: Vec<eraftpb::Message>) {
        let Some(replica) = self.replicas.get_mut(&range) else { return };
        let passed = if replica.leads() { replica.slowest() } else { 0 };
        for message in messages {
            if let Some(store) = replica.store_of(message.to) {
                let unhurried =
                    message.msg_type() == MessageType::MsgAppend && !replica.waits_for(message.to);
                let message = RangeMessage::new(range, replica.follows_in(store), &message);
                let message = RangeMessage { passed, unhurried, ..message };
                self.outgoing.entry(store).or_default().push(message);
            }
        }
    }

    fn send(&mut self, inner: &Inner) {
        if self.outgoing.is_empty() {
            return;
        }
        let incarnation = inner.cluster.terms.read().incarnation();
        let hlc = inner.hlc.reading().0;
        for (store, messages) in std::mem::take(&mut self.outgoing) {
            let mut frame = RaftFrame::new(incarnation, hlc);
            let mut bytes = 0;
            for message in messages {
                bytes += message.raft.len();
                frame.messages.push(message);
                if bytes >= FRAME_BYTES {
                    inner.env.transport.send(store, Channel::Raft, frame.encode_to_vec().into());
                    frame.messages.clear();
                    bytes = 0;
                }
            }
            if !frame.messages.is_empty() {
                inner.env.transport.send(store, Channel::Raft, frame.encode_to_vec().into());
            }
        }
    }

    /// Handles what Raft is ready with, over all ranges, in one record. Returns false if there was
    /// nothing to do.
    async fn step_ready(&mut self, inner: &Inner, forced: bool, truncations: &Truncations) -> Result<bool> {
        let mut must_write = forced;
        let mut ready: Vec<(RangeId, raft::Ready, Vec<Entry>, Option<HardState>)> = Vec::new();
        let mut messages = Vec::new();
        self.record.clear();
        for (range, replica) in &mut self.replicas {
            if !replica.raw.has_ready() {
                continue;
            }
            let mut rd = replica.raw.ready();
            // A leader's followers write while it does.
            if !rd.messages().is_empty() {
                messages.push((*range, rd.take_messages()));
            }
            let entries = rd.take_entries();
            for entry in &entries {
                self.record.entry(*range, entry);
            }
            // Who has an entry that ends a change of voters has to know after a restart that its beginning is
            // committed: it would elect itself by the old voters, who may have no say any more.
            let commits = !entries.is_empty()
                && replica.peers().next().is_some()
                && *replica.raw.store().hard_state() != replica.raw.raft.hard_state()
                && !inner.config.faults.forget_commits;
            let recorded = rd.hs().cloned().or_else(|| commits.then(|| replica.raw.raft.hard_state()));
            if let Some(state) = &recorded {
                self.record.hard_state(*range, state);
            }
            assert!(rd.snapshot().is_empty(), "raft-rs only sees snapshots that it has already");
            must_write |= rd.must_sync();
            ready.push((*range, rd, entries, recorded));
        }
        if ready.is_empty() && !forced {
            return Ok(false);
        }
        if forced {
            for (range, index, term) in &truncations.points {
                self.record.truncation(*range, *index, *term);
            }
            for (range, number) in &truncations.ended {
                self.record.marker_end(*range, *number);
            }
        }
        for (range, messages) in messages {
            self.post(range, messages);
        }
        self.send(inner);
        let position = if must_write { self.write(inner).await? } else { self.log.position() };
        for (range, mut rd, entries, recorded) in ready {
            let replica = self.replicas.get_mut(&range).expect("it was ready");
            let store = replica.raw.mut_store();
            store.append(entries, position);
            if must_write && let Some(state) = recorded {
                store.set_hard_state(state);
            }
            let soft_state_changed = rd.ss().is_some();
            let earlier = rd.take_committed_entries();
            let mut messages = rd.take_persisted_messages();
            let mut light = replica.raw.advance_append(rd);
            messages.extend(light.take_messages());
            let (mut lease_changed, mut members_changed) = (soft_state_changed, false);
            for committed in [earlier, light.take_committed_entries()] {
                let stats = replica.apply(&*inner.engine, &committed, &inner.thresholds, &inner.hlc)?;
                inner.stats.commits.fetch_add(stats.entries, Ordering::Relaxed);
                inner.flush.keys.fetch_add(stats.keys, Ordering::Relaxed);
                inner.flush.engine_bytes.fetch_add(stats.bytes, Ordering::Relaxed);
                lease_changed |= stats.lease_changed;
                members_changed |= stats.members_changed;
            }
            if members_changed {
                for (departed, store) in replica.settle_members(&inner.cluster.terms.read()) {
                    let told = RangeMessage::removed(range, departed);
                    self.outgoing.entry(store).or_default().push(told);
                }
                inner.publish_descriptor(range, Some(Arc::clone(replica.descriptor())));
                if !replica.is_member() {
                    self.removals.push(range);
                }
            }
            if lease_changed || members_changed {
                if let Some((_, fortification)) = replica.leadership() {
                    fortification.update(&inner.cluster.terms.read());
                }
                inner.publish_leadership(range, Some(replica));
            }
            if !messages.is_empty() {
                self.post(range, messages);
            }
        }
        self.send(inner);
        inner.consider_flush();
        Ok(true)
    }

    /// Writes the record at hand, with the HLC's next bound, in a new segment if need be.
    pub(crate) async fn write(&mut self, inner: &Inner) -> Result<crate::log::Position> {
        // By the time it is durable the bound must still be ahead, also where the disk is slow.
        let lead = inner.hlc_lead_micros() + 2 * self.sync_nanos / 1000;
        let bound = inner.hlc.propose_bound(lead).max(inner.hlc.bound());
        self.record.hlc_bound(bound);
        let (bytes, padded) = (self.record.len(), self.record.padded_len());
        let began = inner.env.clock.monotonic_nanos();
        inner.cluster.sync_begins(began);
        if !self.log.fits(padded) {
            let mut checkpoint = self.checkpoint(inner);
            self.log.roll(&mut checkpoint, padded).await?;
            inner.stats.syncs.fetch_add(1, Ordering::Relaxed);
        }
        let position = self.log.position();
        self.log.append(&mut self.record).await?;
        inner.cluster.sync_ended();
        let took = inner.env.clock.monotonic_nanos() - began;
        inner.metrics.sync.observe(metrics::seconds(took));
        self.sync_nanos = took.max(self.sync_nanos - self.sync_nanos / 8);
        inner.hlc.raise_bound(bound);
        inner.stats.syncs.fetch_add(1, Ordering::Relaxed);
        inner.stats.log_bytes.fetch_add(padded, Ordering::Relaxed);
        // Padding is read at a restart but costs little then.
        inner.flush.log_bytes.fetch_add(bytes + (padded - bytes) / 4, Ordering::Relaxed);
        Ok(position)
    }

    fn checkpoint(&self, inner: &Inner) -> RecordWriter {
        let mut record = RecordWriter::default();
        record.clear();
        for (range, marker) in &self.markers {
            record.marker(*range, marker);
        }
        for (range, replica) in &self.replicas {
            let store = replica.raw.store();
            record.hard_state(*range, store.hard_state());
            let (index, term) = store.truncated();
            record.truncation(*range, index, term);
            record.last_entry(*range, store.last());
        }
        record.hlc_bound(inner.hlc.bound());
        record
    }

    /// The truncation points are durable: forgets the entries and recycles the segments.
    async fn finish_truncation(&mut self, inner: &Inner, truncations: &Truncations) -> Result<()> {
        if truncations.is_empty() {
            return Ok(());
        }
        for (range, number) in &truncations.ended {
            self.end_marker(inner, *range, *number)?;
        }
        for (range, index, _) in &truncations.points {
            let replica = self.replicas.get_mut(range).expect("it has a truncation point");
            replica.raw.mut_store().truncate(*index);
        }
        let oldest = self.replicas.values().filter_map(|r| r.raw.store().oldest_segment()).min();
        inner.cluster.sync_begins(inner.env.clock.monotonic_nanos());
        self.log.release(oldest.unwrap_or(u64::MAX)).await?;
        inner.cluster.sync_ended();
        Ok(())
    }

    /// A record to write: with it alone.
    pub(crate) fn new_record(&mut self) -> &mut RecordWriter {
        self.record.clear();
        &mut self.record
    }

    fn abandon(&mut self, reason: &str) {
        for replica in self.replicas.values_mut() {
            replica.abandon(reason);
        }
        for reply in self.waiting.drain(..) {
            reply.send(Err(ProposeError::Ambiguous(reason.into())));
        }
    }
}

/// What a leader is answered for a replica that is not here, or not yet: that it has nothing, so that it gets a
/// snapshot. Nothing is promised or kept for it before: it has no vote.
fn answer_for_nobody(message: &eraftpb::Message) -> Option<eraftpb::Message> {
    let answer = eraftpb::Message {
        to: message.from,
        from: message.to,
        term: message.term,
        index: message.index,
        ..eraftpb::Message::default()
    };
    match message.msg_type() {
        MessageType::MsgHeartbeat => {
            Some(eraftpb::Message { msg_type: MessageType::MsgHeartbeatResponse as i32, index: 0, ..answer })
        }
        // Any index asks for it: the entries from the first on would not do, they build on what was founded.
        MessageType::MsgAppend => Some(eraftpb::Message {
            msg_type: MessageType::MsgAppendResponse as i32,
            reject: true,
            request_snapshot: 1,
            ..answer
        }),
        _ => None,
    }
}

const _: () = assert!(2 * GROUP_BYTES + BLOCK as usize <= crate::record::MAX_BODY_BYTES);
