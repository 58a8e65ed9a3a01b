//! Refresh: whether what was read at one timestamp is still true at a later one.

use cairn_kv::{Timestamp, mvcc};

use super::admit::{Obstacle, behind};
use super::slot::{KeyHash, Stamp};
use super::{Leaseholder, Own};
use crate::TxnError;
use crate::gateway::read_set::ReadSet;

/// Where a refresh stands.
pub enum Refreshed<T> {
    /// Nothing has changed.
    Unchanged(T),
    /// It has to wait, then try again.
    Blocked(Obstacle),
}

impl Leaseholder {
    /// Reads `key` again at `upto` for someone who read it at `after` with `stamp`.
    pub fn refresh_point(
        &self,
        key: &[u8],
        hash: KeyHash,
        stamp: Stamp,
        (after, upto): (Timestamp, Timestamp),
        own: Own<'_>,
    ) -> Result<Refreshed<Stamp>, TxnError> {
        let now = match self.admit_point(key, hash, upto, own) {
            Ok(now) => now,
            Err(obstacle) => return Ok(Refreshed::Blocked(obstacle)),
        };
        if now != stamp
            && after < upto
            && mvcc::changed_in(self.engine(), key, &behind(key), after, upto)?.is_some()
        {
            return Err(changed(key));
        }
        Ok(Refreshed::Unchanged(now))
    }

    /// Reads `[start, end)` again at `upto` for someone who read it at `after`.
    pub fn refresh_span(
        &self,
        start: &[u8],
        end: &[u8],
        (after, upto): (Timestamp, Timestamp),
        own: Own<'_>,
    ) -> Result<Refreshed<()>, TxnError> {
        if let Err(obstacle) = self.admit_span(start, end, upto, own) {
            return Ok(Refreshed::Blocked(obstacle));
        }
        match mvcc::changed_in(self.engine(), start, end, after, upto)? {
            Some(key) => Err(changed(&key)),
            None => Ok(Refreshed::Unchanged(())),
        }
    }

    /// Refreshes everything read at `after` to `upto`; `skip` says which points are proven otherwise.
    pub async fn refresh(
        &self,
        reads: &mut ReadSet,
        (after, upto): (Timestamp, Timestamp),
        own: Own<'_>,
        cancel: &crate::CancelToken,
        skip: impl Fn(&[u8]) -> bool,
    ) -> Result<(), TxnError> {
        if self.faults.no_refresh {
            return Ok(());
        }
        for index in 0..reads.point_count() {
            loop {
                let read = reads.point(index);
                if skip(read.key) {
                    break;
                }
                match self.refresh_point(read.key, read.hash, read.stamp, (after, upto), own)? {
                    Refreshed::Unchanged(stamp) => {
                        reads.restamp(index, stamp);
                        break;
                    }
                    Refreshed::Blocked(obstacle) => self.wait_for(obstacle, upto, cancel).await?,
                }
            }
        }
        for (start, end) in reads.spans() {
            loop {
                match self.refresh_span(start, end, (after, upto), own)? {
                    Refreshed::Unchanged(()) => break,
                    Refreshed::Blocked(obstacle) => self.wait_for(obstacle, upto, cancel).await?,
                }
            }
        }
        Ok(())
    }
}

/// A read is contradicted by a later commit.
pub fn changed(key: &[u8]) -> TxnError {
    TxnError::Retry {
        reason: "could not serialize access due to read/write dependencies among transactions".into(),
        key: Some(bytes::Bytes::copy_from_slice(key)),
        other_session: None,
    }
}
