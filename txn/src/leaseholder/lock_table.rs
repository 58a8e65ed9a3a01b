//! The lock table: which transaction may change what, for as long as it runs.
//!
//! Locks live in memory. They keep transactions from colliding; that none was lost on the way is
//! what the commit's validation proves (R12). Any bytes can be locked: keys that exist, keys that
//! are absent, and names of objects, which differ in their first byte.
//!
//! Each key has holders (many shared ones, or a single exclusive one) and a queue, first come, first
//! served: a request waits also for incompatible ones before it, so that a stream of readers does
//! not starve a writer. Only a holder that wants more goes to the front. Whoever waits holds no
//! latch.
//!
//! A circle of waiting transactions is looked for whenever one begins to wait. Every new edge of the
//! graph of who waits for whom begins or ends at the transaction that makes a request, so a circle
//! is found by the request that closes it, and that one fails. The exception is a holder that was not
//! known ([`LockTable::yield_to`]): it brings edges of its own, which may close circles without the
//! transaction that found it. Of each the youngest transaction fails, while it waits.
//!
//! One mutex guards everything: an operation is some hundred nanoseconds, and the graph is consistent.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::slot::KeyHash;
use crate::LockStrength;

/// A transaction in the lock table: numbered in order of beginning.
pub type Owner = u64;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The transaction.
    pub owner: Owner,
    /// Its session, for messages.
    pub session: u64,
}

/// Answer to a request.
pub enum Attempt {
    /// Held from now on.
    Granted {
        /// It was held before, shared.
        from_shared: bool,
    },
    /// Held before, as strong or stronger.
    AlreadyHeld,
    /// In the queue.
    Waiting(Waiting),
    /// Waiting would close a circle, described.
    Deadlock(String),
}

/// The lock table of a range.
#[derive(Default)]
pub struct LockTable {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Entries by key; those without holder and waiter are removed.
    entries: HashTable<Entry>,
    /// What each waiting transaction waits for.
    waiting: BTreeMap<Owner, HashedKey>,
    /// Locks that transactions hold without having asked here: their intents, met by others.
    adopted: BTreeMap<Owner, Vec<HashedKey>>,
}

type HashedKey = (Bytes, KeyHash);

struct Entry {
    key: HashedKey,
    holders: SmallVec<[Hold; 1]>,
    queue: VecDeque<Request>,
}

#[derive(Clone, Copy)]
struct Hold {
    who: Requester,
    strength: LockStrength,
}

struct Request {
    who: Requester,
    strength: LockStrength,
    /// Wakes the waiting side: it holds the lock, or fails as part of a circle, described.
    decided: oneshot::Sender<Result<(), String>>,
}

fn compatible(a: LockStrength, b: LockStrength) -> bool {
    a == LockStrength::Shared && b == LockStrength::Shared
}

impl LockTable {
    /// An empty table.
    pub fn new() -> Arc<LockTable> {
        Arc::new(LockTable::default())
    }

    /// Asks for a lock.
    pub fn lock(
        self: &Arc<LockTable>,
        who: Requester,
        key: &Bytes,
        hash: KeyHash,
        strength: LockStrength,
    ) -> Attempt {
        let mut inner = self.inner.lock();
        let entry = inner.entry(key, hash);
        let mut upgrade = false;
        if let Some(own) = entry.holders.iter_mut().find(|hold| hold.who.owner == who.owner) {
            if own.strength == LockStrength::Exclusive || strength == LockStrength::Shared {
                return Attempt::AlreadyHeld;
            }
            upgrade = true;
        }
        let blocked = entry
            .holders
            .iter()
            .any(|hold| hold.who.owner != who.owner && !compatible(hold.strength, strength))
            || (!upgrade && !entry.queue.is_empty());
        if !blocked {
            entry.grant(who, strength);
            return Attempt::Granted { from_shared: upgrade };
        }
        inner.enqueue(self, who, key, hash, strength, upgrade)
    }

