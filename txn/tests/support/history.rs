//! Histories of committed transactions, and the check that they are strictly serializable.
//!
//! Every write has a version number of its own, and the order of commit timestamps is the version
//! order, so what depends on what is known (A. Adya, "Weak Consistency", 1999, chapter 3):
//!
//! - *ww*: one transaction replaces the version of another,
//! - *wr*: it reads the version of another,
//! - *rw*: it reads a version that another replaces. Reads by a predicate name every row they
//!   could have found: a row that was not found has been read in the last state that the predicate
//!   does not match, and whoever makes it match comes after.
//! - *rt*: one was acknowledged before the other began.
//!
//! The history is strictly serializable if no circle of such edges exists. That alone would let a
//! database order transactions otherwise than it says, so each read is also compared with the state
//! that the commit timestamps before it have made.

#![allow(dead_code, reason = "not every test looks at all of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A row. Tests number the rows of all their tables.
pub type Row = u32;

/// A version's number, never used twice.
pub type Version = u64;

/// What a read asks of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// That it is there.
    Exists,
    /// That its attribute lies between these, both included.
    Between(i64, i64),
}

/// A row's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Which write made it.
    pub version: Version,
    /// What predicates look at.
    pub attribute: i64,
}

impl Predicate {
    fn matches(self, contents: Option<Contents>) -> bool {
        match (self, contents) {
            (_, None) => false,
            (Predicate::Exists, Some(_)) => true,
            (Predicate::Between(low, high), Some(row)) => (low..=high).contains(&row.attribute),
        }
    }
}

/// What a transaction did, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// It looked for a row.
    Read {
        row: Row,
        predicate: Predicate,
        /// The version found; none: the row does not match.
        found: Option<Version>,
    },
    /// It wrote a row; none: deleted it.
    Write { row: Row, contents: Option<Contents> },
    /// It set a savepoint.
    Savepoint,
    /// It took back what it wrote since its last savepoint, which is gone.
    RollBack,
}

/// A transaction that committed.
#[derive(Clone, Debug)]
pub struct Committed {
    /// For messages.
    pub name: String,
    /// Points in real time, in any unit that only rises.
    pub began: u64,
    /// When the commit was acknowledged; none: it never was.
    pub ended: Option<u64>,
    /// Its place in the order that the database claims (reads at the same place come after).
    pub commit_ts: u64,
    /// What it did.
    pub events: Vec<Event>,
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A circle of dependencies.
    Cycle(String),
    /// A circle that needs the order of real time.
    Stale(String),
    /// A read of what was never committed, or not what the order of commits says.
    Read(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Cycle(what) => write!(f, "not serializable:\n{what}"),
            Violation::Stale(what) => write!(f, "not strictly serializable:\n{what}"),
            Violation::Read(what) => write!(f, "wrong read: {what}"),
        }
    }
}

/// A version in the order of its row.
struct Installed {
    by: Option<usize>,
    contents: Option<Contents>,
}

/// A read that is not of the transaction's own writes.
struct OutsideRead {
    row: Row,
    predicate: Predicate,
    found: Option<Version>,
}

#[derive(Default)]
struct Digest {
    reads: Vec<OutsideRead>,
    writes: BTreeMap<Row, Option<Contents>>,
}

/// Checks a history. `initial` is what was there before.
pub fn check(initial: &BTreeMap<Row, Contents>, history: &[Committed]) -> Result<(), Violation> {
    let mut order: Vec<usize> = (0..history.len()).collect();
    let digests: Vec<Digest> = history.iter().map(digest).collect::<Result<_, _>>()?;
    order.sort_by_key(|index| (history[*index].commit_ts, digests[*index].writes.is_empty()));
    let versions = install(initial, &order, &digests);
    let mut graph = Graph { edges: vec![BTreeMap::new(); history.len()] };
    for (reader, digest) in digests.iter().enumerate() {
        for read in &digest.reads {
            graph.add_read(history, &versions, reader, read)?;
        }
    }
    for (row, versions) in &versions {
        for pair in versions.windows(2) {
            graph.add(pair[0].by, pair[1].by, || format!("ww on row {row}"));
        }
    }
    if let Some(cycle) = graph.cycle(history) {
        return Err(Violation::Cycle(cycle));
    }
    for (earlier, one) in history.iter().enumerate() {
        for (later, other) in history.iter().enumerate() {
            if one.ended.is_some_and(|ended| ended < other.began) {
                graph.add(Some(earlier), Some(later), || "rt".into());
            }
        }
    }
    if let Some(cycle) = graph.cycle(history) {
        return Err(Violation::Stale(cycle));
    }
    replay(initial, history, &order, &digests)
}

