//! The simulator's seams: a whole node in one thread, from one seed.
//!
//! [`Env`] holds virtual time, the executor, a disk that loses what disks lose, and the trace. As a
//! test double it takes three lines:
//!
//! ```
//! # use cairn_kv::{seam, sim};
//! # async fn open_something(_seams: seam::Env) -> u64 { 7 }
//! let env = sim::Env::new(42);
//! let seams = env.seams(); // what Store::open and its like take
//! let answer = env.block_on(async move { open_something(seams).await });
//! # assert_eq!(answer, 7);
//! ```
//!
//! Crashes:
//!
//! - [`Env::crash`] between two `block_on`s: disk and engine revert to what was durable (plus torn
//!   pieces), every task of the node is dropped; `env.seams()` then gives the next incarnation's.
//! - [`Env::crash_after_polls`] and [`Env::crash_after_operations`] plan one inside the next
//!   [`Env::run`], which then returns [`Stopped::Crashed`] with the crash done.
//!
//! An engine is wrapped by [`Env::engine`]; what its memory loses at a crash is the engine's own
//! business, so a crash runs the hook of [`Env::on_crash`], once for every crash.
//!
//! Several machines: [`Env::beside`] adds one to a world, [`SimNetwork`] connects them, and
//! [`Env::run_beside`] drives them all from a future of the first, which stands for the world outside: their
//! crashes do not end it.
//!
//! Nothing here reads a real clock or entropy: the same seed and the same code give the same
//! [`Trace`].

mod clock;
mod disk;
mod engine;
mod executor;
mod machine;
mod network;
mod rng;
mod trace;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::SharedEngine;
use crate::seam;

pub use clock::{EPOCH_MICROS, SimClock};
pub use disk::{Faults, SimDisk};
pub use engine::TracedEngine;
pub use executor::{SimExecutor, SimRuntime, Stopped, Timer};
pub use machine::Machine;
pub use network::{Link, SimNetwork};
pub use rng::SimRng;
pub use trace::{Digest, Timeline, Trace, hash_bytes};

/// One simulated machine.
pub struct Env {
    /// What everything is drawn from.
    pub seed: u64,
    /// Hash and timeline.
    pub trace: Trace,
    /// Time; the wall clock can jump.
    pub clock: Arc<SimClock>,
    /// Files.
    pub disk: SimDisk,
    /// Tasks.
    pub executor: SimExecutor,
    /// The node's randomness.
    rng: Arc<SimRng>,
    crash_rng: SimRng,
    on_crash: Mutex<Vec<CrashHook>>,
}

type CrashHook = Box<dyn FnMut(&SimRng) + Send>;

impl Env {
    /// A machine whose every choice is drawn from `seed`.
    pub fn new(seed: u64) -> Env {
        let trace = Trace::new();
        let clock = Arc::new(SimClock::new(trace.clone()));
        Env {
            seed,
            disk: SimDisk::new(SimRng::stream(seed, "disk"), trace.clone()),
            executor: SimExecutor::new(Arc::clone(&clock), SimRng::stream(seed, "schedule"), trace.clone()),
            rng: Arc::new(SimRng::stream(seed, "node")),
            crash_rng: SimRng::stream(seed, "crash"),
            on_crash: Mutex::default(),
            clock,
            trace,
        }
    }

    /// Another machine in the same world: time, schedule and trace are shared; wall clock, disk and
    /// randomness are its own.
    pub fn beside(&self) -> Env {
        let (executor, number) = self.executor.beside();
        let stream = |name: &str| SimRng::stream(self.seed, &format!("{name} {number}"));
        Env {
            seed: self.seed,
            trace: self.trace.clone(),
            clock: Arc::new(self.clock.beside()),
            disk: SimDisk::new(stream("disk"), self.trace.clone()),
            executor,
            rng: Arc::new(stream("node")),
            crash_rng: stream("crash"),
            on_crash: Mutex::default(),
        }
    }

    /// The seams of the present incarnation of the node, which has no peers. Those of an earlier one
    /// are inert.
    pub fn seams(&self) -> seam::Env {
        self.seams_with(Arc::new(seam::NoPeers))
    }

    /// As [`Env::seams`], for a node with peers.
    pub fn seams_with(&self, transport: Arc<dyn seam::Transport>) -> seam::Env {
        let runtime = self.executor.runtime();
        seam::Env {
            transport,
            clock: Arc::clone(&self.clock) as Arc<dyn seam::Clock>,
            rng: Arc::clone(&self.rng) as Arc<dyn seam::Rng>,
            disk: self.disk.handle(runtime.clone()),
            runtime: Arc::new(runtime),
        }
    }

    /// `inner` as the present incarnation sees it: traced, and refusing writes after the crash.
    pub fn engine(&self, inner: SharedEngine) -> SharedEngine {
        Arc::new(TracedEngine::new(inner, self.executor.runtime(), self.trace.clone()))
    }

    /// Calls `hook` at every crash, after the disk has reverted and before tasks are dropped.
    pub fn on_crash(&self, hook: impl FnMut(&SimRng) + Send + 'static) {
        self.on_crash.lock().push(Box::new(hook));
    }

    /// Drives the node until `future` completes, or a planned crash, which is then carried out.
    pub fn run<F: Future>(&self, future: F) -> Result<F::Output, Stopped> {
        let mut root = Box::pin(future);
        let result = self.executor.run(&mut root);
        if matches!(result, Err(Stopped::Crashed)) {
            self.cut_power();
            drop(root);
            self.drop_tasks();
        }
        result
    }

    /// Drives this machine, which must not crash, and the `others` of its world until `future`
    /// completes. Planned crashes of the others are carried out; `crashed` is told which.
    pub fn run_beside<F: Future>(
        &self,
        others: &[&Env],
        mut crashed: impl FnMut(usize),
        future: F,
    ) -> Result<F::Output, Stopped> {
        let mut root = Box::pin(future);
        loop {
            let result = self.executor.run(&mut root);
            let due = others.iter().position(|env| env.executor.crash_is_due());
            match (result, due) {
                (Err(Stopped::Crashed), Some(due)) => {
                    others[due].crash();
                    crashed(due);
                }
                (result, _) => return result,
            }
        }
    }

    /// Like [`Env::run`] where neither crash nor deadlock is expected: panics on them.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self.run(future) {
            Ok(output) => output,
            Err(stopped) => panic!("seed {}: the simulation stopped: {stopped:?}", self.seed),
        }
    }

    /// Crashes now.
    pub fn crash(&self) {
        self.cut_power();
        self.drop_tasks();
    }

    /// Plans a crash in place of the poll that is `polls` further from here.
    pub fn crash_after_polls(&self, polls: u64) {
        self.executor.crash_after_polls(polls);
    }

    /// Plans a crash at the disk or engine operation that is `operations` further from here.
    pub fn crash_after_operations(&self, operations: u32) {
        self.executor.crash_after_operations(operations);
    }

    /// Lets `duration` of virtual time pass.
    pub fn pass(&self, duration: Duration) {
        self.block_on(self.executor.runtime().timer(duration.as_nanos() as u64));
    }

    /// From here on nothing the old incarnation does has an effect.
    fn cut_power(&self) {
        self.executor.begin_incarnation();
        self.disk.crash();
        for hook in &mut *self.on_crash.lock() {
            hook(&self.crash_rng);
        }
    }

    fn drop_tasks(&self) {
        let dropped = self.executor.drop_tasks();
        self.trace.event("crash", &[dropped as u64], || format!("{dropped} tasks dropped"));
    }
}
