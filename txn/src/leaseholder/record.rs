//! Transaction records: what a transaction with intents leaves in `local` about itself.
//!
//! Pending (with the first intents) → committed (with the spans of the intents) → resolved and
//! removed. A transaction that aborts resolves its intents and removes the record; after a crash,
//! pending means aborted.

use bytes::Bytes;
use cairn_kv::effects::RawWrite;
use cairn_kv::{Error, local_keys};
use prost::Message;

use super::commit::TxnIdentity;

/// Newest record format that this binary reads.
pub const RECORD_FORMAT: u32 = 1;

/// How far a transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ::prost::Enumeration)]
#[repr(i32)]
pub enum RecordStatus {
    /// Not a status.
    Unspecified = 0,
    /// Under way; aborted if nobody is left to end it.
    Pending = 1,
    /// Committed; its intents are as good as versions.
    Committed = 2,
}

/// A span of keys with intents.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RecordSpan {
    /// First key.
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    /// First key behind.
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
}

/// A transaction record.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TxnRecord {
    /// [`RECORD_FORMAT`] of the writer.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Status.
    #[prost(enumeration = "RecordStatus", tag = "2")]
    pub status: i32,
    /// First read timestamp.
    #[prost(uint64, tag = "3")]
    pub start_ts: u64,
    /// Commit timestamp, when committed.
    #[prost(uint64, tag = "4")]
    pub commit_ts: u64,
    /// Where its intents are, when committed.
    #[prost(message, repeated, tag = "5")]
    pub spans: Vec<RecordSpan>,
    /// Rolled-back sequence numbers, as pairs first, last.
    #[prost(uint32, repeated, tag = "6")]
    pub ignored_seqs: Vec<u32>,
}

impl TxnRecord {
    /// The record of a transaction that lays its first intents.
    pub fn pending(identity: &TxnIdentity) -> TxnRecord {
        TxnRecord {
            format: RECORD_FORMAT,
            status: RecordStatus::Pending.into(),
            start_ts: identity.start_ts.0,
            ..TxnRecord::default()
        }
    }

    /// The write that stores it.
    pub fn store(&self, identity: &TxnIdentity) -> RawWrite {
        let key = local_keys::txn_record(&identity.anchor, &identity.txn_id);
        RawWrite { key, value: Some(self.encode_to_vec().into()) }
    }

    /// The write that removes a transaction's record.
    pub fn remove(identity: &TxnIdentity) -> RawWrite {
        RawWrite { key: local_keys::txn_record(&identity.anchor, &identity.txn_id), value: None }
    }

    /// Decodes a stored record.
    pub fn read(value: &[u8]) -> Result<TxnRecord, Error> {
        let record = TxnRecord::decode(value)
            .map_err(|error| Error::Corruption(format!("local: bad transaction record: {error}")))?;
        match (record.format, record.status()) {
            (0, _) | (RECORD_FORMAT, RecordStatus::Unspecified) => {
                Err(Error::Corruption("local: bad transaction record".into()))
            }
            (RECORD_FORMAT, _) => Ok(record),
            (found, _) => Err(Error::NewerFormat { found, supported: RECORD_FORMAT }),
        }
    }
}
