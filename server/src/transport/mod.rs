//! The production side of [`Transport`]: streams of frames between nodes.
//!
//! Each node keeps a stream for each channel to every peer, on which it sends; what it receives comes on the peer's
//! streams to it. So whoever has something to say dials, and a direction that is cut is cut alone; and what is urgent
//! does not wait behind what is large. Frames are lost when a queue is full or a stream breaks: whoever sent them is
//! prepared for that. One more stream is for signs of life, which the transport itself gives; where one of a peer's
//! streams breaks, all of them are opened anew.
//!
//! A stream begins with who sends, from where, to whom, in which cluster ([`wire`]). A node that is not meant refuses
//! it; one that is dials back, so that nobody needs to be told of a node that knows somebody. The port is open before
//! the node knows who it is, as a node that joins learns that from others: until then it takes no stream.
//!
//! Streams are TCP with frames of our own, and not gRPC: a commit costs six frames over three nodes, and each took some
//! 20 µs of a core in HTTP/2 and for the tasks that it woke (ARCHITECTURE.md, "Where we depart from the design"). Here
//! whoever sends writes to the socket itself when nothing waits ([`outgoing`]), and whoever receives reads from it
//! ([`incoming`]), so that a frame wakes one thread. The gRPC service of [`crate::cluster::admin`] is served on the
//! same port: what begins as a stream does cannot be HTTP.

mod incoming;
mod outgoing;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::seam::{BoxFuture, Channel, NodeId, Transport};
use futures_util::future::{select_all, try_join, try_join_all};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Endpoint, Server};

use crate::cluster::admin::AdminServer;
use crate::error::reason;
use incoming::Incoming;
use outgoing::Outgoing;
use wire::Hello;

/// Largest frame.
const MAX_FRAME_BYTES: usize = 16 << 20;

/// Bytes that wait in each queue; what comes on top is dropped.
const QUEUE_BYTES: usize = 64 << 20;

/// A peer that does not answer is dialed anew after this.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// Shortest and longest pause between attempts to reach a peer.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// A stream is probed this often, and given up when no answer comes until the next time: TCP alone would repeat what
/// a cut link has swallowed ever more seldom, and be late when the link is whole again.
const PROBE: Duration = Duration::from_millis(300);

/// Who asks for no sign of life for so long is gone.
const SILENCE: Duration = Duration::from_secs(5);

/// Requests under way may delay the transport's end this long.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Sockets that wait for the gRPC server to take them.
const SOCKETS: usize = 16;

/// Who a node is to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me {
    /// Its cluster.
    pub cluster: [u8; 16],
    /// Its number there.
    pub node: NodeId,
}

/// The streams to and from the other nodes. Ends with [`TcpTransport::stop`].
pub struct TcpTransport {
    shared: Arc<Shared>,
    /// The listener's task, and that of the gRPC server.
    servers: Mutex<Vec<JoinHandle<()>>>,
    stopping: watch::Sender<bool>,
}

/// What the transport and the streams to it share.
struct Shared {
    /// Where its tasks run: they must not wait behind what a node does else.
    handle: Handle,
    me: OnceLock<Me>,
    /// Where others reach this node.
    address: String,
    incoming: [Incoming; Channel::ALL.len()],
    /// None: the transport has ended.
    peers: Mutex<Option<BTreeMap<NodeId, Peer>>>,
    /// A peer came, or moved to another address.
    met: Notify,
}

struct Peer {
    address: String,
    streams: Arc<Streams>,
    task: JoinHandle<()>,
}

/// The streams to a peer.
#[derive(Default)]
struct Streams {
    channels: [Outgoing; Channel::ALL.len()],
    /// The peer has taken all of them.
    are_connected: AtomicBool,
}

