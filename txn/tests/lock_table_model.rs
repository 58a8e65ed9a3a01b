//! The lock table against a model that is too slow to use: queues as lists, the graph of who waits
//! for whom built anew after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cairn_txn::LockStrength;
use cairn_txn::leaseholder::lock_table::{Attempt, LockTable, Requester, Waiting};
use cairn_txn::leaseholder::slot::KeyHash;
use proptest::prelude::*;

type Owner = u64;
type Key = u8;

const OWNERS: Owner = 6;
const KEYS: Key = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Lock(Owner, Key, LockStrength),
    /// The waiting side looks whether it holds the lock.
    Notice(Owner),
    /// The waiting side gives up.
    GiveUp(Owner),
    Release(Owner, Key),
    ReleaseUnlessAwaited(Owner, Key),
    End(Owner),
    /// The first, a holder, finds an intent of the second.
    Yield(Owner, Key, Owner),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owner = || 1..=OWNERS;
    let key = || 0..KEYS;
    let strength = || {
        prop_oneof![Just(LockStrength::Shared), Just(LockStrength::Exclusive), Just(LockStrength::Exclusive)]
    };
    let step = prop_oneof![
        10 => (owner(), key(), strength()).prop_map(|(owner, key, strength)| Step::Lock(owner, key, strength)),
        4 => owner().prop_map(Step::Notice),
        1 => owner().prop_map(Step::GiveUp),
        1 => (owner(), key()).prop_map(|(owner, key)| Step::Release(owner, key)),
        1 => (owner(), key()).prop_map(|(owner, key)| Step::ReleaseUnlessAwaited(owner, key)),
        2 => owner().prop_map(Step::End),
        2 => (owner(), key(), owner()).prop_map(|(who, key, by)| Step::Yield(who, key, by)),
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// In order of being granted.
    holders: Vec<(Owner, LockStrength)>,
    queue: Vec<(Owner, LockStrength)>,
}

impl Entry {
    fn held_by(&self, owner: Owner) -> Option<LockStrength> {
        self.holders.iter().find(|(holder, _)| *holder == owner).map(|(_, strength)| *strength)
    }

    fn hold(&mut self, owner: Owner, strength: LockStrength) {
        match self.holders.iter_mut().find(|(holder, _)| *holder == owner) {
            Some(held) => held.1 = strength,
            None => self.holders.push((owner, strength)),
        }
    }
}

fn collide(a: LockStrength, b: LockStrength) -> bool {
    !(a == LockStrength::Shared && b == LockStrength::Shared)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Granted,
    AlreadyHeld,
    Waiting,
    Deadlock,
}

/// A request that has queued and has not been noticed or given up.
#[derive(Clone, Copy, Debug)]
struct Asked {
    key: Key,
    from_shared: bool,
    granted: bool,
    /// It was taken out of the queue to break a circle.
    failed: bool,
}

#[derive(Clone, Default)]
struct Model {
    entries: BTreeMap<Key, Entry>,
    asked: BTreeMap<Owner, Asked>,
    adopted: BTreeSet<(Owner, Key)>,
}

impl Model {
    fn lock(&mut self, owner: Owner, key: Key, strength: LockStrength) -> Answer {
        let entry = self.entries.entry(key).or_default();
        let held = entry.held_by(owner);
        if held == Some(LockStrength::Exclusive) || held == Some(strength) {
            return Answer::AlreadyHeld;
        }
        let others = entry.holders.iter().any(|(other, held)| *other != owner && collide(*held, strength));
        if !others && (held.is_some() || entry.queue.is_empty()) {
            entry.hold(owner, strength);
            return Answer::Granted;
        }
        self.enqueue(owner, key, strength, held.is_some())
    }

    fn enqueue(&mut self, owner: Owner, key: Key, strength: LockStrength, front: bool) -> Answer {
        let before = self.clone();
        let entry = self.entries.entry(key).or_default();
        let from_shared = entry.held_by(owner).is_some();
        let ahead = entry.queue.iter().take_while(|(other, _)| entry.held_by(*other).is_some()).count();
        let position = if front { ahead } else { entry.queue.len() };
        entry.queue.insert(position, (owner, strength));
        self.asked.insert(owner, Asked { key, from_shared, granted: false, failed: false });
        if self.circles().contains(&owner) {
            *self = before;
            self.settle(key);
            return Answer::Deadlock;
        }
        Answer::Waiting
    }

