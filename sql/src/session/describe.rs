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

/// Sends the columns of a statement, or that it has none.
pub fn columns(
    compiled: &Option<Arc<Compiled>>,
    formats: &[Format],
    sink: &mut dyn ResultSink,
    _settings: &Settings,
) {
    match compiled.as_ref().map(|c| &c.planned) {
        Some(Planned::Query(plan)) if plan.returns_rows => sink.row_description(&plan.columns, formats),
        Some(Planned::Utility(utility)) => match &**utility {
            Utility::Show(Some(name)) => {
                sink.row_description(&[text_column(Settings::canonical_name(name))], formats);
            }
            Utility::Show(None) => {
                let columns = ["name", "setting", "description"].map(text_column);
                sink.row_description(&columns, formats);
            }
            Utility::Explain { .. } => sink.row_description(&[text_column("QUERY PLAN")], formats),
            _ => sink.no_data(),
        },
        _ => sink.no_data(),
    }
}

impl Session {
    pub(super) async fn describe_prepared(&mut self, name: &str, sink: &mut dyn ResultSink) -> Result<()> {
        let prepared = self.statements.get(name).cloned().ok_or_else(|| super::portal::no_statement(name))?;
        if let Some(statement) = &prepared.statement {
            self.check_not_failed(statement)?;
        }
        let compiled = self.compile_prepared(&prepared)?;
        sink.parameter_description(compiled.as_ref().map_or(&[][..], |c| c.parameter_types()));
        columns(&compiled, &[], sink, &self.settings);
        Ok(())
    }
}
