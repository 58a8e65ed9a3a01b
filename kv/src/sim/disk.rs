//! A directory of files in memory that loses what a real disk may lose.
//!
//! Each file is what was synced plus the writes since. [`SimDisk::crash`] keeps the synced part
//! and of every later write a seeded piece: all, nothing, a prefix cut at any byte, or some of its
//! 512-byte sectors. Creations, renames and removals since [`Disk::sync_dir`] survive up to a
//! seeded point in their order. A sync takes seeded virtual time and covers the writes that were
//! made before it began, so that a crash can come in the middle of it.
//!
//! Handles belong to the node's incarnation that opened them: after a crash they fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::seam::{BoxFuture, Disk, DiskFile};
use crate::{Error, Result};

use super::executor::SimRuntime;
use super::rng::SimRng;
use super::trace::{Trace, hash_bytes};

const SECTOR_BYTES: usize = 512;

type FileId = u64;

/// The simulated disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    rng: SimRng,
    trace: Trace,
    state: Mutex<State>,
}

struct State {
    next_file: FileId,
    files: BTreeMap<FileId, File>,
    /// The directory as processes see it.
    directory: BTreeMap<String, FileId>,
    /// The directory as of the last sync.
    synced_directory: BTreeMap<String, FileId>,
    unsynced_changes: Vec<DirectoryChange>,
    faults: Faults,
    sync_nanos: (u64, u64),
}

#[derive(Default)]
struct File {
    content: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Write>,
    next_write: u64,
}

struct Write {
    /// Order among the file's writes.
    number: u64,
    change: Change,
}

#[derive(Clone)]
enum Change {
    Data { offset: usize, data: Vec<u8> },
    Length(usize),
}

#[derive(Clone)]
enum DirectoryChange {
    Create(String, FileId),
    Rename(String, String),
    Remove(String),
}

/// Failures on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Bytes that all files together may have; more is ENOSPC.
    pub capacity_bytes: Option<u64>,
    /// Writes until one fails with EIO (0: the next one).
    pub write_error_after: Option<u64>,
    /// Syncs until one fails with EIO; its writes stay unsynced.
    pub sync_error_after: Option<u64>,
}

impl SimDisk {
    pub(super) fn new(rng: SimRng, trace: Trace) -> SimDisk {
        let state = State {
            next_file: 0,
            files: BTreeMap::new(),
            directory: BTreeMap::new(),
            synced_directory: BTreeMap::new(),
            unsynced_changes: Vec::new(),
            faults: Faults::default(),
            sync_nanos: (20_000, 400_000),
        };
        SimDisk { shared: Arc::new(Shared { rng, trace, state: Mutex::new(state) }) }
    }

    /// The disk as the incarnation of `runtime` uses it.
    pub fn handle(&self, runtime: SimRuntime) -> Arc<dyn Disk> {
        Arc::new(Handle { disk: self.clone(), runtime })
    }

