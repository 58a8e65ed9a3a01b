//! Runs one simulation: life after life of the node, then the checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_kv::engine::Cf;
use cairn_kv::seam::Runtime;
use cairn_kv::sim::{Digest, Faults, Machine, SimRng, Stopped, Timeline};
use cairn_server::layers::Layers;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::client::{Client, Failure};
use crate::history::Recorder;
use crate::workload::{self, Context, Workload};

use super::kv_client::KvClient;
use super::node::{self, Sizes};
use super::on_own_thread;
use super::plan::{Driver, Misfortune, Plan};
use super::sql_client::SqlClient;
use super::told::Told;

/// Virtual time within which a life must reach its number of commits.
const LIFE_LIMIT: Duration = Duration::from_secs(60);

/// What a simulation did.
#[derive(Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Acknowledged writing transactions.
    pub commits: u64,
    /// Conflicts shown to clients.
    pub conflicts: u64,
    /// Crashes.
    pub crashes: u64,
    /// Hash of everything that happened.
    pub digest: Digest,
    /// Number of events in it.
    pub events: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// What was wrong.
    pub failure: Option<String>,
    /// The end of the timeline, where it was kept.
    pub tail: Vec<String>,
}

/// Runs a simulation on this thread.
pub fn run(plan: &Plan) -> Report {
    let machine = Arc::new(Machine::new(plan.seed));
    if plan.print {
        machine.env.trace.set_timeline(Timeline::Print);
    } else if plan.keep_tail {
        machine.env.trace.set_timeline(Timeline::Tail);
    }
    let executor = machine.env.executor.clone();
    let mut run = Run {
        recorder: Arc::new(Recorder::new(move || executor.is_powered())),
        rng: Arc::new(SimRng::stream(plan.seed, "nemesis")),
        crashes: 0,
        sizes: Sizes::Small { buffer: None },
        plan,
        machine: Arc::clone(&machine),
    };
    let failure = run.all_lives().err();
    let (digest, events) = machine.env.trace.digest();
    Report {
        seed: plan.seed,
        commits: run.recorder.commits(),
        conflicts: run.recorder.conflicts(),
        crashes: run.crashes,
        digest,
        events,
        virtual_time: Duration::from_nanos(machine.env.clock.now_nanos()),
        failure,
        tail: machine.env.trace.tail(),
    }
}

/// Runs a simulation on a thread of its own, and reports a panic of the node as its failure.
pub fn run_isolated(plan: &Plan) -> Report {
    let owned = plan.clone();
    on_own_thread(plan.seed, move || run(&owned)).unwrap_or_else(|panic| Report {
        seed: plan.seed,
        commits: 0,
        conflicts: 0,
        crashes: 0,
        digest: Digest::default(),
        events: 0,
        virtual_time: Duration::ZERO,
        failure: Some(panic),
        tail: Vec::new(),
    })
}

struct Run<'a> {
    plan: &'a Plan,
    machine: Arc<Machine>,
    recorder: Arc<Recorder>,
    rng: Arc<SimRng>,
    crashes: u64,
    sizes: Sizes,
}

impl Run<'_> {
    fn all_lives(&mut self) -> Result<(), String> {
        // Some disks are slow: more time passes in a run, and more commits share a sync.
        if self.rng.one_in(3) {
            self.machine.env.disk.set_sync_nanos(500_000, 5_000_000);
        }
        // In some, transactions of a few rows are large ones, which write intents.
        self.sizes = Sizes::Small { buffer: *self.rng.choose(&[None, None, Some(200), Some(60)]) };
        self.set_up()?;
        let lives = u64::from(self.plan.crashes) + self.rng.below(3);
        for life in 0..lives {
            self.life(self.plan.commits * (life + 1) / (lives + 1), false)?;
        }
        self.life(self.plan.commits, true)?;
        let (commits, crashes) = (self.recorder.commits(), self.crashes);
        assert!(
            commits >= self.plan.commits && crashes >= u64::from(self.plan.crashes),
            "only {commits} commits and {crashes} crashes"
        );
        Ok(())
    }

    fn set_up(&mut self) -> Result<(), String> {
        let (machine, plan, sizes) = (Arc::clone(&self.machine), self.plan, self.sizes);
        let set_up = async {
            let node = node::open(&machine, sizes, plan.plant).await?;
            let result = match plan.driver {
                Driver::Sql => workload::set_up(&mut sql_client(&node, 1)?).await,
                Driver::Kv => workload::set_up(&mut KvClient::new(&node.db)).await,
            };
            result.map_err(|failure| format!("set-up: {failure}"))
        };
        self.limit();
        match machine.env.run(set_up) {
            Ok(result) => result?,
            Err(stopped) => return Err(format!("set-up: {stopped:?}")),
        }
        machine.env.crash();
        Ok(())
    }

    /// One life: until `commits` have been reached in all, then a crash, or peace if `last`.
    fn life(&mut self, commits: u64, last: bool) -> Result<(), String> {
        let machine = Arc::clone(&self.machine);
        loop {
            // Recovery crashes too, but not for ever.
            if self.crashes > 0 && self.rng.one_in(3) {
                self.plan_crash(400, 80);
            }
            self.limit();
            self.recorder.await_commits(commits);
            let life = Arc::new(Life {
                machine: Arc::clone(&machine),
                recorder: Arc::clone(&self.recorder),
                rng: Arc::clone(&self.rng),
                misfortunes: self.plan.misfortunes.clone(),
                commits,
                last,
                stop: Arc::new(AtomicBool::new(false)),
                io_fault: AtomicBool::new(false),
                clients: AtomicU64::new(0),
                ended: Notify::new(),
                unknown: Mutex::new(None),
            });
            let result = machine.env.run(live(Arc::clone(&life), self.plan, self.sizes));
            machine.env.disk.set_faults(Faults::default());
            match result {
                Ok(Ok(End::Peace)) => return Ok(()),
                Ok(Ok(End::Failed)) => {
                    // The store has stopped itself, as it must after a failed write.
                    machine.env.crash();
                    self.crashes += 1;
                }
                Ok(Err(failure)) => return Err(failure),
                Err(Stopped::Crashed) => {
                    self.crashes += 1;
                    if self.recorder.commits() >= commits && !last {
                        return Ok(());
                    }
                }
                Err(stopped) => return Err(format!("the node hangs: {stopped:?}")),
            }
        }
    }

    fn limit(&self) {
        self.machine.env.executor.set_time_limit(Some(LIFE_LIMIT));
    }

    fn plan_crash(&self, polls: u64, operations: u64) {
        plan_crash(&self.machine, &self.rng, polls, operations);
    }
}

