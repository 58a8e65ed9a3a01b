//! Removal of what dropped and truncated indexes leave behind.
//!
//! The transaction that drops an index lists its id in a table of the catalog; a task of the node
//! deletes its entries in small transactions, then the listing. Deletion is ordinary, so reads in
//! the past still find the rows until garbage collection takes them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use cairn_txn::{Scan, Txn, TxnOptions};

use crate::Result;
use crate::catalog::Oid;
use crate::catalog::store::{scan_all, system_key};
use crate::session::SqlNode;
use crate::storage::{ids, key};

/// Entries deleted in one transaction.
const CHUNK: usize = 2000;

/// Lists an index as garbage, as part of a transaction.
pub async fn list(txn: &mut Txn, index: Oid) -> Result<()> {
    txn.put(system_key(ids::GARBAGE, index as u64), Bytes::from_static(&[1])).await?;
    Ok(())
}

/// Takes an index off the list.
pub async fn unlist(txn: &mut Txn, index: Oid) -> Result<()> {
    txn.delete(system_key(ids::GARBAGE, index as u64)).await?;
    Ok(())
}

/// The node's task: collects whenever it is woken, as long as the node lives.
pub async fn collect_for_ever(node: Weak<SqlNode>, woken: Arc<tokio::sync::Notify>) {
    loop {
        woken.notified().await;
        let Some(strong) = node.upgrade() else { return };
        let runtime = strong.db().store().env().runtime.clone();
        drop(strong);
        // Let the statement that dropped something finish first.
        runtime.sleep(Duration::from_millis(100)).await;
        let Some(strong) = node.upgrade() else { return };
        if let Err(error) = collect(&strong).await {
            tracing::warn!(%error, "removal of dropped indexes failed; it is tried again");
            drop(strong);
            runtime.sleep(Duration::from_secs(1)).await;
            if let Some(strong) = node.upgrade() {
                strong.wake_collector();
            }
        }
    }
}

/// Removes everything listed now.
pub async fn collect(node: &Arc<SqlNode>) -> Result<()> {
    let mut txn = node.db().begin(TxnOptions { read_only: true, ..TxnOptions::default() });
    txn.begin_statement().await?;
    let listed = scan_all(&mut txn, ids::GARBAGE).await?;
    txn.rollback().await;
    for (index, _) in listed {
        let index = index as Oid;
        while !node.is_building(index) && !remove_chunk(node, index).await? {
            node.db().store().env().runtime.yield_now().await;
        }
    }
    Ok(())
}

/// Deletes some entries; true when none was left and the listing is gone.
async fn remove_chunk(node: &Arc<SqlNode>, index: Oid) -> Result<bool> {
    let mut txn = node.db().begin(TxnOptions::default());
    txn.begin_statement().await?;
    let scan = Scan {
        start: Bytes::copy_from_slice(&key::index_prefix(index)),
        end: Bytes::copy_from_slice(&key::index_end(index)),
        reverse: false,
    };
    let mut keys = Vec::new();
    txn.scan(&scan, &mut |key, _| {
        keys.push(Bytes::copy_from_slice(key));
        keys.len() < CHUNK
    })
    .await?;
    let done = keys.is_empty();
    for key in keys {
        txn.delete(key).await?;
    }
    if done {
        unlist(&mut txn, index).await?;
    }
    txn.commit().await?;
    Ok(done)
}
