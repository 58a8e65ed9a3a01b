//! What a simulation did, as a running hash and, on demand, as lines to read.
//!
//! Two runs of one seed are the same run exactly when their hashes are equal: every scheduling
//! choice, disk operation and engine operation is folded in with its virtual time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

/// Hash of a byte string, for traces (not keyed, not for hash tables).
pub fn hash_bytes(data: &[u8]) -> u64 {
    let mut digest = Digest::default();
    digest.bytes(data);
    digest.value().0
}

/// A running hash of 128 bits: two multiplicative lanes with different constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    a: u64,
    b: u64,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest { a: 0x243f_6a88_85a3_08d3, b: 0x1319_8a2e_0370_7344 }
    }
}

impl Digest {
    /// Folds one word in.
    pub fn word(&mut self, word: u64) {
        self.a = (self.a.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.b = (self.b ^ word).wrapping_mul(0xc2b2_ae3d_27d4_eb4f).rotate_left(29);
    }

    /// Folds a byte string in, its length included.
    pub fn bytes(&mut self, data: &[u8]) {
        self.word(data.len() as u64);
        let (words, rest) = data.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    /// The hash so far.
    pub fn value(&self) -> (u64, u64) {
        (self.a, self.b)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.a, self.b)
    }
}

/// How much of the timeline is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Timeline {
    /// Only the hash.
    Off = 0,
    /// The last lines, for the report of a failure, without the choices of tasks: those are most, and say least.
    Tail = 1,
    /// Every line is printed as it happens.
    Print = 2,
}

/// The kind of event that a task was chosen to run.
pub(super) const POLL: &str = "poll";

/// Lines kept for the report of a failure.
const TAIL_LINES: usize = 400;

/// Hash and timeline of one simulation. Clones share it.
#[derive(Clone)]
pub struct Trace {
    shared: Arc<Shared>,
}

struct Shared {
    level: AtomicU8,
    state: Mutex<State>,
}

struct State {
    digest: Digest,
    events: u64,
    now_nanos: u64,
    tail: VecDeque<String>,
}

impl Trace {
    /// An empty trace.
    pub fn new() -> Trace {
        let state = State { digest: Digest::default(), events: 0, now_nanos: 0, tail: VecDeque::new() };
        Trace {
            shared: Arc::new(Shared { level: AtomicU8::new(Timeline::Off as u8), state: Mutex::new(state) }),
        }
    }

    /// How much of the timeline to keep from now on.
    pub fn set_timeline(&self, level: Timeline) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    /// Virtual time, for the events that follow.
    pub(super) fn set_now(&self, nanos: u64) {
        self.shared.state.lock().now_nanos = nanos;
    }

    /// Folds an event in. `line` is called only where the timeline is kept.
    pub fn event(&self, kind: &'static str, words: &[u64], line: impl FnOnce() -> String) {
        let mut state = self.shared.state.lock();
        let now = state.now_nanos;
        state.digest.bytes(kind.as_bytes());
        state.digest.word(now);
        for word in words {
            state.digest.word(*word);
        }
        state.events += 1;
        self.push_line(&mut state, kind, line);
    }

    /// A line that is no event: what the harness wants to see between them.
    pub fn note(&self, kind: &'static str, line: impl FnOnce() -> String) {
        if self.shared.level.load(Ordering::Relaxed) != Timeline::Off as u8 {
            self.push_line(&mut self.shared.state.lock(), kind, line);
        }
    }

    /// The hash so far and the number of events in it.
    pub fn digest(&self) -> (Digest, u64) {
        let state = self.shared.state.lock();
        (state.digest, state.events)
    }

    /// The last lines of the timeline, where it is kept.
    pub fn tail(&self) -> Vec<String> {
        self.shared.state.lock().tail.iter().cloned().collect()
    }

    fn push_line(&self, state: &mut State, kind: &'static str, line: impl FnOnce() -> String) {
        let level = self.shared.level.load(Ordering::Relaxed);
        if level == Timeline::Off as u8 || level == Timeline::Tail as u8 && kind == POLL {
            return;
        }
        let now = state.now_nanos;
        let text = format!("{:>6}.{:06} {kind:<8} {}", now / 1_000_000_000, now / 1000 % 1_000_000, line());
        if level == Timeline::Print as u8 {
            println!("{text}");
        }
        if state.tail.len() == TAIL_LINES {
            state.tail.pop_front();
        }
        state.tail.push_back(text);
    }
}

impl Default for Trace {
    fn default() -> Trace {
        Trace::new()
    }
}
