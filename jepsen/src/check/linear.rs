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
//! that nobody saw, a few for each crash, remain: they may explain why a comparison failed.

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
    // A configuration: the value, and the open operations that have taken effect.
    let mut configurations: BTreeSet<(i64, u64)> = BTreeSet::from([(initial, 0)]);
    let mut slots: Vec<Option<usize>> = Vec::new();
    for (_, event) in events {
        match event {
            Event::Invoke(index) => {
                let slot = slots.iter().position(Option::is_none).unwrap_or(slots.len());
                assert!(slot < 64, "too many concurrent operations on one register");
                if slot == slots.len() {
                    slots.push(None);
                }
                slots[slot] = Some(index);
            }
            Event::Answer(index) => {
                let slot = slots.iter().position(|s| *s == Some(index)).expect("it was invoked");
                let bit = 1u64 << slot;
                expand(&mut configurations, &slots, operations);
                let kept: BTreeSet<_> = configurations
                    .iter()
                    .filter(|(_, done)| done & bit != 0)
                    .map(|(value, done)| (*value, done & !bit))
                    .collect();
                if kept.is_empty() {
                    let values: BTreeSet<i64> = configurations.iter().map(|(value, _)| *value).collect();
                    let before: Vec<String> = operations
                        .iter()
                        .filter(|o| o.invoked < operations[index].invoked + 1)
                        .rev()
                        .take(12)
                        .map(|o| format!("{o:?}"))
                        .collect();
                    return Err(format!(
                        "the first of these, newest first, where the value may be {values:?}\n  {}",
                        before.join("\n  ")
                    ));
                }
                configurations = kept;
                slots[slot] = None;
            }
        }
    }
    Ok(())
}

/// Adds every configuration reachable by open operations taking effect.
fn expand(configurations: &mut BTreeSet<(i64, u64)>, slots: &[Option<usize>], operations: &[&Operation]) {
    let mut work: Vec<_> = configurations.iter().copied().collect();
    while let Some((value, done)) = work.pop() {
        for (slot, open) in slots.iter().enumerate() {
            let Some(index) = open else { continue };
            if done & (1 << slot) != 0 {
                continue;
            }
            if let Some(after) = effect(operations[*index], value)
                && configurations.insert((after, done | 1 << slot))
            {
                work.push((after, done | 1 << slot));
            }
        }
    }
}

/// The value after the operation, if it can take effect at `value` with its answer.
fn effect(operation: &Operation, value: i64) -> Option<i64> {
    let reply = operation.answer.map(|(_, reply)| reply);
    match (operation.call, reply) {
        (Call::Read, Some(Reply::Value(read))) => (read == value).then_some(value),
        (Call::Write(new), _) => Some(new),
        (Call::CompareAndSet { old, .. }, Some(Reply::Differs)) => (old != value).then_some(value),
        (Call::CompareAndSet { old, new }, _) => (old == value).then_some(new),
        (Call::Read, _) => Some(value),
    }
}

#[derive(Clone, Copy)]
enum Event {
    Invoke(usize),
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
    let mut events = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        if operation.call == Call::Read && operation.answer.is_none() {
            continue;
        }
        events.push((operation.invoked * 2 + 1, Event::Invoke(index)));
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
}
