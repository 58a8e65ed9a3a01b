//! A tenure: the time for which a store holds a lease, and for which a [`Leaseholder`] lives.
//!
//! What a leaseholder has in memory holds under its lease only. A task follows the store's leases: where one is
//! gained, and its reads are served (a quorum supports it), a leaseholder is made, takes up what earlier ones have left
//! in the store, gathers what other gateways had there ([`super::resume`]), and is what the node's gateway asks from
//! then on; where it is lost, the gateway turns to whoever holds the next one, and everything of the tenure is void.
//! Requests that wait under it fail with 40001 or, where they come from other nodes, are sent on to the next leaseholder.
//!
//! - Nothing is *read* under a lease that is over: an answer is given only if, after the engine was read, the store
//!   still serves the read's timestamp ([`Leaseholder::confirm_read`]). What was read before was then read while nobody
//!   else had the lease, and later commits elsewhere lie above the timestamp.
//! - Nothing is *written* under it: its commands do not apply (R7).
//! - Whoever holds the next lease has a clock above every commit under this one (a replica's clock passes what it
//!   applies), so a snapshot that it draws sees all of them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_kv::Timestamp;
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Lease, LeaseChanges};

use super::commit::changed_leaseholder;
use super::{Leaseholder, no_lease, recovery};
use crate::closed::keep_closing;
use crate::db::Target;
use crate::garbage::raise_thresholds;
use crate::{CancelToken, Db, TxnError};

/// How long a request waits for a lease to be supported that is not lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts to begin a tenure.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// How often it is looked for gateways that have fallen silent.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A gateway that has something at the leaseholder and says nothing for so long is gone: it announces more often.
pub const SILENCE: Duration = Duration::from_secs(2);

/// For so long a new leaseholder may not know of all snapshots that other gateways read at.
const UNKNOWING: Duration = Duration::from_secs(3);

impl Leaseholder {
    /// The lease to evaluate a command under, while the tenure lasts.
    pub fn lease(&self) -> Result<Lease, TxnError> {
        if !self.is_over() {
            return Ok(self.lease);
        }
        // A store that stops has no next leaseholder to turn to.
        Err(if self.store.is_closed() { no_lease() } else { changed_leaseholder() })
    }

    /// Whether the store has lost the lease.
    pub fn is_over(&self) -> bool {
        self.store.lease(FIRST_RANGE) != Some(self.lease)
    }

    /// Fails when the tenure is over: what is only in memory is void then.
    #[inline]
    pub fn check_tenure(&self) -> Result<(), TxnError> {
        if self.store.is_alone() { Ok(()) } else { self.lease().map(|_| ()) }
    }

    /// Says, after the engine was read, whether what was found may be told as of `ts`.
    #[inline]
    pub async fn confirm_read(&self, ts: Timestamp) -> Result<(), TxnError> {
        if self.store.is_alone()
            || self.faults.serve_after_tenure
            || self.store.serves(FIRST_RANGE, self.lease, ts)
        {
            return Ok(());
        }
        self.wait_for_support(ts).await
    }

    /// [`Leaseholder::confirm_read`] of what is newest.
    pub async fn confirm_newest(&self) -> Result<(), TxnError> {
        self.confirm_read(self.store.hlc().last()).await
    }

    async fn wait_for_support(&self, ts: Timestamp) -> Result<(), TxnError> {
        let mut patience = self.store.env().runtime.sleep(PATIENCE);
        self.store.hlc().observe(ts);
        loop {
            let supported = tokio::select! {
                biased;
                supported = self.store.supported(FIRST_RANGE, self.lease) => supported,
                () = &mut patience => {
                    return Err(TxnError::Unavailable("most replicas of the range are not reached".into()));
                }
            };
            if !supported {
                return Err(self.lease().err().unwrap_or_else(changed_leaseholder));
            }
            if self.store.serves(FIRST_RANGE, self.lease, ts) {
                return Ok(());
            }
        }
    }

