//! One range's part of the log, as raft-rs's `Storage`.
//!
//! For every entry above the truncation point it knows the term and where its record stands;
//! payloads are in memory only above the applied index and for a bounded tail behind it, which a
//! follower that lags a little asks for. Older ones are read back from their segment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::Mutex;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::RangeId;
use crate::log::{LiveSegments, Position};
use crate::record::{Item, Items};

/// Payload bytes of applied entries kept in memory.
const TAIL_BYTES: usize = 256 << 10;

/// What an entry takes besides its payload, for bounds.
const ENTRY_BYTES: u64 = 64;

/// What is known of an entry without reading it.
struct Indexed {
    term: u64,
    /// Of its payload.
    bytes: u32,
    entry_type: i32,
    position: Position,
    data: Option<Vec<u8>>,
}

/// The log of one range.
pub struct RangeLog {
    range: RangeId,
    live: LiveSegments,
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the last entry that is gone.
    truncated: (u64, u64),
    entries: VecDeque<Indexed>,
    /// Entries from here on have their payload in memory.
    in_memory: u64,
    /// Bytes of payload in memory at or below the applied index.
    tail_bytes: usize,
    applied: u64,
    /// During recovery, where the entries before the first known one stood in segments that are
    /// gone: the truncation point known so far. `truncated` is then only inferred, and something
    /// must follow that closes the gap: a higher truncation point, or entries that replace these.
    gap_above: Option<(u64, u64)>,
    /// Raft-rs asks through a shared reference.
    snapshots: Mutex<Snapshots>,
}

/// Followers for which the log does not go back far enough.
#[derive(Default)]
struct Snapshots {
    wanted: BTreeSet<u64>,
    /// What has been staged where they are: raft-rs only has to say so.
    staged: BTreeMap<u64, Snapshot>,
}

impl RangeLog {
    /// An empty log.
    pub fn new(range: RangeId, live: LiveSegments) -> RangeLog {
        RangeLog {
            range,
            live,
            hard_state: HardState::default(),
            conf_state: ConfState::default(),
            truncated: (0, 0),
            entries: VecDeque::new(),
            in_memory: 1,
            tail_bytes: 0,
            applied: 0,
            gap_above: None,
            snapshots: Mutex::default(),
        }
    }

    /// A log that begins behind the entry `point`, of that index and term.
    pub(crate) fn behind(range: RangeId, live: LiveSegments, point: (u64, u64)) -> RangeLog {
        RangeLog { truncated: point, in_memory: point.0 + 1, ..RangeLog::new(range, live) }
    }

    /// The configuration has changed.
    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// The lowest index behind which there are at most `bytes` of entries.
    pub(crate) fn behind_which(&self, bytes: u64) -> u64 {
        let (mut kept, mut index) = (0, self.last());
        for entry in self.entries.iter().rev() {
            kept += ENTRY_BYTES + u64::from(entry.bytes);
            if kept > bytes {
                break;
            }
            index -= 1;
        }
        index
    }

