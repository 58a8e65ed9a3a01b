//! What a node shows of itself at `/metrics`, in OpenMetrics' text format.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// A look at the metrics of a node.
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Nothing yet.
    pub fn new() -> Metrics {
        Metrics { registry: Registry::with_prefix("cairn") }
    }

    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    /// Something that only rises. `_total` is put behind its name.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.registry.register(name, help, ConstCounter::new(value));
    }

    /// For what registers itself.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string");
        text
    }
}
