//! Builtin functions, operators and casts.

use crate::types::TypeKind;

/// A builtin of one signature. Operators and casts are builtins too.
#[derive(Debug)]
pub struct Builtin {
    /// PostgreSQL's function name (for an operator, that of its function: `int4pl`).
    pub name: &'static str,
    /// Argument types.
    pub args: &'static [TypeKind],
    /// Result type.
    pub result: TypeKind,
}

/// An aggregate function of one signature.
#[derive(Debug)]
pub struct Aggregate {
    /// Name.
    pub name: &'static str,
    /// Argument types; empty: `count(*)`.
    pub args: &'static [TypeKind],
    /// Result type.
    pub result: TypeKind,
}

/// A set-returning function for FROM.
#[derive(Debug)]
pub struct TableFunction {
    /// Name.
    pub name: &'static str,
    /// Argument types.
    pub args: &'static [TypeKind],
    /// Output columns.
    pub columns: &'static [(&'static str, TypeKind)],
}
