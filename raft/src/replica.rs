//! A replica of a range: its Raft group and its state machine.
//!
//! A step function without I/O of its own: the [`driver`](crate::driver) feeds it proposals, makes
//! durable what it is ready with, and has it apply what that commits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_kv::effects::{Applier, Effects};
use cairn_kv::engine::{Cf, Engine};
use cairn_kv::hlc::Hlc;
use cairn_kv::seam::NodeId;
use cairn_kv::{Error, Result, Timestamp, local_keys};
use prost::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, EntryType, HardState, Message, MessageType, Snapshot};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};

use crate::RangeId;
use crate::closed::Told;
use crate::command::{
    Body, LOCAL_FORMAT, LeaseGrant, Payload, RangeDescriptor, RangeState, encode_change, encode_command,
    encode_lease, lease_position, set_lease_index,
};
use crate::entries::RangeLog;
use crate::fortify::{Following, Fortification};
use crate::liveness::{Now, Terms};
use crate::membership::{self, Change, conf_state, is_joint, next_replica, will_vote};
use crate::quorum::Quorum;
use crate::store::{Applied, Faults, Lease, ProposeError, ReplicaProgress, ThresholdCell};
use crate::waiter::Reply;

/// What closes an engine batch: a replay has far more to apply than one batch should hold.
const BATCH_OPERATIONS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;

/// The longest wait of a replica that may campaign, so that they do not all do at once.
const STAGGER: Duration = Duration::from_millis(150);

/// How long a leader that gave way waits for the other one to lead.
const TAKEOVER: Duration = Duration::from_millis(200);

/// A follower that no store's support speaks for is asked at every so manieth tick: it is probably not there.
const ASK_THE_SILENT: u64 = 16;

/// Entries by which a replica may be behind that is to vote.
const CLOSE: u64 = 64;

/// How long a replica believes in a leader that it does not hear, before it asks whether it is a replica at all.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// How long a follower may take to go over to a snapshot that is staged there, before it is told again.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// How often it is told, before the snapshot is given up.
const TELL_TIMES: u32 = 30;

/// What makes raft-rs take a vote for one in a transfer that the leader has started.
const TRANSFER: &[u8] = b"CampaignTransfer";

/// A proposal for the next step.
struct Gathered {
    payload: Vec<u8>,
    effects: Effects,
    reply: Reply,
}

/// A proposal on its way to be applied here.
struct Pending {
    index: u64,
    term: u64,
    effects: Effects,
    reply: Reply,
}

/// A message of another replica.
pub(crate) struct Received {
    /// Its store, in its life `incarnation`.
    pub(crate) from: NodeId,
    pub(crate) incarnation: u64,
    /// The epoch in which the sender follows this store.
    pub(crate) follows_in: u64,
    /// What all followers have passed, from a leader.
    pub(crate) passed: u64,
    pub(crate) message: Message,
}

/// Whom a replica follows, and under what promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leader {
    store: NodeId,
    /// Epoch in which this store supports that one.
    epoch: u64,
    /// The term that it leads.
    term: u64,
}

/// A replica.
pub(crate) struct Replica {
    pub(crate) range: RangeId,
    pub(crate) raw: RawNode<RangeLog>,
    /// This replica's id in its range.
    id: u64,
    /// Applied state, as in the engine.
    state: RangeState,
    state_key: bytes::Bytes,
    descriptor: Arc<RangeDescriptor>,
    /// The other replicas' stores.
    peers: BTreeMap<u64, NodeId>,
    /// Stores of replicas that came after the descriptor as it is applied here.
    strangers: BTreeMap<u64, NodeId>,
    /// The stores of each quorum's voters.
    voters: Vec<Vec<NodeId>>,
    store: NodeId,
    faults: Faults,
    /// Proposals in Raft's log that are not applied, by index.
    pending: VecDeque<Pending>,
    /// Gathered for the next step.
    gathered: Vec<Gathered>,
    /// The highest timestamp committed among what was applied in this life.
    committed: Timestamp,
    /// Lease index of the last proposal.
    last_lease_index: u64,
    /// Leading: who follows. Made anew in each term.
    leadership: Option<(u64, Arc<Fortification>)>,
    /// The term in which this replica last proposed a lease for itself.
    lease_proposed_in: u64,
    /// The term of the entry that granted the lease in force.
    lease_granted_in: u64,
    /// The last leader that was followed while its store was supported. While it still is, in that
    /// epoch, this replica neither campaigns nor votes for another store.
    following: Option<Leader>,
    /// Monotonic time at which a leader was last heard.
    heard_nanos: u64,
    /// When it last asked whether it is a replica still.
    asked_nanos: u64,
    /// The index that all of the leader's followers have passed, as it said last.
    passed: u64,
    /// Leading: when each other replica was last heard, monotonic time.
    answers: BTreeMap<u64, u64>,
    /// Leading: the followers that it waits for.
    quorum: Quorum,
    /// Leading: followers that are brought up by a snapshot.
    shipments: BTreeMap<u64, Shipment>,
    /// Replicas that are none any more, and are to be told.
    departed: Vec<(u64, NodeId)>,
    ticks: u64,
    /// Whether its lease may be another since it was last published.
    lease_is_due: bool,
    /// When to campaign, if nothing happens until then.
    campaign_at: Option<u64>,
    /// The term in which this replica has told another one to take over, and until when it waits for that.
    ceded: Option<Ceded>,
    /// What is closed once it is applied.
    pub(crate) told: Told,
}

#[derive(Clone, Copy)]
struct Ceded {
    term: u64,
    to: NodeId,
    until_nanos: u64,
}

/// A snapshot on its way to a follower.
struct Shipment {
    index: u64,
    /// Tells its sender to stop.
    cancelled: Arc<AtomicBool>,
    /// All of it is staged: when the follower was last told to go over to it, and how often.
    told: Option<(u64, u32)>,
}

impl Drop for Shipment {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Replica {
    /// A replica over what recovery found in log and engine.
    pub(crate) fn new(
        descriptor: &RangeDescriptor,
        store: NodeId,
        id: u64,
        state: RangeState,
        mut log: RangeLog,
        faults: Faults,
    ) -> Result<Replica> {
        let (peers, voters) = members(descriptor, id);
        let conf = conf_state(descriptor);
        log.start(conf, state.index);
        // raft-rs draws the election timeout from the thread's entropy; with this there is
        // nothing to draw (R1).
        const ELECTION_TICKS: usize = 10;
        let config = raft::Config {
            id,
            applied: state.index,
            election_tick: ELECTION_TICKS,
            min_election_tick: ELECTION_TICKS,
            max_election_tick: ELECTION_TICKS + 1,
            heartbeat_tick: 2,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: false,
            pre_vote: true,
            ..raft::Config::default()
        };
        let mut raw = RawNode::new(&config, log, &crate::logger::logger()).map_err(|e| {
            Error::Corruption(format!("range {}: raft does not start: {e}", descriptor.range))
        })?;
        // Followers learn of a commit with the next entries, or a heartbeat when none follow soon.
        raw.skip_bcast_commit(true);
        Ok(Replica {
            range: descriptor.range,
            raw,
            id,
            last_lease_index: state.lease_index,
            state,
            state_key: local_keys::range_state(descriptor.range),
            faults,
            descriptor: Arc::new(descriptor.clone()),
            peers,
            strangers: BTreeMap::new(),
            voters,
            store,
            committed: Timestamp::ZERO,
            pending: VecDeque::new(),
            gathered: Vec::new(),
            leadership: None,
            lease_proposed_in: 0,
            lease_granted_in: 0,
            following: None,
            heard_nanos: 0,
            asked_nanos: 0,
            passed: 0,
            answers: BTreeMap::new(),
            quorum: Quorum::default(),
            shipments: BTreeMap::new(),
            departed: Vec::new(),
            ticks: 0,
            lease_is_due: false,
            campaign_at: None,
            ceded: None,
            told: Told::default(),
        })
    }

