//! Strict serializability of transactions that append to lists and read them (Kingsbury and Alvaro, "Elle",
//! 2020).
//!
//! Elements are unique, so a list tells the order of its versions: all that were read of one key are
//! beginnings of the longest. With that each append names what it follows and each read what it saw, and
//! [`serial`] looks for cycles of reads, writes and real time.

use std::collections::BTreeMap;

use super::serial;
use crate::history::{Course, Outcome};

/// A transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// When, and what became of it.
    pub course: Course,
    /// Keys and the lists read, as they were before anything of its own.
    pub reads: Vec<(i64, Vec<i64>)>,
    /// Keys and elements appended.
    pub appends: Vec<(i64, i64)>,
}

/// Checks a history that began with empty lists.
pub fn check(transactions: &[Transaction]) -> Result<(), String> {
    let mut longest: BTreeMap<i64, &[i64]> = BTreeMap::new();
    let reads = || transactions.iter().flat_map(|t| &t.reads);
    for (key, list) in reads() {
        let known = longest.entry(*key).or_insert(&[]);
        if list.len() > known.len() {
            *known = list;
        }
    }
    for (key, list) in reads() {
        let known = longest[key];
        if !known.starts_with(list) {
            return Err(format!(
                "list {key} was read as {list:?} and as {known:?}: neither grew into the other"
            ));
        }
    }
    // What each element follows in its list.
    let mut follows: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for (key, list) in &longest {
        let before = std::iter::once(0).chain(list.iter().copied());
        for (element, before) in list.iter().zip(before) {
            if follows.insert((*key, *element), before).is_some() {
                return Err(format!("element {element} stands twice in list {key}: {list:?}"));
            }
        }
    }
    let versions = transactions.iter().map(|transaction| {
        let mut writes: Vec<(i64, i64, i64)> = Vec::new();
        for (key, element) in &transaction.appends {
            match follows.get(&(*key, *element)) {
                Some(before) => writes.push((*key, *before, *element)),
                // Everything that took place was read at the end.
                None if transaction.course.outcome == Outcome::Committed => {
                    return Err(format!(
                        "acknowledged element {element} is not in list {key}: {transaction:?}"
                    ));
                }
                None => {}
            }
        }
        let reads = transaction.reads.iter().map(|(key, list)| (*key, list.last().copied().unwrap_or(0)));
        Ok(serial::Transaction { course: transaction.course.clone(), reads: reads.collect(), writes })
    });
    serial::check(&versions.collect::<Result<Vec<_>, String>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(at: (u64, u64), reads: &[(i64, &[i64])], appends: &[(i64, i64)]) -> Transaction {
        Transaction {
            course: Course { invoked: at.0, answered: Some(at.1), outcome: Outcome::Committed },
            reads: reads.iter().map(|(key, list)| (*key, list.to_vec())).collect(),
            appends: appends.to_vec(),
        }
    }

    #[test]
    fn lists_that_grow_one_by_one_are_accepted() {
        let history = [
            txn((0, 9), &[], &[(1, 10), (2, 11)]),
            txn((1, 8), &[(1, &[10])], &[(1, 12)]),
            txn((10, 11), &[(1, &[10, 12]), (2, &[11])], &[]),
        ];
        assert_eq!(check(&history), Ok(()));
    }

    #[test]
    fn what_is_lost_forked_doubled_skewed_or_stale_is_found() {
        let end = |at, one: &[i64], two: &[i64]| txn((at, at + 1), &[(1, one), (2, two)], &[]);
        let lost = [txn((0, 1), &[], &[(1, 10)]), end(2, &[], &[])];
        assert!(check(&lost).unwrap_err().contains("acknowledged element 10"));
        let forked = [end(0, &[10], &[]), end(2, &[11, 10], &[])];
        assert!(check(&forked).unwrap_err().contains("neither grew"));
        let doubled = [txn((0, 1), &[], &[(1, 10)]), end(2, &[10, 10], &[])];
        assert!(check(&doubled).unwrap_err().contains("stands twice"));
        let skewed = [
            txn((0, 10), &[(2, &[])], &[(1, 10)]),
            txn((1, 11), &[(1, &[])], &[(2, 11)]),
            end(12, &[10], &[11]),
        ];
        assert!(check(&skewed).unwrap_err().contains("no serial order"));
        let stale = [txn((0, 1), &[], &[(1, 10)]), txn((2, 3), &[(1, &[])], &[]), end(4, &[10], &[])];
        assert!(check(&stale).unwrap_err().contains("no serial order"));
    }
}
