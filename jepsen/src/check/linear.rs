//! Linearizability of single registers: just-in-time linearization (Lowe, 2017).
//!
//! The checker walks the events in order and keeps every configuration that explains them so far:
//! the register's value and which of the open operations have already taken effect. An answer
//! keeps those configurations in which its operation has taken effect with that answer, after
//! letting open operations take effect in any order. None left means that no order explains the
//! history.
//!
//! An operation without an answer stays open for ever, which can blow up the search. Values are
//! unique, so one whose value was seen took effect before that answer and is closed there. Those
//! that nobody saw or asked for may explain why a comparison failed, by having replaced the value it
//! asked for. Which of them did so does not matter, so a configuration only counts them, and the
//! least count is enough: the search does not grow with their number.

use std::collections::{BTreeMap, BTreeSet};

/// An operation on one register.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Register.
    pub key: i64,
    /// What was asked.
    pub call: Call,
    /// Event number of the invocation.
    pub invoked: u64,
    /// Event number and content of the answer. None: unknown.
    pub answer: Option<(u64, Reply)>,
}

/// What was asked. Written values are unique in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Read.
    Read,
    /// Write a value.
    Write(i64),
    /// Write `new` if `old` is there.
    CompareAndSet {
        /// Expected.
        old: i64,
        /// Written.
        new: i64,
    },
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A read's value.
    Value(i64),
    /// A write or a successful comparison.
    Done,
    /// The comparison failed.
    Differs,
    /// Certainly without effect.
    Nothing,
}

/// Checks every register, each of which begins with `initial`.
pub fn check(operations: &[Operation], initial: i64) -> Result<(), String> {
    let mut by_key: BTreeMap<i64, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        if !matches!(operation.answer, Some((_, Reply::Nothing))) {
            by_key.entry(operation.key).or_default().push(operation);
        }
    }
    by_key.into_iter().try_for_each(|(key, operations)| {
        check_register(&operations, initial)
            .map_err(|why| format!("register {key} is not linearizable: {why}"))
    })
}

fn check_register(operations: &[&Operation], initial: i64) -> Result<(), String> {
    let events = events(operations);
    let mut search = Search {
        operations,
        slots: Vec::new(),
        lost_writes: 0,
        lost_comparisons: BTreeSet::new(),
        configurations: BTreeMap::from([((Some(initial), 0), 0)]),
    };
    for (_, event) in events {
        match event {
            Event::Invoke(index) => search.invoke(index),
            Event::Lose(index) => match operations[index].call {
                Call::CompareAndSet { old, .. } => _ = search.lost_comparisons.insert(old),
                Call::Read | Call::Write(_) => search.lost_writes += 1,
            },
            Event::Answer(index) => search.answer(index)?,
        }
    }
    Ok(())
}

/// The value (`None`: one that nobody saw) and which slots' operations have taken effect.
type Configuration = (Option<i64>, u64);

struct Search<'a> {
    operations: &'a [&'a Operation],
    /// Open operations.
    slots: Vec<Option<usize>>,
    /// Writes without an answer whose values nobody saw.
    lost_writes: usize,
    /// What such comparisons asked for. A value does not come back, so one of each counts and is not used up.
    lost_comparisons: BTreeSet<i64>,
    /// What explains the events so far, each with the least number of lost writes that it takes.
    configurations: BTreeMap<Configuration, usize>,
}

