//! A store's dealings with the other stores: the tasks that keep its liveness, take in what Raft groups
//! send, and let their time pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::hlc::Hlc;
use cairn_kv::seam::{Channel, Disk, Env, NodeId};
use cairn_kv::{Result, Timestamp};
use futures_util::FutureExt;
use parking_lot::RwLock;
use prost::Message as _;
use tokio::sync::Notify;

use crate::driver::Work;
use crate::liveness::{LivenessConfig, LivenessMessage, Now, Terms};
use crate::message::{FRAME_BYTES, RaftFrame};
use crate::store::{Faults, Inner};
use crate::support_file::SupportFile;

/// How often Raft groups look whether they have a leader, and whether followers lack something.
const TICK: Duration = Duration::from_millis(25);

/// The same where the last look has found all in order: what changes that is noticed at once ([`Cluster::stir`]).
const QUIET_TICK: Duration = Duration::from_millis(500);

/// For so long a store gathers what nobody waits for ([`crate::quorum`]), unless it leads.
const GATHER: Duration = Duration::from_millis(2);

/// A log sync that takes longer lets the store ask for support no more: who cannot write cannot lead.
const HUNG_NANOS: u64 = 500_000_000;

/// What a store knows of the others.
pub(crate) struct Cluster {
    pub(crate) terms: RwLock<Terms>,
    /// The stores of the other replicas of this one's ranges.
    pub(crate) peers: RwLock<BTreeSet<NodeId>>,
    /// Whether there are, or were, others: then the tasks run.
    is_met: AtomicBool,
    meeting: tokio::sync::Mutex<()>,
    /// Monotonic time at which the log sync under way began, plus one; zero: none is.
    sync_began: AtomicU64,
    tick_waits: AtomicBool,
    /// The last tick has found nothing to do, nor to wait for.
    is_quiet: AtomicBool,
    /// It is not so any more.
    stirred: Arc<Notify>,
    /// The log's queue has work.
    pub(crate) work_waits: Arc<Notify>,
}

impl Cluster {
    pub(crate) fn new(terms: Terms) -> Cluster {
        Cluster {
            terms: RwLock::new(terms),
            peers: RwLock::default(),
            is_met: AtomicBool::new(false),
            meeting: tokio::sync::Mutex::new(()),
            sync_began: AtomicU64::new(0),
            tick_waits: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
            stirred: Arc::default(),
            work_waits: Arc::default(),
        }
    }

    pub(crate) fn sync_begins(&self, nanos: u64) {
        self.sync_began.store(nanos + 1, Ordering::Relaxed);
    }

    pub(crate) fn sync_ended(&self) {
        self.sync_began.store(0, Ordering::Relaxed);
    }

    /// The tick that was handed in is done; `is_quiet`: there was nothing to do, nor to wait for.
    pub(crate) fn ticked(&self, is_quiet: bool) {
        self.is_quiet.store(is_quiet, Ordering::Relaxed);
        self.tick_waits.store(false, Ordering::Relaxed);
    }

    /// There may be something to do again, or to wait for.
    pub(crate) fn stir(&self) {
        if self.is_quiet.load(Ordering::Relaxed) && self.is_quiet.swap(false, Ordering::Relaxed) {
            self.stirred.notify_one();
        }
    }

    /// Whether there are, or were, other stores.
    pub(crate) fn has_met(&self) -> bool {
        self.is_met.load(Ordering::Relaxed)
    }

    fn is_hung(&self, nanos: u64) -> bool {
        let began = self.sync_began.load(Ordering::Relaxed);
        began != 0 && nanos + 1 >= began + HUNG_NANOS
    }
}

/// Whether a store has had to do with others: it may have promised them something.
pub(crate) fn has_met_others(disk: &dyn Disk) -> Result<bool> {
    SupportFile::exists(disk)
}

/// Opens the support file and begins a new life in it.
pub(crate) async fn begin_terms(
    env: &Env,
    liveness: LivenessConfig,
    hlc: &Hlc,
    faults: Faults,
) -> Result<(SupportFile, Terms)> {
    let (mut file, kept) = SupportFile::open(&*env.disk).await?;
    let mut terms = Terms::begin(kept.as_deref(), liveness, Now::read(hlc, &*env.clock))?;
    file.write(&terms.keep(), faults.skip_support_sync).await?;
    Ok((file, terms))
}

/// Starts the tasks.
pub(crate) fn start(inner: &Arc<Inner>, file: SupportFile) {
    inner.cluster.is_met.store(true, Ordering::SeqCst);
    let runtime = &inner.env.runtime;
    runtime.spawn_dedicated("liveness", Box::pin(keep_alive(Arc::downgrade(inner), file)));
    runtime.spawn_dedicated("raft", Box::pin(receive(Arc::downgrade(inner))));
    runtime.spawn("snapshots", Box::pin(crate::snapshot::run(Arc::downgrade(inner))));
}

