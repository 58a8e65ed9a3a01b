//! Commits into a watched span, counted by gateway.
//!
//! A gateway keeps in memory what it has read of the span (SQL's catalog) and has to know whether anybody
//! else has changed it. The leaseholder counts each node's commits there; what concerns a gateway is the sum of
//! the others'. A commit is in flight from before its timestamp is chosen until it is applied or has failed, and
//! then counted either way. It chooses a new timestamp, never its transaction's snapshot. So if, after a snapshot was
//! drawn, nothing of others is in flight and the count is the one that a gateway knows, then whatever others commit
//! later lies above the snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::wire::{NodeId, WatchRef};

/// What a gateway knows of other gateways' commits into the watched span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watch {
    /// Sequence of the lease under which they were counted.
    pub lease: u64,
    /// How many there were.
    pub count: u64,
}

impl From<Watch> for WatchRef {
    fn from(Watch { lease, count }: Watch) -> WatchRef {
        WatchRef { lease, count }
    }
}

impl From<WatchRef> for Watch {
    fn from(WatchRef { lease, count }: WatchRef) -> Watch {
        Watch { lease, count }
    }
}

/// The counts of a tenure.
pub struct Watched {
    span: Option<(Bytes, Bytes)>,
    lease: u64,
    /// This node.
    node: NodeId,
    counts: Mutex<BTreeMap<NodeId, Count>>,
    /// Commits of nodes other than this one.
    of_others: AtomicU64,
    settled: Notify,
}

#[derive(Clone, Copy, Default)]
struct Count {
    commits: u64,
    in_flight: u64,
}

impl Watched {
    /// Nothing was committed under the lease `lease` of `node`.
    pub fn new(span: Option<(Bytes, Bytes)>, lease: u64, node: NodeId) -> Arc<Watched> {
        Arc::new(Watched {
            span,
            lease,
            node,
            counts: Mutex::default(),
            of_others: AtomicU64::new(0),
            settled: Notify::new(),
        })
    }

    /// A commit by `node` of some keys from `first` to `last` is about to choose its timestamp; `None`: it does not
    /// touch the span.
    pub fn begin(self: &Arc<Watched>, node: NodeId, first: &[u8], last: &[u8]) -> Option<InFlight> {
        let (start, end) = self.span.as_ref()?;
        if last < start || (!end.is_empty() && first >= end) {
            return None;
        }
        self.counts.lock().entry(node).or_default().in_flight += 1;
        Some(InFlight { watched: Arc::clone(self), node })
    }

    /// What concerns the gateway of `node`.
    pub fn watch(&self, node: NodeId) -> Watch {
        let count = if node == self.node { self.of_others.load(Ordering::SeqCst) } else { self.look(node).0 };
        Watch { lease: self.lease, count }
    }

    /// Whether for the gateway of `node` the watch is `expected`, with nothing in flight.
    pub fn is(&self, node: NodeId, expected: Watch) -> bool {
        expected.lease == self.lease && self.look(node) == (expected.count, 0)
    }

    /// What concerns the gateway of `node`, at a time when nothing is in flight.
    pub async fn settled(&self, node: NodeId) -> Watch {
        loop {
            let settled = self.settled.notified();
            if let (count, 0) = self.look(node) {
                return Watch { lease: self.lease, count };
            }
            settled.await;
        }
    }

    /// What others have committed, and how much of theirs is in flight.
    fn look(&self, node: NodeId) -> (u64, u64) {
        let counts = self.counts.lock();
        let others = counts.iter().filter(|(other, _)| **other != node);
        others.fold((0, 0), |(commits, in_flight), (_, count)| {
            (commits + count.commits, in_flight + count.in_flight)
        })
    }
}

/// A commit into the span that is under way.
#[must_use = "the commit is counted when it is dropped"]
pub struct InFlight {
    watched: Arc<Watched>,
    node: NodeId,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        {
            let mut counts = self.watched.counts.lock();
            let count = counts.entry(self.node).or_default();
            count.in_flight -= 1;
            count.commits += 1;
            if self.node != self.watched.node {
                self.watched.of_others.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.watched.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_told_of_the_others_commits_once_they_are_over() {
        let span = (Bytes::from_static(b"b"), Bytes::from_static(b"d"));
        let watched = Watched::new(Some(span), 7, 1);
        assert!(watched.begin(2, b"a", b"az").is_none() && watched.begin(2, b"d", b"e").is_none());
        let none = Watch { lease: 7, count: 0 };
        let one = Watch { lease: 7, count: 1 };
        let commit = watched.begin(2, b"a", b"b").expect("it touches the span");
        assert!(!watched.is(1, none) && !watched.is(3, none) && watched.is(2, none));
        assert_eq!(watched.watch(1), none);
        drop(commit);
        assert!(watched.is(1, one) && watched.is(3, one) && watched.is(2, none));
        assert!(!watched.is(1, Watch { lease: 6, count: 1 }));
        assert_eq!((watched.watch(1), watched.watch(2), watched.watch(3)), (one, none, one));
        drop(watched.begin(1, b"c", b"z"));
        assert_eq!((watched.watch(1), watched.watch(2)), (one, one));
    }
}
