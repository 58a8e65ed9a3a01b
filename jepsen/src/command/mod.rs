//! The subcommands' arguments and output.

pub mod cluster;
pub mod node;
pub mod real;
pub mod sim;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs `one_seed` for `seeds` seeds from `first` on, `jobs` at a time, until `is_enough`. Says how many at a time.
fn for_each_seed(
    (first, seeds): (u64, u64),
    jobs: u64,
    is_enough: impl Fn() -> bool + Sync,
    one_seed: impl Fn(u64) + Sync,
) -> u64 {
    let next = AtomicU64::new(first);
    let jobs = jobs.min(seeds).max(1);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + seeds || is_enough() {
                        break;
                    }
                    one_seed(seed);
                }
            });
        }
    });
    jobs
}

/// What comes of `failed` of `seeds` simulations: none may fail, and some must where a bug was planted, which is
/// printed.
fn verdict<P: std::fmt::Debug>(plant: Option<P>, failed: u64, seeds: u64) -> ExitCode {
    let success = match plant {
        None => failed == 0,
        Some(plant) => {
            println!("the planted bug {plant:?} was found in {failed} of {seeds} seeds");
            failed > 0
        }
    };
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
