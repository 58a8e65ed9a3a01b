//! Replication: ranges as Raft groups whose log is the store's only write-ahead log.
//!
//! [`store::Store`] owns a node's directory: the log ([`log`], R6) over `Disk`, the range replicas
//! on raft-rs, the inline group commit that steps Raft, syncs the log and applies to the engine
//! (whose writes have no log of their own), recovery, and the policy by which the engine is flushed
//! and the log truncated behind it. It knows nothing of transactions: commands arrive as evaluated
//! [`cairn_kv::effects::Effects`].

pub mod store;

pub use store::{Applied, Lease, ProposeError, RangeId, Store, StoreConfig, StoreError};