    /// `who` was granted `key` and then found that `by` holds it through an intent: `by` becomes the
    /// holder and `who` the first to get it after. Must be called while `by` cannot finish.
    pub fn yield_to(
        self: &Arc<LockTable>,
        who: Requester,
        key: &Bytes,
        hash: KeyHash,
        strength: LockStrength,
        by: Requester,
    ) -> Attempt {
        let mut inner = self.inner.lock();
        let entry = inner.entry(key, hash);
        entry.holders.retain(|hold| hold.who.owner != who.owner);
        let before = entry.holders.iter().find(|hold| hold.who.owner == by.owner).map(|hold| hold.strength);
        if before != Some(LockStrength::Exclusive) {
            // Also where it wrote what it had locked shared: the intent excludes others.
            entry.grant(by, LockStrength::Exclusive);
            // It may have asked in the meantime.
            if let Some(position) = entry.queue.iter().position(|request| request.who.owner == by.owner) {
                let request = entry.queue.remove(position).expect("just found");
                inner.waiting.remove(&by.owner);
                let _ = request.decided.send(Ok(()));
            } else if before.is_none() {
                inner.adopted.entry(by.owner).or_default().push((key.clone(), hash));
            }
        }
        let attempt = inner.enqueue(self, who, key, hash, strength, true);
        if !matches!(attempt, Attempt::Deadlock(_)) {
            inner.break_circles_through(by.owner);
        } else {
            // `who` gives up; whoever is next finds the intent for itself.
            match before {
                None => inner.release(by.owner, key, hash),
                Some(LockStrength::Shared) => inner.back_to_shared(by.owner, key, hash),
                Some(LockStrength::Exclusive) => {}
            }
        }
        attempt
    }

    /// Whether a transaction other than `owner` holds `key`.
    pub fn is_held_by_other(&self, owner: Owner, key: &[u8], hash: KeyHash) -> bool {
        let inner = self.inner.lock();
        inner.find(key, hash).is_some_and(|entry| entry.holders.iter().any(|hold| hold.who.owner != owner))
    }

    /// Lets go of one lock and wakes who may have it now. Not held: nothing happens.
    pub fn release(&self, owner: Owner, key: &[u8], hash: KeyHash) {
        self.inner.lock().release(owner, key, hash);
    }

    /// Takes back what a request was granted: the lock is as it was before.
    pub fn give_back(&self, owner: Owner, key: &[u8], hash: KeyHash, from_shared: bool) {
        let mut inner = self.inner.lock();
        if from_shared {
            inner.back_to_shared(owner, key, hash);
        } else {
            inner.release(owner, key, hash);
        }
    }

    /// Lets go of `keys` and of whatever `owner` was found to hold.
    pub fn release_all<'a>(&self, owner: Owner, keys: impl Iterator<Item = (&'a Bytes, KeyHash)>) {
        let mut inner = self.inner.lock();
        for (key, hash) in keys {
            inner.release(owner, key, hash);
        }
        if !inner.adopted.is_empty() {
            for (key, hash) in inner.adopted.remove(&owner).unwrap_or_default() {
                inner.release(owner, &key, hash);
            }
        }
    }

    /// Lets go of the lock if nobody waits for it; true if so.
    pub fn release_unless_awaited(&self, owner: Owner, key: &[u8], hash: KeyHash) -> bool {
        let mut inner = self.inner.lock();
        if inner.find(key, hash).is_some_and(|entry| !entry.queue.is_empty()) {
            return false;
        }
        inner.release(owner, key, hash);
        true
    }

    /// All entries in order of their keys, for tests and the debugger.
    pub fn describe(&self) -> String {
        let inner = self.inner.lock();
        let mut entries: Vec<&Entry> = inner.entries.iter().collect();
        entries.sort_by(|a, b| a.key.0.cmp(&b.key.0));
        let mut text = String::new();
        for entry in entries {
            let _ = write!(text, "{}:", entry.key.0.escape_ascii());
            for hold in &entry.holders {
                let _ = write!(text, " {}={}", hold.who.session, letter(hold.strength));
            }
            if !entry.queue.is_empty() {
                text.push_str(" <-");
            }
            for request in &entry.queue {
                let _ = write!(text, " {}={}", request.who.session, letter(request.strength));
            }
            text.push('\n');
        }
        text
    }
}

fn letter(strength: LockStrength) -> char {
    match strength {
        LockStrength::Shared => 'S',
        LockStrength::Exclusive => 'X',
    }
}

/// A request in the queue. [`Waiting::granted`] completes when the lock is held, or fails with the
/// circle that it was part of; dropping it before leaves the queue (or gives the lock back).
pub struct Waiting {
    table: Arc<LockTable>,
    who: Requester,
    key: Bytes,
    hash: KeyHash,
    strength: LockStrength,
    /// It held the lock shared before and keeps that when it gives up.
    upgrade_from_shared: bool,
    receiver: oneshot::Receiver<Result<(), String>>,
    done: bool,
}

