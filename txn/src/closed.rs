//! Closed timestamps ([`cairn_raft::Complete`]): the leaseholder's part.

use std::sync::Weak;
use std::time::Duration;

use cairn_kv::Timestamp;
use cairn_raft::store::FIRST_RANGE;

use crate::leaseholder::propose::no_timestamp;
use crate::leaseholder::tenure::after;
use crate::leaseholder::{Leaseholder, Own};
use crate::{CancelToken, TxnError};

/// How often a timestamp is closed.
const CLOSE_EVERY: Duration = Duration::from_secs(1);

/// How far in the past every replica can be read, as a rule, by the default lag: that, the pause between two
/// closed timestamps, and a second in which the word of it comes and is applied.
pub const FOLLOWER_READ_LAG: Duration = Duration::from_millis(4_800);

/// The background task of a leaseholder: closes timestamps `lag` microseconds behind now, while there are other
/// replicas. It ends with the tenure.
pub async fn keep_closing(leaseholder: Weak<Leaseholder>, lag: u64) {
    while let Some(leaseholder) = after(CLOSE_EVERY, &leaseholder).await {
        let descriptor = leaseholder.store.descriptor(FIRST_RANGE);
        if descriptor.is_some_and(|descriptor| descriptor.replicas.len() > 1)
            && let Err(error) = close(&leaseholder, lag).await
        {
            tracing::debug!(%error, "no timestamp is closed");
        }
    }
}

async fn close(leaseholder: &Leaseholder, lag: u64) -> Result<(), TxnError> {
    let lease = leaseholder.lease()?;
    let upto = leaseholder.store.now().await.map_err(no_timestamp)?.sub_micros(lag);
    if upto < lease.start {
        // What earlier leaseholders have committed is applied here; that much could be closed, and soon is.
        return Ok(());
    }
    stop_commits_until(leaseholder, upto).await?;
    if !leaseholder.store.serves(FIRST_RANGE, lease, upto) {
        return Err(TxnError::Unavailable("the lease has ended".into()));
    }
    leaseholder.store.close_past(FIRST_RANGE, upto).await.map_err(no_timestamp)
}

/// Nothing commits at or below `ts` from now on, and what was about to is applied. It counts as a read of every
/// key: the floor of the timestamp cache rises first, and writes under way at or below it are waited for, with
/// intents that are being resolved.
pub async fn stop_commits_until(leaseholder: &Leaseholder, ts: Timestamp) -> Result<(), TxnError> {
    leaseholder.cache.raise_floor(ts);
    let never = CancelToken::default();
    while let Err(obstacle) = leaseholder.admit_span(b"", b"", ts, Own::default()) {
        leaseholder.wait_for(obstacle, ts, &never).await?;
    }
    Ok(())
}
