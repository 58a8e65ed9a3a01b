//! Expressions: the binder's typed tree, and the program compiled from it.
//!
//! [`Scalar`] is what the binder produces and the optimizer rewrites. [`program`] compiles it once
//! per plan; the direct path and the batch executor run the same program (DESIGN §5).

use crate::types::{Datum, Type};

/// A typed scalar expression over the columns of an input row. Trees may be thousands deep only
/// where they are n-ary here (`And`, `Or`, and chains of one operator are flattened by `parse`).
#[derive(Clone, Debug)]
pub enum Scalar {
    /// A constant.
    Const {
        /// Value.
        value: Datum,
        /// Type.
        ty: Type,
    },
    /// A column of the input, by position.
    Column {
        /// Position in the input's schema.
        index: usize,
        /// Type.
        ty: Type,
    },
    /// A bind parameter, from 0 (`$1` is 0).
    Param {
        /// Number.
        index: usize,
        /// Type.
        ty: Type,
    },
    /// A column of the enclosing query's current row (set by `Apply`).
    Outer {
        /// Slot in the execution context.
        slot: usize,
        /// Type.
        ty: Type,
    },
    /// A function, operator or cast, resolved to one builtin.
    Call {
        /// Which.
        function: &'static crate::func::Builtin,
        /// Arguments, coerced to what the builtin takes.
        args: Vec<Scalar>,
        /// Result type (with modifier where the function fixes one).
        ty: Type,
        /// Byte position in the statement, for errors; `usize::MAX`: none.
        position: usize,
    },
    /// Conjunction of two or more.
    And(Vec<Scalar>),
    /// Disjunction of two or more.
    Or(Vec<Scalar>),
    /// Negation.
    Not(Box<Scalar>),
    /// `IS NULL`.
    IsNull(Box<Scalar>),
    /// `CASE WHEN … THEN … ELSE … END`: conditions are boolean.
    Case {
        /// Condition and result.
        whens: Vec<(Scalar, Scalar)>,
        /// ELSE; absent: NULL.
        otherwise: Option<Box<Scalar>>,
        /// Result type.
        ty: Type,
    },
    /// `COALESCE`.
    Coalesce {
        /// Arguments.
        args: Vec<Scalar>,
        /// Result type.
        ty: Type,
    },
    /// `left = ANY (items)` over a list, with NULL semantics of IN.
    InList {
        /// Left side.
        left: Box<Scalar>,
        /// Candidates of the same type.
        items: Vec<Scalar>,
        /// `=` of that type.
        equals: &'static crate::func::Builtin,
    },
    /// An array constructor.
    Array {
        /// Elements.
        items: Vec<Scalar>,
        /// The array's type.
        ty: Type,
    },
}
