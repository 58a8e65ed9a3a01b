//! What expressions and system views see of a session.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::node::SqlNode;
use super::settings::Settings;
use crate::catalog::sequence::SequenceState;
use crate::catalog::system::{CatalogSource, SchemaEntry, SessionEntry, SettingEntry};
use crate::catalog::{Catalog, Oid, TableDesc, cache, oids};
use crate::expr::SessionView;
use crate::types::context::ObjectNames;
use crate::types::datetime::EPOCH_UNIX_MICROS;
use crate::{Result, SqlError, SqlState};

/// A session's state that functions change while a statement runs.
#[derive(Debug, Default)]
pub struct Effects {
    /// `currval` by sequence.
    pub currval: BTreeMap<Oid, i64>,
    /// Sequence of the last `nextval`.
    pub last: Option<Oid>,
    /// Sequences of which a value was wanted and none at hand: the session fetches some and runs
    /// the statement again.
    pub wanted: Vec<Oid>,
    /// States that `setval` gave to sequences: the statement's own `nextval` goes on from there,
    /// all others' when it has run, or has failed.
    pub setvals: BTreeMap<Oid, SequenceState>,
    /// `set_config` calls, likewise.
    pub settings: Vec<(String, String, bool)>,
}

/// A session at one version of catalog and settings.
pub struct View {
    pub(super) node: Arc<SqlNode>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) settings: Settings,
    pub(super) search_path: Arc<[String]>,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) id: u32,
    pub(super) effects: Arc<Mutex<Effects>>,
}

/// The same, as a source for system views; apart because both traits have a `search_path`.
pub struct Source(pub Arc<Inner>);

/// What [`Source`] needs.
pub struct Inner {
    node: Arc<SqlNode>,
    catalog: Arc<Catalog>,
    settings: Settings,
    search_path: Arc<[String]>,
    database: String,
}

impl View {
    fn inner(&self) -> Inner {
        Inner {
            node: self.node.clone(),
            catalog: self.catalog.clone(),
            settings: self.settings.clone(),
            search_path: self.search_path.clone(),
            database: self.database.clone(),
        }
    }

    fn sequence(&self, id: Oid) -> Result<&Arc<TableDesc>> {
        let table = self.catalog.get(id).ok_or_else(|| {
            SqlError::new(SqlState::UNDEFINED_TABLE, format!("could not open relation with OID {id}"))
        })?;
        match table.sequence {
            Some(_) => Ok(table),
            None => Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a sequence", table.name),
            )),
        }
    }

    /// Names for the `reg…` types.
    pub fn names(&self) -> Arc<dyn ObjectNames> {
        Arc::new(Source(Arc::new(self.inner())))
    }
}

impl SessionView for View {
    fn clock_micros(&self) -> u64 {
        self.node.db().store().env().clock.wall_micros()
    }

    fn random(&self) -> u64 {
        self.node.db().store().env().rng.next_u64()
    }

    fn current_user(&self) -> String {
        self.user.clone()
    }

    fn database(&self) -> String {
        self.database.clone()
    }

    fn backend_pid(&self) -> i32 {
        self.id as i32
    }

    fn search_path(&self) -> Vec<String> {
        self.search_path.to_vec()
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings.show(name).ok()
    }

    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String> {
        let mut trial = self.settings.clone();
        trial.set(name, Some(&[value.to_owned()]), local)?;
        self.effects.lock().settings.push((name.to_owned(), value.to_owned(), local));
        trial.show(name)
    }

    fn catalog(&self) -> Option<Arc<dyn CatalogSource>> {
        Some(Arc::new(Source(Arc::new(self.inner()))))
    }

    fn nextval(&self, sequence: Oid) -> Result<i64> {
        let table = self.sequence(sequence)?;
        let mut effects = self.effects.lock();
        let next = match effects.setvals.get_mut(&sequence) {
            Some(state) => Some(state.next(table)?),
            None => self.node.sequences.try_next(sequence),
        };
        match next {
            Some(value) => {
                effects.currval.insert(sequence, value);
                effects.last = Some(sequence);
                Ok(value)
            }
            None => {
                effects.wanted.push(sequence);
                let mut error = SqlError::new(SqlState::SERIALIZATION_FAILURE, "no sequence value at hand");
                error.fields_mut().retryable = true;
                Err(error)
            }
        }
    }

