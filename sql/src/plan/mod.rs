//! Plans: what a statement becomes before it runs.
//!
//! [`plan`] binds a parsed statement and optimizes it. The result is immutable: what varies per
//! execution (parameter values, timestamps, slots of correlated subqueries) lies in the execution
//! context, so that a plan can be cached and shared under the key (text or fingerprint, parameter
//! types, search path, settings that the planner reads, [`CatalogReader::version`]).

pub mod deparse;
pub mod logical;
pub mod physical;
mod utility;

use std::sync::Arc;

pub use utility::{BoundCopy, CopyTarget, ExplainOptions, NewColumn, NewTable, Utility};

use crate::Result;
use crate::ast::{Execute, Expr, Statement};
use crate::bind::{Binder, Bound};
use crate::catalog::CatalogReader;
use crate::expr::Scalar;
use crate::optimize::{direct, optimize};
use crate::plan::physical::{Node, Op};
use crate::types::{TextContext, Type};

/// A column of a plan's output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputColumn {
    /// Name shown to the client.
    pub name: String,
    /// Type.
    pub ty: Type,
    /// Table (OID) and column (attribute number) it comes from unchanged, for RowDescription; zeros
    /// otherwise.
    pub source: (u32, i16),
}

/// What the planner reads of a session's settings.
#[derive(Clone, Debug)]
pub struct PlanSettings {
    /// How constants are read: time zone, order of dates, names of objects (where they are absent,
    /// `'x'::regclass` is looked up when the plan runs).
    pub text: Arc<TextContext>,
    /// `enable_seqscan` and so on: false makes a method expensive, as in PostgreSQL.
    pub enable_seqscan: bool,
    /// `enable_indexscan`
    pub enable_indexscan: bool,
    /// `enable_hashjoin`
    pub enable_hashjoin: bool,
    /// `enable_nestloop`
    pub enable_nestloop: bool,
}

impl Default for PlanSettings {
    fn default() -> PlanSettings {
        PlanSettings {
            text: Arc::default(),
            enable_seqscan: true,
            enable_indexscan: true,
            enable_hashjoin: true,
            enable_nestloop: true,
        }
    }
}

/// A statement ready to run.
#[derive(Clone, Debug)]
pub enum Planned {
    /// A query or a change of rows.
    Query(Arc<QueryPlan>),
    /// Anything else.
    Utility(Box<Utility>),
}

/// What a planned query does, for its command tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum QueryKind {
    Select,
    Insert,
    Update,
    Delete,
}

/// Plans of one row by its full primary key, which run without batch operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direct {
    /// `Project?(TableScan)` whose access fixes all columns of the primary index by `prefix`.
    PointRead,
    /// `Update` over such a scan of all columns and the encoded key.
    UpdateByKey,
    /// `Delete` over such a scan.
    DeleteByKey,
    /// `Insert` whose input is `Values` of one row without columns: the values are constants,
    /// parameters and calls of them. No ON CONFLICT.
    InsertRow,
}

/// A planned query, INSERT, UPDATE or DELETE.
#[derive(Clone, Debug)]
pub struct QueryPlan {
    /// What it does.
    pub kind: QueryKind,
    /// Root operator.
    pub root: Node,
    /// Output columns; empty for changes without RETURNING.
    pub columns: Vec<OutputColumn>,
    /// Whether rows go to the client (a query, or RETURNING).
    pub returns_rows: bool,
    /// Types of `$1`, ….
    pub parameter_types: Vec<Type>,
    /// Number of slots of the execution context that correlated subqueries use.
    pub slots: usize,
    /// Whether it runs without batch operators.
    pub direct: Option<Direct>,
    /// AS OF SYSTEM TIME: an expression without columns; a text is an interval (`-10s`) or a
    /// timestamp.
    pub as_of: Option<Scalar>,
    /// Whether rows are locked (FOR UPDATE, FOR SHARE).
    pub locks_rows: bool,
}

/// Binds and optimizes `statement`. `parameter_types` holds the types a client gave (`None`: to be
/// determined from the context); the plan tells what they became.
pub fn plan(
    statement: &Statement,
    catalog: &dyn CatalogReader,
    parameter_types: &[Option<Type>],
    settings: &PlanSettings,
) -> Result<Planned> {
    let mut binder = Binder::new(catalog, settings, parameter_types);
    let (kind, plan) = match binder.statement(statement)? {
        Bound::Query(kind, plan) => (kind, plan),
        Bound::Utility(utility) => return Ok(Planned::Utility(Box::new(utility))),
    };
    let parameter_types = binder.finish_parameters()?;
    let (slots, as_of, locks_rows) = binder.finish();
    let root = optimize(plan, settings);
    let direct = direct(&root).filter(|_| as_of.is_none());
    Ok(Planned::Query(Arc::new(QueryPlan {
        kind,
        returns_rows: match &root.op {
            Op::Insert { returning, .. } | Op::Update { returning, .. } | Op::Delete { returning, .. } => {
                returning.is_some()
            }
            _ => true,
        },
        columns: root.schema.clone(),
        root,
        parameter_types,
        slots,
        direct,
        as_of,
        locks_rows,
    })))
}

/// The expression of AS OF SYSTEM TIME, and whether it depends on parameters.
pub fn bind_as_of(
    as_of: &Expr,
    catalog: &dyn CatalogReader,
    settings: &PlanSettings,
) -> Result<(Scalar, bool)> {
    let mut binder = Binder::new(catalog, settings, &[]);
    let value = binder.point_in_time(as_of)?;
    Ok((value, binder.has_parameters()))
}

/// The arguments of EXECUTE as expressions without columns, of the prepared statement's parameter
/// types.
pub fn bind_arguments(
    execute: &Execute,
    types: &[Type],
    catalog: &dyn CatalogReader,
    settings: &PlanSettings,
) -> Result<Vec<Scalar>> {
    Binder::new(catalog, settings, &[]).arguments(execute, types)
}
