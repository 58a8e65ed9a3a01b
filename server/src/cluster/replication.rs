//! Where replicas are: the node that has the lease gives every node a replica, and votes to three of them.
//!
//! A replica without a vote comes first, and is promoted when it has caught up, so that a vote is never one that cannot
//! be given. Two voters would stand still with either of them: the second one waits for a third. Nobody loses a vote by
//! being away; who is away for good will have to be taken out by hand (`cairn node decommission`, not there yet).
//!
//! Every node looks at the registry from time to time for where the others are.

use std::sync::Arc;
use std::time::Duration;

use cairn_kv::seam::NodeId;
use cairn_raft::command::ReplicaRole;
use cairn_raft::{ProposeError, ReplicaProgress, Store};
use tokio::time::{sleep, timeout};

use super::{Opened, Place, RANGE, registry};

/// How often the leaseholder looks.
const ROUND: Duration = Duration::from_secs(1);

/// Rounds after which the others do.
const FOLLOWERS_ROUNDS: u32 = 10;

/// Voters of a range, where there are enough nodes.
const VOTERS: usize = 3;

/// A change of voters that takes longer is looked at again.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps replicas where they belong, for as long as the node lives.
pub async fn run(place: Arc<Place>) {
    let (Some(opened), Some(transport)) = (place.opened(), place.transport()) else {
        unreachable!("it begins when the store is open")
    };
    let mut changes = opened.store.lease_changes();
    let mut rounds = 0;
    let mut held = None;
    let mut last = String::new();
    loop {
        let lease = opened.store.lease(RANGE).map(|lease| lease.sequence);
        if lease != held {
            match lease {
                Some(lease) => tracing::info!(lease, "this node has the lease"),
                None => tracing::info!("this node has the lease no more"),
            }
            held = lease;
        }
        let has_lease = opened.db.has_lease();
        if has_lease || rounds % FOLLOWERS_ROUNDS == 0 {
            match registry::members(&opened.db).await {
                Ok(members) => place.learn(members.into_iter().map(|member| member.peer).collect()),
                Err(error) => tracing::debug!(%error, "the registry of nodes cannot be read"),
            }
        }
        if has_lease && let Err(error) = round(&place, opened).await {
            let why = error.to_string();
            if why != last {
                tracing::info!("replicas stay as they are for now: {why}");
                last = why;
            }
        }
        tokio::select! {
            biased;
            () = place.changed.notified() => rounds = 0,
            is_open = changes.changed() => {
                if !is_open {
                    return;
                }
                rounds = 0;
            }
            () = transport.met() => {
                place.tell_contacts();
                rounds = 0;
            }
            () = sleep(ROUND) => rounds += 1,
        }
    }
}

/// Does what is to be done now.
async fn round(place: &Place, opened: &Opened) -> Result<(), ProposeError> {
    let store = &opened.store;
    let Some(progress) = store.progress(RANGE).await else { return Ok(()) };
    let reached = reached(place);
    for node in reached.iter().filter(|node| !progress.iter().any(|replica| replica.store == **node)) {
        // A node that is not in the registry has a number that may be another's.
        if place.peers().iter().any(|peer| peer.node == *node) {
            tracing::info!(node, "a node gets a replica");
            store.add_learner(RANGE, *node).await?;
            place.changed.notify_one();
        }
    }
    if let Some(voters) = better_voters(&progress, &reached) {
        tracing::info!(?voters, "replicas that have caught up get votes");
        match timeout(CHANGE_TIMEOUT, store.change_voters(RANGE, &voters)).await {
            Ok(changed) => changed?,
            Err(_) => tracing::warn!("the change of voters takes long"),
        }
    }
    Ok(())
}

/// The nodes that can be talked to.
fn reached(place: &Place) -> Vec<NodeId> {
    let peers = place.transport().map(|transport| transport.peers()).unwrap_or_default();
    peers.into_iter().filter(|(_, _, is_connected)| *is_connected).map(|(node, ..)| node).collect()
}

