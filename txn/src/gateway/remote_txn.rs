//! What a transaction asks of a leaseholder on another node ([`crate::wire`]). Each function does there
//! what its namesake does with a local one.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_kv::mvcc::{RowVisitor, SeqNum};

use super::buffer::Entry;
use super::held_locks::Seen;
use super::intents::Intents;
use super::read_set::ReadSet;
use super::remote::{RemoteLeaseholder, RemoteSession, Reply};
use crate::db::Target;
use crate::leaseholder::commit::{KeyWrite, TxnIdentity, changed_leaseholder};
use crate::leaseholder::propose::no_timestamp;
use crate::leaseholder::read::{CHUNK_ROWS, Row, merge};
use crate::leaseholder::slot::{KeyHash, Stamp};
use crate::wire::convert::{flatten, malformed, pieces};
use crate::wire::{
    Body, Chunk, Commit, CommitIntents, FoundPoint, Level, Lock, Locked, Outcome, OwnView, Points,
    ReadLocked, Reads, Refresh, Rows, Span, Stage, TxnRef, Write, WriteIntents,
};
use crate::{Db, LockStrength, Scan, Txn, TxnError, TxnOptions, Value};

/// Points asked for at once.
const POINTS: usize = 256;

/// Rows of the first chunk of a scan; each further one has so many times more.
const FIRST_ROWS: u32 = 64;
const GROWTH: u32 = 4;

/// Reads sent in one message.
const READS_BYTES: usize = 512 << 10;

/// A transaction whose leaseholder is on another node.
pub struct RemoteTxn {
    session: RemoteSession,
    /// Lease under which the stamps of its reads were taken; zero: it has none, `None`: of several.
    lease: Option<u64>,
    /// Something was read at the present snapshot.
    used_snapshot: bool,
    /// Rows of a scan that were not shown yet.
    fetched: Option<Fetched>,
    /// Where a scan goes on, and with how many rows.
    next_chunk: (Bytes, u32),
    /// How often intents were written.
    flushes: u64,
}

/// A chunk of a scan that waits to be shown.
struct Fetched {
    /// What is left of the span.
    left: Scan,
    view: ChunkView,
    rows: VecDeque<crate::wire::Row>,
    /// Where the chunk ends; `None`: where the span does.
    resume: Option<Bytes>,
}

/// What decides about what a read sees.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ChunkView {
    read_ts: Timestamp,
    read_seq: SeqNum,
    write_seq: SeqNum,
    flushes: u64,
}

impl RemoteTxn {
    /// Nothing was asked for yet. `None`: the leaseholder is on this node.
    pub fn new(db: &Db, options: &TxnOptions) -> Option<Box<RemoteTxn>> {
        let Target::Remote(link) = &db.target else { return None };
        Some(Box::new(RemoteTxn {
            session: RemoteSession::new(Arc::clone(link), options.session, options.lock_timeout),
            lease: Some(0),
            used_snapshot: false,
            fetched: None,
            next_chunk: (Bytes::new(), 0),
            flushes: 0,
        }))
    }

    /// The leaseholder.
    pub fn link(&self) -> &Arc<RemoteLeaseholder> {
        &self.session.link
    }

    /// A snapshot was drawn.
    pub fn drew_snapshot(&mut self) {
        self.used_snapshot = false;
    }

    /// The present snapshot is not to be drawn again.
    pub fn keep_snapshot(&mut self) {
        self.used_snapshot = true;
    }

    /// Stamps of reads were taken under `lease`.
    fn took_stamps(&mut self, lease: u64) {
        self.lease = match self.lease {
            Some(0) => Some(lease),
            Some(known) if known == lease => Some(lease),
            _ => None,
        };
    }

    fn stamps_lease(&self) -> u64 {
        self.lease.unwrap_or(0)
    }
}

impl Txn {
    fn remote(&mut self) -> &mut RemoteTxn {
        self.remote.as_mut().expect("the leaseholder is on another node")
    }

