//! What the layout promises: dependencies point one way, and time, chance, threads and files enter
//! through the seams only (R1).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. A crate may use those after it.
const LAYERS: [&str; 6] = ["jepsen", "server", "sql", "txn", "raft", "kv"];

/// As seen from where tests run, their package. A path known at compile time would be another
/// checkout's where two share a target directory.
fn root() -> PathBuf {
    PathBuf::from("..")
}

#[test]
fn dependencies_point_down() {
    let mut wrong = Vec::new();
    for (layer, name) in LAYERS.iter().enumerate() {
        let text = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some(&*format!("cairn-{name}")));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for dependency in dependencies.keys().filter_map(|key| key.strip_prefix("cairn-")) {
                let below = LAYERS.iter().position(|other| *other == dependency).expect("a known crate");
                if below <= layer {
                    wrong.push(format!("{name} depends on {dependency} ({section})"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let workspace: toml::Table = toml::from_str(&text).unwrap();
    let mut members: Vec<&str> =
        workspace["workspace"]["members"].as_array().unwrap().iter().filter_map(|v| v.as_str()).collect();
    members.sort_unstable();
    let mut layers = LAYERS;
    layers.sort_unstable();
    assert_eq!(members, layers, "every crate has its place in the order");
}

/// What only the seams' implementations may use, with the reason.
const FORBIDDEN: &[(&str, &str)] = &[
    ("std::time::Instant", "the monotonic clock: use Clock"),
    ("std::time::SystemTime", "the wall clock: use Clock"),
    ("Instant::now", "the monotonic clock: use Clock"),
    ("SystemTime::now", "the wall clock: use Clock"),
    ("Timestamp::now()", "jiff's wall clock: use Clock"),
    ("Zoned::now()", "jiff's wall clock: use Clock"),
    ("Uuid::new_v4", "entropy: use Rng"),
    ("Uuid::now_v7", "time and entropy: use Clock and Rng"),
    ("std::thread", "threads: use Runtime"),
    ("thread::spawn", "threads: use Runtime"),
    ("thread::sleep", "threads: use Runtime"),
    ("rayon::", "threads: use Runtime"),
    ("tokio::spawn", "tasks: use Runtime"),
    ("tokio::task", "tasks: use Runtime"),
    ("tokio::runtime", "tasks: use Runtime"),
    ("tokio::time", "timers: use Runtime"),
    ("tokio::fs", "files: use Disk"),
    ("tokio::net", "sockets belong to server/"),
    ("tokio::select!", "chooses at random unless biased: use futures' select_biased"),
    ("futures_util::select!", "chooses at random: use select_biased"),
    ("std::fs", "files: use Disk"),
    ("std::net", "sockets belong to server/"),
    ("std::env", "configuration comes from server/"),
    ("rand::", "entropy: use Rng"),
    ("getrandom", "entropy: use Rng"),
    ("RandomState", "hashes by entropy"),
    ("thread_rng", "entropy: use Rng"),
];

/// Files that implement a seam, and what they may use.
const EXCEPTIONS: &[(&str, &[&str])] = &[
    // RocksDB is an implementation of `Engine`: it works on real files, in threads of its own.
    ("kv/src/engine/rocks.rs", &["std::fs"]),
];

#[test]
fn time_chance_threads_and_files_enter_through_the_seams() {
    let mut wrong = Vec::new();
    for name in ["kv", "raft", "txn", "sql"] {
        for (path, text) in sources(&root().join(name).join("src")) {
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let allowed =
                EXCEPTIONS.iter().find(|(file, _)| *file == relative).map_or(&[][..], |(_, what)| what);
            let lines: Vec<(usize, &str)> = production_lines(&text).collect();
            for (at, &(number, line)) in lines.iter().enumerate() {
                // R1 forbids the unbiased kind only.
                let biased = lines.get(at + 1).is_some_and(|(_, next)| next.trim() == "biased;");
                if biased && line.trim_end().ends_with("tokio::select! {") {
                    continue;
                }
                // Whether a destructor runs because of a panic has nothing to do with scheduling.
                let line = &line.replace("std::thread::panicking()", "");
                for (what, why) in FORBIDDEN {
                    if contains_path(line, what) && !allowed.contains(what) {
                        wrong.push(format!("{relative}:{number}: {what} ({why})"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Iterating over a hash map goes through it in an order of the map's own, which differs between
/// runs: a seed would no longer replay.
#[test]
fn hash_maps_are_not_iterated() {
    let mut wrong = Vec::new();
    for name in ["kv", "raft", "txn", "sql"] {
        for (path, text) in sources(&root().join(name).join("src")) {
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let lines: Vec<(usize, &str)> = production_lines(&text).collect();
            let maps: BTreeMap<String, usize> = lines
                .iter()
                .filter(|(_, line)| {
                    ["HashMap<", "HashSet<", "HashMap::", "HashSet::"].iter().any(|map| line.contains(map))
                })
                .filter_map(|(number, line)| Some((declared(line)?, *number)))
                .collect();
            for (number, line) in &lines {
                for map in maps.keys() {
                    let iterated = [
                        ".iter()",
                        ".iter_mut()",
                        ".keys()",
                        ".values()",
                        ".values_mut()",
                        ".drain()",
                        ".into_iter()",
                        ".retain(",
                    ]
                    .iter()
                    .any(|call| contains_path(line, &format!("{map}{call}")));
                    // A sum, a maximum or a sort does not depend on the order; the line says so.
                    if iterated && !line.contains("order:") {
                        wrong.push(format!("{relative}:{number}: {}", line.trim()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The name that a line declares: of a field, a binding or a parameter.
fn declared(line: &str) -> Option<String> {
    let line = line.trim_start();
    if line.starts_with("use ") || line.starts_with("fn ") || line.contains("fn ") {
        return None;
    }
    let line =
        line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ").trim_start_matches("pub ");
    let line = line.trim_start_matches("let ").trim_start_matches("mut ");
    let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let rest = line[name.len()..].trim_start();
    (!name.is_empty() && (rest.starts_with(':') && !rest.starts_with("::") || rest.starts_with('=')))
        .then_some(name)
}

/// Whether `line` contains `what` not as the end of a longer name.
fn contains_path(line: &str, what: &str) -> bool {
    line.match_indices(what)
        .any(|(at, _)| !line[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// Lines with their numbers, without comments and without the tests at the end of a file.
fn production_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

#[test]
fn the_search_finds_what_it_should() {
    assert!(contains_path("use std::time::Instant;", "std::time::Instant"));
    assert!(!contains_path("operand::x", "rand::"));
    assert_eq!(declared("    pub waiting: HashMap<u64, Waiter>,").as_deref(), Some("waiting"));
    assert_eq!(declared("let mut seen = HashSet::new();").as_deref(), Some("seen"));
    assert_eq!(production_lines("a\n// b\n#[cfg(test)]\nc").count(), 1);
}
