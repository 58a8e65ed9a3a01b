//! Requests of other nodes' gateways ([`crate::wire`]): decoded, carried out by the functions that the
//! local gateway calls, and answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::engine::Cf;
use cairn_kv::{Timestamp, local_keys};
use cairn_raft::store::FIRST_RANGE;
use prost::Message;

use super::commit::{CommitRequest, TxnIdentity};
use super::commit_intents::CommitIntents;
use super::intent_holder::IntentHolder;
use super::lock::Patience;
use super::lock_table::Requester;
use super::propose::no_timestamp;
use super::read::OwnIntents;
use super::session::{Begun, Found, Kept, Session};
use super::slot::KeyHash;
use super::watched::Watch;
use super::write_intents::IntentRequest;
use super::{Leaseholder, Own};
use crate::gateway::held_locks::{HeldLocks, Seen};
use crate::gateway::open_sessions::leaves_session;
use crate::gateway::read_set::ReadSet;
use crate::gateway::remote::clock_too_far_ahead;
use crate::wire::convert::{add_reads, intervals, key_writes, malformed};
use crate::wire::{
    self, Answer, Body, Done, FoundPoint, FoundPoints, Gateway, Identity, Locked, NodeId, NotLeaseholder,
    Objects, Outcome, Request, Row, Rows, Stamps, TxnRef, WIRE_VERSION,
};
use crate::{CancelToken, LockStrength, TxnError, garbage};

/// An answer of rows or points takes no more once it has so many bytes.
pub const ANSWER_BYTES: usize = 1 << 20;

/// Bytes counted for a row or point beside key and value.
pub const ROW_OVERHEAD: usize = 16;

/// The answer where all went well and nothing is to be told.
const DONE: Outcome = Outcome::Done(Done {});

/// An answer of rows that is being filled.
pub struct Filling {
    /// The rows so far.
    pub rows: Vec<Row>,
    bytes: usize,
    max_rows: usize,
}

impl Filling {
    /// No rows yet; at most `max_rows` are wanted.
    pub fn new(max_rows: u32) -> Filling {
        Filling { rows: Vec::new(), bytes: 0, max_rows: max_rows as usize }
    }

    /// Takes a row; says whether there is room for another one.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.bytes += key.len() + value.len() + ROW_OVERHEAD;
        self.rows.push(Row { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) });
        self.bytes < ANSWER_BYTES && self.rows.len() < self.max_rows
    }
}

/// A transaction's step under way.
struct Step<'a> {
    session: &'a Arc<Session>,
    kept: &'a mut Kept,
    patience: Patience<'a>,
    /// The node of its gateway.
    node: NodeId,
    expected: Option<Watch>,
}

impl Leaseholder {
    /// Carries out a request, if it is one, and returns the encoded answer. The caller drives it to its end,
    /// whether or not somebody still waits for the answer.
    pub async fn serve(self: &Arc<Leaseholder>, request: Option<Request>) -> Bytes {
        let mut is_heard = false;
        let (node, mut outcome) = match request {
            Some(request) => (request.gateway.node, self.answer(request, &mut is_heard).await),
            None => (0, Err(malformed())),
        };
        let is_refused = matches!(outcome, Ok(Outcome::NoSession(_) | Outcome::Failed(_)) | Err(_));
        // That something did not happen may be said by nobody but who has the lease, as what did: under a later one it
        // may have happened.
        if is_refused && (self.is_over() || self.confirm_newest().await.is_err()) {
            outcome = Ok(self.not_leaseholder(true));
        }
        let answer = Answer {
            version: WIRE_VERSION,
            now: self.store.hlc().last().0,
            // Who was not heard must not believe that his sessions were there.
            lease: if is_heard { self.lease.sequence } else { 0 },
            gc_threshold: self.store.thresholds().gc.0,
            watch_count: self.watched.watch(node).count,
            outcome: Some(outcome.unwrap_or_else(|error| Outcome::Failed(error.into()))),
        };
        answer.encode_to_vec().into()
    }

    fn not_leaseholder(&self, was_begun: bool) -> Outcome {
        let leaseholder = self.store.leaseholder_hint(FIRST_RANGE);
        Outcome::NotLeaseholder(NotLeaseholder { leaseholder, was_begun })
    }

