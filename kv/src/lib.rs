//! Keys, time, storage engine and multi-version concurrency control: the lowest layer of Cairn.
//!
//! This crate knows nothing of ranges, of the transaction protocol or of SQL. Reading order:
//! [`timestamp`] and [`hlc`] (time), [`encoding`] (bytes whose order is the order of values),
//! [`engine`] (four column families behind one trait, in RocksDB or in memory), [`effects`] (what
//! a replicated command does to them, over the stored forms of [`version`] and [`local_keys`]),
//! [`mvcc`] (reads at a timestamp), [`gc`] (what may be forgotten). [`seam`] holds the traits
//! through which time, randomness, tasks and files enter, [`sim`] their implementation from a seed.

pub mod effects;
pub mod encoding;
pub mod engine;
pub mod error;
pub mod gc;
pub mod hlc;
pub mod local_keys;
pub mod mvcc;
pub mod seam;
pub mod sim;
pub mod timestamp;
pub mod version;

pub use error::{Error, Result};
pub use timestamp::Timestamp;
