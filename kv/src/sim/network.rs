//! A network that loses, delays, reorders and repeats what is sent over it, and can be cut one way.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::seam::{BoxFuture, Channel, NodeId, Runtime, Transport};

use super::Env;
use super::executor::SimRuntime;
use super::rng::SimRng;
use super::trace::{Trace, hash_bytes};

/// How one direction between two nodes behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// Frames lost, of a thousand.
    pub lost_per_mille: u64,
    /// Frames that arrive twice, of a thousand.
    pub repeated_per_mille: u64,
    /// Least and greatest delay, nanoseconds. Frames overtake one another within it.
    pub delay_nanos: (u64, u64),
}

impl Default for Link {
    fn default() -> Link {
        Link { cut: false, lost_per_mille: 0, repeated_per_mille: 0, delay_nanos: (30_000, 300_000) }
    }
}

/// The network of a world. Clones share it.
#[derive(Clone)]
pub struct SimNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    rng: SimRng,
    trace: Trace,
    /// Of the world, not of a node: what is on its way arrives whatever becomes of its sender.
    runtime: SimRuntime,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: BTreeMap<(NodeId, NodeId), Link>,
    inboxes: BTreeMap<(NodeId, Channel), Inbox>,
}

struct Inbox {
    /// Of the incarnation that reads it.
    runtime: SimRuntime,
    frames: VecDeque<(NodeId, Bytes)>,
    waker: Option<Waker>,
}

impl SimNetwork {
    /// The network of the world whose first machine, which does not crash, is `env`.
    pub fn new(env: &Env) -> SimNetwork {
        let shared = Shared {
            rng: SimRng::stream(env.seed, "network"),
            trace: env.trace.clone(),
            runtime: env.executor.runtime(),
            state: Mutex::default(),
        };
        SimNetwork { shared: Arc::new(shared) }
    }

    /// How the direction from `from` to `to` behaves from now on.
    pub fn set_link(&self, from: NodeId, to: NodeId, link: Link) {
        self.shared.trace.event("network", &[from, to], || format!("{from} → {to}: {link:?}"));
        self.shared.state.lock().links.insert((from, to), link);
    }

    /// How the direction from `from` to `to` behaves.
    pub fn link(&self, from: NodeId, to: NodeId) -> Link {
        self.shared.state.lock().links.get(&(from, to)).copied().unwrap_or_default()
    }

    /// All directions are as at the beginning.
    pub fn heal(&self) {
        self.shared.trace.event("network", &[], || "healed".into());
        self.shared.state.lock().links.clear();
    }

    /// The transport of node `node` for the present incarnation of the machine `env`. Frames that
    /// earlier ones have not taken are gone.
    pub fn endpoint(&self, node: NodeId, env: &Env) -> Arc<dyn Transport> {
        let runtime = env.executor.runtime();
        let mut state = self.shared.state.lock();
        for channel in Channel::ALL {
            let inbox = Inbox { runtime: runtime.clone(), frames: VecDeque::new(), waker: None };
            state.inboxes.insert((node, channel), inbox);
        }
        Arc::new(Endpoint { network: self.clone(), node, runtime })
    }
}

impl Shared {
    fn deliver(&self, from: NodeId, to: NodeId, channel: Channel, frame: Bytes) {
        let waker = {
            let mut state = self.state.lock();
            let Some(inbox) = state.inboxes.get_mut(&(to, channel)) else { return };
            if !inbox.runtime.is_alive() {
                return;
            }
            inbox.frames.push_back((from, frame));
            inbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct Endpoint {
    network: SimNetwork,
    node: NodeId,
    runtime: SimRuntime,
}

impl Transport for Endpoint {
    fn send(&self, to: NodeId, channel: Channel, frame: Bytes) {
        // A node whose power was cut in the middle of a poll says nothing any more.
        if !self.runtime.is_running() {
            return;
        }
        let shared = &self.network.shared;
        let from = self.node;
        let link = self.network.link(from, to);
        let lost = link.cut || shared.rng.below(1000) < link.lost_per_mille;
        let copies = if lost { 0 } else { 1 + u64::from(shared.rng.below(1000) < link.repeated_per_mille) };
        shared.trace.event("send", &[from, to, channel as u64, hash_bytes(&frame), copies], || {
            format!("{from} → {to} {channel:?}, {} bytes, {copies} copies", frame.len())
        });
        for _ in 0..copies {
            let timer = shared.runtime.timer(shared.rng.between(link.delay_nanos.0, link.delay_nanos.1));
            let (shared, frame) = (Arc::clone(shared), frame.clone());
            let delivery = async move {
                timer.await;
                shared.deliver(from, to, channel, frame);
            };
            self.network.shared.runtime.spawn("frame", Box::pin(delivery));
        }
    }

    fn receive(&self, channel: Channel) -> BoxFuture<'_, (NodeId, Bytes)> {
        Box::pin(poll_fn(move |context| {
            let mut state = self.network.shared.state.lock();
            let inbox = state.inboxes.get_mut(&(self.node, channel)).expect("made with the endpoint");
            if !self.runtime.is_alive() {
                return Poll::Pending;
            }
            if let Some(frame) = inbox.frames.pop_front() {
                return Poll::Ready(frame);
            }
            let replaced = inbox.waker.replace(context.waker().clone());
            drop(state);
            drop(replaced);
            Poll::Pending
        }))
    }
}
