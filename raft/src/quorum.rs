//! The followers that a leader waits for.
//!
//! An entry is committed once a quorum has it, so of its voters a leader needs the answers of just enough; who has
//! them first is one of those. The others are told that nobody waits: they gather what comes within a short while
//! ([`crate::cluster`]) into one record of the log, one sync and one answer, which saves the third of three nodes
//! most of its wakeups and syncs under load. One of them that gets ahead of one that is waited for takes its place, so
//! whatever becomes of that one, an entry waits for a gathering once.

/// Of a leader, in one term and by one descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    term: u64,
    generation: u64,
    replicas: Vec<u64>,
}

impl Quorum {
    /// Whether it was made for this term and generation of the descriptor.
    pub fn is_of(&self, term: u64, generation: u64) -> bool {
        (self.term, self.generation) == (term, generation)
    }

    /// As many of `followers`, the other voters and what they have, as make a quorum with the leader: those that have
    /// most.
    pub fn new(term: u64, generation: u64, mut followers: Vec<(u64, u64)>) -> Quorum {
        let needed = followers.len().div_ceil(2);
        followers.sort_by_key(|(_, matched)| std::cmp::Reverse(*matched));
        let replicas = followers.into_iter().take(needed).map(|(replica, _)| replica).collect();
        Quorum { term, generation, replicas }
    }

    /// Whether the leader waits for a voter.
    pub fn has(&self, replica: u64) -> bool {
        self.replicas.contains(&replica)
    }

    /// A voter has answered: if it has more than one of these, it takes its place.
    pub fn answered(&mut self, replica: u64, matched: impl Fn(u64) -> u64) {
        if self.has(replica) {
            return;
        }
        if let Some(least) = self.replicas.iter_mut().min_by_key(|replica| matched(**replica))
            && matched(replica) > matched(*least)
        {
            *least = replica;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_are_needed_and_who_gets_ahead() {
        let mut of_three = Quorum::new(1, 1, vec![(2, 10), (3, 12)]);
        assert!(of_three.has(3) && !of_three.has(2));
        of_three.answered(2, |_| 12);
        assert!(of_three.has(3), "as much is not more");
        of_three.answered(2, |replica| if replica == 2 { 13 } else { 12 });
        assert!(of_three.has(2) && !of_three.has(3));
        let mut of_five = Quorum::new(1, 1, vec![(2, 10), (3, 12), (4, 9), (5, 11)]);
        assert_eq!([2, 3, 4, 5].map(|replica| of_five.has(replica)), [false, true, false, true]);
        of_five.answered(4, |replica| [0, 0, 10, 12, 12, 11][replica as usize]);
        assert_eq!([2, 3, 4, 5].map(|replica| of_five.has(replica)), [false, true, true, false]);
        assert!(Quorum::new(1, 1, vec![(2, 0)]).has(2), "one of two is needed");
    }
}
