//! `cairn-jepsen cluster`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cairn_jepsen::sim::cluster::{self, Plan, Plant};
use cairn_kv::sim::Timeline;

use super::{for_each_seed, verdict};

/// Runs that shrinking a failure may take.
const SHRINK_RUNS: usize = 60;

/// Arguments.
#[derive(clap::Args)]
pub struct Arguments {
    /// First seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=9))]
    nodes: u64,
    /// Virtual seconds of misfortunes for each seed.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Plants a bug, which must be found in at least one seed.
    #[arg(long = "fault", value_enum)]
    plant: Option<Plant>,
    /// Ends with the first seed that fails.
    #[arg(long)]
    first: bool,
    /// Runs so many seeds twice and compares the traces.
    #[arg(long, default_value_t = 0)]
    twice: u64,
    /// Simulations at a time.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Prints the timeline.
    #[arg(long)]
    trace: bool,
    /// Prints only failures and the sum.
    #[arg(long)]
    quiet: bool,
}

/// Sums over seeds.
#[derive(Default)]
struct Totals {
    seeds: AtomicU64,
    commits: AtomicU64,
    unknown: AtomicU64,
    crashes: AtomicU64,
    leases: AtomicU64,
    follower_reads: AtomicU64,
    virtual_ms: AtomicU64,
    failed: AtomicU64,
}

/// Runs the simulations.
pub fn run(arguments: &Arguments) -> ExitCode {
    let started = Instant::now();
    let totals = Totals::default();
    let seeds = (arguments.seed, arguments.seeds);
    let is_enough = || arguments.first && totals.failed.load(Ordering::SeqCst) > 0;
    let one = |seed| one_seed(arguments, seed, &totals);
    let jobs = for_each_seed(seeds, arguments.jobs, is_enough, one);
    let Totals { seeds, commits, unknown, crashes, leases, follower_reads, virtual_ms, failed } = totals;
    let (seeds, failed, elapsed) = (seeds.into_inner(), failed.into_inner(), started.elapsed().as_secs_f64());
    let virtual_seconds = virtual_ms.into_inner() as f64 / 1e3;
    println!(
        "{seeds} seeds of {} nodes, {} commits, {} unknown, {} crashes, {} leases, {} reads by followers, {failed} failed, \
         {virtual_seconds:.0} virtual seconds in {elapsed:.1} s with {jobs} at a time",
        arguments.nodes,
        commits.into_inner(),
        unknown.into_inner(),
        crashes.into_inner(),
        leases.into_inner(),
        follower_reads.into_inner(),
    );
    verdict(arguments.plant, failed, seeds)
}

fn one_seed(arguments: &Arguments, seed: u64, totals: &Totals) {
    let plan = Plan {
        ms: arguments.seconds * 1_000,
        plant: arguments.plant,
        timeline: arguments.trace.then_some(Timeline::Print),
        ..Plan::new(seed, arguments.nodes as usize)
    };
    let mut report = cluster::run(&plan);
    if seed - arguments.seed < arguments.twice && report.failure.is_none() {
        let again = cluster::run(&Plan { timeline: None, ..plan.clone() });
        if again.digest != report.digest {
            report.failure = Some(format!("two runs differ: {:?} and {:?}", report.digest, again.digest));
        }
    }
    let sums = [
        (&totals.seeds, 1),
        (&totals.commits, report.commits),
        (&totals.unknown, report.unknown),
        (&totals.crashes, report.crashes),
        (&totals.leases, report.leases),
        (&totals.follower_reads, report.follower_reads),
        (&totals.virtual_ms, report.virtual_time.as_millis() as u64),
        (&totals.failed, u64::from(report.failure.is_some())),
    ];
    for (total, value) in sums {
        total.fetch_add(value, Ordering::SeqCst);
    }
    if arguments.quiet && report.failure.is_none() {
        return;
    }
    let mut text = format!(
        "seed {seed}: {} commits, {} conflicts, {} unknown, {} crashes, {} leases, {} reads by followers, {:.3} virtual seconds, \
         trace {}\n",
        report.commits,
        report.conflicts,
        report.unknown,
        report.crashes,
        report.leases,
        report.follower_reads,
        report.virtual_time.as_secs_f64(),
        report.digest.0,
    );
    if let Some(failure) = &report.failure {
        text += &format!("seed {seed} FAILED: {failure}\n");
        if arguments.plant.is_none() && !arguments.trace {
            let events = cluster::shrink(&plan, &report.events, SHRINK_RUNS);
            text += &format!("of {} misfortunes these are enough:\n", report.events.len());
            events.iter().for_each(|event| text += &format!("    {event}\n"));
            let shrunk = Plan { events: Some(events), timeline: Some(Timeline::Tail), ..plan };
            let again = cluster::run(&shrunk);
            text += &format!("then: {}\n", again.failure.unwrap_or_default());
            again.tail.iter().rev().take(60).rev().for_each(|line| text += &format!("    {line}\n"));
        }
        text += &format!(
            "again: cairn-jepsen cluster --seed {seed} --nodes {} --seconds {} --trace\n",
            arguments.nodes, arguments.seconds
        );
    }
    print!("{text}");
}
