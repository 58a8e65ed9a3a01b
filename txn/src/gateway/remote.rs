//! The way to a leaseholder on another node: requests are sent until they are answered, or for as long
//! as there is hope ([`crate::wire`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{LeaseChanges, Store};
use parking_lot::Mutex;
use prost::Message;

use super::follower;
use super::open_sessions::{OpenSessions, Step, leaves_session};
use crate::leaseholder::admit::unless_canceled;
use crate::leaseholder::commit::{TxnIdentity, changed_leaseholder};
use crate::leaseholder::live::LiveTxns;
use crate::leaseholder::propose::no_timestamp;
use crate::leaseholder::watched::Watch;
use crate::wire::convert::malformed;
use crate::wire::{
    Announce, Answer, Body, CallError, Cancel, End, FindCommit, Gateway, MAX_MESSAGE_BYTES, NodeId,
    NotLeaseholder, Objects, Outcome, Remote, Request, Tell, Told, TxnRef, WIRE_VERSION, WatchRef,
};
use crate::{CancelToken, TxnError};

/// A request that fails is sent again for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pauses between sending a request again.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A cancellation is sent again until what it cancels is answered.
const CANCEL_EVERY: Duration = Duration::from_millis(100);

/// How often the background announces. Who says nothing for longer is taken for dead
/// ([`crate::leaseholder::tenure`]).
const ANNOUNCE_EVERY: Duration = Duration::from_millis(500);

/// A leaseholder on another node, and what all transactions of this node's gateway share towards it.
pub struct RemoteLeaseholder {
    store: Arc<Store>,
    remote: Arc<dyn Remote>,
    /// This node.
    node: NodeId,
    incarnation: AtomicU64,
    hints: Hints,
    /// The node that has the lease, as far as known.
    leaseholder: AtomicU64,
    /// Nodes that may have it.
    contacts: Mutex<Vec<NodeId>>,
    /// The newest that answers have told.
    watch: Mutex<Watch>,
    announcements: AtomicU64,
    /// What was announced last: oldest read and oldest transaction.
    announced: Mutex<(u64, u64)>,
    sessions: Mutex<OpenSessions>,
    gc_threshold: AtomicU64,
    follower_reads: AtomicU64,
    /// Read timestamps in use here.
    pub live: LiveTxns,
}

/// How a gateway finds the leaseholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hints {
    /// This node's replica of the range knows who leads it.
    OfStore,
    /// Presumably it is this one; another one that is asked tells more.
    Only(NodeId),
}

/// An answer.
pub struct Reply {
    /// Sequence of the lease under which it was given.
    pub lease: u64,
    /// What others have committed into the watched span.
    pub watch: Watch,
    /// How it went; never a failure, nor a request that was not executed.
    pub outcome: Outcome,
}

/// Why there is none.
enum Failed {
    /// The leaseholder says that it failed in this way.
    With(TxnError),
    /// Not sent, because it is too large.
    TooLarge(TxnError),
    /// It was refused: not executed.
    NoSession,
    /// Certainly not executed.
    NotSent(String),
    /// Perhaps executed.
    Unknown(String),
}

impl From<Failed> for TxnError {
    fn from(failed: Failed) -> TxnError {
        match failed {
            Failed::With(error) | Failed::TooLarge(error) => error,
            Failed::NoSession => changed_leaseholder(),
            Failed::NotSent(reason) | Failed::Unknown(reason) => TxnError::Unavailable(reason),
        }
    }
}