    /// Failures from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.state.lock().faults = faults;
    }

    /// Virtual time that a sync takes, nanoseconds; `(0, 0)` makes it ready at once.
    pub fn set_sync_nanos(&self, least: u64, most: u64) {
        self.shared.state.lock().sync_nanos = (least, most);
    }

    /// The power fails: reverts to what was synced plus a seeded part of the rest.
    pub fn crash(&self) {
        let Shared { rng, trace, state } = &*self.shared;
        let mut state = state.lock();
        let kept = rng.below(state.unsynced_changes.len() as u64 + 1) as usize;
        let changes: Vec<_> = state.unsynced_changes.drain(..).take(kept).collect();
        let mut directory = std::mem::take(&mut state.synced_directory);
        for change in &changes {
            change.apply(&mut directory);
        }
        state.synced_directory.clone_from(&directory);
        state.directory = directory;
        let live: Vec<FileId> = state.directory.values().copied().collect();
        state.files.retain(|id, _| live.contains(id));
        let mut lost = 0;
        for file in state.files.values_mut() {
            for write in std::mem::take(&mut file.unsynced) {
                lost += write.change.apply_torn(&mut file.synced, rng);
            }
            file.content.clone_from(&file.synced);
        }
        trace.event("disk", &[kept as u64, lost, state.content_hash()], || {
            format!("crash: {kept} directory changes kept, {lost} unsynced bytes lost")
        });
    }

    /// Flips one bit of a file's synced content.
    pub fn flip_bit(&self, name: &str, byte: u64, bit: u8) -> Result<()> {
        let mut state = self.shared.state.lock();
        let id = state.find(name)?;
        let file = state.files.get_mut(&id).expect("a directory entry has a file");
        for content in [&mut file.content, &mut file.synced] {
            if let Some(found) = content.get_mut(byte as usize) {
                *found ^= 1 << (bit % 8);
            }
        }
        self.shared
            .trace
            .event("disk", &[byte, u64::from(bit)], || format!("flip {name} byte {byte} bit {bit}"));
        Ok(())
    }

    /// The files as a process would see them, by name: for tests that look at or plant bytes.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.shared.state.lock();
        state.directory.iter().map(|(name, id)| (name.clone(), state.files[id].content.clone())).collect()
    }

    /// Replaces a file's content, durably; creates it where it does not exist.
    pub fn plant(&self, name: &str, content: &[u8]) {
        let mut state = self.shared.state.lock();
        let id = match state.directory.get(name) {
            Some(id) => *id,
            None => state.create(name),
        };
        state.synced_directory.insert(name.into(), id);
        state
            .unsynced_changes
            .retain(|c| !matches!(c, DirectoryChange::Create(created, _) if created == name));
        state
            .files
            .insert(id, File { content: content.to_vec(), synced: content.to_vec(), ..File::default() });
    }

    /// Bytes written and not yet synced.
    pub fn unsynced_bytes(&self) -> u64 {
        let state = self.shared.state.lock();
        let writes = state.files.values().flat_map(|f| &f.unsynced);
        writes.map(|w| if let Change::Data { data, .. } = &w.change { data.len() as u64 } else { 0 }).sum()
    }
}

impl State {
    fn find(&self, name: &str) -> Result<FileId> {
        self.directory.get(name).copied().ok_or_else(|| Error::Io(format!("{name}: no such file")))
    }

    fn create(&mut self, name: &str) -> FileId {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, File::default());
        self.change_directory(DirectoryChange::Create(name.into(), id));
        id
    }

    fn change_directory(&mut self, change: DirectoryChange) {
        change.apply(&mut self.directory);
        self.unsynced_changes.push(change);
    }

    fn bytes(&self) -> u64 {
        self.files.values().map(|f| f.content.len() as u64).sum()
    }

    fn content_hash(&self) -> u64 {
        let hash = |(name, id): (&String, &FileId)| {
            hash_bytes(name.as_bytes()) ^ hash_bytes(&self.files[id].content).rotate_left(1)
        };
        self.directory.iter().map(hash).fold(0, |all, one| all.wrapping_mul(31).wrapping_add(one))
    }

    /// The requested failures, for a write that makes a file `grown` bytes longer.
    fn check_write(&mut self, name: &str, grown: u64) -> Result<()> {
        if self.faults.capacity_bytes.is_some_and(|capacity| self.bytes() + grown > capacity) {
            return Err(Error::Io(format!("{name}: no space left on device (ENOSPC)")));
        }
        if count_down(&mut self.faults.write_error_after) {
            return Err(Error::Io(format!("{name}: write failed (EIO)")));
        }
        Ok(())
    }
}

