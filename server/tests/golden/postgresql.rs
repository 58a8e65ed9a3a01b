//! A PostgreSQL 15 server of our own, where the machine has one.

use std::io::{Read, Seek};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::free_port;
use crate::session::Session;

const VERSION: &str = "15";

/// A server on a temporary directory; ended and removed when dropped.
pub struct PostgreSql {
    child: Child,
    directory: PathBuf,
    port: u16,
}

impl PostgreSql {
    /// Starts a server, or returns nothing where its programs are not installed.
    pub fn start() -> Option<PostgreSql> {
        let debian = PathBuf::from(format!("/usr/lib/postgresql/{VERSION}/bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let bin = std::env::split_paths(&path).chain([debian]).find(|folder| is_version(folder))?;
        let directory = output(as_user("mktemp").args(["-d", "/tmp/cairn-postgresql-XXXXXX"]));
        let directory = PathBuf::from(directory.trim());
        let data = directory.join("data");
        output(as_user(bin.join("initdb")).arg("-D").arg(&data).args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]));
        let port = free_port();
        let mut log = tempfile::tempfile().unwrap();
        let mut child = as_user(bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"])
            .arg(&directory)
            .args(["-c", "fsync=off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let mut said = String::new();
        while !said.contains("ready to accept connections") {
            log.rewind().unwrap();
            said.clear();
            log.read_to_string(&mut said).unwrap();
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < Duration::from_secs(60), "no PostgreSQL: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(PostgreSql { child, directory, port })
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Leaves an empty database.
    pub fn clear(&self) {
        let mut session = Session::connect(self.address(), "postgres");
        let answer = session.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        assert!(answer.contains("CREATE SCHEMA"), "{answer}");
    }
}

impl Drop for PostgreSql {
    fn drop(&mut self) {
        // The postmaster's own id: `runuser` may stand between.
        if let Ok(file) = std::fs::read_to_string(self.directory.join("data/postmaster.pid"))
            && let Some(id) = file.lines().next()
        {
            let _ = Command::new("kill").args(["-INT", id]).status();
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn is_version(bin: &Path) -> bool {
    let Ok(output) = Command::new(bin.join("postgres")).arg("--version").output() else { return false };
    String::from_utf8_lossy(&output.stdout).contains(&format!("(PostgreSQL) {VERSION}."))
}

/// A command that does not run as root, which PostgreSQL refuses.
fn as_user(program: impl AsRef<Path>) -> Command {
    let mut command;
    if rustix::process::geteuid().is_root() {
        command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program.as_ref());
    } else {
        command = Command::new(program.as_ref());
    }
    command.current_dir("/");
    command
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
