//! Word that leases have changed, for those above the store who follow them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// The store's side; dropped with it.
#[derive(Default)]
pub(crate) struct Notice(Arc<Shared>);

#[derive(Default)]
struct Shared {
    changes: AtomicU64,
    /// The store is gone.
    is_over: AtomicBool,
    notify: Notify,
}

impl Notice {
    /// Something has changed.
    pub(crate) fn give(&self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }
}

/// What a store has to tell of its leases ([`crate::Store::lease_changes`]). It does not keep the store alive.
#[derive(Clone)]
pub struct LeaseChanges {
    shared: Arc<Shared>,
    seen: u64,
}

impl LeaseChanges {
    pub(crate) fn of(notice: &Notice) -> LeaseChanges {
        let shared = Arc::clone(&notice.0);
        LeaseChanges { seen: shared.changes.load(Ordering::SeqCst), shared }
    }

    /// Waits for changes since the last call, or since this was made; false: the store is gone.
    pub async fn changed(&mut self) -> bool {
        loop {
            let notified = self.shared.notify.notified();
            let changes = self.shared.changes.load(Ordering::SeqCst);
            if self.shared.is_over.load(Ordering::SeqCst) {
                return false;
            }
            if changes != self.seen {
                self.seen = changes;
                return true;
            }
            notified.await;
        }
    }
}
