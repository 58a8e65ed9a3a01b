//! Simulation of a cluster: nodes of the production crates, each on a machine of its own, a network between them,
//! clients outside that go from node to node, and misfortunes, all from one seed.
//!
//! While it runs, never two nodes serve, leases follow on one another, and replicas that have applied the same entry have
//! the same content. Then the network is whole, all nodes run, every client gets its last answer, all replicas come to
//! the same state, and the workloads check it and their histories.

mod client;
pub mod schedule;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_kv::seam::{Clock, Runtime};
use cairn_kv::sim::{Digest, Link, SimRng, Timeline};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{SnapshotConfig, StoreConfig};
use cairn_server::layers;
use cairn_txn::{CancelToken, DbConfig};

use crate::history::Recorder;
use crate::sim::on_own_thread;
use crate::sim::told::Told;
use crate::workload::{self, Context, Workload};

use self::client::Connection;
use self::schedule::{Event, Misfortune};
use self::world::World;

/// A bug built into all nodes on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// A leader serves reads for as long as it believes to lead.
    ServeBeyondSupport,
    /// Promises of support are made before they are durable.
    NoSupportSync,
    /// A restarted store votes at once, as if its earlier life had promised nothing.
    ForgetPromises,
    /// The log is not synced before it is answered for.
    NoSync,
    /// A commit is answered before a quorum has it.
    AnswerBeforeQuorum,
    /// A snapshot leaves a family out.
    SnapshotWithoutHistory,
    /// A snapshot is ingested without a marker that has recovery do it again.
    NoRedoMarker,
    /// A follower serves the past before it has all of it.
    CloseEarly,
    /// The log is truncated before the state made from it is flushed.
    TruncateEarly,
    /// After a restart the hybrid logical clock starts from the wall clock alone.
    HlcBack,
    /// A transaction's snapshot is drawn from its gateway's clock.
    OwnSnapshots,
    /// Reads are not recorded in the timestamp cache.
    NoTimestampCache,
    /// Proposals are forwarded to the leader, and apply under any lease.
    ForwardProposals,
    /// Commands are proposed again, and apply each time.
    ProposeTwice,
}

/// One simulation of a cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything is drawn from.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// Virtual milliseconds of misfortunes.
    pub ms: u64,
    /// The misfortunes; none: as the seed says.
    pub events: Option<Vec<Event>>,
    /// The clients' workloads, one client each.
    pub clients: Vec<Workload>,
    /// A planted bug.
    pub plant: Option<Plant>,
    /// What to do with the timeline.
    pub timeline: Option<Timeline>,
}

impl Plan {
    /// The usual simulation of a seed: a client of each workload and node.
    pub fn new(seed: u64, nodes: usize) -> Plan {
        let clients = Workload::ALL.into_iter().filter(|workload| *workload != Workload::Load);
        Plan { seed, nodes, ms: 8_000, events: None, clients: clients.collect(), plant: None, timeline: None }
    }
}

/// What a simulation did.
#[derive(Debug)]
pub struct Report {
    /// Acknowledged writing transactions.
    pub commits: u64,
    /// Conflicts shown to clients.
    pub conflicts: u64,
    /// Outcomes that stayed unknown.
    pub unknown: u64,
    /// Crashes.
    pub crashes: u64,
    /// Leases that were seen.
    pub leases: u64,
    /// Looks at the past that followers served.
    pub follower_reads: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// Hash of everything that happened, and how much that was.
    pub digest: (Digest, u64),
    /// The misfortunes.
    pub events: Vec<Event>,
    /// What was wrong.
    pub failure: Option<String>,
    /// The end of the timeline, where it was kept.
    pub tail: Vec<String>,
}

/// Runs a simulation on a thread of its own; a panic of a node is its failure.
pub fn run(plan: &Plan) -> Report {
    let events = plan.events.clone().unwrap_or_else(|| schedule::draw(plan.seed, plan.nodes, plan.ms));
    let owned = Plan { events: Some(events.clone()), ..plan.clone() };
    on_own_thread(plan.seed, move || run_here(&owned)).unwrap_or_else(|panic| Report {
        commits: 0,
        conflicts: 0,
        unknown: 0,
        crashes: 0,
        leases: 0,
        follower_reads: 0,
        virtual_time: Duration::ZERO,
        digest: Default::default(),
        events,
        failure: Some(panic),
        tail: Vec::new(),
    })
}

