//! Where store liveness keeps its promises: a small file of two slots, written in turn, so that a torn
//! write costs the slot that was being written and not the one before it.
//!
//! | bytes of a slot | what |
//! |---|---|
//! | 0–7 | magic, format |
//! | 8–15 | number of the write |
//! | 16–19 | length of the content |
//! | 20–23 | CRC-32C of bytes 0–19 and of the content |
//! | 24– | content |

use std::sync::Arc;

use cairn_kv::seam::{Disk, DiskFile};
use cairn_kv::{Error, Result};

use crate::record::{le32, le64};
use crate::segment::read_full;

const NAME: &str = "support";
const SLOT_BYTES: usize = 4096;
const HEADER_BYTES: usize = 24;
const MAGIC: &[u8; 8] = b"CAIRNSU1";

/// The file, open for writing.
pub struct SupportFile {
    file: Arc<dyn DiskFile>,
    writes: u64,
}

impl SupportFile {
    /// Whether there is one.
    pub fn exists(disk: &dyn Disk) -> Result<bool> {
        Ok(disk.list()?.iter().any(|name| name == NAME))
    }

    /// Opens or creates it; returns what was written last, if anything was.
    pub async fn open(disk: &dyn Disk) -> Result<(SupportFile, Option<Vec<u8>>)> {
        let file = disk.open(NAME, true)?;
        // Also one that exists: its maker may have died before this.
        disk.sync_dir().await?;
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        read_full(&*file, 0, &mut bytes)?;
        let newest = bytes.chunks(SLOT_BYTES).filter_map(read_slot).max_by_key(|(number, _)| *number);
        // The first write of all may be torn; once a second one was begun, one of the two is whole.
        let begun = bytes.chunks(SLOT_BYTES).filter(|slot| slot.iter().any(|byte| *byte != 0)).count();
        if newest.is_none() && begun == 2 {
            return Err(Error::Corruption(format!("file {NAME}: neither of its two slots is valid")));
        }
        let writes = newest.as_ref().map_or(0, |(number, _)| *number);
        Ok((SupportFile { file, writes }, newest.map(|(_, content)| content)))
    }

    /// Makes `content` durable in place of what was written before.
    pub async fn write(&mut self, content: &[u8], skip_sync: bool) -> Result<()> {
        if content.len() > SLOT_BYTES - HEADER_BYTES {
            return Err(Error::Io(format!("file {NAME}: {} bytes do not fit a slot", content.len())));
        }
        self.writes += 1;
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(MAGIC);
        slot.extend_from_slice(&self.writes.to_le_bytes());
        slot.extend_from_slice(&(content.len() as u32).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&slot), content);
        slot.extend_from_slice(&checksum.to_le_bytes());
        slot.extend_from_slice(content);
        slot.resize(SLOT_BYTES, 0);
        self.file.write_at(self.writes % 2 * SLOT_BYTES as u64, &slot)?;
        if skip_sync { Ok(()) } else { self.file.sync().await }
    }
}

/// Number and content of a valid slot.
fn read_slot(slot: &[u8]) -> Option<(u64, Vec<u8>)> {
    let length = le32(&slot[16..]) as usize;
    let content = slot.get(HEADER_BYTES..HEADER_BYTES + length)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&slot[..20]), content);
    let valid = &slot[..8] == MAGIC && checksum == le32(&slot[20..]);
    valid.then(|| (le64(&slot[8..]), content.to_vec()))
}

#[cfg(test)]
mod tests {
    use cairn_kv::seam::Runtime;
    use cairn_kv::sim::{Env, Stopped};

    use super::*;

    /// Writes of lives that end at an operation or behind the last one; how many a later life misses of
    /// those that were synced, and how many were cut short.
    fn lost_and_torn(skip_sync: bool) -> (u32, u32) {
        let (mut lost, mut torn) = (0, 0);
        for seed in 0..60 {
            let env = Env::new(seed);
            for number in 1..4u8 {
                env.crash_after_operations((seed % 6) as u32);
                let mut synced = false;
                let written = env.run(async {
                    let disk = env.seams().disk;
                    let (mut file, _) = SupportFile::open(&*disk).await.expect("opens");
                    file.write(&[number; 40], skip_sync).await.expect("written");
                    synced = env.executor.is_powered();
                    // The power fails at this poll, if not before.
                    env.crash_after_polls(0);
                    env.executor.runtime().yield_now().await;
                });
                assert_eq!(written.err(), Some(Stopped::Crashed));
                torn += u32::from(!synced);
                let found = env.block_on(async { SupportFile::open(&*env.seams().disk).await });
                let found = found.ok().and_then(|(_, content)| content).map_or(0, |content| content[0]);
                lost += u32::from(found < number && synced || found < number - 1);
                if found < number {
                    break;
                }
                env.crash();
            }
        }
        (lost, torn)
    }

    #[test]
    fn what_was_synced_stays_and_a_torn_write_leaves_the_one_before() {
        let (lost, torn) = lost_and_torn(false);
        assert!(lost == 0 && torn > 5, "{lost} lost, {torn} torn");
        assert!(lost_and_torn(true).0 > 5, "without sync some are lost");
    }
}
