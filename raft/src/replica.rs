//! A replica of a range: its Raft group and its state machine.
//!
//! A step function without I/O of its own: the [`driver`](crate::driver) feeds it proposals, makes
//! durable what it is ready with, and has it apply what that commits.

use std::collections::VecDeque;

use cairn_kv::effects::{self, Effects};
use cairn_kv::engine::{Cf, Engine, WriteBatch};
use cairn_kv::{Error, Result, local_keys};
use prost::Message as _;
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType};
use raft::{RawNode, StateRole};

use crate::RangeId;
use crate::command::{
    Body, LOCAL_FORMAT, LeaseGrant, Payload, RangeDescriptor, RangeState, ReplicaRole, encode_lease,
    lease_position, set_lease_index,
};
use crate::entries::RangeLog;
use crate::store::{Applied, Lease, ProposeError, ThresholdCell};
use crate::waiter::Reply;

/// A proposal on its way to be applied here.
struct Pending {
    index: u64,
    effects: Effects,
    reply: Reply,
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
    /// Proposals in Raft's log that are not applied, by index.
    pending: VecDeque<Pending>,
    /// Gathered for the next step.
    gathered: Vec<Entry>,
    /// Lease index of the last proposal.
    last_lease_index: u64,
}

impl Replica {
    /// A replica over what recovery found in log and engine.
    pub(crate) fn new(
        descriptor: &RangeDescriptor,
        id: u64,
        state: RangeState,
        mut log: RangeLog,
    ) -> Result<Replica> {
        log.start(conf_state(descriptor), state.index);
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
        let raw = RawNode::new(&config, log, &crate::logger::logger()).map_err(|e| {
            Error::Corruption(format!("range {}: raft does not start: {e}", descriptor.range))
        })?;
        Ok(Replica {
            range: descriptor.range,
            raw,
            id,
            last_lease_index: state.lease_index,
            state,
            state_key: local_keys::range_state(descriptor.range),
            pending: VecDeque::new(),
            gathered: Vec::new(),
        })
    }

    /// Whether it may elect itself without asking anyone.
    pub(crate) fn is_only_voter(&self) -> bool {
        self.raw.raft.prs().is_singleton() && self.raw.raft.promotable()
    }

    /// The lease, if this replica has it and leads.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let serves = self.raw.raft.state == StateRole::Leader
            && self.state.lease_holder == self.id
            && self.state.lease_sequence > 0;
        serves.then_some(Lease {
            sequence: self.state.lease_sequence,
            start: cairn_kv::Timestamp(self.state.lease_start),
        })
    }

    /// Gathers a proposal for [`Replica::step_gathered`]. What this replica cannot propose is
    /// answered at once: on a non-leader it must never reach raft-rs, which would forward it (R7).
    pub(crate) fn gather(&mut self, lease: Lease, mut payload: Vec<u8>, effects: Effects, reply: Reply) {
        if self.lease() != Some(lease) {
            let reason = format!("lease {} of range {} is not in force here", lease.sequence, self.range);
            reply.send(Err(ProposeError::Unavailable(reason)));
            return;
        }
        self.last_lease_index += 1;
        set_lease_index(&mut payload, self.last_lease_index);
        self.gathered.push(Entry { data: payload, ..Entry::default() });
        let index = self.raw.raft.raft_log.last_index() + self.gathered.len() as u64;
        self.pending.push_back(Pending { index, effects, reply });
    }

    /// Steps what was gathered.
    pub(crate) fn step_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let count = self.gathered.len();
        let entries = std::mem::take(&mut self.gathered);
        if let Err(error) = self.step_proposal(entries) {
            for pending in self.pending.drain(self.pending.len() - count..) {
                let reason = format!("range {} refuses proposals: {error}", self.range);
                pending.reply.send(Err(ProposeError::Unavailable(reason)));
            }
        }
    }

    /// Stands for election.
    pub(crate) fn campaign(&mut self) -> Result<()> {
        self.raw.campaign().map_err(|e| Error::Io(format!("range {}: no election: {e}", self.range)))
    }

    /// Proposes a lease for this replica, which leads.
    pub(crate) fn propose_lease(&mut self, start: cairn_kv::Timestamp) -> Result<()> {
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

    /// Applies committed entries in order, one engine batch each, and answers their proposers. An
    /// error stops the node: the state machine must not go on without an entry.
    pub(crate) fn apply(
        &mut self,
        engine: &dyn Engine,
        committed: &[Entry],
        thresholds: &ThresholdCell,
        batch: &mut WriteBatch,
    ) -> Result<ApplyStats> {
        let mut stats = ApplyStats::default();
        for entry in committed {
            assert_eq!(entry.index, self.state.index + 1, "committed entries come in order");
            batch.ops.clear();
            let pending = self.take_pending(entry.index);
            let result = self.apply_entry(engine, entry, pending.as_ref(), thresholds, batch)?;
            self.state.format = LOCAL_FORMAT;
            self.state.index = entry.index;
            self.state.term = entry.term;
            stats.keys += batch.ops.len() as u64;
            batch.put(Cf::Local, self.state_key.clone(), self.state.encode_to_vec());
            engine.write(batch)?;
            stats.entries += 1;
            stats.lease_changed |= matches!(result, Outcome::Lease);
            if let Some(pending) = pending {
                pending.reply.send(match result {
                    Outcome::Rejected => Err(ProposeError::Unavailable(format!(
                        "the lease of range {} changed before the command applied",
                        self.range
                    ))),
                    _ => Ok(Applied { index: entry.index }),
                });
            }
        }
        let applied = self.state.index;
        self.raw.advance_apply_to(applied);
        self.raw.mut_store().applied_to(applied);
        Ok(stats)
    }

    fn apply_entry(
        &mut self,
        engine: &dyn Engine,
        entry: &Entry,
        pending: Option<&Pending>,
        thresholds: &ThresholdCell,
        batch: &mut WriteBatch,
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
                    Body::Lease(grant) => return Ok(self.apply_lease(payload.lease_sequence, grant)),
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
        effects::apply(engine, effects, batch)?;
        Ok(Outcome::Applied)
    }

    /// R7: a command applies only under the lease it was evaluated under and only once.
    fn admits(&self, lease_sequence: u64, lease_index: u64) -> bool {
        lease_sequence == self.state.lease_sequence && lease_index > self.state.lease_index
    }

    fn apply_lease(&mut self, previous: u64, grant: LeaseGrant) -> Outcome {
        if previous != self.state.lease_sequence || grant.sequence <= previous {
            return Outcome::Rejected;
        }
        self.state.lease_sequence = grant.sequence;
        self.state.lease_index = 0;
        self.state.lease_holder = grant.holder;
        self.state.lease_start = grant.start;
        self.last_lease_index = 0;
        Outcome::Lease
    }

    /// The proposal at `index`, if it was made here.
    fn take_pending(&mut self, index: u64) -> Option<Pending> {
        let front = self.pending.front()?;
        assert!(front.index >= index, "a sole voter's proposals keep their place in the log");
        (front.index == index).then(|| self.pending.pop_front()).flatten()
    }

    /// The store has failed: nothing more is applied here.
    pub(crate) fn abandon(&mut self, reason: &str) {
        for pending in self.pending.drain(..) {
            pending.reply.send(Err(ProposeError::Ambiguous(reason.into())));
        }
    }
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
