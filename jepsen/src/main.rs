//! `cairn-jepsen`: simulation, and clusters of real processes under fault.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod command;

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tests Cairn from outside: simulation from a seed, real crashes, benchmarks beside PostgreSQL.
#[derive(Parser)]
#[command(name = "cairn-jepsen", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node in one thread with virtual time, crashes and workloads, all from a seed.
    Sim(command::sim::Arguments),
    /// Runs a cluster of nodes so, with a network that cuts and loses.
    Cluster(command::cluster::Arguments),
    /// Runs a cluster of real processes under faults, with workloads and an open-loop probe.
    Real(command::real::Arguments),
    /// Runs one node of such a cluster, which takes orders on standard input.
    #[command(hide = true)]
    Node(command::node::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Sim(arguments) => command::sim::run(&arguments),
        Command::Cluster(arguments) => command::cluster::run(&arguments),
        Command::Real(arguments) => command::real::run(&arguments),
        Command::Node(arguments) => command::node::run(&arguments),
    }
}
