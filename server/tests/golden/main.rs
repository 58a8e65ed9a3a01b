//! SQL scripts against a whole node, with PostgreSQL 15 as the judge.
//!
//! `scripts/sql/NAME.sql` holds statements, `NAME.out` their answers as PostgreSQL gives them:
//! columns with their types, rows, command tags, errors with SQLSTATE, details and position, and the
//! state of the transaction. A node must answer alike in the simple and in the extended protocol.
//! Where PostgreSQL 15 is installed, the recorded answers are compared with it too.
//!
//! A difference needs a mark with its reason in front of its statement ([`script`] lists them);
//! then both answers are recorded, and an answer that no longer differs is an error.
//!
//! `CAIRN_RECORD=1 cargo nextest run --workspace -E 'binary(golden)'` writes the answers anew, from
//! PostgreSQL and, where a mark allows it, from the node. Read the diff as carefully as code.

#[path = "../wire/fields.rs"]
mod fields;
mod fixture;
mod postgresql;
#[path = "../node/process.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod process;
mod script;
mod session;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use postgresql::PostgreSql;
use process::Node;
use script::{Mark, Script};
use session::{Protocol, Session};

/// The binary.
fn cairn() -> &'static str {
    env!("CARGO_BIN_EXE_cairn")
}

fn scripts() -> Vec<PathBuf> {
    let files = fs::read_dir("tests/scripts/sql").unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "sql")).collect();
    // CAIRN_SCRIPT=name runs one.
    if let Ok(only) = env::var("CAIRN_SCRIPT") {
        files.retain(|path| path.file_stem().is_some_and(|stem| stem.to_string_lossy() == only));
    }
    files.sort();
    assert!(!files.is_empty(), "there are scripts");
    files
}

/// The answers of a server to a script, one for each statement.
fn answers(script: &Script, address: SocketAddr, protocol: Protocol, is_cairn: bool) -> Vec<String> {
    let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
    let answer = |statement: &script::Statement| {
        if matches!(statement.mark, Some(Mark::CairnOnly(_))) && !is_cairn {
            return String::new();
        }
        let session = sessions.entry(statement.session.clone());
        let session = session.or_insert_with(|| Session::connect(address, "postgres"));
        session.run(statement, protocol)
    };
    script.statements.iter().map(answer).collect()
}

/// Leaves a node as it was created, for the next script.
fn clear(address: SocketAddr) {
    let mut session = Session::connect(address, "postgres");
    for (kind, catalog) in [("TABLE", "pg_tables"), ("SEQUENCE", "pg_sequences")] {
        let column = if kind == "TABLE" { "tablename" } else { "sequencename" };
        let names = session.query(&format!("SELECT {column} FROM {catalog} WHERE schemaname = 'public'"));
        let names: Vec<&str> = names.lines().skip(1).collect();
        for name in &names[..names.len() - 1] {
            let dropped = session.query(&format!("DROP {kind} IF EXISTS \"{name}\" CASCADE"));
            assert!(dropped.contains(&format!("DROP {kind}")), "{dropped}");
        }
    }
}

/// A file's text with the answers put in.
fn render(script: &Script, postgresql: &[String], cairn: &[String]) -> String {
    let mut text = String::new();
    for (i, statement) in script.statements.iter().enumerate() {
        text += &statement.source;
        match &statement.mark {
            None => text += &postgresql[i],
            Some(Mark::CairnOnly(reason)) => text += &format!("[Cairn only: {reason}]\n{}", cairn[i]),
            Some(Mark::Differs(reason)) => {
                text += &format!("[PostgreSQL]\n{}[Cairn: {reason}]\n{}", postgresql[i], cairn[i]);
            }
        }
        text.push('\n');
    }
    text
}

