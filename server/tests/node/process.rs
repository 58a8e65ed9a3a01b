//! A node in a child process. The test that uses this has the path of the binary: `cairn()`.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A node in a child process; killed when dropped.
pub struct Node {
    child: Child,
    pub port: u16,
    /// What it printed when it began to serve.
    pub announcement: String,
}

impl Node {
    /// Starts a node on `store` with further flags.
    pub fn start(store: &Path, flags: &[&str]) -> Node {
        let port = free_port();
        let mut command = Command::new(super::cairn());
        command.arg("start").arg("--store").arg(store);
        command.args(["--sql-addr", &format!("127.0.0.1:{port}")]);
        if !flags.contains(&"--http-addr") {
            command.args(["--http-addr", "none"]);
        }
        if !flags.contains(&"--rpc-addr") {
            command.args(["--rpc-addr", "127.0.0.1:0"]);
        }
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[expect(clippy::zombie_processes, reason = "a Node waits when it is stopped or dropped")]
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut announcement = String::new();
        loop {
            let before = announcement.len();
            lines.read_line(&mut announcement).unwrap();
            if announcement.len() == before {
                let mut error = String::new();
                child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
                panic!("the node did not start: {error}");
            }
            if announcement[before..].contains("connect ") {
                return Node { child, port, announcement };
            }
        }
    }

    /// The most memory it has had at a time, KiB.
    pub fn memory_peak_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a Linux process");
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// SIGTERM; the exit must be a clean one.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if start.elapsed() > Duration::from_secs(20) => panic!("did not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(status.success(), "{log}");
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
