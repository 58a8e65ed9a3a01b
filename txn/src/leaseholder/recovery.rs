//! What a start makes of transactions that the last stop cut off.
//!
//! Their intents are the whole truth about where they wrote, and there are none but theirs: one pass
//! over `lock` finds the transactions, their records say how they ended (none, or a pending one:
//! aborted), and resolution by span ends them. Then the records that are left are removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::engine::Cf;
use cairn_kv::mvcc::{self, TxnId};
use cairn_kv::{Timestamp, local_keys};

use super::Leaseholder;
use super::admit::behind;
use super::commit::TxnIdentity;
use super::record::{RecordStatus, TxnRecord};
use crate::TxnError;

/// Intents to a command of the resolution.
const RESOLVE_KEYS: usize = 8_192;

struct Unfinished {
    identity: TxnIdentity,
    spans: Vec<(Bytes, Bytes)>,
    in_span: usize,
}

/// Ends every transaction found in the store. Runs before anything else.
pub async fn recover(leaseholder: &Arc<Leaseholder>) -> Result<(), TxnError> {
    let records = read_records(leaseholder)?;
    for (txn_id, unfinished) in find_unfinished(leaseholder)? {
        let committed = records
            .get(&(unfinished.identity.anchor.clone(), txn_id))
            .filter(|record| record.status() == RecordStatus::Committed);
        let commit_ts = committed.map_or(Timestamp::ZERO, |record| Timestamp(record.commit_ts));
        let ignored = committed.map_or(Vec::new(), |record| record.ignored_seqs.clone());
        tracing::info!(spans = unfinished.spans.len(), %commit_ts, "ending an unfinished transaction");
        let remove = TxnRecord::remove(&unfinished.identity);
        leaseholder.resolve(txn_id, &unfinished.spans, commit_ts, &ignored, remove).await?;
    }
    // Records whose intents are gone: the stop came between.
    for (anchor, txn_id) in read_records(leaseholder)?.into_keys() {
        let identity = TxnIdentity { txn_id, anchor, start_ts: Timestamp::ZERO };
        let remove = TxnRecord::remove(&identity);
        leaseholder.resolve(txn_id, &[], Timestamp::ZERO, &[], remove).await?;
    }
    Ok(())
}

fn read_records(leaseholder: &Leaseholder) -> Result<BTreeMap<(Bytes, TxnId), TxnRecord>, TxnError> {
    let prefix = local_keys::txn_records();
    let end = cairn_kv::encoding::prefix_end(&prefix);
    let mut iter = leaseholder.engine().iter(Cf::Local, &prefix, &end)?;
    let mut records = BTreeMap::new();
    iter.seek_to_first();
    while iter.valid() {
        records.insert(local_keys::parse_txn_record(iter.key())?, TxnRecord::read(iter.value())?);
        iter.next();
    }
    iter.status()?;
    Ok(records)
}

fn find_unfinished(leaseholder: &Leaseholder) -> Result<BTreeMap<TxnId, Unfinished>, TxnError> {
    let mut found: BTreeMap<TxnId, Unfinished> = BTreeMap::new();
    let mut iter = leaseholder.engine().iter(Cf::Lock, b"", b"")?;
    iter.seek_to_first();
    while iter.valid() {
        let (key, _, txn_id) = mvcc::parse_lock_key(iter.key())?;
        let unfinished = match found.entry(txn_id) {
            std::collections::btree_map::Entry::Occupied(occupied) => occupied.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let value = mvcc::decode_lock_value(key, Bytes::copy_from_slice(iter.value()))?;
                let identity =
                    TxnIdentity { txn_id, anchor: value.anchor, start_ts: Timestamp(value.start_ts) };
                vacant.insert(Unfinished { identity, spans: Vec::new(), in_span: RESOLVE_KEYS })
            }
        };
        let end = Bytes::from(behind(key));
        match unfinished.spans.last_mut() {
            Some((_, last_end)) if unfinished.in_span < RESOLVE_KEYS => *last_end = end,
            _ => {
                unfinished.in_span = 0;
                unfinished.spans.push((Bytes::copy_from_slice(key), end));
            }
        }
        unfinished.in_span += 1;
        iter.next();
    }
    iter.status()?;
    Ok(found)
}
