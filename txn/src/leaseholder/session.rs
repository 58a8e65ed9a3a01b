//! Sessions: what the leaseholder knows of transactions of other nodes' gateways between their steps
//! ([`crate::wire`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cairn_kv::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::intent_holder::IntentHolder;
use super::live::{LiveTxns, Pin};
use super::lock_table::Requester;
use crate::CancelToken;
use crate::gateway::held_locks::HeldLocks;
use crate::gateway::read_set::ReadSet;
use crate::wire::{Gateway, Outcome, Request, TxnRef};

/// Last answers of ended sessions that are kept for a gateway's resends. A commit older than these is
/// found by its marker.
const REMEMBERED: usize = 1_024;

/// All gateways that have called.
#[derive(Default)]
pub struct Gateways {
    /// By node.
    known: Mutex<BTreeMap<u64, Known>>,
}

/// What is known of a gateway.
struct Known {
    incarnation: u64,
    /// It will not call again.
    is_gone: bool,
    /// When it was last heard of, monotonic time.
    heard_nanos: u64,
    /// The newest announcement.
    announcement: u64,
    /// Keeps what its reads need.
    pin: Option<Pin>,
    sessions: BTreeMap<u64, Arc<Session>>,
    ended: Ended,
    /// Number, step and answer of sessions that ended last.
    answers: VecDeque<(u64, u64, Outcome)>,
}

/// Numbers of transactions that have ended.
#[derive(Default)]
struct Ended {
    /// All below it have.
    below: u64,
    /// And these: first to last.
    intervals: BTreeMap<u64, u64>,
}

impl Ended {
    fn contains(&self, number: u64) -> bool {
        let interval = self.intervals.range(..=number).next_back();
        number < self.below || interval.is_some_and(|(_, last)| number <= *last)
    }

    fn add(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let last = self.intervals.remove(&(number + 1)).unwrap_or(number);
        match self.intervals.range_mut(..number).next_back() {
            Some((_, before)) if *before + 1 == number => *before = last,
            _ => {
                self.intervals.insert(number, last);
            }
        }
    }

    fn raise(&mut self, below: u64) {
        self.below = self.below.max(below);
        while let Some(first) = self.intervals.first_entry()
            && *first.get() < self.below
        {
            first.remove();
        }
    }
}

/// A session that has ended, or is there already: the locks that it had.
pub struct Over(pub HeldLocks);

/// What a step finds.
pub enum Found {
    /// Its transaction's session.
    Session(Arc<Session>),
    /// The session has ended with this step.
    Answered(Outcome),
    /// There is none (any more).
    Nothing,
}

impl Gateways {
    /// Takes note of what a request announces; returns sessions to end. `None`: its gateway is gone.
    pub fn announce(&self, request: &Request, live: &LiveTxns, nanos: u64) -> Option<Vec<Arc<Session>>> {
        let Gateway { node, incarnation } = request.gateway;
        let mut known = self.known.lock();
        let entry = known.entry(node).or_insert_with(|| Known::new(incarnation));
        let mut over = Vec::new();
        if incarnation > entry.incarnation {
            over = std::mem::replace(entry, Known::new(incarnation)).close(live);
        } else if incarnation < entry.incarnation || entry.is_gone {
            return None;
        }
        entry.heard_nanos = nanos;
        if request.announcement > entry.announcement {
            entry.announcement = request.announcement;
            entry.pin = live.announce(entry.pin.take(), Timestamp(request.oldest_read));
        }
        entry.ended.raise(request.oldest_txn);
        while let Some(oldest) = entry.sessions.first_entry()
            && *oldest.key() < request.oldest_txn
        {
            over.push(oldest.remove());
        }
        Some(over)
    }

    /// The gateway of `node` still waits for an answer.
    pub fn heard(&self, node: u64, nanos: u64) {
        if let Some(entry) = self.known.lock().get_mut(&node) {
            entry.heard_nanos = nanos;
        }
    }

    /// Gateways that have something here and were not heard of since `nanos`.
    pub fn silent_since(&self, nanos: u64) -> Vec<Gateway> {
        let known = self.known.lock();
        let silent = known.iter().filter(|(_, known)| {
            known.heard_nanos < nanos && (!known.sessions.is_empty() || known.pin.is_some())
        });
        silent.map(|(node, known)| Gateway { node: *node, incarnation: known.incarnation }).collect()
    }

    /// A gateway will not call again; returns its sessions, to end.
    pub fn gone(&self, gateway: Gateway, live: &LiveTxns) -> Vec<Arc<Session>> {
        let mut known = self.known.lock();
        let entry = known.entry(gateway.node).or_insert_with(|| Known::new(gateway.incarnation));
        if gateway.incarnation < entry.incarnation {
            return Vec::new();
        }
        let gone = Known { is_gone: true, ..Known::new(gateway.incarnation) };
        std::mem::replace(entry, gone).close(live)
    }

