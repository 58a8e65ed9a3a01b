//! What happens between a node's listening and its serving: it finds out who it is, opens the store and the layers
//! above it, and enters itself where the others look.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cairn_kv::engine::{RocksEngine, RocksOptions};
use cairn_kv::seam::Env;
use cairn_raft::{Founding, Store};
use cairn_txn::Db;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cluster::message::{Member, Peer};
use crate::cluster::{FIRST_NODE, Opened, Place, Told, admin, cluster_name, join, registry, replication};
use crate::connection::gate::Gate;
use crate::disk::DirectoryDisk;
use crate::error::{Error, Result, reason};
use crate::layers::{db_config, once_available, open_sql};
use crate::node::{Hooks, NodeConfig, store_error};
use crate::seams::{SystemClock, SystemRng, TokioRuntime};
use crate::transport::{Me, TcpTransport};

/// Nodes that `--join` names are looked at for this long by one that has a store.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// A node that is being opened.
pub struct Opening {
    /// How it was started.
    pub config: NodeConfig,
    /// What is put around its seams.
    pub hooks: Hooks,
    /// There is no store yet.
    pub is_new: bool,
    /// RocksDB's directory.
    pub data: PathBuf,
    /// The log's directory.
    pub log: PathBuf,
    /// What is known of its place among the nodes.
    pub place: Arc<Place>,
    /// The streams to the others.
    pub transport: Arc<TcpTransport>,
    /// What its tasks run on.
    pub runtime: Arc<TokioRuntime>,
    /// Where the engine is put, for metrics.
    pub engine: Arc<OnceLock<Arc<RocksEngine>>>,
    /// Opened in the end.
    pub gate: Gate,
}

impl Opening {
    /// Goes all the way.
    pub async fn run(self, mut told: mpsc::Receiver<Told>) -> Result<()> {
        let place = Arc::clone(&self.place);
        let founding = match place.file.me() {
            Some(me) => founding_of(me),
            None if !self.is_new || self.config.join.is_empty() => Founding::default(),
            None => {
                let (me, peers) = join::join(&place, &self.config.join, &mut told).await?;
                place.file.set_peers(peers);
                founding_of(me)
            }
        };
        // `cairn init` comes too late from here on.
        drop(told);
        let settled = place.file.me();
        let (engine, named) =
            tokio::join!(open_engine(&self.config, self.data), look_around(&self.config, settled));
        let (engine, named) = (engine?, named?);
        let _ = self.engine.set(Arc::clone(&engine));
        let path = self.config.store.clone();
        let disk = DirectoryDisk::open(&self.log)
            .map_err(|error| Error::new(format!("cannot open {}: {}", self.log.display(), reason(&error))))?;
        let env = Env {
            clock: wrapped(self.hooks.clock, Arc::new(SystemClock::default())),
            rng: Arc::new(SystemRng),
            runtime: Arc::clone(&self.runtime) as _,
            disk: wrapped(self.hooks.disk, Arc::new(disk)),
            transport: wrapped(self.hooks.transport, Arc::clone(&self.transport) as _),
        };
        let engine = wrapped(self.hooks.engine, engine);
        let store = Store::open_or_found(env.clone(), engine, self.hooks.store, founding).await;
        let store = store.map_err(|error| store_error(&path, &error))?;
        let identity = store.identity();
        let me = Me { cluster: identity.cluster, node: identity.store };
        if settled.is_some_and(|settled| settled != me) {
            return Err(Error::new(format!(
                "the store in {} does not belong together: its log is that of {identity}, and its file NODE is \
                 another's",
                path.display()
            )));
        }
        place.file.found(me)?;
        place.becomes_member(me, Arc::clone(&self.transport));
        named.iter().for_each(|peer| self.transport.connect(peer.node, &peer.rpc_address));

        let cannot = |error: &dyn std::fmt::Display| {
            Error::new(format!("cannot open the database in {}: {error}", path.display()))
        };
        let db = Db::open(Arc::clone(&store), db_config()).await.map_err(|error| cannot(&error))?;
        place.opens(Opened { store, db: Arc::clone(&db) });
        env.runtime.spawn("replication", Box::pin(replication::run(Arc::clone(&place))));
        let sql = open_sql(&db).await.map_err(|error| cannot(&error.message()))?;
        let _ = place.sql_metrics.set(sql.metrics().clone());
        let peer = Peer {
            node: me.node,
            rpc_address: place.rpc_address.clone(),
            sql_address: place.sql_address.clone(),
        };
        let member = Member { peer, token: place.file.token().to_vec().into() };
        let announced = once_available(&db, || registry::announce(&db, &member)).await;
        if !announced.map_err(|error| cannot(&error.message()))? {
            return Err(Error::new(format!(
                "the store in {} cannot be used: in cluster {}, node {} has another directory",
                path.display(),
                cluster_name(me.cluster),
                me.node
            )));
        }
        self.gate.open(sql);
        place.serves();
        Ok(())
    }
}

async fn open_engine(config: &NodeConfig, data: PathBuf) -> Result<Arc<RocksEngine>> {
    let options = RocksOptions { cache_bytes: config.cache_bytes, ..RocksOptions::default() };
    let engine = tokio::task::spawn_blocking(move || RocksEngine::open(&data, &options))
        .await
        .map_err(|_| Error::new("opening the store panicked"))?
        .map_err(|error| store_error(&config.store, &error.into()))?;
    Ok(Arc::new(engine))
}

/// Of a node that has a store: the nodes that `--join` names, as far as they answer. They must be of its cluster.
async fn look_around(config: &NodeConfig, me: Option<Me>) -> Result<Vec<Peer>> {
    let Some(me) = me else { return Ok(Vec::new()) };
    let look = async |address: &String| match timeout(LOOK_TIMEOUT, admin::status_of(address)).await {
        Ok(Ok(node)) => Some((address.clone(), node)),
        _ => None,
    };
    let mut peers = Vec::new();
    for (address, node) in join_all(config.join.iter().map(look)).await.into_iter().flatten() {
        let Ok(cluster) = node.cluster[..].try_into() else { continue };
        if cluster != me.cluster {
            return Err(Error::new(format!(
                "the store in {} belongs to cluster {}, and {address}, which --join names, to cluster {}: to \
                     join that one, start on an empty directory",
                config.store.display(),
                cluster_name(me.cluster),
                cluster_name(cluster)
            )));
        }
        peers.push(node.peer);
    }
    Ok(peers)
}

/// How the store of a node begins. The founder's replica is the first, the others get theirs later.
fn founding_of(me: Me) -> Founding {
    let voters = if me.node == FIRST_NODE { vec![FIRST_NODE] } else { Vec::new() };
    Founding { cluster: Some(me.cluster), store: me.node, voters }
}

/// A seam, with what a test puts around it.
fn wrapped<T: ?Sized>(wrap: Option<crate::node::Wrap<T>>, seam: Arc<T>) -> Arc<T> {
    match wrap {
        Some(wrap) => wrap(seam),
        None => seam,
    }
}
