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
use crate::leaseholder::watched::Watch;
use crate::wire::convert::{flatten, malformed, pieces};
use crate::wire::{
    Body, Chunk, Commit, CommitIntents, Draw, FoundPoint, Level, Lock, Locked, Objects, Outcome, OwnView,
    Points, ReadLocked, Reads, Refresh, Rows, Span, Stage, TxnRef, WatchRef, Write, WriteIntents,
};
use crate::{LockStrength, Scan, Txn, TxnError, TxnOptions, Value};

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
    /// What the last answer told of the watched span.
    watch: Option<Watch>,
    /// Rows of a scan that were not shown yet.
    fetched: Option<Fetched>,
    /// Where a scan goes on, and with how many rows.
    next_chunk: (Bytes, u32),
    /// How often intents were written.
    flushes: u64,
    /// Objects to be locked with the next step.
    later: Option<LockedLater>,
}

/// Objects that a transaction has not locked yet.
struct LockedLater {
    keys: Vec<Bytes>,
    expected: Watch,
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
    pub(crate) fn new(target: &Target, options: &TxnOptions) -> Option<Box<RemoteTxn>> {
        let Target::Remote(link) = target else { return None };
        Some(Box::new(RemoteTxn {
            session: RemoteSession::new(Arc::clone(link), options.session, options.lock_timeout),
            lease: Some(0),
            watch: None,
            fetched: None,
            next_chunk: (Bytes::new(), 0),
            flushes: 0,
            later: None,
        }))
    }

    /// The leaseholder.
    pub fn link(&self) -> &Arc<RemoteLeaseholder> {
        &self.session.link
    }

    /// Whether there is something at the leaseholder, or will be.
    pub fn has_begun(&self) -> bool {
        self.session.is_open() || self.later.is_some()
    }

    /// Whether what it had at the leaseholder is gone.
    pub fn is_lost(&self) -> bool {
        self.session.is_lost()
    }

    /// What others have committed into the watched span, as the last answer said.
    pub fn watch(&self) -> Watch {
        self.watch.unwrap_or_else(|| self.link().watch())
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
        let expected = self.remote().later.as_ref().map(|later| later.expected);
        self.ask_step_expecting(body, expected).await
    }

    /// Takes a step, behind the locks that are still to be taken; `watch`: what has to be the present one then.
    async fn ask_step_expecting(&mut self, body: Body, watch: Option<Watch>) -> Result<Reply, TxnError> {
        let expected = self.expected;
        let remote = self.remote.as_mut().expect("the leaseholder is on another node");
        let objects = remote.later.as_ref().map(|later| later.keys.clone());
        let objects = objects.map(|keys| Objects { keys, expected: watch.map(WatchRef::from) });
        let reply = remote.session.step(body, objects, expected, &self.options.cancel).await?;
        remote.watch = Some(reply.watch);
        for key in remote.later.take().into_iter().flat_map(|later| later.keys) {
            let hash = KeyHash::of(&key);
            self.locks.took(key, hash, LockStrength::Shared);
        }
        Ok(reply)
    }

    /// Whether its leaseholder is on another node.
    pub fn asks_elsewhere(&self) -> bool {
        self.remote.is_some()
    }

    /// Has objects locked shared with the next step at the leaseholder, which is on another node: what is done then was
    /// planned under the watch `expected`, and fails if others have committed into the watched span since
    /// ([`TxnError::Stale`]). So the lock costs no round trip. [`Txn::lock_now`] has to follow before anything relies
    /// on it that takes no step.
    pub fn lock_later(&mut self, objects: impl IntoIterator<Item = Bytes>, expected: Watch) {
        let later = self.remote().later.get_or_insert(LockedLater { keys: Vec::new(), expected });
        later.keys.extend(objects);
        later.expected = expected;
    }

    /// Locks what [`Txn::lock_later`] has put off, if it is not locked yet. `is_planned`: what was planned under the
    /// watch that was named there has been done.
    pub async fn lock_now(&mut self, is_planned: bool) -> Result<(), TxnError> {
        let Some(later) = self.remote.as_ref().and_then(|remote| remote.later.as_ref()) else {
            return Ok(());
        };
        let expected = is_planned.then_some(later.expected);
        let nothing = Body::Stage(Stage { reads: Reads::default() });
        Box::pin(self.ask_step_expecting(nothing, expected)).await.map(|_| ())
    }

