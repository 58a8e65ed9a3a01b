//! Errors of the storage layer, sorted by what the caller does about them.

/// Why a storage operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Bytes on disk are not what was written. The node must not serve from this store; the text
    /// names family, file or key.
    #[error("storage corruption: {0}")]
    Corruption(String),
    /// An operating-system or engine failure (disk full, I/O error). Stops the node when it
    /// happens on a write (R6).
    #[error("storage failure: {0}")]
    Io(String),
    /// The store was written by a newer version of Cairn.
    #[error("store format {found} is newer than this binary's {supported}: use a newer cairn")]
    NewerFormat {
        /// Format version found on disk.
        found: u32,
        /// Newest version this binary reads.
        supported: u32,
    },
    /// A read below the GC threshold (R3): the history it needs may be gone.
    #[error("read at {read_ts} is below the garbage collection threshold {threshold}")]
    BelowGcThreshold {
        /// The refused read's timestamp.
        read_ts: crate::Timestamp,
        /// The replicated threshold.
        threshold: crate::Timestamp,
    },
}

/// Result of a storage operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