impl Waiting {
    /// Whether the lock is held already, shared.
    pub fn is_from_shared(&self) -> bool {
        self.upgrade_from_shared
    }

    /// Completes when the lock is held, or with the circle that waiting on would leave closed.
    pub async fn granted(&mut self) -> Result<(), String> {
        let decided =
            (&mut self.receiver).await.expect("a queued request is decided or withdrawn by its waiter");
        self.done = true;
        decided
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut inner = self.table.inner.lock();
        if let Ok(Err(_)) = self.receiver.try_recv() {
            // It was taken out of the queue to break a circle.
            return;
        }
        inner.waiting.remove(&self.who.owner);
        let Some(entry) = inner.find_mut(&self.key, self.hash) else { return };
        let position = entry
            .queue
            .iter()
            .position(|request| request.who.owner == self.who.owner && request.strength == self.strength);
        if let Some(position) = position {
            entry.queue.remove(position);
        } else if self.upgrade_from_shared {
            // Granted, but nobody will know: back to what it was.
            if let Some(hold) = entry.holders.iter_mut().find(|hold| hold.who.owner == self.who.owner) {
                hold.strength = LockStrength::Shared;
            }
        } else {
            entry.holders.retain(|hold| hold.who.owner != self.who.owner);
        }
        inner.settle(&self.key, self.hash);
    }
}

impl Entry {
    fn grant(&mut self, who: Requester, strength: LockStrength) {
        match self.holders.iter_mut().find(|hold| hold.who.owner == who.owner) {
            Some(own) => own.strength = strength,
            None => self.holders.push(Hold { who, strength }),
        }
    }

    fn admits(&self, who: Requester, strength: LockStrength) -> bool {
        self.holders.iter().all(|hold| hold.who.owner == who.owner || compatible(hold.strength, strength))
    }
}

impl Inner {
    fn find(&self, key: &[u8], hash: KeyHash) -> Option<&Entry> {
        self.entries.find(hash.0, |entry| entry.key.0 == key)
    }

    fn find_mut(&mut self, key: &[u8], hash: KeyHash) -> Option<&mut Entry> {
        self.entries.find_mut(hash.0, |entry| entry.key.0 == key)
    }

    fn entry(&mut self, key: &Bytes, hash: KeyHash) -> &mut Entry {
        self.entries
            .entry(hash.0, |entry| entry.key.0 == *key, |entry| entry.key.1.0)
            .or_insert_with(|| Entry {
                key: (key.clone(), hash),
                holders: SmallVec::new(),
                queue: VecDeque::new(),
            })
            .into_mut()
    }

    fn enqueue(
        &mut self,
        table: &Arc<LockTable>,
        who: Requester,
        key: &Bytes,
        hash: KeyHash,
        strength: LockStrength,
        front: bool,
    ) -> Attempt {
        let (decided, receiver) = oneshot::channel();
        let entry = self.entry(key, hash);
        let upgrade_from_shared = entry.holders.iter().any(|hold| hold.who.owner == who.owner);
        let request = Request { who, strength, decided };
        if front {
            // Behind others that went to the front: holders are served in order, too.
            let position = entry
                .queue
                .iter()
                .take_while(|other| entry.holders.iter().any(|hold| hold.who.owner == other.who.owner));
            let position = position.count();
            entry.queue.insert(position, request);
        } else {
            entry.queue.push_back(request);
        }
        assert!(
            self.waiting.insert(who.owner, (key.clone(), hash)).is_none(),
            "a transaction waits for one lock at a time"
        );
        let waiting = Waiting {
            table: Arc::clone(table),
            who,
            key: key.clone(),
            hash,
            strength,
            upgrade_from_shared,
            receiver,
            done: false,
        };
        match self.circle(who.owner) {
            Some(circle) => {
                // Withdraw by hand: dropping `waiting` would take the mutex again.
                let mut waiting = waiting;
                waiting.done = true;
                self.waiting.remove(&who.owner);
                let entry = self.find_mut(key, hash).expect("just entered");
                let position = entry.queue.iter().position(|request| request.who.owner == who.owner);
                entry.queue.remove(position.expect("just queued"));
                self.settle(key, hash);
                Attempt::Deadlock(circle)
            }
            None => Attempt::Waiting(waiting),
        }
    }

