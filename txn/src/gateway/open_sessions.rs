//! What a gateway remembers of its sessions at the leaseholder, for the next one to go on with
//! ([`crate::leaseholder::resume`]).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::leaseholder::tenure::SILENCE;
use crate::wire::{Body, Gateway, OpenLock, OpenSession, Outcome, Request, TxnRef};

/// Locks of a session that are remembered, in bytes, and what is counted for each beside its key.
const MOST_BYTES: usize = 128 << 10;
const OVERHEAD: usize = 24;

/// A lock that is among the last so many is not added once more.
const LOOKED_AT: usize = 8;

/// What is told of all sessions together.
const TOLD_BYTES: usize = 4 << 20;

/// A leaseholder takes a gateway for dead that says nothing for [`SILENCE`]: who was not answered for so long, save for
/// what telling takes, does not know whether it still has its locks.
const CERTAIN: Duration = SILENCE.saturating_sub(Duration::from_millis(200));

/// A gateway's transactions with sessions.
pub struct OpenSessions {
    next: u64,
    open: BTreeMap<u64, Open>,
    /// The newest lease that was told of sessions: answers under earlier ones count for nothing.
    fence: u64,
    /// The newest lease under which a request was answered, and when the last one that was had been sent.
    answered: (u64, u64),
}

struct Open {
    gateway: Gateway,
    /// With the last step that was answered.
    txn: TxnRef,
    /// Under which lease.
    lease: u64,
    locks: Vec<OpenLock>,
    bytes: usize,
    /// The leaseholder has more of it than is known here.
    is_bound: bool,
}

/// A step under way.
pub struct Step {
    /// Whose.
    pub gateway: Gateway,
    txn: TxnRef,
    objects: Vec<Bytes>,
    /// A key, and whether exclusively.
    lock: Option<(Bytes, bool)>,
    /// It leaves something else with the leaseholder.
    pub binds: bool,
    is_last: bool,
    is_commit: bool,
}

impl Step {
    /// A step of a transaction of `gateway`, as it is asked for.
    pub fn of(gateway: Gateway, txn: TxnRef, request: &Request) -> Step {
        let objects = request.objects.as_ref();
        Step {
            gateway,
            txn,
            objects: objects.map(|objects| objects.keys.clone()).unwrap_or_default(),
            lock: match &request.body {
                Some(Body::Lock(lock)) => Some((lock.key.clone(), lock.exclusive)),
                _ => None,
            },
            binds: match &request.body {
                Some(Body::Stage(stage)) => !(stage.reads.points.is_empty() && stage.reads.spans.is_empty()),
                Some(Body::WriteIntents(_)) => true,
                _ => false,
            },
            is_last: matches!(
                &request.body,
                Some(Body::Commit(_) | Body::CommitIntents(_) | Body::End(_) | Body::CollectGarbage(_))
            ),
            is_commit: matches!(&request.body, Some(Body::Commit(_))),
        }
    }
}

/// Whether a last step that fails leaves the session: its locks are kept until its gateway, which may not hear of the
/// failure, ends it. A first step has none.
pub fn leaves_session(txn: TxnRef, is_commit: bool) -> bool {
    is_commit && txn.step > 1
}

impl Default for OpenSessions {
    fn default() -> OpenSessions {
        OpenSessions { next: 1, open: BTreeMap::new(), fence: 0, answered: (0, 0) }
    }
}

impl OpenSessions {
    /// Numbers a transaction of `gateway` whose first step follows.
    pub fn begin(&mut self, gateway: Gateway, txn: TxnRef) -> u64 {
        let number = self.next;
        self.next += 1;
        let txn = TxnRef { number, step: 0, ..txn };
        let open = Open { gateway, txn, lease: 0, locks: Vec::new(), bytes: 0, is_bound: false };
        self.open.insert(number, open);
        number
    }

    /// A request that was sent at `sent_nanos` was answered under `lease`.
    pub fn heard(&mut self, lease: u64, sent_nanos: u64) {
        self.answered = self.answered.max((lease, sent_nanos));
    }

    /// What the transaction has at the leaseholder is not all known here from now on.
    pub fn bind(&mut self, number: u64) {
        if let Some(open) = self.open.get_mut(&number) {
            (open.is_bound, open.locks) = (true, Vec::new());
        }
    }

    /// The lease under which the transaction's last step was answered; zero: none was.
    pub fn lease(&self, number: u64) -> u64 {
        self.open.get(&number).map_or(0, |open| open.lease)
    }

    /// A request was answered under `lease`, and this step, if it is one, was taken, with this outcome; false: that is an
    /// earlier lease than one that knows of the transaction as it was before. So it must be asked for again.
    pub fn settle(&mut self, step: Option<&Step>, lease: u64, outcome: &Outcome) -> bool {
        let Some(step) = step else {
            return lease >= self.fence || !matches!(outcome, Outcome::GatewayGone(_));
        };
        if lease < self.fence {
            return false;
        }
        let has_failed = matches!(outcome, Outcome::Failed(_));
        if step.is_last && !(has_failed && leaves_session(step.txn, step.is_commit)) {
            self.open.remove(&step.txn.number);
        }
        let Some(open) = self.open.get_mut(&step.txn.number) else { return true };
        (open.txn.step, open.lease) = (step.txn.step, lease);
        open.is_bound |= matches!(outcome, Outcome::NoSession(_) | Outcome::GatewayGone(_));
        if open.is_bound || has_failed {
            return true;
        }
        let shared = |key: &Bytes| OpenLock { key: key.clone(), exclusive: false, seen: None };
        let taken = step.lock.iter().map(|(key, exclusive)| {
            let seen = match outcome {
                Outcome::Locked(locked) if !locked.newer && !locked.is_own => Some(locked.ts),
                _ => None,
            };
            OpenLock { key: key.clone(), exclusive: *exclusive, seen }
        });
        for lock in step.objects.iter().map(shared).chain(taken) {
            if !open.locks.iter().rev().take(LOOKED_AT).any(|known| *known == lock) {
                open.bytes += lock.key.len() + OVERHEAD;
                open.locks.push(lock);
            }
        }
        if open.bytes > MOST_BYTES {
            (open.is_bound, open.locks) = (true, Vec::new());
        }
        true
    }

    /// The transaction has no session any more.
    pub fn over(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// All transactions with lower numbers have ended.
    pub fn oldest(&self) -> u64 {
        self.open.first_key_value().map_or(self.next, |(number, _)| *number)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The newest lease that is known to have been told.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// The sessions of `gateway` that the leaseholder of the lease before `lease` certainly had, as they are now, for
    /// `lease` to go on with. `unsure`: also those that it perhaps had.
    pub fn tell(&mut self, gateway: Gateway, lease: u64, now_nanos: u64, unsure: bool) -> Vec<OpenSession> {
        if lease < self.fence {
            return Vec::new();
        }
        self.fence = lease;
        let (answered, sent_nanos) = self.answered;
        let is_certain = answered + 1 == lease && now_nanos < sent_nanos + CERTAIN.as_nanos() as u64;
        if !is_certain && !unsure {
            return Vec::new();
        }
        let goes_on = |open: &&Open| {
            let had_it = open.lease + 1 == lease || (unsure && open.txn.step > 0);
            open.gateway == gateway && !open.is_bound && had_it
        };
        let mut bytes = 0;
        let fits = |open: &&Open| {
            bytes += open.bytes + OVERHEAD;
            bytes <= TOLD_BYTES
        };
        let sessions = self.open.values().filter(goes_on).take_while(fits);
        sessions.map(|open| OpenSession { txn: open.txn, locks: open.locks.clone() }).collect()
    }
}
