//! How long a leader knows that there is no other: until a quorum of its voters' stores no longer
//! supports its own (R10).
//!
//! A voter counts when its store supports the leader's (what [`crate::liveness`] got from it) *and* it has
//! said, in this term, in the same life of its store and the same epoch of support, that it follows this
//! leader. From when it said so until that support is withdrawn, which is not before its hybrid clock has
//! passed the end that it promised, it neither campaigns nor votes for another store
//! ([`crate::replica`]). Another leader needs a vote of each quorum, thus of one of these; its vote carries
//! its clock's reading, so the other leader's lease starts above the time up to which this one served.
//!
//! Life and epoch make stale words harmless: a voter that forgot whom it follows is of another life; one
//! that voted for another after it withdrew its support supports in a later epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_kv::Timestamp;
use cairn_kv::seam::NodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::liveness::{Got, Terms};

/// A leader's knowledge, of one term.
pub struct Fortification {
    me: NodeId,
    /// The stores of each quorum's voters: one set, or two in a joint configuration.
    voters: Vec<Vec<NodeId>>,
    followers: Mutex<Followers>,
    until: AtomicU64,
    changed: Notify,
}

/// Who follows; none when the leadership has ended.
type Followers = Option<BTreeMap<NodeId, Following>>;

/// That a voter follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Following {
    /// Life of its store.
    pub incarnation: u64,
    /// Epoch in which its store supports the leader's.
    pub epoch: u64,
}

impl Fortification {
    /// Of a leader on the store `me`, of which nobody has said yet that they follow.
    pub fn new(me: NodeId, voters: Vec<Vec<NodeId>>, terms: &Terms) -> Fortification {
        let fortification = Fortification {
            me,
            voters,
            followers: Mutex::new(Some(BTreeMap::new())),
            until: AtomicU64::new(0),
            changed: Notify::new(),
        };
        fortification.update(terms);
        fortification
    }

    /// The same leader's, of the same term, when its voters are others. Who follows, without a vote so far, is
    /// counted from then on; where the new voters are not enough yet, it serves nothing until they are. What was
    /// said by a replica on none of `members` is forgotten: there may be another on its store one day.
    pub fn with_voters(
        &self,
        voters: Vec<Vec<NodeId>>,
        members: impl Iterator<Item = NodeId>,
        terms: &Terms,
    ) -> Fortification {
        let members: BTreeSet<NodeId> = members.collect();
        let followers = self.followers.lock().clone().map(|mut followers| {
            followers.retain(|store, _| members.contains(store));
            followers
        });
        let other = Fortification {
            me: self.me,
            voters,
            followers: Mutex::new(followers),
            until: AtomicU64::new(0),
            changed: Notify::new(),
        };
        other.update(terms);
        other
    }

    /// Whether the replica on `store` follows, and its store supports this one.
    pub fn is_followed_by(&self, store: NodeId, terms: &Terms) -> bool {
        self.followers.lock().as_ref().is_some_and(|followers| support(followers, store, terms).is_some())
    }

    /// The voter on `store` says that it follows.
    pub fn follows(&self, store: NodeId, following: Following, terms: &Terms) {
        let known = match &mut *self.followers.lock() {
            Some(followers) if following.epoch != 0 => followers.insert(store, following),
            _ => return,
        };
        if known != Some(following) {
            self.update(terms);
        }
    }