    /// The node of `gateway` is dead, or its gateway was closed: ends its transactions. Locks are
    /// released and intents aborted, in the background.
    pub fn gateway_gone(self: &Arc<Leaseholder>, gateway: Gateway) {
        self.end_sessions(self.gateways.gone(gateway, &self.live));
    }

    /// Carries out a request; `is_heard`: its gateway was.
    async fn answer(
        self: &Arc<Leaseholder>,
        request: Request,
        is_heard: &mut bool,
    ) -> Result<Outcome, TxnError> {
        if request.version != WIRE_VERSION {
            let version = request.version;
            return Err(TxnError::Unavailable(format!("a request of version {version} is not understood")));
        }
        if request.range != FIRST_RANGE || self.is_over() {
            return Ok(self.not_leaseholder(false));
        }
        self.pass(Timestamp(request.now)).await?;
        *is_heard = true;
        let nanos = self.store.env().clock.monotonic_nanos();
        match self.gateways.announce(&request, &self.live, nanos) {
            Some(over) => self.end_sessions(over),
            None => return Ok(Outcome::GatewayGone(Done {})),
        }
        let Request { gateway, txn, expected, objects, body: Some(body), .. } = request else {
            return Err(malformed());
        };
        let expected = expected.map(Watch::from);
        let never = CancelToken::default();
        let sees_own_intents = match &body {
            Body::Points(points) => points.own.is_some(),
            Body::Chunk(chunk) => chunk.own.is_some(),
            Body::Refresh(refresh) => refresh.has_intents,
            _ => false,
        };
        let holder = if sees_own_intents { self.holder_of(gateway, txn) } else { None };
        if sees_own_intents && holder.is_none() {
            return Ok(Outcome::NoSession(Done {}));
        }
        let looked = match body {
            Body::Announce(_) => return Ok(DONE),
            Body::Points(points) => self.serve_points(points, holder, &never).await,
            Body::Chunk(chunk) => self.serve_chunk(chunk, holder, &never).await,
            Body::Refresh(refresh) => self.serve_refresh(refresh, holder, &never).await,
            Body::Draw(_) => {
                let drawn = self.draw().await?;
                self.confirm_read(drawn).await.map(|()| Outcome::Drawn(drawn.0))
            }
            Body::AskWatch(_) => return self.ask_watch(gateway.node).await.map(|_| DONE),
            Body::FindCommit(find) if find.lease >= self.lease.sequence => {
                return Ok(self.not_leaseholder(false));
            }
            Body::FindCommit(find) => {
                let found = self.find_commit(&find.identity)?;
                return self.confirm_newest().await.map(|()| found);
            }
            Body::ClearSpan(span) => {
                return garbage::clear(self, &span.start, &span.end).await.map(|()| DONE);
            }
            Body::Cancel(cancel) => {
                let txn = TxnRef { number: cancel.number, ..TxnRef::default() };
                if let Found::Session(session) = self.gateways.session(gateway, txn, None) {
                    session.cancel(cancel.step);
                }
                return Ok(DONE);
            }
            step => {
                let txn = txn.ok_or_else(malformed)?;
                return self.serve_step(gateway, txn, step, objects.unwrap_or_default(), expected).await;
            }
        }?;
        self.expect(gateway.node, expected)?;
        Ok(looked)
    }

    /// Fails where a plan for the snapshot that was just drawn or moved was made under another watch.
    pub fn expect(&self, node: NodeId, expected: Option<Watch>) -> Result<(), TxnError> {
        let is_so = expected.is_none_or(|expected| self.watched.is(node, expected));
        if is_so { Ok(()) } else { Err(TxnError::Stale) }
    }

    /// What others than the gateway of `node` have committed into the watched span by now.
    pub async fn ask_watch(&self, node: NodeId) -> Result<Watch, TxnError> {
        let watch = self.unless_over(&CancelToken::default(), self.watched.settled(node)).await?;
        self.confirm_newest().await?;
        Ok(watch)
    }

    /// Draws a snapshot: above all that was acknowledged before, if the lease lasts.
    async fn draw(&self) -> Result<Timestamp, TxnError> {
        self.store.now().await.map_err(no_timestamp)
    }

