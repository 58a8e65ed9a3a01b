//! System views: `pg_catalog` and `information_schema`, computed from the catalog.

use crate::types::TypeKind;

/// A system view.
#[derive(Debug)]
pub struct SystemView {
    /// Schema's name.
    pub schema: &'static str,
    /// Name.
    pub name: &'static str,
    /// OID of the view itself.
    pub oid: u32,
    /// Columns.
    pub columns: &'static [(&'static str, TypeKind)],
}
