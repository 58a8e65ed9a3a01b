//! Plans: what the binder produces and what the executor runs.

pub mod logical;
pub mod physical;

use crate::types::Type;

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
