//! Calls between nodes, over frames that may be lost, doubled, late or out of order.
//!
//! A call is a frame with a number, its answer another. While no answer comes, the caller *pokes* now and then: the
//! other side says that the call is under way there, or that it does not know it (any more), and then the request is
//! sent again. So a lost frame costs little, however long a call takes (it may wait for a lock), and a peer that says
//! nothing at all for a while is given up. That a request may so be carried out more than once is no concern here:
//! requests are made for it ([`crate::wire`]).
//!
//! Numbers count from the beginning of the caller's life, which each frame names: answers to an earlier life are
//! nobody's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::seam::{BoxFuture, Channel, Env};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{CallError, NodeId, Remote};
use crate::Db;

/// How often the other side is asked whether a call is under way, at most.
const POKE_EVERY: Duration = Duration::from_millis(50);

/// How often it is looked for calls that this is due for: not by each of them, as a timer of its own would wake the
/// runtime for every call.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// A peer that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_millis(400);

/// Calls that are carried out at a time; others are taken when they are sent again. A gateway has one for each of its
/// sessions at most, beside some looks, so only a storm gets here.
const MAX_SERVED: usize = 16_384;

/// Bytes of their requests.
const MAX_SERVED_BYTES: usize = 256 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Unspecified = 0,
    /// A request, to be carried out.
    Ask = 1,
    /// What it came to.
    Answer = 2,
    /// Is the call under way?
    Poke = 3,
    /// It is.
    UnderWay = 4,
    /// It is not: it never came, or was answered.
    Unknown = 5,
}

#[derive(Clone, PartialEq, ::prost::Message)]
struct Frame {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    /// The caller's life.
    #[prost(fixed64, tag = "2")]
    life: u64,
    /// The call.
    #[prost(uint64, tag = "3")]
    call: u64,
    /// Request or answer.
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
}

/// What the other side says of a call.
enum Said {
    Answer(Bytes),
    UnderWay,
    Unknown,
    /// Nothing for a while.
    Nothing,
}

/// A node's calls to others, and those of others to it.
pub struct Calls {
    env: Env,
    /// This node.
    node: NodeId,
    life: u64,
    next: AtomicU64,
    /// Calls whose answers are awaited.
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    /// There were none, and is one.
    begun: Arc<Notify>,
    served: Mutex<Served>,
    server: OnceLock<Weak<Db>>,
}

/// A call whose answer is awaited.
struct Waiting {
    to: mpsc::UnboundedSender<Said>,
    /// Monotonic time since when nothing was told.
    since: u64,
}

/// Calls that are carried out here: whose, of which life, their number.
#[derive(Default)]
struct Served {
    calls: BTreeMap<(NodeId, u64, u64), usize>,
    bytes: usize,
}

impl Calls {
    /// The calls of `node`.
    pub fn new(env: Env, node: NodeId) -> Arc<Calls> {
        Arc::new(Calls {
            life: env.rng.next_u64(),
            env,
            node,
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            begun: Arc::default(),
            served: Mutex::default(),
            server: OnceLock::new(),
        })
    }

    /// Calls of others are carried out by `server` from now on.
    pub fn serve(self: &Arc<Calls>, server: Weak<Db>) {
        self.server.set(server).expect("it is set once");
        let (env, calls) = (self.env.clone(), Arc::downgrade(self));
        let task = async move {
            loop {
                let (from, frame) = env.transport.receive(Channel::Request).await;
                let Some(calls) = calls.upgrade() else { return };
                match Frame::decode(frame) {
                    Ok(frame) => calls.take(from, frame),
                    Err(error) => tracing::warn!(from, %error, "an undecodable frame of a call"),
                }
            }
        };
        self.env.runtime.spawn("calls", Box::pin(task));
        let (env, begun, calls) = (self.env.clone(), Arc::clone(&self.begun), Arc::downgrade(self));
        let task = async move {
            while let Some(calls) = calls.upgrade() {
                let is_waiting = calls.remind();
                drop(calls);
                if is_waiting {
                    env.runtime.sleep(LOOK_EVERY).await;
                } else {
                    begun.notified().await;
                }
            }
        };
        self.env.runtime.spawn("calls without answer", Box::pin(task));
    }

    /// Tells those who wait that nothing has come for a while. Whether there are any.
    fn remind(&self) -> bool {
        let now = self.env.clock.monotonic_nanos();
        let mut waiting = self.waiting.lock();
        for Waiting { to, since } in waiting.values_mut() {
            if now >= *since + POKE_EVERY.as_nanos() as u64 {
                *since = now;
                // Nobody may wait any more.
                let _ = to.send(Said::Nothing);
            }
        }
        !waiting.is_empty()
    }