/// What a transaction left in each row that it wrote; none: it deleted it.
pub fn final_writes(committed: &Committed) -> BTreeMap<Row, Option<Contents>> {
    let mut states = vec![BTreeMap::new()];
    for event in &committed.events {
        let state = states.last_mut().expect("never empty");
        match event {
            Event::Write { row, contents } => {
                state.insert(*row, *contents);
            }
            Event::Savepoint => {
                let state = state.clone();
                states.push(state);
            }
            Event::RollBack => {
                states.pop();
            }
            Event::Read { .. } => {}
        }
    }
    states.pop().expect("never empty")
}

/// Separates a transaction's outside reads and final writes from what it saw of itself.
fn digest(committed: &Committed) -> Result<Digest, Violation> {
    let mut digest = Digest::default();
    let mut savepoints = Vec::new();
    for event in &committed.events {
        match event {
            Event::Write { row, contents } => {
                digest.writes.insert(*row, *contents);
            }
            Event::Savepoint => savepoints.push(digest.writes.clone()),
            Event::RollBack => digest.writes = savepoints.pop().expect("a savepoint was set"),
            Event::Read { row, predicate, found } => match digest.writes.get(row) {
                None => digest.reads.push(OutsideRead { row: *row, predicate: *predicate, found: *found }),
                Some(own) => {
                    let expected = own.filter(|_| predicate.matches(*own)).map(|own| own.version);
                    if expected != *found {
                        return Err(Violation::Read(format!(
                            "{} wrote {own:?} to row {row} and then found {found:?} by {predicate:?}",
                            committed.name
                        )));
                    }
                }
            },
        }
    }
    Ok(digest)
}

/// The versions of every row in the order of commit timestamps, behind the initial one.
fn install(
    initial: &BTreeMap<Row, Contents>,
    order: &[usize],
    digests: &[Digest],
) -> BTreeMap<Row, Vec<Installed>> {
    let mut versions: BTreeMap<Row, Vec<Installed>> = BTreeMap::new();
    for index in order {
        for (row, contents) in &digests[*index].writes {
            let first = || vec![Installed { by: None, contents: initial.get(row).copied() }];
            let installed = Installed { by: Some(*index), contents: *contents };
            versions.entry(*row).or_insert_with(first).push(installed);
        }
    }
    versions
}

/// Who must come before whom, and why.
struct Graph {
    edges: Vec<BTreeMap<usize, String>>,
}

impl Graph {
    fn add(&mut self, from: Option<usize>, to: Option<usize>, why: impl FnOnce() -> String) {
        if let (Some(from), Some(to)) = (from, to)
            && from != to
        {
            self.edges[from].entry(to).or_insert_with(why);
        }
    }

