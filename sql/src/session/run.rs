//! Running statements: transactions around statements, and running again inside the server what lost a
//! conflict before its output was sent.

use std::sync::Arc;
use std::time::Duration;

use cairn_txn::{Isolation, Savepoint, TxnError};

use super::plan_cache::{Compiled, Executable, PlanKey};
use super::portal::{PortalState, Prepared, Running};
use super::{Format, Outcome, ResultSink, Session, Work};
use crate::exec::{Context, Memory, Meters};
use crate::expr::EvalContext;
use crate::parse;
use crate::plan::{Planned, QueryKind, QueryPlan};
use crate::types::{Datum, Type, TypeKind, parse_text};
use crate::{Result, SqlState};

/// How often a statement is tried.
pub(super) const TRIES: u32 = 40;

/// How a query's rows are wanted.
#[derive(Clone, Copy)]
pub struct Fetch<'a> {
    /// Result formats.
    pub formats: &'a [Format],
    /// Rows at a time; 0: all.
    pub max_rows: u32,
    /// Up to where it sees the transaction's own writes; `None`: all of them.
    pub seen: Option<Savepoint>,
    /// Their columns are described first: those of the plan that is run in the end.
    pub described: bool,
}

impl Fetch<'_> {
    /// All rows, described and as text.
    pub const ALL: Fetch<'static> = Fetch { formats: &[], max_rows: 0, seen: None, described: true };
}

/// The command tag of a query.
pub fn tag(kind: QueryKind, rows: u64) -> String {
    match kind {
        QueryKind::Select => format!("SELECT {rows}"),
        QueryKind::Insert => format!("INSERT 0 {rows}"),
        QueryKind::Update => format!("UPDATE {rows}"),
        QueryKind::Delete => format!("DELETE {rows}"),
    }
}

impl Session {
    /// The context of a statement's expressions.
    pub(super) fn eval_context(&mut self, params: Arc<[Datum]>, slots: usize) -> EvalContext {
        let now = self.now();
        let start = self.txn.as_ref().map_or(now, |t| t.start);
        let derived = self.derived();
        let (view, mut text) = (derived.view.clone(), derived.text.clone());
        if text.transaction_time != start {
            Arc::make_mut(&mut text).transaction_time = start;
            self.derived.as_mut().expect("just derived").text = text.clone();
        }
        EvalContext { params, outer: vec![Datum::Null; slots], statement_time: now, text, session: view }
    }

