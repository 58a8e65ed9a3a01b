//! Logical plans: what the binder produces and the optimizer's rules rewrite.
//!
//! Columns are positions in the input's row. A scan of a table yields all its columns and then the
//! row's encoded primary key; the optimizer removes what is not needed.

use std::sync::Arc;

use super::OutputColumn;
use super::physical::{AggregateCall, ApplyKind, Assignment, JoinKind, OnConflict, SortKey};
use crate::catalog::TableDesc;
use crate::catalog::system::SystemView;
use crate::expr::Scalar;
use crate::func::{Builtin, TableFunction};

/// A logical operator with its output columns.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it does.
    pub op: Op,
    /// Output columns.
    pub schema: Vec<OutputColumn>,
}

/// How an [`Op::Apply`] combines its input row with the subplan's rows.
#[derive(Clone, Debug)]
pub enum Subquery {
    /// Appends the single value.
    Scalar,
    /// Appends whether there is a row.
    Exists,
    /// Appends `left operator ANY|ALL (subplan)`.
    Quantified {
        /// Left side over the input row.
        left: Scalar,
        /// Comparison.
        operator: &'static Builtin,
        /// ALL.
        all: bool,
    },
    /// Appends an array of the values.
    Array,
}

impl From<Subquery> for ApplyKind {
    fn from(kind: Subquery) -> ApplyKind {
        match kind {
            Subquery::Scalar => ApplyKind::Scalar,
            Subquery::Exists => ApplyKind::Exists,
            Subquery::Quantified { left, operator, all } => ApplyKind::Quantified { left, operator, all },
            Subquery::Array => ApplyKind::Array,
        }
    }
}

/// Logical operators. They mean what their physical namesakes do.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Values {
        rows: Vec<Vec<Scalar>>,
    },
    Scan {
        table: Arc<TableDesc>,
        columns: Vec<usize>,
    },
    SystemScan {
        view: &'static SystemView,
        columns: Vec<usize>,
    },
    FunctionScan {
        function: &'static TableFunction,
        args: Vec<Scalar>,
    },
    Filter {
        input: Box<Plan>,
        predicates: Vec<Scalar>,
    },
    Project {
        input: Box<Plan>,
        exprs: Vec<Scalar>,
    },
    Join {
        kind: JoinKind,
        left: Box<Plan>,
        right: Box<Plan>,
        on: Vec<Scalar>,
    },
    LateralJoin {
        kind: JoinKind,
        left: Box<Plan>,
        right: Box<Plan>,
        slots: Vec<(usize, Scalar)>,
        on: Vec<Scalar>,
    },
    Apply {
        input: Box<Plan>,
        subplan: Box<Plan>,
        slots: Vec<(usize, Scalar)>,
        kind: Subquery,
    },
    Aggregate {
        input: Box<Plan>,
        keys: Vec<Scalar>,
        calls: Vec<AggregateCall>,
    },
    Sort {
        input: Box<Plan>,
        keys: Vec<SortKey>,
    },
    Limit {
        input: Box<Plan>,
        limit: Option<Scalar>,
        offset: Option<Scalar>,
    },
    Distinct {
        input: Box<Plan>,
        on: Vec<Scalar>,
    },
    Append {
        inputs: Vec<Plan>,
    },
    SetOp {
        left: Box<Plan>,
        right: Box<Plan>,
        except: bool,
        all: bool,
    },
    Insert {
        table: Arc<TableDesc>,
        input: Box<Plan>,
        values: Vec<Scalar>,
        on_conflict: Option<OnConflict>,
        returning: Option<Vec<Scalar>>,
    },
    Update {
        table: Arc<TableDesc>,
        input: Box<Plan>,
        assignments: Vec<Assignment>,
        returning: Option<Vec<Scalar>>,
    },
    Delete {
        table: Arc<TableDesc>,
        input: Box<Plan>,
        returning: Option<Vec<Scalar>>,
    },
    LockRows {
        input: Box<Plan>,
        table: Arc<TableDesc>,
        key_column: usize,
        shared: bool,
    },
}

impl Plan {
    /// One row without columns.
    pub fn single_row() -> Plan {
        Plan { op: Op::Values { rows: vec![Vec::new()] }, schema: Vec::new() }
    }

    /// The plan below a filter; no predicates: the plan itself.
    pub fn filter(self, predicates: Vec<Scalar>) -> Plan {
        if predicates.is_empty() {
            return self;
        }
        let schema = self.schema.clone();
        Plan { op: Op::Filter { input: Box::new(self), predicates }, schema }
    }
}
