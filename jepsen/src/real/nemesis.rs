//! Brings faults over a cluster, one after the other, and takes them away.

use std::sync::Arc;
use std::time::Duration;

use cairn_kv::sim::SimRng;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, RECOVERY, number};
use super::fault::{Incident, Kind};
use super::order::{Direction, Order};
use super::probe::Probe;
use super::timeline::Timeline;

/// Clocks are off by at most this, so that two are by at most twice as much.
const SKEW_MICROS: u64 = 40_000;

/// A clock that is off by more than the bound, which is 100 ms, is off by so much at least, and at most.
const STRAY_MICROS: (u64, u64) = (150_000, 1_000_000);

/// A node whose clock is so stops itself within this time.
const STRAY_LIMIT: Duration = Duration::from_secs(3);

/// A node that has ended is looked for this often.
const LOOK: Duration = Duration::from_millis(50);

/// Brings faults.
pub struct Nemesis<'a> {
    /// Over these.
    pub cluster: &'a mut Cluster,
    /// Who tells that a node answers again.
    pub probe: &'a Probe,
    /// What is told.
    pub timeline: Arc<Timeline>,
    /// What is chosen.
    pub rng: SimRng,
    /// What it chooses from.
    pub kinds: Vec<Kind>,
    /// Whether the victim is always the leaseholder, and else two times in three.
    pub only_leaseholder: bool,
}

