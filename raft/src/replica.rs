//! A replica of a range: its Raft group and its state machine.
//!
//! A step function without I/O of its own: the [`driver`](crate::driver) feeds it proposals, makes
//! durable what it is ready with, and has it apply what that commits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cairn_kv::effects::{Applier, Effects};
use cairn_kv::engine::{Cf, Engine};
use cairn_kv::seam::NodeId;
use cairn_kv::{Error, Result, Timestamp, local_keys};
use prost::Message as _;
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType};
use raft::{RawNode, StateRole};

use crate::RangeId;
use crate::command::{
    Body, LOCAL_FORMAT, LeaseGrant, Payload, RangeDescriptor, RangeState, ReplicaRole, encode_lease,
    lease_position, set_lease_index,
};
use crate::entries::RangeLog;
use crate::fortify::{Following, Fortification};
use crate::liveness::{Now, Terms};
use crate::message::RangeMessage;
use crate::store::{Applied, Faults, Lease, ProposeError, ThresholdCell};
use crate::waiter::Reply;

/// What closes an engine batch: a replay has far more to apply than one batch should hold.
const BATCH_OPERATIONS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;

/// The longest wait of a replica that may campaign, so that they do not all do at once.
const STAGGER: Duration = Duration::from_millis(150);

/// How long a leader that gave way waits for the other one to lead.
const TAKEOVER: Duration = Duration::from_millis(200);

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

/// Whom a replica follows, and under what promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leader {
    store: NodeId,
    /// Epoch in which this store supports that one.
    epoch: u64,
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
    /// The other replicas' stores.
    peers: BTreeMap<u64, NodeId>,
    /// The stores of each quorum's voters.
    voters: Vec<Vec<NodeId>>,
    store: NodeId,
    faults: Faults,
    /// Proposals in Raft's log that are not applied, by index.
    pending: VecDeque<Pending>,
    /// Gathered for the next step.
    gathered: Vec<Gathered>,
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
    /// When to campaign, if nothing happens until then.
    campaign_at: Option<u64>,
    /// The term in which this replica has told another one to take over, and until when it waits for that.
    ceded: Option<Ceded>,
}

