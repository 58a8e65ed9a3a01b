//! Writing intents: a part of a transaction too large for one command becomes replicated locks with
//! provisional values.
//!
//! What is written here is validated here: from then on the intent keeps others from the key, so the
//! lock in memory is not needed any more. The intents' timestamp lies above every read of their keys
//! so far; later reads push the transaction or wait for it.
//!
//! Keys may also be written that must not exist: this is asked here, under the latches, for all of
//! them together, and needs neither a lock nor a read before. From then on the intents keep it true.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::effects::{EFFECTS_FORMAT, Effects, RawWrite};
use cairn_kv::engine::{Ascending, Cf};
use cairn_kv::mvcc::{self, LOCK_FORMAT, LockValue, ProvisionalValue, Strength};
use cairn_kv::{Timestamp, version};
use prost::Message;

use super::Leaseholder;
use super::commit::KeyWrite;
use super::intent_holder::IntentHolder;
use super::lock::Patience;
use super::record::TxnRecord;
use crate::gateway::buffer::{Values, Written};
use crate::gateway::held_locks::Seen;
use crate::{Isolation, TxnError};

/// A part of a transaction to write as intents.
pub struct IntentRequest<'a> {
    /// The transaction, its intents so far.
    pub holder: &'a Arc<IntentHolder>,
    /// Its isolation level.
    pub isolation: Isolation,
    /// Where it read.
    pub read_ts: Timestamp,
    /// Ascending by key; never empty.
    pub writes: Vec<KeyWrite>,
    /// Set: none of the keys may exist. Says what the transaction sees of an own earlier intent: a
    /// value, a deletion or nothing.
    pub absent: Option<&'a (dyn Fn(LockValue) -> Option<Written> + Send + Sync)>,
    /// How long it may wait for others.
    pub patience: Patience<'a>,
}

/// Bytes that an intent takes in a command beside its key and values (and the anchor).
const INTENT_OVERHEAD: usize = 112;

/// About the bytes of an intent in a command, without the anchor.
pub fn intent_bytes(key: &[u8], values: &Values) -> usize {
    let values = values.iter().map(|(_, value)| 16 + value.value().map_or(0, Bytes::len));
    key.len() + INTENT_OVERHEAD + values.sum::<usize>()
}

impl Leaseholder {
    /// Writes intents, with the first ones the transaction's record; returns when they are replicated and
    /// applied.
    pub async fn write_intents(self: &Arc<Leaseholder>, request: IntentRequest<'_>) -> Result<(), TxnError> {
        let holder = request.holder;
        let is_first = holder.will_write(&request.writes);
        let result = self.lay_intents(request, is_first).await;
        if is_first && !matches!(result, Ok(()) | Err(TxnError::Ambiguous(_))) {
            holder.did_not_write();
        }
        result
    }

    async fn lay_intents(
        self: &Arc<Leaseholder>,
        request: IntentRequest<'_>,
        is_first: bool,
    ) -> Result<(), TxnError> {
        let IntentRequest { holder, isolation, read_ts, mut writes, absent, patience } = request;
        let identity = &holder.identity;
        self.make_room().await?;
        let lease = self.lease()?;
        let (latch, _taken) = self.latch_for_write(holder.who, Some(holder), &mut writes, patience).await?;
        self.validate_writes(&writes, isolation, read_ts, Some(holder))?;
        let mut committed = match absent {
            Some(_) => self.see_committed(&mut writes)?,
            None => Vec::new(),
        }
        .into_iter();
        let write_ts = self.choose_timestamp(&latch, None).await?;
        assert!(holder.push(write_ts), "a transaction that writes has not settled its commit");
        let trusted = !self.faults.no_validation;
        let mut stored = Vec::new();
        let mut locks = Vec::with_capacity(writes.len());
        for write in &writes {
            let key = mvcc::lock_key(&write.key, Strength::Intent, &identity.txn_id);
            let mut intent = LockValue {
                format: LOCK_FORMAT,
                anchor: identity.anchor.clone(),
                start_ts: identity.start_ts.0,
                write_ts: write_ts.0,
                seen_ts: write.seen.as_ref().map_or(0, |seen| seen.ts.0),
                values: Vec::new(),
                fresh: trusted && write.seen.as_ref().is_some_and(|seen| seen.ts.is_zero()),
            };
            let mut exists = committed.next().unwrap_or(false);
            if holder.may_hold(&write.key) && self.engine().get(Cf::Lock, &key, &mut stored)? {
                let earlier = mvcc::decode_lock_value(&write.key, Bytes::copy_from_slice(&stored))?;
                if let Some(written) = absent.and_then(|sees| sees(earlier.clone())) {
                    exists = written.value().is_some();
                }
                intent.values = earlier.values;
                intent.seen_ts = earlier.seen_ts;
                intent.fresh = earlier.fresh;
            }
            if exists && !self.faults.blind_bulk {
                self.confirm_newest().await?;
                return Err(TxnError::Exists { key: write.key.clone() });
            }
            for (seq, value) in &write.values {
                let value = ProvisionalValue { seq: *seq, value: value.value().cloned() };
                match intent.values.last_mut() {
                    Some(last) if last.seq == *seq => *last = value,
                    _ => intent.values.push(value),
                }
            }
            locks.push(RawWrite { key, value: Some(intent.encode_to_vec().into()) });
        }
        let [first, ..] = writes.as_slice() else { panic!("intents are written for some key") };
        holder.widen(&first.key, &writes.last().expect("not empty").key);
        let effects = Effects {
            format: EFFECTS_FORMAT,
            locks,
            local: is_first.then(|| TxnRecord::pending(identity).store(identity)).into_iter().collect(),
            ..Effects::default()
        };
        self.propose(lease, effects, Some(latch)).await
    }

    /// Whether each latched key has a committed value; notes what is there.
    pub(super) fn see_committed(&self, writes: &mut [KeyWrite]) -> Result<Vec<bool>, TxnError> {
        let (Some(first), Some(last)) = (writes.first(), writes.last()) else { return Ok(Vec::new()) };
        let mut data = Ascending::new(self.engine(), Cf::Data, &first.key, &last.key);
        let mut exist = Vec::with_capacity(writes.len());
        let mut value = Vec::new();
        for write in writes {
            let (ts, exists) = if data.get(&write.key, &mut value)? {
                let header = version::header(&write.key, &value)?;
                (header.ts, !header.tombstone)
            } else {
                (Timestamp::ZERO, false)
            };
            write.seen = Some(Seen { ts, upto: ts, stamp: self.slots.stamp(write.hash), version: None });
            exist.push(exists);
        }
        Ok(exist)
    }
}