    /// The followers that raft-rs has found to need a snapshot, once.
    pub(crate) fn take_wanted_snapshots(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.snapshots.lock().wanted)
    }

    /// All that a snapshot has is staged where `follower` is; none: it is not, any more.
    pub(crate) fn set_staged(&self, follower: u64, snapshot: Option<Snapshot>) {
        let mut snapshots = self.snapshots.lock();
        match snapshot {
            Some(snapshot) => snapshots.staged.insert(follower, snapshot),
            None => snapshots.staged.remove(&follower),
        };
    }

    /// Nothing is known of followers any more.
    pub(crate) fn forget_snapshots(&self) {
        *self.snapshots.lock() = Snapshots::default();
    }

    /// Index and term of the last entry dropped.
    pub fn truncated(&self) -> (u64, u64) {
        self.truncated
    }

    /// Index of the last entry; that of the truncation point if there is none.
    pub fn last(&self) -> u64 {
        self.truncated.0 + self.entries.len() as u64
    }

    /// The hard state last written.
    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// Records a hard state that was written.
    pub fn set_hard_state(&mut self, state: HardState) {
        self.hard_state = state;
    }

    /// Before raft-rs starts: the configuration, and the applied index, which is committed however
    /// old the hard state is.
    pub fn start(&mut self, conf_state: ConfState, applied: u64) {
        self.conf_state = conf_state;
        self.applied = applied;
        self.hard_state.commit = self.hard_state.commit.max(applied);
    }

    /// The oldest segment of which an entry is still needed.
    pub fn oldest_segment(&self) -> Option<u64> {
        self.entries.front().map(|e| e.position.segment)
    }

    /// Adds entries that stand in the record at `position`, in place of any from the first's index on.
    pub fn append(&mut self, entries: Vec<Entry>, position: Position) {
        let Some(first) = entries.first().map(|e| e.index) else {
            return;
        };
        assert!(first > self.truncated.0 && first <= self.last() + 1, "raft-rs appends without gaps");
        self.cut_from(first);
        for entry in entries {
            let (term, entry_type, bytes) = (entry.term, entry.entry_type, entry.data.len() as u32);
            let indexed = Indexed { term, bytes, entry_type, position, data: Some(entry.data) };
            self.entries.push_back(indexed);
        }
    }

    /// Payload and type of the entry at `index`; `None` if it is not in memory.
    pub fn payload(&self, index: u64) -> Option<(&[u8], i32)> {
        let entry = self.indexed(index)?;
        Some((entry.data.as_deref()?, entry.entry_type))
    }

    /// The entries up to `applied` are applied: their payloads may leave memory.
    pub fn applied_to(&mut self, applied: u64) {
        for index in self.applied + 1..=applied {
            if let Some(data) = self.indexed(index).and_then(|e| e.data.as_ref()) {
                self.tail_bytes += data.len();
            }
        }
        self.applied = self.applied.max(applied);
        while self.tail_bytes > TAIL_BYTES && self.in_memory <= self.applied {
            self.forget_payload();
        }
    }

    /// Drops the entries up to `index`; the truncation point is durable. Returns false if that
    /// changes nothing.
    pub fn truncate(&mut self, index: u64) -> bool {
        if index <= self.truncated.0 {
            return false;
        }
        assert!(index <= self.applied, "only what is applied and flushed is truncated");
        let term = self.indexed(index).expect("an applied entry above the truncation point is there").term;
        while self.in_memory <= index {
            self.forget_payload();
        }
        self.entries.drain(..(index - self.truncated.0) as usize);
        self.truncated = (index, term);
        true
    }

    /// Term of the entry at `index`, if it is known.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.truncated.0 {
            return Some(self.truncated.1);
        }
        self.indexed(index).map(|e| e.term)
    }

    fn indexed(&self, index: u64) -> Option<&Indexed> {
        self.entries.get(index.checked_sub(self.truncated.0 + 1)? as usize)
    }

    fn cut_from(&mut self, index: u64) {
        debug_assert!(index > self.applied, "applied entries are never replaced");
        self.entries.truncate((index - self.truncated.0 - 1) as usize);
        self.in_memory = self.in_memory.min(index);
    }

    /// Drops the oldest payload in memory.
    fn forget_payload(&mut self) {
        let index = self.in_memory;
        self.in_memory += 1;
        let at = index.checked_sub(self.truncated.0 + 1);
        if let Some(entry) = at.and_then(|at| self.entries.get_mut(at as usize))
            && let Some(data) = entry.data.take()
            && index <= self.applied
        {
            self.tail_bytes = self.tail_bytes.saturating_sub(data.len());
        }
    }

    /// Reads an entry back from its segment.
    fn read_back(&self, index: u64) -> Result<Entry, String> {
        let position = self.indexed(index).ok_or("no such entry")?.position;
        let segment = self.live.read().get(&position.segment).cloned().ok_or("its segment is gone")?;
        let mut body = Vec::new();
        segment.read_record(position.offset, &mut body).map_err(|e| e.to_string())?.map_err(|invalid| {
            format!("{}, offset {}: {}", segment.name(), position.offset, invalid.reason)
        })?;
        for item in Items::new(&body) {
            if let Item::Entry { range, index: i, term, entry_type, data, context } = item?
                && (range, i) == (self.range, index)
            {
                let (data, context) = (data.to_vec(), context.to_vec());
                return Ok(Entry { entry_type, term, index, data, context, sync_log: false });
            }
        }
        Err("its record does not contain it".into())
    }

    // Recovery. Errors say what is wrong with the record that the item stands in.

    pub(crate) fn recover_entry(
        &mut self,
        index: u64,
        term: u64,
        entry_type: i32,
        bytes: usize,
        data: Option<Vec<u8>>,
        position: Position,
    ) -> Result<(), String> {
        let truncated = self.gap_above.unwrap_or(self.truncated);
        if index <= truncated.0 {
            return Ok(());
        }
        if index > self.last() + 1 || index <= self.truncated.0 {
            self.entries.clear();
            let gap = index - 1 > truncated.0;
            self.gap_above = gap.then_some(truncated);
            self.truncated = if gap { (index - 1, 0) } else { truncated };
        }
        if self.term_of(index - 1).is_some_and(|before| before > term) {
            return Err(format!(
                "entry {index} of range {} has an older term than its predecessor",
                self.range
            ));
        }
        self.cut_from(index);
        if data.is_none() {
            self.in_memory = index + 1;
        }
        self.entries.push_back(Indexed { term, bytes: bytes as u32, entry_type, position, data });
        Ok(())
    }

    pub(crate) fn recover_hard_state(&mut self, term: u64, vote: u64, commit: u64) {
        self.hard_state = HardState { term, vote, commit };
    }

    pub(crate) fn recover_truncation(&mut self, index: u64, term: u64) {
        if index < self.gap_above.unwrap_or(self.truncated).0 {
            return;
        }
        if index < self.truncated.0 {
            self.gap_above = Some((index, term));
            return;
        }
        let dropped = ((index - self.truncated.0) as usize).min(self.entries.len());
        self.entries.drain(..dropped);
        self.truncated = (index, term);
        self.gap_above = None;
        self.in_memory = self.in_memory.max(index + 1);
    }

    /// A checkpoint says that entries up to `index` existed.
    pub(crate) fn recover_last(&mut self, index: u64) {
        if index > self.last() {
            self.entries.clear();
            self.gap_above.get_or_insert(self.truncated);
            self.truncated = (index, 0);
        }
    }

    pub(crate) fn recovery_is_complete(&self) -> Result<(), String> {
        match self.gap_above {
            Some((above, _)) => Err(format!(
                "entries {} to {} are missing and were not truncated",
                above + 1,
                self.truncated.0
            )),
            None => Ok(()),
        }
    }
}