impl RemoteLeaseholder {
    /// Towards the leaseholder, wherever it is.
    pub async fn new(
        store: Arc<Store>,
        remote: Arc<dyn Remote>,
        node: NodeId,
        hints: Hints,
    ) -> Result<Arc<RemoteLeaseholder>, TxnError> {
        let incarnation = store.now().await.map_err(no_timestamp)?;
        let leaseholder = match hints {
            Hints::OfStore => store.leaseholder_hint(FIRST_RANGE).unwrap_or(node),
            Hints::Only(leaseholder) => leaseholder,
        };
        let link = Arc::new(RemoteLeaseholder {
            remote,
            node,
            hints,
            incarnation: AtomicU64::new(incarnation.0),
            leaseholder: AtomicU64::new(leaseholder),
            contacts: Mutex::default(),
            watch: Mutex::default(),
            announcements: AtomicU64::new(0),
            announced: Mutex::new((0, 1)),
            sessions: Mutex::default(),
            gc_threshold: AtomicU64::new(0),
            follower_reads: AtomicU64::new(0),
            live: LiveTxns::default(),
            store,
        });
        let task = announce(Arc::downgrade(&link));
        link.store.env().runtime.spawn("announcements", Box::pin(task));
        Ok(link)
    }

    /// The nodes that may have the lease.
    pub fn set_contacts(&self, nodes: Vec<NodeId>) {
        *self.contacts.lock() = nodes;
    }

    /// The nodes that may have the lease.
    pub fn contacts(&self) -> Vec<NodeId> {
        self.contacts.lock().clone()
    }

    /// The newest lease that is known here.
    pub fn newest_lease(&self) -> u64 {
        self.watch().lease.max(self.sessions.lock().fence())
    }

    /// Asks the gateway of `node` for its sessions, for the leaseholder of `lease`, which is on this node. `None`: it does
    /// not answer.
    pub async fn ask_for_sessions(&self, node: NodeId, lease: u64) -> Option<Bytes> {
        if node == self.node {
            return Some(self.tell(node, lease, false));
        }
        let mut request = request_of(None, Body::Tell(Tell { lease }));
        let encoded = self.encode(&mut request, self.gateway());
        self.remote.call(node, encoded).await.ok()
    }

    /// What sessions there are, for the leaseholder of a new lease, on `node`.
    pub fn tell(&self, node: NodeId, lease: u64, unsure: bool) -> Bytes {
        let nanos = self.store.env().clock.monotonic_nanos();
        let (gateway, sessions, oldest_txn) = {
            let mut open = self.sessions.lock();
            if lease >= open.fence() {
                self.leaseholder.store(node, Ordering::SeqCst);
            }
            let gateway = self.gateway();
            (gateway, open.tell(gateway, lease, nanos, unsure), open.oldest())
        };
        let announcement = 1 + self.announcements.fetch_add(1, Ordering::SeqCst);
        let oldest_read = self.live.oldest().0;
        *self.announced.lock() = (oldest_read, oldest_txn);
        let told = Told { gateway, announcement, oldest_read, oldest_txn, sessions };
        let answer = Answer {
            version: WIRE_VERSION,
            now: self.store.hlc().last().0,
            outcome: Some(Outcome::Told(told)),
            ..Answer::default()
        };
        answer.encode_to_vec().into()
    }

    /// The newest watch that was told.
    pub fn watch(&self) -> Watch {
        *self.watch.lock()
    }

    /// Who leads the range, as far as this node's replica knows.
    fn hint(&self) -> Option<NodeId> {
        match self.hints {
            Hints::OfStore => self.store.leaseholder_hint(FIRST_RANGE),
            Hints::Only(_) => None,
        }
    }

    /// `node` did not answer, or does not have the lease; it says that `told` does.
    fn turn_from(&self, node: NodeId, told: Option<NodeId>) {
        let next = told.or_else(|| self.hint().filter(|hint| *hint != node)).or_else(|| {
            let contacts = self.contacts.lock();
            let at = contacts.iter().position(|contact| *contact == node).map_or(0, |at| at + 1);
            contacts.get(at % contacts.len().max(1)).copied()
        });
        if let Some(next) = next {
            // Unless another request has found out more.
            let order = Ordering::SeqCst;
            let _ = self.leaseholder.compare_exchange(node, next, order, order);
        }
    }

    /// This gateway.
    pub fn gateway(&self) -> Gateway {
        Gateway { node: self.node, incarnation: self.incarnation.load(Ordering::SeqCst) }
    }

