//! Removal of what dropped and truncated indexes leave behind.
//!
//! The transaction that drops an index lists its id in a table of the catalog. Reads in the past may
//! want its entries until the threshold of garbage collection has passed that transaction: whatever
//! is listed in the catalog *as of the threshold* is wanted by nobody any more. A task of the node
//! then clears the index's span, all versions at once, and takes the id off the list. Of several nodes, the one
//! that has the lease does it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_txn::{LockStrength, Txn, TxnError, TxnOptions};

use crate::catalog::Oid;
use crate::catalog::store::{scan_all, system_key};
use crate::ddl::object_lock;
use crate::session::SqlNode;
use crate::storage::{ids, key};
use crate::{Result, SqlState};

/// How often the list is looked at while something is on it.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked at otherwise: another node may have put something on it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long a collector waits for the lock of an index that is being built.
const PATIENCE: Duration = Duration::from_millis(1);

/// Why an index is listed. An id that is listed for its building, taken off, and listed again when it
/// is dropped must not be taken for garbage since the building.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Dropped or truncated.
    Dropped = 1,
    /// Being built: garbage unless the building succeeds.
    Building = 2,
}

/// Lists an index as garbage, as part of a transaction.
pub async fn list(txn: &mut Txn, index: Oid, reason: Reason) -> Result<()> {
    txn.put(system_key(ids::GARBAGE, index as u64), Bytes::copy_from_slice(&[reason as u8])).await?;
    Ok(())
}

/// Takes an index off the list.
pub async fn unlist(txn: &mut Txn, index: Oid) -> Result<()> {
    txn.delete(system_key(ids::GARBAGE, index as u64)).await?;
    Ok(())
}

/// The node's task, as long as the node lives: collects when it is woken, and from time to time
/// while something is listed.
pub async fn collect_for_ever(node: Weak<SqlNode>, woken: Arc<tokio::sync::Notify>) {
    let Some(runtime) = node.upgrade().map(|node| node.db().store().env().runtime.clone()) else { return };
    loop {
        tokio::select! {
            biased;
            () = woken.notified() => {}
            () = runtime.sleep(LOOK_AGAIN) => {}
        }
        loop {
            let Some(strong) = node.upgrade() else { return };
            if !strong.db().has_lease() {
                break;
            }
            match collect(&strong).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "removal of dropped indexes failed; it is tried again");
                }
            }
            drop(strong);
            tokio::select! {
                biased;
                () = woken.notified() => {}
                () = runtime.sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// Removes what is listed and wanted by nobody; returns how much remains listed.
pub async fn collect(node: &Arc<SqlNode>) -> Result<usize> {
    let listed = listed_at(node, None).await?;
    let threshold = node.db().gc_threshold();
    if listed.is_empty() || threshold.is_zero() {
        return Ok(listed.len());
    }
    let unwanted = match listed_at(node, Some(threshold)).await {
        Ok(unwanted) => unwanted,
        // The threshold rose meanwhile: the next look will do.
        Err(error) if error.state() == SqlState::SNAPSHOT_TOO_OLD => return Ok(listed.len()),
        Err(error) => return Err(error),
    };
    let mut remaining = 0;
    for listing in listed {
        let index = listing.0 as Oid;
        if !unwanted.contains(&listing) || node.is_building(index) {
            remaining += 1;
            continue;
        }
        remove(node, index, &listing.1).await?;
    }
    Ok(remaining)
}

/// Clears an index and takes it off the list, if it is still listed for the same reason.
///
/// It may have been listed while it was built, and have been finished since the list was read. It is
/// not being built when this begins, so a transaction that finished it has committed, and the
/// listing, locked here, says whether one did.
async fn remove(node: &Arc<SqlNode>, index: Oid, reason: &Bytes) -> Result<()> {
    let options = TxnOptions { lock_timeout: Some(PATIENCE), ..TxnOptions::default() };
    let mut txn = node.db().begin(options);
    txn.begin_statement().await?;
    match txn.lock(&object_lock(index), LockStrength::Exclusive).await {
        // Another node builds it.
        Err(TxnError::LockTimeout) => {
            txn.rollback().await;
            return Ok(());
        }
        locked => locked?,
    }
    if txn.get_for_update(&system_key(ids::GARBAGE, index as u64)).await?.as_ref() != Some(reason) {
        txn.rollback().await;
        return Ok(());
    }
    node.db().clear_span(&key::index_prefix(index), &key::index_end(index)).await?;
    unlist(&mut txn, index).await?;
    txn.commit().await?;
    Ok(())
}

/// The list now or as it was.
async fn listed_at(node: &Arc<SqlNode>, as_of: Option<Timestamp>) -> Result<Vec<(u64, Bytes)>> {
    let mut txn = node.db().begin(TxnOptions { read_only: true, as_of, ..TxnOptions::default() });
    txn.begin_statement().await?;
    let listed = scan_all(&mut txn, ids::GARBAGE).await;
    txn.rollback().await;
    listed
}
