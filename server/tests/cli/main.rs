//! The command line: what a person sees when something is wrong, and `cairn debug`.

mod cairn;
#[path = "../node/process.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod process;
mod store;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use cairn::{free_port, run};
use cairn_kv::engine::{Cf, Engine, RocksEngine, RocksOptions, WriteBatch};
use cairn_kv::local_keys;
use cairn_kv::version::HEADER_LEN;
use cairn_server::store_directory::StoreDirectory;

/// The binary.
fn cairn() -> &'static str {
    env!("CARGO_BIN_EXE_cairn")
}

/// Starts a node that must refuse; returns its only line.
fn refused(args: &[&str]) -> String {
    let (success, stdout, stderr) = run(&[&["start"], args].concat());
    assert!(!success && stdout.is_empty(), "{stdout}{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one sentence, no backtrace: {stderr}");
    stderr.trim_end().to_owned()
}

#[test]
fn a_port_in_use_is_named() {
    let root = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let store = root.path().join("s");
    let line = refused(&["--store", store.to_str().unwrap(), "--sql-addr", &address]);
    assert_eq!(line, format!("cairn: cannot listen for SQL on {address}: address already in use"));
    assert!(!store.exists(), "nothing was created");
}

#[test]
fn a_locked_a_strange_and_a_newer_directory_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s");
    let store = path.to_str().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let args = ["--store", store, "--sql-addr", &address, "--http-addr", "none"];
    let locked = StoreDirectory::open_or_create(&path).unwrap();
    let me = std::process::id();
    assert_eq!(refused(&args), format!("cairn: the store in {store} is in use by process {me}"));
    drop(locked);

    fs::write(path.join("FORMAT"), "format = 7\ncreated_by = \"9.0\"\n").unwrap();
    let line = refused(&args);
    assert!(line.contains("has format 7") && line.ends_with("use a newer cairn"), "{line}");
    fs::remove_dir_all(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("letter.txt"), "dear").unwrap();
    assert!(refused(&args).contains("is not empty and not a Cairn store"));
    fs::remove_file(path.join("letter.txt")).unwrap();
    fs::write(root.path().join("file"), "").unwrap();
    let below_a_file = root.path().join("file/s");
    let line =
        refused(&["--store", below_a_file.to_str().unwrap(), "--sql-addr", &address, "--http-addr", "none"]);
    assert!(line.contains("cannot create the store directory"), "{line}");
}

#[test]
fn a_node_serves_and_ends_though_its_log_cannot_be_written() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("s");
    let port = free_port().to_string();
    let address = format!("127.0.0.1:{port}");
    let args = ["start", "--store", store.to_str().unwrap(), "--sql-addr", &address, "--http-addr", "none"];
    let mut command = cairn::cairn(&[&args[..], &["--log-level", "debug"]].concat());
    // Where every write fails as on a full disk.
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(full()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("connect ")), "the node starts");
    let psql = ["-X", "-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-c", "SELECT 1"];
    assert!(Command::new("psql").args(psql).output().unwrap().status.success());
    // A second one has something to say.
    let status = cairn::cairn(&args).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = cairn::wait(child);
    assert!(output.status.success(), "{}", output.status);
}

#[test]
fn strangers_are_not_let_in_by_accident() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("s");
    let line = refused(&["--store", store.to_str().unwrap(), "--sql-addr", "0.0.0.0:0"]);
    assert!(line.contains("--sql-addr 0.0.0.0:0 would let anyone") && line.contains("--insecure"), "{line}");
    let line = refused(&["--store", store.to_str().unwrap(), "--sql-addr", "nonsense"]);
    assert_eq!(line, "cairn: --sql-addr nonsense is not an address: HOST:PORT is expected");
    let address = format!("127.0.0.1:{}", free_port());
    let common =
        ["--store", store.to_str().unwrap(), "--sql-addr", &address, "--http-addr", "none", "--insecure"];
    let line = refused(&[&common[..], &["--rpc-addr", "0.0.0.0:0"]].concat());
    assert!(line.contains("say --advertise-addr too"), "{line}");
}

