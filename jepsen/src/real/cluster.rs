//! The processes of a cluster: started, killed, stopped for a while, drained, and given orders.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use cairn_kv::seam::NodeId;
use cairn_server::cluster::admin;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::NoTls;

use super::fault::Plant;
use super::order::{Order, Status};

/// A node that does not answer an order within this is stopped or dead.
const ANSWER: Duration = Duration::from_millis(250);

/// Within this a node serves SQL after its start.
pub const RECOVERY: Duration = Duration::from_secs(30);

/// Within this a node ends after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);

/// Between two looks at another process, which does not say when it has changed.
const LOOK: Duration = Duration::from_millis(10);

/// Where a node is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where SQL clients connect.
    pub sql: SocketAddr,
    /// Where the other nodes connect.
    pub rpc: SocketAddr,
    /// Its store.
    pub store: PathBuf,
    /// What it logs.
    pub log: PathBuf,
}

/// A cluster's processes. All end when it is dropped.
pub struct Cluster {
    nodes: Vec<Node>,
    plant: Option<Plant>,
}

struct Node {
    place: Place,
    process: Option<Process>,
}

/// A node's number in the cluster.
pub fn number(index: usize) -> NodeId {
    index as NodeId + 1
}

/// A node's process.
struct Process {
    child: Child,
    orders: ChildStdin,
    /// What it answers; closed when it has ended.
    answers: mpsc::UnboundedReceiver<String>,
    /// Orders not answered yet: a process that was stopped answers late.
    unanswered: usize,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cluster {
    /// Starts `count` nodes on new stores below `directory`, perhaps with a bug, and waits until they serve SQL and
    /// all vote.
    pub async fn start(count: usize, directory: &Path, plant: Option<Plant>) -> Result<Cluster, String> {
        let mut nodes = Vec::new();
        for number in 1..=count {
            let free = || free_address().map_err(|error| format!("no free port: {error}"));
            let place = Place {
                sql: free()?,
                rpc: free()?,
                store: directory.join(format!("node-{number}")),
                log: directory.join(format!("node-{number}.log")),
            };
            for old in [fs::remove_dir_all(&place.store), fs::remove_file(&place.log)] {
                match old {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(format!("cannot remove an old {}: {error}", place.store.display()));
                    }
                    _ => {}
                }
            }
            nodes.push(Node { place, process: None });
        }
        let mut cluster = Cluster { nodes, plant };
        // One after the other, so that each gets its own number in the cluster.
        for index in 0..count {
            cluster.launch(index)?;
            if index == 0 && count > 1 {
                cluster.init().await?;
            }
            cluster.wait_until_serving(index).await?;
        }
        let deadline = Instant::now() + RECOVERY;
        loop {
            let statuses = cluster.statuses().await;
            let is_complete = |(index, status): (usize, &Option<Status>)| {
                status.is_some_and(|status| status.node == number(index) && status.voters == count)
            };
            if statuses.iter().enumerate().all(is_complete) {
                return Ok(cluster);
            }
            if Instant::now() > deadline {
                return Err(format!("not all nodes vote under the numbers expected: {statuses:?}"));
            }
            sleep(LOOK).await;
        }
    }

    /// Has the first node found a cluster.
    async fn init(&self) -> Result<(), String> {
        let address = self.nodes[0].place.rpc.to_string();
        let deadline = Instant::now() + RECOVERY;
        loop {
            match admin::init(&address).await {
                Ok(_) => return Ok(()),
                Err(status) if admin::is_temporary(&status) && Instant::now() < deadline => sleep(LOOK).await,
                Err(status) => return Err(format!("no cluster is founded: {}", status.message())),
            }
        }
    }

    /// Where the nodes are.
    pub fn places(&self) -> Vec<Place> {
        self.nodes.iter().map(|node| node.place.clone()).collect()
    }

