//! Expressions: the binder's typed tree, and the program compiled from it.
//!
//! [`Scalar`] is what the binder produces and the optimizer rewrites. [`program`] compiles it once
//! per plan; the direct path and the batch executor run the same program (DESIGN §5).

pub mod context;
mod evaluate;
pub mod program;
mod rewrite;
mod vector;

use crate::types::{Datum, Type, TypeKind};

pub use context::{EvalContext, SessionView};
pub use program::Program;

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
    /// `left operator ANY (array)`, or `ALL`, over an array value.
    AnyArray {
        /// Left side.
        left: Box<Scalar>,
        /// A boolean operator over the left side and the array's elements.
        operator: &'static crate::func::Builtin,
        /// The array.
        array: Box<Scalar>,
        /// ALL rather than ANY.
        all: bool,
    },
    /// `GREATEST` and `LEAST`: NULL arguments do not count.
    Extreme {
        /// GREATEST.
        greatest: bool,
        /// Arguments of one type.
        args: Vec<Scalar>,
        /// Result type.
        ty: Type,
    },
    /// An array constructor.
    Array {
        /// Elements.
        items: Vec<Scalar>,
        /// The array's type.
        ty: Type,
    },
}

impl Scalar {
    /// The expression's type.
    pub fn ty(&self) -> Type {
        match self {
            Scalar::Const { ty, .. }
            | Scalar::Column { ty, .. }
            | Scalar::Param { ty, .. }
            | Scalar::Outer { ty, .. }
            | Scalar::Call { ty, .. }
            | Scalar::Case { ty, .. }
            | Scalar::Coalesce { ty, .. }
            | Scalar::Extreme { ty, .. }
            | Scalar::Array { ty, .. } => *ty,
            Scalar::And(_)
            | Scalar::Or(_)
            | Scalar::Not(_)
            | Scalar::IsNull(_)
            | Scalar::InList { .. }
            | Scalar::AnyArray { .. } => Type::new(TypeKind::Bool),
        }
    }

    /// The expressions directly below.
    pub fn children(&self) -> Vec<&Scalar> {
        match self {
            Scalar::Const { .. } | Scalar::Column { .. } | Scalar::Param { .. } | Scalar::Outer { .. } => {
                Vec::new()
            }
            Scalar::Call { args, .. }
            | Scalar::And(args)
            | Scalar::Or(args)
            | Scalar::Coalesce { args, .. }
            | Scalar::Extreme { args, .. }
            | Scalar::Array { items: args, .. } => args.iter().collect(),
            Scalar::Not(a) | Scalar::IsNull(a) => vec![a],
            Scalar::Case { whens, otherwise, .. } => {
                whens.iter().flat_map(|(c, r)| [c, r]).chain(otherwise.as_deref()).collect()
            }
            Scalar::InList { left, items, .. } => std::iter::once(&**left).chain(items).collect(),
            Scalar::AnyArray { left, array, .. } => vec![left, array],
        }
    }
}