    fn yield_to(&mut self, who: Owner, key: Key, by: Owner) -> Answer {
        let entry = self.entries.get_mut(&key).expect("who holds it");
        let strength = entry.held_by(who).expect("who holds it");
        entry.holders.retain(|(holder, _)| *holder != who);
        let held = entry.held_by(by);
        if held != Some(LockStrength::Exclusive) {
            entry.hold(by, LockStrength::Exclusive);
            if entry.queue.iter().any(|(other, _)| *other == by) {
                entry.queue.retain(|(other, _)| *other != by);
                self.asked.get_mut(&by).expect("it waits").granted = true;
            } else if held.is_none() {
                self.adopted.insert((by, key));
            }
        }
        let answer = self.enqueue(who, key, strength, true);
        while answer == Answer::Waiting
            && let Some(victim) = self.circles().pop_last()
        {
            // The youngest of those in a circle.
            let asked = self.asked.get_mut(&victim).expect("it waits");
            asked.failed = true;
            let key = asked.key;
            self.entries.get_mut(&key).expect("it waits").queue.retain(|(other, _)| *other != victim);
            self.settle(key);
        }
        if answer == Answer::Deadlock && held.is_none() {
            self.release(by, key);
        } else if answer == Answer::Deadlock && held == Some(LockStrength::Shared) {
            self.entries.get_mut(&key).expect("it is held").hold(by, LockStrength::Shared);
            self.settle(key);
        }
        answer
    }

    fn release(&mut self, owner: Owner, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.holders.retain(|(holder, _)| *holder != owner);
        }
        self.settle(key);
    }

    fn give_up(&mut self, owner: Owner) {
        let Some(asked) = self.asked.remove(&owner).filter(|asked| !asked.failed) else { return };
        let Some(entry) = self.entries.get_mut(&asked.key) else { return };
        if !asked.granted {
            entry.queue.retain(|(other, _)| *other != owner);
        } else if asked.from_shared && entry.held_by(owner).is_some() {
            entry.hold(owner, LockStrength::Shared);
        } else {
            entry.holders.retain(|(holder, _)| *holder != owner);
        }
        self.settle(asked.key);
    }

    fn end(&mut self, owner: Owner) {
        self.give_up(owner);
        for key in 0..KEYS {
            self.release(owner, key);
        }
        self.adopted.retain(|(adopted, _)| *adopted != owner);
    }

    fn settle(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        while let Some((owner, strength)) = entry.queue.first().copied()
            && entry.holders.iter().all(|(other, held)| *other == owner || !collide(*held, strength))
        {
            entry.queue.remove(0);
            entry.hold(owner, strength);
            self.asked.get_mut(&owner).expect("it waits").granted = true;
        }
        if entry.holders.is_empty() && entry.queue.is_empty() {
            self.entries.remove(&key);
        }
    }

    /// Who waits for whom.
    fn edges(&self) -> BTreeSet<(Owner, Owner)> {
        let mut edges = BTreeSet::new();
        for entry in self.entries.values() {
            for (position, (owner, strength)) in entry.queue.iter().enumerate() {
                for (other, held) in entry.holders.iter().chain(&entry.queue[..position]) {
                    if other != owner && collide(*held, *strength) {
                        edges.insert((*owner, *other));
                    }
                }
            }
        }
        edges
    }

    /// Who waits, by way of others, for itself.
    fn circles(&self) -> BTreeSet<Owner> {
        let mut reached = self.edges();
        loop {
            let further: BTreeSet<_> = reached
                .iter()
                .flat_map(|(a, b)| reached.iter().filter(move |(c, _)| b == c).map(move |(_, d)| (*a, *d)))
                .collect();
            if further.is_subset(&reached) {
                return reached.iter().filter(|(a, b)| a == b).map(|(a, _)| *a).collect();
            }
            reached.extend(further);
        }
    }

    fn describe(&self) -> String {
        let letter = |strength: &LockStrength| if *strength == LockStrength::Shared { 'S' } else { 'X' };
        let mut text = String::new();
        for (key, entry) in &self.entries {
            let _ = write!(text, "k{key}:");
            for (owner, strength) in &entry.holders {
                let _ = write!(text, " {owner}={}", letter(strength));
            }
            if !entry.queue.is_empty() {
                text.push_str(" <-");
            }
            for (owner, strength) in &entry.queue {
                let _ = write!(text, " {owner}={}", letter(strength));
            }
            text.push('\n');
        }
        text
    }
}

fn who(owner: Owner) -> Requester {
    Requester { owner, session: owner }
}

fn named(key: Key) -> (Bytes, KeyHash) {
    let key = Bytes::from(format!("k{key}"));
    let hash = KeyHash::of(&key);
    (key, hash)
}

/// Both side by side.
#[derive(Default)]
struct Pair {
    table: Arc<LockTable>,
    model: Model,
    waiting: BTreeMap<Owner, Waiting>,
}

