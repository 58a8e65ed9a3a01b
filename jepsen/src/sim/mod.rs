//! Simulation: a node of the production crates, its clients and its misfortunes, from one seed.
//!
//! A run is a series of lives of one node. In each, the node opens its store, clients work, and a
//! nemesis flushes, collects garbage and moves the wall clock; then the node crashes at a poll, a
//! disk operation or an engine operation that the seed chose, sometimes again while it recovers. The
//! last life ends in peace: the workloads check the final state and their histories.
//!
//! One simulation uses one thread; several run beside each other.

pub mod cluster;
pub mod kv_client;
pub mod node;
pub mod plan;
pub mod runner;
pub mod sql_client;
pub mod told;

pub use plan::{Driver, Plan, Plant};
pub use runner::{Report, run, run_isolated};

/// Runs a simulation on a thread of its own; a panic there is the error.
fn on_own_thread<T: Send + 'static>(
    seed: u64,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let thread = std::thread::Builder::new()
        .name(format!("seed {seed}"))
        // What a worker of the production runtime has.
        .stack_size(8 << 20)
        .spawn(run)
        .expect("a thread can be started");
    thread.join().map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
        format!("panic: {text}")
    })
}