/// The recorded answers as PostgreSQL's and Cairn's, by statement.
fn recorded(script: &Script, path: &Path) -> (Vec<String>, Vec<String>) {
    let text = fs::read_to_string(path.with_extension("out")).unwrap_or_default();
    let mut rest = text.as_str();
    let (mut postgresql, mut cairn) = (Vec::new(), Vec::new());
    let stale =
        || -> ! { panic!("{} is not of this script: record it anew", path.with_extension("out").display()) };
    for (i, statement) in script.statements.iter().enumerate() {
        let Some(after) = rest.strip_prefix(statement.source.as_str()) else { stale() };
        let next = script.statements.get(i + 1).map(|next| format!("\n{}", next.source));
        let end = next.map_or(after.len() - 1, |next| after.find(&next).unwrap_or_else(|| stale()));
        let answer = &after[..end];
        rest = &after[end + 1..];
        match &statement.mark {
            None => {
                postgresql.push(answer.to_owned());
                cairn.push(answer.to_owned());
            }
            Some(mark) => {
                let title = match mark {
                    Mark::CairnOnly(reason) => format!("[Cairn only: {reason}]\n"),
                    Mark::Differs(reason) => format!("[Cairn: {reason}]\n"),
                };
                let Some((before, behind)) = answer.split_once(&title) else { stale() };
                postgresql.push(before.strip_prefix("[PostgreSQL]\n").unwrap_or(before).to_owned());
                cairn.push(behind.to_owned());
            }
        }
    }
    (postgresql, cairn)
}

/// Adds to `report` where `found` is not what was recorded.
fn compare(
    script: &Script,
    path: &Path,
    who: &str,
    expected: &[String],
    found: &[String],
    report: &mut String,
) {
    for ((statement, expected), found) in script.statements.iter().zip(expected).zip(found) {
        if expected != found {
            let name = path.file_name().unwrap().to_string_lossy();
            *report += &format!(
                "\n{name}:{} {who}\n{}--- recorded\n{expected}--- found\n{found}",
                statement.line, statement.source
            );
        }
    }
}

/// Runs all scripts against a node and compares.
fn check_node(protocol: Protocol, who: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let address: SocketAddr = ([127, 0, 0, 1], node.port).into();
    let mut report = String::new();
    for path in scripts() {
        let script = Script::parse(&fs::read_to_string(&path).unwrap());
        let (postgresql, expected) = recorded(&script, &path);
        for (i, statement) in script.statements.iter().enumerate() {
            if matches!(statement.mark, Some(Mark::Differs(_))) && postgresql[i] == expected[i] {
                report += &format!("\n{}:{} no longer differs\n", path.display(), statement.line);
            }
        }
        let found = answers(&script, address, protocol, true);
        compare(&script, &path, who, &expected, &found, &mut report);
        clear(address);
    }
    node.stop();
    assert!(report.is_empty(), "{report}");
}

#[test]
fn a_node_answers_as_recorded_in_the_simple_protocol() {
    if env::var_os("CAIRN_RECORD").is_none() {
        check_node(Protocol::Simple, "Cairn, simple protocol");
    }
}

#[test]
fn a_node_answers_as_recorded_in_the_extended_protocol() {
    if env::var_os("CAIRN_RECORD").is_none() {
        check_node(Protocol::Extended, "Cairn, extended protocol");
    }
}

/// Compares the record with PostgreSQL, or writes it.
#[test]
fn postgresql_answers_as_recorded() {
    let record = env::var_os("CAIRN_RECORD").is_some();
    let Some(server) = PostgreSql::start() else {
        assert!(!record, "recording needs PostgreSQL 15");
        eprintln!("SKIPPED: PostgreSQL 15 is not installed");
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let node = record.then(|| Node::start(root.path(), &[]));
    let mut report = String::new();
    for path in scripts() {
        let script = Script::parse(&fs::read_to_string(&path).unwrap());
        server.clear();
        let found = answers(&script, server.address(), Protocol::Simple, false);
        if let Some(node) = &node {
            let address: SocketAddr = ([127, 0, 0, 1], node.port).into();
            let cairn = answers(&script, address, Protocol::Simple, true);
            clear(address);
            fs::write(path.with_extension("out"), render(&script, &found, &cairn)).unwrap();
            continue;
        }
        let (expected, _) = recorded(&script, &path);
        compare(&script, &path, "PostgreSQL", &expected, &found, &mut report);
    }
    server.clear();
    fixture::judge(server.address(), record, &mut report);
    assert!(report.is_empty(), "{report}");
}
