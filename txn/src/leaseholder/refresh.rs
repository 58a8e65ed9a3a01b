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
    /// Reads `key` again at `upto` for someone who read it at `after` with `stamp`; the stamp of this
    /// read.
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
        if now == stamp || !mvcc::changed_since(self.engine(), key, after, &mut Vec::new())? {
            return Ok(Refreshed::Unchanged(now));
        }
        if after < upto && mvcc::changed_in(self.engine(), key, &behind(key), after, upto)?.is_some() {
            return Err(changed(key));
        }
        // What is newer is newer than `upto`: the next refresh must see it.
        Ok(Refreshed::Unchanged(now.before_last_write()))
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
        self.confirm_read(upto).await
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use cairn_kv::engine::mem::MemEngine;
    use cairn_kv::sim;
    use cairn_raft::{Store, StoreConfig};

    use super::*;
    use crate::db::Target;
    use crate::{Db, DbConfig, TxnOptions};

    /// A commit waits while it refreshes, so that others may write above the timestamp it has chosen.
    #[test]
    fn a_refresh_below_a_newer_version_does_not_hide_it_from_the_next() {
        let env = sim::Env::new(1);
        let engine = env.engine(Arc::new(MemEngine::new()));
        let seams = env.seams();
        env.block_on(async move {
            let store = Store::open(seams, engine, StoreConfig::default()).await.expect("opens");
            let db = Db::open(store, DbConfig::default()).await.expect("opens");
            let Target::Local(leaseholder) = db.target() else { unreachable!("it has the lease") };
            let (key, hash) = (b"k", KeyHash::of(b"k"));
            let read_ts = db.now().await.expect("now");
            let stamp = leaseholder.slots.stamp(hash);
            let upto = db.now().await.expect("now");
            let mut writer = db.begin(TxnOptions::default());
            writer.put(Bytes::from_static(key), Bytes::new()).await.expect("put");
            let written_ts = writer.commit().await.expect("commit");
            assert!(written_ts > upto);
            let refresh = |stamp, span| leaseholder.refresh_point(key, hash, stamp, span, Own::default());
            let Ok(Refreshed::Unchanged(stamp)) = refresh(stamp, (read_ts, upto)) else {
                panic!("the key was written later")
            };
            let later = db.now().await.expect("now");
            assert!(refresh(stamp, (upto, later)).is_err());
        });
    }
}