/// Leaves out of a failing simulation's misfortunes what it fails without, in at most `tries` runs.
pub fn shrink(plan: &Plan, events: &[Event], tries: usize) -> Vec<Event> {
    let quiet = Plan { timeline: None, ..plan.clone() };
    schedule::shrink(events, tries, |tried| {
        run(&Plan { events: Some(tried.to_vec()), ..quiet.clone() }).failure.is_some()
    })
}

fn run_here(plan: &Plan) -> Report {
    let (store, db) = configs(plan.plant);
    let world = Arc::new(World::new(plan.seed, plan.nodes, store, db, plan.timeline));
    let run = Run {
        recorder: Arc::new(Recorder::new(|| true)),
        stop: Arc::new(AtomicBool::new(false)),
        clients: Arc::new(AtomicU64::new(plan.clients.len() as u64)),
        follower_reads: AtomicU64::new(0),
        leases: AtomicU64::new(0),
        world: Arc::clone(&world),
        plan,
    };
    let outcome = world.run(run.all());
    let failure = match outcome {
        Ok(outcome) => outcome.err(),
        Err(stopped) => Some(format!("the simulation stopped: {stopped:?}")),
    };
    Report {
        commits: run.recorder.commits(),
        conflicts: run.recorder.conflicts(),
        unknown: run.recorder.unknowns(),
        crashes: world.crashes.load(Ordering::SeqCst),
        leases: run.leases.load(Ordering::SeqCst),
        follower_reads: run.follower_reads.load(Ordering::SeqCst),
        virtual_time: Duration::from_nanos(world.outside.clock.now_nanos()),
        digest: world.outside.trace.digest(),
        events: plan.events.clone().unwrap_or_default(),
        failure,
        tail: world.outside.trace.tail(),
    }
}

/// So small that segments roll, flushes happen, snapshots are needed and garbage is collected within a simulation.
fn configs(plant: Option<Plant>) -> (StoreConfig, DbConfig) {
    let mut store = StoreConfig {
        segment_bytes: 128 << 10,
        flush_log_bytes: 512 << 10,
        flush_keys: 500,
        log_bytes_for_followers: 128 << 10,
        snapshot: SnapshotConfig { piece_bytes: 4 << 10, table_bytes: 32 << 10, ..SnapshotConfig::default() },
        ..StoreConfig::default()
    };
    let mut db = DbConfig {
        gc_ttl_micros: 4_000_000,
        tombstone_lag_micros: 300_000,
        marker_lag_micros: 30_000_000,
        closed_lag_micros: 100_000,
        max_buffer_bytes: 400,
        ..layers::db_config()
    };
    match plant {
        None => {}
        Some(Plant::ServeBeyondSupport) => store.faults.serve_beyond_support = true,
        Some(Plant::NoSupportSync) => store.faults.skip_support_sync = true,
        Some(Plant::ForgetPromises) => store.faults.free_after_restart = true,
        Some(Plant::NoSync) => store.faults.skip_sync = true,
        Some(Plant::AnswerBeforeQuorum) => store.faults.answer_before_quorum = true,
        Some(Plant::SnapshotWithoutHistory) => store.faults.snapshot_without_history = true,
        Some(Plant::NoRedoMarker) => store.faults.no_redo_marker = true,
        Some(Plant::CloseEarly) => store.faults.close_early = true,
        Some(Plant::TruncateEarly) => store.faults.truncate_before_flush = true,
        Some(Plant::HlcBack) => store.faults.hlc_back_after_restart = true,
        Some(Plant::OwnSnapshots) => db.faults.own_snapshots = true,
        Some(Plant::NoTimestampCache) => db.faults.no_timestamp_cache = true,
        Some(Plant::ForwardProposals) => store.faults.forward_proposals = true,
        Some(Plant::ProposeTwice) => store.faults.propose_twice = true,
    }
    (store, db)
}

