//! The same seed gives the same trace, whatever else the process does meanwhile.

use cairn_jepsen::sim::{Driver, Plan, run_isolated};

#[test]
fn a_seed_run_twice_leaves_the_same_trace() {
    for driver in [Driver::Sql, Driver::Kv] {
        let plan = |seed| Plan { commits: 300, driver, ..Plan::new(seed) };
        let reports: Vec<_> = std::thread::scope(|scope| {
            let run = |seed| scope.spawn(move || run_isolated(&plan(seed)));
            let threads: Vec<_> = [1, 1, 2, 2].map(run).into();
            threads.into_iter().map(|thread| thread.join().expect("a panic is a report")).collect()
        });
        for report in &reports {
            assert_eq!(report.failure, None, "{driver:?}, seed {}", report.seed);
            assert!(report.commits >= 300 && report.crashes >= 3, "{report:?}");
        }
        for pair in reports.chunks(2) {
            assert_eq!(pair[0].digest, pair[1].digest);
            assert_eq!(pair[0].events, pair[1].events);
        }
        assert_ne!(reports[0].digest, reports[2].digest, "another seed is another run");
    }
}