fn plan_crash(machine: &Machine, rng: &SimRng, polls: u64, operations: u64) {
    if rng.one_in(2) {
        machine.env.crash_after_polls(rng.below(polls));
    } else {
        machine.env.crash_after_operations(rng.below(operations) as u32);
    }
}

/// What the tasks of one life share.
struct Life {
    machine: Arc<Machine>,
    recorder: Arc<Recorder>,
    rng: Arc<SimRng>,
    misfortunes: Vec<Misfortune>,
    /// Commits in all after which this life ends.
    commits: u64,
    last: bool,
    stop: Arc<AtomicBool>,
    /// A write or sync was made to fail.
    io_fault: AtomicBool,
    /// Clients at work.
    clients: AtomicU64,
    ended: Notify,
    /// The first outcome that a client was told is unknown.
    unknown: Mutex<Option<String>>,
}

/// How a life ends other than by a crash.
enum End {
    /// All is checked.
    Peace,
    /// The store stopped after a failure of its disk.
    Failed,
}

async fn live(life: Arc<Life>, plan: &Plan, sizes: Sizes) -> Result<End, String> {
    let node = Arc::new(node::open(&life.machine, sizes, plan.plant).await?);
    let runtime = Arc::clone(&node.store.env().runtime);
    life.clients.store(plan.clients.len() as u64, Ordering::SeqCst);
    for (number, workload) in plan.clients.iter().enumerate() {
        let id = number as u32 + 1;
        let context = Context {
            recorder: Arc::clone(&life.recorder),
            rng: Arc::new(SimRng::new(life.rng.draw())),
            runtime: Arc::clone(&runtime),
            stop: Arc::clone(&life.stop),
        };
        let life = Arc::clone(&life);
        match plan.driver {
            Driver::Sql => {
                let client = Told::new(sql_client(&node, id)?, life.machine.env.trace.clone(), id);
                runtime.spawn("client", Box::pin(work(life, *workload, client, context)));
            }
            Driver::Kv => {
                let client = Told::new(KvClient::new(&node.db), life.machine.env.trace.clone(), id);
                runtime.spawn("client", Box::pin(work(life, *workload, client, context)));
            }
        }
    }
    if plan.driver == Driver::Sql && plan.misfortunes.contains(&Misfortune::Ddl) {
        life.clients.fetch_add(1, Ordering::SeqCst);
        let client = sql_client(&node, 900)?;
        runtime.spawn("ddl", Box::pin(rebuild_index(Arc::clone(&life), client, Arc::clone(&runtime))));
    }
    runtime.spawn("nemesis", Box::pin(nemesis(Arc::clone(&life), Arc::clone(&node), Arc::clone(&runtime))));
    tokio::select! {
        biased;
        () = all_clients_ended(&life) => {}
        reason = node.store.failed() => {
            if !life.io_fault.load(Ordering::SeqCst) {
                return Err(format!("the store stopped although its disk is well: {reason}"));
            }
            // The process ends soon, and sessions with it, whatever they wait for.
            runtime.sleep(Duration::from_micros(life.rng.below(3_000))).await;
            return Ok(End::Failed);
        }
    }
    if let Some(unknown) = life.unknown.lock().take() {
        return Err(format!("a client was told, with no crash in sight: {unknown}"));
    }
    match plan.driver {
        Driver::Sql => workload::check(&mut sql_client(&node, 1000)?, &life.recorder).await?,
        Driver::Kv => workload::check(&mut KvClient::new(&node.db), &life.recorder).await?,
    }
    Ok(End::Peace)
}

