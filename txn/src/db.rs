//! A node's database handle: begins transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_raft::Store;
use cairn_raft::store::FIRST_RANGE;
use parking_lot::RwLock;
use prost::Message;

use crate::gateway::remote::{Hints, RemoteLeaseholder, RemoteSession};
use crate::leaseholder::propose::no_timestamp;
use crate::leaseholder::watched::Watch;
use crate::leaseholder::{Leaseholder, tenure};
use crate::wire::calls::Calls;
use crate::wire::{Body, CollectGarbage, Draw, Gateway, NodeId, Remote, Request, Span};
use crate::{CancelToken, Txn, TxnError, TxnOptions};

/// Settings of the transaction layer.
#[derive(Clone, Debug)]
pub struct DbConfig {
    /// History is kept this long, microseconds (default 10 min).
    pub gc_ttl_micros: u64,
    /// Tombstones stay in `data` this long, microseconds (default 10 s).
    pub tombstone_lag_micros: u64,
    /// Commit markers are kept this long, microseconds (default 60 s).
    pub marker_lag_micros: u64,
    /// Timestamps are closed so far behind now, microseconds (default 3 s): reads at or below them are served by
    /// all replicas. Commits of transactions that are older have to look at what they read again.
    pub closed_lag_micros: u64,
    /// Buffered writes above it go out as intents (default: what fits one command).
    pub max_buffer_bytes: usize,
    /// A span of keys of which gateways want to know whether others have changed it ([`Watch`]); an empty end: no
    /// bound.
    pub watched: Option<(Bytes, Bytes)>,
    /// Mistakes to make, so that tests can show that they are noticed. For tests only.
    pub faults: Faults,
}

/// Parts of the transaction protocol that a test can switch off, to see that its checks notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A transaction whose timestamp moves does not look at what it has read again.
    pub no_refresh: bool,
    /// Reads are not recorded: writes can take effect below them.
    pub no_timestamp_cache: bool,
    /// A commit does not look whether what it locked or read and overwrites is still the newest.
    pub no_validation: bool,
    /// A READ COMMITTED transaction keeps its first snapshot for all of its statements.
    pub one_snapshot: bool,
    /// Bulk does not look whether the keys that it inserts are taken.
    pub blind_bulk: bool,
    /// A leaseholder does not ask whether its lease lasts before it tells what it has read.
    pub serve_after_tenure: bool,
    /// A gateway draws the snapshots of remote transactions from its own clock.
    pub own_snapshots: bool,
    /// A gateway tells a new leaseholder of sessions that others may have had the locks of meanwhile.
    pub resume_unsure: bool,
    /// A leaseholder does not look whether a commit took effect under an earlier lease whose session goes on.
    pub resume_unasked: bool,
}

impl Default for DbConfig {
    fn default() -> DbConfig {
        DbConfig {
            gc_ttl_micros: 600_000_000,
            tombstone_lag_micros: 10_000_000,
            marker_lag_micros: 60_000_000,
            closed_lag_micros: 3_000_000,
            max_buffer_bytes: (4 << 20) - (64 << 10),
            watched: None,
            faults: Faults::default(),
        }
    }
}

/// The gateway of a node: its view of the database. Its leaseholder, too, while the node's store has the lease.
pub struct Db {
    pub(crate) config: DbConfig,
    store: Arc<Store>,
    /// This node.
    pub(crate) node: NodeId,
    target: RwLock<Target>,
    resumed: AtomicU64,
    /// The way to leaseholders elsewhere.
    pub(crate) link: Arc<RemoteLeaseholder>,
}

/// Where the leaseholder is.
#[derive(Clone)]
pub(crate) enum Target {
    /// On this node: a function call.
    Local(Arc<Leaseholder>),
    /// On another one ([`crate::wire`]), or nobody knows.
    Remote(Arc<RemoteLeaseholder>),
}

