//! Prepared statements and portals.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cairn_txn::{Savepoint, View};

use super::plan_cache::{Compiled, PlanKey};
use super::run::Fetch;
use super::{Format, ResultSink, Session, Work};
use crate::ast::Statement;
use crate::batch::Batch;
use crate::exec::{Memory, Operator};
use crate::expr::EvalContext;
use crate::parse;
use crate::plan::{OutputColumn, Planned, QueryKind, Utility};
use crate::types::{Datum, Type, TypeKind, parse_text, read_binary};
use crate::{Result, SqlError, SqlState};

/// A prepared statement.
pub struct Prepared {
    /// The statement; `None`: an empty string.
    pub statement: Option<Arc<Statement>>,
    /// Its text.
    pub text: Arc<str>,
    /// Parameter types given.
    pub given: Vec<Option<Type>>,
    /// Parameter types determined.
    pub types: Vec<Type>,
    /// Columns of its rows: they must not change while the client may rely on them.
    pub columns: Option<Vec<OutputColumn>>,
    /// The plan made last.
    pub compiled: parking_lot::Mutex<Option<(Arc<str>, Arc<Compiled>)>>,
}

/// A bound statement.
pub struct Portal {
    /// The statement.
    pub prepared: Arc<Prepared>,
    /// Its plan as described; `None`: empty.
    pub compiled: Option<Arc<Compiled>>,
    /// Parameters.
    pub params: Arc<[Datum]>,
    /// Result formats.
    pub formats: Arc<[Format]>,
    /// Tells it from other portals of the session, past ones too.
    pub number: u64,
    /// Size of its statement and parameters.
    pub weight: usize,
    /// Where it was bound: its query does not see what the transaction writes later (R13). `None`: it
    /// was bound in an earlier transaction.
    pub seen: Option<Savepoint>,
    /// Executes of the implicit transaction before it was bound.
    pub executes: usize,
    /// Execution.
    pub state: PortalState,
}

/// How far a portal has come.
pub enum PortalState {
    /// Not begun.
    Fresh,
    /// Suspended.
    Running(Box<Running>),
    /// All rows returned.
    Done,
}

/// A plan being executed.
pub struct Running {
    /// Operators.
    pub operator: Box<dyn Operator>,
    /// Context of its expressions.
    pub eval: EvalContext,
    /// Its memory.
    pub memory: Memory,
    /// Rows made but not yet returned, and where the first of them goes on.
    pub ready: VecDeque<Batch>,
    /// Row of the first ready batch to return next.
    pub next_row: usize,
    /// Rows returned by this Execute.
    pub returned: u64,
    /// The operators are at their end.
    pub done: bool,
    /// Where they read when they are called again; absent at first.
    pub view: Option<View>,
}

impl Prepared {
    /// Fails when a new plan returns other columns than the client was told.
    pub(super) fn check_columns(&self, compiled: &Compiled) -> Result<()> {
        let (Some(before), Planned::Query(plan)) = (&self.columns, &compiled.planned) else { return Ok(()) };
        let same = |(a, b): (&OutputColumn, &OutputColumn)| a.name == b.name && a.ty == b.ty;
        if before.len() == plan.columns.len() && before.iter().zip(&plan.columns).all(same) {
            return Ok(());
        }
        Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "cached plan must not change result type"))
    }
}

impl Portal {
    /// Whether it has not begun.
    pub fn is_fresh(&self) -> bool {
        matches!(self.state, PortalState::Fresh)
    }
}

/// The error for a portal that does not exist.
pub fn no_portal(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}

pub(super) fn no_statement(name: &str) -> SqlError {
    match name {
        "" => SqlError::new(SqlState::INVALID_STATEMENT_NAME, "unnamed prepared statement does not exist"),
        _ => SqlError::new(
            SqlState::INVALID_STATEMENT_NAME,
            format!("prepared statement \"{name}\" does not exist"),
        ),
    }
}

/// The format of item `i`: none given means text, one stands for all.
fn format_at(formats: &[Format], i: usize) -> Format {
    match formats {
        [] => Format::Text,
        [one] => *one,
        many => many.get(i).copied().unwrap_or(Format::Text),
    }
}

