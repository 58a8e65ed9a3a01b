//! A session's transaction: its state, BEGIN and COMMIT, savepoints, failure.

use std::sync::Arc;

use cairn_txn::{Isolation, LockStrength, Savepoint, Txn, TxnError, TxnOptions};

use super::plan_cache::Executable;
use super::settings::Saved;
use super::{ResultSink, Session, Severity};
use crate::ast::{self, TransactionModes};
use crate::catalog::{Catalog, Oid};
use crate::ddl::{SchemaChanges, object_lock};
use crate::types::datetime::EPOCH_UNIX_MICROS;
use crate::{Result, SqlError, SqlState};

/// A transaction of a session.
pub struct Transaction {
    pub(super) txn: Txn,
    pub(super) options: TxnOptions,
    /// BEGIN was said.
    pub(super) explicit: bool,
    /// Only ROLLBACK helps.
    pub(super) failed: bool,
    /// Statements that have completed in it.
    pub(super) statements: u64,
    /// Objects locked shared.
    pub(super) locked: Vec<Oid>,
    /// Its statement reads without having locked objects, by a plan from this version of the catalog.
    unlocked: Option<u64>,
    /// Its snapshots are drawn under a watch.
    is_watched: bool,
    pub(super) changes: SchemaChanges,
    /// The catalog of its time, where that is past.
    pub(super) past: Option<Arc<Catalog>>,
    savepoints: Vec<Named>,
    saved: Saved,
    /// Its start, microseconds since 2000.
    pub(super) start: i64,
}

/// A savepoint.
struct Named {
    name: String,
    point: Savepoint,
    settings: Saved,
    changes: SchemaChanges,
    /// Number of the portal bound last before it.
    last_portal: u64,
}

impl Session {
    /// Microseconds since 2000.
    pub(super) fn now(&self) -> i64 {
        self.node.db().store().env().clock.wall_micros() as i64 - EPOCH_UNIX_MICROS
    }

    /// Begins a transaction unless one is open.
    pub(super) fn ensure_transaction(&mut self) {
        if self.txn.is_none() {
            self.open_transaction(false);
        }
    }

    fn open_transaction(&mut self, explicit: bool) {
        let saved = self.settings.save();
        let options = TxnOptions {
            isolation: isolation_of(self.settings.text("default_transaction_isolation")),
            read_only: self.settings.flag("default_transaction_read_only"),
            as_of: None,
            session: self.id as u64,
            cancel: self.cancel.clone(),
            lock_timeout: self.settings.timeout("lock_timeout"),
        };
        self.txn = Some(Box::new(Transaction {
            txn: self.node.db().begin(options.clone()),
            options,
            explicit,
            failed: false,
            statements: 0,
            locked: Vec::new(),
            unlocked: None,
            is_watched: false,
            changes: SchemaChanges::default(),
            past: None,
            savepoints: Vec::new(),
            saved,
            start: self.now(),
        }));
    }

    /// BEGIN.
    pub(super) async fn begin(&mut self, modes: &TransactionModes, sink: &mut dyn ResultSink) -> Result<()> {
        if self.txn.as_ref().is_some_and(|t| t.explicit) {
            let warning =
                SqlError::new(SqlState::ACTIVE_TRANSACTION, "there is already a transaction in progress");
            self.tell(Severity::Warning, &warning, sink);
        }
        if let Some(txn) = &mut self.txn
            && (txn.explicit || txn.statements > 0)
        {
            txn.explicit = true;
        } else {
            self.txn = None;
            self.open_transaction(true);
        }
        self.set_modes(modes).await
    }

    /// SET TRANSACTION, and the modes of BEGIN.
    pub(super) async fn set_modes(&mut self, modes: &TransactionModes) -> Result<()> {
        let as_of = modes.as_of.as_ref().map(|expr| self.as_of_of_begin(expr)).transpose()?;
        let Some(txn) = self.txn.as_mut() else { return Ok(()) };
        if *modes == TransactionModes::default() {
            return Ok(());
        }
        if txn.statements > 0 && (modes.isolation.is_some() || as_of.is_some()) {
            return Err(SqlError::new(
                SqlState::ACTIVE_TRANSACTION,
                "SET TRANSACTION ISOLATION LEVEL must be called before any query",
            ));
        }
        if txn.statements > 0 && modes.read_only == Some(false) && txn.options.read_only {
            return Err(SqlError::new(
                SqlState::ACTIVE_TRANSACTION,
                "transaction read-write mode must be set before any query",
            ));
        }
        if txn.statements > 0 && modes.read_only.is_some_and(|r| r != txn.options.read_only) {
            return Err(SqlError::unsupported("SET TRANSACTION READ ONLY after a query"));
        }
        if let Some(isolation) = modes.isolation {
            txn.options.isolation = match isolation {
                ast::Isolation::ReadUncommitted | ast::Isolation::ReadCommitted => Isolation::ReadCommitted,
                ast::Isolation::RepeatableRead => Isolation::RepeatableRead,
                ast::Isolation::Serializable => Isolation::Serializable,
            };
        }
        if let Some(read_only) = modes.read_only {
            txn.options.read_only = read_only;
        }
        if txn.statements == 0 {
            txn.start_over(self.node.db().begin(txn.options.clone()));
        }
        match as_of {
            Some(ts) => self.enter_past(ts).await,
            None => Ok(()),
        }
    }

