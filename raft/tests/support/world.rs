//! Several machines in one world.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use cairn_kv::seam::{Clock, NodeId, Runtime};
use cairn_kv::sim::{Env, Link, Machine, SimNetwork};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Faults, Founding, ProposeError, ReplicaProgress, Store, StoreConfig};

use super::small;

/// Clocks may be off from each other by at most 100 ms.
pub const MOST_OFF_MICROS: u64 = 80_000;

/// Machines, and what runs on them.
pub struct World {
    /// Stands for the world outside: it does not crash.
    pub outside: Env,
    /// Numbers of the nodes.
    pub ids: Vec<NodeId>,
    /// The first range's voters by each node's founding.
    founded_with: Vec<Vec<NodeId>>,
    pub machines: Vec<Machine>,
    pub network: SimNetwork,
    stores: RefCell<Vec<Option<Arc<Store>>>>,
    pub config: StoreConfig,
    pub crashes: Cell<u32>,
    /// Says of a machine that has just crashed what is left on it.
    pub describe: Option<fn(&Machine) -> String>,
    /// What was said.
    pub described: RefCell<Vec<String>>,
}

impl World {
    /// Three nodes with a replica each.
    pub fn new(seed: u64, faults: Faults) -> World {
        World::founded(seed, faults, vec![vec![1, 2, 3]; 3])
    }

    /// A node that is alone at first, and others that have joined it.
    pub fn joining(seed: u64, faults: Faults, nodes: usize) -> World {
        let mut founded_with = vec![vec![]; nodes];
        founded_with[0] = vec![1];
        World::founded(seed, faults, founded_with)
    }

    fn founded(seed: u64, faults: Faults, founded_with: Vec<Vec<NodeId>>) -> World {
        let outside = Env::new(seed);
        World {
            ids: (1..).take(founded_with.len()).collect(),
            machines: founded_with.iter().map(|_| Machine::beside(&outside)).collect(),
            network: SimNetwork::new(&outside),
            outside,
            stores: RefCell::new(vec![None; founded_with.len()]),
            founded_with,
            config: StoreConfig { hlc_lead_micros: 50_000, faults, ..small() },
            crashes: Cell::new(0),
            describe: None,
            described: RefCell::default(),
        }
    }