/// Counts an operation; true when it is the one that fails.
fn count_down(left: &mut Option<u64>) -> bool {
    match left {
        Some(0) => {
            *left = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

impl File {
    fn change(&mut self, change: Change, lasting: bool) {
        change.apply(&mut self.content);
        if lasting {
            self.unsynced.push(Write { number: self.next_write, change });
            self.next_write += 1;
        }
    }

    /// Makes the writes numbered below `upto` durable.
    fn sync(&mut self, upto: u64) {
        let later = self.unsynced.partition_point(|w| w.number < upto);
        for write in self.unsynced.drain(..later) {
            write.change.apply(&mut self.synced);
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Data { offset, data } => {
                if content.len() < offset + data.len() {
                    content.resize(offset + data.len(), 0);
                }
                content[*offset..offset + data.len()].copy_from_slice(data);
            }
            Change::Length(length) => content.resize(*length, 0),
        }
    }

    /// Applies a seeded part; returns the number of bytes lost.
    fn apply_torn(self, content: &mut Vec<u8>, rng: &SimRng) -> u64 {
        let Change::Data { offset, data } = self else {
            if rng.one_in(2) {
                self.apply(content);
            }
            return 0;
        };
        let length = data.len();
        let mut kept = 0;
        let mut keep = |from: usize, to: usize| {
            kept += to - from;
            Change::Data { offset: offset + from, data: data[from..to].to_vec() }.apply(content);
        };
        match rng.below(4) {
            0 => keep(0, length),
            1 => {}
            2 => keep(0, rng.below(length as u64 + 1) as usize),
            _ => {
                for from in (0..length).step_by(SECTOR_BYTES) {
                    if rng.one_in(2) {
                        keep(from, length.min(from + SECTOR_BYTES));
                    }
                }
            }
        }
        (length - kept) as u64
    }
}

impl DirectoryChange {
    fn apply(&self, directory: &mut BTreeMap<String, FileId>) {
        match self {
            DirectoryChange::Create(name, id) => {
                directory.insert(name.clone(), *id);
            }
            DirectoryChange::Rename(from, to) => {
                if let Some(id) = directory.remove(from) {
                    directory.insert(to.clone(), id);
                }
            }
            DirectoryChange::Remove(name) => {
                directory.remove(name);
            }
        }
    }
}

/// The disk in the hands of one incarnation.
struct Handle {
    disk: SimDisk,
    runtime: SimRuntime,
}

fn check_alive(runtime: &SimRuntime) -> Result<()> {
    if runtime.is_alive() { Ok(()) } else { Err(Error::Io("the node has crashed".into())) }
}

impl Disk for Handle {
    fn list(&self) -> Result<Vec<String>> {
        check_alive(&self.runtime)?;
        Ok(self.disk.shared.state.lock().directory.keys().cloned().collect())
    }

    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn DiskFile>> {
        check_alive(&self.runtime)?;
        let mut state = self.disk.shared.state.lock();
        let id = match state.find(name) {
            Ok(id) => id,
            Err(missing) if !create => return Err(missing),
            Err(_) => {
                state.check_write(name, 0)?;
                let powered = self.runtime.operation();
                self.disk
                    .shared
                    .trace
                    .event("disk", &[hash_bytes(name.as_bytes()), 1], || format!("create {name}"));
                let id = state.create(name);
                if !powered {
                    state.unsynced_changes.pop();
                }
                id
            }
        };
        Ok(Arc::new(FileHandle {
            disk: self.disk.clone(),
            runtime: self.runtime.clone(),
            name: name.into(),
            id,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        check_alive(&self.runtime)?;
        let mut state = self.disk.shared.state.lock();
        state.find(from)?;
        let powered = self.runtime.operation();
        self.disk.shared.trace.event(
            "disk",
            &[hash_bytes(from.as_bytes()), hash_bytes(to.as_bytes()), 2],
            || format!("rename {from} to {to}"),
        );
        state.change_directory(DirectoryChange::Rename(from.into(), to.into()));
        if !powered {
            state.unsynced_changes.pop();
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        check_alive(&self.runtime)?;
        let mut state = self.disk.shared.state.lock();
        state.find(name)?;
        let powered = self.runtime.operation();
        self.disk.shared.trace.event("disk", &[hash_bytes(name.as_bytes()), 3], || format!("remove {name}"));
        state.change_directory(DirectoryChange::Remove(name.into()));
        if !powered {
            state.unsynced_changes.pop();
        }
        Ok(())
    }

    fn sync_dir(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (nanos, covered) = {
                let state = self.disk.shared.state.lock();
                (self.disk.sync_nanos(&state), state.unsynced_changes.len())
            };
            self.runtime.timer(nanos).await;
            check_alive(&self.runtime)?;
            if self.runtime.operation() {
                let mut state = self.disk.shared.state.lock();
                let state = &mut *state;
                // A sync of the directory that overlapped this one may have taken some already.
                let covered = covered.min(state.unsynced_changes.len());
                for change in state.unsynced_changes.drain(..covered) {
                    change.apply(&mut state.synced_directory);
                }
            }
            self.disk.shared.trace.event("disk", &[covered as u64, 4], || "sync directory".into());
            Ok(())
        })
    }
}

impl SimDisk {
    fn sync_nanos(&self, state: &State) -> u64 {
        let (least, most) = state.sync_nanos;
        // One sync in a hundred is slow, as on real disks.
        let factor = if self.shared.rng.one_in(100) { 20 } else { 1 };
        self.shared.rng.between(least, most) * factor
    }
}

struct FileHandle {
    disk: SimDisk,
    runtime: SimRuntime,
    name: String,
    id: FileId,
}

impl FileHandle {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        check_alive(&self.runtime)?;
        work(&mut self.disk.shared.state.lock())
    }

    fn change(&self, change: Change, words: &[u64], line: impl FnOnce() -> String) -> Result<()> {
        self.with(|state| {
            let end = match &change {
                Change::Data { offset, data } => offset + data.len(),
                Change::Length(length) => *length,
            };
            let grown = end.saturating_sub(file(state, self.id).content.len()) as u64;
            state.check_write(&self.name, grown)?;
            let powered = self.runtime.operation();
            self.disk.shared.trace.event("disk", words, line);
            file(state, self.id).change(change, powered);
            Ok(())
        })
    }
}

/// Files that were removed stay while they are open, as on Unix.
fn file(state: &mut State, id: FileId) -> &mut File {
    state.files.entry(id).or_default()
}

impl DiskFile for FileHandle {
    fn len(&self) -> Result<u64> {
        self.with(|state| Ok(file(state, self.id).content.len() as u64))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.with(|state| {
            let content = &file(state, self.id).content;
            let from = (offset as usize).min(content.len());
            let length = buf.len().min(content.len() - from);
            buf[..length].copy_from_slice(&content[from..from + length]);
            self.disk.shared.trace.event(
                "disk",
                &[hash_bytes(self.name.as_bytes()), offset, length as u64, hash_bytes(&buf[..length])],
                || format!("read {} at {offset}, {length} bytes", self.name),
            );
            Ok(length)
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let words = [hash_bytes(self.name.as_bytes()), offset, data.len() as u64, hash_bytes(data)];
        let change = Change::Data { offset: offset as usize, data: data.to_vec() };
        self.change(change, &words, || format!("write {} at {offset}, {} bytes", self.name, data.len()))
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let started =
                self.with(|state| Ok((self.disk.sync_nanos(state), file(state, self.id).next_write)));
            let (nanos, upto) = started?;
            if nanos > 0 {
                self.runtime.timer(nanos).await;
            }
            self.with(|state| {
                self.disk.shared.trace.event("disk", &[hash_bytes(self.name.as_bytes()), upto, 5], || {
                    format!("sync {} up to write {upto}", self.name)
                });
                if count_down(&mut state.faults.sync_error_after) {
                    return Err(Error::Io(format!("{}: sync failed (EIO)", self.name)));
                }
                if self.runtime.operation() {
                    file(state, self.id).sync(upto);
                }
                Ok(())
            })
        })
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let words = [hash_bytes(self.name.as_bytes()), len, 6];
        self.change(Change::Length(len as usize), &words, || format!("set length of {} to {len}", self.name))
    }
}
