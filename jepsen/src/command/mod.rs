//! The subcommands' arguments and output.

pub mod cluster;
pub mod node;
pub mod real;
pub mod sim;
