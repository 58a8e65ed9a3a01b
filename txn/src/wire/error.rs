//! Failures between [`TxnError`] and the wire.

use cairn_kv::{Error as KvError, Timestamp};

use super::message::{Failure, FailureKind};
use crate::TxnError;

impl From<TxnError> for Failure {
    fn from(error: TxnError) -> Failure {
        let of = |kind: FailureKind| Failure { kind: kind.into(), ..Failure::default() };
        let saying = |kind, text| Failure { text, ..of(kind) };
        match error {
            TxnError::Retry { reason, key, other_session } => {
                Failure { key, other_session, ..saying(FailureKind::Retry, reason) }
            }
            TxnError::Exists { key } => Failure { key: Some(key), ..of(FailureKind::Exists) },
            TxnError::Deadlock { cycle } => saying(FailureKind::Deadlock, cycle),
            TxnError::LockTimeout => of(FailureKind::LockTimeout),
            TxnError::Canceled => of(FailureKind::Canceled),
            TxnError::Ambiguous(reason) => saying(FailureKind::Ambiguous, reason),
            TxnError::SnapshotTooOld { read_ts, threshold }
            | TxnError::Storage(KvError::BelowGcThreshold { read_ts, threshold }) => {
                Failure { found: read_ts.0, known: threshold.0, ..of(FailureKind::SnapshotTooOld) }
            }
            TxnError::TooLarge(text) => saying(FailureKind::TooLarge, text),
            TxnError::ReadOnly => of(FailureKind::ReadOnly),
            TxnError::Unavailable(reason) => saying(FailureKind::Unavailable, reason),
            TxnError::Stale => of(FailureKind::Stale),
            TxnError::Storage(KvError::Corruption(text)) => saying(FailureKind::Corruption, text),
            TxnError::Storage(KvError::Io(text)) => saying(FailureKind::Io, text),
            TxnError::Storage(KvError::NewerFormat { found, supported }) => {
                Failure { found: found.into(), known: supported.into(), ..of(FailureKind::NewerFormat) }
            }
        }
    }
}

impl From<Failure> for TxnError {
    fn from(failure: Failure) -> TxnError {
        let kind = failure.kind();
        let Failure { text, key, other_session, found, known, .. } = failure;
        match kind {
            FailureKind::Retry => TxnError::Retry { reason: text, key, other_session },
            FailureKind::Exists => TxnError::Exists { key: key.unwrap_or_default() },
            FailureKind::Deadlock => TxnError::Deadlock { cycle: text },
            FailureKind::LockTimeout => TxnError::LockTimeout,
            FailureKind::Canceled => TxnError::Canceled,
            FailureKind::Ambiguous => TxnError::Ambiguous(text),
            FailureKind::SnapshotTooOld => {
                TxnError::SnapshotTooOld { read_ts: Timestamp(found), threshold: Timestamp(known) }
            }
            FailureKind::TooLarge => TxnError::TooLarge(text),
            FailureKind::ReadOnly => TxnError::ReadOnly,
            FailureKind::Unavailable => TxnError::Unavailable(text),
            FailureKind::Stale => TxnError::Stale,
            FailureKind::Corruption => TxnError::Storage(KvError::Corruption(text)),
            FailureKind::Io => TxnError::Storage(KvError::Io(text)),
            FailureKind::NewerFormat => TxnError::Storage(KvError::NewerFormat {
                found: u32::try_from(found).unwrap_or(u32::MAX),
                supported: u32::try_from(known).unwrap_or(u32::MAX),
            }),
            FailureKind::Unspecified => TxnError::Unavailable("an answer of an unknown kind".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;

    #[test]
    fn every_error_survives_the_way() {
        let key = Bytes::from_static(b"k");
        let text = || String::from("why");
        let (read_ts, threshold) = (Timestamp(3), Timestamp(4));
        let errors = [
            TxnError::Retry { reason: text(), key: Some(key.clone()), other_session: Some(7) },
            TxnError::Retry { reason: text(), key: None, other_session: None },
            TxnError::Exists { key },
            TxnError::Deadlock { cycle: text() },
            TxnError::LockTimeout,
            TxnError::Canceled,
            TxnError::Ambiguous(text()),
            TxnError::SnapshotTooOld { read_ts, threshold },
            TxnError::TooLarge(text()),
            TxnError::ReadOnly,
            TxnError::Unavailable(text()),
            TxnError::Stale,
            TxnError::Storage(KvError::Corruption(text())),
            TxnError::Storage(KvError::Io(text())),
            TxnError::Storage(KvError::NewerFormat { found: 9, supported: 8 }),
        ];
        for error in errors {
            let told = format!("{error:?}");
            let encoded = Failure::from(error).encode_to_vec();
            let decoded = Failure::decode(&encoded[..]).expect("decodes");
            assert_eq!(format!("{:?}", TxnError::from(decoded)), told);
        }
    }
}