impl Search<'_> {
    fn invoke(&mut self, index: usize) {
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        assert!(slot < 64, "too many concurrent operations on one register");
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(index);
    }

    /// Keeps the configurations in which the operation has taken effect with its answer.
    fn answer(&mut self, index: usize) -> Result<(), String> {
        let slot = self.slots.iter().position(|s| *s == Some(index)).expect("it was invoked");
        let bit = 1u64 << slot;
        self.expand();
        let kept: BTreeMap<Configuration, usize> = self
            .configurations
            .iter()
            .filter(|((_, done), _)| done & bit != 0)
            .map(|((value, done), lost)| ((*value, done & !bit), *lost))
            .collect();
        if kept.is_empty() {
            let values: BTreeSet<_> = self.configurations.keys().map(|(value, _)| *value).collect();
            let invoked = self.operations[index].invoked;
            let before = self.operations.iter().filter(|o| o.invoked <= invoked).rev().take(12);
            let before: Vec<String> = before.map(|o| format!("{o:?}")).collect();
            return Err(format!(
                "the first of these, newest first, where the value may be {values:?}\n  {}",
                before.join("\n  ")
            ));
        }
        self.configurations = kept;
        self.slots[slot] = None;
        Ok(())
    }

    /// Adds every configuration reachable by open and lost operations taking effect.
    fn expand(&mut self) {
        let mut work: Vec<_> = self.configurations.iter().map(|(known, lost)| (*known, *lost)).collect();
        while let Some(((value, done), lost)) = work.pop() {
            let open = self.slots.iter().enumerate().filter_map(|(slot, open)| {
                let after = effect(self.operations[(*open)?], value).filter(|_| done & (1 << slot) == 0)?;
                Some(((after, done | 1 << slot), lost))
            });
            let compared = value.is_some_and(|value| self.lost_comparisons.contains(&value));
            let lost = match compared {
                true => Some(((None, done), lost)),
                false => (lost < self.lost_writes).then_some(((None, done), lost + 1)),
            };
            for (after, lost) in open.chain(lost).collect::<Vec<_>>() {
                let known = self.configurations.entry(after).or_insert(usize::MAX);
                if lost < *known {
                    *known = lost;
                    work.push((after, lost));
                }
            }
        }
    }
}

/// The value after the operation, if it can take effect at `value` with its answer.
fn effect(operation: &Operation, value: Option<i64>) -> Option<Option<i64>> {
    let reply = operation.answer.map(|(_, reply)| reply);
    match (operation.call, reply) {
        (Call::Read, Some(Reply::Value(read))) => (Some(read) == value).then_some(value),
        (Call::Write(new), _) => Some(Some(new)),
        (Call::CompareAndSet { old, .. }, Some(Reply::Differs)) => (Some(old) != value).then_some(value),
        (Call::CompareAndSet { old, new }, _) => (Some(old) == value).then_some(Some(new)),
        (Call::Read, _) => Some(value),
    }
}

#[derive(Clone, Copy)]
enum Event {
    Invoke(usize),
    /// Invoked, and never heard of again.
    Lose(usize),
    Answer(usize),
}

