//! Reads in the past: AS OF SYSTEM TIME.
//!
//! A transaction in the past sees the catalog of its time: a table that was dropped or altered
//! since is there as it was, one that was made since is not. The catalog is read at the
//! transaction's timestamp when it enters the past, and everything in it is planned against that.
//! A statement with a time of its own enters the past with its implicit transaction, before it is
//! planned. A prepared statement is described as of the time that it names, and as of now where
//! that depends on a parameter; where it turns out to return other columns, it fails.

use std::sync::Arc;

use cairn_kv::Timestamp;

use super::plan_cache::Compiled;
use super::portal::Prepared;
use super::{Session, SqlNode};
use crate::ast::{CopySource, Expr, Statement};
use crate::catalog::Catalog;
use crate::catalog::cache::CatalogView;
use crate::expr::program::evaluate_constant;
use crate::plan;
use crate::types::datetime::EPOCH_UNIX_MICROS;
use crate::types::{Datum, Type, TypeKind, parse_text};
use crate::{Result, SqlError, SqlState};

/// The AS OF SYSTEM TIME of a statement.
fn time_of(statement: &Statement) -> Option<&Expr> {
    match statement {
        Statement::Query(query) => query.as_of.as_ref(),
        Statement::Explain(explain) => time_of(&explain.statement),
        Statement::Declare(declare) => declare.query.as_of.as_ref(),
        Statement::Copy(copy) => match &copy.source {
            CopySource::Query(query) => time_of(query),
            CopySource::Table { .. } => None,
        },
        _ => None,
    }
}

/// A version for the catalog at `ts`, which neither a published catalog has nor that of a
/// transaction that changes it.
fn version_at(ts: Timestamp) -> u64 {
    3 << 62 | ts.0 >> 12
}

/// The catalog as it was at `ts`.
async fn catalog_at(node: Arc<SqlNode>, ts: Timestamp) -> Result<Arc<Catalog>> {
    let mut catalog = node.catalog_at(ts).await?;
    catalog.version = version_at(ts);
    Ok(Arc::new(catalog))
}

impl Session {
    /// The time that a statement names; `None`: none, or one that depends on parameters.
    fn named_time(&mut self, statement: &Statement) -> Result<Option<Timestamp>> {
        match time_of(statement) {
            Some(expr) => self.evaluate_time(expr),
            None => Ok(None),
        }
    }

    /// The timestamp that an expression of AS OF SYSTEM TIME stands for; `None`: it depends on parameters.
    fn evaluate_time(&mut self, expr: &Expr) -> Result<Option<Timestamp>> {
        let derived = self.derived();
        let view = CatalogView {
            catalog: derived.view.catalog.clone(),
            search_path: derived.view.search_path.clone(),
        };
        let (scalar, has_parameters) = plan::bind_as_of(expr, &view, &self.plan_settings())?;
        if has_parameters {
            return Ok(None);
        }
        let eval = self.eval_context(Arc::new([]), 0);
        let value = evaluate_constant(&scalar, &eval)?;
        self.as_of(&value).map(Some)
    }

    /// Brings the transaction of a statement to the time that the statement names, before it is
    /// planned.
    pub(super) async fn enter_named_past(&mut self, statement: &Statement) -> Result<()> {
        if time_of(statement).is_none() {
            return Ok(());
        }
        self.ensure_transaction();
        match self.named_time(statement)? {
            Some(ts) => self.enter_past(ts).await,
            None => Ok(()),
        }
    }

    /// Brings the transaction to a time past: it must be of that time, or at its start.
    pub(super) async fn enter_past(&mut self, ts: Timestamp) -> Result<()> {
        let txn = self.txn.as_deref().expect("statements run in transactions");
        if txn.options.as_of == Some(ts) {
            return Ok(());
        }
        if txn.statements > 0 {
            return Err(SqlError::unsupported("AS OF SYSTEM TIME after other statements of a transaction"));
        }
        let catalog = catalog_at(self.node.clone(), ts).await?;
        let txn = self.txn.as_deref_mut().expect("statements run in transactions");
        txn.options.as_of = Some(ts);
        txn.options.read_only = true;
        txn.past = Some(catalog);
        txn.start_over(self.node.db().begin(txn.options.clone()));
        Ok(())
    }

    /// The plan of a prepared statement that names a time, made outside the past.
    pub(super) async fn compile_in_past(&mut self, prepared: &Prepared) -> Result<Option<Arc<Compiled>>> {
        let Some(statement) = &prepared.statement else { return Ok(None) };
        if time_of(statement).is_none() || self.txn.as_ref().is_some_and(|t| t.past.is_some()) {
            return Ok(None);
        }
        let Some(ts) = self.named_time(statement)? else { return Ok(None) };
        let catalog = catalog_at(self.node.clone(), ts).await?;
        let search_path = self.derived().view.search_path.clone();
        let version = catalog.version;
        let view = CatalogView { catalog, search_path };
        let planned = plan::plan(statement, &view, &prepared.given, &self.plan_settings())?;
        Ok(Some(Arc::new(Compiled::new(planned, version)?)))
    }

    /// The timestamp of the AS OF of BEGIN.
    pub(super) fn as_of_of_begin(&mut self, expr: &Expr) -> Result<Timestamp> {
        let time = self.evaluate_time(expr)?;
        time.ok_or_else(|| SqlError::unsupported("AS OF SYSTEM TIME with parameters in BEGIN"))
    }

    /// The timestamp that a value of AS OF SYSTEM TIME stands for. An interval counts from the
    /// transaction's start, so that it stands for one time within it.
    pub(super) fn as_of(&self, value: &Datum) -> Result<Timestamp> {
        let text = self.settings.text_context();
        let now = self.now();
        let start = self.txn.as_ref().map_or(now, |t| t.start);
        let micros = match value {
            Datum::Timestamp(micros) => *micros,
            Datum::Interval(i) => start + (i.months as i64 * 30 + i.days as i64) * 86_400_000_000 + i.micros,
            Datum::Text(given) => match parse_text(given, Type::new(TypeKind::TimestampTz), &text) {
                Ok(Datum::Timestamp(micros)) => micros,
                _ => match parse_text(given, Type::new(TypeKind::Interval), &text)? {
                    interval @ Datum::Interval(_) => return self.as_of(&interval),
                    _ => return Err(bad_as_of()),
                },
            },
            _ => return Err(bad_as_of()),
        };
        let unix = micros.checked_add(EPOCH_UNIX_MICROS).filter(|m| *m > 0).ok_or_else(bad_as_of)?;
        if micros > now {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "AS OF SYSTEM TIME lies in the future",
            ));
        }
        Ok(Timestamp::from_micros(unix as u64))
    }
}

fn bad_as_of() -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "AS OF SYSTEM TIME takes a timestamp or an interval")
}
