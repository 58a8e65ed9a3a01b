//! A machine: what survives the crashes of a node on it.

use std::sync::Arc;

use super::Env;
use crate::engine::{MemEngine, SharedEngine};

/// A simulated machine with an engine that reverts to its last flush at a crash.
pub struct Machine {
    /// Time, tasks, disk.
    pub env: Env,
    /// The state machine's storage, as it is without the trace.
    pub engine: Arc<MemEngine>,
}

impl Machine {
    /// A new machine.
    pub fn new(seed: u64) -> Machine {
        Machine::of(Env::new(seed))
    }

    /// Another machine in the world of `env`.
    pub fn beside(env: &Env) -> Machine {
        Machine::of(env.beside())
    }

    fn of(env: Env) -> Machine {
        let engine = Arc::new(MemEngine::new());
        let crashed = Arc::clone(&engine);
        env.on_crash(move |rng| crashed.crash(rng.draw()));
        Machine { env, engine }
    }

    /// The engine for the present incarnation of the node, traced.
    pub fn traced_engine(&self) -> SharedEngine {
        self.env.engine(Arc::clone(&self.engine) as SharedEngine)
    }
}