    /// COMMIT of whatever is open.
    pub(super) async fn commit(&mut self) -> Result<()> {
        let Some(mut txn) = self.txn.take() else { return Ok(()) };
        if txn.failed {
            self.txn = Some(txn);
            self.rollback().await;
            return Ok(());
        }
        self.end_portals();
        let outcome = if txn.changes.is_empty() {
            txn.txn.commit().await.map(|_| ()).map_err(SqlError::from)
        } else {
            self.node.commit_changes(&mut txn.txn, &txn.changes.touched).await.map(|_| ())
        };
        self.finish_changes(&txn);
        match &outcome {
            Ok(()) => {
                self.settings.commit();
                self.pipeline.give_up();
            }
            Err(_) => self.settings.restore(&txn.saved),
        }
        outcome
    }

    /// ROLLBACK of whatever is open.
    pub(super) async fn rollback(&mut self) {
        if let Some(mut txn) = self.txn.take() {
            self.end_portals();
            txn.txn.rollback().await;
            self.finish_changes(&txn);
            self.settings.restore(&txn.saved);
        }
    }

    fn finish_changes(&self, txn: &Transaction) {
        if txn.changes.garbage {
            self.node.wake_collector();
        }
    }

    /// A transaction's end closes its portals.
    fn end_portals(&mut self) {
        self.portals.retain(|_, portal| portal.is_fresh());
        self.portals.values_mut().for_each(|portal| portal.seen = None);
    }

    /// After an error: an implicit transaction is gone, an explicit one has failed.
    pub(super) async fn fail(&mut self) {
        match &mut self.txn {
            Some(txn) if txn.explicit => txn.failed = true,
            Some(_) => self.rollback().await,
            None => {}
        }
    }

    /// SAVEPOINT.
    pub(super) fn savepoint(&mut self, name: &str) -> Result<()> {
        let settings = self.settings.save();
        let last_portal = self.last_portal;
        let txn = self.explicit("SAVEPOINT")?;
        let point = txn.txn.savepoint();
        let changes = txn.changes.clone();
        txn.savepoints.push(Named { name: name.to_owned(), point, settings, changes, last_portal });
        Ok(())
    }

    /// RELEASE.
    pub(super) fn release(&mut self, name: &str) -> Result<()> {
        let txn = self.explicit("RELEASE SAVEPOINT")?;
        let position = find_savepoint(&txn.savepoints, name)?;
        txn.savepoints.truncate(position);
        Ok(())
    }

    /// ROLLBACK TO.
    pub(super) fn rollback_to(&mut self, name: &str) -> Result<()> {
        let txn = self.explicit("ROLLBACK TO SAVEPOINT")?;
        let position = find_savepoint(&txn.savepoints, name)?;
        txn.savepoints.truncate(position + 1);
        let saved = txn.savepoints[position].settings.clone();
        let last_portal = txn.savepoints[position].last_portal;
        txn.txn.rollback_to(txn.savepoints[position].point);
        let building = std::mem::take(&mut txn.changes.building);
        let garbage = txn.changes.garbage;
        let count = txn.changes.count;
        txn.changes = txn.savepoints[position].changes.clone();
        // What was built still waits for the transaction's end; versions are not used twice.
        txn.changes.building = building;
        txn.changes.garbage = garbage;
        txn.changes.count = count + 1;
        txn.failed = false;
        self.settings.restore(&saved);
        // Later ones may have seen what is gone.
        self.portals.retain(|_, portal| portal.number <= last_portal);
        Ok(())
    }

    fn explicit(&mut self, what: &str) -> Result<&mut Transaction> {
        self.txn.as_deref_mut().filter(|t| t.explicit).ok_or_else(|| {
            SqlError::new(
                SqlState::NO_ACTIVE_TRANSACTION,
                format!("{what} can only be used in transaction blocks"),
            )
        })
    }

    /// The present point of the open transaction.
    pub(super) fn here(&mut self) -> Savepoint {
        match &mut self.txn {
            Some(txn) if txn.txn.has_writes() => txn.txn.savepoint(),
            // Also behind a restart, which numbers writes anew.
            _ => Savepoint::START,
        }
    }

    /// Whether a plan from a version of the catalog needs no lock on its tables, as it is a read that ends with its
    /// statement: its snapshot is later than the last schema change of its tables, or something is amiss. Other
    /// nodes' changes are found when the snapshot is drawn, this node's by [`Session::check_unlocked`].
    pub(super) fn reads_unlocked(&mut self, executable: &Executable, version: u64) -> bool {
        let txn = self.txn.as_deref_mut().expect("statements run in transactions");
        txn.unlocked = None;
        let reads_only = !executable.writes && !executable.reads_catalog && txn.changes.is_empty();
        if txn.explicit || txn.statements > 0 || !reads_only {
            return false;
        }
        // First this: where it is newer than the version, that is not the one planned with.
        let watch = self.node.watch();
        if self.node.is_publishing() || self.node.catalog_version() != version {
            return false;
        }
        txn.txn.expect(watch);
        (txn.unlocked, txn.is_watched) = (Some(version), true);
        true
    }

