//! Accepting connections.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cairn_sql::session::ClientInfo;
use cairn_sql::{SqlError, SqlState};
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::backend::{Backend, Connect};
use super::output::{self, Output};
use super::reader::{Budget, Reader};
use super::registry::{Phase, Registry};
use super::startup::{self, Greeting};
use super::{Connection, Ending};

/// As PostgreSQL's `authentication_timeout`.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client that does not read may delay its connection's end.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long statements may take to notice that the node ends.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A silent peer is asked for a sign of life after this time, then again, and given up after three.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Serves SQL clients on an address.
pub struct Listener<C> {
    sql: C,
    registry: Arc<Registry>,
    budget: Arc<Budget>,
}

impl<C: Connect + Clone> Listener<C> {
    /// A listener whose sessions come from `sql`.
    pub fn new(sql: C, registry: Arc<Registry>, budget: Arc<Budget>) -> Listener<C> {
        Listener { sql, registry, budget }
    }

    /// Accepts until `stop`, then ends the connections: sessions outside a transaction at once, the
    /// others within `drain`.
    pub async fn serve(self, listener: TcpListener, stop: oneshot::Receiver<Duration>) {
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        let drain = loop {
            tokio::select! {
                biased;
                drain = &mut stop => break drain.unwrap_or_default(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(self.connection(stream, peer));
                    }
                    // Out of file descriptors, mostly: those in use will come free.
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        };
        drop(listener);
        self.registry.enter(Phase::Draining);
        if timeout(drain, all(&mut connections)).await.is_ok() {
            return;
        }
        tracing::info!(sessions = self.registry.count(), "ending transactions that are still open");
        self.registry.enter(Phase::Killed);
        if timeout(KILL_TIMEOUT, all(&mut connections)).await.is_err() {
            tracing::warn!(sessions = self.registry.count(), "sessions did not end in time: dropped");
        }
    }

    fn connection(&self, stream: TcpStream, peer: SocketAddr) -> impl Future<Output = ()> + Send + use<C> {
        let (sql, registry, budget) =
            (self.sql.clone(), Arc::clone(&self.registry), Arc::clone(&self.budget));
        async move {
            if let Err(error) = tune(&stream) {
                tracing::debug!(%error, "cannot set socket options");
            }
            let mut stream = stream;
            // PostgreSQL shows a local peer's port too, but not in pg_stat_activity's address.
            let address = peer.ip().to_string();
            let greeting = match timeout(STARTUP_TIMEOUT, startup::greet(&mut stream, &address)).await {
                Ok(Ok(greeting)) => greeting,
                Ok(Err(error)) => return refuse(stream, &error).await,
                Err(_) => return tracing::debug!(%peer, "no startup message in time"),
            };
            let hello = match greeting {
                Greeting::Session(hello) => hello,
                Greeting::Cancel { id, secret } => return registry.cancel(id, &secret),
                Greeting::Nothing => return,
            };
            let registration = match registry.register() {
                Ok(registration) => registration,
                Err(error) => return refuse(stream, &error).await,
            };
            let handle = registration.handle();
            let session = match sql.connect(handle.id(), ClientInfo::clone(&hello.client)) {
                Ok(session) => session,
                Err(error) => return refuse(stream, &error).await,
            };
            let (read, write) = stream.into_split();
            let mut output = Output::new(write, Arc::clone(handle));
            startup::welcome(&mut output, &hello, handle, session.reported_settings(), session.status());
            let mut connection =
                Connection::new(session, Reader::new(read, budget), output, Arc::clone(handle));
            // A broken assertion in one session must not take the others along.
            let ending = AssertUnwindSafe(connection.serve()).catch_unwind().await;
            let Connection { mut session, mut output, reader, .. } = connection;
            let ending = match ending {
                Ok(ending) => ending,
                Err(_) => {
                    tracing::error!(session = handle.id(), "a session panicked: its connection ends");
                    // The last message may be half written.
                    output.clear();
                    // The session is told that it ends, as far as it still can listen.
                    let close = AssertUnwindSafe(session.close()).catch_unwind();
                    let _ = timeout(FAREWELL_TIMEOUT, close).await;
                    Ending::Fatal(SqlError::new(
                        SqlState::INTERNAL,
                        "internal error: this session has failed",
                    ))
                }
            };
            // After a panic, even dropping a session may fail.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(session)));
            if let Ending::Fatal(error) = ending {
                output.error("FATAL", &error, "");
            }
            let _ = timeout(FAREWELL_TIMEOUT, async {
                let _ = output.send().await;
                output.shutdown().await;
            })
            .await;
            drop(reader);
            drop(registration);
        }
    }
}

/// Waits until all connections have ended.
async fn all(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Answers a client that gets no session.
async fn refuse(mut stream: TcpStream, error: &SqlError) {
    let message = output::fatal(error);
    let _ = timeout(FAREWELL_TIMEOUT, async {
        stream.write_all(&message).await?;
        stream.shutdown().await?;
        // Closing with unread input would reset the connection, and the answer might be lost.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

/// Small answers go out at once, and a peer that vanished without a word is found out.
fn tune(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}
