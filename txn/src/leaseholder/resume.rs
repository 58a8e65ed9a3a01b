//! Sessions that outlive a lease.
//!
//! What a leaseholder has in memory is void when its lease is over. Of a transaction of another node's gateway that is
//! a session ([`crate::wire`]): its locks, and what was seen under them. The gateway knows all of this, too, as it was
//! told with each answer ([`crate::gateway::open_sessions`]). So before a new leaseholder serves anything it *gathers*: it asks
//! each gateway what sessions it has, and makes them anew. Steps that were under way are sent again as any request
//! that is not answered, and find their session. Nobody can have taken a lock in between. A gateway that says nothing in time is
//! not waited for; then its transactions fail with 40001, as do those of the old leaseholder's own gateway.
//!
//! Why this is safe. A session goes on only if its gateway is certain that it was there, with these locks, until the last
//! lease ended: it was answered under just that lease, and lately enough that it cannot have been taken for dead. From when a
//! gateway has told of its sessions, answers under earlier leases count for nothing there: a step or an end
//! that the old leaseholder has answered in the meantime is asked for again, of the new one. What was seen under a lock
//! is seen again here; that must be the very version, and the commit validates it as ever (R12). A commit may have taken
//! effect under the old lease though its answer did not come: its marker tells (R7).
//!
//! A session with intents, or with reads that were staged, does not go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::Timestamp;
use prost::Message;
use tokio::sync::mpsc;

use super::Leaseholder;
use super::lock_table::{Attempt, Requester};
use super::session::{Over, Session};
use super::slot::KeyHash;
use crate::gateway::held_locks::{HeldLocks, Seen};
use crate::gateway::remote::RemoteLeaseholder;
use crate::wire::{Answer, Gateway, NodeId, OpenSession, Outcome, Request, Told, WIRE_VERSION};
use crate::{LockStrength, TxnError};

/// A new leaseholder waits for gateways for so long.
const PATIENCE: Duration = Duration::from_millis(50);

impl Leaseholder {
    /// Asks the gateways of `nodes`, by way of `link`, what sessions they have, and goes on with those. Before anything is
    /// served. Returns their number.
    pub async fn gather(
        &self,
        link: &Arc<RemoteLeaseholder>,
        nodes: BTreeSet<NodeId>,
    ) -> Result<u64, TxnError> {
        let runtime = &self.store.env().runtime;
        let (sender, mut answers) = mpsc::unbounded_channel();
        for node in nodes {
            let (link, sender, lease) = (Arc::clone(link), sender.clone(), self.lease.sequence);
            let ask = async move {
                // Nobody may wait any more.
                let _ = sender.send((node, link.ask_for_sessions(node, lease).await));
            };
            runtime.spawn("sessions of a gateway", Box::pin(ask));
        }
        drop(sender);
        let (mut patience, mut taken) = (runtime.sleep(PATIENCE), 0);
        loop {
            tokio::select! {
                biased;
                answer = answers.recv() => match answer {
                    Some((node, Some(answer))) => taken += self.take_told(node, answer)?,
                    Some((_, None)) => {}
                    None => return Ok(taken),
                },
                () = &mut patience => {
                    tracing::info!("a gateway has not told of its transactions in time");
                    return Ok(taken);
                }
            }
        }
    }

    fn take_told(&self, node: NodeId, answer: Bytes) -> Result<u64, TxnError> {
        let answer = Answer::decode(answer).ok().filter(|answer| answer.version == WIRE_VERSION);
        let Some(Answer { now, outcome: Some(Outcome::Told(told)), .. }) = answer else { return Ok(0) };
        if !self.store.observe(Timestamp(now)) {
            return Ok(0);
        }
        let Told { gateway, announcement, oldest_read, oldest_txn, sessions } = told;
        let announced = Request { gateway, announcement, oldest_read, oldest_txn, ..Request::default() };
        let nanos = self.store.env().clock.monotonic_nanos();
        self.gateways.announce(&announced, &self.live, nanos);
        let (all, mut taken) = (sessions.len() as u64, 0);
        for open in sessions {
            taken += u64::from(self.take_session(gateway, open)?);
        }
        if all > 0 {
            tracing::info!(node, taken, lost = all - taken, "transactions of an earlier lease go on");
        }
        Ok(taken)
    }

    fn take_session(&self, gateway: Gateway, open: OpenSession) -> Result<bool, TxnError> {
        let who = Requester { owner: self.new_owner(), session: open.txn.session };
        let mut locks = HeldLocks::default();
        let relocked = self.relock(who, &open, &mut locks);
        if matches!(relocked, Ok(true)) {
            let session = Arc::new(Session::resumed(who, open.txn.step, locks));
            match self.gateways.resume(gateway, open.txn.number, session) {
                Ok(()) => return Ok(true),
                Err(Over(refused)) => locks = refused,
            }
        }
        self.locks.release_all(who.owner, locks.iter().map(|lock| (&lock.key, lock.hash)));
        relocked.map(|_| false)
    }

    /// Takes the locks of a session, and sees under them what was seen before; false: that cannot be.
    fn relock(&self, who: Requester, open: &OpenSession, locks: &mut HeldLocks) -> Result<bool, TxnError> {
        let mut value = Vec::new();
        for lock in &open.locks {
            let hash = KeyHash::of(&lock.key);
            let strength = if lock.exclusive { LockStrength::Exclusive } else { LockStrength::Shared };
            if !locks.are_enough(&lock.key, hash, strength) {
                match self.locks.lock(who, &lock.key, hash, strength) {
                    Attempt::Granted { .. } | Attempt::AlreadyHeld => {}
                    Attempt::Waiting(_) | Attempt::Deadlock(_) => return Ok(false),
                }
                locks.took(lock.key.clone(), hash, strength);
            }
            if let Some(ts) = lock.seen {
                // No write is under way, nor is there an intent: nothing was served yet, and recovery is through.
                let upto = self.store.hlc().last();
                let found = self.read_locked(&lock.key, hash, Timestamp::MAX, &mut value)?;
                if found.ts != Timestamp(ts) {
                    return Ok(false);
                }
                let value = found.exists.then(|| Bytes::copy_from_slice(&value));
                let seen = Seen { ts: found.ts, upto, stamp: found.stamp, version: None };
                locks.saw(&lock.key, hash, seen, value.as_ref());
            }
        }
        Ok(true)
    }
}
