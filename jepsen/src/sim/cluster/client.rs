//! A client outside the cluster, connected to a session on one of its nodes.

use std::sync::atomic::Ordering;

use cairn_kv::seam::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::client::{Answer, Client, Failure, Op};
use crate::sim::sql_client::SqlClient;

use super::world::World;

/// What a client asks of its session.
enum Ask {
    CreateTables,
    Begin,
    BeginReadCommitted,
    BeginAsOf(String),
    Past,
    Execute(Op),
    Commit,
    Rollback,
}

/// What it is told.
enum Told {
    Done,
    Past(String),
    Answer(Answer),
}

type Call = (Ask, oneshot::Sender<Result<Told, Failure>>);

/// A connection. It is lost with its node.
pub struct Connection {
    calls: mpsc::UnboundedSender<Call>,
    /// Nothing of what is open takes effect before a commit is asked for.
    in_transaction: bool,
    is_lost: bool,
}

impl Connection {
    /// Connects to a node; `None`: it does not serve.
    pub fn open(world: &World, node: usize) -> Option<Connection> {
        let layers = world.layers(node)?;
        let id = world.sessions.fetch_add(1, Ordering::SeqCst);
        let client = SqlClient::new(&layers.sql, id).ok()?;
        let executor = world.machines[node].env.executor.clone();
        let (calls, asked) = mpsc::unbounded_channel();
        let runtime = executor.runtime();
        let lives = {
            let runtime = runtime.clone();
            // What is answered after the power failed was not answered.
            move || runtime.is_running()
        };
        runtime.spawn("session", Box::pin(serve(client, asked, lives)));
        Some(Connection { calls, in_transaction: false, is_lost: false })
    }

    /// Whether its node has gone.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    async fn ask(&mut self, ask: Ask) -> Result<Told, Failure> {
        let nothing_happened = match &ask {
            Ask::Execute(op) => self.in_transaction || op.is_read(),
            Ask::Commit | Ask::CreateTables => false,
            _ => true,
        };
        let (reply, told) = oneshot::channel();
        let sent = self.calls.send((ask, reply)).is_ok();
        match told.await {
            Ok(told) => told,
            Err(_) => {
                self.is_lost = true;
                let what = String::from("the node has gone");
                Err(if nothing_happened || !sent { Failure::Retry(what) } else { Failure::Unknown(what) })
            }
        }
    }

    async fn done(&mut self, ask: Ask) -> Result<(), Failure> {
        self.ask(ask).await.map(|_| ())
    }
}

/// The session's side.
async fn serve(mut client: SqlClient, mut asked: mpsc::UnboundedReceiver<Call>, lives: impl Fn() -> bool) {
    while let Some((ask, reply)) = asked.recv().await {
        let told = match ask {
            Ask::CreateTables => client.create_tables().await.map(|()| Told::Done),
            Ask::Begin => client.begin().await.map(|()| Told::Done),
            Ask::BeginReadCommitted => client.begin_read_committed().await.map(|()| Told::Done),
            Ask::BeginAsOf(past) => client.begin_as_of(&past).await.map(|()| Told::Done),
            Ask::Past => client.past().await.map(Told::Past),
            Ask::Execute(op) => client.execute(&op).await.map(Told::Answer),
            Ask::Commit => client.commit().await.map(|()| Told::Done),
            Ask::Rollback => {
                client.rollback().await;
                Ok(Told::Done)
            }
        };
        if !lives() {
            return;
        }
        // The client may be gone.
        let _ = reply.send(told);
    }
}

impl Client for Connection {
    async fn create_tables(&mut self) -> Result<(), Failure> {
        self.done(Ask::CreateTables).await
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.in_transaction = true;
        self.done(Ask::Begin).await
    }

    async fn begin_read_committed(&mut self) -> Result<(), Failure> {
        self.in_transaction = true;
        self.done(Ask::BeginReadCommitted).await
    }

    async fn begin_as_of(&mut self, past: &str) -> Result<(), Failure> {
        self.in_transaction = true;
        self.done(Ask::BeginAsOf(past.into())).await
    }

    async fn past(&mut self) -> Result<String, Failure> {
        match self.ask(Ask::Past).await? {
            Told::Past(past) => Ok(past),
            _ => Err(Failure::Broken("another answer than was asked for".into())),
        }
    }

    async fn execute(&mut self, op: &Op) -> Result<Answer, Failure> {
        match self.ask(Ask::Execute(op.clone())).await? {
            Told::Answer(answer) => Ok(answer),
            _ => Err(Failure::Broken("another answer than was asked for".into())),
        }
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        let result = self.done(Ask::Commit).await;
        self.in_transaction = false;
        result
    }

    async fn rollback(&mut self) {
        self.in_transaction = false;
        // It is rolled back with its node, where that has gone.
        let _ = self.done(Ask::Rollback).await;
    }
}
