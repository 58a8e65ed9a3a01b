//! Transaction errors, sorted by what the caller does.

use bytes::Bytes;

/// Why a transaction's operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TxnError {
    /// A conflict that [`crate::Txn::restart_statement`] or a replay of the transaction may get
    /// past (40001 when it must be shown).
    #[error("{reason}")]
    Retry {
        /// What happened, in PostgreSQL's style.
        reason: String,
        /// The key in conflict.
        key: Option<Bytes>,
        /// The other session (its backend id), where known.
        other_session: Option<u64>,
    },
    /// A key to be inserted by [`crate::Txn::insert_new`] exists.
    #[error("the key exists")]
    Exists {
        /// The key.
        key: Bytes,
    },
    /// This transaction was chosen to break a deadlock (40P01).
    #[error("deadlock detected")]
    Deadlock {
        /// Who waits for whom, a line each, for DETAIL.
        cycle: String,
    },
    /// `lock_timeout` passed (55P03).
    #[error("canceling statement due to lock timeout")]
    LockTimeout,
    /// The statement's [`crate::CancelToken`] was set (57014).
    #[error("canceling statement due to user request")]
    Canceled,
    /// The outcome of a commit is unknown (40003); never replayed.
    #[error("the outcome of the transaction is unknown: {0}")]
    Ambiguous(String),
    /// A read in the past below what garbage collection keeps (72000).
    #[error(
        "snapshot too old: read timestamp {read_ts} is below the garbage collection threshold {threshold}"
    )]
    SnapshotTooOld {
        /// The read timestamp.
        read_ts: cairn_kv::Timestamp,
        /// The threshold.
        threshold: cairn_kv::Timestamp,
    },
    /// A key or value above a stated limit (54000).
    #[error("{0}")]
    TooLarge(String),
    /// A write in a read-only transaction (25006).
    #[error("cannot write in a read-only transaction")]
    ReadOnly,
    /// The node cannot serve now (57P03).
    #[error("{0}")]
    Unavailable(String),
    /// The watch that a plan was made under ([`crate::Txn::expect`]) has changed: the plan has to be made again.
    #[error("the catalog has changed")]
    Stale,
    /// Storage failed or is corrupt (58030, XX001).
    #[error(transparent)]
    Storage(cairn_kv::Error),
}