    /// Its number in its range.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The range's descriptor as applied here.
    pub(crate) fn descriptor(&self) -> &Arc<RangeDescriptor> {
        &self.descriptor
    }

    /// Whether it is one of the range's replicas, as far as it has applied.
    pub(crate) fn is_member(&self) -> bool {
        self.descriptor.replicas.iter().any(|r| r.replica == self.id)
    }

    /// Whether the replica of that number was one, and is no more.
    pub(crate) fn was_removed(&self, replica: u64) -> bool {
        replica < next_replica(&self.descriptor)
            && self.descriptor.replicas.iter().all(|r| r.replica != replica)
    }

    /// The stores that have the other replicas.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.values().copied()
    }

    /// The other replicas and their stores.
    pub(crate) fn others(&self) -> Vec<(u64, NodeId)> {
        self.peers.iter().map(|(replica, store)| (*replica, *store)).collect()
    }

    /// The store that has another replica.
    pub(crate) fn store_of(&self, replica: u64) -> Option<NodeId> {
        self.peers.get(&replica).or_else(|| self.strangers.get(&replica)).copied()
    }

    pub(crate) fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Whether it may elect itself without asking anyone.
    pub(crate) fn is_only_voter(&self) -> bool {
        self.raw.raft.prs().is_singleton() && self.raw.raft.promotable()
    }

