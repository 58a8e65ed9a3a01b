//! What a simulation is asked to do.

use crate::workload::Workload;

/// How the clients reach the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// SQL text in sessions of the node.
    Sql,
    /// Transactions of `cairn_txn`, without SQL.
    Kv,
}

/// A bug built into the node on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// The log is not synced before a commit is acknowledged.
    NoSync,
    /// After a restart the hybrid logical clock starts from the wall clock alone.
    HlcBack,
    /// Compaction filters act on thresholds that are not flushed.
    FilterAhead,
    /// The log is truncated before the state made from it is flushed.
    TruncateEarly,
    /// A torn record at the log's end is taken for a whole one.
    TornTail,
    /// A transaction whose timestamp moves does not look at what it has read again.
    NoRefresh,
    /// Reads are not recorded in the timestamp cache.
    NoTimestampCache,
    /// READ COMMITTED transactions keep one snapshot.
    OneSnapshot,
    /// COPY of many rows does not look whether their keys are taken.
    BlindBulk,
}

/// Misfortunes besides crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Misfortune {
    /// The wall clock jumps.
    Clock,
    /// Flushes at random times.
    Flush,
    /// Garbage collection at random times.
    Gc,
    /// Failing writes and syncs: the node must stop and lose nothing.
    Io,
    /// A session's running statement is canceled.
    Cancel,
    /// An index is dropped and built again, over and over.
    Ddl,
}

impl Misfortune {
    /// All of them.
    pub const ALL: [Misfortune; 6] = [
        Misfortune::Clock,
        Misfortune::Flush,
        Misfortune::Gc,
        Misfortune::Io,
        Misfortune::Cancel,
        Misfortune::Ddl,
    ];
}

/// One simulation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything is drawn from.
    pub seed: u64,
    /// Acknowledged writing transactions to reach.
    pub commits: u64,
    /// Crashes at least.
    pub crashes: u32,
    /// How clients reach the database.
    pub driver: Driver,
    /// Clients' workloads, one client each.
    pub clients: Vec<Workload>,
    /// Misfortunes besides crashes.
    pub misfortunes: Vec<Misfortune>,
    /// A planted bug.
    pub plant: Option<Plant>,
    /// Print the timeline as it happens.
    pub print: bool,
    /// Keep the end of the timeline for the report of a failure.
    pub keep_tail: bool,
}

impl Plan {
    /// The usual simulation of a seed: two clients of each workload, all misfortunes.
    pub fn new(seed: u64) -> Plan {
        Plan {
            seed,
            commits: 1000,
            crashes: 3,
            driver: Driver::Sql,
            clients: Workload::ALL.into_iter().chain(Workload::ALL).collect(),
            misfortunes: Misfortune::ALL.to_vec(),
            plant: None,
            print: false,
            keep_tail: false,
        }
    }
}
