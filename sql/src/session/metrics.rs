//! What a node measures of its sessions, for its `/metrics`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A node's metrics; clones share their values.
#[derive(Clone, Debug)]
pub struct SqlMetrics {
    /// From a message that has something executed to its outcome, seconds: a string of the simple protocol, an
    /// Execute, a Sync that commits.
    pub(super) execution: Histogram,
    /// Those that ended in an error.
    pub(super) errors: Counter,
}

impl Default for SqlMetrics {
    fn default() -> SqlMetrics {
        // From 16 µs to half a minute.
        let execution = Histogram::new(exponential_buckets(16e-6, 2.0, 22));
        SqlMetrics { execution, errors: Counter::default() }
    }
}

impl SqlMetrics {
    /// Shows them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Simple queries, Executes, and Syncs that commit";
        registry.register_with_unit("sql_execution", help, Unit::Seconds, self.execution.clone());
        registry.register("sql_errors", "Those that ended in an error", self.errors.clone());
    }
}
