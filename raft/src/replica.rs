//! A replica of a range: its Raft group and its state machine.
//!
//! A step function without I/O of its own: the [`driver`](crate::driver) feeds it proposals, makes
//! durable what it is ready with, and has it apply what that commits.

use std::collections::VecDeque;

use cairn_kv::effects::{Applier, Effects};
use cairn_kv::engine::{Cf, Engine};
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

/// What closes an engine batch: a replay has far more to apply than one batch should hold.
const BATCH_OPERATIONS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;

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
            let pending = self.take_pending(entry.index);
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
                engine.write(&std::mem::replace(&mut applier, Applier::new(engine)).into_batch())?;
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
        applier.apply(effects)?;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cairn_kv::Timestamp;
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
        let mut replica = Replica::new(&descriptor, 1, RangeState::default(), log).expect("starts");
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
        let mut replica = Replica::new(&descriptor, 1, state, log).expect("starts");
        assert!(!replica.is_only_voter());
        let waiter = std::sync::Arc::new(crate::waiter::Waiter::default());
        let lease = Lease { sequence: 1, start: Timestamp::ZERO };
        replica.gather(lease, encode_command(1, &effects(1)), effects(1), Reply::new(waiter));
        replica.step_gathered();
        assert!(!replica.raw.has_ready(), "nothing may reach raft-rs, which would forward it");
    }
}