    /// After a statement's first read, which has drawn the snapshot, or after its failure: whether its plan was right for
    /// that. A change that is older than the snapshot was under way before it was drawn.
    pub(super) fn check_unlocked(&mut self) -> Result<()> {
        let Some(version) = self.txn.as_deref_mut().and_then(|txn| txn.unlocked.take()) else {
            return Ok(());
        };
        if self.node.is_publishing() || self.node.catalog_version() != version {
            return Err(TxnError::Stale.into());
        }
        Ok(())
    }

    /// Locks a plan's tables against schema changes; false when it is out of date and must be made
    /// anew.
    pub(super) async fn lock_tables(&mut self, executable: &Executable, version: u64) -> Result<bool> {
        let node = self.node.clone();
        let txn = self.txn.as_deref_mut().expect("statements run in transactions");
        if txn.past.is_some() {
            return Ok(true);
        }
        txn.txn.lock_now(false).await?;
        for table in &executable.tables {
            if !txn.locked.contains(&table.id) {
                txn.txn.lock(&object_lock(table.id), LockStrength::Shared).await?;
                txn.locked.push(table.id);
            }
        }
        if executable.reads_catalog {
            node.catch_up().await?;
        } else {
            node.catch_up_with(&txn.txn).await?;
        }
        if txn.is_watched && txn.options.isolation == Isolation::ReadCommitted {
            // An earlier statement had another snapshot. Where it is the same one, it does not move past a change of
            // what that statement has read.
            txn.txn.expect(node.watch());
        }
        if node.catalog_version() != version {
            let catalog = txn.changes.apply(&node.catalog());
            if !executable.is_current(&catalog) {
                return Ok(false);
            }
        }
        for table in &executable.tables {
            if !table.changed_at.is_zero() && table.changed_at > txn.txn.read_ts().await? {
                txn.txn.refresh_to(table.changed_at).await?;
            }
        }
        Ok(true)
    }

    /// Has a plan's tables locked with its first step, where that is one and goes to another node; false when it has to
    /// be done in advance. What other nodes have changed meanwhile is found there, what this one has by
    /// [`Session::check_unlocked`].
    pub(super) fn locks_tables_later(&mut self, executable: &Executable, version: u64) -> bool {
        let txn = self.txn.as_deref_mut().expect("statements run in transactions");
        let may = executable.locks_first() && txn.txn.asks_elsewhere();
        if !may || txn.past.is_some() || !txn.changes.is_empty() {
            return false;
        }
        // The statement may have to begin again under another snapshot, which REPEATABLE READ does not allow. One that
        // is drawn later lies above all changes that are known.
        if let Some(read_ts) = txn.txn.drawn()
            && (txn.options.isolation == Isolation::RepeatableRead
                || executable.tables.iter().any(|table| table.changed_at > read_ts))
        {
            return false;
        }
        let wanted = executable.tables.iter().map(|table| table.id).filter(|id| !txn.locked.contains(id));
        let wanted: Vec<Oid> = wanted.collect();
        // First this, as in `reads_unlocked`.
        let watch = self.node.watch();
        if wanted.is_empty() || self.node.is_publishing() || self.node.catalog_version() != version {
            return false;
        }
        txn.txn.lock_later(wanted.iter().map(|id| object_lock(*id)), watch);
        txn.locked.extend(wanted);
        txn.unlocked = Some(version);
        true
    }

    /// Starts the transaction over, when nothing of it has been completed.
    pub(super) async fn restart_transaction(&mut self) {
        if let Some(txn) = &mut self.txn {
            txn.txn.rollback().await;
            txn.start_over(self.node.db().begin(txn.options.clone()));
            txn.changes = SchemaChanges {
                building: std::mem::take(&mut txn.changes.building),
                ..SchemaChanges::default()
            };
        }
    }
}

impl Transaction {
    /// Goes on with a new transaction of the layer below: nothing has happened in the old one.
    pub(super) fn start_over(&mut self, txn: Txn) {
        self.txn = txn;
        self.locked.clear();
        (self.unlocked, self.is_watched) = (None, false);
    }
}

fn find_savepoint(savepoints: &[Named], name: &str) -> Result<usize> {
    savepoints
        .iter()
        .rposition(|s| s.name == name)
        .ok_or_else(|| SqlError::new(SqlState(*b"3B001"), format!("savepoint \"{name}\" does not exist")))
}

pub(super) fn isolation_of(text: &str) -> Isolation {
    match text {
        "repeatable read" => Isolation::RepeatableRead,
        "read committed" | "read uncommitted" => Isolation::ReadCommitted,
        _ => Isolation::Serializable,
    }
}
