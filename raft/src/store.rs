//! A store: one node's log, ranges and engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_kv::Timestamp;
use cairn_kv::effects::{Effects, ThresholdUpdate, Thresholds};
use cairn_kv::engine::SharedEngine;
use cairn_kv::hlc::Hlc;
use cairn_kv::seam::{Env, NodeId};
use parking_lot::{Mutex, RwLock};
use prost::Message as _;

use crate::closed::{Complete, Pasts};
use crate::cluster::Cluster;
use crate::command::{RangeDescriptor, ReplicaRole, encode_command};
use crate::driver::{Core, Queue, Work};
use crate::flush::FlushState;
use crate::fortify::Fortification;
use crate::lease_changes::{LeaseChanges, Notice};
use crate::liveness::{LivenessConfig, Now, Terms};
use crate::membership::{self, Change};
use crate::metrics::{self, StoreMetrics};
use crate::open;
use crate::replica::Replica;
use crate::segment::Identity;
use crate::snapshot::{Desk, SnapshotConfig};

/// Identity of a range; never reused.
pub type RangeId = u64;

/// Number of a cluster's first store.
pub const FIRST_STORE: NodeId = 1;

/// The one range that exists until ranges split: it spans all keys.
pub const FIRST_RANGE: RangeId = 1;

/// How often it is looked whether a clock has caught up with what it has to.
const CATCH_UP: Duration = Duration::from_millis(10);

/// Sizes and limits of a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Bytes of a log segment once the store is past its small first one.
    pub segment_bytes: u64,
    /// Log bytes since the last flush that cause one (R8, restart within a second).
    pub flush_log_bytes: u64,
    /// Keys written since the last flush that cause one.
    pub flush_keys: u64,
    /// Memtable bytes that cause a flush.
    pub flush_memtable_bytes: u64,
    /// How far ahead of use the HLC bound is made durable, microseconds (R11); with other stores at most half of
    /// what clocks may be off.
    pub hlc_lead_micros: u64,
    /// Bytes of log that are kept for followers that lack them; who lacks more gets a snapshot.
    pub log_bytes_for_followers: u64,
    /// The stream of a snapshot.
    pub snapshot: SnapshotConfig,
    /// Store liveness, where there are other stores.
    pub liveness: LivenessConfig,
    /// Planted bugs; none in production.
    pub faults: Faults,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            segment_bytes: 64 << 20,
            flush_log_bytes: 32 << 20,
            flush_keys: 100_000,
            flush_memtable_bytes: 64 << 20,
            hlc_lead_micros: 1_000_000,
            log_bytes_for_followers: 64 << 20,
            snapshot: SnapshotConfig::default(),
            liveness: LivenessConfig::default(),
            faults: Faults::default(),
        }
    }
}

/// Whose store a new one is.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The cluster; none: a new one.
    pub cluster: Option<[u8; 16]>,
    /// The store's number in it.
    pub store: NodeId,
    /// The stores whose replicas are the first range's first voters. None: the store joins a cluster, which gives
    /// it replicas.
    pub voters: Vec<NodeId>,
}

impl Default for Founding {
    /// The only store of a new cluster.
    fn default() -> Founding {
        Founding { cluster: None, store: FIRST_STORE, voters: vec![FIRST_STORE] }
    }
}

/// Bugs planted on purpose, for tests that prove that the simulator finds them. For tests only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The log is written but never synced.
    pub skip_sync: bool,
    /// Promises of support are made before they are durable, and a restarted store goes by what was kept of them alone.
    pub skip_support_sync: bool,
    /// A proposal is answered when it is in the leader's hands, whoever else has it.
    pub answer_before_quorum: bool,
    /// What is closed is taken for complete before the entry that goes with it is applied.
    pub close_early: bool,
    /// A restart forgets the HLC's durable bound, and is not reminded by what it applies again.
    pub hlc_back_after_restart: bool,
    /// The log is truncated behind what is applied, flushed or not.
    pub truncate_before_flush: bool,
    /// A leader serves reads for as long as it believes to lead.
    pub serve_beyond_support: bool,
    /// Replicas campaign and vote whatever their stores have promised.
    pub ignore_promises: bool,
    /// A restarted store votes at once, as if its earlier life had promised nothing.
    pub free_after_restart: bool,
    /// A leader that has told another to take over serves on until it hears from it.
    pub serve_after_ceding: bool,
    /// A new leader serves under the lease of an earlier term.
    pub lease_of_older_term: bool,
    /// A leader counts its followers by the voters that its term began with.
    pub keep_old_voters: bool,
    /// What is committed is not recorded with entries.
    pub forget_commits: bool,
    /// A replica that leads no longer hands what was proposed to it to whoever does, and a command applies whatever
    /// lease it was evaluated under.
    pub forward_proposals: bool,
    /// A leader proposes each command again a little later, and a command applies however often it comes.
    pub propose_twice: bool,
    /// A snapshot leaves the superseded versions out.
    pub snapshot_without_history: bool,
    /// A snapshot is ingested without a marker that has recovery do it again.
    pub no_redo_marker: bool,
    /// Recovery takes a torn last record for a whole one.
    pub accept_torn_tail: bool,
    /// Compaction filters run on a threshold that is not replicated, let alone flushed.
    pub filter_ahead_of_threshold: bool,
}

