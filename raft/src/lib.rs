//! Replication: ranges as Raft groups whose log is the store's only write-ahead log.
//!
//! [`store::Store`] owns a node's directory: the log ([`log`], R6) over `Disk`, the range replicas
//! on raft-rs, the inline group commit that steps Raft, syncs the log and applies to the engine
//! (whose writes have no log of their own), recovery, and the policy by which the engine is flushed
//! and the log truncated behind it. It knows nothing of transactions: commands arrive as evaluated
//! [`cairn_kv::effects::Effects`].
//!
//! Where a range has replicas on several stores, [`liveness`] is what they promise one another, `fortify` how a
//! leader's lease follows from it, `cluster` the tasks that exchange messages, `membership` how replicas come and
//! go, `snapshot` how they are filled, `closed` when one that does not lead can be read.
//!
//! Reading order: [`store`] (the interface), `driver` (the life of a commit), `replica` (stepping
//! and applying one range), [`command`] (what stands in an entry), [`log`], [`segment`] and
//! [`record`] (how it lies on disk), [`entries`] (a range's log as raft-rs sees it), `open` and
//! `flush` (beginning and end of what the log must keep), [`debug`] (looking at a dead store).

mod closed;
mod cluster;
pub mod command;
pub mod debug;
mod driver;
pub mod entries;
mod flush;
mod fortify;
mod lease_changes;
pub mod liveness;
pub mod log;
mod logger;
mod membership;
mod message;
mod metrics;
mod open;
mod quorum;
pub mod record;
mod replica;
pub mod segment;
mod snapshot;
pub mod spare;
pub mod store;
mod support_file;
mod waiter;

pub use closed::Complete;
pub use lease_changes::LeaseChanges;
pub use metrics::StoreMetrics;
pub use snapshot::SnapshotConfig;
pub use store::{
    Applied, Faults, Founding, Lease, ProposeError, RangeId, ReplicaProgress, Store, StoreConfig, StoreError,
    StoreStats,
};