impl Nemesis<'_> {
    /// Brings so many faults. Ends early where the cluster does not recover.
    pub async fn bring(&mut self, faults: usize) -> (Vec<Incident>, Result<(), String>) {
        let mut incidents: Vec<Incident> = Vec::new();
        let mut result = self.all_answer().await;
        for _ in 0..faults {
            if result.is_err() {
                break;
            }
            sleep(self.between(700, 1_500)).await;
            let now = self.timeline.now();
            if let Some(before) = incidents.last_mut() {
                before.ended = now;
            }
            let kind = *self.rng.choose(&self.kinds);
            let (victim, had_lease) = self.victim().await;
            let mut incident = Incident {
                kind,
                victim: (kind != Kind::Skew).then_some(victim),
                had_lease: had_lease && kind != Kind::Skew,
                began: self.timeline.now(),
                healed: Duration::ZERO,
                ended: Duration::ZERO,
            };
            let lease = if had_lease { ", which has the lease" } else { "" };
            self.timeline.note(&format!("{kind}: node {}{lease}", victim + 1));
            result = self.bring_one(kind, victim).await;
            if result.is_ok() {
                result = self.all_answer().await;
            }
            if result.is_ok() {
                self.timeline.note("all nodes answer");
            }
            incident.healed = self.timeline.now();
            incident.ended = incident.healed;
            incidents.push(incident);
        }
        sleep(self.between(700, 1_500)).await;
        if let Some(last) = incidents.last_mut() {
            last.ended = self.timeline.now();
        }
        (incidents, result)
    }

    async fn victim(&mut self) -> (usize, bool) {
        let leaseholder = self.cluster.leaseholder().await;
        match leaseholder {
            Some(node) if self.only_leaseholder || !self.rng.one_in(3) => (node, true),
            _ => {
                let node = self.rng.below(self.cluster.places().len() as u64) as usize;
                (node, leaseholder == Some(node))
            }
        }
    }

    async fn bring_one(&mut self, kind: Kind, victim: usize) -> Result<(), String> {
        match kind {
            Kind::Kill => {
                self.cluster.kill(victim);
                sleep(self.between(500, 2_000)).await;
                self.cluster.launch(victim)
            }
            Kind::Drain => {
                self.cluster.drain(victim).await?;
                sleep(self.between(100, 1_000)).await;
                self.cluster.launch(victim)
            }
            Kind::Pause => {
                self.cluster.pause(victim)?;
                sleep(self.between(500, 3_500)).await;
                self.cluster.resume(victim)
            }
            Kind::Partition => self.cut(victim, Direction::Both).await,
            Kind::Deaf => self.cut(victim, Direction::In).await,
            Kind::Mute => self.cut(victim, Direction::Out).await,
            Kind::Hang => {
                self.cluster.order(victim, Order::Hang).await?;
                sleep(self.between(1_000, 4_000)).await;
                // It may have given its disk up, and itself.
                if self.relaunch_if_ended(victim)? {
                    return Ok(());
                }
                self.cluster.order(victim, Order::Unhang).await
            }
            Kind::Skew => {
                for node in 0..self.cluster.places().len() {
                    let micros = self.rng.below(2 * SKEW_MICROS) as i64 - SKEW_MICROS as i64;
                    self.timeline.note(&format!("the clock of node {} is off by {micros} µs", node + 1));
                    self.cluster.order(node, Order::Skew(micros)).await?;
                }
                sleep(self.between(1_000, 4_000)).await;
                for node in 0..self.cluster.places().len() {
                    self.cluster.order(node, Order::Skew(0)).await?;
                }
                Ok(())
            }
            Kind::Stray => self.stray(victim).await,
            Kind::Flap => self.flap(victim).await,
        }
    }

    async fn cut(&mut self, victim: usize, direction: Direction) -> Result<(), String> {
        for peer in self.peers(victim) {
            self.cluster.order(victim, Order::Cut(number(peer), direction)).await?;
        }
        sleep(self.between(1_000, 4_000)).await;
        self.cluster.order(victim, Order::Heal).await
    }

    /// A clock that is wrong, until its node has stopped itself; it starts with one that is right.
    async fn stray(&mut self, victim: usize) -> Result<(), String> {
        let micros = self.rng.between(STRAY_MICROS.0, STRAY_MICROS.1) as i64;
        let micros = if self.rng.one_in(2) { micros } else { -micros };
        self.timeline.note(&format!("the clock of node {} is off by {micros} µs", victim + 1));
        self.cluster.order(victim, Order::Skew(micros)).await?;
        let deadline = Instant::now() + STRAY_LIMIT;
        let status = loop {
            match self.cluster.exited(victim) {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    return Err(format!("node {} goes on with a clock off by {micros} µs", victim + 1));
                }
                None => sleep(LOOK).await,
            }
        };
        let words = self.cluster.last_words(victim);
        if status.success() || !words.contains("this node's clock is off by at least") {
            return Err(format!("node {} does not say why it ended ({status}):\n{words}", victim + 1));
        }
        self.timeline.note(&format!("node {} has stopped itself", victim + 1));
        sleep(self.between(100, 1_000)).await;
        self.cluster.launch(victim)
    }

    /// The link to one other.
    async fn flap(&mut self, victim: usize) -> Result<(), String> {
        let peers = self.peers(victim);
        if peers.is_empty() {
            return Ok(());
        }
        let peer = number(*self.rng.choose(&peers));
        let end = Instant::now() + self.between(2_000, 4_000);
        while Instant::now() < end {
            self.cluster.order(victim, Order::Cut(peer, Direction::Both)).await?;
            sleep(self.between(10, 400)).await;
            self.cluster.order(victim, Order::Heal).await?;
            sleep(self.between(10, 400)).await;
        }
        Ok(())
    }

    fn peers(&self, victim: usize) -> Vec<usize> {
        (0..self.cluster.places().len()).filter(|node| *node != victim).collect()
    }

    /// Waits until a write through each node is acknowledged.
    async fn all_answer(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + RECOVERY;
        for node in 0..self.cluster.places().len() {
            let mut answered = std::pin::pin!(self.probe.acknowledged(node));
            while timeout(LOOK, &mut answered).await.is_err() {
                if let Some(status) = self.cluster.exited(node) {
                    let words = self.cluster.last_words(node);
                    return Err(format!("node {} has ended ({status}):\n{words}", node + 1));
                }
                if Instant::now() > deadline {
                    let statuses = self.cluster.statuses().await;
                    return Err(format!(
                        "no write through node {} is acknowledged within {RECOVERY:?}: {statuses:?}",
                        node + 1
                    ));
                }
            }
        }
        Ok(())
    }

    fn relaunch_if_ended(&mut self, node: usize) -> Result<bool, String> {
        let Some(status) = self.cluster.exited(node) else { return Ok(false) };
        self.timeline.note(&format!("node {} ended itself ({status})", node + 1));
        self.cluster.launch(node).map(|()| true)
    }

    fn between(&self, low_ms: u64, high_ms: u64) -> Duration {
        Duration::from_millis(self.rng.between(low_ms, high_ms))
    }
}
