//! How Cairn is known to work: the simulator's driver, real processes under kill -9, benchmarks
//! beside PostgreSQL.
//!
//! Reading order: [`client`] (what a workload asks of a database), [`workload`], [`history`] and
//! [`check`] (what must hold), [`sim`] (a node in one thread from one seed), [`real`] (a cluster of processes).

pub mod check;
pub mod client;
pub mod history;
pub mod real;
pub mod sim;
pub mod sql_text;
pub mod workload;
