//! The production side of [`Transport`]: gRPC between nodes.
//!
//! Each node keeps one stream to every peer, on which it sends; what it receives comes on the peer's
//! stream to it. So whoever has something to say dials, and a direction that is cut is cut alone. A stream
//! carries frames of all channels, the urgent ones first: queues are per channel, and a frame is bounded
//! (R8), so liveness waits for one large frame at most. Frames are lost when a queue is full or a stream
//! breaks: whoever sent them is prepared for that.
//!
//! A stream begins with who sends, from where, to whom, in which cluster. A node that is not meant refuses it;
//! one that is dials back, so that nobody needs to be told of a node that knows somebody. The port is open before
//! the node knows who it is, as a node that joins learns that from others: until then it takes no stream.
//!
//! The service of [`crate::cluster::admin`] is served on the same port.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::seam::{BoxFuture, Channel, NodeId, Transport};
use futures_util::stream;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::cluster::admin::AdminServer;

/// The service between nodes, generated.
#[allow(missing_docs, clippy::all, reason = "generated")]
mod service {
    include!(concat!(env!("OUT_DIR"), "/cairn.v1.Peer.rs"));
}

use service::peer_client::PeerClient;
use service::peer_server::{Peer as PeerService, PeerServer};

/// Largest frame.
const MAX_FRAME_BYTES: usize = 16 << 20;

/// Bytes that wait in each queue; what comes on top is dropped.
const QUEUE_BYTES: usize = 64 << 20;

/// A peer that does not answer is dialed anew after this.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// Shortest and longest pause between attempts to reach a peer.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// A silent stream is probed, and given up when no answer comes: TCP alone would repeat what a cut link
/// has swallowed ever more seldom, and be late when the link is whole again.
const PROBE: Duration = Duration::from_millis(300);

/// Requests under way may delay the transport's end this long.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A frame on a stream.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Frame {
    /// Which channel.
    #[prost(uint32, tag = "1")]
    pub channel: u32,
    /// What it carries.
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

/// The answer to a stream that has ended.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct Delivered {}

/// Who a node is to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me {
    /// Its cluster.
    pub cluster: [u8; 16],
    /// Its number there.
    pub node: NodeId,
}

/// gRPC transport. Ends with [`GrpcTransport::stop`].
pub struct GrpcTransport {
    shared: Arc<Shared>,
    server: Mutex<Option<JoinHandle<()>>>,
    stopping: watch::Sender<bool>,
}

/// What the transport and the streams to it share.
struct Shared {
    /// Where its tasks run: they must not wait behind what a node does else.
    handle: Handle,
    me: OnceLock<Me>,
    /// Where others reach this node.
    address: String,
    inboxes: [Arc<Queue>; Channel::ALL.len()],
    /// None: the transport has ended.
    peers: Mutex<Option<BTreeMap<NodeId, Peer>>>,
    /// A peer came, or moved to another address.
    met: Notify,
}

struct Peer {
    address: String,
    queues: Arc<Outgoing>,
    task: JoinHandle<()>,
}

/// Frames that wait.
#[derive(Default)]
struct Queue {
    state: Mutex<(VecDeque<(NodeId, Bytes)>, usize)>,
    arrived: Notify,
}