/// Asks for support, gives it and withdraws it, until the store has gone or failed.
async fn keep_alive(weak: Weak<Inner>, mut file: SupportFile) {
    let Some(env) = weak.upgrade().map(|inner| inner.env.clone()) else { return };
    let (mut turns, mut timer) = (BTreeMap::new(), None);
    loop {
        let Some(inner) = weak.upgrade() else { return };
        if inner.queue.lock().failed {
            return;
        }
        let next_ask = ask_in_turn(&inner, &mut turns);
        // Support is withdrawn as soon as it has ended.
        let ends_in = inner.cluster.terms.read().ends_in(inner.now_for_liveness());
        drop(inner);
        let due = env.clock.monotonic_nanos() + next_ask.min(ends_in.unwrap_or(next_ask)).as_nanos() as u64;
        // One that is due too early wakes for nothing, once; a new one for each message costs more.
        if timer.as_ref().is_none_or(|(at, _)| due < *at) {
            let pause = due.saturating_sub(env.clock.monotonic_nanos());
            timer = Some((due, env.runtime.sleep(Duration::from_nanos(pause))));
        }
        let (_, pause) = timer.as_mut().expect("just set");
        let frame = tokio::select! {
            biased;
            frame = env.transport.receive(Channel::Liveness) => Some(frame),
            () = pause => None,
        };
        if frame.is_none() {
            timer = None;
        }
        let mut frames = Vec::from_iter(frame);
        // All that came meanwhile, for one write: on a slow disk they would else come faster than they go.
        while let Some(frame) = env.transport.receive(Channel::Liveness).now_or_never() {
            frames.push(frame);
        }
        let Some(inner) = weak.upgrade() else { return };
        let changed = change_terms(&inner, &mut file, frames, &mut turns).await;
        if let Err(error) = changed {
            // A promise that cannot be kept must not be made, nor a read served by a clock that is wrong.
            inner.fail(&error);
        }
    }
}

/// When a store asks each other one next, monotonic nanoseconds.
type Turns = BTreeMap<NodeId, u64>;

/// Asks those for support whose turn it is; how long until it is the next one's.
fn ask_in_turn(inner: &Inner, turns: &mut Turns) -> Duration {
    let (heartbeat, now) = (inner.config.liveness.heartbeat, inner.now_for_liveness());
    let peers = inner.cluster.peers.read();
    turns.retain(|peer, _| peers.contains(peer));
    let mut next_ask = now.nanos + heartbeat.as_nanos() as u64;
    for peer in &*peers {
        let next = turns.entry(*peer).or_insert(0);
        if now.nanos >= *next {
            *next = now.nanos + heartbeat.as_nanos() as u64;
            if !inner.cluster.is_hung(now.nanos) {
                send(inner, *peer, &inner.cluster.terms.read().ask(*peer, now));
            }
        }
        next_ask = next_ask.min(*next);
    }
    Duration::from_nanos(next_ask - now.nanos)
}

/// Takes in messages, withdraws what has ended; makes durable what has changed, then says so. An error is
/// why the store must stop.
async fn change_terms(
    inner: &Arc<Inner>,
    file: &mut SupportFile,
    frames: Vec<(NodeId, Bytes)>,
    turns: &mut Turns,
) -> Result<(), String> {
    let now = inner.now_for_liveness();
    let mut terms = inner.cluster.terms.read().clone();
    let before = terms.keep();
    let has_withdrawn = terms.withdraw(now);
    if has_withdrawn {
        // Whom this store may vote for now must serve above what it had promised (R10).
        inner.hlc.observe(now.hlc);
    }
    let stores = inner.cluster.peers.read().len() + 1;
    let off = terms.is_off_by(stores, now);
    let tolerated = inner.config.liveness.tolerated_offset_micros();
    if off > tolerated {
        return Err(format!(
            "this node's clock is off by at least {} ms from those of most nodes; {} ms are tolerated",
            off / 1000,
            tolerated / 1000
        ));
    }
    let mut answers = BTreeMap::new();
    // Any store of the cluster may ask: it may have been given a replica that this one has not heard of.
    for (from, frame) in frames {
        match LivenessMessage::decode(frame) {
            // The last answer says all.
            Ok(message) => answers.extend(terms.receive(from, &message, now).map(|answer| (from, answer))),
            Err(error) => tracing::warn!(from, %error, "undecodable liveness message"),
        }
    }
    let has_begun = terms.begun() != inner.cluster.terms.read().begun();
    let after = terms.keep();
    if after != before {
        let faults = inner.config.faults;
        let written = file.write(&after, faults.skip_support_sync).await;
        written.map_err(|error| format!("the support file: {error}"))?;
    }
    *inner.cluster.terms.write() = terms;
    let terms = inner.cluster.terms.read();
    for (_, fortification) in inner.leases.read().values() {
        fortification.update(&terms);
    }
    // Of two stores one asks of its own accord, and the other with its answers: three messages a heartbeat in place of
    // four, and fewer wake-ups.
    let (now, heartbeat) = (inner.now_for_liveness(), inner.config.liveness.heartbeat.as_nanos() as u64);
    for (to, answer) in &mut answers {
        if let Some(next) = turns.get_mut(to)
            && *next <= now.nanos + heartbeat / 2
            && !inner.cluster.is_hung(now.nanos)
        {
            *next = now.nanos + heartbeat * 5 / 4;
            *answer = terms.ask_too(*to, *answer, now);
        }
    }
    drop(terms);
    // A follower whose support ends or begins anew has to say once more whom it follows.
    if has_withdrawn || has_begun {
        inner.cluster.stir();
    }
    for (to, answer) in answers {
        send(inner, to, &answer);
    }
    Ok(())
}