    /// Runs a simple query by its fingerprint, if it is one statement with constants that can be
    /// taken out and planned so. `None`: it must go the long way.
    pub(super) async fn run_fingerprint(
        &mut self,
        sql: &str,
        sink: &mut dyn ResultSink,
    ) -> Result<Option<Outcome>> {
        let Some(print) = parse::fingerprint(sql) else { return Ok(None) };
        let given: Vec<Option<Type>> = print
            .constants
            .iter()
            .map(|(kind, _)| (*kind != TypeKind::Unknown).then(|| Type::new(*kind)))
            .collect();
        let fingerprint: Arc<str> = print.text.into();
        let key = PlanKey {
            text: fingerprint.clone(),
            types: given.iter().map(|t| t.map_or(0, Type::oid)).collect(),
            environment: self.derived().environment.clone(),
        };
        let version = self.derived().version;
        let cached = self.node.plans.get(&key, version);
        let (compiled, statement) = match cached {
            Some(compiled) => (compiled, None),
            None => {
                // An error would point into the fingerprint: let the original make it.
                let Ok(Some(parsed)) = parse::parse_one(&fingerprint) else { return Ok(None) };
                match self.compile_statement(&parsed.statement, &given, Some(key)).await {
                    Ok(compiled) => (compiled, Some(parsed.statement)),
                    Err(_) => return Ok(None),
                }
            }
        };
        let Planned::Query(plan) = &compiled.planned else { return Ok(None) };
        if plan.as_of.is_some() || plan.parameter_types.len() != print.constants.len() {
            return Ok(None);
        }
        let text = self.derived().text.clone();
        let mut params = Vec::with_capacity(print.constants.len());
        for ((kind, value), ty) in print.constants.into_iter().zip(&plan.parameter_types) {
            params.push(match (kind, &value) {
                (TypeKind::Unknown, Datum::Text(input)) => {
                    match parse_text(input, Type::new(ty.kind), &text) {
                        Ok(value) => value,
                        Err(_) => return Ok(None),
                    }
                }
                _ => value,
            });
        }
        self.note_query(sql);
        let prepared = Prepared {
            statement: statement.map(Arc::new),
            text: fingerprint,
            given,
            types: plan.parameter_types.clone(),
            columns: None,
            compiled: Default::default(),
        };
        let params: Arc<[Datum]> = params.into();
        let is_alone = self.txn.is_none();
        let mark = sink.mark();
        let mut tries = 0;
        let outcome = loop {
            let mut outcome = self.run_query(&compiled, &prepared, params.clone(), Fetch::ALL, sink).await;
            if is_alone && outcome.is_ok() {
                outcome = self.commit().await.and(outcome);
            }
            match outcome {
                // A transaction of its own may start over.
                Err(e) if is_alone && e.fields().retryable && tries < TRIES && sink.rewind(mark) => {
                    tries += 1;
                    self.rollback().await;
                    self.pause(tries).await;
                }
                outcome => break outcome,
            }
        };
        self.note_idle();
        match outcome {
            Ok((tag, _)) => {
                sink.complete(&tag.unwrap_or_default());
                Ok(Some(Outcome::Done))
            }
            Err(mut error) => {
                // Positions are the fingerprint's.
                error.fields_mut().position = None;
                Err(error)
            }
        }
    }

    pub(super) async fn pause(&mut self, tries: u32) {
        let env = self.node.db().store().env().clone();
        let most = (1u64 << tries.min(7)) * 500;
        let micros = env.rng.next_u64() % most + 100;
        env.runtime.sleep(Duration::from_micros(micros)).await;
    }

    fn note_query(&self, text: &str) {
        let active = "active";
        self.node.update_session(self.id, |entry| {
            entry.query = text.into();
            entry.state = active;
        });
    }

    pub(super) fn note_idle(&self) {
        let state = match self.status() {
            super::TransactionStatus::Idle => "idle",
            super::TransactionStatus::Active => "idle in transaction",
            super::TransactionStatus::Failed => "idle in transaction (aborted)",
        };
        self.node.update_session(self.id, |entry| entry.state = state);
    }

    /// Goes on with a simple query string.
    pub(super) async fn run_pending(&mut self, sink: &mut dyn ResultSink) -> Result<Outcome> {
        while let Some(parsed) = self.pending.pop_front() {
            let last = self.pending.is_empty();
            let text: Arc<str> = self.text[parsed.text.clone()].into();
            self.note_query(&text);
            let work = Work { statement: Arc::new(parsed.statement), text, compiled: None };
            let mark = sink.mark();
            let mut tries = 0;
            let outcome = loop {
                let fresh = self.txn.is_none();
                let outcome = self.run_simple(work.clone(), last, sink).await;
                match outcome {
                    // A transaction that consists of this statement alone may start over.
                    Err(e) if e.fields().retryable && fresh && tries < TRIES && sink.rewind(mark) => {
                        tries += 1;
                        self.rollback().await;
                        self.pause(tries).await;
                    }
                    outcome => break outcome?,
                }
            };
            if outcome == Outcome::CopyIn {
                return Ok(outcome);
            }
        }
        if self.txn.as_ref().is_some_and(|t| !t.explicit) {
            self.commit().await?;
        }
        self.note_idle();
        Ok(Outcome::Done)
    }

