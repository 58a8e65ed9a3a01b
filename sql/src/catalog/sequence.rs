//! Sequences: `nextval` outside transactions, as in PostgreSQL. The stored state runs ahead of
//! what was handed out by a block, which a crash skips.

use std::collections::BTreeMap;
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
    blocks: Mutex<BTreeMap<Oid, Block>>,
    refill: tokio::sync::Mutex<()>,
}

/// Values taken but not yet handed out.
#[derive(Clone, Copy)]
struct Block {
    next: i64,
    left: u64,
    increment: i64,
    /// Whether the value before `next` was handed out from here.
    handed_out: bool,
}

/// Stored state: the last value handed out or taken, and whether it was.
#[derive(Clone, Copy)]
struct State {
    value: i64,
    called: bool,
}

impl Sequences {
    /// The next value if one is at hand.
    pub fn try_next(&self, id: Oid) -> Option<i64> {
        let mut blocks = self.blocks.lock();
        let block = blocks.get_mut(&id)?;
        block.left = block.left.checked_sub(1)?;
        let value = block.next;
        block.next = block.next.wrapping_add(block.increment);
        block.handed_out = true;
        Some(value)
    }

    /// Sees to it that `n` values are at hand (fewer only at the sequence's limit); fails with
    /// 2200H when there is none.
    pub async fn reserve(&self, db: &Arc<Db>, table: &TableDesc, n: u64) -> Result<()> {
        let Some(sequence) = &table.sequence else {
            return Err(not_a_sequence(&table.name));
        };
        let at_hand = |blocks: &BTreeMap<Oid, Block>| blocks.get(&table.id).map_or(0, |b| b.left);
        if at_hand(&self.blocks.lock()) >= n {
            return Ok(());
        }
        let _refill = self.refill.lock().await;
        let have = at_hand(&self.blocks.lock());
        if have >= n {
            return Ok(());
        }
        let want = (n - have).max(BLOCK);
        let key = system_key(ids::SEQUENCES, table.id as u64);
        let taken = update_key(db, &key, &mut |stored| {
            let state = State::decode(stored, sequence)?;
            let (block, last) = state.take(sequence, want).unwrap_or((None, state));
            Ok((last.encode(), block))
        })
        .await?;
        let mut blocks = self.blocks.lock();
        match (taken, have) {
            (None, 0) => Err(exhausted(&table.name, sequence)),
            (None, _) => Ok(()),
            (Some(block), _) => {
                blocks
                    .entry(table.id)
                    .and_modify(|b| {
                        // The block taken follows on what is left, unless setval came between.
                        let follows = b.next.wrapping_add(b.increment.wrapping_mul(b.left as i64));
                        if b.left > 0 && follows == block.next && b.increment == block.increment {
                            b.left += block.left;
                        } else {
                            *b = block;
                        }
                    })
                    .or_insert(block);
                Ok(())
            }
        }
    }

    /// `setval`.
    pub async fn set(&self, db: &Arc<Db>, table: &TableDesc, value: i64, called: bool) -> Result<()> {
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
        let _refill = self.refill.lock().await;
        let key = system_key(ids::SEQUENCES, table.id as u64);
        update_key(db, &key, &mut |_| Ok((State { value, called }.encode(), ()))).await?;
        self.blocks.lock().remove(&table.id);
        Ok(())
    }

    /// The last value handed out and true, or the first to come and false, of a sequence in use.
    pub fn last_value(&self, id: Oid) -> Option<(i64, bool)> {
        let blocks = self.blocks.lock();
        let block = blocks.get(&id)?;
        match block.handed_out {
            true => Some((block.next.wrapping_sub(block.increment), true)),
            false => Some((block.next, false)),
        }
    }

    /// Forgets what is at hand (the sequence was dropped or changed).
    pub fn forget(&self, id: Oid) {
        self.blocks.lock().remove(&id);
    }
}

impl State {
    fn decode(stored: Option<&[u8]>, sequence: &SequenceDesc) -> Result<State> {
        match stored {
            None => Ok(State { value: sequence.start, called: false }),
            Some([a, b, c, d, e, f, g, h, called @ (0 | 1)]) => Ok(State {
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
    fn take(self, s: &SequenceDesc, n: u64) -> Option<(Option<Block>, State)> {
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
        let block =
            Block { next: next as i64, left: count as u64, increment: s.increment, handed_out: false };
        Some((Some(block), State { value: last as i64, called: true }))
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
