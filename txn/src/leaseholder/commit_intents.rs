//! The end of a transaction with intents.
//!
//! Its commit settles a timestamp, refreshes what was read, and then is one small command: the record,
//! committed, with the marker by which a resend is recognized. Then the client has its answer, the
//! intents are resolved span by span and the record is removed. From the record's proposal on the work
//! is a task of its own, so that a client that goes away cannot stop it half way; so is an abort.

use std::sync::Arc;

use cairn_kv::Timestamp;
use cairn_kv::effects::{EFFECTS_FORMAT, Effects};
use cairn_kv::mvcc::SeqNum;
use tokio::sync::oneshot;

use super::admit::behind;
use super::commit::marker;
use super::intent_holder::IntentHolder;
use super::lock::Patience;
use super::propose::no_timestamp;
use super::record::{RECORD_FORMAT, RecordSpan, RecordStatus, TxnRecord};
use super::watched::InFlight;
use super::{Leaseholder, Own};
use crate::gateway::held_locks::HeldLock;
use crate::gateway::read_set::ReadSet;
use crate::wire::NodeId;
use crate::{Isolation, TxnError};

/// Spans listed in a committed record; more are merged.
const RECORD_SPANS: usize = 64;

/// A transaction with intents to commit; everything that it wrote is in them.
pub struct CommitIntents<'a> {
    /// The transaction.
    pub holder: &'a Arc<IntentHolder>,
    /// The node of its gateway.
    pub node: NodeId,
    /// Rolled-back sequence numbers, both ends included.
    pub ignored: &'a [(SeqNum, SeqNum)],
    /// Its isolation level.
    pub isolation: Isolation,
    /// Where it read.
    pub read_ts: Timestamp,
    /// Its locks: those that were read are confirmed.
    pub locks: std::slice::Iter<'a, HeldLock>,
    /// What it read.
    pub reads: &'a mut ReadSet,
    /// How long it may wait for others.
    pub patience: Patience<'a>,
}

impl Leaseholder {
    /// Commits; returns the commit timestamp. After an error the caller aborts, where
    /// [`IntentHolder::take_charge`] still lets it.
    pub async fn commit_intents(
        self: &Arc<Leaseholder>,
        request: CommitIntents<'_>,
    ) -> Result<Timestamp, TxnError> {
        let CommitIntents { holder, node, ignored, isolation, read_ts, locks, reads, patience } = request;
        let bounds = holder.written_bounds();
        let watched = bounds.and_then(|(low, high)| self.watched.begin(node, &low, &high));
        let commit_ts = loop {
            if let Some(ts) = holder.settle(|_| self.store.hlc().try_now()) {
                break ts;
            }
            self.store.now().await.map_err(no_timestamp)?;
        };
        let own = Own { latch: None, holder: Some(holder) };
        self.confirm_locks(locks, commit_ts, own, patience).await?;
        if isolation == Isolation::Serializable {
            self.refresh(reads, (read_ts, commit_ts), own, patience.cancel, |_| false).await?;
        }
        if !ignored.is_empty()
            && let Some((low, high)) = holder.written_bounds()
        {
            // Of what was read under a lock, written and rolled back the read is left. The intent has kept
            // it true so far; from here on the timestamp cache does.
            self.record_span(&low, &behind(&high), commit_ts);
        }
        if !holder.take_charge() {
            return Err(TxnError::Canceled);
        }
        let (sender, outcome) = oneshot::channel();
        let ignored = ignored.iter().flat_map(|(first, last)| [*first, *last]).collect();
        let task = decide(Arc::clone(self), Arc::clone(holder), ignored, (commit_ts, watched), sender);
        self.store.env().runtime.spawn("commit of a large transaction", Box::pin(task));
        outcome.await.unwrap_or_else(|_| Err(TxnError::Ambiguous("the node is stopping".into())))
    }

    /// Aborts a transaction with intents, unless it is being ended: removes them. Who awaits the answer
    /// knows them gone; a closed channel means that the node is stopping, and recovery aborts.
    pub fn abort_intents(
        self: &Arc<Leaseholder>,
        holder: &Arc<IntentHolder>,
    ) -> Option<oneshot::Receiver<()>> {
        if !holder.take_charge() {
            return None;
        }
        let (leaseholder, holder) = (Arc::clone(self), Arc::clone(holder));
        let (sender, done) = oneshot::channel();
        let task = async move {
            end(&leaseholder, &holder, Timestamp::ZERO, &[]).await;
            let _ = sender.send(());
        };
        self.store.env().runtime.spawn("abort of a large transaction", Box::pin(task));
        Some(done)
    }
}

/// Commits by the record, answers, resolves the intents.
async fn decide(
    leaseholder: Arc<Leaseholder>,
    holder: Arc<IntentHolder>,
    ignored_seqs: Vec<u32>,
    (commit_ts, watched): (Timestamp, Option<InFlight>),
    answer: oneshot::Sender<Result<Timestamp, TxnError>>,
) {
    let identity = &holder.identity;
    let spans = holder.spans();
    let merged = spans.len().div_ceil(RECORD_SPANS).max(1);
    let record = TxnRecord {
        format: RECORD_FORMAT,
        status: RecordStatus::Committed.into(),
        start_ts: identity.start_ts.0,
        commit_ts: commit_ts.0,
        spans: spans
            .chunks(merged)
            .map(|group| RecordSpan { start: group[0].0.clone(), end: group[group.len() - 1].1.clone() })
            .collect(),
        ignored_seqs: ignored_seqs.clone(),
    };
    // Also where every flush had failed and was rolled back: this one must go again.
    holder.will_record();
    let effects = Effects {
        format: EFFECTS_FORMAT,
        local: vec![record.store(identity), marker(identity, commit_ts)],
        ..Effects::default()
    };
    let decided = match leaseholder.lease() {
        Ok(lease) => leaseholder.propose(lease, effects, None).await,
        Err(error) => Err(error),
    };
    match decided {
        Ok(()) => {
            // Decided and durable. Whoever meets what is left of it waits for it, this client, too.
            leaseholder.committed(commit_ts);
            drop(watched);
            let _ = answer.send(Ok(commit_ts));
            end(&leaseholder, &holder, commit_ts, &ignored_seqs).await;
        }
        Err(error @ TxnError::Ambiguous(_)) => {
            holder.lose();
            // In flight for as long as the lease lasts.
            std::mem::forget(watched);
            let _ = answer.send(Err(error));
        }
        Err(error) => {
            end(&leaseholder, &holder, Timestamp::ZERO, &[]).await;
            let _ = answer.send(Err(error));
        }
    }
}

/// Resolves the intents of a decided transaction and lets those go on who wait for it.
async fn end(
    leaseholder: &Arc<Leaseholder>,
    holder: &Arc<IntentHolder>,
    commit_ts: Timestamp,
    ignored_seqs: &[u32],
) {
    let resolved = if holder.has_record() {
        let remove = TxnRecord::remove(&holder.identity);
        let (txn_id, spans) = (holder.identity.txn_id, holder.spans());
        leaseholder.resolve(txn_id, &spans, commit_ts, ignored_seqs, remove).await
    } else {
        Ok(())
    };
    match resolved {
        Ok(()) => {
            leaseholder.holders.leave(holder);
            leaseholder.locks.release_all(holder.who.owner, std::iter::empty());
        }
        Err(error) => {
            // The store takes no more commands; the next start of the node resolves what is left.
            tracing::warn!(%error, "intents are left to recovery");
            holder.lose();
        }
    }
}
