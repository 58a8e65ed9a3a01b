//! The workloads' clients: each works through one node after the other, whatever becomes of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_kv::seam::Runtime;
use cairn_kv::sim::SimRng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::history::Recorder;
use crate::workload::{self, Context, Workload, register};

use super::connection::Connection;
use super::timeline::Timeline;

/// What a client does.
#[derive(Clone, Copy)]
enum Role {
    /// A step of its workload after the other.
    Works,
    /// It reads registers.
    Reads,
}

/// Longest pause between two steps: histories are kept in memory.
const THINK: Duration = Duration::from_millis(30);

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// One workload's part of a run.
pub struct Part {
    /// Which.
    pub workload: Workload,
    /// Its history.
    pub recorder: Arc<Recorder>,
}

impl Part {
    /// One without a history.
    pub fn new(workload: Workload) -> Part {
        Part { workload, recorder: Arc::new(Recorder::new(|| true)) }
    }

    /// What its clients were told.
    pub fn told(&self) -> String {
        let recorder = &self.recorder;
        let (commits, conflicts) = (recorder.commits(), recorder.conflicts());
        format!("{commits} commits, {conflicts} conflicts, {} unknown", recorder.unknowns())
    }
}

/// Clients at work.
pub struct Clients {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Starts a client of each part at each node, and where there are registers, one that only reads them.
    pub fn start(
        parts: &[Part],
        nodes: &[SocketAddr],
        rng: &SimRng,
        runtime: &Arc<dyn Runtime>,
        timeline: &Arc<Timeline>,
    ) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let roles = parts.iter().flat_map(|part| {
            let reads = (part.workload == Workload::Register).then_some((part, Role::Reads));
            [(part, Role::Works)].into_iter().chain(reads)
        });
        for (part, role) in roles {
            for first in 0..nodes.len() {
                let context = Context {
                    recorder: Arc::clone(&part.recorder),
                    rng: Arc::new(SimRng::new(rng.draw())),
                    runtime: Arc::clone(runtime),
                    stop: Arc::clone(&stop),
                };
                let mut nodes = nodes.to_vec();
                nodes.rotate_left(first);
                tasks.spawn(work(part.workload, role, nodes, context, Arc::clone(timeline)));
            }
        }
        Clients { stop, tasks }
    }

    /// Completes when every client has had its last answer, or has given it up.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
    }
}

async fn work(
    workload: Workload,
    role: Role,
    nodes: Vec<SocketAddr>,
    context: Context,
    timeline: Arc<Timeline>,
) {
    let mut next = nodes.iter().cycle();
    let mut connection = None;
    while !context.is_stopped() {
        let client = match connection.take_if(|client: &mut Connection| client.is_open()) {
            Some(client) => connection.insert(client),
            None => match Connection::open(*next.next().expect("a cluster has nodes")).await {
                Ok(client) => connection.insert(client),
                Err(_) => {
                    sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let step = match role {
            Role::Works => workload::step(workload, client, &context).await,
            Role::Reads => register::look(client, &context).await,
        };
        if let Err(failure) = workload::settle(step, client, &context.recorder).await {
            timeline.note(&format!("{workload:?}: {failure}"));
            context.recorder.violation(failure.to_string());
        }
        context.pause(THINK).await;
    }
}
