//! Transactions.
//!
//! At the leaseholder ([`leaseholder`]): latches, the lock table, the timestamp cache and the
//! evaluation of requests into effects. At the gateway ([`db`], [`txn`]): the handle that SQL works
//! with, its write buffer, refresh, commit and recovery. It knows nothing of SQL.

pub mod db;
pub mod error;
pub mod txn;

pub use db::{Db, DbConfig};
pub use error::TxnError;
pub use txn::{CancelToken, Isolation, LockStrength, Savepoint, Scan, Txn, TxnOptions, Value};
