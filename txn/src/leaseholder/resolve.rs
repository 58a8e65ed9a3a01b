//! Resolving intents: one replicated command per span moves what a transaction wrote from `lock` to
//! `data` without carrying the values again.
//!
//! No latches: others that want to write such a key wait for the holder, and so do readers above the
//! commit timestamp; those below are not concerned.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::effects::{EFFECTS_FORMAT, Effects, RawWrite, ResolveSpan};
use cairn_kv::mvcc::TxnId;

use super::Leaseholder;
use crate::TxnError;

impl Leaseholder {
    /// Resolves the intents of `txn_id` in `spans`, each by a command of its own, as committed at
    /// `commit_ts` or, with zero, as aborted; `last` (the removal of the record) goes with the last.
    pub async fn resolve(
        self: &Arc<Leaseholder>,
        txn_id: TxnId,
        spans: &[(Bytes, Bytes)],
        commit_ts: Timestamp,
        ignored_seqs: &[u32],
        last: RawWrite,
    ) -> Result<(), TxnError> {
        let mut last = Some(last);
        for (position, (start, end)) in spans.iter().enumerate() {
            let span = ResolveSpan {
                start: start.clone(),
                end: end.clone(),
                txn_id: Bytes::copy_from_slice(&txn_id),
                commit_ts: commit_ts.0,
                ignored_seqs: ignored_seqs.to_vec(),
            };
            let effects = Effects {
                format: EFFECTS_FORMAT,
                resolves: vec![span],
                local: if position + 1 == spans.len() {
                    last.take().into_iter().collect()
                } else {
                    Vec::new()
                },
                ..Effects::default()
            };
            self.make_room().await?;
            let lease = self.lease()?;
            self.propose(lease, effects, None).await?;
            // Nothing here need wait, and what was spawned meanwhile (a flush) may stand behind this task,
            // where no other worker takes it.
            self.store.env().runtime.yield_now().await;
        }
        if let Some(last) = last {
            let effects = Effects { format: EFFECTS_FORMAT, local: vec![last], ..Effects::default() };
            let lease = self.lease()?;
            self.propose(lease, effects, None).await?;
        }
        self.slots.wrote_span();
        if !commit_ts.is_zero() {
            self.committed(commit_ts);
        }
        Ok(())
    }
}