#[test]
fn a_command_for_a_node_says_when_there_is_none() {
    let host = format!("127.0.0.1:{}", free_port());
    let (success, stdout, stderr) = run(&["node", "status", "--host", &host]);
    assert!(!success && stdout.is_empty());
    assert!(stderr.starts_with(&format!("cairn: {host}: ")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_configuration_file_comes_after_environment_and_flags() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("cairn.toml");
    fs::write(&file, "sql-addr = \"from-file\"\n").unwrap();
    let start = |environment: Option<&str>, flags: &[&str]| {
        let mut command = cairn::cairn(&["start", "--config", file.to_str().unwrap()]);
        command.args(flags).envs(environment.map(|value| ("CAIRN_SQL_ADDR", value)));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert!(start(None, &[]).contains("--sql-addr from-file is"));
    assert!(start(Some("from-environment"), &[]).contains("--sql-addr from-environment is"));
    assert!(
        start(Some("from-environment"), &["--sql-addr", "from-flag"]).contains("--sql-addr from-flag is")
    );
    fs::write(&file, "sql-adr = \"x\"\n").unwrap();
    assert!(start(None, &[]).contains("line 1: unknown field `sql-adr`"));
}

#[test]
fn help_and_version_are_readable() {
    let (success, stdout, _) = run(&["start", "--help"]);
    assert!(success);
    for flag in [
        "--store",
        "--sql-addr",
        "--rpc-addr",
        "--join",
        "--http-addr",
        "--insecure",
        "--log-level",
        "--config",
    ] {
        assert!(stdout.contains(flag), "{flag}");
    }
    assert!(stdout.contains("CAIRN_SQL_ADDR") && stdout.contains("CAIRN_JOIN"));
    let (success, stdout, _) = run(&["version"]);
    assert!(success);
    assert_eq!(stdout, format!("cairn {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn debug_refuses_what_is_no_store() {
    let root = tempfile::tempdir().unwrap();
    for command in ["log", "keys", "check"] {
        let (success, stdout, stderr) = run(&["debug", command, root.path().to_str().unwrap()]);
        assert!(!success && stdout.is_empty());
        assert!(stderr.contains("is not a Cairn store"), "{stderr}");
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "nothing was created");
}

/// `cairn debug` with a store: whether all is well, and what it printed.
fn debug(args: &[&str], store: &Path) -> (bool, String) {
    let (success, stdout, stderr) = run(&[&["debug"], args, &[store.to_str().unwrap()]].concat());
    (success, stdout + &stderr)
}

/// Every file below a directory, with its contents.
fn snapshot(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Flips a bit; doing it again undoes it.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn debug_shows_a_store_and_changes_nothing() {
    for clean in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("s");
        store::write(&path, &["apple", "pear"], clean);
        let before = snapshot(&path);
        let (success, text) = debug(&["check"], &path);
        assert!(success && text.contains("log ") && text.contains("data "), "{text}");
        let (success, text) = debug(&["log"], &path);
        assert!(success && text.contains("checkpoint") && text.contains("ends in "), "{text}");
        let (success, text) = debug(&["keys"], &path);
        assert!(success, "{text}");
        // What a killed node had not flushed is in its log only.
        let flushed = text.contains("data  \"apple\"") && text.contains("history  \"pear\"");
        assert!(flushed || !clean, "{text}");
        let (success, text) = debug(&["keys", "--family", "data", "--limit", "1"], &path);
        assert!(success && text.lines().count() <= 1, "{text}");
        let (success, text) = debug(&["keys", "--family", "rows"], &path);
        assert!(!success && text.contains("there is no family rows"), "{text}");
        assert!(snapshot(&path) == before, "a file has changed");
    }
}

#[test]
fn check_names_the_table_file_and_family_of_a_flipped_bit() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s");
    store::write(&path, &["apple", "pear", "plum"], true);
    let tables: Vec<(PathBuf, Vec<u8>)> = snapshot(&path.join("data"))
        .into_iter()
        .filter(|(file, _)| file.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    let named = tables.iter().find(|(_, bytes)| bytes.windows(5).any(|window| window == b"apple"));
    let (file, bytes) = named.expect("the value is in a table file");
    let at = bytes.windows(5).position(|window| window == b"apple").unwrap();
    flip(file, at);
    let (success, text) = debug(&["check"], &path);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(!success && text.contains("PROBLEM") && text.contains(name), "{text}");
    assert!(text.contains("data") || text.contains("history"), "the family is named: {text}");
    assert!(text.contains("has a problem"), "{text}");
    flip(file, at);
    assert!(debug(&["check"], &path).0);
}

#[test]
fn check_names_the_log_file_of_a_flipped_bit_and_the_node_refuses_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s");
    store::write(&path, &["apple", "pear", "plum"], false);
    let logs = snapshot(&path.join("log"));
    let (file, at) = logs
        .iter()
        .find_map(|(file, bytes)| Some((file, bytes.windows(5).position(|window| window == b"apple")?)))
        .expect("the value is in the log");
    flip(file, at);
    let (success, text) = debug(&["check"], &path);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(!success && text.contains("PROBLEM") && text.contains(name), "{text}");
    let address = format!("127.0.0.1:{}", free_port());
    let line = refused(&["--store", path.to_str().unwrap(), "--sql-addr", &address, "--http-addr", "none"]);
    assert!(line.contains("is damaged") && line.contains(name) && line.contains("offset"), "{line}");
    flip(file, at);
    assert!(debug(&["check"], &path).0);
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn halves_of_different_stores_are_named() {
    let root = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| root.path().join(name));
    store::write(&one, &["apple"], true);
    store::write(&other, &["pear", "plum", "cherry"], true);
    let address = format!("127.0.0.1:{}", free_port());
    for (log, data) in [(&one, &other), (&other, &one)] {
        let mixed = root.path().join("mixed");
        copy(log, &mixed);
        fs::remove_dir_all(mixed.join("data")).unwrap();
        copy(&data.join("data"), &mixed.join("data"));
        let before = snapshot(&mixed.join("log"));
        let line =
            refused(&["--store", mixed.to_str().unwrap(), "--sql-addr", &address, "--http-addr", "none"]);
        assert!(line.contains("does not belong together: the log is that of store 1 of cluster "), "{line}");
        assert!(line.contains(", the engine that of store 1 of cluster "), "{line}");
        assert!(snapshot(&mixed.join("log")) == before, "the log has changed");
        let (success, text) = debug(&["check"], &mixed);
        assert!(!success && text.contains("the log is that of store 1 of cluster "), "{text}");
        fs::remove_dir_all(&mixed).unwrap();
    }
}

#[test]
fn a_store_with_a_newer_format_inside_is_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s");
    store::write(&path, &["apple"], true);
    let address = format!("127.0.0.1:{}", free_port());
    let refused = || {
        let line =
            refused(&["--store", path.to_str().unwrap(), "--sql-addr", &address, "--http-addr", "none"]);
        let told = "and this cairn knows formats up to 1: use a newer cairn";
        assert!(line.contains("has format ") && line.ends_with(told), "{line}");
        let (success, text) = debug(&["check"], &path);
        assert!(!success && text.contains("use a newer cairn"), "{text}");
    };

    // In the engine: its format, whose it is, what it has applied; by the place of the version.
    let values = [
        (Bytes::from_static(local_keys::STORE_FORMAT_KEY), 3),
        (local_keys::ident(), 1),
        (local_keys::range_state(1), 1),
    ];
    let before = root.path().join("before");
    copy(&path, &before);
    for (key, version_at) in values {
        let engine = RocksEngine::open(&path.join("data"), &RocksOptions::default()).unwrap();
        let mut value = Vec::new();
        assert!(engine.get(Cf::Local, &key, &mut value).unwrap(), "{key:?}");
        assert_eq!(std::mem::replace(&mut value[version_at], 7), 1, "{key:?}");
        let mut batch = WriteBatch::default();
        batch.put(Cf::Local, key, value);
        engine.write(&batch).unwrap();
        engine.flush().unwrap();
        drop(engine);
        refused();
        fs::remove_dir_all(&path).unwrap();
        copy(&before, &path);
    }

    // The log: the first block of a segment.
    let (file, mut bytes) = snapshot(&path.join("log"))
        .into_iter()
        .find(|(file, _)| !file.to_str().unwrap().contains("spare"))
        .expect("the log has a segment");
    bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..12]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    fs::write(file, bytes).unwrap();
    refused();
}

/// A key of `data` with its stored value.
type Entry = (Vec<u8>, Vec<u8>);

/// The entries of `data` whose keys have a text in them.
fn entries(engine: &RocksEngine, text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut iter = engine.iter(Cf::Data, &[0x10], &[0x11]).unwrap();
    iter.seek_to_first();
    while iter.valid() {
        if iter.key().windows(text.len()).any(|window| window == text.as_bytes()) {
            found.push((iter.key().to_vec(), iter.value().to_vec()));
        }
        iter.next();
    }
    found
}

#[test]
fn check_names_orphaned_index_entries() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s");
    let node = process::Node::start(&path, &[]);
    let tables = "CREATE TABLE fruit (name text PRIMARY KEY, color text UNIQUE, n int); \
                  CREATE INDEX fruit_n ON fruit (n, color); \
                  CREATE TABLE heap (word text); CREATE INDEX heap_word ON heap (word); \
                  INSERT INTO fruit VALUES ('apple', 'red', 1), ('pear', 'green', 2), ('plum', NULL, NULL); \
                  INSERT INTO heap VALUES ('walnut'), ('walnut')";
    let output = Command::new("psql")
        .args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-p", &node.port.to_string(), "-c", tables])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    node.stop();
    let (success, text) = debug(&["check"], &path);
    assert!(success && text.contains("table    fruit: 3 rows, 6 index entries"), "{text}");
    assert!(text.contains("table    heap: 2 rows, 2 index entries"), "{text}");

    // Keys with these words: in fruit a row, a unique entry and two plain ones; in heap two entries.
    let engine = RocksEngine::open(&path.join("data"), &RocksOptions::default()).unwrap();
    let [row] = &entries(&engine, "apple")
        .into_iter()
        .filter(|(_, value)| value.len() > HEADER_LEN)
        .collect::<Vec<_>>()[..]
    else {
        panic!("one row has apple as its key")
    };
    let red = entries(&engine, "red");
    let unique = red.iter().find(|(key, _)| !key.windows(5).any(|w| w == b"apple")).unwrap().clone();
    let plain = red.iter().find(|(key, _)| key.windows(5).any(|w| w == b"apple")).unwrap().clone();
    let heap = entries(&engine, "walnut")[0].clone();
    let row = row.clone();
    drop(engine);

    let removed: [(&Entry, &[&str]); 4] = [
        (&unique, &["index fruit_color_key of table fruit is missing"]),
        (&plain, &["index fruit_n of table fruit is missing"]),
        (&heap, &["index heap_word of table heap is missing"]),
        (
            &row,
            &[
                "index fruit_color_key of table fruit: an entry without its row",
                "index fruit_n of table fruit: an entry without its row",
            ],
        ),
    ];
    for ((key, value), problems) in removed {
        let change = |value: Option<&[u8]>| {
            let engine = RocksEngine::open(&path.join("data"), &RocksOptions::default()).unwrap();
            let mut batch = WriteBatch::default();
            match value {
                Some(value) => batch.put(Cf::Data, key.clone(), value.to_vec()),
                None => batch.delete(Cf::Data, key.clone()),
            }
            engine.write(&batch).unwrap();
            engine.flush().unwrap();
        };
        change(None);
        let (success, text) = debug(&["check"], &path);
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with("PROBLEM")).collect();
        assert!(!success && found.len() == problems.len(), "{problems:?}: {text}");
        for (found, problem) in found.iter().zip(problems) {
            assert!(found.contains("family data, key ") && found.contains(problem), "{problem}: {text}");
        }
        change(Some(value));
        assert!(debug(&["check"], &path).0);
    }
    // A row whose column is not what its entries say.
    let engine = RocksEngine::open(&path.join("data"), &RocksOptions::default()).unwrap();
    let mut changed = row.1.clone();
    let at = changed.windows(3).position(|window| window == b"red").unwrap();
    changed[at] = b'b';
    let mut batch = WriteBatch::default();
    batch.put(Cf::Data, row.0.clone(), changed);
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let (success, text) = debug(&["check"], &path);
    assert!(!success && text.matches("PROBLEM").count() == 4, "{text}");
    assert_eq!(text.matches("an entry that its row does not have").count(), 2, "{text}");
}
