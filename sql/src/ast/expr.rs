//! Expressions.

use super::{Ident, ObjectName, OrderItem, Query, TypeName};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where errors about it point: the operator of an operation, the first token of the rest.
    pub position: usize,
}

/// Kinds of expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// A column, possibly qualified: `a`, `t.a`, `s.t.a`.
    Column(Vec<Ident>),
    /// A whole row of a relation: `t.*` (valid in few places).
    Wildcard(Vec<Ident>),
    /// A constant.
    Literal(Literal),
    /// `$n`, from 0.
    Param(usize),
    /// A prefix operator.
    Unary {
        /// Operator.
        operator: OperatorName,
        /// Operand.
        operand: Box<Expr>,
    },
    /// Left-associative binary operators of one precedence: `a + b - c`.
    Chain {
        /// Leftmost operand.
        first: Box<Expr>,
        /// Operators with their right operands.
        rest: Vec<ChainLink>,
    },
    /// Conjunction of two or more.
    And(Vec<Expr>),
    /// Disjunction of two or more.
    Or(Vec<Expr>),
    /// `NOT`.
    Not(Box<Expr>),
    /// `IS [NOT] NULL`.
    IsNull {
        /// Operand.
        operand: Box<Expr>,
        /// `IS NOT NULL`.
        negated: bool,
    },
    /// `IS [NOT] TRUE | FALSE | UNKNOWN`.
    IsBool {
        /// Operand.
        operand: Box<Expr>,
        /// The truth value asked for; `None`: UNKNOWN.
        value: Option<bool>,
        /// `IS NOT`.
        negated: bool,
    },
    /// `IS [NOT] DISTINCT FROM`.
    IsDistinct {
        /// Left.
        left: Box<Expr>,
        /// Right.
        right: Box<Expr>,
        /// `IS NOT DISTINCT FROM`.
        negated: bool,
    },
    /// `[NOT] BETWEEN [SYMMETRIC] low AND high`.
    Between {
        /// Operand.
        operand: Box<Expr>,
        /// Low.
        low: Box<Expr>,
        /// High.
        high: Box<Expr>,
        /// NOT.
        negated: bool,
        /// SYMMETRIC.
        symmetric: bool,
    },
    /// `[NOT] IN (list)`.
    InList {
        /// Left.
        left: Box<Expr>,
        /// Items.
        items: Vec<Expr>,
        /// NOT.
        negated: bool,
    },
    /// `[NOT] IN (subquery)`.
    InSubquery {
        /// Left.
        left: Box<Expr>,
        /// Subquery.
        query: Box<Query>,
        /// NOT.
        negated: bool,
    },
    /// `[NOT] LIKE | ILIKE | SIMILAR TO pattern [ESCAPE escape]`.
    Like {
        /// Left.
        left: Box<Expr>,
        /// Pattern.
        pattern: Box<Expr>,
        /// ESCAPE.
        escape: Option<Box<Expr>>,
        /// Which.
        kind: LikeKind,
        /// NOT.
        negated: bool,
    },
    /// `left op ANY|ALL (array)`.
    QuantifiedArray {
        /// Left.
        left: Box<Expr>,
        /// Operator.
        operator: OperatorName,
        /// ALL.
        all: bool,
        /// Array.
        array: Box<Expr>,
    },
    /// `left op ANY|ALL (subquery)`.
    QuantifiedSubquery {
        /// Left.
        left: Box<Expr>,
        /// Operator.
        operator: OperatorName,
        /// ALL.
        all: bool,
        /// Subquery.
        query: Box<Query>,
    },
    /// A function call.
    Function(Box<FunctionCall>),
    /// `CAST(x AS type)`, `x::type`, `type 'literal'`.
    Cast {
        /// Operand.
        operand: Box<Expr>,
        /// Type.
        ty: TypeName,
    },
    /// `x COLLATE name`.
    Collate {
        /// Operand.
        operand: Box<Expr>,
        /// Collation.
        collation: ObjectName,
    },
    /// `CASE`.
    Case {
        /// The simple form's operand.
        operand: Option<Box<Expr>>,
        /// WHEN … THEN ….
        whens: Vec<(Expr, Expr)>,
        /// ELSE.
        otherwise: Option<Box<Expr>>,
    },
    /// `COALESCE`.
    Coalesce(Vec<Expr>),
    /// `NULLIF`.
    NullIf(Box<Expr>, Box<Expr>),
    /// `GREATEST` or `LEAST`.
    MinMax {
        /// GREATEST.
        greatest: bool,
        /// Arguments.
        args: Vec<Expr>,
    },
    /// A scalar subquery.
    Subquery(Box<Query>),
    /// `EXISTS (subquery)`.
    Exists(Box<Query>),
    /// `ARRAY(subquery)`.
    ArraySubquery(Box<Query>),
    /// `ARRAY[…]`.
    Array(Vec<Expr>),
    /// `ROW(…)` or `(a, b)`.
    Row(Vec<Expr>),
    /// `x[index]`.
    Subscript {
        /// Array.
        array: Box<Expr>,
        /// Index.
        index: Box<Expr>,
    },
    /// `x[low:high]`.
    Slice {
        /// Array.
        array: Box<Expr>,
        /// Lower bound.
        low: Option<Box<Expr>>,
        /// Upper bound.
        high: Option<Box<Expr>>,
    },
    /// `DEFAULT`, in VALUES of INSERT and in SET of UPDATE.
    Default,
}

/// An operator with its right operand.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainLink {
    /// Operator.
    pub operator: OperatorName,
    /// Right operand.
    pub operand: Expr,
    /// Byte position of the operator.
    pub position: usize,
}

/// An operator as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorName {
    /// Schema, of `OPERATOR(pg_catalog.~)`.
    pub schema: Option<String>,
    /// Symbol; `!=` is `<>`.
    pub symbol: String,
}

/// A constant as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// NULL
    Null,
    /// TRUE or FALSE
    Bool(bool),
    /// Digits only: int4, int8 or numeric by size.
    Integer(String),
    /// A number with a point or exponent.
    Numeric(String),
    /// A string, of unknown type.
    String(String),
}

/// Pattern matching constructs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LikeKind {
    Like,
    ILike,
    SimilarTo,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionCall {
    /// Name.
    pub name: ObjectName,
    /// Arguments.
    pub args: Vec<Expr>,
    /// `f(*)`.
    pub star: bool,
    /// `f(DISTINCT …)`.
    pub distinct: bool,
    /// `f(… ORDER BY …)`.
    pub order_by: Vec<OrderItem>,
    /// `FILTER (WHERE …)`.
    pub filter: Option<Expr>,
    /// The last argument is `VARIADIC`.
    pub variadic: bool,
}
