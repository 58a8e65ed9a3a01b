//! What befalls a cluster, drawn from a seed before it runs, so that it can be taken apart afterwards.

use std::fmt;

use cairn_kv::sim::SimRng;

/// Clocks may be off from one another by so much, microseconds: less than what nodes tolerate.
const MOST_OFF_MICROS: u64 = 70_000;

/// A misfortune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfortune {
    /// The power fails.
    Crash,
    /// It fails in the middle of the node's work: at a poll or at an operation of disk or engine.
    CrashSoon {
        /// Polls or operations until then.
        after: u64,
        /// Operations.
        at_operation: bool,
    },
    /// Nothing comes or goes.
    Isolate,
    /// Nothing passes to that node.
    CutTo(usize),
    /// The way to that node loses, repeats and delays.
    Flaky {
        /// Where to.
        to: usize,
        /// Of a thousand.
        lost: u64,
        /// Of a thousand.
        repeated: u64,
        /// Longest delay.
        delay_ms: u64,
    },
    /// The disk's syncs take so long.
    SlowDisk {
        /// Most milliseconds.
        sync_ms: u64,
    },
    /// The wall clock is ahead by so many microseconds from now on.
    Clock(u64),
    /// The wall clock is wrong by more than any may be.
    WrongClock,
    /// The node, if it has the lease, gives it to that one.
    Cede(usize),
    /// The engine flushes.
    Flush,
    /// All garbage is collected.
    Collect,
    /// All running statements are canceled.
    Cancel,
}

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, virtual milliseconds after the clients began.
    pub at_ms: u64,
    /// To whom.
    pub node: usize,
    /// What.
    pub what: Misfortune,
    /// How long it lasts, or until a crashed node starts again.
    pub for_ms: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { at_ms, node, what, for_ms } = self;
        write!(f, "at {at_ms} ms: node {}: {what:?}, for {for_ms} ms", node + 1)
    }
}

/// The misfortunes of `ms` milliseconds of a cluster of `nodes`.
pub fn draw(seed: u64, nodes: usize, ms: u64) -> Vec<Event> {
    let rng = SimRng::stream(seed, "schedule of misfortunes");
    let mut events = Vec::new();
    let mut at_ms = 200;
    while at_ms < ms {
        let node = rng.below(nodes as u64) as usize;
        let other = (node + 1 + rng.below(nodes as u64 - 1) as usize) % nodes;
        let what = match rng.below(22) {
            0 | 1 => Misfortune::Crash,
            2 => Misfortune::CrashSoon { after: rng.below(2_000), at_operation: false },
            3 => Misfortune::CrashSoon { after: rng.below(60), at_operation: true },
            4 | 5 => Misfortune::Isolate,
            6 | 7 => Misfortune::CutTo(other),
            8..=10 => Misfortune::Flaky {
                to: other,
                lost: rng.below(400),
                repeated: rng.below(300),
                delay_ms: *rng.choose(&[1, 20, 300]),
            },
            11 | 12 => Misfortune::SlowDisk { sync_ms: *rng.choose(&[5, 60, 900]) },
            13 | 14 => Misfortune::Clock(rng.below(MOST_OFF_MICROS)),
            15 if rng.one_in(3) => Misfortune::WrongClock,
            15 | 16 => Misfortune::Cede(other),
            17 | 18 => Misfortune::Flush,
            19 => Misfortune::Collect,
            20 => Misfortune::Cancel,
            _ => Misfortune::Cede(other),
        };
        events.push(Event { at_ms, node, what, for_ms: rng.between(50, 1_500) });
        at_ms += rng.between(10, 500);
    }
    events
}

/// The shortest list that still fails that leaving out pieces of `events` leads to, in at most `tries` runs.
pub fn shrink(events: &[Event], tries: usize, fails: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let mut kept = events.to_vec();
    let (mut piece, mut tried) = (kept.len().div_ceil(2), 0);
    while piece > 0 && !kept.is_empty() {
        let (mut at, mut shorter) = (0, false);
        while at < kept.len() && tried < tries {
            let end = (at + piece).min(kept.len());
            let without: Vec<Event> = [&kept[..at], &kept[end..]].concat();
            tried += 1;
            if fails(&without) {
                (kept, shorter) = (without, true);
            } else {
                at = end;
            }
        }
        if tried >= tries {
            break;
        }
        if !shorter || piece > 1 {
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shrunk_to_what_causes_it() {
        let events = draw(7, 3, 20_000);
        assert!(events.len() > 30);
        let causes = [events[5], events[29]];
        let shrunk = shrink(&events, 1_000, |tried| causes.iter().all(|cause| tried.contains(cause)));
        assert_eq!(shrunk, causes);
        assert_eq!(shrink(&events, 1_000, |_| true), [], "it fails without any");
    }

    #[test]
    fn clocks_stay_within_what_they_may_be_off() {
        for seed in 0..50 {
            let wrong =
                |event: &Event| matches!(event.what, Misfortune::Clock(off) if off >= MOST_OFF_MICROS);
            assert!(!draw(seed, 5, 10_000).iter().any(wrong));
        }
    }
}