impl Storage for RangeLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let mut hard_state = self.hard_state.clone();
        hard_state.commit = hard_state.commit.clamp(self.truncated.0, self.last());
        Ok(RaftState::new(hard_state, self.conf_state.clone()))
    }

    /// Where raft-rs only looks at what becomes of the entries here (to count configuration
    /// changes, to name the committed ones), ordinary entries come without their payloads: apply
    /// takes these from where they are. Entries that are to be sent are complete.
    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let complete = context.can_async();
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let (mut entries, mut size) = (Vec::with_capacity((high - low) as usize), 0u64);
        for index in low..high {
            let indexed = self.indexed(index).expect("bounds were checked");
            let mut entry =
                Entry { entry_type: indexed.entry_type, term: indexed.term, index, ..Entry::default() };
            if complete || indexed.entry_type != EntryType::EntryNormal as i32 {
                match &indexed.data {
                    Some(data) => entry.data = data.clone(),
                    None => {
                        entry = self.read_back(index).map_err(|reason| {
                            let what = format!("entry {index} of range {}: {reason}", self.range);
                            raft::Error::Store(StorageError::Other(what.into()))
                        })?
                    }
                }
            }
            size += 16 + entry.data.len() as u64;
            if size > max_size && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.truncated.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Asked for when a follower needs entries that are gone, or has nothing at all. A snapshot is streamed
    /// beside Raft ([`crate::snapshot`]); when all of it is staged there, this says which one it is.
    fn snapshot(&self, _request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let mut snapshots = self.snapshots.lock();
        match snapshots.staged.get(&to) {
            Some(snapshot) if snapshot.get_metadata().index >= self.truncated.0 => Ok(snapshot.clone()),
            _ => {
                snapshots.staged.remove(&to);
                snapshots.wanted.insert(to);
                Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        Entry { index, term, data: vec![index as u8; bytes], ..Entry::default() }
    }

    #[test]
    fn payloads_leave_memory_behind_the_applied_index() {
        let mut log = RangeLog::new(1, LiveSegments::default());
        let position = Position { segment: 1, offset: 4096 };
        log.append((1..=40).map(|i| entry(i, 1, 32 << 10)).collect(), position);
        assert!((1..=40).all(|i| log.payload(i).is_some()), "what is not applied stays");
        log.applied_to(30);
        let kept = (1..=40).filter(|i| log.payload(*i).is_some()).collect::<Vec<_>>();
        assert_eq!(kept, (23..=40).collect::<Vec<_>>());
        log.truncate(30);
        assert_eq!(
            (log.first_index().ok(), log.last(), log.term_of(30), log.term_of(29)),
            (Some(31), 40, Some(1), None)
        );
        assert_eq!(log.tail_bytes, 0);
        log.append(vec![entry(35, 2, 10)], Position { segment: 2, offset: 4096 });
        assert_eq!((log.last(), log.term_of(35), log.oldest_segment()), (35, Some(2), Some(1)));
    }

    #[test]
    fn entries_are_bounded_and_without_payload_where_raft_only_looks() {
        let mut log = RangeLog::new(1, LiveSegments::default());
        log.append((1..=5).map(|i| entry(i, 1, 1000)).collect(), Position { segment: 1, offset: 4096 });
        let looked_at = log.entries(1, 6, None, GetEntriesContext::empty(false)).expect("there");
        assert_eq!(looked_at.len(), 5);
        assert!(looked_at.iter().all(|e| e.data.is_empty()));
        let sent = log.entries(1, 6, Some(2500), GetEntriesContext::empty(true)).expect("there");
        assert_eq!(sent.iter().map(|e| (e.index, e.data.len())).collect::<Vec<_>>(), [(1, 1000), (2, 1000)]);
        assert!(log.entries(5, 7, None, GetEntriesContext::empty(true)).is_err());
        // What left memory is read from its segment: here there is none, which is an error, not a panic.
        log.applied_to(5);
        while log.in_memory <= 5 {
            log.forget_payload();
        }
        assert!(log.entries(1, 2, None, GetEntriesContext::empty(true)).is_err());
    }
}