    fn chunk_view(&self) -> ChunkView {
        let flushes = self.remote.as_ref().map_or(0, |remote| remote.flushes);
        ChunkView { read_ts: self.read_ts, read_seq: self.read_seq, write_seq: self.write_seq, flushes }
    }

    /// Set where the transaction has intents.
    fn own_view(&self) -> Option<OwnView> {
        let intents = self.intents.as_ref()?;
        Some(OwnView { seq: self.read_seq, ignored: flatten(&intents.ignored) })
    }

    async fn ask_step(&mut self, body: Body) -> Result<Reply, TxnError> {
        let remote = self.remote.as_mut().expect("the leaseholder is on another node");
        remote.session.step(body, &self.options.cancel).await
    }

    /// Looks at something at the snapshot. One that is collected before it was used is drawn again.
    async fn look_at_snapshot(
        &mut self,
        body: impl Fn(Timestamp, Option<OwnView>) -> Body,
    ) -> Result<Reply, TxnError> {
        loop {
            let read_ts = self.snapshot().await?;
            let body = body(read_ts, self.own_view());
            let remote = self.remote.as_ref().expect("the leaseholder is on another node");
            let txn = self.intents.is_some().then(|| remote.session.reference());
            match remote.link().look(txn, body, &self.options.cancel).await {
                Err(TxnError::SnapshotTooOld { .. })
                    if !remote.used_snapshot && self.options.as_of.is_none() =>
                {
                    self.wants_snapshot = true;
                }
                reply => {
                    let reply = reply?;
                    self.remote().used_snapshot = true;
                    return Ok(reply);
                }
            }
        }
    }

    pub(crate) async fn get_remotely(&mut self, key: &[u8]) -> Result<Option<Value>, TxnError> {
        self.snapshot().await?;
        if let Some(written) = self.buffer.get(key, self.read_seq) {
            return Ok(written.value().cloned());
        }
        let key = Bytes::copy_from_slice(key);
        let mut found = self.ask_for_points(vec![key.clone()]).await?;
        let found = found.pop_front().ok_or_else(malformed)?;
        self.found_point(&key, &found);
        Ok(found.value)
    }

    pub(crate) async fn get_many_remotely(
        &mut self,
        keys: &[Bytes],
        row: &mut (dyn FnMut(usize, Option<&[u8]>) -> bool + Send),
    ) -> Result<usize, TxnError> {
        let mut found = VecDeque::new();
        for (position, key) in keys.iter().enumerate() {
            self.check_running()?;
            self.breathe(1).await;
            let go_on = if let Some(written) = self.buffer.get(key, self.read_seq) {
                row(position, written.value().map(|value| &value[..]))
            } else {
                if found.is_empty() {
                    let wanted =
                        keys[position..].iter().filter(|key| self.buffer.get(key, self.read_seq).is_none());
                    let wanted = wanted.take(POINTS).cloned().collect();
                    found = self.ask_for_points(wanted).await?;
                }
                let point = found.pop_front().ok_or_else(malformed)?;
                self.found_point(key, &point);
                row(position, point.value.as_deref())
            };
            if !go_on {
                return Ok(position + 1);
            }
        }
        Ok(keys.len())
    }

    /// Some of the points, from the first one on.
    async fn ask_for_points(&mut self, keys: Vec<Bytes>) -> Result<VecDeque<FoundPoint>, TxnError> {
        let ask =
            |read_ts: Timestamp, own| Body::Points(Points { keys: keys.clone(), read_ts: read_ts.0, own });
        let reply = self.look_at_snapshot(ask).await?;
        let Outcome::Points(found) = reply.outcome else { return Err(malformed()) };
        if self.remembers_reads() && found.points.iter().any(|point| !point.is_own) {
            self.remote().took_stamps(reply.lease);
        }
        Ok(found.points.into())
    }