    fn send(&self, to: NodeId, kind: Kind, (life, call): (u64, u64), body: Bytes) {
        let frame = Frame { kind: kind.into(), life, call, body };
        self.env.transport.send(to, Channel::Request, frame.encode_to_vec().into());
    }

    fn server(&self) -> Option<Arc<Db>> {
        self.server.get().and_then(Weak::upgrade)
    }

    fn take(self: &Arc<Calls>, from: NodeId, frame: Frame) {
        let (kind, name) = (frame.kind(), (frame.life, frame.call));
        let said = match kind {
            Kind::Ask => return self.carry_out(from, name, frame.body),
            Kind::Poke => {
                if let Some(server) = self.server() {
                    server.heard(from);
                }
                let is_known = self.served.lock().calls.contains_key(&(from, frame.life, frame.call));
                let kind = if is_known { Kind::UnderWay } else { Kind::Unknown };
                return self.send(from, kind, name, Bytes::new());
            }
            Kind::Answer => Said::Answer(frame.body),
            Kind::UnderWay => Said::UnderWay,
            Kind::Unknown => Said::Unknown,
            Kind::Unspecified => return,
        };
        if frame.life == self.life
            && let Some(waiting) = self.waiting.lock().get(&frame.call)
        {
            // Nobody may wait any more.
            let _ = waiting.to.send(said);
        }
    }

    fn carry_out(self: &Arc<Calls>, from: NodeId, name: (u64, u64), request: Bytes) {
        let Some(server) = self.server() else { return };
        let call = (from, name.0, name.1);
        {
            let mut served = self.served.lock();
            if served.calls.contains_key(&call) {
                return;
            }
            if served.calls.len() >= MAX_SERVED || served.bytes + request.len() > MAX_SERVED_BYTES {
                tracing::warn!(from, "a request is left for later: too many are carried out");
                return;
            }
            served.bytes += request.len();
            served.calls.insert(call, request.len());
        }
        let under_way = Serving { calls: Arc::clone(self), call };
        let task = async move {
            let answer = server.serve(request).await;
            let calls = Arc::clone(&under_way.calls);
            drop(under_way);
            calls.send(from, Kind::Answer, name, answer);
        };
        self.env.runtime.spawn("request", Box::pin(task));
    }

    /// A call of this node to itself: its gateway looked for the leaseholder elsewhere, and it is here.
    async fn call_here(&self, request: Bytes) -> Result<Bytes, CallError> {
        let server = self.server().ok_or_else(|| CallError::NotSent("the node is stopping".into()))?;
        let (sender, answer) = oneshot::channel();
        let task = async move {
            // Its caller may be gone.
            let _ = sender.send(server.serve(request).await);
        };
        self.env.runtime.spawn("request", Box::pin(task));
        answer.await.map_err(|_| CallError::Unknown("the node is stopping".into()))
    }

    async fn call_there(&self, node: NodeId, request: Bytes) -> Result<Bytes, CallError> {
        let name = (self.life, self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, mut said) = mpsc::unbounded_channel();
        let mut heard = self.env.clock.monotonic_nanos();
        {
            let mut waiting = self.waiting.lock();
            waiting.insert(name.1, Waiting { to: sender, since: heard });
            if waiting.len() == 1 {
                self.begun.notify_one();
            }
        }
        let _waits = Waits { calls: self, call: name.1 };
        self.send(node, Kind::Ask, name, request.clone());
        loop {
            let said = said.recv().await.expect("its sender is known until this ends");
            let now = self.env.clock.monotonic_nanos();
            match said {
                Said::Answer(answer) => return Ok(answer),
                Said::UnderWay => heard = now,
                Said::Unknown => {
                    heard = now;
                    self.send(node, Kind::Ask, name, request.clone());
                }
                Said::Nothing if now - heard > SILENCE.as_nanos() as u64 => {
                    return Err(CallError::Unknown(format!("node {node} says nothing")));
                }
                Said::Nothing => self.send(node, Kind::Poke, name, Bytes::new()),
            }
        }
    }
}

impl Remote for Calls {
    fn call(&self, node: NodeId, request: Bytes) -> BoxFuture<'_, Result<Bytes, CallError>> {
        if node == self.node {
            Box::pin(self.call_here(request))
        } else {
            Box::pin(self.call_there(node, request))
        }
    }
}

/// Somebody waits for a call's answer.
struct Waits<'a> {
    calls: &'a Calls,
    call: u64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.calls.waiting.lock().remove(&self.call);
    }
}

/// A call is carried out here.
struct Serving {
    calls: Arc<Calls>,
    call: (NodeId, u64, u64),
}

impl Drop for Serving {
    fn drop(&mut self) {
        let mut served = self.calls.served.lock();
        let bytes = served.calls.remove(&self.call).unwrap_or(0);
        served.bytes -= bytes;
    }
}