impl Queue {
    /// Adds a frame, unless the queue is full.
    fn push(&self, node: NodeId, frame: Bytes) {
        let mut state = self.state.lock();
        if state.1 + frame.len() > QUEUE_BYTES {
            return;
        }
        state.1 += frame.len();
        state.0.push_back((node, frame));
        drop(state);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Option<(NodeId, Bytes)> {
        let mut state = self.state.lock();
        let (node, frame) = state.0.pop_front()?;
        state.1 -= frame.len();
        Some((node, frame))
    }

    fn clear(&self) {
        *self.state.lock() = (VecDeque::new(), 0);
    }
}

/// What is to be sent to a peer.
#[derive(Default)]
struct Outgoing {
    queues: [Queue; Channel::ALL.len()],
    arrived: Notify,
    /// The peer is reached.
    is_connected: AtomicBool,
}

impl Outgoing {
    /// The most urgent frame; waits for one.
    async fn next(&self) -> Frame {
        loop {
            let arrived = self.arrived.notified();
            for (channel, queue) in self.queues.iter().enumerate() {
                if let Some((_, body)) = queue.pop() {
                    return Frame { channel: channel as u32, body };
                }
            }
            arrived.await;
        }
    }
}

impl GrpcTransport {
    /// Listens on `listener`, which others reach at `address`; there the node answers as `admin` too. All of its tasks
    /// run on the present runtime.
    pub fn listen(listener: TcpListener, address: String, admin: Option<AdminServer>) -> Arc<GrpcTransport> {
        let shared = Arc::new(Shared {
            handle: Handle::current(),
            me: OnceLock::new(),
            address,
            inboxes: Default::default(),
            peers: Mutex::new(Some(BTreeMap::new())),
            met: Notify::new(),
        });
        let (stopping, stop) = watch::channel(false);
        let receiver = Receiver { shared: Arc::clone(&shared), stop: stop.clone() };
        let service = PeerServer::new(receiver).max_decoding_message_size(MAX_FRAME_BYTES);
        let serve = Server::builder()
            .tcp_nodelay(true)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .http2_keepalive_interval(Some(PROBE))
            .http2_keepalive_timeout(Some(PROBE))
            .add_service(service)
            .add_optional_service(admin)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped(stop));
        let server = shared.handle.spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the listener for other nodes has ended");
            }
        });
        Arc::new(GrpcTransport { shared, server: Mutex::new(Some(server)), stopping })
    }

    /// Says who this node is. Once, and before it is told of peers.
    pub fn identify(&self, me: Me) {
        assert_eq!(*self.shared.me.get_or_init(|| me), me, "a node does not become another one");
    }

    /// Sends to `node` at `address` (`HOST:PORT`) from now on, however often the stream breaks.
    pub fn connect(&self, node: NodeId, address: &str) {
        let me = *self.shared.me.get().expect("who knows of peers knows who it is");
        self.shared.connect(me, node, address);
    }

    /// The peers, where they are, and whether they are reached now.
    pub fn peers(&self) -> Vec<(NodeId, String, bool)> {
        let peers = self.shared.peers.lock();
        let peer = |(node, peer): (&NodeId, &Peer)| {
            (*node, peer.address.clone(), peer.queues.is_connected.load(Ordering::Relaxed))
        };
        peers.iter().flatten().map(peer).collect()
    }

    /// Completes when a peer has come, or has moved, since the last time.
    pub async fn met(&self) {
        self.shared.met.notified().await;
    }

    /// Sends and receives no more.
    pub async fn stop(&self) {
        for (_, peer) in self.shared.peers.lock().take().into_iter().flatten() {
            peer.task.abort();
        }
        self.stopping.send_replace(true);
        let server = self.server.lock().take();
        if let Some(mut server) = server
            && tokio::time::timeout(STOP_TIMEOUT, &mut server).await.is_err()
        {
            server.abort();
        }
    }
}

impl Shared {
    fn connect(&self, me: Me, node: NodeId, address: &str) {
        let mut peers = self.peers.lock();
        let Some(peers) = peers.as_mut().filter(|_| node != me.node) else { return };
        if peers.get(&node).is_some_and(|peer| peer.address == address) {
            return;
        }
        let (address, queues) = (address.to_owned(), Arc::new(Outgoing::default()));
        let mine = self.address.clone();
        let task = self.handle.spawn(keep_connected(me, mine, node, address.clone(), Arc::clone(&queues)));
        if let Some(before) = peers.insert(node, Peer { address, queues, task }) {
            before.task.abort();
        }
        self.met.notify_one();
    }
}

impl Transport for GrpcTransport {
    fn send(&self, to: NodeId, channel: Channel, frame: Bytes) {
        let peers = self.shared.peers.lock();
        if let Some(peer) = peers.as_ref().and_then(|peers| peers.get(&to)) {
            peer.queues.queues[channel as usize].push(to, frame);
            peer.queues.arrived.notify_one();
        }
    }

    fn receive(&self, channel: Channel) -> BoxFuture<'_, (NodeId, Bytes)> {
        let inbox = &self.shared.inboxes[channel as usize];
        Box::pin(async move {
            loop {
                if let Some(frame) = inbox.pop() {
                    return frame;
                }
                // A permit is kept from a frame that came since.
                inbox.arrived.notified().await;
            }
        })
    }
}

