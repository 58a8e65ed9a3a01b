//! The real binary in a child process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A node; killed when dropped.
pub struct Node {
    child: Child,
    pub port: u16,
}

impl Node {
    /// Starts a node and waits until it serves.
    pub fn start(store: &Path) -> Node {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(binary());
        command.arg("start").arg("--store").arg(store).args(["--http-addr", "none"]);
        command.args(["--sql-addr", &format!("127.0.0.1:{port}")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let serves = lines.map_while(Result::ok).any(|line| line.contains("connect "));
        assert!(serves, "the node did not start");
        Node { child, port }
    }

    /// SIGTERM; the exit must be a clean one.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It fails where the node has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cairn`, which a build of the workspace's tests puts beside the directory of this test. A build of
/// this test alone leaves an old one there: that must not be taken for the present one.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).expect("tests lie in deps/").join("cairn");
    let built = path.metadata().and_then(|found| found.modified());
    let built = built.unwrap_or_else(|_| panic!("{} is missing: build the workspace", path.display()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut directories: Vec<PathBuf> =
        ["kv", "raft", "txn", "sql", "server"].map(|name| root.join(name).join("src")).into();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                let source = entry.path();
                let is_older = metadata.modified().unwrap() <= built;
                assert!(is_older, "cairn is older than {}: build the workspace", source.display());
            }
        }
    }
    path
}
