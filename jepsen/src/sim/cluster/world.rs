//! Several machines, their network, and the nodes that run on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use cairn_kv::engine::{Cf, Engine};
use cairn_kv::seam::{NodeId, Runtime};
use cairn_kv::sim::{Env, Machine, SimNetwork, Stopped, Timeline};
use cairn_kv::{gc, local_keys};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Founding, Store, StoreConfig};
use cairn_server::layers::{self, Layers};
use cairn_txn::{Db, DbConfig};
use parking_lot::Mutex;

/// The cluster in a simulation.
pub struct World {
    /// What is outside: clients, the nemesis. It does not crash.
    pub outside: Env,
    /// The nodes' machines.
    pub machines: Vec<Machine>,
    /// What connects them.
    pub network: SimNetwork,
    /// Numbers for sessions.
    pub sessions: AtomicU32,
    /// Crashes so far.
    pub crashes: AtomicU64,
    store: StoreConfig,
    db: DbConfig,
    nodes: Mutex<Vec<Slot>>,
}

/// What runs on a machine.
#[derive(Clone, Default)]
struct Slot {
    store: Option<Arc<Store>>,
    layers: Option<Arc<Layers>>,
    /// It was started, and has not crashed since.
    is_started: bool,
    /// Why it did not open.
    refused: Option<String>,
}

impl World {
    /// `nodes` machines without a node yet.
    pub fn new(
        seed: u64,
        nodes: usize,
        store: StoreConfig,
        db: DbConfig,
        timeline: Option<Timeline>,
    ) -> World {
        let outside = Env::new(seed);
        if let Some(timeline) = timeline {
            outside.trace.set_timeline(timeline);
        }
        World {
            machines: (0..nodes).map(|_| Machine::beside(&outside)).collect(),
            network: SimNetwork::new(&outside),
            outside,
            sessions: AtomicU32::new(1),
            crashes: AtomicU64::new(0),
            store,
            db,
            nodes: Mutex::new(vec![Slot::default(); nodes]),
        }
    }

    /// Number of the node on a machine.
    pub fn id(&self, node: usize) -> NodeId {
        node as NodeId + 1
    }

    /// Virtual time, milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.outside.clock.now_nanos() / 1_000_000
    }

    /// Lets virtual time pass.
    pub async fn sleep(&self, ms: u64) {
        self.outside.executor.runtime().sleep(Duration::from_millis(ms)).await;
    }

    /// Drives the world until `future` completes.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        let envs: Vec<&Env> = self.machines.iter().map(|machine| &machine.env).collect();
        self.outside.run_beside(&envs, |node| self.forget(node), future)
    }

    /// Starts the node on a machine, if it does not run.
    pub fn start(self: &Arc<World>, node: usize) {
        if std::mem::replace(&mut self.nodes.lock()[node].is_started, true) {
            return;
        }
        let (world, env) = (Arc::clone(self), &self.machines[node].env);
        let task = async move {
            let opened = world.open(node).await;
            let slot = &mut world.nodes.lock()[node];
            match opened {
                Ok(layers) => slot.layers = Some(Arc::new(layers)),
                Err(reason) => slot.refused = Some(reason),
            }
        };
        env.executor.runtime().spawn("node", Box::pin(task));
    }

    async fn open(&self, node: usize) -> Result<Layers, String> {
        let machine = &self.machines[node];
        let env = machine.env.seams_with(self.network.endpoint(self.id(node), &machine.env));
        let voters = (0..self.machines.len()).map(|node| self.id(node)).collect();
        let founding = Founding { cluster: Some([7; 16]), store: self.id(node), voters };
        let store = Store::open_or_found(env, machine.traced_engine(), self.store.clone(), founding).await;
        let store = store.map_err(|error| format!("the store does not open: {error}"))?;
        self.nodes.lock()[node].store = Some(Arc::clone(&store));
        let db = Db::open(Arc::clone(&store), self.db.clone()).await.map_err(|error| error.to_string())?;
        db.set_contacts(
            (0..self.machines.len()).filter(|other| *other != node).map(|n| self.id(n)).collect(),
        );
        let sql = layers::open_sql(&db).await.map_err(|error| error.to_string())?;
        Ok(Layers { store, db, sql })
    }

    /// The node's power fails.
    pub fn crash(&self, node: usize) {
        self.machines[node].env.crash();
        self.forget(node);
    }

    fn forget(&self, node: usize) {
        self.crashes.fetch_add(1, Ordering::SeqCst);
        let slot = std::mem::take(&mut self.nodes.lock()[node]);
        drop(slot);
    }

    /// The node's store, from when it is open.
    pub fn store(&self, node: usize) -> Option<Arc<Store>> {
        self.nodes.lock()[node].store.clone()
    }

    /// The node, from when it serves SQL.
    pub fn layers(&self, node: usize) -> Option<Arc<Layers>> {
        self.nodes.lock()[node].layers.clone()
    }

    /// Whether the node was started and has not crashed since.
    pub fn is_started(&self, node: usize) -> bool {
        self.nodes.lock()[node].is_started
    }

    /// A node that did not open, and why.
    pub fn refused(&self) -> Option<(usize, String)> {
        let nodes = self.nodes.lock();
        nodes.iter().enumerate().find_map(|(node, slot)| Some((node, slot.refused.clone()?)))
    }

    /// The nodes that may serve a read at the present reading of their clocks, with the leases they do it under.
    pub fn serving(&self) -> Vec<(usize, u64)> {
        let serves = |node: usize| {
            let store = self.store(node)?;
            let lease = store.lease(FIRST_RANGE)?;
            store.serves(FIRST_RANGE, lease, store.hlc().reading()).then_some((node, lease.sequence))
        };
        (0..self.machines.len()).filter_map(serves).collect()
    }

    /// Which entry the replica on a machine has applied, and all that it has then: what may be collected as garbage is
    /// left out, as each collects for itself.
    pub fn content(&self, node: usize) -> cairn_kv::Result<(u64, Vec<Entry>)> {
        let engine = &*self.machines[node].engine;
        let mut state = Vec::new();
        engine.get(Cf::Local, &local_keys::range_state(FIRST_RANGE), &mut state)?;
        let index = cairn_raft::command::decode_range_state(FIRST_RANGE, &state)?.index;
        let thresholds = cairn_kv::effects::thresholds(engine)?.into();
        let mut content = Vec::new();
        for cf in [Cf::Lock, Cf::Data, Cf::History, Cf::Local] {
            let mut iter = engine.iter(cf, &[], &[])?;
            iter.seek_to_first();
            while let Some((key, value)) = iter.entry() {
                let of_store = cf == Cf::Local && key == local_keys::ident();
                if !of_store && !gc::is_garbage(cf, key, value, &thresholds) {
                    content.push((cf, key.to_vec(), value.to_vec()));
                }
                iter.next();
            }
            iter.status()?;
        }
        Ok((index, content))
    }
}

/// A family's key and value.
pub type Entry = (Cf, Vec<u8>, Vec<u8>);