/// The right to serve a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Rises with every new lease (R7).
    pub sequence: u64,
    /// Nothing was served under this lease below it: the floor of the timestamp cache.
    pub start: Timestamp,
}

/// How far a replica has come, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaProgress {
    /// The store that has it.
    pub store: NodeId,
    /// Its number in its range.
    pub replica: u64,
    /// Its part in Raft's configuration.
    pub role: ReplicaRole,
    /// It has the log up to this entry.
    pub matched: u64,
    /// It lacks so few entries that it may get a vote.
    pub is_close: bool,
    /// The log does not go back to what it lacks: it gets a snapshot.
    pub needs_snapshot: bool,
    /// How long nothing was heard of it; none: not in this term.
    pub silent: Option<Duration>,
}

/// Where a command took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Raft log index.
    pub index: u64,
}

/// Why a proposal has no known effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not applied: the lease changed or the store refuses new work.
    #[error("range is not available: {0}")]
    Unavailable(String),
    /// Above the limit of one command (R8).
    #[error("command of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// It may or may not take effect (the log failed under it): 40003.
    #[error("outcome unknown: {0}")]
    Ambiguous(String),
}

/// Why a store does not open or has stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A storage error.
    #[error(transparent)]
    Kv(#[from] cairn_kv::Error),
    /// The store belongs to another cluster, or its parts do not belong together.
    #[error("{0}")]
    Mismatch(String),
}

/// Largest encoded command (R8).
pub const MAX_COMMAND_BYTES: usize = 4 << 20;

/// What a store has done since it opened, and how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Log entries applied.
    pub commits: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Bytes written to the log, padding included.
    pub log_bytes: u64,
    /// Flushes completed.
    pub flushes: u64,
}

