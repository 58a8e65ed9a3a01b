//! Admission of reads: the reader's part of the protocol in [`super::latch`].

use std::sync::Arc;

use cairn_kv::Timestamp;

use super::intent_holder::IntentHolder;
use super::latch::{LatchSet, Standing};
use super::slot::{KeyHash, Stamp};
use super::{Leaseholder, Own};
use crate::{CancelToken, TxnError};

/// What a read has to wait for before it may look at the engine.
pub enum Obstacle {
    /// A write under way.
    Latch(Arc<LatchSet>),
    /// A transaction whose intents are being resolved.
    Commit(Arc<IntentHolder>),
}

impl Leaseholder {
    /// Records a read of `key` at `ts`; then the engine may be read. The stamp says later whether
    /// the key was written since.
    #[inline]
    pub fn admit_point(
        &self,
        key: &[u8],
        hash: KeyHash,
        ts: Timestamp,
        own: Own<'_>,
    ) -> Result<Stamp, Obstacle> {
        let writer = if self.faults.no_timestamp_cache {
            self.slots.has_writer(hash)
        } else {
            self.slots.read(hash, ts)
        };
        if writer && let Some(set) = self.latches.in_the_way_of_point(key, ts, own.latch) {
            return Err(Obstacle::Latch(set));
        }
        if !self.holders.is_empty()
            && let Some(holder) = self.holders.push_all(key, &behind(key), ts, own.holder)
        {
            return Err(Obstacle::Commit(holder));
        }
        Ok(self.slots.stamp(hash))
    }

    /// Records a read of `[start, end)` at `ts`; then the engine may be read.
    pub fn admit_span(&self, start: &[u8], end: &[u8], ts: Timestamp, own: Own<'_>) -> Result<(), Obstacle> {
        self.record_span(start, end, ts);
        if let Some(set) = self.latches.in_the_way_of_span(start, end, ts, own.latch) {
            return Err(Obstacle::Latch(set));
        }
        if !self.holders.is_empty()
            && let Some(holder) = self.holders.push_all(start, end, ts, own.holder)
        {
            return Err(Obstacle::Commit(holder));
        }
        Ok(())
    }

    /// Records a read of `[start, end)` at `ts` by someone who knows that no write below is under way.
    pub fn record_span(&self, start: &[u8], end: &[u8], ts: Timestamp) {
        if !self.faults.no_timestamp_cache {
            self.cache.read_span(start, end, ts);
        }
    }

    /// Waits until a read at `ts` may try again.
    pub async fn wait_for(
        &self,
        obstacle: Obstacle,
        ts: Timestamp,
        cancel: &CancelToken,
    ) -> Result<(), TxnError> {
        match obstacle {
            Obstacle::Latch(set) => loop {
                match set.standing(ts) {
                    Standing::Clear => return Ok(()),
                    Standing::Choosing => self.store.env().runtime.yield_now().await,
                    Standing::Poisoned => return Err(self.outcome_unknown()),
                    Standing::InTheWay => self.unless_over(cancel, set.released()).await?,
                }
            },
            Obstacle::Commit(holder) => {
                self.unless_over(cancel, holder.finished()).await?;
                if holder.is_lost() { Err(self.outcome_unknown()) } else { Ok(()) }
            }
        }
    }

    /// Waits until no write of `key` is under way, at whatever timestamp.
    pub async fn wait_for_writer_of(
        &self,
        key: &[u8],
        hash: KeyHash,
        cancel: &CancelToken,
    ) -> Result<(), TxnError> {
        while self.slots.has_writer(hash)
            && let Some(set) = self.latches.holding(key)
        {
            self.unless_over(cancel, set.released()).await?;
            if set.is_poisoned() {
                return Err(self.outcome_unknown());
            }
        }
        Ok(())
    }

    /// The answer where a poisoned latch or a lost transaction is in the way.
    pub(super) fn outcome_unknown(&self) -> TxnError {
        let unknown = "the outcome of an earlier commit is unknown until the lease changes";
        self.lease().err().unwrap_or_else(|| TxnError::Unavailable(unknown.into()))
    }
}

/// Completes with `future`, or fails when canceled before.
pub async fn unless_canceled<T>(
    cancel: &CancelToken,
    future: impl Future<Output = T>,
) -> Result<T, TxnError> {
    tokio::select! {
        biased;
        () = cancel.canceled() => Err(TxnError::Canceled),
        output = future => Ok(output),
    }
}

/// The end of the span that holds only `key`.
pub fn behind(key: &[u8]) -> Vec<u8> {
    let mut end = Vec::with_capacity(key.len() + 1);
    end.extend_from_slice(key);
    end.push(0);
    end
}