async fn all_clients_ended(life: &Life) {
    loop {
        let ended = life.ended.notified();
        if life.clients.load(Ordering::SeqCst) == 0 {
            return;
        }
        ended.await;
    }
}

async fn work<C: Client>(life: Arc<Life>, workload: Workload, mut client: C, context: Context) {
    match workload::run(workload, &mut client, &context).await {
        Ok(()) => {}
        Err(Failure::Unknown(reason)) => {
            life.unknown.lock().get_or_insert(reason);
        }
        Err(failure) => {
            life.recorder.violation(format!("{workload:?}: {failure}"));
            life.stop.store(true, Ordering::SeqCst);
        }
    }
    drop(client);
    life.clients.fetch_sub(1, Ordering::SeqCst);
    life.ended.notify_one();
}

/// Brings misfortune, and the end once there are enough commits.
async fn nemesis(life: Arc<Life>, node: Arc<Layers>, runtime: Arc<dyn Runtime>) {
    let rng = &life.rng;
    let trace = &life.machine.env.trace;
    loop {
        let mut pause = runtime.sleep(Duration::from_micros(rng.between(100, 30_000)));
        tokio::select! {
            biased;
            () = life.recorder.enough() => {}
            () = &mut pause => {}
        }
        if life.recorder.is_violated() || node.store.failure().is_some() {
            break;
        }
        if life.recorder.commits() >= life.commits {
            if life.last {
                break;
            }
            plan_crash(&life.machine, rng, 600, 200);
            // The crash ends this task.
            std::future::pending::<()>().await;
        }
        let misfortune =
            if life.misfortunes.is_empty() { None } else { Some(*rng.choose(&life.misfortunes)) };
        match misfortune {
            Some(Misfortune::Clock) => {
                let most = *rng.choose(&[1_000, 100_000, 3_000_000, 20_000_000]);
                life.machine.env.clock.jump(rng.between(0, 2 * most) as i64 - most as i64);
            }
            Some(Misfortune::Flush) => {
                trace.note("nemesis", || "flush".into());
                // A failure has stopped the store, which the loop's head sees.
                let _ = node.store.flush().await;
                if rng.one_in(3) {
                    compact(&node, &*runtime, *rng.choose(&[Cf::Data, Cf::History, Cf::Local])).await;
                }
            }
            Some(Misfortune::Gc) if rng.one_in(2) => {
                trace.note("nemesis", || "collect garbage".into());
                let _ = node.db.collect_all_garbage(&cairn_txn::CancelToken::default()).await;
            }
            Some(Misfortune::Cancel) => {
                let sessions: Vec<_> = node.sql.sessions().into_iter().collect();
                if !sessions.is_empty() {
                    let (id, session) = rng.choose(&sessions);
                    trace.note("nemesis", || format!("cancel {id}"));
                    session.cancel.cancel();
                }
            }
            Some(Misfortune::Io) if rng.one_in(20) && !life.last => {
                life.io_fault.store(true, Ordering::SeqCst);
                let after = Some(rng.below(30));
                let faults = if rng.one_in(2) {
                    Faults { write_error_after: after, ..Faults::default() }
                } else {
                    Faults { sync_error_after: after, ..Faults::default() }
                };
                trace.note("nemesis", || format!("{faults:?}"));
                life.machine.env.disk.set_faults(faults);
            }
            _ => {}
        }
    }
    life.stop.store(true, Ordering::SeqCst);
}

/// Drops the index of the set workload and builds it again until the life ends.
async fn rebuild_index(life: Arc<Life>, mut client: SqlClient, runtime: Arc<dyn Runtime>) {
    let rng = SimRng::new(life.rng.draw());
    while !life.stop.load(Ordering::SeqCst) {
        for sql in ["DROP INDEX IF EXISTS items_v", "CREATE INDEX IF NOT EXISTS items_v ON items (v)"] {
            runtime.sleep(Duration::from_micros(rng.between(100, 40_000))).await;
            life.machine.env.trace.note("ddl", || format!("{sql} …"));
            let result = client.run(sql).await;
            life.machine.env.trace.note("ddl", || format!("{sql} → {result:?}"));
            match result {
                Ok(_) | Err(Failure::Retry(_)) => {}
                Err(Failure::Unknown(reason)) => {
                    life.unknown.lock().get_or_insert(reason);
                    life.stop.store(true, Ordering::SeqCst);
                }
                Err(failure) => {
                    life.recorder.violation(format!("{sql}: {failure}"));
                    life.stop.store(true, Ordering::SeqCst);
                }
            }
        }
    }
    life.clients.fetch_sub(1, Ordering::SeqCst);
    life.ended.notify_one();
}

/// A compaction that the engine chose itself.
async fn compact(node: &Layers, runtime: &dyn Runtime, cf: Cf) {
    let engine = Arc::clone(node.store.engine());
    let work = move || {
        // It fails only on a node that has crashed.
        let _ = engine.compact(cf, b"", b"");
    };
    runtime.blocking("compaction", Box::new(work)).await;
}

fn sql_client(node: &Layers, id: u32) -> Result<SqlClient, String> {
    SqlClient::new(&node.sql, id).map_err(|error| format!("a session does not open: {error}"))
}