/// The voters that there should be, where that is others than there are.
fn better_voters(progress: &[ReplicaProgress], reached: &[NodeId]) -> Option<Vec<NodeId>> {
    let is_calm =
        |replica: &ReplicaProgress| matches!(replica.role, ReplicaRole::Voter | ReplicaRole::Learner);
    let of_role = |role| progress.iter().filter(move |replica| replica.role == role);
    let mut voters: Vec<NodeId> = of_role(ReplicaRole::Voter).map(|replica| replica.store).collect();
    let ready = |replica: &&ReplicaProgress| {
        reached.contains(&replica.store)
            && !replica.needs_snapshot
            && replica.silent.is_some()
            && replica.is_close
    };
    let missing = VOTERS.saturating_sub(voters.len());
    let learners = of_role(ReplicaRole::Learner).filter(ready).map(|replica| replica.store);
    let promoted: Vec<NodeId> = learners.take(missing).collect();
    if missing == 0 || promoted.len() < missing || !progress.iter().all(is_calm) {
        return None;
    }
    voters.extend(promoted);
    Some(voters)
}

/// Gives the lease to the follower that has come furthest, and waits until it has it: its election may need this
/// node's vote. False: nobody takes it.
pub async fn hand_over(place: &Place) -> bool {
    let Some(opened) = place.opened() else { return false };
    let store = &opened.store;
    if store.lease(RANGE).is_none() {
        return false;
    }
    for _ in 0..HAND_OVER_ATTEMPTS {
        let Some(to) = heir(store, &reached(place)).await else { return false };
        match store.cede(RANGE, to).await {
            Ok(()) => {
                tracing::info!(node = to, "the lease is handed over");
                return taken(place, to).await;
            }
            // It is behind by what is under way: a moment later it may not be.
            Err(error) => tracing::debug!(node = to, %error, "the lease is not handed over"),
        }
        sleep(HAND_OVER_PAUSE).await;
    }
    false
}

/// How often, and how long after one another, a follower is looked for that is not behind.
const HAND_OVER_ATTEMPTS: u32 = 50;
const HAND_OVER_PAUSE: Duration = Duration::from_millis(5);

/// How long the new leaseholder may take to say that it is.
const TAKING_TIMEOUT: Duration = Duration::from_secs(1);

/// The follower that has come furthest, of those that vote and can be talked to.
async fn heir(store: &Store, reached: &[NodeId]) -> Option<NodeId> {
    let mine = store.identity().store;
    let progress = store.progress(RANGE).await?;
    let follows = |replica: &&ReplicaProgress| {
        replica.store != mine && replica.role == ReplicaRole::Voter && reached.contains(&replica.store)
    };
    progress.iter().filter(follows).max_by_key(|replica| replica.matched).map(|replica| replica.store)
}

/// Asks the node that was given the lease until it has it.
async fn taken(place: &Place, node: NodeId) -> bool {
    let transport = place.transport().expect("there since before the store was open");
    let address =
        transport.peers().into_iter().find(|(peer, ..)| *peer == node).map(|(_, address, _)| address);
    let Some(address) = address else { return false };
    let asked = async {
        loop {
            if super::admin::status_of(&address).await.is_ok_and(|status| status.has_lease) {
                return;
            }
            sleep(HAND_OVER_PAUSE).await;
        }
    };
    timeout(TAKING_TIMEOUT, asked).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(store: NodeId, role: ReplicaRole, is_close: bool) -> ReplicaProgress {
        let silent = Some(Duration::ZERO);
        ReplicaProgress { store, replica: store, role, matched: 0, is_close, needs_snapshot: false, silent }
    }

    #[test]
    fn votes_come_to_three_at_once_when_they_have_caught_up() {
        use ReplicaRole::{Learner, Voter, VoterIncoming};
        let all = [2, 3, 4];
        let one = replica(1, Voter, true);
        assert_eq!(better_voters(&[one], &all), None);
        assert_eq!(better_voters(&[one, replica(2, Learner, true)], &all), None, "two are worse than one");
        let three = [one, replica(2, Learner, true), replica(3, Learner, true)];
        assert_eq!(better_voters(&three, &all), Some(vec![1, 2, 3]));
        assert_eq!(better_voters(&three, &[2]), None, "one is away");
        let behind = [one, replica(2, Learner, true), replica(3, Learner, false)];
        assert_eq!(better_voters(&behind, &all), None);
        let mut filled = three;
        filled[2].needs_snapshot = true;
        assert_eq!(better_voters(&filled, &all), None);
        assert_eq!(better_voters(&[one, replica(2, VoterIncoming, true), three[2]], &all), None, "under way");
        let five = [one, replica(2, Voter, false), replica(3, Voter, false), replica(4, Learner, true)];
        assert_eq!(better_voters(&five, &all), None, "three are enough");
    }
}
