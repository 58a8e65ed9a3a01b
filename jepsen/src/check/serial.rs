//! Strict serializability of random transactions, by cycles (Adya 1999; Kingsbury and Alvaro,
//! "Elle", 2020).
//!
//! Every write installs a unique value and names the value it replaced, which its transaction read.
//! So the order of each key's versions is known, and so are the dependencies: who wrote what
//! another read (wr), replaced (ww), or replaced after another had read it (rw). Real time adds:
//! what was answered before another began comes first. A cycle means that no order explains the
//! history; a value replaced twice is a lost update.

use std::collections::BTreeMap;

use crate::history::{Course, Outcome};

/// A transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// When, and what became of it.
    pub course: Course,
    /// Key and value read (0: absent).
    pub reads: Vec<(i64, i64)>,
    /// Key, value replaced, value written.
    pub writes: Vec<(i64, i64, i64)>,
}

/// Checks a history that began with every key absent.
pub fn check(transactions: &[Transaction]) -> Result<(), String> {
    let mut writers: BTreeMap<(i64, i64), usize> = BTreeMap::new();
    for (index, transaction) in transactions.iter().enumerate() {
        for (key, _, value) in &transaction.writes {
            let earlier = writers.insert((*key, *value), index);
            assert!(earlier.is_none(), "values are unique");
        }
    }
    let took_place = took_place(transactions, &writers)?;
    let mut replacer: BTreeMap<(i64, i64), usize> = BTreeMap::new();
    for (index, transaction) in transactions.iter().enumerate().filter(|(i, _)| took_place[*i]) {
        for (key, replaced, value) in &transaction.writes {
            if let Some(other) = replacer.insert((*key, *replaced), index) {
                return Err(format!(
                    "lost update: value {replaced} of key {key} was replaced by {value} and by another\n  {}\n  {}",
                    show(transactions, other),
                    show(transactions, index)
                ));
            }
        }
    }
    let mut graph = Graph { edges: vec![Vec::new(); transactions.len()] };
    for (index, transaction) in transactions.iter().enumerate().filter(|(i, _)| took_place[*i]) {
        let versions = transaction.writes.iter().map(|(key, replaced, _)| (*key, *replaced));
        for version in transaction.reads.iter().copied().chain(versions) {
            if let Some(writer) = writers.get(&version) {
                graph.edge(*writer, index);
            }
            if let Some(next) = replacer.get(&version) {
                graph.edge(index, *next);
            }
        }
    }
    graph.real_time(transactions, &took_place);
    match graph.cycle() {
        None => Ok(()),
        Some(cycle) => {
            let lines: Vec<String> = cycle
                .into_iter()
                .filter(|i| *i < transactions.len())
                .map(|i| show(transactions, i))
                .collect();
            Err(format!("no serial order explains these transactions:\n  {}", lines.join("\n  ")))
        }
    }
}

/// Which transactions took place: the acknowledged ones, and unknown ones of which a value was
/// seen. An aborted one must not have been seen.
fn took_place(
    transactions: &[Transaction],
    writers: &BTreeMap<(i64, i64), usize>,
) -> Result<Vec<bool>, String> {
    let mut took_place: Vec<bool> =
        transactions.iter().map(|t| t.course.outcome == Outcome::Committed).collect();
    let mut work: Vec<usize> = (0..transactions.len()).filter(|i| took_place[*i]).collect();
    while let Some(index) = work.pop() {
        let transaction = &transactions[index];
        let versions = transaction.writes.iter().map(|(key, replaced, _)| (*key, *replaced));
        for version in transaction.reads.iter().copied().chain(versions).filter(|v| v.1 != 0) {
            let Some(writer) = writers.get(&version).copied() else {
                return Err(format!(
                    "value {} of key {} was never written: {}",
                    version.1,
                    version.0,
                    show(transactions, index)
                ));
            };
            if transactions[writer].course.outcome == Outcome::Aborted {
                return Err(format!(
                    "aborted write seen:\n  {}\n  {}",
                    show(transactions, writer),
                    show(transactions, index)
                ));
            }
            if !std::mem::replace(&mut took_place[writer], true) {
                work.push(writer);
            }
        }
    }
    Ok(took_place)
}

fn show(transactions: &[Transaction], index: usize) -> String {
    format!("T{index} {:?}", transactions[index])
}

struct Graph {
    edges: Vec<Vec<usize>>,
}