    /// Reads below it fail, as far as known.
    pub fn gc_threshold(&self) -> Timestamp {
        Timestamp(self.gc_threshold.load(Ordering::SeqCst))
    }

    /// Answers a look at the past from this node's own replica, if that has it.
    pub fn read_here(&self, look: &Body) -> Result<Option<Outcome>, TxnError> {
        let found = follower::read_here(&self.store, look)?;
        if found.is_some() {
            self.follower_reads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Looks that this node's own replica has answered.
    pub fn follower_reads(&self) -> u64 {
        self.follower_reads.load(Ordering::Relaxed)
    }

    /// Asks for something that may be done twice. `txn`: the transaction whose intents are to be seen.
    pub async fn look(
        &self,
        txn: Option<TxnRef>,
        body: Body,
        expected: Option<Watch>,
        cancel: &CancelToken,
    ) -> Result<Reply, TxnError> {
        let request = Request { expected: expected.map(WatchRef::from), ..request_of(txn, body) };
        Ok(unless_canceled(cancel, self.call(None, request)).await??)
    }

    /// What has become of a commit that was proposed here under the lease `lease`, which is over, and of which the
    /// store can say no more than `reason`.
    pub async fn find_commit(
        &self,
        identity: &TxnIdentity,
        lease: u64,
        reason: String,
    ) -> Result<Timestamp, TxnError> {
        let body = Body::FindCommit(FindCommit { identity: identity.into(), lease });
        match self.call(None, request_of(None, body)).await {
            Ok(Reply { outcome: Outcome::Committed(ts), .. }) => Ok(Timestamp(ts)),
            Err(Failed::NoSession) => Err(changed_leaseholder()),
            _ => Err(TxnError::Ambiguous(reason)),
        }
    }

    /// The answer to requests that came here, where there is no leaseholder.
    pub fn refuse(&self) -> Bytes {
        let leaseholder = match self.hints {
            Hints::OfStore => self.hint(),
            Hints::Only(_) => Some(self.leaseholder.load(Ordering::SeqCst)),
        };
        let answer = Answer {
            version: WIRE_VERSION,
            now: self.store.hlc().last().0,
            outcome: Some(Outcome::NotLeaseholder(NotLeaseholder { leaseholder, was_begun: false })),
            ..Answer::default()
        };
        answer.encode_to_vec().into()
    }

    /// Sends a request until it is answered, or in vain for too long. `step`: which step it is. It stays one of its gateway,
    /// even if this one goes on as a new one: there nobody knows what was taken of it before.
    async fn call(&self, step: Option<&Step>, mut request: Request) -> Result<Reply, Failed> {
        let env = self.store.env();
        let mut changes = self.store.lease_changes();
        let (mut failing_since, mut pause) = (None, FIRST_PAUSE);
        let mut unknown = None;
        loop {
            let gateway = step.map_or_else(|| self.gateway(), |step| step.gateway);
            let node = self.leaseholder.load(Ordering::SeqCst);
            let encoded = self.encode(&mut request, gateway);
            if encoded.len() > MAX_MESSAGE_BYTES {
                let text = format!("a request of {} bytes exceeds the limit", encoded.len());
                return Err(Failed::TooLarge(TxnError::TooLarge(text)));
            }
            let sent_nanos = env.clock.monotonic_nanos();
            let reason = match self.ask(node, encoded, &mut changes).await {
                Ok(answer) => match self.take(&answer) {
                    Ok(Reply { outcome: Outcome::NotLeaseholder(not), .. }) => {
                        self.turn_from(node, not.leaseholder);
                        let reason = format!("node {node} does not hold the lease");
                        if not.was_begun {
                            unknown = Some(reason.clone());
                        }
                        reason
                    }
                    // Refused before it was looked at.
                    Ok(Reply { outcome: Outcome::Failed(failure), lease: 0, .. }) => {
                        return Err(unknown.map_or(Failed::With(failure.into()), Failed::Unknown));
                    }
                    Ok(reply) if !self.settle(step, &reply, sent_nanos) => {
                        self.turn_from(node, None);
                        let reason = format!("node {node} has answered under an earlier lease");
                        unknown = Some(reason.clone());
                        reason
                    }
                    Ok(Reply { outcome: Outcome::GatewayGone(_), .. }) => {
                        let renewed = self.renew(gateway).await;
                        if step.is_some() {
                            return Err(unknown.map_or(Failed::NoSession, Failed::Unknown));
                        }
                        match renewed {
                            Ok(()) => continue,
                            Err(error) => return Err(Failed::With(error)),
                        }
                    }
                    Ok(Reply { outcome: Outcome::NoSession(_), .. }) => return Err(Failed::NoSession),
                    Ok(Reply { outcome: Outcome::Failed(failure), .. }) => {
                        return Err(Failed::With(failure.into()));
                    }
                    Ok(reply) => return Ok(reply),
                    Err(malformed) => {
                        unknown = Some(malformed.to_string());
                        malformed.to_string()
                    }
                },
                Err(CallError::NotSent(reason)) => {
                    self.turn_from(node, None);
                    reason
                }
                Err(CallError::Unknown(reason)) => {
                    self.turn_from(node, None);
                    unknown = Some(reason.clone());
                    reason
                }
            };
            let now = env.clock.monotonic_nanos();
            let since = *failing_since.get_or_insert(now);
            if now - since > PATIENCE.as_nanos() as u64 {
                return Err(unknown.map_or(Failed::NotSent(reason), Failed::Unknown));
            }
            tokio::select! {
                biased;
                true = changes.changed() => {
                    if let Some(leaseholder) = self.hint() {
                        self.leaseholder.store(leaseholder, Ordering::SeqCst);
                    }
                }
                () = env.runtime.sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends a request once. Where the lease is heard to have moved, its answer is not awaited any more.
    async fn ask(
        &self,
        node: NodeId,
        request: Bytes,
        changes: &mut LeaseChanges,
    ) -> Result<Bytes, CallError> {
        let mut call = self.remote.call(node, request);
        loop {
            tokio::select! {
                biased;
                answer = &mut call => return answer,
                true = changes.changed() => {}
            }
            if self.hint().is_some_and(|hint| hint != node) {
                return Err(CallError::Unknown("the lease has moved".into()));
            }
        }
    }

    /// Takes note of an answer; false: it counts for nothing.
    fn settle(&self, step: Option<&Step>, reply: &Reply, sent_nanos: u64) -> bool {
        let mut sessions = self.sessions.lock();
        if !matches!(reply.outcome, Outcome::GatewayGone(_)) {
            sessions.heard(reply.lease, sent_nanos);
        }
        sessions.settle(step, reply.lease, &reply.outcome)
    }

    fn encode(&self, request: &mut Request, gateway: Gateway) -> Bytes {
        request.version = WIRE_VERSION;
        request.range = FIRST_RANGE;
        request.gateway = gateway;
        // In this order: what is announced later is newer.
        request.announcement = 1 + self.announcements.fetch_add(1, Ordering::SeqCst);
        request.oldest_read = self.live.oldest().0;
        request.oldest_txn = self.oldest_txn();
        request.now = self.store.hlc().last().0;
        if !matches!(request.body, Some(Body::Tell(_))) {
            *self.announced.lock() = (request.oldest_read, request.oldest_txn);
        }
        request.encode_to_vec().into()
    }

    fn take(&self, answer: &Bytes) -> Result<Reply, TxnError> {
        let answer = Answer::decode(answer.clone()).map_err(|_| malformed())?;
        if answer.version != WIRE_VERSION {
            return Err(malformed());
        }
        if !self.store.observe(Timestamp(answer.now)) {
            return Err(clock_too_far_ahead());
        }
        self.gc_threshold.fetch_max(answer.gc_threshold, Ordering::SeqCst);
        let watch = Watch { lease: answer.lease, count: answer.watch_count };
        {
            // Answers may overtake one another.
            let mut newest = self.watch.lock();
            *newest = watch.max(*newest);
        }
        Ok(Reply { lease: answer.lease, watch, outcome: answer.outcome.ok_or_else(malformed)? })
    }

    /// This gateway was taken for dead: it goes on as a new one.
    async fn renew(&self, gone: Gateway) -> Result<(), TxnError> {
        let incarnation = self.store.now().await.map_err(no_timestamp)?.0;
        let order = Ordering::SeqCst;
        // Somebody else may have renewed it.
        let _ = self.incarnation.compare_exchange(gone.incarnation, incarnation, order, order);
        Ok(())
    }

    fn oldest_txn(&self) -> u64 {
        self.sessions.lock().oldest()
    }
}

fn request_of(txn: Option<TxnRef>, body: Body) -> Request {
    Request { txn, body: Some(body), ..Request::default() }
}

/// A node's clock shows what no clock within its limits can.
pub fn clock_too_far_ahead() -> TxnError {
    TxnError::Unavailable("the clock of another node is further ahead than clocks may be".into())
}

/// Tells the leaseholder, while this gateway has nothing to ask, that it lives and what it reads: a leaseholder that
/// has changed does not know. That nothing is read any more is told once.
async fn announce(link: Weak<RemoteLeaseholder>) {
    loop {
        let Some(env) = link.upgrade().map(|link| link.store.env().clone()) else { return };
        env.runtime.sleep(ANNOUNCE_EVERY).await;
        let Some(link) = link.upgrade() else { return };
        let announced = *link.announced.lock();
        let oldest_read = link.live.oldest().0;
        let has_something = oldest_read != 0 || !link.sessions.lock().is_empty();
        if has_something || announced != (oldest_read, link.oldest_txn()) {
            let _ = link.look(None, Body::Announce(Announce {}), None, &CancelToken::default()).await;
        }
    }
}

/// A transaction's session at the leaseholder, as its gateway sees it.
pub struct RemoteSession {
    /// The leaseholder.
    pub link: Arc<RemoteLeaseholder>,
    /// Whose transaction it is, from the first step on.
    gateway: Gateway,
    txn: TxnRef,
    is_over: bool,
    /// The leaseholder does not know it any more.
    is_lost: bool,
}

impl RemoteSession {
    /// A session that the first step will begin.
    pub fn new(link: Arc<RemoteLeaseholder>, session: u64, lock_timeout: Option<Duration>) -> RemoteSession {
        let lock_timeout = lock_timeout.map(|timeout| u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
        let txn = TxnRef { number: 0, step: 0, session, lock_timeout, lease: 0 };
        RemoteSession { link, gateway: Gateway::default(), txn, is_over: false, is_lost: false }
    }

    /// Whether there is something to end.
    pub fn is_open(&self) -> bool {
        self.txn.number > 0 && !self.is_over
    }

    /// Whether the leaseholder has said that it does not know it any more.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// For looks that are to see the transaction's intents.
    pub fn reference(&self) -> TxnRef {
        TxnRef { step: 0, ..self.txn }
    }

    /// Takes a step, behind locks on `objects`.
    pub async fn step(
        &mut self,
        body: Body,
        objects: Option<Objects>,
        expected: Option<Watch>,
        cancel: &CancelToken,
    ) -> Result<Reply, TxnError> {
        let taken = self.take_step(body, objects, expected, cancel).await;
        self.is_lost |= matches!(taken, Err(Failed::NoSession));
        Ok(taken?)
    }

    /// Takes the last step, a commit. `None`: the leaseholder refused to begin the session with it, because it was made
    /// for an earlier lease. Nothing of it is committed, and it may be tried again under this one.
    pub async fn commit(&mut self, body: Body, cancel: &CancelToken) -> Result<Option<Timestamp>, TxnError> {
        let is_commit = matches!(body, Body::Commit(_));
        let reply = self.take_step(body, None, None, cancel).await;
        let is_over = match &reply {
            Ok(_) | Err(Failed::NoSession) => true,
            Err(Failed::With(_)) => !leaves_session(self.txn, is_commit),
            Err(_) => false,
        };
        if is_over {
            self.over();
        }
        match reply {
            Ok(Reply { outcome: Outcome::Committed(ts), .. }) => Ok(Some(Timestamp(ts))),
            Err(Failed::NoSession) if self.txn.step == 1 => {
                self.txn = TxnRef { number: 0, step: 0, ..self.txn };
                self.is_over = false;
                Ok(None)
            }
            Ok(_) => Err(TxnError::Ambiguous("the answer is malformed".into())),
            Err(Failed::Unknown(reason)) => Err(TxnError::Ambiguous(reason)),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Takes the last step, whatever it is.
    pub async fn last_step(&mut self, body: Body, cancel: &CancelToken) -> Result<Reply, TxnError> {
        let reply = self.take_step(body, None, None, cancel).await;
        if matches!(reply, Ok(_) | Err(Failed::With(_) | Failed::NoSession)) {
            self.over();
        }
        reply.map_err(TxnError::from)
    }

    /// Takes the last step, without a commit; what was seen under locks is confirmed at `confirm_at`,
    /// unless that is zero.
    pub async fn end(&mut self, confirm_at: Timestamp, cancel: &CancelToken) -> Result<(), TxnError> {
        self.last_step(Body::End(End { confirm_at: confirm_at.0 }), cancel).await.map(|_| ())
    }

    async fn take_step(
        &mut self,
        body: Body,
        objects: Option<Objects>,
        expected: Option<Watch>,
        cancel: &CancelToken,
    ) -> Result<Reply, Failed> {
        if self.txn.number == 0 {
            self.gateway = self.link.gateway();
            self.txn.number = self.link.sessions.lock().begin(self.gateway, self.txn);
        }
        self.txn.step += 1;
        self.txn.lease = self.link.sessions.lock().lease(self.txn.number);
        let link = &self.link;
        let Cancel { number, step } = Cancel { number: self.txn.number, step: self.txn.step };
        let expected = expected.map(WatchRef::from);
        let request = Request { expected, objects, ..request_of(Some(self.txn), body) };
        let taken = Step::of(self.gateway, self.txn, &request);
        if taken.binds {
            link.sessions.lock().bind(self.txn.number);
        }
        let mut call = std::pin::pin!(link.call(Some(&taken), request));
        tokio::select! {
            biased;
            result = &mut call => return result,
            () = cancel.canceled() => {}
        }
        loop {
            // What it comes to is known when it is answered.
            let tell = async {
                let mut request = request_of(None, Body::Cancel(Cancel { number, step }));
                let encoded = link.encode(&mut request, self.gateway);
                let _ = link.remote.call(link.leaseholder.load(Ordering::SeqCst), encoded).await;
                link.store.env().runtime.sleep(CANCEL_EVERY).await;
            };
            tokio::select! {
                biased;
                result = &mut call => return result,
                () = tell => {}
            }
        }
    }

    fn over(&mut self) {
        self.is_over = true;
        self.link.sessions.lock().over(self.txn.number);
    }
}

impl Drop for RemoteSession {
    fn drop(&mut self) {
        if !self.is_open() {
            return;
        }
        self.over();
        let link = Arc::clone(&self.link);
        let (gateway, txn) = (self.gateway, TxnRef { step: self.txn.step + 1, ..self.txn });
        let task = async move {
            // Its number is announced as ended, so this is in vain only while older ones are open.
            let end = request_of(Some(txn), Body::End(End { confirm_at: 0 }));
            let step = Step::of(gateway, txn, &end);
            while let Err(Failed::NotSent(_) | Failed::Unknown(_)) = link.call(Some(&step), end.clone()).await
            {
                link.store.env().runtime.sleep(LONGEST_PAUSE).await;
            }
        };
        self.link.store.env().runtime.spawn("end of a session", Box::pin(task));
    }
}
