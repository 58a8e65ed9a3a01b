//! The gateway's side of a transaction: what its handle keeps, and how it goes about its requests.
//!
//! - [`buffer`]: writes until the commit (R13)
//! - [`read_set`]: what was read and must stay true
//! - [`held_locks`]: locks, and what was seen under them
//! - [`read`]: reads and scans, own writes included
//! - [`intents`]: transactions that outgrow one command
//! - [`follower`]: reads of the past from a replica without the lease
//! - [`remote`], [`remote_txn`]: a leaseholder on another node, and what a transaction asks of it
//! - [`open_sessions`]: what the next leaseholder will have to know

pub mod buffer;
pub mod follower;
pub mod held_locks;
pub mod intents;
pub mod open_sessions;
pub mod read;
pub mod read_set;
pub mod remote;
pub mod remote_txn;
