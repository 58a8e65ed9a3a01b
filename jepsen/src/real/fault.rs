//! Kinds of faults, and what one of them did to the clients.

use std::fmt;
use std::time::Duration;

use cairn_raft::Faults;
use clap::ValueEnum;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// SIGKILL, and a start some time after.
    Kill,
    /// SIGSTOP, and SIGCONT some time after.
    Pause,
    /// No frames between a node and the others.
    Partition,
    /// A node hears nothing of the others, which hear it.
    Deaf,
    /// The others hear nothing of a node, which hears them.
    Mute,
    /// Writes and syncs of a node's disk wait.
    Hang,
    /// The clocks of all nodes are off, less than the bound from each other.
    Skew,
    /// A node's clock is off by more than the bound: it must stop itself, and say why.
    Stray,
    /// A link between two nodes comes and goes.
    Flap,
    /// SIGTERM, and a start after the end.
    Drain,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("none is skipped").get_name())
    }
}

/// A bug built into the nodes on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    /// A leader serves reads for as long as it believes to lead.
    ServeBeyondSupport,
    /// Replicas campaign and vote whatever their stores have promised.
    IgnorePromises,
}

impl Plant {
    /// As the store is told.
    pub fn faults(self) -> Faults {
        match self {
            Plant::ServeBeyondSupport => Faults { serve_beyond_support: true, ..Faults::default() },
            Plant::IgnorePromises => Faults { ignore_promises: true, ..Faults::default() },
        }
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("none is skipped").get_name())
    }
}

/// A fault that was brought.
#[derive(Clone, Debug)]
pub struct Incident {
    /// Which.
    pub kind: Kind,
    /// The node it was brought over; none: all.
    pub victim: Option<usize>,
    /// Whether the victim had the lease.
    pub had_lease: bool,
    /// When, since the run began.
    pub began: Duration,
    /// When it was taken away and the victim had answered again.
    pub healed: Duration,
    /// When its effects are no longer looked for: the next begins.
    pub ended: Duration,
}

impl Incident {
    /// The longest time between two answers to writes through a node that was not its victim. `answers`: when
    /// writes through each node were acknowledged, in order. With nobody else it is the victim's.
    pub fn gap(&self, answers: &[Vec<Duration>]) -> Option<Duration> {
        let others =
            answers.iter().enumerate().filter(|(node, _)| self.victim != Some(*node) || answers.len() == 1);
        others.map(|(_, answers)| gap(answers, self.began, self.ended)).max()
    }
}

/// The longest time without an answer that overlaps the time from `from` to `to`.
fn gap(answers: &[Duration], from: Duration, to: Duration) -> Duration {
    let first = answers.partition_point(|at| *at < from).saturating_sub(1);
    let last = answers.partition_point(|at| *at <= to);
    let within = &answers[first..last];
    // Where nothing was answered before or after, the time itself is the bound.
    let before = within.first().map_or(from, |at| (*at).min(from));
    let times = std::iter::once(before).chain(within.iter().copied()).chain([to]);
    let times: Vec<Duration> = times.collect();
    times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().map(|ms| Duration::from_millis(*ms)).collect()
    }

    fn incident(victim: Option<usize>) -> Incident {
        let [began, healed, ended] = [1000, 2000, 3000].map(Duration::from_millis);
        Incident { kind: Kind::Kill, victim, had_lease: true, began, healed, ended }
    }

    #[test]
    fn a_gap_begins_before_the_fault_and_is_that_of_the_survivor_worst_off() {
        let answers = [ms(&[900]), ms(&[10, 990, 1490, 2000, 2500, 3000]), ms(&[995, 1500, 2240, 2980])];
        let gap = |victim| incident(victim).gap(&answers).map(|gap| gap.as_millis());
        assert_eq!(gap(Some(0)), Some(740));
        assert_eq!(gap(Some(1)), Some(2100), "from 900 on nothing was answered through the first");
        assert_eq!(gap(None), Some(2100));
        assert_eq!(incident(Some(0)).gap(&answers[..1]).map(|gap| gap.as_millis()), Some(2100));
        assert_eq!(incident(Some(0)).gap(&[ms(&[]), ms(&[])]).map(|gap| gap.as_millis()), Some(2000));
    }
}