    fn add_read(
        &mut self,
        history: &[Committed],
        versions: &BTreeMap<Row, Vec<Installed>>,
        reader: usize,
        read: &OutsideRead,
    ) -> Result<(), Violation> {
        let row = read.row;
        // Rows that nobody wrote are compared with the initial state by `replay`.
        let Some(versions) = versions.get(&row) else { return Ok(()) };
        let matches = |position: &usize| read.predicate.matches(versions[*position].contents);
        let (seen, next) = match read.found {
            Some(version) => {
                let seen = versions
                    .iter()
                    .position(|installed| installed.contents.is_some_and(|there| there.version == version));
                let Some(seen) = seen.filter(matches) else {
                    return Err(Violation::Read(format!(
                        "{} found version {version} of row {row} by {:?}, which no commit left there",
                        history[reader].name, read.predicate
                    )));
                };
                (seen, seen + 1)
            }
            None => {
                // Which of several states it was cannot be told; taken is the last that began before the
                // reader's place in the order.
                let place = history[reader].commit_ts;
                let before = |position: &usize| match versions[*position].by {
                    None => true,
                    Some(by) => by != reader && history[by].commit_ts <= place,
                };
                let absent = (0..versions.len()).rev().find(|at| before(at) && !matches(at));
                let Some(mut seen) = absent.or_else(|| (0..versions.len()).find(|at| !matches(at))) else {
                    return Err(Violation::Read(format!(
                        "{} did not find row {row} by {:?}, which always matches",
                        history[reader].name, read.predicate
                    )));
                };
                let next = (seen..versions.len()).find(matches).unwrap_or(versions.len());
                while seen > 0 && !matches(&(seen - 1)) {
                    seen -= 1;
                }
                (seen, next)
            }
        };
        self.add(versions[seen].by, Some(reader), || format!("wr on row {row} ({:?})", read.predicate));
        // Its own write follows the version it read: what follows that one is told by ww.
        let next = versions.get(next).and_then(|next| next.by);
        self.add(Some(reader), next, || format!("rw on row {row} ({:?})", read.predicate));
        Ok(())
    }

    /// A shortest circle, told step by step.
    fn cycle(&self, history: &[Committed]) -> Option<String> {
        let mut shortest: Option<Vec<usize>> = None;
        for start in 0..self.edges.len() {
            let mut came_from = BTreeMap::new();
            let mut queue = std::collections::VecDeque::from([start]);
            'search: while let Some(at) = queue.pop_front() {
                for next in self.edges[at].keys() {
                    if *next == start {
                        let mut path = vec![at];
                        while *path.last().expect("not empty") != start {
                            path.push(came_from[path.last().expect("not empty")]);
                        }
                        path.reverse();
                        if shortest.as_ref().is_none_or(|known| path.len() < known.len()) {
                            shortest = Some(path);
                        }
                        break 'search;
                    }
                    if !came_from.contains_key(next) {
                        came_from.insert(*next, at);
                        queue.push_back(*next);
                    }
                }
            }
        }
        let path = shortest?;
        let steps = path.iter().enumerate().map(|(position, at)| {
            let next = path[(position + 1) % path.len()];
            let (one, other) = (&history[*at], &history[next]);
            format!("  {} @{} -{}-> {}", one.name, one.commit_ts, self.edges[*at][&next], other.name)
        });
        let steps: Vec<String> = steps.collect();
        let involved: BTreeSet<usize> = path.iter().copied().collect();
        let told = involved.iter().map(|index| format!("  {:?}", history[*index]));
        Some(steps.into_iter().chain(told).collect::<Vec<_>>().join("\n"))
    }
}

/// Compares every read with the state that the order of commits makes.
fn replay(
    initial: &BTreeMap<Row, Contents>,
    history: &[Committed],
    order: &[usize],
    digests: &[Digest],
) -> Result<(), Violation> {
    let mut state = initial.clone();
    for index in order {
        for read in &digests[*index].reads {
            let there = state.get(&read.row).copied();
            let expected = there.filter(|_| read.predicate.matches(there)).map(|there| there.version);
            if expected != read.found {
                return Err(Violation::Read(format!(
                    "{} @{} found {:?} of row {} by {:?}; its timestamp says {there:?}",
                    history[*index].name, history[*index].commit_ts, read.found, read.row, read.predicate
                )));
            }
        }
        for (row, contents) in &digests[*index].writes {
            match contents {
                Some(contents) => state.insert(*row, *contents),
                None => state.remove(row),
            };
        }
    }
    Ok(())
}
