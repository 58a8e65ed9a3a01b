//! An open-loop client: writes at a fixed rate through every node, whatever is answered and when. What it was
//! answered measures outages; what it finds at the end shows that no acknowledged write is lost and none is
//! there twice.
//!
//! Its table has no key, so that a write that took effect twice shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::Client;

use crate::client::Failure;
use crate::history::Outcome;

use super::cluster;
use super::connection::{self, Connection};
use super::timeline::Timeline;

/// The table.
pub const CREATE: &str = "CREATE TABLE probe (k bigint NOT NULL)";

/// Connections to each node: an answer that is late delays only what is behind it on its connection.
const CONNECTIONS: usize = 8;

/// An answer that comes later is none.
const DEADLINE: Duration = Duration::from_secs(3);

/// A node that does not accept a connection within this is tried again.
const CONNECT: Duration = Duration::from_secs(1);

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(10);

/// A running probe. It ends when it is dropped.
pub struct Probe {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    timeline: Arc<Timeline>,
    writes: Mutex<Writes>,
    /// Answers of each node.
    answered: Vec<watch::Sender<u64>>,
}

/// What was written; a key is an index of `outcomes`.
#[derive(Default)]
struct Writes {
    outcomes: Vec<Outcome>,
    /// When writes through each node were acknowledged.
    answers: Vec<Vec<Duration>>,
    /// Answers that no client expects.
    broken: Vec<String>,
}

/// What a probe did.
#[derive(Debug, Default)]
pub struct Tally {
    /// Writes acknowledged.
    pub acknowledged: usize,
    /// Certainly without effect, most of them because there was no connection.
    pub failed: usize,
    /// Whose outcome the client was not told.
    pub unknown: usize,
}

impl Probe {
    /// Writes through each of `nodes` every `period`.
    pub fn start(nodes: &[SocketAddr], period: Duration, timeline: Arc<Timeline>) -> Probe {
        let shared = Arc::new(Shared {
            timeline,
            writes: Mutex::new(Writes { answers: vec![Vec::new(); nodes.len()], ..Writes::default() }),
            answered: nodes.iter().map(|_| watch::Sender::new(0)).collect(),
        });
        let mut tasks = JoinSet::new();
        for (node, address) in nodes.iter().enumerate() {
            let slots: Arc<[Slot]> = (0..CONNECTIONS).map(|_| Slot::default()).collect();
            for slot in 0..CONNECTIONS {
                tasks.spawn(keep_connected(*address, Arc::clone(&slots), slot));
            }
            tasks.spawn(pump(Arc::clone(&shared), node, slots, period));
        }
        Probe { shared, tasks }
    }

    /// Completes when a write through a node is acknowledged that has not been so yet.
    pub async fn acknowledged(&self, node: usize) {
        let mut answers = self.shared.answered[node].subscribe();
        answers.mark_unchanged();
        answers.changed().await.expect("the sender lives as long as this");
    }

    /// Ends it; when writes through each node were acknowledged.
    pub async fn stop(&mut self) -> Vec<Vec<Duration>> {
        // What has been sent may still be answered.
        sleep(PAUSE).await;
        self.tasks.shutdown().await;
        self.shared.writes.lock().answers.clone()
    }

    /// Compares the table with what was acknowledged.
    pub async fn check(&self, connection: &mut Connection) -> Result<Tally, String> {
        let rows = connection.run("SELECT k FROM probe ORDER BY k").await;
        let (rows, _) = rows.map_err(|failure| format!("the table cannot be read: {failure}"))?;
        let mut found: BTreeMap<usize, u32> = BTreeMap::new();
        for row in rows {
            let key = match &row[..] {
                [Some(key)] => key.parse().ok(),
                _ => None,
            };
            *found.entry(key.ok_or_else(|| format!("no key: {row:?}"))?).or_default() += 1;
        }
        compare(&self.shared.writes.lock(), &found)
    }
}