impl Pair {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Lock(owner, key, strength) if !self.waiting.contains_key(&owner) => {
                let (name, hash) = named(key);
                let attempt = self.table.lock(who(owner), &name, hash, strength);
                let answer = self.model.lock(owner, key, strength);
                self.same(owner, attempt, answer)?;
            }
            Step::Notice(owner) => {
                let Some(waiting) = self.waiting.get_mut(&owner) else { return Ok(()) };
                let polled = {
                    let granted = std::pin::pin!(waiting.granted());
                    granted.poll(&mut Context::from_waker(Waker::noop()))
                };
                let asked = self.model.asked[&owner];
                let expected = match &polled {
                    Poll::Ready(Ok(())) => asked.granted,
                    Poll::Ready(Err(circle)) => {
                        is_circle(circle)?;
                        is_within(owner, circle)?;
                        asked.failed
                    }
                    Poll::Pending => !asked.granted && !asked.failed,
                };
                prop_assert!(expected, "{} is told {:?}, but {:?}", owner, polled, asked);
                if polled.is_ready() {
                    self.waiting.remove(&owner);
                    self.model.asked.remove(&owner);
                }
            }
            Step::GiveUp(owner) => {
                self.waiting.remove(&owner);
                self.model.give_up(owner);
            }
            Step::Release(owner, key) if !self.waiting.contains_key(&owner) => {
                let (name, hash) = named(key);
                self.table.release(owner, &name, hash);
                self.model.release(owner, key);
            }
            Step::ReleaseUnlessAwaited(owner, key) if !self.waiting.contains_key(&owner) => {
                let (name, hash) = named(key);
                let released = self.table.release_unless_awaited(owner, &name, hash);
                let awaited = self.model.entries.get(&key).is_some_and(|entry| !entry.queue.is_empty());
                prop_assert_eq!(released, !awaited);
                if released {
                    self.model.release(owner, key);
                }
            }
            Step::End(owner) => {
                self.waiting.remove(&owner);
                let keys: Vec<_> = (0..KEYS).map(named).collect();
                let held: Vec<_> = (0..KEYS)
                    .filter(|key| {
                        // What it was found to hold it does not know of itself.
                        !self.model.adopted.contains(&(owner, *key))
                    })
                    .map(|key| &keys[usize::from(key)])
                    .collect();
                self.table.release_all(owner, held.into_iter().map(|(key, hash)| (key, *hash)));
                self.model.end(owner);
            }
            Step::Yield(owner, key, by)
                if owner != by
                    && !self.waiting.contains_key(&owner)
                    && self.model.entries.get(&key).is_some_and(|entry| entry.held_by(owner).is_some()) =>
            {
                let strength = self.model.entries[&key].held_by(owner).expect("just looked");
                let (name, hash) = named(key);
                let attempt = self.table.yield_to(who(owner), &name, hash, strength, who(by));
                let answer = self.model.yield_to(owner, key, by);
                self.same(owner, attempt, answer)?;
            }
            _ => {}
        }
        prop_assert_eq!(self.table.describe(), self.model.describe(), "after {:?}", step);
        prop_assert!(self.model.circles().is_empty());
        for owner in 1..=OWNERS {
            for key in 0..KEYS {
                let (name, hash) = named(key);
                let other = self
                    .model
                    .entries
                    .get(&key)
                    .is_some_and(|entry| entry.holders.iter().any(|(holder, _)| *holder != owner));
                prop_assert_eq!(self.table.is_held_by_other(owner, &name, hash), other);
            }
        }
        Ok(())
    }

    fn same(&mut self, owner: Owner, attempt: Attempt, answer: Answer) -> Result<(), TestCaseError> {
        let got = match attempt {
            Attempt::Granted { .. } => Answer::Granted,
            Attempt::AlreadyHeld => Answer::AlreadyHeld,
            Attempt::Waiting(waiting) => {
                self.waiting.insert(owner, waiting);
                Answer::Waiting
            }
            Attempt::Deadlock(circle) => {
                is_circle(&circle)?;
                is_within(owner, &circle)?;
                Answer::Deadlock
            }
        };
        prop_assert_eq!(got, answer);
        Ok(())
    }
}

/// Whoever fails is part of the circle.
fn is_within(owner: Owner, circle: &str) -> Result<(), TestCaseError> {
    prop_assert!(circle.contains(&format!("Session {owner} waits")), "{} fails for {}", owner, circle);
    Ok(())
}

/// Each line's blocker is the next line's waiter, all the way round.
fn is_circle(text: &str) -> Result<(), TestCaseError> {
    let number = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let lines: Vec<(String, String)> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (number(words[1]), number(words.last().expect("words")))
        })
        .collect();
    prop_assert!(lines.len() > 1, "{}", text);
    for (position, (_, by)) in lines.iter().enumerate() {
        prop_assert_eq!(by, &lines[(position + 1) % lines.len()].0, "{}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    /// After every step table and model hold the same locks in the same queues, have granted the same
    /// requests, and have found a deadlock exactly where there is one.
    #[test]
    fn agrees_with_a_model(steps in steps()) {
        let mut pair = Pair::default();
        for step in steps {
            pair.step(step)?;
        }
        for owner in 1..=OWNERS {
            pair.step(Step::End(owner))?;
        }
        prop_assert_eq!(pair.table.describe(), "");
    }
}
