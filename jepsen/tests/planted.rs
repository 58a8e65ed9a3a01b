//! The simulator is proven on bugs planted in production code: each must be found, and by what is
//! meant to find it. How many of 200 seeds find each stands in ARCHITECTURE.md.

use cairn_jepsen::sim::{Plan, Plant, run_isolated};

/// Runs seeds until one finds the bug; what it says must have one of these words.
fn is_found_within(plant: Plant, seeds: u64, words: &[&str]) {
    for seed in 1..=seeds {
        let report = run_isolated(&Plan { plant: Some(plant), ..Plan::new(seed) });
        if let Some(failure) = report.failure {
            println!(
                "{plant:?}: seed {seed} after {} commits and {} crashes: {failure}",
                report.commits, report.crashes
            );
            assert!(
                words.iter().any(|word| failure.contains(word)),
                "{plant:?} is found by another check: {failure}"
            );
            return;
        }
    }
    panic!("{plant:?} was not found in {seeds} seeds");
}

#[test]
fn a_log_that_is_not_synced() {
    is_found_within(Plant::NoSync, 2, &["the store does not open", "is lost"]);
}

#[test]
fn a_clock_that_goes_back_after_a_restart() {
    let words = ["a lease begins above every commit", "now is above every commit", "snapshot too old"];
    is_found_within(Plant::HlcBack, 20, &words);
}

#[test]
fn a_compaction_filter_ahead_of_its_threshold() {
    is_found_within(Plant::FilterAhead, 4, &["snapshot too old", "now it is", "snapshot changed"]);
}

#[test]
fn a_log_truncated_before_the_flush() {
    is_found_within(Plant::TruncateEarly, 20, &["the engine has applied entry", "is lost"]);
}

#[test]
fn a_torn_record_taken_for_a_whole_one() {
    is_found_within(Plant::TornTail, 30, &["the store does not open: storage corruption"]);
}

#[test]
fn a_timestamp_that_moves_without_refresh() {
    is_found_within(Plant::NoRefresh, 2, &["lost update", "sum to", "no serial order"]);
}

#[test]
fn reads_that_are_not_in_the_timestamp_cache() {
    is_found_within(Plant::NoTimestampCache, 2, &["lost update", "no serial order", "snapshot changed"]);
}

#[test]
fn one_snapshot_for_all_statements_of_read_committed() {
    is_found_within(Plant::OneSnapshot, 2, &["before a statement that does not see it"]);
}

#[test]
fn bulk_that_overwrites_what_is_there() {
    is_found_within(Plant::BlindBulk, 10, &["is not in the way"]);
}
