//! Running a pipeline of the extended protocol again after a conflict.
//!
//! An implicit transaction commits at Sync, when the answers of its statements are made but, as a
//! rule, not sent. While none of them has left, the whole transaction can be run again and its
//! answers replaced: the client never learns of the conflict. What is needed for that is recorded
//! with each Execute. A pipeline is not run again when it holds something that cannot be repeated
//! (COPY data, a portal fetched in pieces or executed later than the one bound next, statements that
//! act outside the transaction), when it is larger than [`MOST_BYTES`], or when answers have been
//! sent: because they filled the buffer, or because the client asked for them (Flush).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cairn_txn::Savepoint;

use super::plan_cache::Compiled;
use super::portal::{Portal, PortalState, Prepared, utility_of};
use super::run::TRIES;
use super::{Format, ResultSink, Session};
use crate::plan::Utility;
use crate::types::Datum;
use crate::{Result, SqlError};

/// Statements and parameters that are kept at most.
const MOST_BYTES: usize = 1 << 20;

/// The Executes of the implicit transaction.
#[derive(Default)]
pub struct Pipeline {
    steps: Vec<Step>,
    /// Size of their statements and parameters.
    bytes: usize,
    /// Whether `steps` is not all that happened in the transaction.
    broken: bool,
}

/// One Execute.
struct Step {
    name: String,
    number: u64,
    prepared: Arc<Prepared>,
    compiled: Option<Arc<Compiled>>,
    params: Arc<[Datum]>,
    formats: Arc<[Format]>,
    max_rows: u32,
    weight: usize,
    /// Its answer's place in the output.
    start: usize,
    end: usize,
}

impl Pipeline {
    /// Nothing has happened yet.
    fn clear(&mut self) {
        self.steps.clear();
        self.bytes = 0;
        self.broken = false;
    }

    /// What has happened must not be repeated.
    pub(super) fn give_up(&mut self) {
        self.clear();
        self.broken = true;
    }
}

impl Step {
    fn portal(&self, seen: Savepoint) -> Portal {
        Portal {
            prepared: self.prepared.clone(),
            compiled: self.compiled.clone(),
            params: self.params.clone(),
            formats: self.formats.clone(),
            number: self.number,
            weight: self.weight,
            seen: Some(seen),
            executes: 0,
            state: PortalState::Fresh,
        }
    }
}

/// Whether a statement does nothing that a rollback does not undo.
fn is_repeatable(portal: &Portal) -> bool {
    let Some(utility) = portal.compiled.as_deref().and_then(utility_of) else { return true };
    matches!(
        utility,
        Utility::Execute(_)
            | Utility::Show(_)
            | Utility::Explain { .. }
            | Utility::CreateTable(_)
            | Utility::DropTable(_)
            | Utility::CreateIndex(_)
            | Utility::DropIndex(_)
            | Utility::CreateSequence(_)
            | Utility::DropSequence(_)
            | Utility::Truncate(_)
            | Utility::AlterTable { .. }
    )
}

impl Session {
    /// Executes of the implicit transaction so far, as far as they are recorded.
    pub(super) fn recorded_executes(&self) -> usize {
        if self.txn.is_none() { 0 } else { self.pipeline.steps.len() }
    }

    /// An Execute begins.
    pub(super) fn record_execute(&mut self, name: &str, max_rows: u32, mark: usize) {
        if self.txn.is_none() {
            self.pipeline.clear();
        }
        let pipeline = &mut self.pipeline;
        if pipeline.broken {
            return;
        }
        let executes = pipeline.steps.len();
        let portal = self.portals.get(name);
        let portal = portal.filter(|p| p.is_fresh() && p.executes == executes && is_repeatable(p));
        let Some(portal) = portal.filter(|p| pipeline.bytes + p.weight <= MOST_BYTES) else {
            return pipeline.give_up();
        };
        pipeline.bytes += portal.weight;
        pipeline.steps.push(Step {
            name: name.to_owned(),
            number: portal.number,
            prepared: portal.prepared.clone(),
            compiled: portal.compiled.clone(),
            params: portal.params.clone(),
            formats: portal.formats.clone(),
            max_rows,
            weight: portal.weight,
            start: mark,
            end: mark,
        });
    }

    /// An Execute ended well.
    pub(super) fn record_end(&mut self, mark: usize) {
        if let Some(step) = self.pipeline.steps.last_mut() {
            step.end = mark;
        }
    }

    /// After `error` of the last Execute, or of the commit at Sync (`commit`): runs the transaction
    /// again as often as that may help, or returns the error that the client is to see.
    pub(super) async fn run_again(
        &mut self,
        error: SqlError,
        commit: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<()> {
        let explicit = self.txn.as_ref().is_some_and(|t| t.explicit);
        if !error.fields().retryable || explicit || self.pipeline.broken {
            return Err(error);
        }
        let mut steps = std::mem::take(&mut self.pipeline.steps);
        let Some(start) = steps.first().map(|s| s.start) else { return Err(error) };
        let Some(output) = sink.cut(start) else { return Err(error) };
        let output = Bytes::from(output);
        // What stands between the answers of the statements, and behind them.
        let ends = steps.iter().map(|s| s.end);
        let starts = steps.iter().skip(1).map(|s| s.start).chain([start + output.len()]);
        let between: Vec<Bytes> =
            ends.zip(starts).map(|(end, next)| output.slice(end - start..next - start)).collect();
        let mut live: BTreeSet<u64> = self.portals.values().map(|p| p.number).collect();
        if !commit {
            live.extend(steps.last().map(|s| s.number));
        }
        let mut error = error;
        for tries in 1..=TRIES {
            self.rollback().await;
            if self.cancel.is_canceled() || !sink.rewind(start) {
                return Err(error);
            }
            self.pause(tries).await;
            let done = match self.run_steps(&mut steps, &between, &live, sink).await {
                Ok(()) if commit => self.commit().await,
                done => done,
            };
            match done {
                Ok(()) => {
                    self.pipeline.steps = steps;
                    return Ok(());
                }
                Err(e) if e.fields().retryable => error = e,
                Err(e) => return Err(e),
            }
        }
        Err(error)
    }

    async fn run_steps(
        &mut self,
        steps: &mut [Step],
        between: &[Bytes],
        live: &BTreeSet<u64>,
        sink: &mut dyn ResultSink,
    ) -> Result<()> {
        for (step, behind) in steps.iter_mut().zip(between) {
            let mut portal = step.portal(self.here());
            step.start = sink.mark();
            self.run_portal(&mut portal, step.max_rows, sink).await?;
            step.end = sink.mark();
            sink.put(behind);
            if live.contains(&step.number) {
                self.portals.insert(step.name.clone(), Box::new(portal));
            }
        }
        Ok(())
    }
}
