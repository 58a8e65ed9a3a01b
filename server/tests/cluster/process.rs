//! A cluster of nodes in child processes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

/// A node in a child process; killed when dropped.
pub struct Node {
    child: Option<Child>,
    pub store: PathBuf,
    pub sql: u16,
    pub rpc: u16,
    /// What it prints.
    lines: mpsc::Receiver<String>,
}

/// Nodes that are started with the same `--join`.
pub struct Cluster {
    pub nodes: Vec<Node>,
}

/// A command line of the binary, with an environment of its own.
pub fn cairn(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAIRN_")) {
        command.env_remove(name);
    }
    command.args(args).env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a command that ends prints, and whether it is content.
pub fn run(args: &[&str]) -> (bool, String, String) {
    let output = cairn(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

impl Node {
    /// Starts a node; it may not serve yet.
    pub fn launch(store: &Path, sql: u16, rpc: u16, join: &[u16]) -> Node {
        let mut node = Node { child: None, store: store.to_owned(), sql, rpc, lines: mpsc::channel().1 };
        node.relaunch(join);
        node
    }

    /// Starts it again, on the same addresses.
    pub fn relaunch(&mut self, join: &[u16]) {
        let mut command = cairn(&["start", "--http-addr", "none", "--store"]);
        command.arg(&self.store);
        command.args(["--sql-addr", &format!("127.0.0.1:{}", self.sql)]);
        command.args(["--rpc-addr", &self.rpc_address()]);
        if !join.is_empty() {
            let addresses: Vec<String> = join.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            command.args(["--join", &addresses.join(",")]);
        }
        // Where a test that fails can be looked into.
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        (self.child, self.lines) = (Some(child), lines);
    }

    fn log_file(&self) -> PathBuf {
        self.store.with_extension("log")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(self.log_file()).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub fn rpc_address(&self) -> String {
        format!("127.0.0.1:{}", self.rpc)
    }

    /// Waits until it says something.
    pub fn says(&self, what: &str) -> String {
        let start = Instant::now();
        let mut said = String::new();
        loop {
            let patience = Duration::from_secs(20).saturating_sub(start.elapsed());
            match self.lines.recv_timeout(patience) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => said += &format!("{line}\n"),
                Err(_) => panic!("a node does not say \"{what}\" but:\n{said}\n{}", self.log()),
            }
        }
    }

    /// Waits until it serves.
    pub fn serves(&self) {
        self.says("connect ");
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; the exit must be a clean one.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        assert!(self.ends(), "{}", self.log());
    }

    /// Waits for its end; whether that is a clean one.
    pub fn ends(&mut self) -> bool {
        let mut child = self.child.take().expect("it runs");
        let start = Instant::now();
        loop {
            match child.try_wait().unwrap() {
                Some(status) => return status.success(),
                None if start.elapsed() > Duration::from_secs(20) => {
                    let _ = child.kill();
                    panic!("a node does not end:\n{}", self.log());
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    pub async fn connect(&self) -> Client {
        connect(self.sql).await.unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.store.display(), self.log());
        }
    }
}

pub async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let config = format!("host=127.0.0.1 port={port} user=postgres");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl Cluster {
    /// Starts `count` nodes that wait for their cluster.
    pub fn launch(root: &Path, count: usize) -> Cluster {
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let rpc: Vec<u16> = ports.iter().map(|(_, rpc)| *rpc).collect();
        let launch = |(at, (sql, port)): (usize, &(u16, u16))| {
            Node::launch(&root.join(format!("n{at}")), *sql, *port, &rpc)
        };
        Cluster { nodes: ports.iter().enumerate().map(launch).collect() }
    }

    /// Starts `count` nodes, initializes their cluster on the first, and waits until all have votes.
    pub fn start(root: &Path, count: usize) -> Cluster {
        let cluster = Cluster::launch(root, count);
        let (success, said, error) = run(&["init", "--host", &cluster.nodes[0].rpc_address()]);
        assert!(success && said.contains("is initialized"), "{said}{error}");
        cluster.nodes.iter().for_each(Node::serves);
        cluster.until(|rows| rows.iter().filter(|row| row.replica == "voter").count() == count.min(3));
        cluster
    }

    /// `cairn node status`, of the first node that runs.
    pub fn status(&self) -> Vec<Row> {
        let node = self.nodes.iter().find(|node| node.child.is_some()).expect("one runs");
        let (success, table, error) = run(&["node", "status", "--host", &node.rpc_address()]);
        assert!(success, "{error}");
        table.lines().skip(1).map(Row::parse).collect()
    }

    /// Waits until the status is as wanted.
    pub fn until(&self, wanted: impl Fn(&[Row]) -> bool) {
        let start = Instant::now();
        loop {
            let rows = self.status();
            if wanted(&rows) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{rows:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Which of `nodes` has the lease.
    pub fn leader(&self) -> usize {
        self.until(|rows| rows.iter().filter(|row| row.lease == "yes").count() == 1);
        let rows = self.status();
        let row = rows.iter().find(|row| row.lease == "yes").expect("waited for");
        self.nodes.iter().position(|node| node.rpc_address() == row.address).expect("one of them")
    }
}

/// A line of `cairn node status`.
#[derive(Debug)]
pub struct Row {
    pub node: String,
    pub address: String,
    pub live: String,
    pub lease: String,
    pub replica: String,
    pub behind: String,
}

impl Row {
    fn parse(line: &str) -> Row {
        let mut words = line.split("  ").map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        let (node, address, _, live, lease, replica, behind) =
            (next(), next(), next(), next(), next(), next(), next());
        Row { node, address, live, lease, replica, behind }
    }
}
