//! `cairn-jepsen sim`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cairn_jepsen::sim::plan::Misfortune;
use cairn_jepsen::sim::{Driver, Plan, Plant, Report, run_isolated};

use super::{for_each_seed, verdict};

/// Arguments.
#[derive(clap::Args)]
pub struct Arguments {
    /// First seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Acknowledged writing transactions for each seed.
    #[arg(long, default_value_t = 1000)]
    commits: u64,
    /// Crashes for each seed, at least.
    #[arg(long, default_value_t = 3)]
    crashes: u32,
    /// How clients reach the database.
    #[arg(long, value_enum, default_value = "sql")]
    driver: Driver,
    /// Misfortunes besides crashes.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Misfortune::ALL)]
    misfortunes: Vec<Misfortune>,
    /// Plants a bug, which must be found in at least one seed.
    #[arg(long = "fault", value_enum)]
    plant: Option<Plant>,
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
    crashes: AtomicU64,
    events: AtomicU64,
    failed: AtomicU64,
}

/// Runs the simulations.
pub fn run(arguments: &Arguments) -> ExitCode {
    let started = Instant::now();
    let totals = Totals::default();
    let seeds = (arguments.seed, arguments.seeds);
    let is_enough = || false;
    let one = |seed| one_seed(arguments, seed, &totals);
    let jobs = for_each_seed(seeds, arguments.jobs, is_enough, one);
    let Totals { seeds, commits, crashes, events, failed } = totals;
    let (seeds, failed) = (seeds.into_inner(), failed.into_inner());
    println!(
        "{seeds} seeds, {} commits, {} crashes, {} events, {failed} failed, {:.1} s with {jobs} at a time",
        commits.into_inner(),
        crashes.into_inner(),
        events.into_inner(),
        started.elapsed().as_secs_f64(),
    );
    verdict(arguments.plant, failed, seeds)
}

fn one_seed(arguments: &Arguments, seed: u64, totals: &Totals) {
    let plan = Plan {
        commits: arguments.commits,
        crashes: arguments.crashes,
        driver: arguments.driver,
        misfortunes: arguments.misfortunes.clone(),
        plant: arguments.plant,
        print: arguments.trace,
        ..Plan::new(seed)
    };
    let mut report = run_isolated(&plan);
    if seed - arguments.seed < arguments.twice && report.failure.is_none() {
        let again = run_isolated(&Plan { print: false, ..plan.clone() });
        if (again.digest, again.events) != (report.digest, report.events) {
            report.failure = Some(format!(
                "two runs differ: {} after {} events, {} after {}",
                report.digest, report.events, again.digest, again.events
            ));
        }
    }
    if report.failure.is_some() && arguments.plant.is_none() && !arguments.trace {
        // Once more, with the end of the timeline.
        report.tail = run_isolated(&Plan { keep_tail: true, ..plan }).tail;
    }
    let sums = [
        (&totals.seeds, 1),
        (&totals.commits, report.commits),
        (&totals.crashes, report.crashes),
        (&totals.events, report.events),
        (&totals.failed, u64::from(report.failure.is_some())),
    ];
    for (total, value) in sums {
        total.fetch_add(value, Ordering::SeqCst);
    }
    if report.failure.is_some() || !arguments.quiet {
        print(&report, arguments);
    }
}

fn print(report: &Report, arguments: &Arguments) {
    let Report { seed, commits, conflicts, crashes, digest, events, virtual_time, .. } = report;
    let mut text = format!(
        "seed {seed}: {commits} commits, {conflicts} conflicts, {crashes} crashes, {:.3} virtual seconds, \
         {events} events, trace {digest}\n",
        virtual_time.as_secs_f64()
    );
    if let Some(failure) = &report.failure {
        for line in report.tail.iter().rev().take(40).rev() {
            text += &format!("    {line}\n");
        }
        text += &format!("seed {seed} FAILED: {failure}\n");
        if arguments.plant.is_none() {
            text +=
                &format!("again: cairn-jepsen sim --seed {seed} --commits {} --trace\n", arguments.commits);
        }
    }
    print!("{text}");
}
