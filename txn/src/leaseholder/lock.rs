//! Taking a lock: the lock table, then what it does not know of.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::mvcc;

use super::Leaseholder;
use super::admit::behind;
use super::intent_holder::IntentHolder;
use super::lock_table::{Attempt, LockTable, Owner, Requester, Waiting};
use super::slot::KeyHash;
use crate::{CancelToken, LockStrength, TxnError};

/// How long a request may wait.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// Ends the wait.
    pub cancel: &'a CancelToken,
    /// `lock_timeout`.
    pub timeout: Option<Duration>,
}

/// A lock just taken; given back when dropped, unless somebody takes charge of it.
#[must_use]
pub struct TakenLock {
    table: Arc<LockTable>,
    owner: Owner,
    key: Bytes,
    hash: KeyHash,
    from_shared: bool,
    kept: bool,
}

impl TakenLock {
    /// The caller releases it.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for TakenLock {
    fn drop(&mut self) {
        if !self.kept {
            self.table.give_back(self.owner, &self.key, self.hash, self.from_shared);
        }
    }
}

/// Locks of one key looked at at once; others' shared locks may come before an intent.
const LOCKS_OF_A_KEY: usize = 64;

impl Leaseholder {
    /// Locks `key` for `who`, waiting for others. When it returns, no write of the key by another
    /// transaction is under way and there is no intent of another on it, and neither can come to be
    /// while the lock is held. `None`: it was held as strong before.
    pub async fn lock(
        &self,
        who: Requester,
        own: Option<&Arc<IntentHolder>>,
        key: &Bytes,
        hash: KeyHash,
        strength: LockStrength,
        patience: Patience<'_>,
    ) -> Result<Option<TakenLock>, TxnError> {
        let attempt = self.locks.lock(who, key, hash, strength);
        let from_shared = match &attempt {
            Attempt::AlreadyHeld => return Ok(None),
            Attempt::Granted { from_shared } => *from_shared,
            Attempt::Waiting(waiting) => waiting.is_from_shared(),
            Attempt::Deadlock(_) => false,
        };
        self.wait_for_lock(attempt, patience).await?;
        let (table, owner) = (Arc::clone(&self.locks), who.owner);
        let taken = TakenLock { table, owner, key: key.clone(), hash, from_shared, kept: false };
        // Writers of large transactions lay intents after asking this table under latches; so first the
        // latches, then the intents.
        self.settle_lock(who, own, key, hash, strength, patience).await?;
        self.check_tenure()?;
        Ok(Some(taken))
    }

    async fn settle_lock(
        &self,
        who: Requester,
        own: Option<&Arc<IntentHolder>>,
        key: &Bytes,
        hash: KeyHash,
        strength: LockStrength,
        patience: Patience<'_>,
    ) -> Result<(), TxnError> {
        loop {
            self.wait_for_writer_of(key, hash, patience.cancel).await?;
            let Some(holder) = self.intent_of_other(key, own)? else { return Ok(()) };
            let yielded =
                holder.unless_finished(|| self.locks.yield_to(who, key, hash, strength, holder.who));
            if let Some(attempt) = yielded {
                self.wait_for_lock(attempt, patience).await?;
            }
        }
    }

    /// Another transaction's intent on `key`.
    pub fn intent_of_other(
        &self,
        key: &[u8],
        own: Option<&Arc<IntentHolder>>,
    ) -> Result<Option<Arc<IntentHolder>>, TxnError> {
        if self.holders.is_empty() {
            return Ok(None);
        }
        let end = behind(key);
        while self.holders.may_overlap(key, &end, own) {
            let locks = mvcc::locks(self.engine(), key, &end, LOCKS_OF_A_KEY)?;
            let other = locks.iter().find(|lock| own.is_none_or(|own| own.identity.txn_id != lock.txn_id));
            let Some(other) = other else { return Ok(None) };
            if let Some(holder) = self.holders.find(&other.txn_id) {
                return Ok(Some(holder));
            }
            // It finished between the two looks; the next look finds its intents gone.
        }
        Ok(None)
    }

    async fn wait_for_lock(&self, attempt: Attempt, patience: Patience<'_>) -> Result<(), TxnError> {
        match attempt {
            Attempt::Granted { .. } | Attempt::AlreadyHeld => Ok(()),
            Attempt::Deadlock(cycle) => Err(TxnError::Deadlock { cycle }),
            Attempt::Waiting(waiting) => self.wait_in_queue(waiting, patience).await,
        }
    }

    async fn wait_in_queue(&self, mut waiting: Waiting, patience: Patience<'_>) -> Result<(), TxnError> {
        let deadlock = |cycle| TxnError::Deadlock { cycle };
        let Some(timeout) = patience.timeout else {
            let granted = self.unless_over(patience.cancel, waiting.granted()).await?;
            return granted.map_err(deadlock);
        };
        let mut sleep = self.store.env().runtime.sleep(timeout);
        let granted = async {
            tokio::select! {
                biased;
                granted = waiting.granted() => granted.map_err(deadlock),
                () = &mut sleep => Err(TxnError::LockTimeout),
            }
        };
        self.unless_over(patience.cancel, granted).await?
    }
}