    /// Fails requests until `owner` waits in no circle: of those in one, each time the youngest.
    fn break_circles_through(&mut self, owner: Owner) {
        while self.circle(owner).is_some() {
            let youngest = self.waiting.keys().rev().find_map(|other| Some((*other, self.circle(*other)?)));
            let (victim, circle) = youngest.expect("there is a circle");
            let (key, hash) = self.waiting.remove(&victim).expect("it waits");
            let entry = self.find_mut(&key, hash).expect("it waits for it");
            let position = entry.queue.iter().position(|request| request.who.owner == victim);
            let request = entry.queue.remove(position.expect("it is queued")).expect("just found");
            let _ = request.decided.send(Err(circle));
            self.settle(&key, hash);
        }
    }

    fn release(&mut self, owner: Owner, key: &[u8], hash: KeyHash) {
        let Some(entry) = self.find_mut(key, hash) else { return };
        let before = entry.holders.len();
        entry.holders.retain(|hold| hold.who.owner != owner);
        if entry.holders.len() != before {
            self.settle(key, hash);
        }
    }

    fn back_to_shared(&mut self, owner: Owner, key: &[u8], hash: KeyHash) {
        if let Some(entry) = self.find_mut(key, hash)
            && let Some(hold) = entry.holders.iter_mut().find(|hold| hold.who.owner == owner)
        {
            hold.strength = LockStrength::Shared;
            self.settle(key, hash);
        }
    }

    /// Grants what can be granted at the front of the queue; removes an entry that nobody needs.
    fn settle(&mut self, key: &[u8], hash: KeyHash) {
        let Inner { entries, waiting, .. } = self;
        let Ok(mut occupied) = entries.find_entry(hash.0, |entry| entry.key.0 == key) else { return };
        let entry = occupied.get_mut();
        while let Some(first) = entry.queue.front()
            && entry.admits(first.who, first.strength)
        {
            let request = entry.queue.pop_front().expect("looked at");
            entry.grant(request.who, request.strength);
            waiting.remove(&request.who.owner);
            // A receiver that is gone takes the lock back in its `Drop`, which waits for the mutex.
            let _ = request.decided.send(Ok(()));
        }
        if entry.holders.is_empty() && entry.queue.is_empty() {
            occupied.remove();
        }
    }

    /// Whom the waiting `owner` waits for, and for what key.
    fn blockers(&self, owner: Owner) -> Option<(&Bytes, Requester, LockStrength, Vec<Requester>)> {
        let (key, hash) = self.waiting.get(&owner)?;
        let entry = self.find(key, *hash)?;
        let position = entry.queue.iter().position(|request| request.who.owner == owner)?;
        let request = &entry.queue[position];
        let holders = entry.holders.iter().map(|hold| (hold.who, hold.strength));
        let before = entry.queue.iter().take(position).map(|other| (other.who, other.strength));
        let mut blockers: Vec<Requester> = Vec::new();
        for (other, strength) in holders.chain(before) {
            if other.owner != owner
                && !compatible(strength, request.strength)
                && !blockers.iter().any(|known| known.owner == other.owner)
            {
                blockers.push(other);
            }
        }
        Some((key, request.who, request.strength, blockers))
    }

    /// A circle of waiting through `owner`, in words.
    fn circle(&self, owner: Owner) -> Option<String> {
        // Depth first, without recursion: the path so far and what is left to try at each of its steps.
        let mut visited = std::collections::BTreeSet::new();
        let (_, _, _, blockers) = self.blockers(owner)?;
        let mut path = vec![(owner, blockers)];
        while let Some((_, left)) = path.last_mut() {
            let Some(next) = left.pop() else {
                path.pop();
                continue;
            };
            if next.owner == owner {
                return Some(self.tell(path.iter().map(|(owner, _)| *owner)));
            }
            if visited.insert(next.owner)
                && let Some((_, _, _, blockers)) = self.blockers(next.owner)
            {
                path.push((next.owner, blockers));
            }
        }
        None
    }

    fn tell(&self, circle: impl Iterator<Item = Owner>) -> String {
        let steps: Vec<_> = circle.filter_map(|owner| self.blockers(owner)).collect();
        let mut text = String::new();
        for (position, (key, who, strength, _)) in steps.iter().enumerate() {
            let (_, by, _, _) = steps[(position + 1) % steps.len()];
            if position > 0 {
                text.push('\n');
            }
            let kind = match strength {
                LockStrength::Shared => "a shared",
                LockStrength::Exclusive => "an exclusive",
            };
            let _ = write!(
                text,
                "Session {} waits for {kind} lock on key {}; blocked by session {}.",
                who.session,
                key.escape_ascii(),
                by.session
            );
        }
        text
    }
}