/// One node's log, ranges and engine. Cheap to share.
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens or creates the store on `env.disk` and `engine`: reads the log, refuses corruption,
    /// cuts a torn tail, replays what the engine has not flushed, elects itself and takes the
    /// lease of its ranges where nobody else votes.
    pub async fn open(env: Env, engine: SharedEngine, config: StoreConfig) -> Result<Arc<Store>, StoreError> {
        Store::open_or_found(env, engine, config, Founding::default()).await
    }

    /// As [`Store::open`]; a new store is founded as `founding` says.
    pub async fn open_or_found(
        env: Env,
        engine: SharedEngine,
        config: StoreConfig,
        founding: Founding,
    ) -> Result<Arc<Store>, StoreError> {
        let inner = open::open(env, engine, config, founding).await?;
        Ok(Arc::new(Store { inner }))
    }

    /// A new timestamp; waits for the log where the HLC's durable bound must rise first (R11).
    pub async fn now(&self) -> Result<Timestamp, ProposeError> {
        loop {
            if let Some(now) = self.inner.hlc.try_now() {
                if self.inner.bound_is_near_to(now) {
                    self.inner.raise_bound_in_background();
                }
                return Ok(now);
            }
            self.inner.submit(|reply| Work::RaiseBound { reply }).await?;
        }
    }

    /// The node's clock.
    pub fn hlc(&self) -> &Hlc {
        &self.inner.hlc
    }

    /// The engine, for reads at the leaseholder.
    pub fn engine(&self) -> &SharedEngine {
        &self.inner.engine
    }

    /// The seams.
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Whose store this is.
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// The lease under which this store evaluates the range's commands, if it does: it leads, as far as it
    /// knows. Reads need more: [`Store::serves`].
    pub fn lease(&self, range: RangeId) -> Option<Lease> {
        self.inner.leases.read().get(&range).map(|(lease, _)| *lease)
    }

    /// The node whose store leads the range or is about to, as far as this one knows.
    pub fn leaseholder_hint(&self, range: RangeId) -> Option<NodeId> {
        self.inner.leaders.read().get(&range).copied()
    }

    /// Whether the store of `node`, which has a replica of a range that this one has too, has not been heard of for as long
    /// as support lasts.
    pub fn is_silent(&self, node: NodeId) -> bool {
        let cluster = &self.inner.cluster;
        cluster.peers.read().contains(&node) && cluster.terms.read().supports(node).is_none()
    }

    /// Tells from now on when [`Store::lease`] or [`Store::leaseholder_hint`] may have changed.
    pub fn lease_changes(&self) -> LeaseChanges {
        LeaseChanges::of(&self.inner.lease_notice)
    }

    /// Whether this store has never had to do with others: then nobody else has ever had a lease.
    #[inline]
    pub fn is_alone(&self) -> bool {
        !self.inner.cluster.has_met()
    }

    /// Waits until reads at its present time are served under `lease`; false: that lease is over.
    pub async fn supported(&self, range: RangeId, lease: Lease) -> bool {
        let mut changes = self.lease_changes();
        loop {
            let Some(fortification) = self.inner.fortification(range, lease) else { return false };
            let changed = fortification.changed();
            if self.serves(range, lease, self.inner.hlc.reading()) {
                return true;
            }
            tokio::select! {
                biased;
                () = changed => {}
                _ = changes.changed() => {}
                // The wall clock, too, may have to catch up.
                () = self.inner.env.runtime.sleep(CATCH_UP) => {}
            }
        }
    }

    /// Takes over another node's reading of its clock; false for one that no clock within its limits can show.
    pub fn observe(&self, seen: Timestamp) -> bool {
        if self.is_alone() {
            self.inner.hlc.observe(seen);
            return true;
        }
        self.inner.observe(seen)
    }

    /// Whether this store may serve a read of the range at `read_ts` under `lease` (R10): with the greatest
    /// offset of clocks on top it lies within the time for which there is certainly no other leader. The
    /// clock passes it, so that the next lease, wherever it is, starts above.
    pub fn serves(&self, range: RangeId, lease: Lease, read_ts: Timestamp) -> bool {
        let mut until = self.serves_until(range, lease);
        if until == Timestamp::MAX && self.inner.cluster.has_met() {
            // The only voter now is not so for ever: no clock within its limits asks for more than this.
            let wall = Timestamp::from_micros(self.inner.env.clock.wall_micros());
            until = wall.add_micros(self.inner.config.liveness.max_offset_micros);
        }
        if until < Timestamp::MAX {
            self.inner.hlc.observe(read_ts.min(until));
        }
        read_ts < until
    }

    fn serves_until(&self, range: RangeId, lease: Lease) -> Timestamp {
        match self.inner.leases.read().get(&range) {
            Some((held, _)) if *held == lease && self.inner.config.faults.serve_beyond_support => {
                Timestamp::MAX
            }
            Some((held, fortification)) if *held == lease => match fortification.until() {
                Timestamp::MAX => Timestamp::MAX,
                until => until.sub_micros(self.inner.config.liveness.max_offset_micros),
            },
            _ => Timestamp::ZERO,
        }
    }

    /// The replicated thresholds as applied here.
    pub fn thresholds(&self) -> Thresholds {
        self.inner.thresholds.get()
    }

    /// Replicates and applies a command evaluated under `lease`; completes once applied here. On an
    /// idle store that is alone the caller itself steps Raft, syncs and applies (inline group commit);
    /// under load, and where there are other stores, it joins a batch. Dropping the future does not take the command back.
    pub async fn propose(
        &self,
        range: RangeId,
        lease: Lease,
        effects: Effects,
    ) -> Result<Applied, ProposeError> {
        let bytes = effects.encoded_len();
        if bytes > MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge { bytes, limit: MAX_COMMAND_BYTES });
        }
        let payload = encode_command(lease.sequence, &effects);
        let clock = &*self.inner.env.clock;
        let began = clock.monotonic_nanos();
        let outcome =
            self.inner.submit(|reply| Work::Propose { range, lease, payload, effects, reply }).await;
        self.inner.metrics.propose.observe(metrics::seconds(clock.monotonic_nanos() - began));
        outcome
    }

    /// Gives the range's leadership, and with it the lease, to the replica on `to` (on drain): serves the range
    /// no more, and has that one campaign at once. Where that comes to nothing this store may lead again. What
    /// is under way is not lost. Fails where this store does not lead or the other one is behind.
    pub async fn cede(&self, range: RangeId, to: NodeId) -> Result<(), ProposeError> {
        self.inner.submit(|reply| Work::Cede { range, to, reply }).await.map(|_| ())
    }

    /// Gives the range a replica on `store`, without a vote, where it has none. It is filled from then on. For its
    /// leader, as all changes of replicas; what it cannot do now may be tried again.
    pub async fn add_learner(&self, range: RangeId, store: NodeId) -> Result<(), ProposeError> {
        // Before the entry that gives this store company: it has to have promised nothing by then.
        let met = self.inner.meet_others().await;
        met.map_err(|error| ProposeError::Unavailable(error.to_string()))?;
        self.change(range, Change::AddLearner(store)).await
    }

    /// Makes the replicas on these stores the range's voters, through a joint configuration; completes when that is
    /// left. Those that voted before and do not now stay, without a vote. Where this store is one of them, another
    /// one leads first, and completes the change. New voters must have caught up.
    pub async fn change_voters(&self, range: RangeId, voters: &[NodeId]) -> Result<(), ProposeError> {
        self.change(range, Change::Voters(voters.to_vec())).await?;
        let mut wanted = voters.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        loop {
            let changed = self.inner.members_changed.notified();
            let Some(descriptor) = self.descriptor(range) else {
                return Err(ProposeError::Ambiguous(format!("range {range} is not in this store any more")));
            };
            if !membership::is_joint(&descriptor) {
                let voters = descriptor.replicas.iter().filter(|r| r.role() == ReplicaRole::Voter);
                let mut voters: Vec<NodeId> = voters.map(|r| r.store).collect();
                voters.sort_unstable();
                if voters == wanted {
                    return Ok(());
                }
                return Err(ProposeError::Ambiguous(format!("range {range} has other voters since")));
            }
            tokio::select! {
                biased;
                reason = self.failed() => return Err(ProposeError::Ambiguous(reason)),
                () = changed => {}
            }
        }
    }

    /// Removes the range's replica, which has no vote, from a store.
    pub async fn remove_replica(&self, range: RangeId, store: NodeId) -> Result<(), ProposeError> {
        self.change(range, Change::Remove(store)).await
    }

    async fn change(&self, range: RangeId, change: Change) -> Result<(), ProposeError> {
        self.inner.submit(|reply| Work::Change { range, change, reply }).await.map(|_| ())
    }

    /// The range's bounds and replicas, as applied here; `None`: there is no replica here.
    pub fn descriptor(&self, range: RangeId) -> Option<Arc<RangeDescriptor>> {
        self.inner.descriptors.read().get(&range).cloned()
    }

    /// How far the range's replicas have come; `None` where this store does not lead.
    pub async fn progress(&self, range: RangeId) -> Option<Vec<ReplicaProgress>> {
        let seen = Arc::new(Mutex::new(None));
        let looked = Arc::clone(&seen);
        self.inner.submit(|reply| Work::Look { range, seen: looked, reply }).await.ok()?;
        seen.lock().take()
    }

    /// Closes a timestamp: see [`Complete`]. For the leaseholder, which has made sure that nothing commits at or
    /// below it any more, nor is under way, and that it may serve a read there.
    pub async fn close_past(&self, range: RangeId, upto: Timestamp) -> Result<(), ProposeError> {
        self.inner.submit(|reply| Work::Close { range, upto, reply }).await.map(|_| ())
    }

    /// Up to when the replica here has all of the range's past, if it is known.
    pub fn complete(&self, range: RangeId) -> Option<Complete> {
        self.inner.pasts.get(range)
    }

    /// Whether what was read of the engine since `seen` was looked up is the past that it speaks of: a snapshot
    /// may have been put in its place.
    pub fn is_still(&self, range: RangeId, seen: Complete) -> bool {
        self.inner.pasts.is_still(range, seen)
    }

    /// Flushes the engine and truncates the log behind it.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush_and_truncate().await
    }

    /// Waits while memtables are several times as large as they are flushed at: whoever writes in bulk asks
    /// before each command, so that memory is bounded whatever the disk can take.
    pub async fn make_room(&self) -> Result<(), StoreError> {
        self.inner.make_room().await
    }

    /// Refuses further proposals, then flushes. For a clean shutdown: the next open replays nothing.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.queue.lock().refusal.get_or_insert_with(|| "the store is closed".into());
        self.inner.withdraw_leases();
        self.inner.flush_and_truncate().await
    }

    /// Whether the store takes no more commands: it was closed, or has stopped.
    pub fn is_closed(&self) -> bool {
        self.inner.queue.lock().refusal.is_some()
    }

    /// Why the store has stopped, if it has: a write or sync of the log or the engine failed.
    pub fn failure(&self) -> Option<String> {
        let queue = self.inner.queue.lock();
        if queue.failed { queue.refusal.clone() } else { None }
    }

    /// Waits until the store has stopped because of a failure; the node must end then.
    pub async fn failed(&self) -> String {
        loop {
            let notified = self.inner.failure.notified();
            if let Some(reason) = self.failure() {
                return reason;
            }
            notified.await;
        }
    }

    /// What is measured beside the counters.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.inner.metrics
    }

    /// Counters.
    pub fn stats(&self) -> StoreStats {
        self.inner.stats.get()
    }
}

