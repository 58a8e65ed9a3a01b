//! What clients asked and what they were told, for the checkers.
//!
//! An invocation is recorded before its request leaves, its outcome after the answer has come. What
//! has no outcome at the end was in flight at a crash: it may have happened or not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::check::linear::Operation;
use crate::check::serial::Transaction;
use crate::client::{Failure, Table};

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No answer: in flight at a crash.
    Unknown,
    /// Acknowledged.
    Committed,
    /// Certainly without effect.
    Aborted,
}

/// When a transaction was begun and answered, and what became of it.
#[derive(Clone, Debug)]
pub struct Course {
    /// Event number of the beginning.
    pub invoked: u64,
    /// Event number of the answer that it was committed.
    pub answered: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Course {
    /// Of one that begins.
    pub fn begun(invoked: u64) -> Course {
        Course { invoked, answered: None, outcome: Outcome::Unknown }
    }

    /// It was answered. Neither a conflict nor a taken key leaves anything of it.
    pub fn end(&mut self, answered: u64, result: &Result<(), Failure>) {
        self.outcome = match result {
            Ok(()) => Outcome::Committed,
            Err(Failure::Retry(_) | Failure::Duplicate) => Outcome::Aborted,
            Err(_) => Outcome::Unknown,
        };
        self.answered = (self.outcome == Outcome::Committed).then_some(answered);
    }
}

/// A transfer of the bank workload.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// From this account.
    pub from: i64,
    /// To this one.
    pub to: i64,
    /// This much.
    pub amount: i64,
    /// What became of it.
    pub outcome: Outcome,
}

/// A batch of the load workload: rows whose value is its number.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Where it is loaded to.
    pub table: Table,
    /// Rows.
    pub count: i64,
    /// What became of it.
    pub outcome: Outcome,
}

/// The life of an element of the set workload.
#[derive(Clone, Copy, Debug)]
pub struct Element {
    /// What became of its insertion.
    pub inserted: Outcome,
    /// What became of its deletion, if one was tried.
    pub deleted: Option<Outcome>,
    /// Insertions of the same key again that may have taken effect.
    pub reinsertions: u32,
}

/// All histories of one run.
#[derive(Default)]
pub struct Histories {
    /// Register workload.
    pub operations: Vec<Operation>,
    /// Random transactions.
    pub transactions: Vec<Transaction>,
    /// Append workload.
    pub appends: Vec<crate::check::append::Transaction>,
    /// Bank workload, by transfer.
    pub transfers: BTreeMap<i64, Transfer>,
    /// Load workload, by number.
    pub batches: BTreeMap<i64, Batch>,
    /// Set workload, by key.
    pub elements: BTreeMap<i64, Element>,
    /// Whole accounts tables as read at a snapshot, for time travel.
    pub snapshots: Vec<(String, Vec<(i64, i64)>)>,
    /// What a client saw that it must not have seen.
    pub violations: Vec<String>,
}

/// Shared by all clients of a run.
pub struct Recorder {
    events: AtomicU64,
    commits: AtomicU64,
    /// Commits at which `enough` is told.
    awaited: AtomicU64,
    enough: Notify,
    conflicts: AtomicU64,
    unknown: AtomicU64,
    next_id: AtomicU64,
    is_powered: Box<dyn Fn() -> bool + Send + Sync>,
    histories: Mutex<Histories>,
}

impl Recorder {
    /// An empty history. `is_powered` says whether an answer that comes now has really been given.
    pub fn new(is_powered: impl Fn() -> bool + Send + Sync + 'static) -> Recorder {
        Recorder {
            events: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            awaited: AtomicU64::new(u64::MAX),
            enough: Notify::new(),
            conflicts: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            is_powered: Box::new(is_powered),
            histories: Mutex::default(),
        }
    }

    /// Order of invocations and answers: one number each.
    pub fn event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::SeqCst)
    }

    /// A number never used before, for keys and values.
    pub fn unique(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::SeqCst) as i64
    }

    /// Changes the histories by an invocation.
    pub fn invoke<T>(&self, record: impl FnOnce(&mut Histories) -> T) -> T {
        record(&mut self.histories.lock())
    }

    /// Changes the histories by an answer, unless the node was dead when it came.
    pub fn answer(&self, record: impl FnOnce(&mut Histories)) {
        if (self.is_powered)() {
            record(&mut self.histories.lock());
        }
    }

    /// Counts an acknowledged transaction that wrote.
    pub fn committed(&self) {
        if (self.is_powered)() {
            let commits = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
            if commits == self.awaited.load(Ordering::SeqCst) {
                self.enough.notify_one();
            }
        }
    }

    /// From now on [`Recorder::enough`] waits for `commits` in all.
    pub fn await_commits(&self, commits: u64) {
        self.awaited.store(commits, Ordering::SeqCst);
    }

    /// Completes when the awaited number of commits is reached, perhaps before.
    pub async fn enough(&self) {
        self.enough.notified().await;
    }

    /// Counts a conflict shown to a client.
    pub fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts an outcome that a client did not get to know.
    pub fn unknown(&self) {
        self.unknown.fetch_add(1, Ordering::SeqCst);
    }

    /// Acknowledged transactions that wrote.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Conflicts shown to clients.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::SeqCst)
    }

    /// Outcomes that clients did not get to know.
    pub fn unknowns(&self) -> u64 {
        self.unknown.load(Ordering::SeqCst)
    }

    /// Reports what must not be.
    pub fn violation(&self, what: String) {
        self.answer(|h| h.violations.push(what));
    }

    /// Whether something was reported.
    pub fn is_violated(&self) -> bool {
        !self.histories.lock().violations.is_empty()
    }

    /// The histories, for the checkers.
    pub fn with<T>(&self, look: impl FnOnce(&Histories) -> T) -> T {
        look(&self.histories.lock())
    }
}