    /// Looks at something; `draws`: a snapshot is drawn or moved by it.
    async fn look(&mut self, body: Body, draws: bool) -> Result<Reply, TxnError> {
        let remote = self.remote.as_mut().expect("the leaseholder is on another node");
        let txn: Option<TxnRef> = self.intents.is_some().then(|| remote.session.reference());
        let expected = self.expected.filter(|_| draws);
        let reply = remote.link().look(txn, body, expected, &self.options.cancel).await?;
        remote.watch = Some(reply.watch);
        Ok(reply)
    }

    /// Looks at something at the snapshot, which is drawn by that where it must be.
    async fn look_at_snapshot(
        &mut self,
        body: impl Fn(Timestamp, Option<OwnView>) -> Body,
    ) -> Result<Reply, TxnError> {
        let draws = self.wants_snapshot && self.draws_remotely();
        let read_ts = if draws { Timestamp::ZERO } else { self.snapshot().await? };
        if draws {
            self.pin_something().await?;
        }
        let body = body(read_ts, self.own_view());
        if self.options.as_of.is_some()
            && let Some(outcome) = self.remote().link().read_here(&body)?
        {
            return Ok(Reply { lease: 0, watch: Watch::default(), outcome });
        }
        let reply = self.look(body, draws).await?;
        if draws {
            let drawn = match &reply.outcome {
                Outcome::Points(found) => found.read_ts,
                Outcome::Rows(found) => found.read_ts,
                Outcome::Drawn(drawn) => *drawn,
                _ => 0,
            };
            self.take_drawn(drawn)?;
        }
        Ok(reply)
    }

    /// Whether the leaseholder draws its snapshots: it knows what was acknowledged before.
    pub(crate) fn draws_remotely(&self) -> bool {
        self.remote.is_some() && self.options.as_of.is_none() && !self.db.config.faults.own_snapshots
    }

    /// Has the leaseholder draw a snapshot.
    pub(crate) async fn draw_remotely(&mut self) -> Result<(), TxnError> {
        self.look_at_snapshot(|_, _| Body::Draw(Draw {})).await.map(|_| ())
    }

    /// The leaseholder has drawn a snapshot. With the request it was told of an earlier timestamp that is pinned here,
    /// so nothing that the snapshot needs is collected.
    fn take_drawn(&mut self, drawn: u64) -> Result<(), TxnError> {
        let drawn = Timestamp(drawn);
        let pin = self.pin.as_ref().expect("pinned before it was asked for");
        if !self.keeps_pin() && !self.live().repin_above(pin, drawn) || drawn <= self.read_ts {
            return Err(malformed());
        }
        self.drew_snapshot(drawn);
        Ok(())
    }

    pub(crate) async fn get_remotely(&mut self, key: &[u8]) -> Result<Option<Value>, TxnError> {
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
            // A transaction that begins with a lock has its snapshot drawn above what it waited for.
            let draws = self.wants_snapshot && self.draws_remotely();
            if draws {
                self.pin_something().await?;
            } else {
                self.snapshot().await?;
            }
            let read_ts = if draws { 0 } else { self.read_ts.0 };
            let read = Some(ReadLocked { read_ts, own: self.own_view() });
            let reply = self.ask_step(Body::Lock(Lock { key: key.clone(), exclusive: true, read })).await?;
            let Outcome::Locked(Locked { value, ts, newer, is_own, read_ts }) = reply.outcome else {
                return Err(malformed());
            };
            self.locks.took(key.clone(), hash, LockStrength::Exclusive);
            if draws {
                self.take_drawn(read_ts)?;
            }
            if is_own {
                return Ok(value);
            }
            if newer {
                self.move_snapshot_past(&key).await?;
                continue;
            }
            let ts = Timestamp(ts);
            assert!(ts < self.read_ts, "now is above every commit");
            // The leaseholder knows what was seen; here it only matters that something was.
            let seen = Seen { ts, upto: ts, stamp: Stamp(0), version: None };
            self.locks.find_mut(&key, hash).expect("just locked").seen.get_or_insert(seen);
            self.statement_has_read = true;
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
        let (view, draws) = (self.chunk_view(), self.wants_snapshot);
        let mut fetched = match self.remote().fetched.take() {
            Some(fetched) if !draws && fetched.left == *scan && fetched.view == view => fetched,
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
        let Outcome::Rows(Rows { rows, resume, .. }) = reply.outcome else { return Err(malformed()) };
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
            let reply = self.look(body, true).await?;
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
        // Of a statement that has failed.
        self.remote().later = None;
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
            lease: self.remote().link().newest_lease(),
        };
        let remote = self.remote.as_mut().expect("the leaseholder is on another node");
        if let Some(ts) = remote.session.commit(Body::Commit(commit.clone()), &self.options.cancel).await? {
            return Ok(ts);
        }
        // With the answer the lease became known.
        commit.lease = remote.link().newest_lease();
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
