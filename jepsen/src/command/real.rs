//! `cairn-jepsen real`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cairn_jepsen::real::fault::{Kind, Plant};
use cairn_jepsen::real::run::{self, Plan};
use cairn_jepsen::workload::Workload;

/// Arguments.
#[derive(clap::Args)]
pub struct Arguments {
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Faults, one after the other.
    #[arg(long, default_value_t = 20)]
    faults: usize,
    /// Kinds of faults to choose from.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        Kind::Kill, Kind::Pause, Kind::Partition, Kind::Deaf, Kind::Mute, Kind::Hang, Kind::Skew, Kind::Stray,
        Kind::Flap, Kind::Drain,
    ])]
    kinds: Vec<Kind>,
    /// What the clients do.
    #[arg(long = "workload", value_enum, value_delimiter = ',', default_values_t = [
        Workload::Bank, Workload::Register, Workload::Set, Workload::Append,
    ])]
    workloads: Vec<Workload>,
    /// Plants a bug in every node, which must be found.
    #[arg(long = "fault", value_enum)]
    plant: Option<Plant>,
    /// What faults and statements are chosen by.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// No clients but the open-loop probe, and every fault at the leaseholder: a measurement.
    #[arg(long)]
    probe_only: bool,
    /// Between two writes of the probe through a node.
    #[arg(long, default_value_t = 5)]
    probe_ms: u64,
    /// The longest time without an acknowledged write that is allowed.
    #[arg(long)]
    max_gap_ms: Option<u64>,
    /// Where timeline, verdict, logs and stores go; stores stay only where something is wrong.
    #[arg(long, default_value = "jepsen-out")]
    out: PathBuf,
}

/// Runs a cluster under faults.
pub fn run(arguments: &Arguments) -> ExitCode {
    let plan = Plan {
        nodes: arguments.nodes,
        faults: arguments.faults,
        kinds: arguments.kinds.clone(),
        workloads: if arguments.probe_only { Vec::new() } else { arguments.workloads.clone() },
        plant: arguments.plant,
        seed: arguments.seed,
        probe_period: Duration::from_millis(arguments.probe_ms),
        longest_gap: arguments.max_gap_ms.map(Duration::from_millis),
        out: arguments.out.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run::run(&plan)),
        Err(error) => Err(format!("cannot start threads: {error}")),
    };
    match result {
        Ok(report) => {
            println!("\n{}", report.text());
            if report.is_good() == plan.plant.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("cairn-jepsen: {error}");
            ExitCode::FAILURE
        }
    }
}