    fn currval(&self, sequence: Oid) -> Result<i64> {
        self.effects.lock().currval.get(&sequence).copied().ok_or_else(|| {
            let name = self.catalog.get(sequence).map_or(String::new(), |t| t.name.clone());
            SqlError::new(
                SqlState::OBJECT_NOT_IN_STATE,
                format!("currval of sequence \"{name}\" is not yet defined in this session"),
            )
        })
    }

    fn lastval(&self) -> Result<i64> {
        let effects = self.effects.lock();
        effects.last.and_then(|last| effects.currval.get(&last).copied()).ok_or_else(|| {
            SqlError::new(SqlState::OBJECT_NOT_IN_STATE, "lastval is not yet defined in this session")
        })
    }

    fn setval(&self, sequence: Oid, value: i64, is_called: bool) -> Result<i64> {
        let state = SequenceState::set(self.sequence(sequence)?, value, is_called)?;
        let mut effects = self.effects.lock();
        effects.setvals.insert(sequence, state);
        if is_called {
            effects.currval.insert(sequence, value);
        }
        Ok(value)
    }
}

impl CatalogSource for Source {
    fn relations(&self) -> Vec<Arc<TableDesc>> {
        self.0.catalog.tables().cloned().collect()
    }

    fn relation(&self, oid: Oid) -> Option<Arc<TableDesc>> {
        self.0.catalog.get(oid).cloned()
    }

    fn schemas(&self) -> Vec<SchemaEntry> {
        vec![SchemaEntry { oid: oids::PUBLIC, name: "public".into() }]
    }

    fn search_path(&self) -> Vec<String> {
        self.0.search_path.to_vec()
    }

    fn database(&self) -> String {
        self.0.database.clone()
    }

    fn sessions(&self) -> Vec<SessionEntry> {
        let sessions = self.0.node.sessions().into_iter();
        sessions
            .map(|(pid, s)| SessionEntry {
                pid: pid as i32,
                user: s.user,
                application: s.application,
                address: s.address,
                state: s.state,
                query: s.query.to_string(),
                backend_start: s.started as i64 - EPOCH_UNIX_MICROS,
                ..SessionEntry::default()
            })
            .collect()
    }

    fn settings(&self) -> Vec<SettingEntry> {
        let all = self.0.settings.show_all();
        all.map(|(name, value, about)| SettingEntry {
            name: name.into(),
            value: value.into(),
            description: about.into(),
            reset: value.into(),
        })
        .collect()
    }
}

impl ObjectNames for Source {
    fn relation_name(&self, oid: u32) -> Option<String> {
        if let Some(view) = crate::catalog::system::all_views().find(|v| v.oid == oid) {
            return Some(match view.schema {
                "pg_catalog" => view.name.to_owned(),
                schema => format!("{schema}.{}", view.name),
            });
        }
        let catalog = &self.0.catalog;
        let found = catalog.get(oid).map(|t| (t.schema, t.name.clone())).or_else(|| {
            catalog.tables().find_map(|t| {
                let index = t.indexes.iter().find(|i| i.id == oid && !i.name.is_empty())?;
                Some((t.schema, index.name.clone()))
            })
        });
        let (schema, name) = found?;
        let quoted = crate::ddl::quote_ident(&name);
        let schema = cache::schema_name(schema);
        match self.0.search_path.iter().any(|s| s == schema) {
            true => Some(quoted),
            false => Some(format!("{schema}.{quoted}")),
        }
    }

    fn relation_oid(&self, schema: Option<&str>, name: &str) -> Option<u32> {
        let catalog = &self.0.catalog;
        let in_schema = |schema: &str| {
            if let Some(view) = crate::catalog::system::lookup(Some(schema), name) {
                return Some(view.oid);
            }
            let id = cache::schema_oid(schema)?;
            let table = catalog.find(id, name).map(|t| t.id);
            table.or_else(|| catalog.find_index(id, name).map(|(t, i)| t.indexes[i].id))
        };
        match schema {
            Some(schema) => in_schema(schema),
            None => in_schema("pg_catalog").or_else(|| self.0.search_path.iter().find_map(|s| in_schema(s))),
        }
    }

    fn schema_name(&self, oid: u32) -> Option<String> {
        Some(cache::schema_name(oid).to_owned()).filter(|name| name != "?")
    }

    fn schema_oid(&self, name: &str) -> Option<u32> {
        cache::schema_oid(name)
    }

    fn role_name(&self, oid: u32) -> Option<String> {
        (oid == oids::POSTGRES_ROLE).then(|| "postgres".to_owned())
    }

    fn role_oid(&self, name: &str) -> Option<u32> {
        (name == "postgres").then_some(oids::POSTGRES_ROLE)
    }
}
