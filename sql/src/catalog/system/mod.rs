//! System views: `pg_catalog` and `information_schema`, computed from the catalog.

use std::sync::Arc;

use super::{Oid, TableDesc};
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

/// A schema.
#[derive(Clone, Debug)]
pub struct SchemaEntry {
    /// OID.
    pub oid: Oid,
    /// Name.
    pub name: String,
}

/// A role.
#[derive(Clone, Debug)]
pub struct RoleEntry {
    /// OID.
    pub oid: Oid,
    /// Name.
    pub name: String,
}

/// A session, for `pg_stat_activity`.
#[derive(Clone, Debug, Default)]
pub struct SessionEntry {
    /// Backend process id.
    pub pid: i32,
    /// Role.
    pub user: String,
    /// `application_name`.
    pub application: String,
    /// Client's address.
    pub address: String,
    /// `idle`, `active`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: &'static str,
    /// The statement that runs or ran last.
    pub query: String,
    /// When the session, transaction and statement began and the state changed: microseconds since
    /// 2000; the transaction's is absent outside of one.
    pub backend_start: i64,
    /// See `backend_start`.
    pub xact_start: Option<i64>,
    /// See `backend_start`.
    pub query_start: Option<i64>,
    /// See `backend_start`.
    pub state_change: i64,
}

/// A setting, for `pg_settings`.
#[derive(Clone, Debug)]
pub struct SettingEntry {
    /// Name.
    pub name: String,
    /// Value as SHOW prints it.
    pub value: String,
    /// One line on what it does.
    pub description: String,
    /// Value after RESET.
    pub reset: String,
}

/// The catalog and the node as the system views and functions like `pg_get_indexdef` see them, at
/// one version.
pub trait CatalogSource: Send + Sync {
    /// All tables and sequences, ordered by OID.
    fn relations(&self) -> Vec<Arc<TableDesc>>;
    /// One of them.
    fn relation(&self, oid: Oid) -> Option<Arc<TableDesc>> {
        self.relations().into_iter().find(|t| t.id == oid)
    }
    /// User schemas (`public` and those created), ordered by OID; the built-in ones are added here.
    fn schemas(&self) -> Vec<SchemaEntry>;
    /// Schemas of the session's search path, without the implicit `pg_catalog`.
    fn search_path(&self) -> Vec<String>;
    /// The database.
    fn database(&self) -> String;
    /// Roles, ordered by OID.
    fn roles(&self) -> Vec<RoleEntry> {
        vec![RoleEntry { oid: super::oids::POSTGRES_ROLE, name: "postgres".into() }]
    }
    /// Sessions of this node.
    fn sessions(&self) -> Vec<SessionEntry> {
        Vec::new()
    }
    /// Settings of the session, ordered by name.
    fn settings(&self) -> Vec<SettingEntry> {
        Vec::new()
    }
    /// Bytes that a relation's index occupies (the primary index holds the rows); approximate.
    fn index_size(&self, index: Oid) -> Option<u64> {
        let _ = index;
        None
    }
    /// A sequence's last value and whether it was handed out.
    fn sequence_value(&self, sequence: Oid) -> Option<(i64, bool)> {
        let _ = sequence;
        None
    }
}