/// What a store found on opening, and goes on from.
pub(crate) struct Found {
    pub(crate) thresholds: Thresholds,
    pub(crate) terms: Terms,
}

/// What a store's tasks share.
pub(crate) struct Inner {
    /// For tasks that outlive the call that starts them.
    this: Weak<Inner>,
    pub(crate) env: Env,
    pub(crate) engine: SharedEngine,
    pub(crate) config: StoreConfig,
    pub(crate) identity: Identity,
    pub(crate) hlc: Hlc,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) leases: RwLock<BTreeMap<RangeId, (Lease, Arc<Fortification>)>>,
    /// The stores that lead, as far as is known here.
    leaders: RwLock<BTreeMap<RangeId, NodeId>>,
    lease_notice: Notice,
    pub(crate) cluster: Cluster,
    pub(crate) desk: Arc<Desk>,
    pub(crate) pasts: Pasts,
    descriptors: RwLock<BTreeMap<RangeId, Arc<RangeDescriptor>>>,
    members_changed: tokio::sync::Notify,
    pub(crate) thresholds: ThresholdCell,
    pub(crate) flush: FlushState,
    pub(crate) stats: StatCounters,
    pub(crate) metrics: StoreMetrics,
    pub(crate) failure: tokio::sync::Notify,
    raising_bound: AtomicBool,
}