impl TcpTransport {
    /// Listens on `listener`, which others reach at `address`; there the node answers as `admin` too. All of its tasks
    /// run on the present runtime.
    pub fn listen(listener: TcpListener, address: String, admin: Option<AdminServer>) -> Arc<TcpTransport> {
        let shared = Arc::new(Shared {
            handle: Handle::current(),
            me: OnceLock::new(),
            address,
            incoming: Default::default(),
            peers: Mutex::new(Some(BTreeMap::new())),
            met: Notify::new(),
        });
        let (stopping, stop) = watch::channel(false);
        let (for_admin, sockets) = mpsc::channel(SOCKETS);
        let mut servers =
            vec![shared.handle.spawn(listen(Arc::clone(&shared), listener, for_admin, stop.clone()))];
        if let Some(admin) = admin {
            let mut server =
                Server::builder().http2_keepalive_interval(Some(PROBE)).http2_keepalive_timeout(Some(PROBE));
            let serve = server
                .add_service(admin)
                .serve_with_incoming_shutdown(ReceiverStream::new(sockets), stopped(stop));
            servers.push(shared.handle.spawn(async move {
                if let Err(error) = serve.await {
                    tracing::error!(%error, "the service for administration has ended");
                }
            }));
        }
        Arc::new(TcpTransport { shared, servers: Mutex::new(servers), stopping })
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
            (*node, peer.address.clone(), peer.streams.are_connected.load(Ordering::Relaxed))
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
        self.shared.incoming.iter().for_each(Incoming::end);
        let servers = std::mem::take(&mut *self.servers.lock());
        for mut server in servers {
            if timeout(STOP_TIMEOUT, &mut server).await.is_err() {
                server.abort();
            }
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
        let (address, streams) = (address.to_owned(), Arc::new(Streams::default()));
        let hello = Hello::new(me, node, &self.address);
        let task = self.handle.spawn(keep_connected(hello, address.clone(), Arc::clone(&streams)));
        if let Some(before) = peers.insert(node, Peer { address, streams, task }) {
            before.task.abort();
        }
        self.met.notify_one();
    }

    /// Where goes what comes on a stream, if it means this node and a channel that it knows; else why it is not taken.
    /// None: it is for signs of life.
    fn takes(&self, hello: &Hello) -> Result<(Me, Option<&Incoming>), String> {
        let Some(me) = self.me.get() else {
            return Err("this node does not know yet who it is".into());
        };
        if hello.cluster[..] != me.cluster {
            let mine = u128::from_be_bytes(me.cluster);
            return Err(format!("this is a node of cluster {mine:032x}"));
        }
        if hello.to != me.node {
            return Err(format!("this is node {}, not {}", me.node, hello.to));
        }
        if hello.is_for_probes() {
            return Ok((*me, None));
        }
        let incoming = self.incoming.get(hello.channel as usize);
        Ok((*me, Some(incoming.ok_or("this node does not know that channel")?)))
    }

    /// Takes a peer's stream, and dials back. One for signs of life is given back.
    async fn receive(&self, mut socket: TcpStream) -> io::Result<Option<TcpStream>> {
        let hello = wire::read_hello(&mut socket).await?;
        let taken = self.takes(&hello);
        wire::write_answer(&mut socket, taken.as_ref().err()).await?;
        let Ok((me, incoming)) = taken else { return Ok(None) };
        self.connect(me, hello.from, &hello.address);
        match incoming {
            Some(incoming) => incoming.add(hello.from, socket).map(|()| None),
            None => Ok(Some(socket)),
        }
    }
}

impl Transport for TcpTransport {
    fn send(&self, to: NodeId, channel: Channel, frame: Bytes) {
        let streams = {
            let peers = self.shared.peers.lock();
            let Some(peer) = peers.as_ref().and_then(|peers| peers.get(&to)) else { return };
            Arc::clone(&peer.streams)
        };
        streams.channels[channel as usize].send(frame);
    }

    fn receive(&self, channel: Channel) -> BoxFuture<'_, (NodeId, Bytes)> {
        Box::pin(self.shared.incoming[channel as usize].next())
    }
}

