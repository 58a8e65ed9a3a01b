//! What a store measures of itself, for its node's `/metrics`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A store's metrics; clones share their values.
#[derive(Clone)]
pub struct StoreMetrics {
    /// How long the log's syncs took, seconds.
    pub(crate) sync: Histogram,
    /// From a command's proposal to its answer, seconds: group commit, replication, apply.
    pub(crate) propose: Histogram,
    /// Leases that replicas of this store asked for as new leaders.
    pub(crate) leases: Counter,
    /// Snapshots sent, of which the receiver has all.
    pub(crate) snapshots_sent: Counter,
    /// Snapshots put in a replica's place.
    pub(crate) snapshots_taken: Counter,
}

impl Default for StoreMetrics {
    fn default() -> StoreMetrics {
        // From 16 µs to half a second.
        let seconds = || Histogram::new(exponential_buckets(16e-6, 2.0, 16));
        StoreMetrics {
            sync: seconds(),
            propose: seconds(),
            leases: Counter::default(),
            snapshots_sent: Counter::default(),
            snapshots_taken: Counter::default(),
        }
    }
}

impl StoreMetrics {
    /// Shows them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let seconds = || Unit::Seconds;
        registry.register_with_unit("log_sync", "Syncs of the log", seconds(), self.sync.clone());
        registry.register_with_unit(
            "raft_propose",
            "Commands, from proposal to answer",
            seconds(),
            self.propose.clone(),
        );
        let counters = [
            ("raft_leases", "Leases that replicas here asked for as new leaders", &self.leases),
            ("raft_snapshots_sent", "Snapshots sent whole", &self.snapshots_sent),
            ("raft_snapshots_taken", "Snapshots put in a replica's place", &self.snapshots_taken),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}

/// Seconds of a duration in nanoseconds.
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 * 1e-9
}
