//! What every transport promises, on both of them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::seam::{Channel, NodeId, Runtime, Transport};
use cairn_kv::sim::{Env, SimNetwork};
use cairn_server::transport::{Me, TcpTransport};
use futures_util::future::{Either, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Pause = Pin<Box<dyn Future<Output = ()>>>;

const CLUSTER: [u8; 16] = [7; 16];

/// Whatever is promised of delivery is promised of frames that are sent again until one arrives.
async fn until_received(
    from: &dyn Transport,
    to: (NodeId, &dyn Transport),
    channel: Channel,
    frame: Bytes,
    sleep: &dyn Fn(u64) -> Pause,
) -> (NodeId, Bytes) {
    for _ in 0..500 {
        from.send(to.0, channel, frame.clone());
        if let Either::Left((received, _)) = select(to.1.receive(channel), sleep(20)).await {
            return received;
        }
    }
    panic!("nothing arrives");
}

async fn contract(one: Arc<dyn Transport>, two: Arc<dyn Transport>, sleep: &dyn Fn(u64) -> Pause) {
    // Each channel by itself, with the sender's number, both ways.
    for (number, channel) in Channel::ALL.into_iter().enumerate() {
        let frame = Bytes::from(vec![number as u8; 10]);
        let there = until_received(&*one, (2, &*two), channel, frame.clone(), sleep).await;
        assert_eq!(there, (1, frame.clone()));
        let back = until_received(&*two, (1, &*one), channel, frame.clone(), sleep).await;
        assert_eq!(back, (2, frame));
    }
    // Large frames, and empty ones.
    for size in [5 << 20, 0] {
        let frame = Bytes::from(vec![9; size]);
        let (_, received) = until_received(&*one, (2, &*two), Channel::Raft, frame.clone(), sleep).await;
        assert!(received == frame);
        // What else was sent of it does not come on another channel.
        while let Either::Left(_) = select(two.receive(Channel::Raft), sleep(300)).await {}
        assert!(matches!(select(two.receive(Channel::Request), sleep(50)).await, Either::Right(_)));
    }
    // To a node that does not exist: nothing happens.
    one.send(77, Channel::Raft, Bytes::from_static(b"lost"));
    // A receiver that gives up waiting loses nothing.
    let given_up = select(two.receive(Channel::Request), sleep(1)).await;
    assert!(matches!(given_up, Either::Right(_)));
    drop(given_up);
    let frame = Bytes::from_static(b"kept");
    assert_eq!(until_received(&*one, (2, &*two), Channel::Request, frame.clone(), sleep).await, (1, frame));
}

#[test]
fn the_simulated_network() {
    for seed in 0..10 {
        let outside = Env::new(seed);
        let (one, two) = (outside.beside(), outside.beside());
        let network = SimNetwork::new(&outside);
        let runtime = outside.executor.runtime();
        let sleep = |ms| -> Pause { runtime.sleep(Duration::from_millis(ms)) };
        outside.block_on(contract(network.endpoint(1, &one), network.endpoint(2, &two), &sleep));
    }
}

fn sleep(ms: u64) -> Pause {
    Box::pin(tokio::time::sleep(Duration::from_millis(ms)))
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn me(node: NodeId) -> Me {
    Me { cluster: CLUSTER, node }
}

fn start(me: Me, listener: TcpListener) -> Arc<TcpTransport> {
    let address = listener.local_addr().unwrap().to_string();
    let transport = TcpTransport::listen(listener, address, None);
    transport.identify(me);
    transport
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp() {
    let ((first, first_address), (second, second_address)) = (listener().await, listener().await);
    let (one, two) = (start(me(1), first), start(me(2), second));
    one.connect(2, &second_address);
    two.connect(1, &first_address);
    contract(Arc::clone(&one) as _, Arc::clone(&two) as _, &sleep).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_broke_is_opened_again() {
    let ((first, _), (second, address)) = (listener().await, listener().await);
    let one = start(me(1), first);
    let two = start(me(2), second);
    one.connect(2, &address);
    let frame = Bytes::from_static(b"x");
    until_received(&*one, (2, &*two), Channel::Raft, frame.clone(), &sleep).await;
    two.stop().await;
    drop(two);
    for _ in 0..20 {
        one.send(2, Channel::Raft, Bytes::from_static(b"to nobody"));
        sleep(5).await;
    }
    let two = start(me(2), TcpListener::bind(&address).await.unwrap());
    until_received(&*one, (2, &*two), Channel::Raft, frame, &sleep).await;
    two.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_meant_refuses() {
    let (listening, address) = listener().await;
    let two = start(me(2), listening);
    let other_cluster = Me { cluster: [8; 16], node: 1 };
    for (me, node) in [(other_cluster, 2), (me(1), 3)] {
        let one = start(me, listener().await.0);
        one.connect(node, &address);
        for _ in 0..20 {
            one.send(node, Channel::Raft, Bytes::from_static(b"x"));
            sleep(10).await;
        }
        assert!(matches!(select(two.receive(Channel::Raft), sleep(10)).await, Either::Right(_)));
        one.stop().await;
    }
    two.stop().await;
}

/// What is no stream of a node's, or does not go on as one, disturbs nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_not_taken() {
    let ((first, _), (second, address)) = (listener().await, listener().await);
    let (one, two) = (start(me(1), first), start(me(2), second));
    let greetings: [&[u8]; 6] = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xCAirn",
        b"\xCAirn\x01\xff\xff and nothing more",
        b"\xCAirn\x01\x03\x00\xff\xff\xff",
        b"\xCAirn\x63\x00\x00",
    ];
    let mut strangers = Vec::new();
    for greeting in greetings {
        let mut stranger = TcpStream::connect(&address).await.unwrap();
        stranger.write_all(greeting).await.unwrap();
        strangers.push(stranger);
    }
    one.connect(2, &address);
    let frame = Bytes::from_static(b"x");
    until_received(&*one, (2, &*two), Channel::Raft, frame, &sleep).await;
    for mut stranger in strangers {
        let closed =
            tokio::time::timeout(Duration::from_secs(2), stranger.read_to_end(&mut Vec::new())).await;
        // Reset counts: what was sent was not read.
        drop(closed.expect("it is closed soon"));
    }
    one.stop().await;
    two.stop().await;
}

/// A peer that takes the streams and then gives no sign of life is not reached, and dialed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_says_nothing_is_given_up() {
    let (peer, address) = listener().await;
    let one = start(me(1), listener().await.0);
    one.connect(2, &address);
    let is_reached = || one.peers().iter().any(|(_, _, is_reached)| *is_reached);
    for _ in 0..2 {
        let mut sockets = Vec::new();
        for _ in 0..=Channel::ALL.len() {
            let (mut socket, _) = peer.accept().await.unwrap();
            socket.read_exact(&mut [0; 8]).await.unwrap();
            socket.write_all(&[0, 0]).await.unwrap();
            sockets.push(socket);
        }
        let becomes = |reached: bool| async move {
            while is_reached() != reached {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), becomes(true)).await.expect("it is reached");
        tokio::time::timeout(Duration::from_secs(2), becomes(false)).await.expect("it is given up");
    }
    one.stop().await;
}

/// A peer that reads nothing yet, as its store is not open, is reached all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_store_is_not_open_is_reached() {
    let ((first, _), (second, address)) = (listener().await, listener().await);
    let (one, two) = (start(me(1), first), start(me(2), second));
    one.connect(2, &address);
    let is_reached =
        |transport: &TcpTransport| transport.peers().iter().all(|(_, _, is_reached)| *is_reached);
    for _ in 0..100 {
        if is_reached(&one) && !two.peers().is_empty() && is_reached(&two) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..75 {
        assert!(is_reached(&one) && is_reached(&two));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    one.stop().await;
    two.stop().await;
}
