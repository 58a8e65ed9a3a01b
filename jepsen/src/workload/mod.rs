//! Workloads: what clients do, and what must hold at the end whatever was done to the node.

pub mod append;
pub mod bank;
pub mod cells;
pub mod committed;
pub mod load;
pub mod register;
pub mod set;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_kv::seam::Runtime;
use cairn_kv::sim::SimRng;

use crate::client::{Client, Failure};
use crate::history::Recorder;

/// Which workload a client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Workload {
    /// Transfers; every snapshot has the same sum.
    Bank,
    /// Single rows, linearizable.
    Register,
    /// Insertions and deletions; the secondary index agrees.
    Set,
    /// Random transactions, strictly serializable.
    Cells,
    /// Batches of rows by COPY, as a whole or not at all.
    Load,
    /// The bank under READ COMMITTED.
    Committed,
    /// Lists that grow, strictly serializable.
    Append,
}

impl Workload {
    /// All workloads.
    pub const ALL: [Workload; 7] = [
        Workload::Bank,
        Workload::Register,
        Workload::Set,
        Workload::Cells,
        Workload::Load,
        Workload::Committed,
        Workload::Append,
    ];
}

/// What a client's task has besides its connection.
#[derive(Clone)]
pub struct Context {
    /// Shared histories.
    pub recorder: Arc<Recorder>,
    /// This client's choices.
    pub rng: Arc<SimRng>,
    /// For pauses.
    pub runtime: Arc<dyn Runtime>,
    /// Clients end when it is set.
    pub stop: Arc<AtomicBool>,
}

impl Context {
    /// Whether clients are to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Waits for a random time.
    pub async fn pause(&self, most: Duration) {
        let micros = self.rng.below(most.as_micros() as u64 + 1);
        self.runtime.sleep(Duration::from_micros(micros)).await;
    }
}

/// Creates tables and their first rows. Run once, without faults.
pub async fn set_up<C: Client>(client: &mut C) -> Result<(), Failure> {
    client.create_tables().await?;
    client.begin().await?;
    bank::set_up(client).await?;
    register::set_up(client).await?;
    append::set_up(client).await?;
    client.commit().await
}

/// Runs a client until it is told to stop, an outcome is unknown, or something is wrong.
pub async fn run<C: Client>(workload: Workload, client: &mut C, context: &Context) -> Result<(), Failure> {
    while !context.is_stopped() {
        match step(workload, client, context).await {
            Ok(()) => {}
            Err(Failure::Retry(_)) => {
                context.recorder.conflict();
                client.rollback().await;
            }
            Err(failure) => {
                client.rollback().await;
                return Err(failure);
            }
        }
    }
    Ok(())
}

/// Counts the conflict, or the unknown outcome, that a step of `client` ended with, and rolls back; what is neither is
/// given back. For clients that go on.
pub async fn settle<C: Client>(
    step: Result<(), Failure>,
    client: &mut C,
    recorder: &Recorder,
) -> Result<(), Failure> {
    let Err(failure) = step else { return Ok(()) };
    client.rollback().await;
    match failure {
        Failure::Retry(_) => recorder.conflict(),
        Failure::Unknown(_) => recorder.unknown(),
        failure => return Err(failure),
    }
    Ok(())
}

/// One step of a client; after a failure a transaction may be open.
pub async fn step<C: Client>(workload: Workload, client: &mut C, context: &Context) -> Result<(), Failure> {
    match workload {
        Workload::Bank => bank::step(client, context).await,
        Workload::Register => register::step(client, context).await,
        Workload::Set => set::step(client, context).await,
        Workload::Cells => cells::step(client, context).await,
        Workload::Load => load::step(client, context).await,
        Workload::Committed => committed::step(client, context).await,
        Workload::Append => append::step(client, context).await,
    }
}

/// Checks the final state and all histories. Runs on a quiet, healthy node.
pub async fn check<C: Client>(client: &mut C, recorder: &Recorder) -> Result<(), String> {
    for workload in Workload::ALL {
        if workload != Workload::Committed {
            check_state(workload, client, recorder).await?;
        }
    }
    check_histories(recorder)
}

/// Checks the final state and the history of one workload, which `recorder` has alone.
pub async fn check_one<C: Client>(
    workload: Workload,
    client: &mut C,
    recorder: &Recorder,
) -> Result<(), String> {
    check_state(workload, client, recorder).await?;
    check_histories(recorder)
}

async fn check_state<C: Client>(
    workload: Workload,
    client: &mut C,
    recorder: &Recorder,
) -> Result<(), String> {
    let checked = match workload {
        // Their customers share accounts and ledger.
        Workload::Bank | Workload::Committed => bank::check(client, recorder).await,
        Workload::Register => register::check(client, recorder).await,
        Workload::Set => set::check(client, recorder).await,
        Workload::Cells => cells::check(client, recorder).await,
        Workload::Load => load::check(client, recorder).await,
        Workload::Append => append::check(client, recorder).await,
    };
    checked.map_err(|failure| format!("the final check failed: {failure}"))
}

fn check_histories(recorder: &Recorder) -> Result<(), String> {
    recorder.with(|histories| {
        let history = crate::check::linear::check(&histories.operations, register::INITIAL)
            .and_then(|()| crate::check::serial::check(&histories.transactions))
            .and_then(|()| crate::check::append::check(&histories.appends));
        match (&histories.violations[..], history) {
            ([], history) => history,
            ([only], Ok(())) => Err(only.clone()),
            ([first, others @ ..], Ok(())) => Err(format!("{first}, and {} more", others.len())),
            ([first, ..], Err(wrong)) => Err(format!("{first}, and {wrong}")),
        }
    })
}