impl Inner {
    pub(crate) fn new(
        this: Weak<Inner>,
        env: Env,
        engine: SharedEngine,
        config: StoreConfig,
        identity: Identity,
        hlc: Hlc,
        found: Found,
    ) -> Inner {
        // Half of the lead must be worth something, or the bound would never get ahead of use.
        let hlc_lead_micros = config.hlc_lead_micros.max(1_000);
        let config = StoreConfig { hlc_lead_micros, ..config };
        Inner {
            this,
            env,
            engine,
            config,
            identity,
            hlc,
            queue: Mutex::default(),
            leases: RwLock::default(),
            leaders: RwLock::default(),
            lease_notice: Notice::default(),
            cluster: Cluster::new(found.terms),
            desk: Arc::default(),
            pasts: Pasts::default(),
            descriptors: RwLock::default(),
            members_changed: tokio::sync::Notify::new(),
            thresholds: ThresholdCell::new(found.thresholds),
            flush: FlushState::default(),
            stats: StatCounters::default(),
            metrics: StoreMetrics::default(),
            failure: tokio::sync::Notify::new(),
            raising_bound: AtomicBool::new(false),
        }
    }

    /// Shared ownership of this.
    pub(crate) fn shared(&self) -> Arc<Inner> {
        self.this.upgrade().expect("it is borrowed from a shared one")
    }

    /// Opens the store for work.
    pub(crate) fn start(&self, core: Core) {
        self.queue.lock().idle = Some(Box::new(core));
    }

    pub(crate) fn publish_lease(&self, range: RangeId, lease: Option<(Lease, Arc<Fortification>)>) {
        let mut leases = self.leases.write();
        // A driver that was under way must not bring back what a failure, or the end, has withdrawn.
        let lease = lease.filter(|_| self.queue.lock().refusal.is_none());
        let now = lease.as_ref().map(|(lease, _)| *lease);
        let before = match lease {
            Some(lease) => leases.insert(range, lease),
            None => leases.remove(&range),
        };
        drop(leases);
        if before.map(|(lease, _)| lease) != now {
            self.lease_notice.give();
        }
    }

