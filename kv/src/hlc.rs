//! The hybrid logical clock (Kulkarni et al., 2014), with a persisted upper bound (R11).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Timestamp;
use crate::seam::Clock;

/// A clock that never repeats and never goes back, also over restarts: it hands out timestamps
/// below a bound that was made durable before (by the log, `cairn-raft`), and a restart starts at
/// the old bound. So no read or commit of an earlier life lies in the future of a later one,
/// whatever the wall clock did in between.
pub struct Hlc {
    clock: Arc<dyn Clock>,
    last: AtomicU64,
    bound: AtomicU64,
}

impl Hlc {
    /// A clock whose timestamps are all at or above `floor` (the bound that recovery found) and
    /// which hands out none before [`Hlc::raise_bound`].
    pub fn new(clock: Arc<dyn Clock>, floor: Timestamp) -> Hlc {
        Hlc { clock, last: AtomicU64::new(floor.0), bound: AtomicU64::new(floor.0) }
    }

    /// A new timestamp above all earlier ones, or `None` when the durable bound must be raised
    /// first.
    pub fn try_now(&self) -> Option<Timestamp> {
        let wall = Timestamp::from_micros(self.clock.wall_micros()).0;
        let mut last = self.last.load(Ordering::SeqCst);
        loop {
            let next = wall.max(last + 1);
            if next >= self.bound.load(Ordering::SeqCst) {
                return None;
            }
            match self.last.compare_exchange_weak(last, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(Timestamp(next)),
                Err(seen) => last = seen,
            }
        }
    }

    /// What the clock shows: at or above everything handed out or observed. It is no timestamp to use, so
    /// no bound holds it.
    pub fn reading(&self) -> Timestamp {
        let wall = Timestamp::from_micros(self.clock.wall_micros()).0;
        Timestamp(wall.max(self.last.load(Ordering::SeqCst)))
    }

    /// A bound worth making durable: `lead_micros` ahead of both the wall clock and the last
    /// timestamp.
    pub fn propose_bound(&self, lead_micros: u64) -> Timestamp {
        let wall = Timestamp::from_micros(self.clock.wall_micros()).0;
        Timestamp(wall.max(self.last.load(Ordering::SeqCst))).add_micros(lead_micros)
    }

    /// The caller has made `bound` durable.
    pub fn raise_bound(&self, bound: Timestamp) {
        self.bound.fetch_max(bound.0, Ordering::SeqCst);
    }

    /// The durable bound.
    pub fn bound(&self) -> Timestamp {
        Timestamp(self.bound.load(Ordering::SeqCst))
    }

    /// Makes every later timestamp greater than `seen`.
    pub fn observe(&self, seen: Timestamp) {
        self.last.fetch_max(seen.0, Ordering::SeqCst);
    }

    /// The newest timestamp handed out or observed.
    pub fn last(&self) -> Timestamp {
        Timestamp(self.last.load(Ordering::SeqCst))
    }
}