fn send(inner: &Inner, to: NodeId, message: &LivenessMessage) {
    inner.env.transport.send(to, Channel::Liveness, message.encode_to_vec().into());
}

/// Drives the log with what arrives, with what this store's own tasks have queued, and with time that passes: on a
/// thread of its own, which reads the streams of the other stores too, so that a follower's part in a commit wakes nobody
/// else.
async fn receive(weak: Weak<Inner>) {
    let Some(env) = weak.upgrade().map(|inner| inner.env.clone()) else { return };
    let mut last_tick = env.clock.monotonic_nanos();
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let stirred = Arc::clone(&inner.cluster.stirred);
        let work_waits = Arc::clone(&inner.cluster.work_waits);
        let is_quiet = inner.cluster.is_quiet.load(Ordering::Relaxed);
        drop(inner);
        let between = if is_quiet { QUIET_TICK } else { TICK }.as_nanos() as u64;
        let pause = (last_tick + between).saturating_sub(env.clock.monotonic_nanos());
        let mut frame = tokio::select! {
            biased;
            frame = env.transport.receive(Channel::Raft) => Some(frame),
            () = stirred.notified() => continue,
            () = work_waits.notified() => {
                // Sees what has arrived, which goes before.
                env.runtime.yield_now().await;
                env.transport.receive(Channel::Raft).now_or_never()
            }
            () = env.runtime.sleep(Duration::from_nanos(pause)) => None,
        };
        let Some(inner) = weak.upgrade() else { return };
        if inner.queue.lock().failed {
            return;
        }
        let (mut work, mut bytes, mut is_unhurried) = (Vec::new(), 0, frame.is_some());
        // All that came meanwhile, for one record of the log.
        while let Some((from, received)) = frame {
            bytes += received.len();
            if let Some(frame) = inner.received(from, received) {
                is_unhurried &= frame.is_unhurried();
                work.push(Work::Receive { from, frame });
            }
            let more = bytes < FRAME_BYTES;
            frame = if more { env.transport.receive(Channel::Raft).now_or_never() } else { None };
        }
        let now = env.clock.monotonic_nanos();
        if now >= last_tick + between {
            last_tick = now;
            if !inner.cluster.tick_waits.swap(true, Ordering::Relaxed) {
                work.push(Work::Tick);
            }
        }
        inner.hand_in(work);
        inner.drive().await;
        // What the stores that it leads answer is waited for.
        if is_unhurried && bytes < FRAME_BYTES && !inner.leads() {
            drop(inner);
            tokio::select! {
                biased;
                () = work_waits.notified() => work_waits.notify_one(),
                () = env.runtime.sleep(GATHER) => {}
            }
        }
    }
}

impl Inner {
    /// A frame that was received, if it can be taken.
    fn received(&self, from: NodeId, bytes: Bytes) -> Option<RaftFrame> {
        match RaftFrame::decode_frame(bytes) {
            Ok(frame) => self.observe(Timestamp(frame.hlc)).then_some(frame),
            Err(error) => {
                tracing::warn!(from, %error, "a frame is not taken");
                None
            }
        }
    }

    /// A store that has been alone is about to have to do with others.
    pub(crate) async fn meet_others(self: &Arc<Self>) -> Result<()> {
        let _turn = self.cluster.meeting.lock().await;
        if self.cluster.has_met() {
            return Ok(());
        }
        let (config, env) = (&self.config, &self.env);
        let (file, terms) = begin_terms(env, config.liveness, &self.hlc, config.faults).await?;
        *self.cluster.terms.write() = terms;
        start(self, file);
        Ok(())
    }

    /// How far ahead of use the clock's bound is made durable (R11).
    pub(crate) fn hlc_lead_micros(&self) -> u64 {
        let lead = self.config.hlc_lead_micros;
        if self.cluster.has_met() { lead.min(self.config.liveness.max_offset_micros / 2) } else { lead }
    }

    /// Takes over another node's reading of its clock; false for one that no clock within its limits
    /// can show. No bound needs to be raised for it: what this node then hands out is below one, and after
    /// a restart it is like any node that has not heard of the reading yet.
    pub(crate) fn observe(&self, seen: Timestamp) -> bool {
        // By the wall: the hybrid clock shows what it was told before, and would be led away step by step.
        let wall = Timestamp::from_micros(self.env.clock.wall_micros());
        let limit = wall.add_micros(self.config.liveness.max_offset_micros);
        if seen > limit {
            tracing::warn!(%seen, %limit, "a node's clock is further ahead than clocks may be");
            return false;
        }
        self.hlc.observe(seen);
        true
    }
}