    /// The session of a step. With `begin` it may be begun, by step one.
    pub fn session(&self, gateway: Gateway, txn: TxnRef, begin: Option<&dyn Fn() -> Requester>) -> Found {
        let mut known = self.known.lock();
        let Some(entry) = known.get_mut(&gateway.node) else { return Found::Nothing };
        if entry.incarnation != gateway.incarnation || entry.is_gone {
            return Found::Nothing;
        }
        if let Some(session) = entry.sessions.get(&txn.number) {
            return Found::Session(Arc::clone(session));
        }
        let has_ended = entry.ended.contains(txn.number);
        let named = |(number, step, _): &&(u64, u64, Outcome)| (*number, *step) == (txn.number, txn.step);
        if has_ended && let Some((_, _, answer)) = entry.answers.iter().rev().find(named) {
            return Found::Answered(answer.clone());
        }
        match begin {
            Some(begin) if txn.step == 1 && !has_ended => {
                let session = Arc::new(Session::new(begin()));
                entry.sessions.insert(txn.number, Arc::clone(&session));
                Found::Session(session)
            }
            _ => Found::Nothing,
        }
    }

    /// A session goes on that was begun under an earlier lease.
    pub fn resume(&self, gateway: Gateway, number: u64, session: Arc<Session>) -> Result<(), Over> {
        let mut known = self.known.lock();
        if let Some(entry) = known.get_mut(&gateway.node)
            && entry.incarnation == gateway.incarnation
            && !entry.is_gone
            && !entry.ended.contains(number)
            && !entry.sessions.contains_key(&number)
        {
            entry.sessions.insert(number, session);
            return Ok(());
        }
        let kept = session.turn.lock().kept.take();
        Err(Over(kept.expect("it has done nothing").locks))
    }

    /// A session lacks a step: it is none. Returns what it was.
    pub fn lost(&self, gateway: Gateway, number: u64) -> Option<Arc<Session>> {
        let mut known = self.known.lock();
        let entry = known.get_mut(&gateway.node).filter(|known| known.incarnation == gateway.incarnation)?;
        entry.sessions.remove(&number)
    }

    /// A session has ended with this answer to its last step.
    pub fn ended(&self, gateway: Gateway, txn: TxnRef, answer: Outcome) {
        let mut known = self.known.lock();
        let Some(entry) =
            known.get_mut(&gateway.node).filter(|known| known.incarnation == gateway.incarnation)
        else {
            return;
        };
        entry.sessions.remove(&txn.number);
        entry.ended.add(txn.number);
        if entry.answers.len() == REMEMBERED {
            entry.answers.pop_front();
        }
        entry.answers.push_back((txn.number, txn.step, answer));
    }
}

impl Known {
    fn new(incarnation: u64) -> Known {
        Known {
            incarnation,
            is_gone: false,
            heard_nanos: 0,
            announcement: 0,
            pin: None,
            sessions: BTreeMap::new(),
            ended: Ended::default(),
            answers: VecDeque::new(),
        }
    }

    fn close(self, live: &LiveTxns) -> Vec<Arc<Session>> {
        if let Some(pin) = self.pin {
            live.unpin(pin);
        }
        self.sessions.into_values().collect()
    }
}

/// A transaction's session.
pub struct Session {
    /// The transaction in the lock table.
    pub who: Requester,
    /// Its intents, if it has any.
    holder: Mutex<Option<Arc<IntentHolder>>>,
    turn: Mutex<Turn>,
    changed: Notify,
}

/// What a session keeps from step to step.
#[derive(Default)]
pub struct Kept {
    /// Its locks, and what was seen under them.
    pub locks: HeldLocks,
    /// Reads that were staged.
    pub reads: ReadSet,
    /// It was begun under an earlier lease.
    pub is_resumed: bool,
}

struct Turn {
    /// The newest step.
    step: u64,
    /// Cancels it.
    cancel: CancelToken,
    /// A step that was canceled before it came.
    canceled: u64,
    /// The newest step's, when it is done.
    answer: Option<Outcome>,
    /// While no step is under way and the session has not ended.
    kept: Option<Kept>,
    has_ended: bool,
    /// No step was taken since it was resumed: the next one has to be just that.
    is_strict: bool,
}

/// What a step may do.
pub enum Begun {
    /// Take place; [`Session::done`] or [`Session::over`] ends it.
    Step(Kept, CancelToken),
    /// It has: this is the answer.
    Answered(Outcome),
    /// It is too late.
    Refused,
    /// One before it was taken under an earlier lease, and is not known here.
    Missing,
}

