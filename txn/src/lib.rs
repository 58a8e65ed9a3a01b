//! Transactions.
//!
//! At the leaseholder ([`leaseholder`]): latches, the lock table, the timestamp cache and the
//! evaluation of requests into effects. At the gateway ([`db`], [`txn`], [`gateway`]): the handle that
//! SQL works with, its write buffer, refresh, commit and recovery. It knows nothing of SQL.
//!
//! Reading order: [`txn`] (the life of a transaction), [`leaseholder::latch`] (why no read is missed),
//! [`leaseholder::commit`], then [`gateway::intents`] (large transactions) and [`garbage`].

pub mod closed;
pub mod db;
pub mod error;
pub mod garbage;
pub mod gateway;
pub mod leaseholder;
pub mod txn;
pub mod wire;

pub use closed::FOLLOWER_READ_LAG;
pub use db::{Db, DbConfig, Faults};
pub use error::TxnError;
pub use leaseholder::watched::Watch;
pub use txn::{CancelToken, Isolation, LockStrength, Savepoint, Scan, Txn, TxnOptions, Value, View};