    /// Completes with `future`, or fails when canceled or when the tenure ends before.
    pub async fn unless_over<T>(
        &self,
        cancel: &CancelToken,
        future: impl Future<Output = T>,
    ) -> Result<T, TxnError> {
        tokio::select! {
            biased;
            () = self.ended.canceled() => Err(self.lease().err().unwrap_or_else(changed_leaseholder)),
            () = cancel.canceled() => Err(TxnError::Canceled),
            output = future => Ok(output),
        }
    }
}

/// Sleeps, then gives the leaseholder, unless its tenure is over: the beat of its background tasks, which do not keep
/// it alive meanwhile.
pub(crate) async fn after(pause: Duration, leaseholder: &Weak<Leaseholder>) -> Option<Arc<Leaseholder>> {
    let runtime = Arc::clone(&leaseholder.upgrade()?.store.env().runtime);
    runtime.sleep(pause).await;
    leaseholder.upgrade().filter(|leaseholder| !leaseholder.is_over())
}

/// Begins a tenure: until this returns, requests go elsewhere.
pub(crate) async fn begin(db: &Arc<Db>, lease: Lease) -> Result<(), TxnError> {
    let store = db.store();
    let leaseholder = Arc::new(Leaseholder::new(Arc::clone(store), lease, &db.config));
    recovery::recover(&leaseholder).await?;
    let kept = store.thresholds().gc.max(Timestamp(1));
    if !store.is_alone() {
        db.gather(&leaseholder).await?;
    }
    let unknowing = if store.is_alone() { None } else { leaseholder.live.pin_at(kept).ok() };
    let thresholds = raise_thresholds(Arc::downgrade(&leaseholder), db.config.clone());
    store.env().runtime.spawn("thresholds", Box::pin(thresholds));
    let closing = keep_closing(Arc::downgrade(&leaseholder), db.config.closed_lag_micros);
    store.env().runtime.spawn("closed timestamps", Box::pin(closing));
    let alive = Arc::downgrade(&leaseholder);
    let gateways = async move {
        if let Some(pin) = unknowing {
            let Some(leaseholder) = after(UNKNOWING, &alive).await else { return };
            leaseholder.live.unpin(pin);
        }
        look_after_gateways(alive).await;
    };
    store.env().runtime.spawn("gateways", Box::pin(gateways));
    db.turn_to(Target::Local(leaseholder));
    Ok(())
}

/// Ends the sessions of gateways that have fallen silent, so that what they have locked is free.
async fn look_after_gateways(leaseholder: Weak<Leaseholder>) {
    while let Some(leaseholder) = after(LOOK_EVERY, &leaseholder).await {
        let now = leaseholder.store.env().clock.monotonic_nanos();
        for gateway in leaseholder.gateways.silent_since(now.saturating_sub(SILENCE.as_nanos() as u64)) {
            tracing::warn!(node = gateway.node, "a gateway has fallen silent: its transactions are ended");
            leaseholder.gateway_gone(gateway);
        }
    }
}

/// Follows the leases of the node's store, until that or `db` is gone.
pub(crate) async fn follow(db: Weak<Db>, mut changes: LeaseChanges) {
    loop {
        let Some(following) = db.upgrade() else { return };
        if let Err(error) = take_up(&following).await {
            tracing::warn!(%error, "a leaseholder could not take up its work; it tries again");
            following.store().env().runtime.sleep(TRY_AGAIN).await;
            continue;
        }
        drop(following);
        if !changes.changed().await {
            return;
        }
    }
}

/// Ends a tenure that is over, and begins one that is due.
async fn take_up(db: &Arc<Db>) -> Result<(), TxnError> {
    if db.store().is_closed() {
        // It stops, and says so.
        return Ok(());
    }
    let held = db.store().lease(FIRST_RANGE);
    if let Target::Local(leaseholder) = db.target() {
        if held == Some(leaseholder.lease) {
            return Ok(());
        }
        db.turn_away(&leaseholder);
    }
    let Some(lease) = held else { return Ok(()) };
    if !db.store().supported(FIRST_RANGE, lease).await {
        return Ok(());
    }
    match begin(db, lease).await {
        Err(error) if db.store().lease(FIRST_RANGE) == Some(lease) => Err(error),
        // What has changed meanwhile is looked at next.
        _ => Ok(()),
    }
}