    async fn drawn_unless_given(&self, read_ts: u64) -> Result<Timestamp, TxnError> {
        if read_ts == 0 { self.draw().await } else { Ok(Timestamp(read_ts)) }
    }

    /// The node's clock passes `seen`, and its durable bound does: a later lease begins above it.
    async fn pass(&self, seen: Timestamp) -> Result<(), TxnError> {
        if !self.store.observe(seen) {
            return Err(clock_too_far_ahead());
        }
        let hlc = self.store.hlc();
        while hlc.bound() <= seen {
            self.store.now().await.map_err(no_timestamp)?;
        }
        Ok(())
    }

    /// The intents of a transaction that looks at something.
    fn holder_of(&self, gateway: Gateway, txn: Option<TxnRef>) -> Option<Arc<IntentHolder>> {
        match self.gateways.session(gateway, txn?, None) {
            Found::Session(session) => session.holder(),
            _ => None,
        }
    }

    async fn serve_points(
        &self,
        points: wire::Points,
        holder: Option<Arc<IntentHolder>>,
        cancel: &CancelToken,
    ) -> Result<Outcome, TxnError> {
        let view = points.own.unwrap_or_default();
        let ignored = view.ignored();
        let intents = holder.as_ref().map(|holder| OwnIntents { holder, ignored: &ignored, seq: view.seq });
        let own = Own { latch: None, holder: holder.as_ref() };
        let read_ts = self.drawn_unless_given(points.read_ts).await?;
        let (mut found, mut bytes, mut value) = (Vec::with_capacity(points.keys.len()), 0, Vec::new());
        for key in &points.keys {
            let written = intents.map(|intents| self.own_intent(intents, key)).transpose()?.flatten();
            let point = if let Some(written) = written {
                FoundPoint { value: written.value().cloned(), stamp: 0, is_own: true }
            } else {
                let read = self.read_point(key, KeyHash::of(key), read_ts, own, cancel, &mut value).await?;
                let value = read.exists.then(|| Bytes::copy_from_slice(&value));
                FoundPoint { value, stamp: read.stamp.0, is_own: false }
            };
            bytes += point.value.as_ref().map_or(0, Bytes::len) + ROW_OVERHEAD;
            if bytes > ANSWER_BYTES && !found.is_empty() {
                break;
            }
            found.push(point);
        }
        self.confirm_read(read_ts).await?;
        Ok(Outcome::Points(FoundPoints { points: found, read_ts: read_ts.0 }))
    }

    async fn serve_chunk(
        self: &Arc<Leaseholder>,
        chunk: wire::Chunk,
        holder: Option<Arc<IntentHolder>>,
        cancel: &CancelToken,
    ) -> Result<Outcome, TxnError> {
        let wire::Chunk { span, reverse, read_ts, own: view, max_rows } = chunk;
        let view = view.unwrap_or_default();
        let ignored = view.ignored();
        let intents = holder.as_ref().map(|holder| OwnIntents { holder, ignored: &ignored, seq: view.seq });
        let read_ts = self.drawn_unless_given(read_ts).await?;
        let own = Own { latch: None, holder: holder.as_ref() };
        self.admit_scan(&span.start, &span.end, read_ts, own, cancel).await?;
        let mut filling = Filling::new(max_rows);
        let mut row = |key: &[u8], value: &[u8]| filling.take(key, value);
        let nothing = std::iter::empty();
        let read = self.scan_chunk((&span.start, &span.end), reverse, read_ts, intents, nothing, &mut row)?;
        self.confirm_read(read_ts).await?;
        Ok(Outcome::Rows(Rows { rows: filling.rows, resume: read.resume, read_ts: read_ts.0 }))
    }

    async fn serve_refresh(
        &self,
        refresh: wire::Refresh,
        holder: Option<Arc<IntentHolder>>,
        cancel: &CancelToken,
    ) -> Result<Outcome, TxnError> {
        let mut reads = ReadSet::default();
        add_reads(&mut reads, &refresh.reads, self.lease.sequence, &self.slots);
        let own = Own { latch: None, holder: holder.as_ref() };
        let span = (Timestamp(refresh.after), Timestamp(refresh.upto));
        self.refresh(&mut reads, span, own, cancel, |_| false).await?;
        let stamps = (0..reads.point_count()).map(|index| reads.point(index).stamp.0);
        Ok(Outcome::Stamps(Stamps { stamps: stamps.collect() }))
    }

