//! EXECUTE of a prepared statement: what it names, what it returns, its arguments.

use std::sync::Arc;

use super::Session;
use super::plan_cache::Compiled;
use super::portal::{Prepared, no_statement};
use super::run::TRIES;
use crate::ast::Execute;
use crate::catalog::cache::CatalogView;
use crate::expr::program::evaluate_constant;
use crate::plan::{Planned, bind_arguments};
use crate::types::Datum;
use crate::{Result, SqlError};

impl Session {
    /// The prepared query that EXECUTE names, and its present plan.
    pub(super) async fn executed(&mut self, execute: &Execute) -> Result<(Arc<Prepared>, Arc<Compiled>)> {
        let name = &execute.name.name;
        let prepared = self.statements.get(name).cloned().ok_or_else(|| no_statement(name))?;
        let compiled = self.compile_prepared(&prepared).await?.ok_or_else(|| no_statement(name))?;
        match &compiled.planned {
            Planned::Query(_) => Ok((prepared, compiled)),
            Planned::Utility(_) => Err(SqlError::unsupported("EXECUTE of a utility statement")),
        }
    }

    /// The values of EXECUTE's arguments, as the types of the statement's parameters.
    pub(super) async fn execute_arguments(
        &mut self,
        execute: &Execute,
        prepared: &Prepared,
    ) -> Result<Arc<[Datum]>> {
        if execute.args.is_empty() && prepared.types.is_empty() {
            return Ok(Arc::new([]));
        }
        let derived = self.derived();
        let view = CatalogView {
            catalog: derived.view.catalog.clone(),
            search_path: derived.view.search_path.clone(),
        };
        let arguments = bind_arguments(execute, &prepared.types, &view, &self.plan_settings())?;
        // The arguments belong to the statement's transaction: `now()` is its start.
        self.ensure_transaction();
        let mut tries = 0;
        loop {
            let eval = self.eval_context(Arc::new([]), 0);
            let values = arguments.iter().map(|a| evaluate_constant(a, &eval)).collect::<Result<Vec<_>>>();
            match values {
                // A sequence had no value at hand.
                Err(e) if e.fields().retryable && tries < TRIES => {
                    tries += 1;
                    self.fetch_wanted().await?;
                }
                Ok(values) => {
                    self.apply_effects().await?;
                    return Ok(values.into());
                }
                Err(error) => {
                    self.drop_effects().await;
                    return Err(error);
                }
            }
        }
    }
}
