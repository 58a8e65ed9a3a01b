//! Describe: what a statement returns.

use std::sync::Arc;

use super::plan_cache::Compiled;
use super::settings::Settings;
use super::{Format, ResultSink, Session};
use crate::Result;
use crate::plan::{OutputColumn, Planned, Utility};
use crate::types::{Type, TypeKind};

/// A text column of a utility statement's output.
pub fn text_column(name: &str) -> OutputColumn {
    OutputColumn { name: name.to_owned(), ty: Type::new(TypeKind::Text), source: (0, 0) }
}

impl Session {
    /// The columns of the rows that a utility statement returns; `None`: it returns none.
    async fn utility_columns(&mut self, utility: &Utility) -> Result<Option<Vec<OutputColumn>>> {
        Ok(match utility {
            Utility::Show(Some(name)) => Some(vec![text_column(Settings::canonical_name(name))]),
            Utility::Show(None) => Some(["name", "setting", "description"].map(text_column).to_vec()),
            Utility::Explain { .. } => Some(vec![text_column("QUERY PLAN")]),
            // Where it cannot run it is run to say why.
            Utility::Execute(execute) if self.statements.contains_key(&execute.name.name) => {
                let (_, compiled) = self.executed(execute).await?;
                match &compiled.planned {
                    Planned::Query(plan) if plan.returns_rows => Some(plan.columns.clone()),
                    _ => None,
                }
            }
            _ => None,
        })
    }

    /// Sends the columns of a statement, or that it has none.
    pub(super) async fn describe_columns(
        &mut self,
        compiled: &Option<Arc<Compiled>>,
        formats: &[Format],
        sink: &mut dyn ResultSink,
    ) -> Result<()> {
        match compiled.as_ref().map(|c| &c.planned) {
            // Without a copy: it may be done for each execution.
            Some(Planned::Query(plan)) if plan.returns_rows => sink.row_description(&plan.columns, formats),
            Some(Planned::Utility(utility)) => match self.utility_columns(utility).await? {
                Some(columns) => sink.row_description(&columns, formats),
                None => sink.no_data(),
            },
            _ => sink.no_data(),
        }
        Ok(())
    }

    pub(super) async fn describe_prepared(&mut self, name: &str, sink: &mut dyn ResultSink) -> Result<()> {
        let prepared = self.statements.get(name).cloned().ok_or_else(|| super::portal::no_statement(name))?;
        if let Some(statement) = &prepared.statement {
            self.check_not_failed(statement)?;
        }
        let compiled = self.compile_prepared(&prepared).await?;
        sink.parameter_description(compiled.as_ref().map_or(&[][..], |c| c.parameter_types()));
        self.describe_columns(&compiled, &[], sink).await
    }
}
