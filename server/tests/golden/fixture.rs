//! A store written by an earlier version, which every later one opens.
//!
//! `fixture/store-1.tar.gz` was written by format 1: `write.sql` and a clean stop, then
//! `write_more.sql` and kill -9, so that tables, log and their replay are all in it. It is never
//! written anew: a version that changes a format adds a store of its own, by
//!
//! `CAIRN_FIXTURE=store-2 cargo nextest run --workspace -E 'test(the_fixture_store_opens)'`
//!
//! What is read from them, `read.sql`, is judged by PostgreSQL like any script.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::process::Node;
use crate::script::Script;
use crate::session::Protocol;
use crate::{answers, compare, recorded, render};

fn folder() -> PathBuf {
    PathBuf::from("tests/golden/fixture")
}

fn script(name: &str) -> Script {
    Script::parse(&fs::read_to_string(folder().join(name)).unwrap())
}

/// The answers of PostgreSQL: written down if `record`, else compared with what was.
pub fn judge(address: SocketAddr, record: bool, report: &mut String) {
    for name in ["write.sql", "write_more.sql"] {
        answers(&script(name), address, Protocol::Simple, false);
    }
    let (path, read) = (folder().join("read.sql"), script("read.sql"));
    let found = answers(&read, address, Protocol::Simple, false);
    if record {
        // Nothing in it is marked as different.
        fs::write(path.with_extension("out"), render(&read, &found, &found)).unwrap();
    } else {
        compare(&read, &path, "PostgreSQL", &recorded(&read, &path).0, &found, report);
    }
}

/// Writes a store with this version.
fn write(archive: &Path) {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    for (name, kill) in [("write.sql", false), ("write_more.sql", true)] {
        let node = Node::start(&store, &[]);
        let address = ([127, 0, 0, 1], node.port).into();
        for answer in answers(&script(name), address, Protocol::Simple, true) {
            assert!(!answer.contains("ERROR"), "{answer}");
        }
        if kill { node.kill() } else { node.stop() }
    }
    tar(&["-czf", archive.to_str().unwrap(), "-C", root.path().to_str().unwrap(), "store"]);
}

fn tar(args: &[&str]) {
    let output = Command::new("tar").args(args).output().unwrap();
    assert!(output.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_fixture_store_opens() {
    if let Ok(name) = env::var("CAIRN_FIXTURE") {
        let archive = folder().join(format!("{name}.tar.gz"));
        assert!(!archive.exists(), "{} stays as it is", archive.display());
        write(&archive);
    }
    let archives = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let archives: Vec<PathBuf> =
        archives.filter(|path| path.extension().is_some_and(|extension| extension == "gz")).collect();
    assert!(!archives.is_empty(), "there is a store");
    for archive in archives {
        let root = tempfile::tempdir().unwrap();
        tar(&["-xzf", archive.to_str().unwrap(), "-C", root.path().to_str().unwrap()]);
        let store = root.path().join("store");
        let check = Command::new(super::cairn()).args(["debug", "check"]).arg(&store).output();
        let check = check.unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        let node = Node::start(&store, &[]);
        let address = ([127, 0, 0, 1], node.port).into();
        let (path, read) = (folder().join("read.sql"), script("read.sql"));
        let found = answers(&read, address, Protocol::Extended, true);
        let mut report = String::new();
        let who = format!("Cairn on {}", archive.display());
        compare(&read, &path, &who, &recorded(&read, &path).1, &found, &mut report);
        node.stop();
        assert!(report.is_empty(), "{report}");
    }
}
