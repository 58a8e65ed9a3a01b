//! The cluster as a node has to do with it: how it comes in, who the others are, where replicas go.
//!
//! A node's place in a cluster is its number, which its log carries for ever. The number is given by a transaction
//! on the [`registry`], the table of all nodes, to a random token that the node has written into its directory
//! before it asked ([`node_file`]): however often the question or the answer is lost, there is one number for one
//! directory, and none is given twice. A directory that has been founded under a number and has lost its log since
//! is refused, as it no longer knows what it has promised under that number.
//!
//! [`join`] is the beginning of a node that is started with `--join`; [`admin`] is what it asks, and what `cairn
//! init` and `cairn node status` ask; [`replication`] gives the nodes that have come replicas, and votes when they
//! have caught up. What a node knows of itself meanwhile, all of them find in its [`Place`].

pub mod admin;
pub mod join;
pub mod message;
pub mod node_file;
pub mod registry;
pub mod replication;
pub mod status;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use cairn_kv::seam::NodeId;
use cairn_raft::{RangeId, Store};
use cairn_sql::session::SqlMetrics;
use cairn_txn::Db;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tonic::Status;

use crate::transport::{Me, TcpTransport};
use message::Peer;
use node_file::NodeFile;

/// The one range, until ranges split.
pub const RANGE: RangeId = cairn_raft::store::FIRST_RANGE;

/// The node that founds a cluster.
pub const FIRST_NODE: NodeId = cairn_raft::store::FIRST_STORE;

/// What the parts of a node know of its place in the cluster.
pub struct Place {
    /// The file in its directory.
    pub file: NodeFile,
    /// Where others reach it.
    pub rpc_address: String,
    /// Where clients reach it.
    pub sql_address: String,
    /// When it was started.
    pub started: Instant,
    /// Something has happened that the next round of [`replication`] should not wait for.
    pub changed: Notify,
    stage: watch::Sender<Stage>,
    /// To the one that waits for the cluster.
    init: mpsc::Sender<Told>,
    transport: OnceLock<Arc<TcpTransport>>,
    opened: OnceLock<Opened>,
    /// What is measured of SQL, once that is open.
    pub sql_metrics: OnceLock<SqlMetrics>,
    peers: Mutex<Vec<Peer>>,
}

/// `cairn init` said to this node, and where its answer goes: an error says why not.
pub type Told = oneshot::Sender<Result<(), Status>>;

/// How far a node has come. Goes forward, but for [`Stage::Founding`], which may go back to [`Stage::Waiting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Belongs to no cluster yet.
    Waiting,
    /// Is told to found one, and looks whether another does.
    Founding,
    /// Belongs to a cluster, and opens its store.
    Member(Me),
    /// Serves SQL.
    Serving(Me),
}

impl Stage {
    /// Who the node is.
    pub fn me(self) -> Option<Me> {
        match self {
            Stage::Waiting | Stage::Founding => None,
            Stage::Member(me) | Stage::Serving(me) => Some(me),
        }
    }
}

/// What a node has of the database once its store is open.
pub struct Opened {
    /// The store.
    pub store: Arc<Store>,
    /// Transactions.
    pub db: Arc<Db>,
}

impl Place {
    /// The place of a node that has just been started; what `cairn init` says arrives at the receiver.
    pub fn new(
        file: NodeFile,
        rpc_address: String,
        sql_address: String,
    ) -> (Arc<Place>, mpsc::Receiver<Told>) {
        let (init, told) = mpsc::channel(4);
        let place = Place {
            file,
            rpc_address,
            sql_address,
            started: Instant::now(),
            changed: Notify::new(),
            stage: watch::Sender::new(Stage::Waiting),
            init,
            transport: OnceLock::new(),
            opened: OnceLock::new(),
            sql_metrics: OnceLock::new(),
            peers: Mutex::default(),
        };
        (Arc::new(place), told)
    }

    /// How far the node has come.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Waits until the node has come as far as `wanted` says; then how far that is.
    pub async fn reached(&self, wanted: impl FnMut(&Stage) -> bool) -> Stage {
        let mut stage = self.stage.subscribe();
        *stage.wait_for(wanted).await.expect("the sender lives as long as `self`")
    }

    fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// The node belongs to a cluster, as `me`. Its peers, as far as its file knows them, are dialed.
    pub fn becomes_member(&self, me: Me, transport: Arc<TcpTransport>) {
        transport.identify(me);
        let _ = self.transport.set(transport);
        self.enter(Stage::Member(me));
        self.learn(self.file.peers());
    }

    /// The store is open.
    pub fn opens(&self, opened: Opened) {
        let _ = self.opened.set(opened);
        self.tell_contacts();
    }

    /// Clients are served.
    pub fn serves(&self) {
        if let Some(me) = self.stage().me() {
            self.enter(Stage::Serving(me));
        }
    }

    /// What there is of the database, once the store is open.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// The transport, once the node belongs to a cluster.
    pub fn transport(&self) -> Option<&Arc<TcpTransport>> {
        self.transport.get()
    }

    /// The other nodes, as far as they are known here.
    pub fn peers(&self) -> Vec<Peer> {
        self.peers.lock().clone()
    }

    /// Takes up what the registry says of the nodes, or the file. Where a node is now is better known to a stream that
    /// came from there: an address is dialed when it is new.
    pub fn learn(&self, nodes: Vec<Peer>) {
        let (Some(me), Some(transport)) = (self.stage().me(), self.transport()) else { return };
        let nodes: Vec<Peer> = nodes.into_iter().filter(|peer| peer.node != me.node).collect();
        let before = std::mem::replace(&mut *self.peers.lock(), nodes.clone());
        if before == nodes {
            return;
        }
        for peer in nodes.iter().filter(|peer| !before.contains(peer)) {
            transport.connect(peer.node, &peer.rpc_address);
        }
        self.file.set_peers(nodes);
        self.tell_contacts();
    }

    /// The gateway may ask any other node for the lease, also one that is not known from the registry yet.
    pub fn tell_contacts(&self) {
        let (Some(opened), Some(transport)) = (self.opened(), self.transport()) else { return };
        let mut nodes: BTreeSet<NodeId> = self.peers.lock().iter().map(|peer| peer.node).collect();
        nodes.extend(transport.peers().into_iter().map(|(node, ..)| node));
        opened.db.set_contacts(nodes.into_iter().collect());
    }
}

/// A cluster's identity, for people.
pub fn cluster_name(cluster: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(cluster))
}