impl Session {
    /// Parse.
    pub(super) async fn prepare(&mut self, name: &str, sql: &str, types: &[u32]) -> Result<()> {
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        let parsed = parse::parse_one(sql)?;
        let given = types
            .iter()
            .map(|oid| match oid {
                0 => Ok(None),
                oid => TypeKind::from_oid(*oid).map(|kind| Some(Type::new(kind))).ok_or_else(|| {
                    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type with OID {oid} does not exist"))
                }),
            })
            .collect::<Result<Vec<_>>>()?;
        let prepared = self.make_prepared(parsed.map(|p| p.statement), sql.into(), given).await?;
        self.statements.insert(name.to_owned(), prepared);
        Ok(())
    }

    pub(super) async fn make_prepared(
        &mut self,
        statement: Option<Statement>,
        text: Arc<str>,
        given: Vec<Option<Type>>,
    ) -> Result<Arc<Prepared>> {
        let mut prepared = Prepared {
            statement: statement.map(Arc::new),
            text,
            given,
            types: Vec::new(),
            columns: None,
            compiled: Default::default(),
        };
        if let Some(statement) = &prepared.statement {
            self.check_not_failed(statement)?;
            let compiled = self.compile_prepared(&prepared).await?.expect("not empty");
            prepared.types = compiled.parameter_types().to_vec();
            if let Planned::Query(plan) = &compiled.planned {
                prepared.columns = Some(plan.columns.clone());
            }
        }
        Ok(Arc::new(prepared))
    }

    /// The plan of a prepared statement at the present catalog and settings.
    pub(super) async fn compile_prepared(&mut self, prepared: &Prepared) -> Result<Option<Arc<Compiled>>> {
        let Some(statement) = &prepared.statement else { return Ok(None) };
        if let Some(compiled) = self.compile_in_past(prepared).await? {
            return Ok(Some(compiled));
        }
        let derived = self.derived();
        let (environment, version) = (derived.environment.clone(), derived.version);
        if let Some((made_in, compiled)) = &*prepared.compiled.lock()
            && compiled.version == version
            && Arc::ptr_eq(made_in, &environment)
        {
            return Ok(Some(compiled.clone()));
        }
        let key = PlanKey {
            text: prepared.text.clone(),
            types: prepared.given.iter().map(|t| t.map_or(0, Type::oid)).collect(),
            environment: environment.clone(),
        };
        let compiled = self.compile_statement(statement, &prepared.given, Some(key)).await?;
        prepared.check_columns(&compiled)?;
        *prepared.compiled.lock() = Some((environment, compiled.clone()));
        Ok(Some(compiled))
    }