    /// Who leads a range as its replica here sees it, and the lease where that has it; none: there is none here.
    pub(crate) fn publish_leadership(&self, range: RangeId, replica: Option<&Replica>) {
        self.publish_leader(range, replica.and_then(Replica::leader));
        self.publish_lease(range, replica.and_then(Replica::leadership));
    }

    fn publish_leader(&self, range: RangeId, leader: Option<NodeId>) {
        let mut leaders = self.leaders.write();
        let before = match leader {
            Some(leader) => leaders.insert(range, leader),
            None => leaders.remove(&range),
        };
        drop(leaders);
        if before != leader {
            self.lease_notice.give();
        }
    }

    /// Whether a range's leader is here, as far as is known.
    pub(crate) fn leads(&self) -> bool {
        self.leaders.read().values().any(|leader| *leader == self.identity.store)
    }

    fn fortification(&self, range: RangeId, lease: Lease) -> Option<Arc<Fortification>> {
        let leases = self.leases.read();
        leases
            .get(&range)
            .filter(|(held, _)| *held == lease)
            .map(|(_, fortification)| Arc::clone(fortification))
    }

    /// The range's replicas are others; none: there is none here any more.
    pub(crate) fn publish_descriptor(&self, range: RangeId, descriptor: Option<Arc<RangeDescriptor>>) {
        let mut descriptors = self.descriptors.write();
        match descriptor {
            Some(descriptor) => descriptors.insert(range, descriptor),
            None => descriptors.remove(&range),
        };
        let stores = descriptors.values().flat_map(|d| d.replicas.iter().map(|r| r.store));
        *self.cluster.peers.write() = stores.filter(|store| *store != self.identity.store).collect();
        drop(descriptors);
        self.members_changed.notify_waiters();
    }

    /// Nothing is served any more.
    pub(crate) fn withdraw_leases(&self) {
        self.leases.write().clear();
        self.lease_notice.give();
    }

    pub(crate) fn now_for_liveness(&self) -> Now {
        Now::read(&self.hlc, &*self.env.clock)
    }

    /// Whether less than half of the HLC's lead is left, counted from the wall clock.
    pub(crate) fn bound_is_near(&self) -> bool {
        self.hlc.bound() < self.hlc.propose_bound(self.hlc_lead_micros() / 2)
    }

    fn bound_is_near_to(&self, now: Timestamp) -> bool {
        self.hlc.bound() < now.add_micros(self.hlc_lead_micros() / 2)
    }

    /// Raises the bound before anyone has to wait for it. Only use of the clock brings this about:
    /// an idle store syncs nothing.
    fn raise_bound_in_background(self: &Arc<Self>) {
        if self.raising_bound.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(self);
        let raise = async move {
            // A failure is met by the next caller who needs the bound.
            let _ = inner.submit(|reply| Work::RaiseBound { reply }).await;
            inner.raising_bound.store(false, Ordering::Release);
        };
        self.env.runtime.spawn("hlc bound", Box::pin(raise));
    }
}

/// The thresholds, for readers without a lock. Each only rises.
#[derive(Default)]
pub(crate) struct ThresholdCell {
    gc: AtomicU64,
    tombstone: AtomicU64,
    marker: AtomicU64,
}

impl ThresholdCell {
    pub(crate) fn new(thresholds: Thresholds) -> ThresholdCell {
        ThresholdCell {
            gc: AtomicU64::new(thresholds.gc.0),
            tombstone: AtomicU64::new(thresholds.tombstone.0),
            marker: AtomicU64::new(thresholds.marker.0),
        }
    }

    pub(crate) fn raise(&self, update: &ThresholdUpdate) {
        self.gc.fetch_max(update.gc, Ordering::SeqCst);
        self.tombstone.fetch_max(update.tombstone, Ordering::SeqCst);
        self.marker.fetch_max(update.marker, Ordering::SeqCst);
    }

    fn get(&self) -> Thresholds {
        Thresholds {
            gc: Timestamp(self.gc.load(Ordering::SeqCst)),
            tombstone: Timestamp(self.tombstone.load(Ordering::SeqCst)),
            marker: Timestamp(self.marker.load(Ordering::SeqCst)),
        }
    }
}

/// Counters behind [`StoreStats`].
#[derive(Default)]
pub(crate) struct StatCounters {
    pub(crate) commits: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) flushes: AtomicU64,
}

impl StatCounters {
    fn get(&self) -> StoreStats {
        StoreStats {
            commits: self.commits.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
            flushes: self.flushes.load(Ordering::Relaxed),
        }
    }
}
