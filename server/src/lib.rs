//! The binary's crate: connections, the node put together, configuration and the command line.
//!
//! It is the only crate that knows sockets, threads, clocks and files: [`seams`] and [`disk`]
//! implement the traits that the layers below are built with (R1), [`layers`] puts these together
//! over any such seams, [`node`] does so in production, [`connection`] serves clients and [`cluster`] keeps a node's
//! place among the others.

pub mod cli;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod debug;
pub mod demo;
pub mod disk;
pub mod error;
pub mod http;
pub mod layers;
mod metrics;
pub mod node;
pub mod opening;
pub mod seams;
pub mod store_directory;
pub mod transport;

pub use error::{Error, Result};

/// Cairn's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