    fn found_point(&mut self, key: &[u8], found: &FoundPoint) {
        if found.is_own {
            return;
        }
        self.statement_has_read = true;
        if self.remembers_reads() {
            self.reads.add_point(key, KeyHash::of(key), Stamp(found.stamp));
        }
    }

    pub(crate) async fn lock_remotely(
        &mut self,
        key: &[u8],
        hash: KeyHash,
        strength: LockStrength,
    ) -> Result<(), TxnError> {
        let key = Bytes::copy_from_slice(key);
        let exclusive = strength == LockStrength::Exclusive;
        self.ask_step(Body::Lock(Lock { key: key.clone(), exclusive, read: None })).await?;
        self.locks.took(key, hash, strength);
        Ok(())
    }

    pub(crate) async fn get_for_update_remotely(
        &mut self,
        key: &[u8],
        hash: KeyHash,
    ) -> Result<Option<Value>, TxnError> {
        if self.options.read_only || self.options.as_of.is_some() {
            return Err(TxnError::ReadOnly);
        }
        if let Some(written) = self.buffer.get(key, self.read_seq) {
            let value = written.value().cloned();
            self.lock_hashed(key, hash, LockStrength::Exclusive).await?;
            self.snapshot().await?;
            return Ok(value);
        }
        let key = Bytes::copy_from_slice(key);
        loop {
            // A transaction that begins with a lock draws its snapshot above what it waited for; what is
            // seen under the lock must be kept from collection all the same.
            self.pin_something().await?;
            let read_ts = if self.wants_snapshot { 0 } else { self.read_ts.0 };
            let read = Some(ReadLocked { read_ts, own: self.own_view() });
            let reply = self.ask_step(Body::Lock(Lock { key: key.clone(), exclusive: true, read })).await?;
            let Outcome::Locked(Locked { value, ts, newer, is_own }) = reply.outcome else {
                return Err(malformed());
            };
            self.locks.took(key.clone(), hash, LockStrength::Exclusive);
            if is_own {
                self.snapshot().await?;
                return Ok(value);
            }
            if newer {
                self.move_snapshot_past(&key).await?;
                continue;
            }
            let ts = Timestamp(ts);
            // The leaseholder knows what was seen; here it only matters that something was.
            let seen = Seen { ts, upto: ts, stamp: Stamp(0) };
            self.locks.find_mut(&key, hash).expect("just locked").seen.get_or_insert(seen);
            self.snapshot().await?;
            assert!(ts < self.read_ts, "now is above every commit");
            self.statement_has_read = true;
            self.remote().used_snapshot = true;
            return Ok(value);
        }
    }