impl Graph {
    fn edge(&mut self, from: usize, to: usize) {
        if from != to {
            self.edges[from].push(to);
        }
    }

    /// Edges of real time, through a chain of one node for each answer: linear in the history.
    fn real_time(&mut self, transactions: &[Transaction], took_place: &[bool]) {
        let mut events: Vec<(u64, usize, bool)> = Vec::new();
        for (index, transaction) in transactions.iter().enumerate().filter(|(i, _)| took_place[*i]) {
            events.push((transaction.course.invoked, index, false));
            if let Some(at) = transaction.course.answered {
                events.push((at, index, true));
            }
        }
        events.sort_unstable();
        let mut latest: Option<usize> = None;
        for (_, index, is_answer) in events {
            if is_answer {
                let node = self.edges.len();
                self.edges.push(Vec::new());
                self.edges[index].push(node);
                if let Some(before) = latest.replace(node) {
                    self.edges[before].push(node);
                }
            } else if let Some(before) = latest {
                self.edges[before].push(index);
            }
        }
    }

    /// A cycle, if there is one: depth-first, without recursion.
    fn cycle(&self) -> Option<Vec<usize>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.edges.len()];
        for start in 0..self.edges.len() {
            if marks[start] != Mark::New {
                continue;
            }
            let mut path = vec![(start, 0)];
            marks[start] = Mark::Open;
            while let Some((node, next)) = path.last_mut() {
                let node = *node;
                match self.edges[node].get(*next).copied() {
                    None => {
                        marks[node] = Mark::Done;
                        path.pop();
                    }
                    Some(to) => {
                        *next += 1;
                        match marks[to] {
                            Mark::New => {
                                marks[to] = Mark::Open;
                                path.push((to, 0));
                            }
                            Mark::Open => {
                                let from =
                                    path.iter().position(|(n, _)| *n == to).expect("open is on the path");
                                return Some(path[from..].iter().map(|(n, _)| *n).collect());
                            }
                            Mark::Done => {}
                        }
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(at: (u64, u64), reads: &[(i64, i64)], writes: &[(i64, i64, i64)]) -> Transaction {
        Transaction {
            course: Course { invoked: at.0, answered: Some(at.1), outcome: Outcome::Committed },
            reads: reads.to_vec(),
            writes: writes.to_vec(),
        }
    }

    #[test]
    fn accepts_a_serial_history() {
        let history = [
            txn((0, 1), &[], &[(1, 0, 10), (2, 0, 11)]),
            txn((2, 5), &[(1, 10)], &[(2, 11, 12)]),
            txn((3, 4), &[(1, 10), (2, 11)], &[]),
        ];
        assert_eq!(check(&history), Ok(()));
    }

    #[test]
    fn finds_write_skew() {
        let history =
            [txn((0, 10), &[(1, 0), (2, 0)], &[(1, 0, 10)]), txn((1, 11), &[(1, 0), (2, 0)], &[(2, 0, 11)])];
        assert!(check(&history).unwrap_err().contains("no serial order"));
    }

    #[test]
    fn finds_lost_updates_stale_reads_and_torn_transactions() {
        let lost = [txn((0, 10), &[], &[(1, 0, 10)]), txn((1, 11), &[], &[(1, 0, 11)])];
        assert!(check(&lost).unwrap_err().contains("lost update"));
        let stale = [txn((0, 1), &[], &[(1, 0, 10)]), txn((2, 3), &[(1, 0)], &[])];
        assert!(check(&stale).is_err());
        let torn = [txn((0, 9), &[], &[(1, 0, 10), (2, 0, 11)]), txn((1, 8), &[(1, 10), (2, 0)], &[])];
        assert!(check(&torn).is_err());
    }

    #[test]
    fn an_unknown_transaction_counts_once_it_is_seen() {
        let mut unknown = txn((0, 1), &[], &[(1, 0, 10), (2, 0, 11)]);
        unknown.course.answered = None;
        unknown.course.outcome = Outcome::Unknown;
        let unseen = [unknown.clone(), txn((2, 3), &[(1, 0), (2, 0)], &[])];
        assert_eq!(check(&unseen), Ok(()));
        let half = [unknown.clone(), txn((2, 3), &[(1, 10), (2, 0)], &[])];
        assert!(check(&half).is_err());
        unknown.course.outcome = Outcome::Aborted;
        let ghost = [unknown, txn((2, 3), &[(1, 10), (2, 11)], &[])];
        assert!(check(&ghost).unwrap_err().contains("aborted write seen"));
    }
}