impl Db {
    /// Opens the transaction layer over a store. While that has the lease, requests are served here, those of other
    /// nodes, too; else they are sent to whoever has it, over the store's transport. A store that has never had to do
    /// with others has its lease for good: what it finds unfinished is taken up before this returns.
    pub async fn open(store: Arc<Store>, config: DbConfig) -> Result<Arc<Db>, TxnError> {
        let (env, node, changes) = (store.env().clone(), store.identity().store, store.lease_changes());
        let calls = Calls::new(env.clone(), node);
        let remote = Arc::clone(&calls) as Arc<dyn Remote>;
        let db = Db::over(store, remote, node, Hints::OfStore, config).await?;
        calls.serve(Arc::downgrade(&db));
        if let Some(lease) = db.store.lease(FIRST_RANGE).filter(|_| db.store.is_alone()) {
            tenure::begin(&db, lease).await?;
        }
        env.runtime.spawn("tenures", Box::pin(tenure::follow(Arc::downgrade(&db), changes)));
        Ok(db)
    }

    /// Opens the transaction layer on `node`, where another one (presumably `leaseholder`) has the lease, for good. Of
    /// the store it uses clock and seams.
    pub async fn open_remote(
        store: Arc<Store>,
        remote: Arc<dyn Remote>,
        node: NodeId,
        leaseholder: NodeId,
        config: DbConfig,
    ) -> Result<Arc<Db>, TxnError> {
        Db::over(store, remote, node, Hints::Only(leaseholder), config).await
    }

    async fn over(
        store: Arc<Store>,
        remote: Arc<dyn Remote>,
        node: NodeId,
        hints: Hints,
        config: DbConfig,
    ) -> Result<Arc<Db>, TxnError> {
        let link = RemoteLeaseholder::new(Arc::clone(&store), remote, node, hints).await?;
        let target = RwLock::new(Target::Remote(Arc::clone(&link)));
        let resumed = AtomicU64::new(0);
        Ok(Arc::new(Db { config, store, node, target, resumed, link }))
    }

    /// The nodes that may have the lease: all live ones but this one.
    pub fn set_contacts(&self, nodes: Vec<NodeId>) {
        self.link.set_contacts(nodes);
    }

    /// Whether this node serves under the lease.
    pub fn has_lease(&self) -> bool {
        matches!(&*self.target.read(), Target::Local(leaseholder) if !leaseholder.is_over())
    }

    /// Where requests go now.
    #[inline]
    pub(crate) fn target(&self) -> Target {
        self.target.read().clone()
    }

    /// Requests go to `target` from now on.
    pub(crate) fn turn_to(&self, target: Target) {
        *self.target.write() = target;
    }

    /// The tenure of `leaseholder` is over: requests go elsewhere.
    pub(crate) fn turn_away(&self, leaseholder: &Leaseholder) {
        self.turn_to(Target::Remote(Arc::clone(&self.link)));
        leaseholder.end();
    }

    /// Carries out an encoded request of another node and returns the encoded answer. The caller
    /// drives it to its end, whether or not somebody still waits for the answer.
    pub async fn serve(&self, request: Bytes) -> Bytes {
        let request = Request::decode(request).ok();
        if let Some(Request { gateway, body: Some(Body::Tell(tell)), .. }) = &request {
            return self.link.tell(gateway.node, tell.lease, self.config.faults.resume_unsure);
        }
        match self.target() {
            Target::Local(leaseholder) => leaseholder.serve(request).await,
            Target::Remote(link) => link.refuse(),
        }
    }

    /// Has `leaseholder` go on with the sessions of all gateways, save those of nodes that are dead.
    pub(crate) async fn gather(&self, leaseholder: &Leaseholder) -> Result<(), TxnError> {
        let is_asked = |node: &NodeId| !self.store.is_silent(*node) || self.config.faults.resume_unsure;
        let others = self.link.contacts().into_iter().filter(is_asked);
        let taken = leaseholder.gather(&self.link, others.chain([self.node]).collect()).await?;
        self.resumed.fetch_add(taken, Ordering::Relaxed);
        Ok(())
    }

