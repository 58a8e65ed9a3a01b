//! Sequences: `nextval` outside transactions, as in PostgreSQL. The stored state runs ahead of
//! what was handed out by a block, which a crash skips.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cairn_txn::Db;
use parking_lot::Mutex;

use super::counter::update_key;
use super::store::system_key;
use super::{Oid, SequenceDesc, TableDesc};
use crate::storage::ids;
use crate::{Result, SqlError, SqlState};

/// How many values are taken at a time, as many as PostgreSQL logs ahead.
const BLOCK: u64 = 32;

/// The states of all sequences in use on this node.
#[derive(Default)]
pub struct Sequences {
    in_use: Mutex<BTreeMap<Oid, AtHand>>,
    refill: tokio::sync::Mutex<()>,
}

/// What this node has of a sequence.
#[derive(Default)]
struct AtHand {
    /// Values to hand out, in order. More than one block where the sequence cycles: what is left
    /// before its limit, and what follows behind.
    blocks: VecDeque<Block>,
    /// The value handed out last.
    last: Option<i64>,
}

/// Values taken but not yet handed out: at least one.
#[derive(Clone, Copy)]
struct Block {
    next: i64,
    left: u64,
    increment: i64,
}

impl AtHand {
    fn count(&self) -> u64 {
        self.blocks.iter().map(|block| block.left).sum()
    }

    fn hand_out(&mut self) -> Option<i64> {
        let block = self.blocks.front_mut()?;
        let value = block.next;
        block.next = block.next.wrapping_add(block.increment);
        block.left -= 1;
        if block.left == 0 {
            self.blocks.pop_front();
        }
        self.last = Some(value);
        Some(value)
    }
}

/// Stored state: the last value handed out or taken, and whether it was.
#[derive(Clone, Copy, Debug)]
pub struct SequenceState {
    value: i64,
    called: bool,
}

impl Sequences {
    /// The next value if one is at hand.
    pub fn try_next(&self, id: Oid) -> Option<i64> {
        self.in_use.lock().get_mut(&id)?.hand_out()
    }

    /// Sees to it that `n` values are at hand (fewer only at the sequence's limit); fails with
    /// 2200H when there is none.
    pub async fn reserve(&self, db: &Arc<Db>, table: &TableDesc, n: u64) -> Result<()> {
        let Some(sequence) = &table.sequence else {
            return Err(not_a_sequence(&table.name));
        };
        let at_hand = || self.in_use.lock().get(&table.id).map_or(0, AtHand::count);
        if at_hand() >= n {
            return Ok(());
        }
        let _refill = self.refill.lock().await;
        let key = system_key(ids::SEQUENCES, table.id as u64);
        loop {
            let have = at_hand();
            if have >= n {
                return Ok(());
            }
            let want = (n - have).max(BLOCK);
            let taken = update_key(db, &key, &mut |stored| {
                let state = SequenceState::decode(stored, sequence)?;
                Ok(match state.take(sequence, want) {
                    Some((block, last)) => (last.encode(), Some(block)),
                    None => (state.encode(), None),
                })
            })
            .await?;
            match taken {
                Some(block) => self.in_use.lock().entry(table.id).or_default().blocks.push_back(block),
                None if have == 0 => return Err(exhausted(&table.name, sequence)),
                None => return Ok(()),
            }
        }
    }

    /// What `setval` made of a sequence takes effect.
    pub async fn set(&self, db: &Arc<Db>, id: Oid, state: SequenceState) -> Result<()> {
        let _refill = self.refill.lock().await;
        let key = system_key(ids::SEQUENCES, id as u64);
        update_key(db, &key, &mut |_| Ok((state.encode(), ()))).await?;
        self.in_use.lock().remove(&id);
        Ok(())
    }

    /// The last value handed out and true, or the first to come and false, of a sequence in use.
    pub fn last_value(&self, id: Oid) -> Option<(i64, bool)> {
        let in_use = self.in_use.lock();
        let at_hand = in_use.get(&id)?;
        match at_hand.last {
            Some(last) => Some((last, true)),
            None => at_hand.blocks.front().map(|block| (block.next, false)),
        }
    }

    /// Forgets what is at hand (the sequence was dropped or changed).
    pub fn forget(&self, id: Oid) {
        self.in_use.lock().remove(&id);
    }
}

impl SequenceState {
    /// `setval`.
    pub fn set(table: &TableDesc, value: i64, called: bool) -> Result<SequenceState> {
        let Some(sequence) = &table.sequence else {
            return Err(not_a_sequence(&table.name));
        };
        if value < sequence.min || value > sequence.max {
            return Err(SqlError::new(
                SqlState::NUMERIC_OUT_OF_RANGE,
                format!(
                    "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
                    table.name, sequence.min, sequence.max
                ),
            ));
        }
        Ok(SequenceState { value, called })
    }

    /// `nextval`, from here.
    pub fn next(&mut self, table: &TableDesc) -> Result<i64> {
        let Some(sequence) = &table.sequence else {
            return Err(not_a_sequence(&table.name));
        };
        let (block, state) = self.take(sequence, 1).ok_or_else(|| exhausted(&table.name, sequence))?;
        *self = state;
        Ok(block.next)
    }

    fn decode(stored: Option<&[u8]>, sequence: &SequenceDesc) -> Result<SequenceState> {
        match stored {
            None => Ok(SequenceState { value: sequence.start, called: false }),
            Some([a, b, c, d, e, f, g, h, called @ (0 | 1)]) => Ok(SequenceState {
                value: i64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
                called: *called == 1,
            }),
            Some(_) => Err(SqlError::new(SqlState::DATA_CORRUPTED, "stored sequence is malformed")),
        }
    }

    fn encode(self) -> Bytes {
        let mut out = self.value.to_le_bytes().to_vec();
        out.push(self.called as u8);
        out.into()
    }

    /// Takes up to `n` values that lie within the limits.
    fn take(self, s: &SequenceDesc, n: u64) -> Option<(Block, SequenceState)> {
        let within = |v: i128| v >= s.min as i128 && v <= s.max as i128;
        let mut next =
            if self.called { self.value as i128 + s.increment as i128 } else { self.value as i128 };
        if !within(next) {
            if !s.cycle {
                return None;
            }
            next = if s.increment > 0 { s.min as i128 } else { s.max as i128 };
        }
        let room = match s.increment > 0 {
            true => (s.max as i128 - next) / s.increment as i128 + 1,
            false => (next - s.min as i128) / -(s.increment as i128) + 1,
        };
        let count = room.min(n as i128);
        let last = next + s.increment as i128 * (count - 1);
        let block = Block { next: next as i64, left: count as u64, increment: s.increment };
        Some((block, SequenceState { value: last as i64, called: true }))
    }
}

fn not_a_sequence(name: &str) -> SqlError {
    SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{name}\" is not a sequence"))
}

fn exhausted(name: &str, s: &SequenceDesc) -> SqlError {
    let (bound, value) = if s.increment > 0 { ("maximum", s.max) } else { ("minimum", s.min) };
    SqlError::new(
        SqlState(*b"2200H"),
        format!("nextval: reached {bound} value of sequence \"{name}\" ({value})"),
    )
}