    /// The support that stores give has changed.
    pub fn update(&self, terms: &Terms) {
        let guard = self.followers.lock();
        let Some(followers) = &*guard else { return };
        let until = |store: &NodeId| {
            if *store == self.me {
                return Timestamp::MAX;
            }
            support(followers, *store, terms).map_or(Timestamp::ZERO, |got| got.until)
        };
        let of_quorum = |voters: &Vec<NodeId>| {
            let mut ends: Vec<Timestamp> = voters.iter().map(until).collect();
            ends.sort_unstable_by(|a, b| b.cmp(a));
            ends.get(voters.len() / 2).copied().unwrap_or(Timestamp::ZERO)
        };
        let until = self.voters.iter().map(of_quorum).min().unwrap_or(Timestamp::ZERO);
        self.until.store(until.0, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Completes when [`Fortification::until`] may have changed since this was called.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Until when there is certainly no other leader.
    #[inline]
    pub fn until(&self) -> Timestamp {
        Timestamp(self.until.load(Ordering::SeqCst))
    }

    /// It leads no longer, or is about to give way.
    pub fn end(&self) {
        let mut followers = self.followers.lock();
        *followers = None;
        self.until.store(0, Ordering::SeqCst);
        self.changed.notify_waiters();
    }
}

/// The support of a store whose replica has said, in that life and epoch, that it follows.
fn support(followers: &BTreeMap<NodeId, Following>, store: NodeId, terms: &Terms) -> Option<Got> {
    let (said, got) = (followers.get(&store)?, terms.got(store)?);
    ((said.incarnation, said.epoch) == (got.incarnation, got.epoch)).then_some(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::{LivenessConfig, LivenessMessage, Now, Support};

    fn terms() -> Terms {
        let now = Now { hlc: Timestamp::ZERO, wall_micros: 0, nanos: 0 };
        Terms::begin(None, LivenessConfig::default(), now).expect("new")
    }

    fn supported(terms: &mut Terms, by: NodeId, incarnation: u64, epoch: u64, until: u64) {
        let give = Some(Support { epoch, until });
        let message = LivenessMessage { format: 1, incarnation, give, ..LivenessMessage::default() };
        terms.receive(by, &message, Now { hlc: Timestamp::ZERO, wall_micros: 0, nanos: 0 });
    }

    #[test]
    fn a_sole_voter_needs_nobody() {
        let fortification = Fortification::new(1, vec![vec![1]], &terms());
        assert_eq!(fortification.until(), Timestamp::MAX);
        fortification.end();
        fortification.update(&terms());
        assert_eq!(fortification.until(), Timestamp::ZERO, "what has ended stays so");
    }

    #[test]
    fn the_quorum_that_lasts_longest_counts_and_only_who_follows() {
        let mut terms = terms();
        let fortification = Fortification::new(1, vec![vec![1, 2, 3, 4, 5]], &terms);
        for (store, until) in [(2, 20), (3, 30), (4, 40), (5, 50)] {
            supported(&mut terms, store, 1, 1, until);
        }
        fortification.update(&terms);
        assert_eq!(fortification.until(), Timestamp::ZERO, "supported, but followed by nobody");
        let follows = |store| fortification.follows(store, Following { incarnation: 1, epoch: 1 }, &terms);
        follows(2);
        assert_eq!(fortification.until(), Timestamp::ZERO);
        follows(5);
        assert_eq!(fortification.until(), Timestamp(20));
        follows(4);
        assert_eq!(fortification.until(), Timestamp(40));
        assert!(!fortification.is_followed_by(3, &terms));
        follows(3);
        assert!(fortification.is_followed_by(3, &terms));
        assert_eq!(fortification.until(), Timestamp(40));
    }

    #[test]
    fn another_life_or_epoch_does_not_count() {
        let mut terms = terms();
        let fortification = Fortification::new(1, vec![vec![1, 2, 3]], &terms);
        supported(&mut terms, 2, 1, 1, 20);
        fortification.follows(2, Following { incarnation: 1, epoch: 1 }, &terms);
        assert_eq!(fortification.until(), Timestamp(20));
        supported(&mut terms, 2, 2, 1, 40);
        fortification.update(&terms);
        assert_eq!(fortification.until(), Timestamp::ZERO, "it has restarted");
        fortification.follows(2, Following { incarnation: 2, epoch: 0 }, &terms);
        assert_eq!(fortification.until(), Timestamp::ZERO, "it follows without support");
        fortification.follows(2, Following { incarnation: 2, epoch: 1 }, &terms);
        assert_eq!(fortification.until(), Timestamp(40));
    }

    #[test]
    fn new_voters_count_from_what_they_said_before() {
        let mut terms = terms();
        let alone = Fortification::new(1, vec![vec![1]], &terms);
        let joint = |members: &[NodeId], terms: &Terms| {
            let voters = vec![vec![1], vec![1, 2, 3]];
            alone.with_voters(voters, members.iter().copied(), terms).until()
        };
        assert_eq!(joint(&[2, 3], &terms), Timestamp::ZERO);
        supported(&mut terms, 2, 1, 1, 20);
        alone.follows(2, Following { incarnation: 1, epoch: 1 }, &terms);
        assert!(alone.is_followed_by(2, &terms) && !alone.is_followed_by(3, &terms));
        assert_eq!(alone.until(), Timestamp::MAX);
        assert_eq!(joint(&[2, 3], &terms), Timestamp(20));
        assert_eq!(joint(&[3], &terms), Timestamp::ZERO, "that one is no member");
        alone.end();
        assert_eq!(joint(&[2, 3], &terms), Timestamp::ZERO, "what has ended stays so");
    }

    #[test]
    fn a_joint_configuration_needs_both_quorums() {
        let mut terms = terms();
        let fortification = Fortification::new(1, vec![vec![1, 2, 3], vec![1, 4, 5]], &terms);
        for (store, until) in [(2, 20), (4, 40)] {
            supported(&mut terms, store, 1, 1, until);
            fortification.follows(store, Following { incarnation: 1, epoch: 1 }, &terms);
        }
        assert_eq!(fortification.until(), Timestamp(20));
    }
}