impl Session {
    fn new(who: Requester) -> Session {
        Session::at(who, 0, Kept::default())
    }

    /// A session that was begun under an earlier lease, and has `locks` after `step`.
    pub fn resumed(who: Requester, step: u64, locks: HeldLocks) -> Session {
        Session::at(who, step, Kept { locks, is_resumed: true, ..Kept::default() })
    }

    fn at(who: Requester, step: u64, kept: Kept) -> Session {
        let turn = Turn {
            step,
            cancel: CancelToken::default(),
            canceled: 0,
            answer: None,
            is_strict: kept.is_resumed,
            kept: Some(kept),
            has_ended: false,
        };
        Session { who, holder: Mutex::new(None), turn: Mutex::new(turn), changed: Notify::new() }
    }

    /// Begins a step, or finds out what became of it. A step under way that it overtakes is canceled. `follows`: the last
    /// one of its transaction that was answered was taken under this lease.
    pub async fn begin(&self, step: u64, follows: bool) -> Begun {
        loop {
            let changed = self.changed.notified();
            {
                let mut turn = self.turn.lock();
                if turn.step == step
                    && let Some(answer) = &turn.answer
                {
                    return Begun::Answered(answer.clone());
                }
                // The answer to the last step before it was resumed has come.
                if turn.has_ended || step < turn.step || (turn.is_strict && step == turn.step) {
                    return Begun::Refused;
                }
                // Where a session was begun by a late copy of a first step, others are missing.
                let is_missing =
                    if turn.is_strict { step > turn.step + 1 } else { turn.step > 0 && !follows };
                if step > turn.step && is_missing {
                    return Begun::Missing;
                }
                if step > turn.step {
                    if let Some(kept) = turn.kept.take() {
                        turn.step = step;
                        turn.is_strict = false;
                        turn.answer = None;
                        turn.cancel = CancelToken::default();
                        if turn.canceled == step {
                            turn.cancel.cancel();
                        }
                        return Begun::Step(kept, turn.cancel.clone());
                    }
                    turn.cancel.cancel();
                }
            }
            changed.await;
        }
    }

    /// A step is done.
    pub fn done(&self, kept: Kept, answer: Outcome) {
        let mut turn = self.turn.lock();
        turn.kept = Some(kept);
        turn.answer = Some(answer);
        self.changed.notify_waiters();
    }

    /// The last step is done.
    pub fn over(&self, answer: Option<Outcome>) {
        let mut turn = self.turn.lock();
        turn.has_ended = true;
        turn.answer = answer;
        self.changed.notify_waiters();
    }

    /// Cancels a step, also one that has yet to come.
    pub fn cancel(&self, step: u64) {
        let mut turn = self.turn.lock();
        if turn.step == step {
            turn.cancel.cancel();
        }
        turn.canceled = turn.canceled.max(step);
    }

    /// Waits until no step is under way, which is canceled, and takes what is kept; then there are no more
    /// steps. `None`: it has ended.
    pub async fn close(&self) -> Option<Kept> {
        loop {
            let changed = self.changed.notified();
            {
                let mut turn = self.turn.lock();
                if turn.has_ended {
                    return None;
                }
                if let Some(kept) = turn.kept.take() {
                    turn.has_ended = true;
                    turn.answer = None;
                    self.changed.notify_waiters();
                    return Some(kept);
                }
                turn.cancel.cancel();
            }
            changed.await;
        }
    }

    /// The transaction's intents, if it has any.
    pub fn holder(&self) -> Option<Arc<IntentHolder>> {
        self.holder.lock().clone()
    }

    /// The transaction has intents from here on.
    pub fn enter(&self, enter: impl FnOnce() -> Arc<IntentHolder>) -> Arc<IntentHolder> {
        Arc::clone(self.holder.lock().get_or_insert_with(enter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_numbers_are_few_intervals() {
        let mut ended = Ended::default();
        for number in [1, 2, 4, 3, 9, 7, 8, 20] {
            assert!(!ended.contains(number));
            ended.add(number);
            ended.add(number);
            assert!(ended.contains(number));
        }
        assert_eq!(ended.intervals, BTreeMap::from([(1, 4), (7, 9), (20, 20)]));
        assert!(!ended.contains(0) && !ended.contains(5) && !ended.contains(10));
        ended.raise(8);
        assert!(ended.contains(5) && ended.contains(8) && !ended.contains(10));
        assert_eq!(ended.intervals, BTreeMap::from([(7, 9), (20, 20)]));
    }
}