/// Virtual milliseconds within which a whole and healthy cluster must have come to rest.
const PEACE_MS: u64 = 40_000;

struct Run<'a> {
    plan: &'a Plan,
    world: Arc<World>,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    /// Clients at work.
    clients: Arc<AtomicU64>,
    follower_reads: AtomicU64,
    leases: AtomicU64,
}

impl Run<'_> {
    async fn all(&self) -> Result<(), String> {
        let world = &self.world;
        for node in 0..self.plan.nodes {
            let off = SimRng::stream(self.plan.seed, &format!("clock {node}")).below(70_000);
            world.machines[node].env.clock.jump(off as i64);
            world.start(node);
        }
        let mut client = self.connect_within(0, 10_000).await?;
        workload::set_up(&mut client).await.map_err(|failure| format!("set-up: {failure}"))?;
        drop(client);
        for (number, workload) in self.plan.clients.iter().enumerate() {
            self.start_client(number, *workload);
        }
        let begun = world.now_ms();
        let watched = self.watch();
        let troubled = self.trouble(begun);
        tokio::select! {
            biased;
            failure = watched => return Err(failure),
            troubled = troubled => troubled?,
        }
        self.peace().await
    }

    fn start_client(&self, number: usize, workload: Workload) {
        let world = Arc::clone(&self.world);
        let rng = Arc::new(SimRng::stream(self.plan.seed, &format!("client {number}")));
        let runtime: Arc<dyn Runtime> = Arc::new(world.outside.executor.runtime());
        let context = Context {
            recorder: Arc::clone(&self.recorder),
            rng: Arc::clone(&rng),
            runtime: Arc::clone(&runtime),
            stop: Arc::clone(&self.stop),
        };
        let (clients, nodes) = (Arc::clone(&self.clients), self.plan.nodes);
        let task = async move {
            let mut connection: Option<Told<Connection>> = None;
            while !context.is_stopped() {
                if connection.as_ref().is_none_or(|told| told.inner().is_lost()) || rng.one_in(50) {
                    let node = rng.below(nodes as u64) as usize;
                    let trace = &world.outside.trace;
                    trace.note("client", || format!("{number} connects to node {}", world.id(node)));
                    let told = |connection| Told::new(connection, trace.clone(), number as u32);
                    connection = Connection::open(&world, node).map(told);
                }
                let Some(client) = &mut connection else {
                    context.pause(Duration::from_millis(40)).await;
                    continue;
                };
                let step = workload::step(workload, client, &context).await;
                if let Err(failure) = workload::settle(step, client, &context.recorder).await {
                    context.recorder.violation(format!("{workload:?}: {failure}"));
                    break;
                }
                context.pause(Duration::from_millis(20)).await;
            }
            drop(connection);
            clients.fetch_sub(1, Ordering::SeqCst);
        };
        runtime.spawn("client", Box::pin(task));
    }

    /// Completes with what must not be.
    async fn watch(&self) -> String {
        let world = &self.world;
        let mut lease = 0;
        let mut compared = 0;
        loop {
            world.sleep(3).await;
            let serving = world.serving();
            if serving.len() > 1 {
                return format!("nodes serve at once: {serving:?} (node, lease)");
            }
            if let Some(&(node, sequence)) = serving.first() {
                if sequence < lease {
                    return format!("node {node} serves under lease {sequence} after lease {lease}");
                }
                if sequence > lease {
                    lease = sequence;
                    self.leases.fetch_add(1, Ordering::SeqCst);
                }
            }
            if let Some(failure) = self.recorder.with(|histories| histories.violations.first().cloned()) {
                return failure;
            }
            if let Some((node, reason)) = world.refused() {
                return format!("node {node} does not open: {reason}");
            }
            if world.now_ms() >= compared + 500 {
                compared = world.now_ms();
                if let Err(differ) = self.compare() {
                    return differ;
                }
            }
        }
    }

    /// Replicas that have applied the same entry are the same.
    fn compare(&self) -> Result<BTreeMap<u64, usize>, String> {
        let mut seen: BTreeMap<u64, (usize, Vec<world::Entry>)> = BTreeMap::new();
        for node in (0..self.plan.nodes).filter(|node| self.world.store(*node).is_some()) {
            let content = self.world.content(node);
            let (index, content) = content.map_err(|error| format!("node {node}: {error}"))?;
            if let Some((other, expected)) = seen.get(&index) {
                if *expected != content {
                    let first = expected.iter().zip(&content).find(|(a, b)| a != b);
                    return Err(format!(
                        "entry {index}: the replica on {node} differs from that on {other}: {first:?}"
                    ));
                }
            } else {
                seen.insert(index, (node, content));
            }
        }
        Ok(seen.into_iter().map(|(index, (node, _))| (index, node)).collect())
    }

    /// Brings the misfortunes, and takes them back when their time is over.
    async fn trouble(&self, begun: u64) -> Result<(), String> {
        let world = &self.world;
        let mut events = self.plan.events.iter().flatten();
        let mut next = events.next();
        let mut passing: Vec<(u64, Event)> = Vec::new();
        let mut starts_at: BTreeMap<usize, u64> = BTreeMap::new();
        let end = begun + self.plan.ms;
        while world.now_ms() < end {
            world.sleep(1).await;
            let now = world.now_ms();
            while let Some(event) = next.filter(|event| begun + event.at_ms <= now) {
                world.outside.trace.note("nemesis", || event.to_string());
                self.befall(event);
                passing.push((now + event.for_ms, *event));
                next = events.next();
            }
            for (_, event) in passing.extract_if(.., |(until, _)| *until <= now) {
                self.undo(&event);
            }
            for node in 0..self.plan.nodes {
                self.end_failed(node);
                if world.is_started(node) {
                    starts_at.remove(&node);
                } else if now >= *starts_at.entry(node).or_insert(now + 100 + node as u64 * 150) {
                    world.start(node);
                }
            }
        }
        for (_, event) in passing {
            self.undo(&event);
        }
        Ok(())
    }

    /// A node whose store has stopped ends, as its process would.
    fn end_failed(&self, node: usize) {
        let Some(reason) = self.world.store(node).and_then(|store| store.failure()) else { return };
        self.world.outside.trace.note("nemesis", || format!("node {} has ended: {reason}", node + 1));
        self.set_clock(node, 0);
        self.world.crash(node);
    }

    fn set_clock(&self, node: usize, ahead_micros: u64) {
        let clock = &self.world.machines[node].env.clock;
        let ahead = clock.wall_micros() as i64 - self.world.outside.clock.wall_micros() as i64;
        clock.jump(ahead_micros as i64 - ahead);
    }

    fn befall(&self, event: &Event) {
        let (world, node) = (&self.world, event.node);
        let machine = &world.machines[node];
        let runtime = machine.env.executor.runtime();
        let others = (0..self.plan.nodes).filter(|other| *other != node);
        match event.what {
            Misfortune::Crash if world.is_started(node) => world.crash(node),
            Misfortune::CrashSoon { after, at_operation: false } => machine.env.crash_after_polls(after),
            Misfortune::CrashSoon { after, at_operation: true } => {
                machine.env.crash_after_operations(after as u32);
            }
            Misfortune::Isolate => {
                for other in others {
                    self.cut(node, other);
                    self.cut(other, node);
                }
            }
            Misfortune::CutTo(other) => self.cut(node, other),
            Misfortune::Flaky { to, lost, repeated, delay_ms } => {
                let link = Link {
                    cut: false,
                    lost_per_mille: lost,
                    repeated_per_mille: repeated,
                    delay_nanos: (10_000, delay_ms * 1_000_000),
                };
                world.network.set_link(world.id(node), world.id(to), link);
            }
            Misfortune::SlowDisk { sync_ms } => {
                machine.env.disk.set_sync_nanos(20_000, sync_ms * 1_000_000);
            }
            Misfortune::Clock(ahead) => self.set_clock(node, ahead),
            Misfortune::WrongClock => machine.env.clock.jump(400_000),
            Misfortune::Cede(to) => {
                if let Some(store) = world.store(node) {
                    let to = world.id(to);
                    // It has the lease or not.
                    let cede = async move { drop(store.cede(FIRST_RANGE, to).await) };
                    runtime.spawn("cede", Box::pin(cede));
                }
            }
            Misfortune::Flush => {
                if let Some(store) = world.store(node) {
                    // It fails where the store does, which is seen elsewhere.
                    runtime.spawn("flush", Box::pin(async move { drop(store.flush().await) }));
                }
            }
            Misfortune::Collect => {
                if let Some(layers) = world.layers(node) {
                    let collect = async move {
                        // It fails where the leaseholder is not reached.
                        drop(layers.db.collect_all_garbage(&CancelToken::default()).await);
                    };
                    runtime.spawn("collect", Box::pin(collect));
                }
            }
            Misfortune::Cancel => {
                if let Some(layers) = world.layers(node) {
                    layers.sql.sessions().into_iter().for_each(|(_, session)| session.cancel.cancel());
                }
            }
            Misfortune::Crash => {}
        }
    }

    fn cut(&self, from: usize, to: usize) {
        let link = Link { cut: true, ..Link::default() };
        self.world.network.set_link(self.world.id(from), self.world.id(to), link);
    }

    fn mend(&self, from: usize, to: usize) {
        self.world.network.set_link(self.world.id(from), self.world.id(to), Link::default());
    }

    fn undo(&self, event: &Event) {
        let node = event.node;
        match event.what {
            Misfortune::Isolate => {
                for other in (0..self.plan.nodes).filter(|other| *other != node) {
                    self.mend(node, other);
                    self.mend(other, node);
                }
            }
            Misfortune::CutTo(other) | Misfortune::Flaky { to: other, .. } => self.mend(node, other),
            Misfortune::SlowDisk { .. } => self.world.machines[node].env.disk.set_sync_nanos(20_000, 400_000),
            Misfortune::WrongClock => self.set_clock(node, 0),
            _ => {}
        }
    }

    /// All is well: everything comes to an end, and to the same end everywhere.
    async fn peace(&self) -> Result<(), String> {
        let world = &self.world;
        world.network.heal();
        self.stop.store(true, Ordering::SeqCst);
        for machine in &world.machines {
            machine.env.crash_after_polls(u64::from(u32::MAX));
            machine.env.crash_after_operations(u32::MAX);
        }
        let begun = world.now_ms();
        let mut indexes = BTreeMap::new();
        loop {
            world.sleep(20).await;
            for node in 0..self.plan.nodes {
                self.end_failed(node);
                world.start(node);
            }
            if let Some((node, reason)) = world.refused() {
                return Err(format!("node {node} does not open: {reason}"));
            }
            let all_serve = (0..self.plan.nodes).all(|node| world.layers(node).is_some());
            let clients = self.clients.load(Ordering::SeqCst);
            if all_serve && clients == 0 && world.serving().len() == 1 {
                indexes = self.compare()?;
                if indexes.len() == 1 {
                    break;
                }
            }
            if world.now_ms() > begun + PEACE_MS {
                return Err(format!(
                    "no peace: {clients} clients wait, {:?} serve, replicas have applied {indexes:?}",
                    world.serving()
                ));
            }
        }
        for node in 0..self.plan.nodes {
            let reads = world.layers(node).map_or(0, |layers| layers.db.follower_reads());
            self.follower_reads.fetch_add(reads, Ordering::SeqCst);
        }
        let node = SimRng::stream(self.plan.seed, "checker").below(self.plan.nodes as u64) as usize;
        let mut client = self.connect_within(node, 1_000).await?;
        workload::check(&mut client, &self.recorder).await
    }

    async fn connect_within(&self, node: usize, ms: u64) -> Result<Connection, String> {
        let begun = self.world.now_ms();
        loop {
            if let Some(connection) = Connection::open(&self.world, node) {
                return Ok(connection);
            }
            if let Some((node, reason)) = self.world.refused() {
                return Err(format!("node {node} does not open: {reason}"));
            }
            if self.world.now_ms() > begun + ms {
                return Err(format!("node {node} does not serve SQL within {ms} ms"));
            }
            self.world.sleep(1).await;
        }
    }
}
