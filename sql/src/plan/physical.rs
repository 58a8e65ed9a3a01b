//! Physical plans: the interface between optimizer and executor. Immutable once built, shared
//! through the plan cache; everything that varies per execution (parameters, timestamps) lies in the
//! execution context.

use std::sync::Arc;

use super::OutputColumn;
use crate::catalog::TableDesc;
use crate::expr::Scalar;
use crate::types::{Datum, Type};

/// A plan step with its estimates.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Output columns.
    pub schema: Vec<OutputColumn>,
    /// Estimated rows.
    pub rows: f64,
    /// Estimated cost, in PostgreSQL's unit (a sequential page read is 1).
    pub cost: f64,
}

/// Which keys of which index a table access visits. Expressions here contain no columns of the
/// table itself (constants, parameters, outer slots; in a lookup join: columns of the left side).
#[derive(Clone, Debug)]
pub struct Access {
    /// Position in `table.indexes`; 0 is the primary index.
    pub index: usize,
    /// Equality on the first columns of the index.
    pub prefix: Vec<Scalar>,
    /// Lower bound on the next column, and whether inclusive.
    pub lower: Option<(Scalar, bool)>,
    /// Upper bound on the next column, and whether inclusive.
    pub upper: Option<(Scalar, bool)>,
    /// Scan descending.
    pub reverse: bool,
    /// At most one row can match (all columns of a unique index are fixed).
    pub unique: bool,
}

/// Kind of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// Matching pairs.
    Inner,
    /// And unmatched left rows, extended by NULLs.
    Left,
    /// And unmatched right rows.
    Right,
    /// Both.
    Full,
    /// Left rows with a match (columns of the left only).
    Semi,
    /// Left rows without a match (columns of the left only).
    Anti,
}

/// One key of a sort.
#[derive(Clone, Debug)]
pub struct SortKey {
    /// What to sort by.
    pub expr: Scalar,
    /// Descending.
    pub descending: bool,
    /// NULLs first.
    pub nulls_first: bool,
}

/// An aggregate call.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// Which.
    pub function: &'static crate::func::Aggregate,
    /// Arguments over the input.
    pub args: Vec<Scalar>,
    /// Over distinct arguments.
    pub distinct: bool,
    /// FILTER (WHERE …).
    pub filter: Option<Scalar>,
    /// Result type.
    pub ty: Type,
}

/// How an `Apply` combines its input row with the subplan's rows.
#[derive(Clone, Debug)]
pub enum ApplyKind {
    /// Appends the single value of a scalar subquery (NULL when empty, 21000 when several).
    Scalar,
    /// Appends whether the subplan has a row.
    Exists,
    /// Appends `left op ANY/ALL (subplan)`, with SQL's NULL semantics.
    Quantified {
        /// Left side over the input row.
        left: Scalar,
        /// Comparison.
        operator: &'static crate::func::Builtin,
        /// ALL rather than ANY.
        all: bool,
    },
    /// Appends an array of the subplan's single column.
    Array,
}

/// The value of one column in an UPDATE or INSERT.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Position in `table.columns`.
    pub column: usize,
    /// New value over the source row.
    pub value: Scalar,
}

