//! Cairn's own abstract syntax.
//!
//! What [`crate::parse`] makes of a statement's text and [`crate::bind`] resolves. Every part that an
//! error may point at carries its byte position in the whole query string. Chains of operators are
//! flat (see [`ExprKind::Chain`], [`ExprKind::And`]): the tree is only as deep as the text is nested,
//! which the parser limits, so that walking and dropping it by recursion is safe.

mod expr;
mod query;
mod statement;

pub use expr::*;
pub use query::*;
pub use statement::*;

/// An identifier: case-folded unless it was quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ident {
    /// Name.
    pub name: String,
    /// Byte position.
    pub position: usize,
}

/// A name that may be qualified by a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Schema, where given.
    pub schema: Option<String>,
    /// Name.
    pub name: String,
    /// Byte position of its first part.
    pub position: usize,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A type as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// Schema, where given.
    pub schema: Option<String>,
    /// Name in PostgreSQL's internal spelling (`int4` for `integer`), or as written when it is not a
    /// keyword of the grammar.
    pub name: String,
    /// Modifiers: `(10, 2)`.
    pub modifiers: Vec<i32>,
    /// `[]` was written.
    pub array: bool,
    /// Byte position.
    pub position: usize,
}
