//! A node's database handle: begins transactions.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_raft::Store;

use crate::garbage::raise_thresholds;
use crate::gateway::remote::{RemoteLeaseholder, RemoteSession};
use crate::leaseholder::propose::no_timestamp;
use crate::leaseholder::{Leaseholder, recovery};
use crate::wire::{Body, CollectGarbage, Gateway, NodeId, Remote, Span};
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
    /// Buffered writes above it go out as intents (default: what fits one command).
    pub max_buffer_bytes: usize,
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
}

impl Default for DbConfig {
    fn default() -> DbConfig {
        DbConfig {
            gc_ttl_micros: 600_000_000,
            tombstone_lag_micros: 10_000_000,
            marker_lag_micros: 60_000_000,
            max_buffer_bytes: (4 << 20) - (64 << 10),
            faults: Faults::default(),
        }
    }
}

/// The gateway of a node: its view of the database.
pub struct Db {
    pub(crate) config: DbConfig,
    store: Arc<Store>,
    pub(crate) target: Target,
}

/// Where the leaseholder is.
pub(crate) enum Target {
    /// On this node: a function call.
    Local(Arc<Leaseholder>),
    /// On another one ([`crate::wire`]).
    Remote(Arc<RemoteLeaseholder>),
}

impl Db {
    /// Opens the transaction layer over a store that has the lease: takes up unfinished transactions found
    /// there and starts its background work (thresholds) on the store's runtime.
    pub async fn open(store: Arc<Store>, config: DbConfig) -> Result<Arc<Db>, TxnError> {
        let leaseholder = Arc::new(Leaseholder::new(Arc::clone(&store), config.faults)?);
        recovery::recover(&leaseholder).await?;
        let task = raise_thresholds(Arc::downgrade(&leaseholder), config.clone());
        store.env().runtime.spawn("thresholds", Box::pin(task));
        Ok(Arc::new(Db { config, store, target: Target::Local(leaseholder) }))
    }

    /// Opens the transaction layer on `node`, where another one (presumably `leaseholder`) has the lease.
    /// Of the store it uses clock and seams.
    pub async fn open_remote(
        store: Arc<Store>,
        remote: Arc<dyn Remote>,
        node: NodeId,
        leaseholder: NodeId,
        config: DbConfig,
    ) -> Result<Arc<Db>, TxnError> {
        let link = RemoteLeaseholder::new(Arc::clone(&store), remote, node, leaseholder).await?;
        Ok(Arc::new(Db { config, store, target: Target::Remote(link) }))
    }

    /// Carries out an encoded request of another node's gateway and returns the encoded answer. The caller
    /// drives it to its end, whether or not somebody still waits for the answer.
    pub async fn serve(&self, request: Bytes) -> Bytes {
        match &self.target {
            Target::Local(leaseholder) => leaseholder.serve(request).await,
            Target::Remote(link) => link.refuse(),
        }
    }

    /// Another node is dead, or has closed its gateway: its transactions are ended here.
    pub fn gateway_gone(&self, gateway: Gateway) {
        if let Target::Local(leaseholder) = &self.target {
            leaseholder.gateway_gone(gateway);
        }
    }

    /// How this node's gateway names itself to the leaseholder of another.
    pub fn gateway(&self) -> Option<Gateway> {
        match &self.target {
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

    /// Runs garbage collection of spans down to what live transactions and the newest versions need
    /// (VACUUM): raises the thresholds, flushes, and compacts where that is worth it.
    pub async fn collect_garbage(
        &self,
        spans: &[(Bytes, Bytes)],
        cancel: &CancelToken,
    ) -> Result<(), TxnError> {
        match &self.target {
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
        match &self.target {
            Target::Local(leaseholder) => crate::garbage::clear(leaseholder, start, end).await,
            Target::Remote(link) => {
                let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
                let body = Body::ClearSpan(Span { start, end });
                link.look(None, body, &CancelToken::default()).await.map(|_| ())
            }
        }
    }

    /// Reads below it fail, as far as this node knows; zero while nothing was collected.
    pub fn gc_threshold(&self) -> Timestamp {
        match &self.target {
            Target::Local(_) => self.store.thresholds().gc,
            Target::Remote(link) => link.gc_threshold(),
        }
    }

    /// Holders and queues of this node's lock table, a line per key: for tests and debugging.
    pub fn describe_locks(&self) -> String {
        match &self.target {
            Target::Local(leaseholder) => leaseholder.locks.describe(),
            Target::Remote(_) => String::new(),
        }
    }
}
