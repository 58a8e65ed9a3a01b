//! `cairn-jepsen`: simulation, crashes of real processes, benchmarks.

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
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Sim(arguments) => command::sim::run(&arguments),
    }
}
