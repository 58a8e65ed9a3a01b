//! From a statement to its plan: what that depends on besides the text, and the cache.

use std::sync::Arc;

use super::plan_cache::{Compiled, PlanKey};
use super::view::View;
use super::{Derived, Session};
use crate::Result;
use crate::ast::Statement;
use crate::catalog::cache::CatalogView;
use crate::plan::{self, PlanSettings, Planned};
use crate::types::Type;

impl Session {
    /// View, text context and cache key for the present settings and catalog.
    pub(super) fn derived(&mut self) -> &Derived {
        let base = self.node.catalog_version();
        let own = self.txn.as_ref().filter(|t| !t.changes.is_empty());
        let past = self.txn.as_ref().and_then(|t| t.past.clone());
        let version = match (&past, own) {
            (Some(past), _) => past.version,
            (None, Some(txn)) => txn.changes.apply(&self.node.catalog()).version,
            (None, None) => base,
        };
        let generation = self.settings.generation();
        let current =
            self.derived.as_ref().is_some_and(|d| d.generation == generation && d.version == version);
        if !current {
            let catalog = match (past, own) {
                (Some(past), _) => past,
                (None, Some(txn)) => txn.changes.apply(&self.node.catalog()),
                (None, None) => self.node.catalog(),
            };
            let search_path: Arc<[String]> = self.settings.search_path(&self.user).into();
            let view = Arc::new(View {
                node: self.node.clone(),
                catalog: catalog.clone(),
                settings: self.settings.clone(),
                search_path: search_path.clone(),
                user: self.user.clone(),
                database: self.database.clone(),
                id: self.id,
                effects: self.effects.clone(),
            });
            let mut text = self.settings.text_context();
            text.names = Some(view.names());
            let flags = ["enable_seqscan", "enable_indexscan", "enable_hashjoin", "enable_nestloop"];
            let flags: String = flags.iter().map(|f| if self.settings.flag(f) { '1' } else { '0' }).collect();
            // Constants are read by the planner: formats and time zone are part of the key.
            let environment = format!("{}\0{flags}\0{}\0{text:?}", search_path.join(","), self.user);
            // The same text keeps its address, so that prepared statements compare by it.
            let environment = match &self.derived {
                Some(old) if *old.environment == *environment => old.environment.clone(),
                _ => environment.into(),
            };
            self.derived = Some(Derived {
                generation,
                version: catalog.version,
                view,
                text: Arc::new(text),
                environment,
            });
        }
        self.derived.as_ref().expect("just made")
    }

    pub(super) fn plan_settings(&mut self) -> PlanSettings {
        PlanSettings {
            text: self.derived().text.clone(),
            enable_seqscan: self.settings.flag("enable_seqscan"),
            enable_indexscan: self.settings.flag("enable_indexscan"),
            enable_hashjoin: self.settings.flag("enable_hashjoin"),
            enable_nestloop: self.settings.flag("enable_nestloop"),
        }
    }

    /// Plans and compiles a statement, through the cache where `key` is given.
    pub(super) async fn compile_statement(
        &mut self,
        statement: &Statement,
        types: &[Option<Type>],
        key: Option<PlanKey>,
    ) -> Result<Arc<Compiled>> {
        let version = self.node.catalog_version();
        let compiled = self.compile_by_cache(statement, types, key.as_ref());
        // What is not there may have been made by another node just now.
        if compiled.is_err() {
            // By this session, or by another one meanwhile.
            self.node.catch_up().await?;
            if self.node.catalog_version() != version {
                return self.compile_by_cache(statement, types, key.as_ref());
            }
        }
        compiled
    }

    /// The same by the catalog as it is in the cache.
    fn compile_by_cache(
        &mut self,
        statement: &Statement,
        types: &[Option<Type>],
        key: Option<&PlanKey>,
    ) -> Result<Arc<Compiled>> {
        let derived = self.derived();
        let version = derived.version;
        let view = CatalogView {
            catalog: derived.view.catalog.clone(),
            search_path: derived.view.search_path.clone(),
        };
        // A transaction's own catalog is nobody else's business.
        let key = key.filter(|_| version < 1 << 63);
        if let Some(key) = key
            && let Some(compiled) = self.node.plans.get(key, version)
        {
            return Ok(compiled);
        }
        let planned = plan::plan(statement, &view, types, &self.plan_settings())?;
        let cacheable = matches!(planned, Planned::Query(_));
        let compiled = Arc::new(Compiled::new(planned, version)?);
        if let Some(key) = key
            && cacheable
        {
            self.node.plans.put(key.clone(), compiled.clone());
        }
        Ok(compiled)
    }
}
