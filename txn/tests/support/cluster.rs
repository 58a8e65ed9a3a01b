//! Three simulated machines with a store and a database each.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use cairn_kv::seam::{Clock, NodeId, Runtime};
use cairn_kv::sim::{Env, Link, Machine, SimNetwork};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Founding, Store, StoreConfig};
use cairn_txn::{Db, DbConfig, TxnError};
use parking_lot::Mutex;

/// Clocks may be off from each other by at most 100 ms.
pub const MOST_OFF_MICROS: u64 = 80_000;

pub const NODES: usize = 3;

pub struct Cluster {
    /// Stands for the world outside: it does not crash.
    pub outside: Env,
    pub machines: Vec<Machine>,
    pub network: SimNetwork,
    /// The first range's voters by each node's founding.
    founded_with: Vec<Vec<NodeId>>,
    dbs: RefCell<Vec<Option<Arc<Db>>>>,
    config: DbConfig,
    pub crashes: Cell<u32>,
}

impl Cluster {
    /// Three nodes with a replica each.
    pub fn new(seed: u64, config: DbConfig) -> Cluster {
        Cluster::founded(seed, config, vec![(0..NODES).map(id).collect(); NODES])
    }

    pub fn founded(seed: u64, config: DbConfig, founded_with: Vec<Vec<NodeId>>) -> Cluster {
        let outside = Env::new(seed);
        Cluster {
            machines: (0..NODES).map(|_| Machine::beside(&outside)).collect(),
            network: SimNetwork::new(&outside),
            outside,
            founded_with,
            dbs: RefCell::new(vec![None; NODES]),
            config,
            crashes: Cell::new(0),
        }
    }

    /// Drives the world until `future` completes.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let envs: Vec<&Env> = self.machines.iter().map(|machine| &machine.env).collect();
        let crashed = |node: usize| {
            self.crashes.set(self.crashes.get() + 1);
            self.dbs.borrow_mut()[node] = None;
        };
        match self.outside.run_beside(&envs, crashed, future) {
            Ok(output) => output,
            Err(stopped) => panic!("seed {}: {stopped:?}", self.outside.seed),
        }
    }

    /// Starts a node; returns when it has, or has crashed.
    pub async fn start(&self, node: usize) {
        let machine = &self.machines[node];
        let env = machine.env.seams_with(self.network.endpoint(id(node), &machine.env));
        let voters = self.founded_with[node].clone();
        let founding = Founding { cluster: Some([7; 16]), store: id(node), voters };
        let store =
            StoreConfig { segment_bytes: 64 << 10, hlc_lead_micros: 50_000, ..StoreConfig::default() };
        let (engine, config) = (machine.traced_engine(), self.config.clone());
        let opened = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&opened);
        let open = async move {
            let store = Store::open_or_found(env, engine, store, founding).await.expect("the store opens");
            let db = Db::open(store, config).await.expect("the database opens");
            db.set_contacts((0..NODES).filter(|other| *other != node).map(id).collect());
            *slot.lock() = Some(db);
        };
        self.spawn(node, open);
        let incarnation = machine.env.executor.incarnation();
        while machine.env.executor.incarnation() == incarnation {
            self.sleep_ms(1).await;
            if let Some(db) = opened.lock().take() {
                self.dbs.borrow_mut()[node] = Some(db);
                return;
            }
        }
    }

    /// Starts all nodes; returns the one with the lease.
    pub async fn up(&self) -> usize {
        for node in 0..NODES {
            self.start(node).await;
        }
        self.leader(3_000).await
    }

    pub fn crash(&self, node: usize) {
        self.dbs.borrow_mut()[node] = None;
        self.machines[node].env.crash();
        self.crashes.set(self.crashes.get() + 1);
    }

    pub fn db(&self, node: usize) -> Option<Arc<Db>> {
        self.dbs.borrow()[node].clone()
    }

    /// The node with the lease, as soon as there is one.
    pub async fn leader(&self, limit_ms: u64) -> usize {
        let begun = self.now_ms();
        loop {
            let leads = |node: &usize| self.db(*node).is_some_and(|db| db.has_lease());
            if let Some(leader) = (0..NODES).find(leads) {
                return leader;
            }
            let seed = self.outside.seed;
            assert!(self.now_ms() - begun < limit_ms, "seed {seed}: nobody leads after {limit_ms} ms");
            self.sleep_ms(1).await;
        }
    }

    /// Moves the lease from one node to another; false: it cannot be moved now.
    pub async fn cede(&self, from: usize, to: usize) -> bool {
        let Some(db) = self.db(from) else { return false };
        let ceded = self.on(from, async move { db.store().cede(FIRST_RANGE, id(to)).await.is_ok() }).await;
        ceded == Some(true)
    }

    /// Runs something as a task of the node, so that it shares its fate.
    pub fn spawn(&self, node: usize, task: impl Future<Output = ()> + Send + 'static) {
        self.machines[node].env.executor.runtime().spawn("client", Box::pin(task));
    }

    /// What something comes to that runs as a task of the node; `None`: that has crashed.
    pub async fn on<T: Send + 'static>(
        &self,
        node: usize,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, outcome) = tokio::sync::oneshot::channel();
        let task = async move {
            // The world may have ended.
            let _ = sender.send(task.await);
        };
        self.spawn(node, task);
        outcome.await.ok()
    }

    pub async fn sleep_ms(&self, ms: u64) {
        self.outside.executor.runtime().sleep(Duration::from_millis(ms)).await;
    }

    pub fn now_ms(&self) -> u64 {
        self.outside.clock.monotonic_nanos() / 1_000_000
    }

    /// Sets the wall clock of a node ahead of the world's.
    pub fn set_ahead(&self, node: usize, micros: u64) {
        let clock = &self.machines[node].env.clock;
        let ahead = clock.wall_micros() as i64 - self.outside.clock.wall_micros() as i64;
        clock.jump(micros as i64 - ahead);
    }

    /// Nothing passes between the node and the others any more.
    pub fn isolate(&self, node: usize) {
        for other in (0..NODES).filter(|other| *other != node) {
            let cut = Link { cut: true, ..Link::default() };
            self.network.set_link(id(node), id(other), cut);
            self.network.set_link(id(other), id(node), cut);
        }
    }
}

/// The number of a node.
pub fn id(node: usize) -> NodeId {
    node as NodeId + 1
}

/// A failure that a client gets past by doing the same again, as SQL does for it.
pub fn is_retried<T>(outcome: &Result<T, TxnError>) -> bool {
    matches!(outcome, Err(TxnError::Retry { .. } | TxnError::Deadlock { .. }))
}