    /// Pins some timestamp, if none is.
    async fn pin_something(&mut self) -> Result<(), TxnError> {
        while self.pin.is_none() {
            let hlc = self.db.store().hlc();
            match self.live().pin_new(|| hlc.try_now()) {
                Some((pin, _)) => self.pin = Some(pin),
                None => {
                    self.db.store().now().await.map_err(no_timestamp)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn scan_remotely(
        &mut self,
        scan: &Scan,
        row: &mut Row<'_>,
    ) -> Result<Option<Bytes>, TxnError> {
        self.snapshot().await?;
        let view = self.chunk_view();
        let mut fetched = match self.remote().fetched.take() {
            Some(fetched) if fetched.left == *scan && fetched.view == view => fetched,
            _ => self.fetch(scan).await?,
        };
        let Fetched { left, rows, resume, .. } = &mut fetched;
        // Own writes are merged as far as the chunk goes.
        let (start, end) = match (&*resume, scan.reverse) {
            (None, _) => (scan.start.clone(), scan.end.clone()),
            (Some(at), false) => (scan.start.clone(), at.clone()),
            (Some(at), true) => (at.clone(), scan.end.clone()),
        };
        let buffered = self.buffer.range(&start, &end, self.read_seq);
        let show = |visit: &mut RowVisitor<'_>| {
            Ok(rows.iter().all(|row| visit(&row.key, &row.value, Timestamp::ZERO)))
        };
        let span = (&start, &end);
        let shown = if scan.reverse {
            merge(span, true, buffered.rev(), row, show)?
        } else {
            merge(span, false, buffered, row, show)?
        };
        self.rows_since_yield += shown.rows;
        match &shown.resume {
            Some(at) => {
                let is_done =
                    |row: &crate::wire::Row| if scan.reverse { row.key >= *at } else { row.key < *at };
                while rows.front().is_some_and(is_done) {
                    rows.pop_front();
                }
                if scan.reverse {
                    left.end = at.clone();
                } else {
                    left.start = at.clone();
                }
                self.remote().fetched = Some(fetched);
            }
            None => self.remote().fetched = None,
        }
        let next = match shown.resume {
            Some(at) => Some(at),
            None if scan.reverse => (start != scan.start).then_some(start),
            None => (end != scan.end).then_some(end),
        };
        Ok(next)
    }

    async fn fetch(&mut self, scan: &Scan) -> Result<Fetched, TxnError> {
        let from = if scan.reverse { scan.end.clone() } else { scan.start.clone() };
        let (next, rows) = &self.remote().next_chunk;
        let max_rows = if *next == from && *rows > 0 { *rows } else { FIRST_ROWS };
        let ask = |read_ts: Timestamp, own| {
            let span = Span { start: scan.start.clone(), end: scan.end.clone() };
            Body::Chunk(Chunk { span, reverse: scan.reverse, read_ts: read_ts.0, own, max_rows })
        };
        let reply = self.look_at_snapshot(ask).await?;
        let Outcome::Rows(Rows { rows, resume }) = reply.outcome else { return Err(malformed()) };
        let most = u32::try_from(CHUNK_ROWS).expect("a chunk has few thousand rows");
        self.remote().next_chunk = (resume.clone().unwrap_or_default(), (max_rows * GROWTH).min(most));
        Ok(Fetched { left: scan.clone(), view: self.chunk_view(), rows: rows.into(), resume })
    }

    /// Refreshes all reads from `after` to `upto`.
    pub(crate) async fn refresh_remotely(
        &mut self,
        after: Timestamp,
        upto: Timestamp,
    ) -> Result<(), TxnError> {
        for earlier in [true, false] {
            let reads = if earlier { &mut self.earlier_reads } else { &mut self.reads };
            let mut reads = std::mem::take(reads);
            let result = self.refresh_set_remotely(&mut reads, after, upto).await;
            *(if earlier { &mut self.earlier_reads } else { &mut self.reads }) = reads;
            result?;
        }
        Ok(())
    }

    async fn refresh_set_remotely(
        &mut self,
        reads: &mut ReadSet,
        after: Timestamp,
        upto: Timestamp,
    ) -> Result<(), TxnError> {
        let mut index = 0;
        for piece in pieces(reads, self.remote().stamps_lease(), READS_BYTES) {
            let points = piece.points.len();
            let has_intents = self.intents.is_some();
            let body = Body::Refresh(Refresh { reads: piece, after: after.0, upto: upto.0, has_intents });
            let txn: Option<TxnRef> = has_intents.then(|| self.remote().session.reference());
            let link = Arc::clone(self.remote().link());
            let reply = link.look(txn, body, &self.options.cancel).await?;
            let Outcome::Stamps(found) = reply.outcome else { return Err(malformed()) };
            if found.stamps.len() != points {
                return Err(malformed());
            }
            if points > 0 {
                self.remote().took_stamps(reply.lease);
            }
            for stamp in found.stamps {
                reads.restamp(index, Stamp(stamp));
                index += 1;
            }
        }
        Ok(())
    }

    /// Sends what was read ahead of a commit, save what fits into its message.
    async fn stage_reads(&mut self) -> Result<Reads, TxnError> {
        self.earlier_reads.append(&mut self.reads);
        if !self.remembers_reads() {
            return Ok(Reads::default());
        }
        let lease = self.remote().stamps_lease();
        let mut pieces = pieces(&self.earlier_reads, lease, READS_BYTES);
        let last = pieces.pop().unwrap_or_default();
        for reads in pieces {
            self.ask_step(Body::Stage(Stage { reads })).await?;
        }
        Ok(last)
    }

    pub(crate) async fn commit_keys_remotely(
        &mut self,
        identity: &TxnIdentity,
        writes: Vec<KeyWrite>,
        absent: bool,
    ) -> Result<Timestamp, TxnError> {
        let reads = self.stage_reads().await?;
        let mut commit = Commit {
            identity: identity.into(),
            level: Level::from(self.options.isolation).into(),
            read_ts: self.read_ts.0,
            writes: writes.iter().map(|write| Write::new(&write.key, &write.values, true)).collect(),
            absent,
            reads,
        };
        let remote = self.remote.as_mut().expect("the leaseholder is on another node");
        if let Some(ts) = remote.session.commit(Body::Commit(commit.clone()), &self.options.cancel).await? {
            return Ok(ts);
        }
        // This node's clock has passed the beginning of the lease with the answer.
        commit.identity.start_ts = self.db.now().await?.0;
        let again = remote.session.commit(Body::Commit(commit), &self.options.cancel).await?;
        again.ok_or_else(changed_leaseholder)
    }

    pub(crate) async fn write_intents_remotely(
        &mut self,
        part: &[(Bytes, Entry)],
        absent: bool,
    ) -> Result<(), TxnError> {
        let Intents { identity, ignored, .. } =
            &**self.intents.as_ref().expect("entered before the first part");
        let request = WriteIntents {
            identity: identity.into(),
            level: Level::from(self.options.isolation).into(),
            read_ts: self.read_ts.0,
            writes: part.iter().map(|(key, entry)| Write::new(key, &entry.values, false)).collect(),
            absent: absent.then(|| OwnView { seq: self.write_seq, ignored: flatten(ignored) }),
        };
        self.remote().flushes += 1;
        self.ask_step(Body::WriteIntents(request)).await?;
        // Locks on what was flushed went, or the leaseholder keeps them for those who wait.
        self.locks.retain(|lock| {
            let flushed = lock.strength == LockStrength::Exclusive
                && part.binary_search_by(|(key, _)| key.cmp(&lock.key)).is_ok();
            !flushed
        });
        Ok(())
    }

    pub(crate) async fn commit_intents_remotely(&mut self) -> Result<Timestamp, TxnError> {
        let reads = self.stage_reads().await?;
        let Intents { identity, ignored, .. } = &**self.intents.as_ref().expect("it has intents");
        let commit = CommitIntents {
            identity: identity.into(),
            level: Level::from(self.options.isolation).into(),
            read_ts: self.read_ts.0,
            ignored: flatten(ignored),
            reads,
        };
        let remote = self.remote.as_mut().expect("the leaseholder is on another node");
        let committed = remote.session.commit(Body::CommitIntents(commit), &self.options.cancel).await?;
        committed.ok_or_else(changed_leaseholder)
    }

    /// Ends the session without a commit, if there is one; confirms at the snapshot what was seen under
    /// locks, if that is wanted.
    pub(crate) async fn end_remotely(&mut self, confirms: bool) -> Result<(), TxnError> {
        let confirm_at = if confirms { self.read_ts } else { Timestamp::ZERO };
        let Some(remote) = self.remote.as_mut().filter(|remote| remote.session.is_open()) else {
            return Ok(());
        };
        let never = crate::CancelToken::default();
        let cancel = if confirms { &self.options.cancel } else { &never };
        remote.session.end(confirm_at, cancel).await
    }
}
