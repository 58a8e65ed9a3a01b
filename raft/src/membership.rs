//! Changes of a range's replicas, as functions of its descriptor.
//!
//! A replica comes as a learner, which has no vote, and is filled by a snapshot. Voters change all at once through a
//! joint configuration, in which every decision needs the quorum of the old ones and that of the new ones; it is
//! entered by one entry and left by another. Whoever votes no longer stays as a learner until it is removed. Each
//! entry carries the descriptor that it leads to, which all replicas keep beside what they have applied; an identity
//! is never used again, so that what is late or from a replica that was removed can be told from what is not.

use cairn_kv::seam::NodeId;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};

use crate::command::{RangeDescriptor, ReplicaDescriptor, ReplicaRole};

/// A change of a range's replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A new replica, without a vote, on a store that has none.
    AddLearner(NodeId),
    /// The replicas on these stores are to be the voters.
    Voters(Vec<NodeId>),
    /// The change of voters that is under way is complete.
    Leave,
    /// The store's replica, which has no vote, goes.
    Remove(NodeId),
}

/// What a change leads to, and how raft-rs is told.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) descriptor: RangeDescriptor,
    pub(crate) change: ConfChangeV2,
}

/// The number above every replica's that there was.
pub(crate) fn next_replica(descriptor: &RangeDescriptor) -> u64 {
    let highest = descriptor.replicas.iter().map(|r| r.replica).max().unwrap_or(0);
    descriptor.next_replica.max(highest + 1)
}

/// Whether a change of voters is under way.
pub(crate) fn is_joint(descriptor: &RangeDescriptor) -> bool {
    descriptor.replicas.iter().any(|r| !matches!(r.role(), ReplicaRole::Voter | ReplicaRole::Learner))
}

/// Whether a replica of this role votes when the change of voters that is under way is complete.
pub(crate) fn will_vote(role: ReplicaRole) -> bool {
    matches!(role, ReplicaRole::Voter | ReplicaRole::VoterIncoming)
}

/// What a change comes down to; `None` where it is as asked already.
pub(crate) fn plan(before: &RangeDescriptor, change: &Change) -> Result<Option<Planned>, String> {
    let range = before.range;
    if is_joint(before) != (*change == Change::Leave) {
        return match change {
            Change::Leave => Ok(None),
            _ => Err(format!("a change of the voters of range {range} is under way")),
        };
    }
    let mut after = before.clone();
    after.generation += 1;
    after.next_replica = next_replica(before);
    let mut steps = Vec::new();
    let mut transition = ConfChangeTransition::Auto;
    let step =
        |kind: ConfChangeType, replica: u64| ConfChangeSingle { change_type: kind as i32, node_id: replica };
    match change {
        Change::AddLearner(store) => {
            if before.replicas.iter().any(|r| r.store == *store) {
                return Ok(None);
            }
            let replica = after.next_replica;
            after.next_replica += 1;
            let role = ReplicaRole::Learner as i32;
            after.replicas.push(ReplicaDescriptor { replica, store: *store, role });
            steps.push(step(ConfChangeType::AddLearnerNode, replica));
        }
        Change::Voters(stores) => {
            if stores.is_empty() {
                return Err(format!("range {range} needs a voter"));
            }
            if let Some(missing) =
                stores.iter().find(|store| !before.replicas.iter().any(|r| r.store == **store))
            {
                return Err(format!("range {range} has no replica on store {missing}"));
            }
            for replica in &mut after.replicas {
                let role = match (replica.role(), stores.contains(&replica.store)) {
                    (ReplicaRole::Learner, true) => ReplicaRole::VoterIncoming,
                    (ReplicaRole::Voter, false) => ReplicaRole::LearnerNext,
                    _ => continue,
                };
                replica.role = role as i32;
                let kind = match role {
                    ReplicaRole::VoterIncoming => ConfChangeType::AddNode,
                    _ => ConfChangeType::AddLearnerNode,
                };
                steps.push(step(kind, replica.replica));
            }
            if steps.is_empty() {
                return Ok(None);
            }
            transition = ConfChangeTransition::Explicit;
        }
        Change::Leave => {
            after.replicas.retain(|r| r.role() != ReplicaRole::VoterOutgoing);
            for replica in &mut after.replicas {
                let role = if will_vote(replica.role()) { ReplicaRole::Voter } else { ReplicaRole::Learner };
                replica.role = role as i32;
            }
        }
        Change::Remove(store) => {
            let Some(at) = before.replicas.iter().position(|r| r.store == *store) else { return Ok(None) };
            if before.replicas[at].role() != ReplicaRole::Learner {
                return Err(format!("the replica of range {range} on store {store} votes"));
            }
            steps.push(step(ConfChangeType::RemoveNode, before.replicas[at].replica));
            after.replicas.remove(at);
        }
    }
    let change = ConfChangeV2 { transition: transition as i32, changes: steps, ..ConfChangeV2::default() };
    Ok(Some(Planned { descriptor: after, change }))
}