    /// The lease, if this replica leads and has applied the one it was given in this term: with an
    /// older one, another leader's may still stand in the log behind what is applied.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let serves = self.leads()
            && self.state.lease_sequence > 0
            && !self.has_ceded()
            && (self.lease_granted_in == self.raw.raft.term || self.faults.lease_of_older_term)
            && self.state.lease_holder == self.id;
        serves.then_some(Lease {
            sequence: self.state.lease_sequence,
            start: Timestamp(self.state.lease_start),
        })
    }

    /// The store of the replica that leads or was told to take over, as far as this one knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match self.ceded {
            Some(ceded) if ceded.term == self.raw.raft.term && self.leads() => Some(ceded.to),
            _ if self.leads() => Some(self.store),
            _ => self.store_of(self.raw.raft.leader_id),
        }
    }

    /// Gathers a proposal for [`Replica::step_gathered`]. What this replica cannot propose is
    /// answered at once: on a non-leader it must never reach raft-rs, which would forward it (R7).
    pub(crate) fn gather(
        &mut self,
        lease: Lease,
        mut payload: Vec<u8>,
        effects: Effects,
        reply: Reply,
        now: Timestamp,
    ) {
        // Without support it could wait for ever: whoever would have to agree may follow another.
        let is_supported = self.leadership.as_ref().is_some_and(|(_, f)| f.until() > now);
        if self.lease() != Some(lease) || !is_supported {
            let reason = format!("lease {} of range {} is not in force here", lease.sequence, self.range);
            reply.send(Err(ProposeError::Unavailable(reason)));
            return;
        }
        self.last_lease_index += 1;
        set_lease_index(&mut payload, self.last_lease_index);
        self.gathered.push(Gathered { payload, effects, reply });
    }

    /// Steps what was gathered; whether that was anything.
    pub(crate) fn step_gathered(&mut self) -> bool {
        if self.gathered.is_empty() {
            return false;
        }
        let gathered = std::mem::take(&mut self.gathered);
        // A message of the same batch may have ended its leadership.
        if !self.leads() {
            for Gathered { reply, .. } in gathered {
                let reason = format!("this replica of range {} leads no longer", self.range);
                reply.send(Err(ProposeError::Unavailable(reason)));
            }
            return true;
        }
        let (mut index, term) = (self.raw.raft.raft_log.last_index(), self.raw.raft.term);
        let before = self.pending.len();
        let mut entries = Vec::with_capacity(gathered.len());
        let repeated = self.earlier_proposal(index);
        for Gathered { payload, effects, reply } in gathered {
            index += 1;
            entries.push(Entry { data: payload, ..Entry::default() });
            if self.faults.answer_before_quorum {
                reply.send(Ok(Applied { index }));
                continue;
            }
            self.pending.push_back(Pending { index, term, effects, reply });
        }
        entries.extend(repeated);
        if let Err(error) = self.step_proposal(entries) {
            for pending in self.pending.drain(before..) {
                let reason = format!("range {} refuses proposals: {error}", self.range);
                pending.reply.send(Err(ProposeError::Unavailable(reason)));
            }
        }
        true
    }

    /// The planted bug of forwarding: raft-rs sends it to whoever leads, as far as this replica knows.
    fn forward(&mut self, effects: &Effects) {
        let entries =
            vec![Entry { data: encode_command(self.state.lease_sequence, effects), ..Entry::default() }];
        let propose = MessageType::MsgPropose as i32;
        // There may be no leader.
        let _ = self.raw.step(Message { msg_type: propose, from: self.id, entries, ..Message::default() });
    }

    /// The planted bug of proposing twice: a command a few entries before `index`.
    fn earlier_proposal(&self, index: u64) -> Option<Entry> {
        if !self.faults.propose_twice {
            return None;
        }
        let (payload, kind) = self.raw.store().payload(index.checked_sub(3)?)?;
        let is_command = kind == EntryType::EntryNormal as i32
            && matches!(Payload::decode(payload), Ok(Payload { body: Body::Command(_), .. }));
        is_command.then(|| Entry { data: payload.to_vec(), ..Entry::default() })
    }

    /// Whether `store` is where the replica of that number is; one that is not known yet is believed.
    fn is_on(&mut self, replica: u64, store: NodeId) -> bool {
        if replica >= next_replica(&self.descriptor) {
            return *self.strangers.entry(replica).or_insert(store) == store;
        }
        self.peers.get(&replica) == Some(&store)
    }

    /// Steps a message of another replica. What does not belong here is dropped: messages may be late, repeated, or
    /// for a replica that was here before.
    pub(crate) fn receive(&mut self, received: Received, terms: &Terms, now: Now) -> Result<()> {
        let Received { from, incarnation, follows_in, passed, message } = received;
        if message.to != self.id || !self.is_on(message.from, from) {
            return Ok(());
        }
        let (term, kind, sender) = (message.term, message.msg_type(), message.from);
        match kind {
            MessageType::MsgHeartbeat if message.commit > self.raw.raft.raft_log.last_index() => {
                // It was acknowledged by a replica that has lost its log. raft-rs would panic.
                tracing::error!(
                    range = self.range,
                    from,
                    "a leader believes that this replica has more than it has"
                );
                return Ok(());
            }
            MessageType::MsgAppend
            | MessageType::MsgHeartbeat
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVoteResponse => {}
            // The driver has brought this replica over to it, or it is not needed.
            MessageType::MsgSnapshot if self.covers(message.get_snapshot()) || term < self.raw.raft.term => {}
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse => {
                if self.leads() {
                    self.answers.insert(sender, now.nanos);
                }
                if let Some((of_term, fortification)) = &self.leadership
                    && *of_term == term
                {
                    fortification.follows(from, Following { incarnation, epoch: follows_in }, terms);
                }
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                // Whoever stands for a later term has ended its own, with all that rested on this promise; its frame
                // has brought its clock. Bound on, this replica would wait for one that may have too little to win.
                if self.following.is_some_and(|leader| leader.store == from && leader.term < term) {
                    self.following = None;
                }
                if !self.may_vote_for(from, &message.context, terms, now) {
                    return Ok(());
                }
            }
            MessageType::MsgTimeoutNow => {
                if term != self.raw.raft.term || self.raw.raft.leader_id != sender {
                    return Ok(());
                }
            }
            MessageType::MsgPropose if self.faults.forward_proposals && self.leads() => {}
            // Forwarded proposals among them (R7).
            _ => return Ok(()),
        }
        match self.raw.step(message) {
            Ok(()) => {}
            Err(raft::Error::Store(error)) => {
                return Err(Error::Io(format!("range {}: {error}", self.range)));
            }
            Err(error) => {
                tracing::debug!(range = self.range, from, ?kind, %error, "a Raft message is not taken");
            }
        }
        if kind == MessageType::MsgAppendResponse && self.raw.raft.prs().conf().voters().contains(sender) {
            let progress = self.raw.raft.prs();
            self.quorum.answered(sender, |replica| progress.get(replica).map_or(0, |p| p.matched));
        }
        let of_leader =
            matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot);
        // One whose support has ended may speak for ever, and not hear: that is no reason to wait for it.
        let supported = terms.supports(from);
        let is_given_up = supported.is_none()
            && self.following.is_some_and(|leader| (leader.store, leader.term) == (from, term));
        if of_leader && self.raw.raft.leader_id == sender && !is_given_up {
            self.heard_nanos = now.nanos;
            self.passed = passed;
            self.campaign_at = None;
            if self.following.is_none_or(|leader| leader.store != from || leader.term != term) {
                tracing::info!(range = self.range, leader = from, term, "follows");
            }
            // Also without support: the votes for this leader came from some of each quorum of the one that was
            // followed before, after they were free of it.
            self.following = supported.map(|epoch| Leader { store: from, epoch, term });
        }
        Ok(())
    }

    /// Whether it has told another replica, in this term, to take over. That word may arrive late and win the
    /// votes that promises forbid to all others: nothing is served in this term any more, come what may.
    fn has_ceded(&self) -> bool {
        self.ceded.is_some_and(|ceded| ceded.term == self.raw.raft.term) && !self.faults.serve_after_ceding
    }

    /// Gives the leadership, and with it the lease, to the replica on `store`; it must have all that is
    /// committed. What is under way is not lost: the other one has it, or this one goes on.
    pub(crate) fn cede(&mut self, store: NodeId, now: Now) -> std::result::Result<(), String> {
        let range = self.range;
        if !self.leads() || self.has_ceded() {
            return Err(format!("this replica of range {range} does not lead"));
        }
        let raft = &self.raw.raft;
        let committed = raft.raft_log.committed;
        let voters = raft.prs().conf().to_conf_state().voters;
        let to = self.replica_on(store);
        let Some(to) = to.filter(|to| voters.contains(to)) else {
            return Err(format!("range {range} has no voter on store {store}"));
        };
        if raft.prs().get(to).is_none_or(|progress| progress.matched < committed) {
            return Err(format!("the replica of range {range} on store {store} is behind"));
        }
        let until_nanos = now.nanos + TAKEOVER.as_nanos() as u64;
        self.ceded = Some(Ceded { term: raft.term, to: store, until_nanos });
        tracing::info!(range, store, "gives way");
        if let Some((_, fortification)) = &self.leadership
            && !self.faults.serve_after_ceding
        {
            fortification.end();
        }
        self.raw.transfer_leader(to);
        Ok(())
    }

    fn replica_on(&self, store: NodeId) -> Option<u64> {
        self.peers.iter().find(|(_, of)| **of == store).map(|(replica, _)| *replica)
    }

    /// The epoch in which this replica follows one on `store`, for the messages that go there.
    pub(crate) fn follows_in(&self, store: NodeId) -> u64 {
        self.following.filter(|leader| leader.store == store).map_or(0, |leader| leader.epoch)
    }

    /// R10: whether no promise forbids to vote for a replica on `store`.
    fn may_vote_for(&self, store: NodeId, context: &[u8], terms: &Terms, now: Now) -> bool {
        if self.faults.ignore_promises {
            return true;
        }
        if !self.is_free(terms, now) {
            return false;
        }
        if context == TRANSFER {
            return true;
        }
        if let Some((_, fortification)) = &self.leadership
            && fortification.until() > now.hlc
        {
            return false;
        }
        !self.is_bound(terms) || self.following.is_some_and(|leader| leader.store == store)
    }

    /// Whether nothing that its store's earlier lives have promised binds it.
    fn is_free(&self, terms: &Terms, now: Now) -> bool {
        if self.faults.skip_support_sync {
            return terms.is_free_by_what_was_kept(now);
        }
        self.faults.free_after_restart || terms.is_free(now)
    }

    /// Whether it follows a leader whose store is still supported in that epoch.
    fn is_bound(&self, terms: &Terms) -> bool {
        !self.faults.ignore_promises
            && self.following.is_some_and(|leader| terms.supports(leader.store) == Some(leader.epoch))
    }

    /// Time passes: campaigns where there is no leader, and keeps followers in touch that lack something.
    /// `draw` gives 64 random bits. Whether there was nothing to do, and nothing but a message or the end of a promise
    /// can change that.
    pub(crate) fn tick(
        &mut self,
        terms: &Terms,
        now: Now,
        silence: Duration,
        draw: impl FnOnce() -> u64,
    ) -> Result<bool> {
        self.ticks += 1;
        if self.leads() {
            let term = self.raw.raft.term;
            let has_ceded = self.ceded.is_some_and(|ceded| ceded.term == term);
            let mut is_quiet = !has_ceded && self.shipments.is_empty() && !is_joint(&self.descriptor);
            if self.ceded.is_some_and(|ceded| ceded.term == term && now.nanos >= ceded.until_nanos) {
                // Nobody has taken over. The next term is this one's again if nobody is faster.
                self.raw.raft.become_follower(term, raft::INVALID_ID);
            } else {
                self.tell_again(now);
                self.complete_change(terms, now);
                is_quiet &= !self.speak(terms, now);
            }
            return Ok(is_quiet);
        }
        // A leader whose store is not supported, yet or any more, is believed for as long as its support
        // would last.
        let silent = now.nanos >= self.heard_nanos + silence.as_nanos() as u64;
        let was_supported =
            self.following.is_some_and(|l| self.store_of(self.raw.raft.leader_id) == Some(l.store));
        let bound = self.is_bound(terms);
        let waits = !silent && !was_supported && !self.is_only_voter();
        if bound || !self.is_free(terms, now) || !self.raw.raft.promotable() || waits {
            self.campaign_at = None;
            return Ok(bound);
        }
        let stagger = STAGGER.as_nanos() as u64;
        match self.campaign_at {
            Some(at) if now.nanos >= at => {
                self.campaign_at = Some(now.nanos + stagger / 2 + draw() % stagger);
                self.campaign()?;
            }
            Some(_) => {}
            None => {
                let wait = if self.is_only_voter() { 0 } else { draw() % stagger };
                self.campaign_at = Some(now.nanos + wait);
            }
        }
        Ok(false)
    }

    /// Sends a heartbeat to followers that lack entries, do not know what is committed, or have to say that they
    /// follow: they answer, and get what they lack. One that is not there is not told at every tick. Whether there is
    /// such a follower.
    fn speak(&mut self, terms: &Terms, now: Now) -> bool {
        let raft = &self.raw.raft;
        let (last, committed, term) = (raft.raft_log.last_index(), raft.raft_log.committed, raft.term);
        let (mut heartbeats, mut is_lacking) = (Vec::new(), false);
        for (&replica, &store) in &self.peers {
            let Some(progress) = raft.prs().get(replica) else { continue };
            let got = terms.got(store);
            let follows = match &self.leadership {
                Some((_, fortification)) => got.is_none() || fortification.is_followed_by(store, terms),
                None => true,
            };
            let lacks = progress.matched < last || progress.committed_index < committed || !follows;
            let is_there = got.is_some_and(|got| got.until > now.hlc);
            is_lacking |= lacks;
            if lacks && (is_there || self.ticks.is_multiple_of(ASK_THE_SILENT)) {
                heartbeats.push((replica, progress.matched.min(committed)));
            }
        }
        for (replica, commit) in heartbeats {
            self.raw.raft.msgs.push(Message {
                msg_type: MessageType::MsgHeartbeat as i32,
                to: replica,
                from: self.id,
                term,
                commit,
                ..Message::default()
            });
        }
        is_lacking
    }

    /// Ends a change of voters that is under way; where this replica will not vote then, another one has to lead
    /// first.
    fn complete_change(&mut self, terms: &Terms, now: Now) {
        if !is_joint(&self.descriptor) || self.lease().is_none() {
            return;
        }
        let stays = |replica: u64| {
            let found = self.descriptor.replicas.iter().find(|r| r.replica == replica);
            found.is_some_and(|r| will_vote(r.role()))
        };
        if stays(self.id) {
            // It is tried again at the next tick.
            let _ = self.propose_change(&Change::Leave, terms, now.hlc, None);
            return;
        }
        let next: Vec<NodeId> =
            self.peers.iter().filter(|(r, _)| stays(**r)).map(|(_, store)| *store).collect();
        for store in next {
            if self.cede(store, now).is_ok() {
                self.lease_is_due = true;
                return;
            }
        }
    }

    /// Whether the lease that others see may have changed; asked once.
    pub(crate) fn takes_lease_due(&mut self) -> bool {
        std::mem::take(&mut self.lease_is_due)
    }

    /// Nothing commits at or below `upto` any more, nor is anything on its way that does. Returns the entry
    /// that was applied last: what it made is all.
    pub(crate) fn closes(&mut self, upto: Timestamp) -> u64 {
        self.told.hear(self.state.index, upto);
        self.state.index
    }

    /// What is closed here since this was last asked.
    pub(crate) fn takes_closed(&mut self) -> Option<Timestamp> {
        self.told.take(if self.faults.close_early { u64::MAX } else { self.state.index })
    }

    /// Whether to ask the others if this is a replica still: it has heard of no leader for long. An idle leader says
    /// nothing either, so each silence asks ever more seldom.
    pub(crate) fn asks_for_membership(&mut self, now: Now) -> bool {
        let silent = now.nanos.saturating_sub(self.heard_nanos);
        let asked = self.asked_nanos.saturating_sub(self.heard_nanos);
        let asks = !self.leads() && silent >= (2 * asked).max(ASK_AFTER.as_nanos() as u64);
        if asks {
            self.asked_nanos = now.nanos;
        }
        asks
    }

    /// Proposes a change of replicas.
    pub(crate) fn propose_change(
        &mut self,
        change: &Change,
        terms: &Terms,
        now: Timestamp,
        reply: Option<Reply>,
    ) -> std::result::Result<(), (String, Option<Reply>)> {
        match self.prepare_change(change, terms, now) {
            Err(reason) => return Err((reason, reply)),
            Ok(None) => {
                if let Some(reply) = reply {
                    reply.send(Ok(Applied { index: self.state.index }));
                }
                return Ok(());
            }
            Ok(Some(planned)) => {
                // What was evaluated before has the lower places in the lease.
                self.step_gathered();
                self.last_lease_index += 1;
                let mut change = planned.change;
                change.context =
                    encode_change(self.state.lease_sequence, self.last_lease_index, &planned.descriptor);
                let (index, term) = (self.raw.raft.raft_log.last_index() + 1, self.raw.raft.term);
                let data = prost_011::Message::encode_to_vec(&change);
                let entry_type = EntryType::EntryConfChangeV2 as i32;
                if let Err(error) = self.step_proposal(vec![Entry { entry_type, data, ..Entry::default() }]) {
                    return Err((format!("range {} refuses the change: {error}", self.range), reply));
                }
                if let Some(reply) = reply {
                    self.pending.push_back(Pending { index, term, effects: Effects::default(), reply });
                }
            }
        }
        Ok(())
    }

    fn prepare_change(
        &self,
        change: &Change,
        terms: &Terms,
        now: Timestamp,
    ) -> std::result::Result<Option<membership::Planned>, String> {
        let range = self.range;
        let fortification = self.leadership.as_ref().map(|(_, fortification)| fortification);
        let Some(fortification) = fortification.filter(|f| self.lease().is_some() && f.until() > now) else {
            return Err(format!("range {range} has no lease here"));
        };
        let raft = &self.raw.raft;
        if raft.has_pending_conf() || raft.lead_transferee.is_some() {
            return Err(format!("another change of range {range} is under way"));
        }
        let planned = membership::plan(&self.descriptor, change)?;
        if let Change::Voters(stores) = change {
            for store in stores.iter().filter(|store| **store != self.store) {
                let is_close = self.replica_on(*store).is_some_and(|replica| self.is_close(replica));
                if !is_close || !fortification.is_followed_by(*store, terms) {
                    return Err(format!("the replica of range {range} on store {store} has not caught up"));
                }
            }
        }
        if let Change::Remove(store) = change
            && *store == self.store
        {
            return Err(format!("range {range} is led from store {store}"));
        }
        Ok(planned)
    }

    /// The group's members are others.
    fn take_descriptor(&mut self, descriptor: RangeDescriptor) {
        let (peers, voters) = members(&descriptor, self.id);
        let before = std::mem::replace(&mut self.peers, peers);
        self.voters = voters;
        self.descriptor = Arc::new(descriptor);
        self.strangers.retain(|replica, _| *replica >= next_replica(&self.descriptor));
        self.answers.retain(|replica, _| self.peers.contains_key(replica));
        self.shipments.retain(|replica, _| self.peers.contains_key(replica));
        self.departed.extend(before.into_iter().filter(|(replica, _)| !self.peers.contains_key(replica)));
    }

    /// After changes of replicas were applied: the leader counts its followers by the new voters. Gives those that
    /// are gone, with their stores.
    pub(crate) fn settle_members(&mut self, terms: &Terms) -> Vec<(u64, NodeId)> {
        if !self.faults.keep_old_voters
            && let Some((_, fortification)) = &mut self.leadership
        {
            let stores = self.peers.values().copied();
            *fortification = Arc::new(fortification.with_voters(self.voters.clone(), stores, terms));
        }
        std::mem::take(&mut self.departed)
    }

    /// Whether a replica lacks so few of the committed entries that it may vote.
    fn is_close(&self, replica: u64) -> bool {
        let raft = &self.raw.raft;
        raft.prs().get(replica).is_some_and(|p| p.matched + CLOSE >= raft.raft_log.committed)
    }

    /// How far each replica has come, as the leader knows.
    pub(crate) fn progress(&self, now: Now) -> Option<Vec<ReplicaProgress>> {
        if !self.leads() {
            return None;
        }
        let of = |r: &crate::command::ReplicaDescriptor| {
            let progress = self.raw.raft.prs().get(r.replica);
            let heard =
                if r.replica == self.id { Some(now.nanos) } else { self.answers.get(&r.replica).copied() };
            ReplicaProgress {
                store: r.store,
                replica: r.replica,
                role: r.role(),
                matched: progress.map_or(0, |p| p.matched),
                is_close: self.is_close(r.replica),
                needs_snapshot: self.shipments.contains_key(&r.replica)
                    || progress.is_some_and(|p| p.matched < self.raw.store().truncated().0),
                silent: heard.map(|heard| Duration::from_nanos(now.nanos.saturating_sub(heard))),
            }
        };
        Some(self.descriptor.replicas.iter().map(of).collect())
    }

    /// Leading: whether it waits for what another replica answers to entries.
    pub(crate) fn waits_for(&mut self, replica: u64) -> bool {
        let raft = &self.raw.raft;
        // One that has to be caught up with is in no quorum yet. While voters change there are two.
        let is_close = raft.prs().get(replica).is_some_and(|p| p.state == ProgressState::Replicate);
        if !is_close || self.voters.len() != 1 || !self.voters[0].contains(&self.store) {
            return true;
        }
        let (term, generation) = (raft.term, self.descriptor.generation);
        if !self.quorum.is_of(term, generation) {
            let voters = self.peers.iter().filter(|(_, store)| self.voters[0].contains(store));
            let has = |replica: &u64| raft.prs().get(*replica).map_or(0, |p| p.matched);
            let voters = voters.map(|(replica, _)| (*replica, has(replica))).collect();
            self.quorum = Quorum::new(term, generation, voters);
        }
        let is_voter = self.peers.get(&replica).is_some_and(|store| self.voters[0].contains(store));
        !is_voter || self.quorum.has(replica)
    }

    /// The lowest index that a follower still needs the log behind, as far as the leader knows: zero where it has not
    /// heard of one yet.
    pub(crate) fn slowest(&self) -> u64 {
        let needs = |replica: &u64| match self.shipments.get(replica) {
            Some(shipment) => Some(shipment.index),
            None => self.raw.raft.prs().get(*replica).map(|p| p.matched),
        };
        self.peers.keys().filter_map(needs).min().unwrap_or(u64::MAX)
    }

    /// Up to where the log may go, of which the engine has flushed what is up to `flushed`.
    ///
    /// Each replica decides for itself, behind its own flushed state, and behind what the slowest follower has: the
    /// leader sees that, and says it with what it sends anyhow, so that whoever leads next still has what a
    /// slow follower lacks. A replicated decision would need an entry and agree on a point that the log of a replica
    /// whose engine has flushed less must not be cut at. For one that has fallen behind by more than `bound` bytes
    /// nothing is kept: it gets a snapshot. What follows a snapshot that is on its way is kept, whatever its size.
    pub(crate) fn truncation_point(&self, flushed: u64, bound: u64) -> u64 {
        if self.peers.is_empty() {
            return flushed;
        }
        let slowest = if self.leads() { self.slowest() } else { self.passed };
        let mut point = slowest.max(self.raw.store().behind_which(bound));
        if let Some(shipped) = self.shipments.values().map(|shipment| shipment.index).min() {
            point = point.min(shipped);
        }
        point.min(flushed)
    }

    /// Followers to which a snapshot is to be sent.
    pub(crate) fn takes_wanted_snapshots(&mut self) -> Vec<(u64, NodeId)> {
        let mut wanted = Vec::new();
        for replica in self.raw.store().take_wanted_snapshots() {
            let truncated = self.raw.store().truncated().0;
            let Some(&store) = self.peers.get(&replica).filter(|_| self.raw.raft.state == StateRole::Leader)
            else {
                continue;
            };
            let Some(progress) = self.raw.raft.mut_prs().get_mut(replica) else { continue };
            if progress.matched > 0 && progress.matched >= truncated {
                // A request from before it had something.
                progress.pending_request_snapshot = raft::INVALID_INDEX;
            } else if !self.shipments.contains_key(&replica) {
                wanted.push((replica, store));
            }
        }
        wanted
    }

    /// A snapshot of what is applied now is sent to a follower; the flag tells its sender to stop.
    pub(crate) fn ships(&mut self, replica: u64) -> (u64, u64, Arc<AtomicBool>) {
        let cancelled = Arc::new(AtomicBool::new(false));
        let index = self.state.index;
        let shipment = Shipment { index, cancelled: Arc::clone(&cancelled), told: None };
        self.shipments.insert(replica, shipment);
        (index, self.state.term, cancelled)
    }

    /// A snapshot has been sent: all of it is staged where the follower is, or nothing came of it.
    pub(crate) fn shipped(&mut self, replica: u64, snapshot: Snapshot, staged: bool, now: Now) {
        let index = snapshot.get_metadata().index;
        let shipment = self.shipments.get_mut(&replica).filter(|shipment| shipment.index == index);
        let Some(shipment) = shipment else { return };
        if !staged || self.raw.raft.state != StateRole::Leader {
            self.shipments.remove(&replica);
            return;
        }
        shipment.told = Some((now.nanos, 1));
        self.raw.store().set_staged(replica, Some(snapshot));
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(replica) {
            progress.resume();
            self.raw.raft.send_append(replica);
        }
        self.settle_snapshots();
    }

    /// Tells followers again that do not go over to their snapshot, and forgets those that have.
    fn tell_again(&mut self, now: Now) {
        let mut over = Vec::new();
        for (replica, shipment) in &mut self.shipments {
            let Some((told_nanos, times)) = &mut shipment.told else { continue };
            let progress = self.raw.raft.prs().get(*replica);
            if progress.is_none_or(|p| p.matched >= shipment.index) || *times >= TELL_TIMES {
                over.push(*replica);
            } else if now.nanos >= *told_nanos + TELL_AGAIN.as_nanos() as u64 {
                (*told_nanos, *times) = (now.nanos, *times + 1);
                self.raw.report_snapshot(*replica, SnapshotStatus::Failure);
            }
        }
        for replica in over {
            self.shipments.remove(&replica);
            self.raw.store().set_staged(replica, None);
            self.raw.report_snapshot(replica, SnapshotStatus::Failure);
        }
    }

    /// What raft-rs was asked for is on its way; it would ask for it for ever.
    fn settle_snapshots(&mut self) {
        for replica in self.shipments.keys() {
            if let Some(progress) = self.raw.raft.mut_prs().get_mut(*replica)
                && progress.state == ProgressState::Snapshot
            {
                progress.pending_request_snapshot = raft::INVALID_INDEX;
            }
        }
    }

    /// Whether this replica has all of a snapshot already, applied or in its log.
    pub(crate) fn covers(&self, snapshot: &Snapshot) -> bool {
        let (log, metadata) = (&self.raw.raft.raft_log, snapshot.get_metadata());
        log.committed >= metadata.index || log.match_term(metadata.index, metadata.term)
    }

    /// The hard state of a replica that goes over to a snapshot of the leader of `term`.
    pub(crate) fn hard_state_behind(&self, term: u64, index: u64) -> HardState {
        let now = self.raw.raft.hard_state();
        let vote = if now.term >= term { now.vote } else { raft::INVALID_ID };
        HardState { term: now.term.max(term), vote, commit: index }
    }

    /// Takes the place of an earlier state of the same replica: keeps what its store has promised.
    pub(crate) fn takes_over(&mut self, earlier: &Replica) {
        self.following = earlier.following;
        self.heard_nanos = earlier.heard_nanos;
        self.passed = earlier.passed;
    }

    /// What raft-rs has become, after anything that can change it (a campaign, a message, a tick): a leader
    /// keeps count of its followers, another one does not.
    pub(crate) fn settle_leadership(&mut self, terms: &Terms) {
        let term = self.raw.raft.term;
        if self.leads() {
            if self.leadership.as_ref().is_none_or(|(of_term, _)| *of_term != term) {
                if !self.is_only_voter() {
                    tracing::info!(range = self.range, term, "leads");
                }
                let fortification = Fortification::new(self.store, self.voters.clone(), terms);
                self.leadership = Some((term, Arc::new(fortification)));
                self.campaign_at = None;
                // The one that was followed before has given way, or could be voted against. Bound to it still when
                // this term is over, both could wait for one another for ever.
                self.following = None;
                self.forget_followers();
            }
            self.settle_snapshots();
        } else if let Some((of_term, fortification)) = self.leadership.take() {
            tracing::info!(range = self.range, of_term, term, "leads no longer");
            fortification.end();
            self.forget_followers();
        }
    }

    fn forget_followers(&mut self) {
        self.answers.clear();
        self.shipments.clear();
        self.raw.store().forget_snapshots();
    }

    /// The present lease and how long it lasts, if this replica has it and leads.
    pub(crate) fn leadership(&self) -> Option<(Lease, Arc<Fortification>)> {
        Some((self.lease()?, Arc::clone(&self.leadership.as_ref()?.1)))
    }

    /// Whether it leads a term for which it has not proposed a lease. It has applied an entry of that term
    /// first: before, another leader's lease may stand in the log, and this one would not follow on it.
    pub(crate) fn wants_lease(&self) -> bool {
        let term = self.raw.raft.term;
        self.leads() && self.state.term == term && self.lease_proposed_in < term && !self.has_ceded()
    }

    /// Stands for election.
    pub(crate) fn campaign(&mut self) -> Result<()> {
        if !self.is_only_voter() {
            tracing::info!(range = self.range, term = self.raw.raft.term + 1, "stands for election");
        }
        self.raw.campaign().map_err(|e| Error::Io(format!("range {}: no election: {e}", self.range)))
    }

    /// Proposes a lease for this replica, which leads.
    pub(crate) fn propose_lease(&mut self, start: Timestamp) -> Result<()> {
        self.lease_proposed_in = self.raw.raft.term;
        let grant = LeaseGrant { sequence: self.state.lease_sequence + 1, holder: self.id, start: start.0 };
        let data = encode_lease(self.state.lease_sequence, &grant);
        self.step_proposal(vec![Entry { data, ..Entry::default() }])
            .map_err(|e| Error::Io(format!("range {} does not accept its lease: {e}", self.range)))
    }

    fn step_proposal(&mut self, entries: Vec<Entry>) -> raft::Result<()> {
        assert!(self.raw.raft.state == StateRole::Leader, "proposals are never stepped on a non-leader");
        self.raw.step(Message {
            msg_type: MessageType::MsgPropose as i32,
            from: self.id,
            entries,
            ..Message::default()
        })
    }

    /// Applies committed entries in order, many to one engine batch, and answers their proposers. An
    /// error stops the node: the state machine must not go on without an entry.
    pub(crate) fn apply(
        &mut self,
        engine: &dyn Engine,
        committed: &[Entry],
        thresholds: &ThresholdCell,
        hlc: &Hlc,
    ) -> Result<ApplyStats> {
        let mut stats = ApplyStats::default();
        let mut applier = Applier::new(engine);
        let (mut bytes, mut answers) = (0, Vec::new());
        for (i, entry) in committed.iter().enumerate() {
            assert_eq!(entry.index, self.state.index + 1, "committed entries come in order");
            let pending = self.take_pending(entry.index, entry.term);
            bytes += self.raw.store().payload(entry.index).map_or(0, |(payload, _)| payload.len());
            let outcome = self.apply_entry(entry, pending.as_ref(), (thresholds, hlc), &mut applier)?;
            self.state.format = LOCAL_FORMAT;
            self.state.index = entry.index;
            self.state.term = entry.term;
            stats.entries += 1;
            stats.lease_changed |= matches!(outcome, Outcome::Lease);
            stats.members_changed |= matches!(outcome, Outcome::Members);
            answers.extend(pending.map(|pending| (pending, outcome)));

            let operations = applier.batch().ops.len();
            if i + 1 == committed.len() || operations >= BATCH_OPERATIONS || bytes >= BATCH_BYTES {
                stats.keys += operations as u64;
                applier.batch().put(Cf::Local, self.state_key.clone(), self.state.encode_to_vec());
                let batch = std::mem::replace(&mut applier, Applier::new(engine)).into_batch();
                stats.bytes += batch.bytes() as u64;
                engine.write(&batch)?;
                bytes = 0;
                for (pending, outcome) in answers.drain(..) {
                    pending.reply.send(match outcome {
                        // An entry without content in a proposal's place is a change that raft-rs has refused.
                        Outcome::Rejected | Outcome::Nothing => Err(ProposeError::Unavailable(format!(
                            "the lease of range {} changed before the command applied",
                            self.range
                        ))),
                        _ => Ok(Applied { index: pending.index }),
                    });
                }
            }
        }
        let applied = self.state.index;
        self.raw.advance_apply_to(applied);
        self.raw.mut_store().applied_to(applied);
        Ok(stats)
    }

    fn apply_entry(
        &mut self,
        entry: &Entry,
        pending: Option<&Pending>,
        (thresholds, hlc): (&ThresholdCell, &Hlc),
        applier: &mut Applier<'_>,
    ) -> Result<Outcome> {
        if entry.entry_type != EntryType::EntryNormal as i32 {
            return self.apply_change(entry, applier);
        }
        let (payload, _) =
            self.raw.store().payload(entry.index).expect("entries above the applied index are in memory");
        if payload.is_empty() {
            return Ok(Outcome::Nothing);
        }
        // The proposer's own effects spare decoding the payload; they are what it encoded.
        let decoded;
        let effects = match pending {
            Some(pending) => {
                let (sequence, index) = lease_position(payload)?;
                if !self.admits(sequence, index) {
                    return Ok(Outcome::Rejected);
                }
                self.state.lease_index = index;
                &pending.effects
            }
            None => {
                let payload = Payload::decode(payload)?;
                match payload.body {
                    Body::Lease(grant) => {
                        return Ok(self.apply_lease(payload.lease_sequence, grant, entry.term));
                    }
                    Body::Command(effects) if self.admits(payload.lease_sequence, payload.lease_index) => {
                        self.state.lease_index = payload.lease_index;
                        decoded = effects;
                        &decoded
                    }
                    Body::Command(_) => return Ok(Outcome::Rejected),
                    Body::Descriptor(_) => {
                        let what = format!("range {} entry {}: a descriptor", self.range, entry.index);
                        return Err(Error::Corruption(format!("{what} that is no change of replicas")));
                    }
                }
            }
        };
        if let Some(update) = &effects.thresholds {
            // Before the batch is visible: a reader that sees its effects sees the threshold (R4).
            thresholds.raise(update);
        }
        // Before it, too, so that what is drawn here later lies above every commit that is visible here.
        let committed = highest_commit(effects);
        if !self.faults.hlc_back_after_restart {
            hlc.observe(committed);
        }
        self.committed = self.committed.max(committed);
        applier.apply(effects)?;
        Ok(Outcome::Applied)
    }

    /// Raft's configuration changes here, and the descriptor in the same batch.
    fn apply_change(&mut self, entry: &Entry, applier: &mut Applier<'_>) -> Result<Outcome> {
        let what = format!("range {} entry {}", self.range, entry.index);
        let corrupt = |why: &dyn std::fmt::Display| Error::Corruption(format!("{what}: {why}"));
        let change =
            <ConfChangeV2 as prost_011::Message>::decode(&entry.data[..]).map_err(|e| corrupt(&e))?;
        let payload = Payload::decode(&change.context)?;
        let Body::Descriptor(descriptor) = payload.body else {
            return Err(corrupt(&"a change of replicas without a descriptor"));
        };
        if !self.admits(payload.lease_sequence, payload.lease_index) {
            return Ok(Outcome::Rejected);
        }
        self.state.lease_index = payload.lease_index;
        let conf = self.raw.apply_conf_change(&change).map_err(|e| corrupt(&e))?;
        if !membership::is_same(&conf, &conf_state(&descriptor)) {
            return Err(corrupt(&format!("{conf:?} does not fit {descriptor:?}")));
        }
        self.raw.mut_store().set_conf_state(conf);
        let key = local_keys::range_descriptor(&descriptor.start);
        applier.batch().put(Cf::Local, key, descriptor.encode_to_vec());
        self.take_descriptor(descriptor);
        Ok(Outcome::Members)
    }

    /// R7: a command applies only under the lease it was evaluated under and only once.
    fn admits(&self, lease_sequence: u64, lease_index: u64) -> bool {
        self.faults.forward_proposals
            || lease_sequence == self.state.lease_sequence
                && (lease_index > self.state.lease_index || self.faults.propose_twice)
    }

    fn apply_lease(&mut self, previous: u64, grant: LeaseGrant, term: u64) -> Outcome {
        if previous != self.state.lease_sequence || grant.sequence <= previous {
            return Outcome::Rejected;
        }
        assert!(
            Timestamp(grant.start) > self.committed,
            "a lease begins above every commit under earlier ones (R10)"
        );
        self.state.lease_sequence = grant.sequence;
        self.state.lease_index = 0;
        self.state.lease_holder = grant.holder;
        self.state.lease_start = grant.start;
        self.last_lease_index = 0;
        self.lease_granted_in = term;
        let (range, sequence, replica) = (self.range, grant.sequence, grant.holder);
        if !self.is_only_voter() {
            tracing::info!(range, sequence, replica, start = %Timestamp(grant.start), "a lease is granted");
        }
        Outcome::Lease
    }

    /// The proposal that was made here and is the entry at `index`, of `term`, which is committed. Those of
    /// earlier terms, and of this place, are certainly not committed, and never will be: committed entries'
    /// terms do not fall. Until then nothing is certain, also where another leader's entries replace them
    /// here: a later leader may still have them.
    fn take_pending(&mut self, index: u64, term: u64) -> Option<Pending> {
        while let Some(front) = self.pending.front() {
            if front.term == term && front.index > index {
                return None;
            }
            let pending = self.pending.pop_front()?;
            assert!(pending.term <= term, "a term ends before a proposal of a later one is made");
            if (pending.term, pending.index) == (term, index) {
                return Some(pending);
            }
            if self.faults.forward_proposals && !self.leads() {
                self.forward(&pending.effects);
            }
            pending.reply.send(Err(superseded(self.range)));
        }
        None
    }

    /// The store has failed: nothing more is applied here.
    pub(crate) fn abandon(&mut self, reason: &str) {
        for pending in self.pending.drain(..) {
            pending.reply.send(Err(ProposeError::Ambiguous(reason.into())));
        }
    }
}