/// Takes what comes to the port, until the transport ends.
async fn listen(
    shared: Arc<Shared>,
    listener: TcpListener,
    for_admin: mpsc::Sender<io::Result<TcpStream>>,
    stop: watch::Receiver<bool>,
) {
    let mut streams = JoinSet::new();
    let mut stop = std::pin::pin!(stopped(stop));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
            Some(_) = streams.join_next() => continue,
        };
        match accepted {
            Ok((socket, _)) => {
                streams.spawn(sort(Arc::clone(&shared), socket, for_admin.clone()));
            }
            Err(error) => {
                // Out of files, most likely: it passes.
                tracing::warn!(%error, "a connection of another node is not accepted");
                sleep(RETRY.0).await;
            }
        }
    }
}

/// A peer's stream, or somebody who speaks gRPC?
async fn sort(shared: Arc<Shared>, socket: TcpStream, for_admin: mpsc::Sender<io::Result<TcpStream>>) {
    // Without it answers wait for acknowledgements. Nothing else depends on it.
    let _ = socket.set_nodelay(true);
    match timeout(CONNECT_TIMEOUT, wire::begins_stream(&socket)).await {
        Ok(Ok(true)) => match timeout(CONNECT_TIMEOUT, shared.receive(socket)).await {
            // Its end is the other side's to tell of.
            Ok(Ok(Some(socket))) => drop(wire::answer_probes(socket).await),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a stream is not taken"),
            Err(_) => tracing::debug!("a stream is not taken: its greeting takes too long"),
        },
        // An error: there is no such service, or it has ended.
        Ok(Ok(false)) => drop(for_admin.send(Ok(socket)).await),
        Ok(Err(_)) | Err(_) => {}
    }
}

/// Keeps the streams to a peer.
async fn keep_connected(hello: Hello, address: String, streams: Arc<Streams>) {
    let node = hello.to;
    let mut pause = RETRY.0;
    let mut complained = false;
    loop {
        let began = tokio::time::Instant::now();
        let error = deliver(&hello, &address, &streams).await;
        streams.are_connected.store(false, Ordering::Relaxed);
        streams.channels.iter().for_each(Outgoing::disconnect);
        if began.elapsed() > RETRY.1 * 2 {
            (pause, complained) = (RETRY.0, false);
        }
        if !complained {
            tracing::info!(node, address, error, "no stream to a node");
            complained = true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Sends until a stream breaks; why it did.
async fn deliver(hello: &Hello, address: &str, streams: &Streams) -> String {
    let open = Channel::ALL.map(|channel| wire::connect(address, hello.on(channel)));
    let open = try_join(wire::connect(address, hello.for_probes()), try_join_all(open));
    let (probed, sockets) = match timeout(CONNECT_TIMEOUT, open).await {
        Ok(Ok((probed, sockets))) => (probed, sockets.into_iter().map(Arc::new)),
        Ok(Err(error)) => return reason(&error).into_owned(),
        Err(_) => return "no answer".into(),
    };
    tracing::debug!(node = hello.to, address, "streams to a node");
    let streams_and_sockets: Vec<_> = streams.channels.iter().zip(sockets).collect();
    for (stream, socket) in &streams_and_sockets {
        stream.connect(Arc::clone(socket));
    }
    streams.are_connected.store(true, Ordering::Relaxed);
    let writing =
        streams_and_sockets.iter().map(|(stream, socket)| Box::pin(stream.write_what_waits(socket)));
    let error = tokio::select! {
        biased;
        error = wire::probe(probed) => error,
        (error, ..) = select_all(writing) => error,
    };
    reason(&error).into_owned()
}

/// A connection to the service for administration of a node.
pub(crate) async fn dial(address: &str) -> Result<tonic::transport::Channel, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Status::invalid_argument(format!("{address} is not an address: HOST:PORT is expected")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| Status::unavailable(innermost(&error)))
}

/// The innermost cause, which says what the operating system said.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Completes when the transport ends.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error: the transport is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}
