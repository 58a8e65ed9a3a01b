//! Queries.

use super::{Expr, FunctionCall, Ident, ObjectName, TypeName};

/// A query with what surrounds its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// WITH (not recursive).
    pub with: Vec<CommonTable>,
    /// Body.
    pub body: QueryBody,
    /// ORDER BY.
    pub order_by: Vec<OrderItem>,
    /// LIMIT or FETCH FIRST.
    pub limit: Option<Expr>,
    /// OFFSET.
    pub offset: Option<Expr>,
    /// FOR UPDATE and so on.
    pub locking: Vec<Locking>,
    /// AS OF SYSTEM TIME.
    pub as_of: Option<Expr>,
    /// Byte position.
    pub position: usize,
}

/// The body of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryBody {
    /// SELECT.
    Select(Box<Select>),
    /// VALUES.
    Values(Vec<Vec<Expr>>),
    /// Left-associative set operations of one precedence.
    Set {
        /// Leftmost input.
        first: Box<QueryBody>,
        /// Operators with their right inputs.
        rest: Vec<SetLink>,
    },
    /// A query in parentheses.
    Nested(Box<Query>),
}

/// A set operation with its right input.
#[derive(Clone, Debug, PartialEq)]
pub struct SetLink {
    /// Operator.
    pub operator: SetOperator,
    /// ALL.
    pub all: bool,
    /// Right input.
    pub body: QueryBody,
    /// Byte position of the operator.
    pub position: usize,
}

/// Set operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SetOperator {
    Union,
    Intersect,
    Except,
}

/// A SELECT.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// DISTINCT.
    pub distinct: Distinct,
    /// Select list.
    pub items: Vec<SelectItem>,
    /// FROM.
    pub from: Vec<TableRef>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// GROUP BY.
    pub group_by: Vec<Expr>,
    /// HAVING.
    pub having: Option<Expr>,
    /// Byte position.
    pub position: usize,
}

/// Duplicates of a SELECT.
#[derive(Clone, Debug, PartialEq)]
pub enum Distinct {
    /// Kept.
    All,
    /// Removed.
    Distinct,
    /// DISTINCT ON.
    On(Vec<Expr>),
}

/// An item of a select list or of RETURNING.
#[derive(Clone, Debug, PartialEq)]
pub enum SelectItem {
    /// `*`
    Star(usize),
    /// An expression (or `t.*`, as [`super::ExprKind::Wildcard`]) and its alias.
    Expr {
        /// Expression.
        expr: Expr,
        /// Alias.
        alias: Option<Ident>,
    },
}

/// An item of ORDER BY.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderItem {
    /// Expression.
    pub expr: Expr,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST, where said.
    pub nulls_first: Option<bool>,
}

/// An item of FROM.
#[derive(Clone, Debug, PartialEq)]
pub enum TableRef {
    /// A table, view or common table.
    Table {
        /// Name.
        name: ObjectName,
        /// Alias.
        alias: Option<Alias>,
    },
    /// A subquery.
    Subquery {
        /// Query.
        query: Box<Query>,
        /// Alias.
        alias: Option<Alias>,
        /// LATERAL.
        lateral: bool,
        /// Byte position.
        position: usize,
    },
    /// A set-returning function.
    Function {
        /// Call.
        call: Box<FunctionCall>,
        /// WITH ORDINALITY.
        ordinality: bool,
        /// Alias.
        alias: Option<Alias>,
        /// Types of the alias's column list, where given (`AS t(a int)`).
        column_types: Vec<TypeName>,
    },
    /// Joins, left-associative.
    Joined {
        /// Leftmost input.
        first: Box<TableRef>,
        /// Joins.
        joins: Vec<JoinClause>,
    },
}

/// An alias with optional column names.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    /// Name.
    pub name: Ident,
    /// Column names.
    pub columns: Vec<Ident>,
}

/// A join with its right input.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinClause {
    /// Kind.
    pub kind: JoinType,
    /// Right input.
    pub right: TableRef,
    /// Condition.
    pub condition: JoinCondition,
    /// Byte position of the join's keyword.
    pub position: usize,
}

/// Kinds of joins in FROM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum JoinType {
    Inner,
    Left,
    Right,
    Full,
    Cross,
}

/// A join's condition.
#[derive(Clone, Debug, PartialEq)]
pub enum JoinCondition {
    /// CROSS JOIN.
    None,
    /// ON.
    On(Expr),
    /// USING.
    Using(Vec<Ident>),
    /// NATURAL.
    Natural,
}

/// A common table of WITH.
#[derive(Clone, Debug, PartialEq)]
pub struct CommonTable {
    /// Name and columns.
    pub alias: Alias,
    /// Query.
    pub query: Box<Query>,
}

/// A locking clause.
#[derive(Clone, Debug, PartialEq)]
pub struct Locking {
    /// FOR SHARE or FOR KEY SHARE.
    pub shared: bool,
    /// OF.
    pub tables: Vec<Ident>,
    /// What to do about locked rows.
    pub wait: LockWait,
    /// Byte position.
    pub position: usize,
}

/// What to do about locked rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LockWait {
    Block,
    NoWait,
    SkipLocked,
}