    /// A step of a transaction, in its turn.
    async fn serve_step(
        self: &Arc<Leaseholder>,
        gateway: Gateway,
        txn: TxnRef,
        body: Body,
        objects: Objects,
        expected: Option<Watch>,
    ) -> Result<Outcome, TxnError> {
        // A commit that may have been carried out under an earlier lease begins nothing.
        let begins = match &body {
            Body::Commit(commit) => commit.lease == self.lease.sequence,
            Body::CommitIntents(_) | Body::End(_) => false,
            _ => true,
        };
        let begin = || Requester { owner: self.new_owner(), session: txn.session };
        let session = match self.gateways.session(gateway, txn, if begins { Some(&begin) } else { None }) {
            Found::Session(session) => session,
            Found::Answered(answer) => return Ok(answer),
            Found::Nothing => return self.without_session(gateway, txn, &body),
        };
        let (mut kept, cancel) = match session.begin(txn.step, txn.lease == self.lease.sequence).await {
            Begun::Step(kept, cancel) => (kept, cancel),
            Begun::Answered(answer) => return Ok(answer),
            Begun::Refused => return self.without_session(gateway, txn, &body),
            Begun::Missing => {
                self.end_sessions(self.gateways.lost(gateway, txn.number).into_iter().collect());
                return self.without_session(gateway, txn, &body);
            }
        };
        let is_last =
            matches!(body, Body::Commit(_) | Body::CommitIntents(_) | Body::End(_) | Body::CollectGarbage(_));
        let is_commit = matches!(body, Body::Commit(_));
        let patience = Patience { cancel: &cancel, timeout: txn.lock_timeout.map(Duration::from_micros) };
        let mut step = Step { session: &session, kept: &mut kept, patience, node: gateway.node, expected };
        let prepared = self.take_objects(&mut step, objects).await;
        let taken = match body {
            _ if prepared.is_err() => prepared.map(|()| DONE),
            Body::Lock(lock) => self.take_lock(step, lock).await,
            Body::Stage(stage) => {
                add_reads(&mut step.kept.reads, &stage.reads, self.lease.sequence, &self.slots);
                Ok(DONE)
            }
            Body::WriteIntents(request) => self.take_intents(step, request).await,
            Body::Commit(commit) => self.take_commit(step, commit).await,
            Body::CommitIntents(commit) => self.take_commit_of_intents(step, commit).await,
            Body::End(end) => self.take_end(step, end).await,
            Body::CollectGarbage(collect) => {
                let spans = collect.spans.into_iter().map(|span| (span.start, span.end));
                garbage::collect(self, &spans.collect::<Vec<_>>(), &cancel).await.map(|()| DONE)
            }
            _ => Err(malformed()),
        };
        if taken.is_err() && self.is_over() {
            // Its session is void, and the next leaseholder will say what has become of it.
            self.end_session(&session, kept).await;
            session.over(None);
            return taken;
        }
        let leaves_session = taken.is_err() && leaves_session(txn, is_commit);
        let answer = taken.unwrap_or_else(|error| Outcome::Failed(error.into()));
        if is_last && !leaves_session {
            self.end_session(&session, kept).await;
            session.over(Some(answer.clone()));
            self.gateways.ended(gateway, txn, answer.clone());
        } else {
            session.done(kept, answer.clone());
        }
        Ok(answer)
    }

    /// What can be said of a step whose session is not there (any more).
    fn without_session(&self, gateway: Gateway, txn: TxnRef, body: &Body) -> Result<Outcome, TxnError> {
        match body {
            Body::Commit(commit) => self.find_commit(&commit.identity),
            Body::CommitIntents(commit) => self.find_commit(&commit.identity),
            Body::End(end) if end.confirm_at == 0 => {
                // Whatever of it is still under way will find that it has ended.
                self.gateways.ended(gateway, txn, DONE);
                Ok(DONE)
            }
            _ => Ok(Outcome::NoSession(Done {})),
        }
    }

