//! Counters that hand out numbers in blocks, so that concurrent takers share neither a key nor a
//! commit: OIDs, hidden row ids, sequences. A block is taken by a small transaction of its own;
//! a crash loses what is left of it.

use std::time::Duration;

use bytes::Bytes;
use cairn_txn::{Db, TxnOptions};
use parking_lot::Mutex;
use std::sync::Arc;

use crate::{Result, SqlError, SqlState};

/// Runs a read-modify-write of one key in a transaction of its own, again after conflicts.
/// `change` gets the present value and returns the new one with its result; it may run repeatedly.
#[allow(clippy::type_complexity)] // a name for a type used once would hide it
pub async fn update_key<T: Send>(
    db: &Arc<Db>,
    key: &Bytes,
    change: &mut (dyn FnMut(Option<&[u8]>) -> Result<(Bytes, T)> + Send),
) -> Result<T> {
    const ATTEMPTS: u32 = 30;
    let mut attempt = 0;
    loop {
        let mut txn = db.begin(TxnOptions::default());
        let outcome = async {
            txn.begin_statement().await?;
            let value = txn.get_for_update(key).await?;
            let (new, result) = change(value.as_deref())?;
            txn.put(key.clone(), new).await?;
            txn.commit().await?;
            Ok::<T, SqlError>(result)
        }
        .await;
        match outcome {
            Err(e) if e.fields().retryable && attempt < ATTEMPTS => {
                txn.rollback().await;
                attempt += 1;
                db.store().env().runtime.sleep(Duration::from_millis(attempt as u64)).await;
            }
            Err(e) => {
                txn.rollback().await;
                return Err(e);
            }
            done => return done,
        }
    }
}

/// A counter over a stored number.
pub struct Counter {
    key: Bytes,
    first: u64,
    block: u64,
    /// Numbers that are ours: from, up to but not including.
    range: Mutex<(u64, u64)>,
    refill: tokio::sync::Mutex<()>,
}

impl Counter {
    /// A counter stored at `key` that begins at `first` and takes `block` numbers at a time.
    pub fn new(key: Bytes, first: u64, block: u64) -> Counter {
        Counter { key, first, block, range: Mutex::new((0, 0)), refill: tokio::sync::Mutex::new(()) }
    }

    /// Takes `n` consecutive numbers if they are at hand.
    pub fn try_take(&self, n: u64) -> Option<u64> {
        let mut range = self.range.lock();
        (range.1 - range.0 >= n).then(|| {
            range.0 += n;
            range.0 - n
        })
    }

    /// Takes `n` consecutive numbers; returns the first.
    pub async fn take(&self, db: &Arc<Db>, n: u64) -> Result<u64> {
        loop {
            if let Some(first) = self.try_take(n) {
                return Ok(first);
            }
            let _refill = self.refill.lock().await;
            if let Some(first) = self.try_take(n) {
                return Ok(first);
            }
            let count = self.block.max(n);
            let (from, to) = update_key(db, &self.key, &mut |value| {
                let next = match value {
                    None => self.first,
                    Some(bytes) => u64::from_le_bytes(bytes.try_into().map_err(|_| {
                        SqlError::new(SqlState::DATA_CORRUPTED, "stored counter is malformed")
                    })?),
                };
                let end = next + count;
                Ok((Bytes::copy_from_slice(&end.to_le_bytes()), (next, end)))
            })
            .await?;
            *self.range.lock() = (from, to);
        }
    }
}