/// Keeps a stream to a peer.
async fn keep_connected(me: Me, mine: String, node: NodeId, address: String, queues: Arc<Outgoing>) {
    let mut pause = RETRY.0;
    let mut complained = false;
    loop {
        let began = tokio::time::Instant::now();
        let error = deliver(me, &mine, node, &address, &queues).await;
        queues.is_connected.store(false, Ordering::Relaxed);
        // What waited for the stream is stale.
        queues.queues.iter().for_each(Queue::clear);
        if began.elapsed() > RETRY.1 * 2 {
            (pause, complained) = (RETRY.0, false);
        }
        if !complained {
            tracing::info!(node, address, %error, "no stream to a node");
            complained = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Sends until the stream breaks; why it did.
async fn deliver(me: Me, mine: &str, node: NodeId, address: &str, queues: &Arc<Outgoing>) -> Status {
    let channel = match dial(address).await {
        Ok(channel) => channel,
        Err(status) => return status,
    };
    queues.is_connected.store(true, Ordering::Relaxed);
    tracing::debug!(node, address, "a stream to a node");
    let queues = Arc::clone(queues);
    let frames = stream::unfold(queues, |queues| async move { Some((queues.next().await, queues)) });
    let mut request = Request::new(frames);
    introduce(request.metadata_mut(), me, mine, node);
    let mut client = PeerClient::new(channel).max_encoding_message_size(MAX_FRAME_BYTES);
    match client.deliver(request).await {
        Ok(_) => Status::unavailable("the node has ended the stream"),
        Err(status) => status,
    }
}

/// A connection to the RPC port of a node.
pub(crate) async fn dial(address: &str) -> Result<tonic::transport::Channel, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Status::invalid_argument(format!("{address} is not an address: HOST:PORT is expected")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| Status::unavailable(reason(&error)))
}

/// The innermost cause, which says what the operating system said.
fn reason(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

const CLUSTER: &str = "cairn-cluster";
const FROM: &str = "cairn-from";
const ADDRESS: &str = "cairn-address";
const TO: &str = "cairn-to";

fn introduce(metadata: &mut MetadataMap, me: Me, address: &str, to: NodeId) {
    let cluster = format!("{:032x}", u128::from_be_bytes(me.cluster));
    metadata.insert(CLUSTER, AsciiMetadataValue::try_from(cluster).expect("hexadecimal digits"));
    metadata.insert(FROM, me.node.into());
    metadata.insert(TO, to.into());
    // Other characters are not in an address that can be dialed.
    if let Ok(address) = AsciiMetadataValue::try_from(address) {
        metadata.insert(ADDRESS, address);
    }
}

/// Completes when the transport ends.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error: the transport is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Takes peers' streams.
struct Receiver {
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
}

impl Receiver {
    /// Who sends, if it means this node. It is dialed back.
    fn sender(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(|value| value.parse::<NodeId>().ok());
        let cluster = text(CLUSTER).and_then(|value| u128::from_str_radix(value, 16).ok());
        let (Some(cluster), Some(from), Some(to)) = (cluster, number(FROM), number(TO)) else {
            return Err(Status::invalid_argument("the stream does not say who sends"));
        };
        let Some(me) = self.shared.me.get() else {
            return Err(Status::unavailable("this node does not know yet who it is"));
        };
        let mine = u128::from_be_bytes(me.cluster);
        if cluster != mine {
            return Err(Status::failed_precondition(format!(
                "this is a node of cluster {mine:032x}, and not of {cluster:032x}"
            )));
        }
        if to != me.node {
            return Err(Status::failed_precondition(format!("this is node {}, not {to}", me.node)));
        }
        if let Some(address) = text(ADDRESS) {
            self.shared.connect(*me, from, address);
        }
        Ok(from)
    }
}

#[tonic::async_trait]
impl PeerService for Receiver {
    async fn deliver(&self, request: Request<Streaming<Frame>>) -> Result<Response<Delivered>, Status> {
        let from = self.sender(request.metadata())?;
        let mut frames = request.into_inner();
        let mut stop = std::pin::pin!(stopped(self.stop.clone()));
        loop {
            let frame = tokio::select! {
                biased;
                () = &mut stop => None,
                frame = frames.message() => frame?,
            };
            let Some(frame) = frame else { return Ok(Response::new(Delivered {})) };
            // Channels of a later version are not for this node.
            if let Some(inbox) = self.shared.inboxes.get(frame.channel as usize) {
                inbox.push(from, frame.body);
            }
        }
    }
}