fn compare(writes: &Writes, found: &BTreeMap<usize, u32>) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut wrong: Vec<String> = writes.broken.clone();
    for (key, outcome) in writes.outcomes.iter().enumerate() {
        let times = found.get(&key).copied().unwrap_or(0);
        match outcome {
            Outcome::Committed if times == 0 => {
                wrong.push(format!("write {key} was acknowledged and is lost"))
            }
            Outcome::Aborted if times > 0 => wrong.push(format!("write {key} had failed and is there")),
            _ => {}
        }
        if times > 1 {
            wrong.push(format!("write {key} is there {times} times"));
        }
        match outcome {
            Outcome::Committed => tally.acknowledged += 1,
            Outcome::Aborted => tally.failed += 1,
            Outcome::Unknown => tally.unknown += 1,
        }
    }
    if let Some((key, _)) = found.range(writes.outcomes.len()..).next() {
        wrong.push(format!("{key} is there, which nobody wrote"));
    }
    match wrong.first() {
        None => Ok(tally),
        Some(first) => Err(format!("{first} ({} such)", wrong.len())),
    }
}

/// A connection, while there is one.
type Slot = Mutex<Option<Arc<Client>>>;

async fn keep_connected(address: SocketAddr, slots: Arc<[Slot]>, slot: usize) {
    loop {
        if let Ok(Ok((client, connection))) = timeout(CONNECT, cluster::connect(address)).await {
            *slots[slot].lock() = Some(Arc::new(client));
            // Until it breaks, which is what a fault does.
            drop(connection.await);
            *slots[slot].lock() = None;
        }
        sleep(PAUSE).await;
    }
}

async fn pump(shared: Arc<Shared>, node: usize, slots: Arc<[Slot]>, period: Duration) {
    let mut due = interval(period);
    // The rate holds also when this task was late.
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = JoinSet::new();
    for turn in 0.. {
        due.tick().await;
        while sent.try_join_next().is_some() {}
        let client = slots[turn % CONNECTIONS].lock().clone();
        let mut writes = shared.writes.lock();
        let key = writes.outcomes.len();
        // Not sent is not written.
        let Some(client) = client else {
            writes.outcomes.push(Outcome::Aborted);
            continue;
        };
        writes.outcomes.push(Outcome::Unknown);
        drop(writes);
        sent.spawn(write(Arc::clone(&shared), node, client, key));
    }
}

async fn write(shared: Arc<Shared>, node: usize, client: Arc<Client>, key: usize) {
    let sql = format!("INSERT INTO probe VALUES ({key})");
    let Ok(answer) = timeout(DEADLINE, client.simple_query(&sql)).await else { return };
    let failure = answer.err().map(|error| connection::failure(&error, &sql, false));
    drop(client);
    let mut writes = shared.writes.lock();
    match failure {
        None => {
            writes.outcomes[key] = Outcome::Committed;
            // Under the lock, so that they stand in order.
            writes.answers[node].push(shared.timeline.now());
            drop(writes);
            shared.answered[node].send_modify(|count| *count += 1);
        }
        Some(Failure::Retry(_)) => writes.outcomes[key] = Outcome::Aborted,
        Some(Failure::Unknown(_)) => {}
        Some(other) => writes.broken.push(format!("write {key} through node {}: {other}", node + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_or_risen_is_found() {
        let outcomes = vec![Outcome::Committed, Outcome::Aborted, Outcome::Unknown];
        let writes = Writes { outcomes, ..Writes::default() };
        let look = |found: &[(usize, u32)]| compare(&writes, &found.iter().copied().collect());
        assert!(look(&[(0, 1)]).is_ok());
        let tally = look(&[(0, 1), (2, 1)]).unwrap();
        assert_eq!((tally.acknowledged, tally.failed, tally.unknown), (1, 1, 1));
        assert!(look(&[(2, 1)]).unwrap_err().contains("lost"));
        assert!(look(&[(0, 2)]).unwrap_err().contains("2 times"));
        assert!(look(&[(0, 1), (1, 1)]).unwrap_err().contains("had failed"));
        assert!(look(&[(0, 1), (3, 1)]).unwrap_err().contains("nobody wrote"));
    }
}