    /// What became of a commit that is not under way here (R7).
    fn find_commit(&self, identity: &Identity) -> Result<Outcome, TxnError> {
        let TxnIdentity { txn_id, anchor, start_ts } = TxnIdentity::try_from(identity)?;
        let mut marker = Vec::new();
        if self.engine().get(
            Cf::Local,
            &local_keys::commit_marker(&anchor, start_ts, &txn_id),
            &mut marker,
        )? {
            return Ok(Outcome::Committed(local_keys::parse_commit_marker_value(&marker)?.0));
        }
        // Asked after the look: a filter drops markers at or below a threshold that is known here.
        if start_ts <= self.store.thresholds().marker {
            let reason = "it was asked for again too late";
            return Err(TxnError::Ambiguous(reason.into()));
        }
        Ok(Outcome::NoSession(Done {}))
    }

    /// Locks objects. They stay locked, also where what was planned with them is not to be done.
    async fn take_objects(&self, step: &mut Step<'_>, objects: Objects) -> Result<(), TxnError> {
        for key in objects.keys {
            let hash = KeyHash::of(&key);
            self.take_key(step, key, hash, LockStrength::Shared).await?;
        }
        self.expect(step.node, objects.expected.map(Watch::from))
    }

    async fn take_key(
        &self,
        step: &mut Step<'_>,
        key: Bytes,
        hash: KeyHash,
        strength: LockStrength,
    ) -> Result<(), TxnError> {
        if step.kept.locks.are_enough(&key, hash, strength) {
            return Ok(());
        }
        let (who, holder) = (step.session.who, step.session.holder());
        let taken = self.lock(who, holder.as_ref(), &key, hash, strength, step.patience).await?;
        if let Some(taken) = taken {
            taken.keep();
        }
        step.kept.locks.took(key, hash, strength);
        Ok(())
    }

    async fn take_lock(&self, mut step: Step<'_>, lock: wire::Lock) -> Result<Outcome, TxnError> {
        let wire::Lock { key, exclusive, read } = lock;
        let hash = KeyHash::of(&key);
        let strength = if exclusive { LockStrength::Exclusive } else { LockStrength::Shared };
        self.take_key(&mut step, key.clone(), hash, strength).await?;
        let holder = step.session.holder();
        let locks = &mut step.kept.locks;
        let Some(read) = read else { return Ok(DONE) };
        let draws = read.read_ts == 0;
        let read_ts = self.drawn_unless_given(read.read_ts).await?;
        if let (Some(holder), Some(view)) = (&holder, &read.own) {
            let own = OwnIntents { holder, ignored: &view.ignored(), seq: view.seq };
            if let Some(written) = self.own_intent(own, &key)? {
                let value = written.value().cloned();
                self.confirm_read(read_ts).await?;
                self.expect(step.node, step.expected.filter(|_| draws))?;
                let own = Locked { value, is_own: true, read_ts: read_ts.0, ..Locked::default() };
                return Ok(Outcome::Locked(own));
            }
        }
        // Above every version that is there, and below every one that could come if the lock were lost.
        let upto = self.store.hlc().last();
        let mut value = Vec::new();
        let found = self.read_locked(&key, hash, read_ts, &mut value)?;
        self.confirm_newest().await?;
        self.expect(step.node, step.expected.filter(|_| draws))?;
        let value = found.exists.then(|| Bytes::from(value));
        if !found.newer {
            let seen = Seen { ts: found.ts, upto, stamp: found.stamp, version: None };
            locks.saw(&key, hash, seen, value.as_ref());
        }
        let (ts, read_ts) = (found.ts.0, read_ts.0);
        Ok(Outcome::Locked(Locked { value, ts, newer: found.newer, is_own: false, read_ts }))
    }

    async fn take_intents(
        self: &Arc<Leaseholder>,
        step: Step<'_>,
        request: wire::WriteIntents,
    ) -> Result<Outcome, TxnError> {
        let identity = TxnIdentity::try_from(&request.identity)?;
        let (isolation, read_ts) = (request.level().into(), Timestamp(request.read_ts));
        let who = step.session.who;
        let holder = step.session.enter(|| self.holders.enter(identity, who));
        let writes = key_writes(request.writes, &step.kept.locks)?;
        let keys: Vec<Bytes> = writes.iter().map(|write| write.key.clone()).collect();
        let view = request.absent;
        let ignored = view.as_ref().map(wire::OwnView::ignored).unwrap_or_default();
        let own = view.map(|view| OwnIntents { holder: &holder, ignored: &ignored, seq: view.seq });
        let sees = |earlier| own.and_then(|own| own.visible(earlier));
        let request = IntentRequest {
            holder: &holder,
            isolation,
            read_ts,
            writes,
            absent: if own.is_some() { Some(&sees) } else { None },
            patience: step.patience,
        };
        self.write_intents(request).await?;
        self.release_flushed(who.owner, &mut step.kept.locks, |key| keys.binary_search(key).is_ok());
        Ok(DONE)
    }