/// A physical operator.
#[derive(Clone, Debug)]
pub enum Op {
    /// Rows of constants and parameters. No columns and one row: `SELECT 1`'s input.
    Values {
        /// Rows.
        rows: Vec<Vec<Scalar>>,
    },
    /// Reads a table by one of its indexes. Output: `columns`, in this order.
    TableScan {
        /// Table.
        table: Arc<TableDesc>,
        /// Which keys.
        access: Access,
        /// Positions in `table.columns`; position `table.columns.len()` stands for the row's
        /// encoded primary key (bytea), which UPDATE and DELETE need.
        columns: Vec<usize>,
        /// Over the output columns.
        filter: Option<Scalar>,
        /// How many rows the parent wants at most, where known.
        limit: Option<u64>,
    },
    /// Reads a system view. Output: `columns` of it.
    SystemScan {
        /// Which.
        view: &'static crate::catalog::system::SystemView,
        /// Positions in the view's columns.
        columns: Vec<usize>,
        /// Over the output columns.
        filter: Option<Scalar>,
    },
    /// generate_series and other set-returning functions in FROM.
    FunctionScan {
        /// Which.
        function: &'static crate::func::TableFunction,
        /// Arguments.
        args: Vec<Scalar>,
    },
    /// Keeps rows whose predicate is true.
    Filter {
        /// Input.
        input: Box<Node>,
        /// Predicate.
        predicate: Scalar,
    },
    /// Computes expressions.
    Project {
        /// Input.
        input: Box<Node>,
        /// One for each output column.
        exprs: Vec<Scalar>,
    },
    /// Joins by comparing all pairs; the right side is materialized.
    NestedLoopJoin {
        /// Kind.
        kind: JoinKind,
        /// Left.
        left: Box<Node>,
        /// Right.
        right: Box<Node>,
        /// Over left ++ right columns.
        on: Option<Scalar>,
    },
    /// Joins by hashing the right side.
    HashJoin {
        /// Kind.
        kind: JoinKind,
        /// Left (probe).
        left: Box<Node>,
        /// Right (build).
        right: Box<Node>,
        /// Keys over the left.
        left_keys: Vec<Scalar>,
        /// Keys over the right, of the same types.
        right_keys: Vec<Scalar>,
        /// Further condition over left ++ right.
        residual: Option<Scalar>,
    },
    /// For each left row looks up an index of a table. Output: left ++ `columns` (Semi, Anti: left).
    LookupJoin {
        /// Inner, Left, Semi or Anti.
        kind: JoinKind,
        /// Left.
        left: Box<Node>,
        /// Table looked up.
        table: Arc<TableDesc>,
        /// Which keys: over the left's columns.
        access: Access,
        /// As in `TableScan`.
        columns: Vec<usize>,
        /// Over left ++ `columns`.
        residual: Option<Scalar>,
    },
    /// For each input row runs a subplan with `slots` of the execution context set from the row;
    /// output: input ++ one column. A subplan without slots runs once.
    Apply {
        /// Input.
        input: Box<Node>,
        /// Subplan.
        subplan: Box<Node>,
        /// Slot numbers and their values over the input row.
        slots: Vec<(usize, Scalar)>,
        /// What is appended.
        kind: ApplyKind,
    },
    /// LATERAL: for each left row runs the right with slots set; output: left ++ right.
    LateralJoin {
        /// Inner or Left.
        kind: JoinKind,
        /// Left.
        left: Box<Node>,
        /// Right.
        right: Box<Node>,
        /// Slot numbers and their values over the left row.
        slots: Vec<(usize, Scalar)>,
        /// Over left ++ right.
        on: Option<Scalar>,
    },
    /// Groups and aggregates; output: group keys ++ aggregates. Without keys: one row always.
    Aggregate {
        /// Input.
        input: Box<Node>,
        /// Group keys over the input.
        keys: Vec<Scalar>,
        /// Aggregates.
        calls: Vec<AggregateCall>,
    },
    /// Sorts (with a limit: keeps the first rows only).
    Sort {
        /// Input.
        input: Box<Node>,
        /// Keys.
        keys: Vec<SortKey>,
        /// LIMIT + OFFSET above, where constant.
        limit: Option<u64>,
    },
    /// LIMIT and OFFSET: int8 expressions without columns; NULL limit: all.
    Limit {
        /// Input.
        input: Box<Node>,
        /// LIMIT.
        limit: Option<Scalar>,
        /// OFFSET.
        offset: Option<Scalar>,
    },
    /// Distinct rows. `on`: DISTINCT ON the first rows of each key, input sorted.
    Distinct {
        /// Input.
        input: Box<Node>,
        /// Keys of DISTINCT ON; empty: whole rows.
        on: Vec<Scalar>,
    },
    /// Rows of all inputs (UNION ALL; UNION is `Distinct` over it).
    Append {
        /// Inputs, of equal types.
        inputs: Vec<Node>,
    },
    /// INTERSECT and EXCEPT.
    SetOp {
        /// Left.
        left: Box<Node>,
        /// Right.
        right: Box<Node>,
        /// EXCEPT rather than INTERSECT.
        except: bool,
        /// ALL.
        all: bool,
    },
    /// Inserts the input's rows. Output: `returning` over the inserted row (all table columns).
    Insert {
        /// Table.
        table: Arc<TableDesc>,
        /// Source rows.
        input: Box<Node>,
        /// Values of all columns of the table over the source row (defaults filled in).
        values: Vec<Scalar>,
        /// ON CONFLICT, where given.
        on_conflict: Option<OnConflict>,
        /// RETURNING.
        returning: Option<Vec<Scalar>>,
    },
    /// Updates the input's rows. Input: all table columns, then the encoded primary key, then any
    /// columns of FROM.
    Update {
        /// Table.
        table: Arc<TableDesc>,
        /// Rows to update.
        input: Box<Node>,
        /// New values over the input row.
        assignments: Vec<Assignment>,
        /// Over the new row (all table columns) ++ the input's further columns.
        returning: Option<Vec<Scalar>>,
    },
    /// Deletes the input's rows; columns as for `Update`.
    Delete {
        /// Table.
        table: Arc<TableDesc>,
        /// Rows to delete.
        input: Box<Node>,
        /// Over the old row ++ the input's further columns.
        returning: Option<Vec<Scalar>>,
    },
    /// SELECT … FOR UPDATE/SHARE: locks each row of the table and passes it on. Input: as given,
    /// with the encoded primary key of the table at `key_column`.
    LockRows {
        /// Input.
        input: Box<Node>,
        /// Table.
        table: Arc<TableDesc>,
        /// Position of the encoded primary key.
        key_column: usize,
        /// FOR SHARE or FOR KEY SHARE rather than FOR UPDATE.
        shared: bool,
    },
}

/// ON CONFLICT.
#[derive(Clone, Debug)]
pub struct OnConflict {
    /// Arbiter: position in `table.indexes`; `None`: any.
    pub index: Option<usize>,
    /// DO UPDATE: assignments over existing row (all table columns) ++ proposed row; empty: DO
    /// NOTHING.
    pub assignments: Vec<Assignment>,
    /// WHERE of DO UPDATE, over the same.
    pub filter: Option<Scalar>,
}

/// A constant row, for callers that evaluate plans of constants.
pub type Row = Vec<Datum>;
