//! The subcommands' arguments and output.

pub mod sim;