/// Raft's configuration, from the descriptor.
pub(crate) fn conf_state(descriptor: &RangeDescriptor) -> ConfState {
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
    if is_joint(descriptor) {
        // Plain voters vote in both halves of a joint configuration.
        conf.voters_outgoing
            .extend(descriptor.replicas.iter().filter(|r| r.role() == ReplicaRole::Voter).map(|r| r.replica));
    }
    conf
}

/// Whether two configurations are the same, in whatever order they name their members.
pub(crate) fn is_same(a: &ConfState, b: &ConfState) -> bool {
    let sorted = |of: &ConfState| {
        let mut sets =
            [of.voters.clone(), of.learners.clone(), of.voters_outgoing.clone(), of.learners_next.clone()];
        sets.iter_mut().for_each(|set| set.sort_unstable());
        sets
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(replicas: &[(u64, NodeId, ReplicaRole)]) -> RangeDescriptor {
        let replicas = replicas.iter().map(|(replica, store, role)| ReplicaDescriptor {
            replica: *replica,
            store: *store,
            role: *role as i32,
        });
        RangeDescriptor {
            format: 1,
            range: 1,
            generation: 1,
            replicas: replicas.collect(),
            ..Default::default()
        }
    }

    fn show(descriptor: &RangeDescriptor) -> String {
        let replica = |r: &ReplicaDescriptor| format!("{}@{} {:?}", r.replica, r.store, r.role());
        descriptor.replicas.iter().map(replica).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_voter_is_replaced_in_four_steps_and_numbers_are_never_used_again() {
        use ReplicaRole::Voter;
        let mut now = descriptor(&[(1, 1, Voter), (2, 2, Voter), (3, 3, Voter)]);
        let mut step = |change: Change| {
            let planned = plan(&now, &change).expect("allowed").expect("a change");
            let joint = planned.change.enter_joint();
            assert_eq!(planned.descriptor.generation, now.generation + 1);
            now = planned.descriptor;
            (show(&now), joint)
        };
        assert_eq!(step(Change::AddLearner(4)).0, "1@1 Voter, 2@2 Voter, 3@3 Voter, 4@4 Learner");
        let (joint, explicit) = step(Change::Voters(vec![1, 2, 4]));
        assert_eq!(joint, "1@1 Voter, 2@2 Voter, 3@3 LearnerNext, 4@4 VoterIncoming");
        assert_eq!(explicit, Some(false), "joint, and not left by itself");
        assert_eq!(step(Change::Leave).0, "1@1 Voter, 2@2 Voter, 3@3 Learner, 4@4 Voter");
        assert_eq!(step(Change::Remove(3)).0, "1@1 Voter, 2@2 Voter, 4@4 Voter");
        assert_eq!(step(Change::AddLearner(3)).0, "1@1 Voter, 2@2 Voter, 4@4 Voter, 5@3 Learner");
    }

    #[test]
    fn what_cannot_be_is_refused_and_what_is_so_already_changes_nothing() {
        use ReplicaRole::{Learner, Voter, VoterIncoming};
        let calm = descriptor(&[(1, 1, Voter), (2, 2, Learner)]);
        for (change, refused) in [
            (Change::Voters(vec![]), true),
            (Change::Voters(vec![1, 3]), true),
            (Change::Remove(1), true),
            (Change::Voters(vec![1]), false),
            (Change::AddLearner(2), false),
            (Change::Remove(3), false),
            (Change::Leave, false),
        ] {
            match plan(&calm, &change) {
                Ok(None) => assert!(!refused, "{change:?}"),
                Ok(Some(planned)) => panic!("{change:?}: {planned:?}"),
                Err(_) => assert!(refused, "{change:?}"),
            }
        }
        let joint = descriptor(&[(1, 1, Voter), (2, 2, VoterIncoming)]);
        for change in [Change::AddLearner(3), Change::Voters(vec![1]), Change::Remove(2)] {
            assert!(plan(&joint, &change).is_err(), "{change:?}");
        }
    }
}