    /// Starts a node's process.
    pub fn launch(&mut self, index: usize) -> Result<(), String> {
        let is_cluster = self.nodes.len() > 1;
        // Those that run already. The first, which founds the cluster, must not wait for the others.
        let known: Vec<String> = self.nodes[..=index].iter().map(|node| node.place.rpc.to_string()).collect();
        let node = &mut self.nodes[index];
        let failed = |error: io::Error| format!("cannot start node {}: {error}", index + 1);
        let log = OpenOptions::new().create(true).append(true).open(&node.place.log).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("node").arg("--store").arg(&node.place.store);
        command.args(["--sql-addr", &node.place.sql.to_string(), "--rpc-addr", &node.place.rpc.to_string()]);
        if is_cluster {
            command.args(["--join", &known.join(",")]);
        }
        if let Some(plant) = self.plant {
            command.args(["--fault", &plant.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(failed)?;
        let orders = child.stdin.take().expect("it is piped");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (answer, answers) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in lines.map_while(io::Result::ok) {
                if answer.send(line).is_err() {
                    break;
                }
            }
        });
        node.process = Some(Process { child, orders, answers, unanswered: 0 });
        Ok(())
    }

    /// Waits until a node answers a query.
    pub async fn wait_until_serving(&mut self, index: usize) -> Result<(), String> {
        let address = self.nodes[index].place.sql;
        let deadline = Instant::now() + RECOVERY;
        loop {
            let outcome = timeout(Duration::from_secs(1), select_one(address)).await;
            let why = match outcome {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".into(),
            };
            if let Some(status) = self.exited(index) {
                return Err(format!("node {} has ended ({status}): {}", index + 1, self.last_words(index)));
            }
            if Instant::now() > deadline {
                return Err(format!("node {} does not serve after {RECOVERY:?}: {why}", index + 1));
            }
            sleep(LOOK).await;
        }
    }

    /// Gives a node an order, and waits until it is obeyed.
    pub async fn order(&mut self, index: usize, order: Order) -> Result<(), String> {
        match self.ask(index, order).await {
            Some(answer) if answer == "ok" => Ok(()),
            answer => Err(format!("node {} answers {answer:?} to \"{order}\"", index + 1)),
        }
    }

    /// What the nodes say of themselves; nothing from those that are stopped or dead.
    pub async fn statuses(&mut self) -> Vec<Option<Status>> {
        let mut statuses = Vec::new();
        for index in 0..self.nodes.len() {
            statuses.push(self.ask(index, Order::Status).await.and_then(|answer| answer.parse().ok()));
        }
        statuses
    }

    /// The node that has the lease, as far as it knows.
    pub async fn leaseholder(&mut self) -> Option<usize> {
        self.statuses().await.iter().position(|status| status.is_some_and(|status| status.has_lease))
    }

    async fn ask(&mut self, index: usize, order: Order) -> Option<String> {
        let process = self.nodes[index].process.as_mut()?;
        writeln!(process.orders, "{order}").ok()?;
        process.unanswered += 1;
        let deadline = Instant::now() + ANSWER;
        loop {
            let answer = timeout_at(deadline, process.answers.recv()).await.ok().flatten()?;
            process.unanswered -= 1;
            if process.unanswered == 0 {
                return Some(answer);
            }
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].process = None;
    }

    /// SIGSTOP.
    pub fn pause(&self, index: usize) -> Result<(), String> {
        self.signal(index, Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self, index: usize) -> Result<(), String> {
        self.signal(index, Signal::CONT)
    }

    /// SIGTERM, and waits for the end, which must be a good one.
    pub async fn drain(&mut self, index: usize) -> Result<(), String> {
        self.signal(index, Signal::TERM)?;
        let deadline = Instant::now() + DRAIN;
        let status = loop {
            if let Some(status) = self.exited(index) {
                break status;
            }
            if Instant::now() > deadline {
                return Err(format!("node {} does not end within {DRAIN:?} of SIGTERM", index + 1));
            }
            sleep(LOOK).await;
        };
        self.nodes[index].process = None;
        if status.success() {
            return Ok(());
        }
        Err(format!("node {} ended with {status} after SIGTERM: {}", index + 1, self.last_words(index)))
    }

    /// How a node's process ended, if it has by itself.
    pub fn exited(&mut self, index: usize) -> Option<ExitStatus> {
        let process = self.nodes[index].process.as_mut()?;
        process.child.try_wait().expect("it is our child")
    }

    /// Whether a node's process was started and has not been killed.
    pub fn is_running(&self, index: usize) -> bool {
        self.nodes[index].process.is_some()
    }

    /// The end of a node's log.
    pub fn last_words(&self, index: usize) -> String {
        let text = fs::read_to_string(&self.nodes[index].place.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    fn signal(&self, index: usize, signal: Signal) -> Result<(), String> {
        let Some(process) = &self.nodes[index].process else {
            return Err(format!("node {} does not run", index + 1));
        };
        let id = Pid::from_child(&process.child);
        kill_process(id, signal).map_err(|error| format!("cannot signal node {}: {error}", index + 1))
    }
}

async fn select_one(address: SocketAddr) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = connect(address).await?;
    let connection = tokio::spawn(connection);
    let answer = client.simple_query("SELECT 1").await;
    connection.abort();
    answer.map(|_| ())
}

/// Opens a connection; its second half has to be run.
pub async fn connect(
    address: SocketAddr,
) -> Result<
    (tokio_postgres::Client, impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static),
    tokio_postgres::Error,
> {
    let mut config = tokio_postgres::Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("postgres");
    config.connect(NoTls).await
}

/// An address that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
