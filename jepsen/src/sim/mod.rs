//! Simulation: a node of the production crates, its clients and its misfortunes, from one seed.
//!
//! A run is a series of lives of one node. In each, the node opens its store, clients work, and a
//! nemesis flushes, collects garbage and moves the wall clock; then the node crashes at a poll, a
//! disk operation or an engine operation that the seed chose, sometimes again while it recovers. The
//! last life ends in peace: the workloads check the final state and their histories.
//!
//! One simulation uses one thread; several run beside each other.

pub mod cluster;
pub mod kv_client;
pub mod node;
pub mod plan;
pub mod runner;
pub mod sql_client;
pub mod told;

pub use plan::{Driver, Plan, Plant};
pub use runner::{Report, run, run_isolated};