/// The highest timestamp at which a command makes something visible.
fn highest_commit(effects: &Effects) -> Timestamp {
    let written = effects.writes.iter().map(|write| write.ts);
    let resolved = effects.resolves.iter().map(|span| span.commit_ts);
    Timestamp(written.chain(resolved).max().unwrap_or(0))
}

fn superseded(range: RangeId) -> ProposeError {
    ProposeError::Unavailable(format!(
        "another leader of range {range} put other commands in this one's place"
    ))
}

enum Outcome {
    Nothing,
    Applied,
    Rejected,
    Lease,
    Members,
}

/// What applying amounted to.
#[derive(Default)]
pub(crate) struct ApplyStats {
    pub(crate) entries: u64,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    pub(crate) lease_changed: bool,
    pub(crate) members_changed: bool,
}

/// The stores of the replicas besides `id`, and those of each quorum's voters.
fn members(descriptor: &RangeDescriptor, id: u64) -> (BTreeMap<u64, NodeId>, Vec<Vec<NodeId>>) {
    let mut stores: BTreeMap<u64, NodeId> =
        descriptor.replicas.iter().map(|r| (r.replica, r.store)).collect();
    let conf = conf_state(descriptor);
    let stores_of =
        |replicas: &[u64]| replicas.iter().filter_map(|r| stores.get(r).copied()).collect::<Vec<_>>();
    let voters = [&conf.voters, &conf.voters_outgoing].map(|replicas| stores_of(replicas));
    let voters = voters.into_iter().filter(|voters| !voters.is_empty()).collect();
    stores.remove(&id);
    (stores, voters)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cairn_kv::effects::{EFFECTS_FORMAT, Thresholds, VersionWrite};
    use cairn_kv::engine::mem::MemEngine;

    use super::*;
    use crate::command::{ReplicaDescriptor, ReplicaRole, encode_command};
    use crate::log::Position;

    /// A leading replica whose log is only in memory.
    fn leader(engine: &MemEngine) -> Replica {
        let replicas = vec![ReplicaDescriptor { replica: 1, store: 1, role: ReplicaRole::Voter as i32 }];
        let descriptor = RangeDescriptor { format: 1, range: 1, replicas, ..RangeDescriptor::default() };
        let log = RangeLog::new(1, Default::default());
        let mut replica =
            Replica::new(&descriptor, 1, 1, RangeState::default(), log, Faults::default()).expect("starts");
        assert!(replica.is_only_voter());
        replica.campaign().expect("elected");
        commit(&mut replica, engine);
        replica.propose_lease(Timestamp(5)).expect("accepted");
        commit(&mut replica, engine);
        replica
    }

    /// Takes what is ready for written, and applies what that commits.
    fn commit(replica: &mut Replica, engine: &MemEngine) {
        let thresholds = ThresholdCell::new(Thresholds::default());
        let hlc = Hlc::new(cairn_kv::sim::Env::new(0).clock, Timestamp::ZERO);
        while replica.raw.has_ready() {
            let mut ready = replica.raw.ready();
            let entries = ready.take_entries();
            replica.raw.mut_store().append(entries, Position { segment: 1, offset: 0 });
            let mut light = replica.raw.advance_append(ready);
            let committed = light.take_committed_entries();
            replica.apply(engine, &committed, &thresholds, &hlc).expect("applies");
        }
    }

    fn effects(ts: u64) -> Effects {
        let (key, value) = (Bytes::from_static(b"k"), Some(Bytes::from(ts.to_string())));
        let writes = vec![VersionWrite { key, ts, value, fresh: false, supersedes: None }];
        Effects { format: EFFECTS_FORMAT, writes, ..Effects::default() }
    }

    fn propose_raw(
        replica: &mut Replica,
        engine: &MemEngine,
        lease_sequence: u64,
        lease_index: u64,
        ts: u64,
    ) {
        let mut data = encode_command(lease_sequence, &effects(ts));
        set_lease_index(&mut data, lease_index);
        replica.step_proposal(vec![Entry { data, ..Entry::default() }]).expect("accepted");
        commit(replica, engine);
    }

    fn newest(engine: &MemEngine) -> u64 {
        cairn_kv::mvcc::newest(engine, b"k").expect("readable").0.0
    }

    #[test]
    fn a_command_applies_once_and_only_under_its_lease() {
        let engine = MemEngine::new();
        let mut replica = leader(&engine);
        let lease = replica.lease().expect("it leads");
        assert_eq!((lease.sequence, lease.start), (1, Timestamp(5)));

        propose_raw(&mut replica, &engine, 1, 1, 10);
        assert_eq!(newest(&engine), 10);
        // The same place in the lease again, whatever it would do: nothing but the index moves on.
        let before = replica.state;
        propose_raw(&mut replica, &engine, 1, 1, 20);
        assert_eq!(newest(&engine), 10);
        assert_eq!((replica.state.index, replica.state.lease_index), (before.index + 1, 1));
        // Places may be left out, never taken twice.
        propose_raw(&mut replica, &engine, 1, 3, 30);
        propose_raw(&mut replica, &engine, 1, 2, 40);
        assert_eq!(newest(&engine), 30);
        // A lease that is not in force, past or future.
        propose_raw(&mut replica, &engine, 2, 9, 50);
        propose_raw(&mut replica, &engine, 0, 9, 50);
        assert_eq!(newest(&engine), 30);
        // A new lease counts from the start; the old one's commands are void.
        replica.propose_lease(Timestamp(60)).expect("accepted");
        commit(&mut replica, &engine);
        propose_raw(&mut replica, &engine, 1, 10, 70);
        assert_eq!(newest(&engine), 30);
        propose_raw(&mut replica, &engine, 2, 1, 70);
        assert_eq!(newest(&engine), 70);
    }

    #[test]
    fn a_non_leader_proposes_nothing() {
        let replicas = [1, 2]
            .map(|id| ReplicaDescriptor { replica: id, store: id, role: ReplicaRole::Voter as i32 })
            .to_vec();
        let descriptor = RangeDescriptor { format: 1, range: 1, replicas, ..RangeDescriptor::default() };
        let state = RangeState { lease_sequence: 1, lease_holder: 1, ..RangeState::default() };
        let log = RangeLog::new(1, Default::default());
        let mut replica = Replica::new(&descriptor, 1, 1, state, log, Faults::default()).expect("starts");
        assert!(!replica.is_only_voter());
        let waiter = std::sync::Arc::new(crate::waiter::Waiter::default());
        let lease = Lease { sequence: 1, start: Timestamp::ZERO };
        replica.gather(
            lease,
            encode_command(1, &effects(1)),
            effects(1),
            Reply::new(waiter),
            Timestamp::ZERO,
        );
        replica.step_gathered();
        assert!(!replica.raw.has_ready(), "nothing may reach raft-rs, which would forward it");
    }
}