fn events(operations: &[&Operation]) -> Vec<(u64, Event)> {
    // When each value was first known to be seen.
    let mut seen: BTreeMap<i64, u64> = BTreeMap::new();
    for operation in operations {
        let Some((at, reply)) = operation.answer else { continue };
        let value = match (operation.call, reply) {
            (Call::Read, Reply::Value(value)) => value,
            (Call::CompareAndSet { old, .. }, Reply::Done) => old,
            _ => continue,
        };
        let first = seen.entry(value).or_insert(at);
        *first = at.min(*first);
    }
    // A chain of unknown comparisons, each seen only by the next: close them from the end.
    let mut closed: Vec<Option<u64>> = operations.iter().map(|o| o.answer.map(|(at, _)| at)).collect();
    loop {
        let mut changed = false;
        for (index, operation) in operations.iter().enumerate() {
            let written = match operation.call {
                Call::Read => continue,
                Call::Write(value) | Call::CompareAndSet { new: value, .. } => value,
            };
            if closed[index].is_some() {
                continue;
            }
            if let Some(at) = seen.get(&written).copied() {
                closed[index] = Some(at);
                changed = true;
                if let Call::CompareAndSet { old, .. } = operation.call {
                    let first = seen.entry(old).or_insert(at);
                    *first = at.min(*first);
                }
            }
        }
        if !changed {
            break;
        }
    }
    let asked_for: BTreeSet<i64> = operations
        .iter()
        .filter_map(|o| if let Call::CompareAndSet { old, .. } = o.call { Some(old) } else { None })
        .collect();
    let mut events = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let written = match operation.call {
            Call::Read if operation.answer.is_none() => continue,
            Call::Read => None,
            Call::Write(value) | Call::CompareAndSet { new: value, .. } => Some(value),
        };
        let is_lost = closed[index].is_none() && written.is_some_and(|value| !asked_for.contains(&value));
        let begin = if is_lost { Event::Lose(index) } else { Event::Invoke(index) };
        events.push((operation.invoked * 2 + 1, begin));
        if let Some(at) = closed[index] {
            // Doubled, so that an operation closed by another's answer is closed just before it.
            let order = if operation.answer.is_some() { at * 2 + 1 } else { at * 2 };
            events.push((order, Event::Answer(index)));
        }
    }
    events.sort_by_key(|(at, event)| (*at, matches!(event, Event::Answer(_))));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(call: Call, invoked: u64, answer: Option<(u64, Reply)>) -> Operation {
        Operation { key: 1, call, invoked, answer }
    }

    #[test]
    fn accepts_any_order_of_overlapping_operations() {
        let history = [
            op(Call::Write(1), 0, Some((5, Reply::Done))),
            op(Call::Read, 1, Some((2, Reply::Value(1)))),
            op(Call::CompareAndSet { old: 1, new: 2 }, 3, Some((6, Reply::Done))),
            op(Call::Read, 4, Some((7, Reply::Value(1)))),
            op(Call::Read, 8, Some((9, Reply::Value(2)))),
        ];
        assert_eq!(check(&history, 0), Ok(()));
    }

    #[test]
    fn finds_stale_reads_lost_writes_and_false_comparisons() {
        let stale =
            [op(Call::Write(1), 0, Some((1, Reply::Done))), op(Call::Read, 2, Some((3, Reply::Value(0))))];
        assert!(check(&stale, 0).is_err());
        let back = [
            op(Call::Write(1), 0, None),
            op(Call::Read, 1, Some((2, Reply::Value(1)))),
            op(Call::Read, 3, Some((4, Reply::Value(0)))),
        ];
        assert!(check(&back, 0).is_err());
        let both = [
            op(Call::CompareAndSet { old: 0, new: 1 }, 0, Some((2, Reply::Done))),
            op(Call::CompareAndSet { old: 0, new: 2 }, 1, Some((3, Reply::Done))),
        ];
        assert!(check(&both, 0).is_err());
    }

    #[test]
    fn an_unknown_write_may_have_happened_or_not() {
        for value in [0, 1] {
            let history = [op(Call::Write(1), 0, None), op(Call::Read, 1, Some((2, Reply::Value(value))))];
            assert_eq!(check(&history, 0), Ok(()));
        }
        let differs = Some((2, Reply::Differs));
        let unseen = [
            op(Call::Write(1), 0, None),
            op(Call::CompareAndSet { old: 0, new: 2 }, 1, differs),
            op(Call::Write(3), 3, Some((4, Reply::Done))),
            op(Call::Read, 5, Some((6, Reply::Value(3)))),
        ];
        assert_eq!(check(&unseen, 0), Ok(()));
        assert!(check(&unseen[1..], 0).is_err());
    }
    #[test]
    fn lost_operations_are_used_once_and_do_not_blow_up_the_search() {
        let differs =
            |at| op(Call::CompareAndSet { old: 0, new: at as i64 }, at, Some((at + 1, Reply::Differs)));
        let reads = |at, value| op(Call::Read, at, Some((at + 1, Reply::Value(value))));
        let lost = |value| op(Call::Write(value), 0, None);
        // Each comparison needs a write that hid the value, and each read that it had not happened yet.
        let write = |at, value| op(Call::Write(value), at, Some((at + 1, Reply::Done)));
        let compare = |at, old| {
            op(Call::CompareAndSet { old, new: 1000 + at as i64 }, at, Some((at + 1, Reply::Differs)))
        };
        let twice = [differs(10), write(12, 7), reads(14, 7), compare(16, 7)];
        let with = |count: i64| (100..100 + count).map(lost).chain(twice.clone()).collect::<Vec<_>>();
        assert!(check(&with(1), 0).is_err());
        assert_eq!(check(&with(2), 0), Ok(()));
        assert_eq!(check(&with(200), 0), Ok(()));
        // A comparison that nobody heard of hides what it asked for and nothing else.
        let lost_comparison = op(Call::CompareAndSet { old: 0, new: 300 }, 0, None);
        assert_eq!(check(&[lost_comparison.clone(), reads(4, 0), differs(10)], 0), Ok(()));
        assert!(check(&[lost_comparison, write(4, 7), compare(6, 7)], 0).is_err());
        assert!(check(&[differs(10), op(Call::Write(100), 20, None)], 0).is_err());
    }
}
