//! Spare segments: files made ready before they are needed, new or recycled.
//!
//! A new one is written full of zeroes, so that a later sync of a record has no metadata to write
//! along. That takes long for a full-size segment, hence in the background and in small steps.

use std::sync::Arc;
use std::time::Duration;

use cairn_kv::Result;
use cairn_kv::seam::{Disk, Runtime};
use parking_lot::Mutex;

use crate::record::BLOCK;
use crate::segment::spare_name;

/// Recycled segments kept; more than the log needs between two flushes only waste space.
const MAX_SPARES: usize = 2;

/// Zeroes written per step.
const STEP_BYTES: u64 = 1 << 20;

/// A file ready to become a segment.
#[derive(Clone, Copy, Debug)]
pub struct Spare {
    /// Number in its name.
    pub number: u64,
    /// Bytes.
    pub capacity: u64,
}

/// The spares of a log.
pub struct SparePool {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    spares: Vec<Spare>,
    next_number: u64,
    preparing: bool,
    /// The last one could not be made: not tried again before the log has had to go on without.
    failed: bool,
}

impl SparePool {
    /// An empty pool whose background spares have `segment_bytes`, rounded to whole blocks.
    pub fn new(disk: Arc<dyn Disk>, segment_bytes: u64) -> SparePool {
        let segment_bytes = segment_bytes.next_multiple_of(BLOCK).max(4 * BLOCK);
        SparePool {
            disk,
            segment_bytes,
            state: Mutex::new(PoolState { next_number: 1, ..PoolState::default() }),
        }
    }

    /// Bytes of a full-size segment.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Takes over the spares of an earlier life; those of another size, or left half made, go.
    pub(crate) async fn adopt(&self, numbers: &[u64]) -> Result<()> {
        let mut removed = false;
        for &number in numbers {
            let name = spare_name(number);
            let capacity = self.disk.open(&name, false)?.len()?;
            let wanted = capacity == self.segment_bytes && !self.is_full();
            if !wanted {
                self.disk.remove(&name)?;
                removed = true;
            }
            let mut state = self.state.lock();
            state.next_number = state.next_number.max(number + 1);
            if wanted {
                state.spares.push(Spare { number, capacity });
            }
        }
        if removed {
            self.disk.sync_dir().await?;
        }
        Ok(())
    }

    /// Whether there is none, none on its way, and one worth a try.
    pub fn is_wanted(&self) -> bool {
        let state = self.state.lock();
        state.spares.is_empty() && !state.preparing && !state.failed
    }

    /// Whether no more should be kept.
    pub fn is_full(&self) -> bool {
        self.state.lock().spares.len() >= MAX_SPARES
    }

    /// Takes a spare of at least `needed` bytes.
    pub fn take(&self, needed: u64) -> Option<Spare> {
        let mut state = self.state.lock();
        let at = state.spares.iter().position(|s| s.capacity >= needed)?;
        Some(state.spares.swap_remove(at))
    }

    /// A number for a new spare's name.
    pub fn new_number(&self) -> u64 {
        let mut state = self.state.lock();
        state.next_number += 1;
        state.next_number - 1
    }

    /// Adds a spare.
    pub fn put(&self, number: u64, capacity: u64) {
        self.state.lock().spares.push(Spare { number, capacity });
    }

    /// Makes a file of at least `needed` bytes and waits for it.
    pub async fn prepare_now(&self, needed: u64) -> Result<Spare> {
        let spare = Spare { number: self.new_number(), capacity: needed.next_multiple_of(BLOCK) };
        self.write_zeroes(spare, None).await?;
        self.state.lock().failed = false;
        Ok(spare)
    }

    /// Makes a full-size spare little by little: a burst of this size would hold up the syncs of
    /// commits on the same device.
    pub async fn prepare_in_background(self: Arc<Self>, runtime: Arc<dyn Runtime>) {
        if std::mem::replace(&mut self.state.lock().preparing, true) {
            return;
        }
        let spare = Spare { number: self.new_number(), capacity: self.segment_bytes };
        let result = self.write_zeroes(spare, Some(&*runtime)).await;
        if let Err(error) = &result {
            // The log tries again by itself when it has to, and fails then if it must.
            tracing::warn!(%error, "could not prepare a spare log segment");
            // What there is of it takes up space that others may lack.
            if let Err(error) = self.disk.remove(&spare_name(spare.number)) {
                tracing::warn!(%error, "could not remove a half made log segment");
            }
        }
        let mut state = self.state.lock();
        state.preparing = false;
        state.failed = result.is_err();
        if result.is_ok() {
            state.spares.push(spare);
        }
    }

    async fn write_zeroes(&self, spare: Spare, pace: Option<&dyn Runtime>) -> Result<()> {
        let file = self.disk.open(&spare_name(spare.number), true)?;
        let zeroes = vec![0; STEP_BYTES.min(spare.capacity) as usize];
        let mut offset = 0;
        while offset < spare.capacity {
            let step = (spare.capacity - offset).min(STEP_BYTES);
            file.write_at(offset, &zeroes[..step as usize])?;
            offset += step;
            if let Some(runtime) = pace {
                file.sync().await?;
                runtime.sleep(Duration::from_millis(3)).await;
            }
        }
        file.sync().await?;
        self.disk.sync_dir().await
    }
}
