//! Simulated time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::seam::Clock;

use super::trace::Trace;

/// Where simulated wall clocks start: 2026-01-01 00:00:00 UTC.
pub const EPOCH_MICROS: u64 = 1_767_225_600_000_000;

/// Monotonic time is the executor's virtual time; wall time is that plus an offset that can jump.
pub struct SimClock {
    /// Shared by the machines of a world.
    nanos: Arc<AtomicU64>,
    wall_offset_micros: AtomicI64,
    trace: Trace,
}

impl SimClock {
    pub(super) fn new(trace: Trace) -> SimClock {
        SimClock { nanos: Arc::default(), wall_offset_micros: AtomicI64::new(0), trace }
    }

    /// The clock of another machine: the same virtual time, a wall clock of its own.
    pub(super) fn beside(&self) -> SimClock {
        SimClock {
            nanos: Arc::clone(&self.nanos),
            wall_offset_micros: AtomicI64::new(0),
            trace: self.trace.clone(),
        }
    }

    /// Virtual time, nanoseconds since the simulation began.
    pub fn now_nanos(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }

    /// Moves the wall clock forward, or back when negative.
    pub fn jump(&self, micros: i64) {
        self.wall_offset_micros.fetch_add(micros, Ordering::Relaxed);
        self.trace.event("clock", &[micros as u64], || format!("wall jumps by {micros} µs"));
    }

    pub(super) fn advance_to(&self, nanos: u64) {
        self.nanos.store(nanos, Ordering::Relaxed);
        self.trace.set_now(nanos);
    }
}

impl Clock for SimClock {
    fn wall_micros(&self) -> u64 {
        (EPOCH_MICROS + self.now_nanos() / 1000)
            .saturating_add_signed(self.wall_offset_micros.load(Ordering::Relaxed))
    }

    fn monotonic_nanos(&self) -> u64 {
        self.now_nanos()
    }
}