    async fn run_simple(&mut self, work: Work, last: bool, sink: &mut dyn ResultSink) -> Result<Outcome> {
        self.check_not_failed(&work.statement)?;
        self.enter_named_past(&work.statement).await?;
        let compiled = self.compile_statement(&work.statement, &[], None).await?;
        if matches!(compiled.planned, Planned::Utility(_)) {
            let work = Work { compiled: Some(compiled), ..work };
            return self.run_utility(work, sink, last).await;
        }
        let prepared = Prepared {
            statement: Some(work.statement),
            text: work.text,
            given: Vec::new(),
            types: Vec::new(),
            columns: None,
            compiled: Default::default(),
        };
        let (tag, _) = self.run_query(&compiled, &prepared, Arc::new([]), Fetch::ALL, sink).await?;
        // The commit comes before the statement is called complete.
        if last && self.txn.as_ref().is_some_and(|t| !t.explicit) {
            self.commit().await?;
        }
        sink.complete(&tag.unwrap_or_default());
        Ok(Outcome::Done)
    }

    /// Runs a query in the open transaction, or in a new implicit one; again after conflicts where
    /// that can help. The tag is absent when it stopped at the limit of `fetch`.
    pub(super) async fn run_query(
        &mut self,
        compiled: &Arc<Compiled>,
        prepared: &Prepared,
        params: Arc<[Datum]>,
        fetch: Fetch<'_>,
        sink: &mut dyn ResultSink,
    ) -> Result<(Option<String>, PortalState)> {
        let mut compiled = compiled.clone();
        let mark = sink.mark();
        let mut tries = 0;
        loop {
            self.ensure_transaction();
            let outcome = self.try_query(&mut compiled, prepared, &params, fetch, sink).await;
            let error = match outcome {
                Ok(done) => {
                    self.apply_effects().await?;
                    if let Some(txn) = &mut self.txn {
                        txn.statements += 1;
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            let retry = error.fields().retryable && tries < TRIES && !self.cancel.is_canceled();
            if !retry || !sink.rewind(mark) {
                self.drop_effects().await;
                return Err(error);
            }
            tries += 1;
            if error.fields().stale {
                self.node.catch_up().await?;
            }
            self.fetch_wanted().await?;
            let first = self.txn.as_ref().is_some_and(|t| t.statements == 0);
            if first {
                self.restart_transaction().await;
            } else {
                let txn = self.txn.as_deref_mut().expect("the statement ran in it");
                if txn.txn.restart_statement().await.is_err() {
                    return Err(error);
                }
            }
            if tries > 1 {
                self.pause(tries).await;
            }
        }
    }

    async fn try_query(
        &mut self,
        compiled: &mut Arc<Compiled>,
        prepared: &Prepared,
        params: &Arc<[Datum]>,
        fetch: Fetch<'_>,
        sink: &mut dyn ResultSink,
    ) -> Result<(Option<String>, PortalState)> {
        if let Planned::Query(plan) = &compiled.planned
            && let Some(as_of) = plan.as_of.clone()
        {
            let eval = self.eval_context(params.clone(), 0);
            let value = crate::expr::program::evaluate_constant(&as_of, &eval)?;
            let ts = self.as_of(&value)?;
            self.enter_past(ts).await?;
        }
        if self.txn.as_ref().is_some_and(|t| t.past.is_some()) {
            if compiled.version != self.derived().version {
                let statement = prepared.statement.as_ref().expect("it is no fingerprint's");
                let anew = self.compile_statement(statement, &prepared.given, None).await?;
                prepared.check_columns(&anew)?;
                *compiled = anew;
            }
        } else {
            loop {
                let executable = compiled.query.as_ref().expect("a query");
                if self.reads_unlocked(executable, compiled.version)
                    || self.locks_tables_later(executable, compiled.version)
                    || self.lock_tables(executable, compiled.version).await?
                {
                    break;
                }
                let statement = prepared.statement.as_ref();
                let parsed;
                let statement = match statement {
                    Some(statement) => &**statement,
                    None => {
                        parsed = parse::parse_one(&prepared.text)?;
                        &parsed.as_ref().expect("it was planned before").statement
                    }
                };
                *compiled = self.compile_statement(statement, &prepared.given, None).await?;
                prepared.check_columns(compiled)?;
            }
        }
        let compiled = compiled.clone();
        let executable = compiled.query.as_ref().expect("a query");
        if fetch.described && executable.plan.returns_rows {
            sink.row_description(&executable.plan.columns, &[]);
        }
        let outcome = self.execute_query(executable, params, fetch, sink).await;
        if let Err(error) = &outcome
            && !self.cancel.is_canceled()
        {
            // What it failed for may be true of its plan alone, which nobody may have looked at yet. Where that cannot be
            // found out, it is said what it failed for.
            let txn = self.txn.as_deref_mut().expect("it failed in it");
            if !error.fields().retryable
                && error.state() != SqlState::LOCK_NOT_AVAILABLE
                && let Err(TxnError::Stale) = txn.txn.lock_now(true).await
            {
                return Err(TxnError::Stale.into());
            }
            self.check_unlocked()?;
        }
        outcome
    }

    async fn execute_query(
        &mut self,
        executable: &Executable,
        params: &Arc<[Datum]>,
        fetch: Fetch<'_>,
        sink: &mut dyn ResultSink,
    ) -> Result<(Option<String>, PortalState)> {
        let plan = executable.plan.clone();
        let mut eval = self.eval_context(params.clone(), plan.slots);
        sink.text_context(&eval.text);
        let txn = self.txn.as_deref_mut().expect("statements run in transactions");
        txn.txn.begin_statement().await?;
        if let Some(point) = fetch.seen {
            txn.txn.read_as_of(point);
        }
        if let Some(direct) = &executable.direct {
            let memory = Memory::new(usize::MAX);
            let mut cx = Context {
                txn: &mut txn.txn,
                node: &self.node,
                eval: &mut eval,
                memory: &memory,
                isolation: txn.options.isolation,
                cancel: &self.cancel,
            };
            let mut output = |row: &[Datum]| sink.row(row, &plan.columns, fetch.formats);
            let rows = direct.run(&mut cx, &mut self.scratch, &mut output).await?;
            // It may have found nothing to do.
            txn.txn.lock_now(true).await?;
            self.check_unlocked()?;
            return Ok((Some(tag(plan.kind, rows)), PortalState::Done));
        }
        let mut running = Box::new(Running {
            operator: executable.root.open(&Meters::default()),
            eval,
            memory: Memory::new((self.settings.number("work_mem") as usize).saturating_mul(1024)),
            ready: Default::default(),
            next_row: 0,
            returned: 0,
            done: false,
            view: None,
        });
        // Changes run to their end whatever the client fetches.
        if plan.kind != QueryKind::Select {
            while let Some(batch) = self.step(&mut running).await? {
                running.ready.push_back(batch);
                if !plan.returns_rows {
                    running.returned += running.ready.pop_back().map_or(0, |b| b.len() as u64);
                }
            }
            running.done = true;
        }
        if self.pull(&mut running, &plan, fetch.formats, fetch.max_rows, sink).await? {
            return Ok((Some(tag(plan.kind, running.returned)), PortalState::Done));
        }
        let txn = self.txn.as_deref_mut().expect("the statement runs in it");
        running.view = Some(txn.txn.view().await?);
        Ok((None, PortalState::Running(running)))
    }

    /// The next batch of a running plan.
    pub(super) async fn step(&mut self, running: &mut Running) -> Result<Option<crate::batch::Batch>> {
        let Some(txn) = self.txn.as_deref_mut() else {
            return Err(super::portal::no_portal(""));
        };
        let mut cx = Context {
            txn: &mut txn.txn,
            node: &self.node,
            eval: &mut running.eval,
            memory: &running.memory,
            isolation: txn.options.isolation,
            cancel: &self.cancel,
        };
        let batch = running.operator.next(&mut cx).await?;
        self.check_unlocked()?;
        Ok(batch)
    }

    /// Goes on with a suspended plan, which reads where it read before.
    pub(super) async fn resume(
        &mut self,
        running: &mut Running,
        plan: &QueryPlan,
        formats: &[Format],
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<bool> {
        let (Some(txn), Some(view)) = (self.txn.as_deref_mut(), running.view) else {
            return Err(super::portal::no_portal(""));
        };
        // The command tag counts the rows of one Execute.
        running.returned = 0;
        let left = txn.txn.enter(view);
        let outcome = self.pull(running, plan, formats, max_rows, sink).await;
        self.txn.as_deref_mut().expect("fetching does not end it").txn.leave(left);
        outcome
    }

    /// Returns rows of a running plan, up to `max_rows` (0: all); true at its end.
    pub(super) async fn pull(
        &mut self,
        running: &mut Running,
        plan: &QueryPlan,
        formats: &[Format],
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<bool> {
        sink.text_context(&running.eval.text);
        let mut row = Vec::new();
        let mut left = if max_rows == 0 { u64::MAX } else { max_rows as u64 };
        loop {
            while let Some(batch) = running.ready.front() {
                while running.next_row < batch.len() {
                    if left == 0 {
                        return Ok(false);
                    }
                    let at = batch.physical(running.next_row);
                    row.clear();
                    row.extend(batch.columns.iter().map(|c| c.get(at)));
                    sink.row(&row, &plan.columns, formats);
                    running.next_row += 1;
                    running.returned += 1;
                    left -= 1;
                    if sink.is_full() {
                        sink.flush().await?;
                    }
                }
                running.ready.pop_front();
                running.next_row = 0;
            }
            if running.done {
                return Ok(true);
            }
            // PostgreSQL suspends at the limit even when no row follows.
            if left == 0 {
                return Ok(false);
            }
            match self.step(running).await? {
                Some(batch) => running.ready.push_back(batch),
                None => running.done = true,
            }
        }
    }

    /// Sequence values that a statement wanted and did not find; it runs anew.
    pub(super) async fn fetch_wanted(&mut self) -> Result<()> {
        let wanted = {
            let mut effects = self.effects.lock();
            effects.setvals.clear();
            effects.settings.clear();
            std::mem::take(&mut effects.wanted)
        };
        let catalog = self.derived().view.catalog.clone();
        for sequence in wanted {
            if let Some(table) = catalog.get(sequence) {
                self.node.sequences.reserve(self.node.db(), table, 32).await?;
            }
        }
        Ok(())
    }

    /// What functions asked for takes effect.
    pub(super) async fn apply_effects(&mut self) -> Result<()> {
        let settings = std::mem::take(&mut self.effects.lock().settings);
        for (name, value, local) in settings {
            self.settings.set(&name, Some(&[value]), local)?;
        }
        self.apply_setvals().await
    }

    async fn apply_setvals(&mut self) -> Result<()> {
        let setvals = std::mem::take(&mut self.effects.lock().setvals);
        for (sequence, state) in setvals {
            self.node.sequences.set(self.node.db(), sequence, state).await?;
        }
        Ok(())
    }

    /// A statement failed for good: its settings go, while `setval` stands, as with PostgreSQL.
    pub(super) async fn drop_effects(&mut self) {
        self.effects.lock().settings.clear();
        if let Err(error) = self.apply_setvals().await {
            tracing::warn!(session = self.id, %error, "setval of a failed statement is lost");
        }
    }

    /// The isolation level of the open transaction, or of the next one.
    pub(super) fn isolation(&self) -> Isolation {
        match &self.txn {
            Some(txn) => txn.options.isolation,
            None => super::transaction::isolation_of(self.settings.text("default_transaction_isolation")),
        }
    }
}