    /// Bind.
    pub(super) async fn bind_portal(
        &mut self,
        name: &str,
        statement: &str,
        parameter_formats: &[Format],
        parameters: &[Option<Bytes>],
        result_formats: &[Format],
    ) -> Result<()> {
        let prepared = self.statements.get(statement).cloned().ok_or_else(|| no_statement(statement))?;
        if !name.is_empty() && self.portals.contains_key(name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{name}\" already exists"),
            ));
        }
        if let Some(statement) = &prepared.statement {
            self.check_not_failed(statement)?;
        }
        let compiled = self.compile_prepared(&prepared).await?;
        let types = compiled.as_ref().map_or(&[][..], |c| c.parameter_types());
        if types.len() != parameters.len() {
            return Err(SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{statement}\" requires {}",
                    parameters.len(),
                    types.len()
                ),
            ));
        }
        if parameter_formats.len() > 1 && parameter_formats.len() != parameters.len() {
            return Err(SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} parameter formats but {} parameters",
                    parameter_formats.len(),
                    parameters.len()
                ),
            ));
        }
        let text = self.derived().text.clone();
        let mut params = Vec::with_capacity(parameters.len());
        for (i, (value, ty)) in parameters.iter().zip(types).enumerate() {
            let ty = Type::new(ty.kind);
            params.push(match (value, format_at(parameter_formats, i)) {
                (None, _) => Datum::Null,
                (Some(bytes), Format::Binary) => read_binary(bytes, ty)?,
                (Some(bytes), Format::Text) => {
                    let input = std::str::from_utf8(bytes).map_err(|_| {
                        SqlError::new(
                            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                            "invalid byte sequence for encoding \"UTF8\"",
                        )
                    })?;
                    parse_text(input, ty, &text)?
                }
            });
        }
        self.last_portal += 1;
        let size = parameters.iter().flatten().map(Bytes::len).sum::<usize>();
        let weight = size_of::<Portal>() + prepared.text.len() + size;
        let portal = Box::new(Portal {
            prepared,
            compiled,
            params: params.into(),
            formats: result_formats.into(),
            number: self.last_portal,
            weight,
            seen: Some(self.here()),
            executes: self.recorded_executes(),
            state: PortalState::Fresh,
        });
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    /// Execute.
    pub(super) async fn execute_portal(
        &mut self,
        name: &str,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<super::Outcome> {
        let Some(portal) = self.portals.get(name) else { return Err(no_portal(name)) };
        if let Some(statement) = &portal.prepared.statement {
            // It is there still once the transaction goes on from a savepoint.
            self.check_not_failed(statement)?;
        }
        let mut portal = self.portals.remove(name).expect("just seen");
        let outcome = self.run_portal(&mut portal, max_rows, sink).await;
        if outcome.is_ok() && (self.txn.is_some() || portal.is_fresh()) {
            self.portals.insert(name.to_owned(), portal);
        }
        outcome
    }

    pub(super) async fn run_portal(
        &mut self,
        portal: &mut Portal,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<super::Outcome> {
        let Some(statement) = portal.prepared.statement.clone() else {
            sink.empty_query();
            return Ok(super::Outcome::Done);
        };
        self.check_not_failed(&statement)?;
        match &mut portal.state {
            PortalState::Done => {
                sink.complete("SELECT 0");
                return Ok(super::Outcome::Done);
            }
            PortalState::Running(running) => {
                let columns = match portal.compiled.as_ref().map(|c| &c.planned) {
                    Some(Planned::Query(plan)) => plan.clone(),
                    _ => return Err(SqlError::new(SqlState::INTERNAL, "a suspended portal without a query")),
                };
                let finished = self.resume(running, &columns, &portal.formats, max_rows, sink).await?;
                if finished {
                    let tag = super::run::tag(columns.kind, running.returned);
                    portal.state = PortalState::Done;
                    sink.complete(&tag);
                } else {
                    sink.suspended();
                }
                return Ok(super::Outcome::Done);
            }
            PortalState::Fresh => {}
        }
        let query = match portal.compiled.as_ref().map(|c| &c.planned) {
            Some(Planned::Query(_)) => {
                let compiled = self.compile_prepared(&portal.prepared).await?.expect("it has a statement");
                let is_select =
                    matches!(&compiled.planned, Planned::Query(plan) if plan.kind == QueryKind::Select);
                let seen = portal.seen.filter(|_| is_select);
                Some((portal.prepared.clone(), compiled, portal.params.clone(), seen))
            }
            Some(Planned::Utility(utility)) => match &**utility {
                Utility::Execute(execute) => {
                    let (prepared, compiled) = self.executed(execute).await?;
                    let params = self.execute_arguments(execute, &prepared).await?;
                    Some((prepared, compiled, params, None))
                }
                _ => None,
            },
            None => None,
        };
        if let Some((prepared, compiled, params, seen)) = query {
            let fetch = Fetch { formats: &portal.formats, max_rows, seen, described: false };
            let (tag, state) = self.run_query(&compiled, &prepared, params, fetch, sink).await?;
            portal.compiled = Some(compiled);
            portal.state = state;
            match tag {
                Some(tag) => sink.complete(&tag),
                None => sink.suspended(),
            }
            return Ok(super::Outcome::Done);
        }
        portal.state = PortalState::Done;
        self.enter_named_past(&statement).await?;
        let version = self.derived().version;
        let compiled = portal.compiled.clone().filter(|c| c.version == version);
        let work = Work { statement, text: portal.prepared.text.clone(), compiled };
        self.run_utility(work, sink, false).await
    }

    /// In a failed transaction only its end is accepted.
    pub(super) fn check_not_failed(&self, statement: &Statement) -> Result<()> {
        let ends = matches!(
            statement,
            Statement::Commit { .. } | Statement::Rollback { .. } | Statement::RollbackTo(_)
        );
        if !ends && self.txn.as_ref().is_some_and(|t| t.failed) {
            return Err(SqlError::new(
                SqlState::IN_FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }
}

/// The utility of a compiled statement.
pub(super) fn utility_of(compiled: &Compiled) -> Option<&Utility> {
    match &compiled.planned {
        Planned::Utility(utility) => Some(utility),
        Planned::Query(_) => None,
    }
}