    /// Transactions of any gateway that have gone on here when this node took the lease over.
    pub fn resumed_sessions(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// The gateway of `node` still waits for an answer.
    pub(crate) fn heard(&self, node: NodeId) {
        if let Target::Local(leaseholder) = self.target() {
            leaseholder.gateways.heard(node, self.store.env().clock.monotonic_nanos());
        }
    }

    /// Another node is dead, or has closed its gateway: its transactions are ended here.
    pub fn gateway_gone(&self, gateway: Gateway) {
        if let Target::Local(leaseholder) = self.target() {
            leaseholder.gateway_gone(gateway);
        }
    }

    /// How this node's gateway names itself to the leaseholder of another.
    pub fn gateway(&self) -> Option<Gateway> {
        match &self.target() {
            Target::Local(_) => None,
            Target::Remote(link) => Some(link.gateway()),
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Begins a transaction. Its read timestamp is chosen by the first operation, not here.
    pub fn begin(self: &Arc<Db>, options: TxnOptions) -> Txn {
        Txn::new(Arc::clone(self), options)
    }

    /// A new timestamp.
    pub async fn now(&self) -> Result<Timestamp, TxnError> {
        self.store().now().await.map_err(no_timestamp)
    }

    /// What other gateways have committed into the watched span, as far as this one has heard. It has heard of all
    /// that lies below a snapshot it has drawn.
    pub fn watch(&self) -> Watch {
        match &*self.target.read() {
            Target::Local(leaseholder) => leaseholder.watched.watch(self.node),
            Target::Remote(link) => link.watch(),
        }
    }

    /// What other gateways have committed into the watched span by now; what is in flight is waited for.
    pub async fn ask_watch(&self) -> Result<Watch, TxnError> {
        if let Target::Local(leaseholder) = self.target() {
            match leaseholder.ask_watch(self.node).await {
                // Whoever is next tells.
                Err(TxnError::Retry { .. }) => {}
                outcome => return outcome,
            }
        }
        Ok(self.link.look(None, Body::AskWatch(Draw {}), None, &CancelToken::default()).await?.watch)
    }

    /// Runs garbage collection of spans down to what live transactions and the newest versions need
    /// (VACUUM): raises the thresholds, flushes, and compacts where that is worth it.
    pub async fn collect_garbage(
        &self,
        spans: &[(Bytes, Bytes)],
        cancel: &CancelToken,
    ) -> Result<(), TxnError> {
        match &self.target() {
            Target::Local(leaseholder) => crate::garbage::collect(leaseholder, spans, cancel).await,
            Target::Remote(_) if cancel.is_canceled() => Err(TxnError::Canceled),
            Target::Remote(link) => {
                let spans = spans.iter().map(|(start, end)| Span { start: start.clone(), end: end.clone() });
                let body = Body::CollectGarbage(CollectGarbage { spans: spans.collect() });
                RemoteSession::new(Arc::clone(link), 0, None).last_step(body, cancel).await.map(|_| ())
            }
        }
    }

    /// [`Db::collect_garbage`] of everything.
    pub async fn collect_all_garbage(&self, cancel: &CancelToken) -> Result<(), TxnError> {
        self.collect_garbage(&[(Bytes::new(), Bytes::new())], cancel).await
    }

    /// Removes everything in `[start, end)`, in all its versions, at once and for good. The span
    /// belonged to something that a transaction gave up at or below [`Db::gc_threshold`], so no read
    /// can want it, and nothing will be written there again.
    pub async fn clear_span(&self, start: &[u8], end: &[u8]) -> Result<(), TxnError> {
        match &self.target() {
            Target::Local(leaseholder) => crate::garbage::clear(leaseholder, start, end).await,
            Target::Remote(link) => {
                let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
                let body = Body::ClearSpan(Span { start, end });
                link.look(None, body, None, &CancelToken::default()).await.map(|_| ())
            }
        }
    }

    /// Reads below it fail, as far as this node knows; zero while nothing was collected.
    pub fn gc_threshold(&self) -> Timestamp {
        match &self.target() {
            Target::Local(_) => self.store.thresholds().gc,
            Target::Remote(link) => link.gc_threshold(),
        }
    }

    /// Reads of the past that this node has served from its own replica, without having the lease.
    pub fn follower_reads(&self) -> u64 {
        self.link.follower_reads()
    }

    /// Holders and queues of this node's lock table, a line per key: for tests and debugging.
    pub fn describe_locks(&self) -> String {
        match &self.target() {
            Target::Local(leaseholder) => leaseholder.locks.describe(),
            Target::Remote(_) => String::new(),
        }
    }
}