    /// Drives the world until `future` completes.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let envs: Vec<&Env> = self.machines.iter().map(|m| &m.env).collect();
        let crashed = |node: usize| {
            self.crashes.set(self.crashes.get() + 1);
            self.stores.borrow_mut()[node] = None;
            if let Some(describe) = self.describe {
                self.described.borrow_mut().push(describe(&self.machines[node]));
            }
        };
        match self.outside.run_beside(&envs, crashed, future) {
            Ok(output) => output,
            Err(stopped) => panic!("seed {}: {stopped:?}", self.outside.seed),
        }
    }

    pub async fn start(&self, node: usize) {
        let machine = &self.machines[node];
        let id = self.ids[node];
        let env = machine.env.seams_with(self.network.endpoint(id, &machine.env));
        let founding =
            Founding { cluster: Some([7; 16]), store: id, voters: self.founded_with[node].clone() };
        // As a task of the node: a crash ends it, and not the world.
        let opened = Arc::new(parking_lot::Mutex::new(None));
        let slot = Arc::clone(&opened);
        let (engine, config) = (machine.traced_engine(), self.config.clone());
        let runtime = Arc::clone(&env.runtime);
        let open = async move {
            let store = Store::open_or_found(env, engine, config, founding).await;
            *slot.lock() = Some(store);
        };
        runtime.spawn("open", Box::pin(open));
        let incarnation = machine.env.executor.incarnation();
        loop {
            self.sleep(1).await;
            if machine.env.executor.incarnation() != incarnation {
                return;
            }
            if let Some(store) = opened.lock().take() {
                let store = store.unwrap_or_else(|e| panic!("seed {}: {id}: {e}", self.outside.seed));
                self.stores.borrow_mut()[node] = Some(store);
                return;
            }
        }
    }

    pub fn crash(&self, node: usize) {
        self.stores.borrow_mut()[node] = None;
        self.machines[node].env.crash();
        self.crashes.set(self.crashes.get() + 1);
    }

    pub fn store(&self, node: usize) -> Option<Arc<Store>> {
        self.stores.borrow()[node].clone()
    }

    pub async fn sleep(&self, ms: u64) {
        self.outside.executor.runtime().sleep(Duration::from_millis(ms)).await;
    }

    pub fn now_ms(&self) -> u64 {
        self.outside.clock.monotonic_nanos() / 1_000_000
    }

    /// The node that may serve a read at its clock's present reading.
    pub fn serving(&self) -> Vec<usize> {
        let stores = self.stores.borrow();
        let serves = |node: &usize| {
            stores[*node].as_ref().is_some_and(|store| {
                let lease = store.lease(FIRST_RANGE);
                lease.is_some_and(|l| store.serves(FIRST_RANGE, l, store.hlc().reading()))
            })
        };
        (0..self.ids.len()).filter(serves).collect()
    }

    /// Waits until a node serves; returns it and how long it took.
    pub async fn leader(&self, limit_ms: u64) -> (usize, u64) {
        let begun = self.now_ms();
        loop {
            if let Some(node) = self.serving().first() {
                return (*node, self.now_ms() - begun);
            }
            assert!(
                self.now_ms() - begun < limit_ms,
                "seed {}: nobody serves after {limit_ms} ms",
                self.outside.seed
            );
            self.sleep(1).await;
        }
    }

    /// Starts all nodes, and waits for a leader.
    pub async fn up(&self) -> usize {
        for node in 0..self.ids.len() {
            self.start(node).await;
        }
        self.leader(2_000).await.0
    }

    /// Waits until another node than `old` serves; it must within `limit_ms`.
    pub async fn replaced(&self, old: usize, limit_ms: u64) -> usize {
        let begun = self.now_ms();
        loop {
            let serving = self.serving();
            if let Some(next) = serving.first().filter(|node| **node != old) {
                return *next;
            }
            assert!(self.now_ms() - begun < limit_ms, "seed {}: {serving:?} serve", self.outside.seed);
            self.sleep(1).await;
        }
    }

    /// Nothing passes from one node to the other any more.
    pub fn cut(&self, from: usize, to: usize) {
        self.network.set_link(self.ids[from], self.ids[to], Link { cut: true, ..Link::default() });
    }

    /// Nothing passes between the node and the others any more.
    pub fn isolate(&self, node: usize) {
        for other in (0..self.ids.len()).filter(|other| *other != node) {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// The network is whole, and no crash is planned.
    pub fn calm(&self) {
        self.network.heal();
        for machine in &self.machines {
            machine.env.crash_after_polls(u64::from(u32::MAX));
            machine.env.crash_after_operations(u32::MAX);
        }
    }

    /// Runs something as a task of the node, so that it shares its fate.
    pub fn spawn(&self, node: usize, task: impl Future<Output = ()> + Send + 'static) {
        self.machines[node].env.executor.runtime().spawn("client", Box::pin(task));
    }

    /// Writes to the key `k` through a node that leads.
    pub async fn write(&self, node: usize, value: &str) {
        let done = self.put(node, "k", value, 1_000).await;
        assert!(matches!(done, Some(Ok(()))), "seed {}: {done:?}", self.outside.seed);
    }

    /// Says whether two nodes serve at once within some virtual time.
    pub async fn two_serve(&self, ms: u64) -> bool {
        let begun = self.now_ms();
        while self.now_ms() - begun < ms {
            if self.serving().len() > 1 {
                return true;
            }
            self.sleep(1).await;
        }
        false
    }

    /// How far the range's replicas have come, asked as a task of the node, so that it shares its fate. `None`: it does not
    /// lead, has crashed, or says nothing.
    pub async fn progress(&self, node: usize) -> Option<Vec<ReplicaProgress>> {
        let store = self.store(node)?;
        let outcome = Arc::new(parking_lot::Mutex::new(None));
        let slot = Arc::clone(&outcome);
        self.spawn(node, async move { *slot.lock() = Some(store.progress(FIRST_RANGE).await) });
        for _ in 0..1_000 {
            if let Some(progress) = outcome.lock().take() {
                return progress;
            }
            self.sleep(1).await;
        }
        None
    }

    /// Writes through whoever leads, as a task of that node, so that it shares its fate. `None`: the node
    /// crashed, or the outcome has not come within `limit_ms`.
    pub async fn put(
        &self,
        node: usize,
        key: &str,
        value: &str,
        limit_ms: u64,
    ) -> Option<Result<(), ProposeError>> {
        let store = self.store(node)?;
        let env = &self.machines[node].env;
        let incarnation = env.executor.incarnation();
        let outcome = Arc::new(parking_lot::Mutex::new(None));
        let slot = Arc::clone(&outcome);
        let (key, value) = (key.to_owned(), value.to_owned());
        let proposal = async move {
            *slot.lock() = Some(super::put(&store, &key, &value).await.map(|_| ()));
        };
        env.executor.runtime().spawn("client", Box::pin(proposal));
        let until = self.now_ms() + limit_ms;
        while self.now_ms() < until && env.executor.incarnation() == incarnation {
            self.sleep(1).await;
            if let Some(outcome) = outcome.lock().take() {
                // What is answered after the power failed was not answered, nor what is only seen after the crash.
                let lives = env.executor.is_powered() && env.executor.incarnation() == incarnation;
                return lives.then_some(outcome);
            }
        }
        None
    }
}