#[derive(Clone, Copy)]
struct Ceded {
    term: u64,
    until_nanos: u64,
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
        let conf = conf_state(descriptor);
        let stores: BTreeMap<u64, NodeId> =
            descriptor.replicas.iter().map(|r| (r.replica, r.store)).collect();
        let stores_of =
            |replicas: &[u64]| replicas.iter().filter_map(|r| stores.get(r).copied()).collect::<Vec<_>>();
        let voters = [&conf.voters, &conf.voters_outgoing].map(|replicas| stores_of(replicas));
        let voters = voters.into_iter().filter(|voters| !voters.is_empty()).collect();
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
            peers: stores.into_iter().filter(|(replica, _)| *replica != id).collect(),
            voters,
            store,
            pending: VecDeque::new(),
            gathered: Vec::new(),
            leadership: None,
            lease_proposed_in: 0,
            lease_granted_in: 0,
            following: None,
            heard_nanos: 0,
            campaign_at: None,
            ceded: None,
        })
    }

    /// The stores that have the other replicas.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.values().copied()
    }

    /// The store that has another replica.
    pub(crate) fn store_of(&self, replica: u64) -> Option<NodeId> {
        self.peers.get(&replica).copied()
    }

    fn leads(&self) -> bool {
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

    /// Steps what was gathered.
    pub(crate) fn step_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let gathered = std::mem::take(&mut self.gathered);
        // A message of the same batch may have ended its leadership.
        if !self.leads() {
            for Gathered { reply, .. } in gathered {
                let reason = format!("this replica of range {} leads no longer", self.range);
                reply.send(Err(ProposeError::Unavailable(reason)));
            }
            return;
        }
        let (mut index, term, count) =
            (self.raw.raft.raft_log.last_index(), self.raw.raft.term, gathered.len());
        let mut entries = Vec::with_capacity(count);
        for Gathered { payload, effects, reply } in gathered {
            index += 1;
            entries.push(Entry { data: payload, ..Entry::default() });
            self.pending.push_back(Pending { index, term, effects, reply });
        }
        if let Err(error) = self.step_proposal(entries) {
            for pending in self.pending.drain(self.pending.len() - count..) {
                let reason = format!("range {} refuses proposals: {error}", self.range);
                pending.reply.send(Err(ProposeError::Unavailable(reason)));
            }
        }
    }

    /// Steps a message of another replica, whose store is `from` in its life `incarnation`. What does not
    /// belong here is dropped: messages may be late, repeated, or for a replica that was here before.
    pub(crate) fn receive(
        &mut self,
        from: NodeId,
        incarnation: u64,
        message: &RangeMessage,
        terms: &Terms,
        now: Now,
    ) -> Result<()> {
        let follows_in = message.follows_in;
        let message = match message.message() {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(from, %error, "a message is not taken");
                return Ok(());
            }
        };
        if message.to != self.id || self.peers.get(&message.from) != Some(&from) {
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
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse => {
                if let Some((of_term, fortification)) = &self.leadership
                    && *of_term == term
                {
                    fortification.follows(from, Following { incarnation, epoch: follows_in }, terms);
                }
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                if !self.may_vote_for(from, &message.context, terms, now) {
                    return Ok(());
                }
            }
            MessageType::MsgTimeoutNow => {
                if term != self.raw.raft.term || self.raw.raft.leader_id != sender {
                    return Ok(());
                }
            }
            // Forwarded proposals (R7), and what is not sent yet: snapshots.
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
        let of_leader = matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat);
        if of_leader && self.raw.raft.leader_id == sender {
            self.heard_nanos = now.nanos;
            self.campaign_at = None;
            // Also without support: the votes for this leader came from some of each quorum of the one that was
            // followed before, after they were free of it.
            self.following = terms.supports(from).map(|epoch| Leader { store: from, epoch });
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
        let to = self.peers.iter().find(|(_, of)| **of == store).map(|(replica, _)| *replica);
        let Some(to) = to.filter(|to| voters.contains(to)) else {
            return Err(format!("range {range} has no voter on store {store}"));
        };
        if raft.prs().get(to).is_none_or(|progress| progress.matched < committed) {
            return Err(format!("the replica of range {range} on store {store} is behind"));
        }
        let until_nanos = now.nanos + TAKEOVER.as_nanos() as u64;
        self.ceded = Some(Ceded { term: raft.term, until_nanos });
        if let Some((_, fortification)) = &self.leadership
            && !self.faults.serve_after_ceding
        {
            fortification.end();
        }
        self.raw.transfer_leader(to);
        Ok(())
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
        self.faults.free_after_restart || terms.is_free(now)
    }

    /// Whether it follows a leader whose store is still supported in that epoch.
    fn is_bound(&self, terms: &Terms) -> bool {
        !self.faults.ignore_promises
            && self.following.is_some_and(|leader| terms.supports(leader.store) == Some(leader.epoch))
    }

    /// Time passes: campaigns where there is no leader, and keeps followers in touch that lack something.
    /// `draw` gives 64 random bits.
    pub(crate) fn tick(
        &mut self,
        terms: &Terms,
        now: Now,
        silence: Duration,
        draw: impl FnOnce() -> u64,
    ) -> Result<()> {
        if self.peers.is_empty() {
            return Ok(());
        }
        if self.leads() {
            let term = self.raw.raft.term;
            if self.ceded.is_some_and(|ceded| ceded.term == term && now.nanos >= ceded.until_nanos) {
                // Nobody has taken over. The next term is this one's again if nobody is faster.
                self.raw.raft.become_follower(term, raft::INVALID_ID);
            } else if self.has_to_speak(terms) {
                self.raw.ping();
            }
            return Ok(());
        }
        // A leader whose store is not supported, yet or any more, is believed for as long as its support
        // would last.
        let silent = now.nanos >= self.heard_nanos + silence.as_nanos() as u64;
        let was_supported =
            self.following.is_some_and(|l| self.peers.get(&self.raw.raft.leader_id) == Some(&l.store));
        let bound = self.is_bound(terms);
        if bound || !self.is_free(terms, now) || !self.raw.raft.promotable() || !(silent || was_supported) {
            self.campaign_at = None;
            return Ok(());
        }
        let stagger = STAGGER.as_nanos() as u64;
        match self.campaign_at {
            Some(at) if now.nanos >= at => {
                self.campaign_at = Some(now.nanos + stagger / 2 + draw() % stagger);
                self.campaign()
            }
            Some(_) => Ok(()),
            None => {
                self.campaign_at = Some(now.nanos + draw() % stagger);
                Ok(())
            }
        }
    }

    /// Whether a follower lacks entries, or does not know what is committed, or has to say that it follows.
    fn has_to_speak(&self, terms: &Terms) -> bool {
        let raft = &self.raw.raft;
        let (last, committed) = (raft.raft_log.last_index(), raft.raft_log.committed);
        let lacks = raft.prs().iter().any(|(id, progress)| {
            *id != self.id && (progress.matched < last || progress.committed_index < committed)
        });
        lacks || self.leadership.as_ref().is_some_and(|(_, fortification)| fortification.is_incomplete(terms))
    }

    /// What raft-rs has become, after anything that can change it (a campaign, a message, a tick): a leader
    /// keeps count of its followers, another one does not.
    pub(crate) fn settle_leadership(&mut self, terms: &Terms) {
        let term = self.raw.raft.term;
        if self.leads() {
            if self.leadership.as_ref().is_none_or(|(of_term, _)| *of_term != term) {
                let fortification = Fortification::new(self.store, self.voters.clone(), terms);
                self.leadership = Some((term, Arc::new(fortification)));
                self.campaign_at = None;
            }
        } else if let Some((_, fortification)) = self.leadership.take() {
            fortification.end();
        }
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
    ) -> Result<ApplyStats> {
        let mut stats = ApplyStats::default();
        let mut applier = Applier::new(engine);
        let (mut bytes, mut answers) = (0, Vec::new());
        for (i, entry) in committed.iter().enumerate() {
            assert_eq!(entry.index, self.state.index + 1, "committed entries come in order");
            let pending = self.take_pending(entry.index, entry.term);
            bytes += self.raw.store().payload(entry.index).map_or(0, |(payload, _)| payload.len());
            let outcome = self.apply_entry(entry, pending.as_ref(), thresholds, &mut applier)?;
            self.state.format = LOCAL_FORMAT;
            self.state.index = entry.index;
            self.state.term = entry.term;
            stats.entries += 1;
            stats.lease_changed |= matches!(outcome, Outcome::Lease);
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
                        Outcome::Rejected => Err(ProposeError::Unavailable(format!(
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
        thresholds: &ThresholdCell,
        applier: &mut Applier<'_>,
    ) -> Result<Outcome> {
        if entry.entry_type != EntryType::EntryNormal as i32 {
            let what = format!("range {} entry {}: a configuration change", self.range, entry.index);
            return Err(Error::Corruption(format!("{what}, which this version never proposes")));
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
                }
            }
        };
        if let Some(update) = &effects.thresholds {
            // Before the batch is visible: a reader that sees its effects sees the threshold (R4).
            thresholds.raise(update);
        }
        applier.apply(effects)?;
        Ok(Outcome::Applied)
    }

    /// R7: a command applies only under the lease it was evaluated under and only once.
    fn admits(&self, lease_sequence: u64, lease_index: u64) -> bool {
        lease_sequence == self.state.lease_sequence && lease_index > self.state.lease_index
    }

    fn apply_lease(&mut self, previous: u64, grant: LeaseGrant, term: u64) -> Outcome {
        if previous != self.state.lease_sequence || grant.sequence <= previous {
            return Outcome::Rejected;
        }
        self.state.lease_sequence = grant.sequence;
        self.state.lease_index = 0;
        self.state.lease_holder = grant.holder;
        self.state.lease_start = grant.start;
        self.last_lease_index = 0;
        self.lease_granted_in = term;
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
}

/// What applying amounted to.
#[derive(Default)]
pub(crate) struct ApplyStats {
    pub(crate) entries: u64,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    pub(crate) lease_changed: bool,
}

/// Raft's configuration, from the descriptor.
fn conf_state(descriptor: &RangeDescriptor) -> ConfState {
    let mut conf = ConfState::default();
    for replica in &descriptor.replicas {
        let id = replica.replica;
        match replica.role() {
            ReplicaRole::Voter => {
                conf.voters.push(id);
            }
            ReplicaRole::Learner => conf.learners.push(id),
            ReplicaRole::VoterOutgoing => conf.voters_outgoing.push(id),
            ReplicaRole::LearnerNext => {
                conf.voters_outgoing.push(id);
                conf.learners_next.push(id);
            }
            ReplicaRole::VoterIncoming => conf.voters.push(id),
        }
    }
    let joint =
        descriptor.replicas.iter().any(|r| !matches!(r.role(), ReplicaRole::Voter | ReplicaRole::Learner));
    if joint {
        // Plain voters vote in both halves of a joint configuration.
        conf.voters_outgoing
            .extend(descriptor.replicas.iter().filter(|r| r.role() == ReplicaRole::Voter).map(|r| r.replica));
    }
    conf
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cairn_kv::effects::{EFFECTS_FORMAT, Thresholds, VersionWrite};
    use cairn_kv::engine::mem::MemEngine;

    use super::*;
    use crate::command::{ReplicaDescriptor, encode_command};
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
        while replica.raw.has_ready() {
            let mut ready = replica.raw.ready();
            let entries = ready.take_entries();
            replica.raw.mut_store().append(entries, Position { segment: 1, offset: 0 });
            let mut light = replica.raw.advance_append(ready);
            let committed = light.take_committed_entries();
            replica.apply(engine, &committed, &thresholds).expect("applies");
        }
    }

    fn effects(ts: u64) -> Effects {
        let (key, value) = (Bytes::from_static(b"k"), Some(Bytes::from(ts.to_string())));
        let writes = vec![VersionWrite { key, ts, value, fresh: false }];
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
