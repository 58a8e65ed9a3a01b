//! Handing effects to the range's log while their keys are latched.

use std::sync::Arc;

use cairn_kv::effects::Effects;
use cairn_kv::seam::BoxFuture;
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Applied, Lease, ProposeError};

use super::Leaseholder;
use super::latch::LatchGuard;
use crate::TxnError;

/// A command on its way. Whoever waits for it may be gone before it is decided (a connection that is
/// closed drops its statement); the latches must not be released before, so what is left of it is
/// then awaited by a task of its own.
struct UnderWay {
    leaseholder: Arc<Leaseholder>,
    latch: Option<LatchGuard>,
    outcome: Option<BoxFuture<'static, Result<Applied, ProposeError>>>,
}

impl Leaseholder {
    /// Waits until the store has room for another large command. Asked for without latches.
    pub(super) async fn make_room(&self) -> Result<(), TxnError> {
        self.store.make_room().await.map_err(|error| TxnError::Unavailable(error.to_string()))
    }

    /// Replicates and applies `effects`, evaluated under `lease`, then releases `latch`.
    pub async fn propose(
        self: &Arc<Leaseholder>,
        lease: Lease,
        effects: Effects,
        mut latch: Option<LatchGuard>,
    ) -> Result<(), TxnError> {
        // What is proposed without support is refused: it could wait for ever.
        self.confirm_newest().await?;
        if let Some(latch) = &mut latch {
            latch.will_write();
        }
        let store = Arc::clone(&self.store);
        let outcome = Box::pin(async move { store.propose(FIRST_RANGE, lease, effects).await });
        let mut under_way = UnderWay { leaseholder: Arc::clone(self), latch, outcome: Some(outcome) };
        let outcome = under_way.outcome.as_mut().expect("just put there").await;
        under_way.outcome = None;
        self.settle(under_way.latch.take(), outcome)
    }

    /// Releases the latches as the outcome allows.
    fn settle(
        &self,
        latch: Option<LatchGuard>,
        outcome: Result<Applied, ProposeError>,
    ) -> Result<(), TxnError> {
        match outcome {
            Ok(_) => Ok(()),
            Err(ProposeError::Unavailable(reason)) => {
                if let Some(mut latch) = latch {
                    latch.did_not_write();
                }
                Err(self.lease().err().unwrap_or(TxnError::Unavailable(reason)))
            }
            Err(error @ ProposeError::TooLarge { .. }) => {
                if let Some(mut latch) = latch {
                    latch.did_not_write();
                }
                Err(TxnError::TooLarge(error.to_string()))
            }
            Err(ProposeError::Ambiguous(reason)) => {
                if let Some(latch) = latch {
                    latch.poison();
                }
                Err(TxnError::Ambiguous(reason))
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            let latch = self.latch.take();
            let leaseholder = Arc::clone(&self.leaseholder);
            let rest = async move {
                if let Err(error) = leaseholder.settle(latch, outcome.await) {
                    tracing::warn!(%error, "a command whose client is gone failed");
                }
            };
            self.leaseholder.store.env().runtime.spawn("abandoned command", Box::pin(rest));
        }
    }
}

/// A failure to draw a timestamp.
pub fn no_timestamp(error: ProposeError) -> TxnError {
    // Nothing of the transaction depends on it: also an unknown outcome is only unavailability.
    TxnError::Unavailable(error.to_string())
}