    async fn take_commit(
        self: &Arc<Leaseholder>,
        step: Step<'_>,
        commit: wire::Commit,
    ) -> Result<Outcome, TxnError> {
        let (isolation, read_ts) = (commit.level().into(), Timestamp(commit.read_ts));
        let identity = TxnIdentity::try_from(&commit.identity)?;
        let Kept { locks, reads, is_resumed } = step.kept;
        if commit.lease != self.lease.sequence && !self.faults.resume_unasked {
            // It may have been sent under an earlier lease, and have taken effect.
            let found = self.find_commit(&commit.identity)?;
            if !*is_resumed || matches!(found, Outcome::Committed(_)) {
                return Ok(found);
            }
        }
        add_reads(reads, &commit.reads, self.lease.sequence, &self.slots);
        let request = CommitRequest {
            who: step.session.who,
            node: step.node,
            identity,
            isolation,
            read_ts,
            writes: key_writes(commit.writes, locks)?,
            absent: commit.absent,
            locks: locks.iter(),
            reads,
            patience: step.patience,
        };
        Ok(Outcome::Committed(self.commit(request).await?.0))
    }

    async fn take_commit_of_intents(
        self: &Arc<Leaseholder>,
        step: Step<'_>,
        commit: wire::CommitIntents,
    ) -> Result<Outcome, TxnError> {
        let (isolation, read_ts) = (commit.level().into(), Timestamp(commit.read_ts));
        let holder = step.session.holder().ok_or_else(malformed)?;
        let Kept { locks, reads, .. } = step.kept;
        add_reads(reads, &commit.reads, self.lease.sequence, &self.slots);
        let request = CommitIntents {
            holder: &holder,
            node: step.node,
            ignored: &intervals(&commit.ignored),
            isolation,
            read_ts,
            locks: locks.iter(),
            reads,
            patience: step.patience,
        };
        Ok(Outcome::Committed(self.commit_intents(request).await?.0))
    }

    async fn take_end(&self, step: Step<'_>, end: wire::End) -> Result<Outcome, TxnError> {
        if end.confirm_at != 0 {
            let (ts, own) = (Timestamp(end.confirm_at), Own::default());
            self.confirm_locks(step.kept.locks.iter(), ts, own, step.patience).await?;
        }
        Ok(DONE)
    }

    fn end_sessions(self: &Arc<Leaseholder>, sessions: Vec<Arc<Session>>) {
        for session in sessions {
            let leaseholder = Arc::clone(self);
            let task = async move {
                if let Some(kept) = session.close().await {
                    leaseholder.end_session(&session, kept).await;
                }
            };
            self.store.env().runtime.spawn("end of a session", Box::pin(task));
        }
    }

    /// Nothing of a session is left: intents that no commit has decided about are aborted, locks go.
    async fn end_session(self: &Arc<Leaseholder>, session: &Session, kept: Kept) {
        if let Some(holder) = session.holder()
            && let Some(done) = self.abort_intents(&holder)
        {
            // A closed channel: the node is stopping, and recovery aborts.
            let _ = done.await;
        }
        let locks = kept.locks.iter().map(|lock| (&lock.key, lock.hash));
        self.locks.release_all(session.who.owner, locks);
    }

    /// Keys that `is_flushed` says were written as intents: the transaction's exclusive locks on them go,
    /// save those that others wait for.
    pub fn release_flushed(
        &self,
        owner: super::lock_table::Owner,
        locks: &mut HeldLocks,
        is_flushed: impl Fn(&Bytes) -> bool,
    ) {
        locks.retain(|lock| {
            let flushed = lock.strength == LockStrength::Exclusive && is_flushed(&lock.key);
            !flushed || !self.locks.release_unless_awaited(owner, &lock.key, lock.hash)
        });
    }
}
