//! A disk and an engine that remember, in files of their own, what was synced; and the crash that
//! leaves only that.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_kv::Result;
use cairn_kv::engine::{
    Cf, Engine, EngineIter, EngineSnapshot, EngineStats, FilterThresholds, Stage, WriteBatch,
};
use cairn_kv::seam::{BoxFuture, Disk, DiskFile};
use parking_lot::Mutex;

/// The node's store, below a test's folder.
pub const STORE: &str = "store";
/// What the log's disk has synced.
pub const SYNCED_LOG: &str = "synced-log";
/// RocksDB's files as of its last flush.
pub const FLUSHED_DATA: &str = "flushed-data";

/// Whether a piece of what was written, but not synced, stays.
#[derive(Clone, Copy)]
pub enum Torn {
    No,
    /// Some of it, by this random number.
    After(u64),
}

/// Puts a killed node's store back to what was synced.
pub fn lose_unsynced(root: &Path, torn: Torn) {
    let (mirror, log) = (root.join(SYNCED_LOG), root.join(STORE).join("log"));
    let names = read_names(&mirror);
    for entry in fs::read_dir(&log).unwrap() {
        let entry = entry.unwrap();
        if !names.contains_key(entry.file_name().to_str().unwrap()) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for (name, inode) in &names {
        put_back(&inode_path(&mirror, *inode), &log.join(name), torn);
    }
    let snapshot = newest_snapshot(&root.join(FLUSHED_DATA)).1;
    let data = root.join(STORE).join("data");
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    copy_database(&snapshot, &data).unwrap();
}

/// Writes the synced contents over a file, all but the first few bytes that differ.
fn put_back(synced: &Path, path: &Path, torn: Torn) {
    const PIECE: usize = 64 << 10;
    let synced = File::open(synced).unwrap();
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    let length = synced.metadata().unwrap().len();
    file.set_len(length).unwrap();
    let (mut old, mut new) = (vec![0; PIECE], vec![0; PIECE]);
    let mut to_keep = match torn {
        Torn::No => 0,
        Torn::After(random) => random % 6000,
    };
    let mut offset = 0;
    while offset < length {
        let count = PIECE.min((length - offset) as usize);
        synced.read_exact_at(&mut old[..count], offset).unwrap();
        file.read_exact_at(&mut new[..count], offset).unwrap();
        if old[..count] != new[..count] {
            for i in 0..count {
                if old[i] != new[i] && to_keep > 0 {
                    to_keep -= 1;
                } else {
                    new[i] = old[i];
                }
            }
            file.write_all_at(&new[..count], offset).unwrap();
        }
        offset += count as u64;
    }
}

fn inode_path(mirror: &Path, inode: u64) -> PathBuf {
    mirror.join(format!("inode-{inode}"))
}

/// The directory as synced: names and the files they stand for.
fn read_names(mirror: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(mirror.join("names")).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (inode, name) = line.split_once(' ').expect("number and name");
            (name.to_owned(), inode.parse().expect("a number"))
        })
        .collect()
}

enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

struct Mirror {
    path: PathBuf,
    /// The directory as it is, synced or not.
    names: BTreeMap<String, u64>,
    next_inode: u64,
    /// Changes of files since their last sync.
    pending: BTreeMap<u64, Vec<Change>>,
}

/// A disk that repeats each file in another directory as it is synced. That is done before the sync
/// is answered: what the node takes for durable is there.
pub struct MirrorDisk {
    inner: Arc<dyn Disk>,
    mirror: Arc<Mutex<Mirror>>,
}

impl MirrorDisk {
    /// Around a disk that is empty or was put back to what `path` holds.
    pub fn wrap(inner: Arc<dyn Disk>, path: PathBuf) -> Arc<dyn Disk> {
        let names = read_names(&path);
        let next_inode = names.values().max().map_or(1, |last| last + 1);
        let mirror = Mirror { path, names, next_inode, pending: BTreeMap::new() };
        Arc::new(MirrorDisk { inner, mirror: Arc::new(Mutex::new(mirror)) })
    }
}

impl Disk for MirrorDisk {
    fn list(&self) -> Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn DiskFile>> {
        let file = self.inner.open(name, create)?;
        let mut mirror = self.mirror.lock();
        let new = mirror.next_inode;
        let inode = *mirror.names.entry(name.to_owned()).or_insert(new);
        if inode == new {
            mirror.next_inode += 1;
            File::create(inode_path(&mirror.path, inode)).unwrap();
        }
        Ok(Arc::new(MirrorFile { inner: file, inode, mirror: Arc::clone(&self.mirror) }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.inner.rename(from, to)?;
        let mut mirror = self.mirror.lock();
        let inode = mirror.names.remove(from).expect("the inner disk had it");
        mirror.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.inner.remove(name)?;
        self.mirror.lock().names.remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> BoxFuture<'_, Result<()>> {
        let synced = self.inner.sync_dir();
        let mirror = self.mirror.lock();
        let text: String = mirror.names.iter().map(|(name, inode)| format!("{inode} {name}\n")).collect();
        let new = mirror.path.join("names.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, mirror.path.join("names")).unwrap();
        synced
    }
}

struct MirrorFile {
    inner: Arc<dyn DiskFile>,
    inode: u64,
    mirror: Arc<Mutex<Mirror>>,
}

impl MirrorFile {
    fn remember(&self, change: Change) {
        self.mirror.lock().pending.entry(self.inode).or_default().push(change);
    }
}

impl DiskFile for MirrorFile {
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.inner.write_at(offset, data)?;
        self.remember(Change::Write(offset, data.to_vec()));
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        let mut mirror = self.mirror.lock();
        let changes = mirror.pending.remove(&self.inode).unwrap_or_default();
        let file = OpenOptions::new().write(true).open(inode_path(&mirror.path, self.inode)).unwrap();
        for change in changes {
            match change {
                Change::Write(offset, data) => file.write_all_at(&data, offset).unwrap(),
                Change::Length(length) => file.set_len(length).unwrap(),
            }
        }
        drop(mirror);
        self.inner.sync()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)?;
        self.remember(Change::Length(len));
        Ok(())
    }
}

/// RocksDB with a copy of its files as of its last flush. No log of its own, so that this is all a
/// crash need leave.
pub struct SnapshotEngine {
    inner: Arc<dyn Engine>,
    data: PathBuf,
    snapshots: PathBuf,
    /// Held while a copy is made.
    turn: Mutex<()>,
}

impl SnapshotEngine {
    pub fn wrap(inner: Arc<dyn Engine>, data: PathBuf, snapshots: PathBuf) -> Arc<dyn Engine> {
        let engine = SnapshotEngine { inner, data, snapshots, turn: Mutex::new(()) };
        engine.snapshot();
        Arc::new(engine)
    }

    fn snapshot(&self) {
        let _turn = self.turn.lock();
        let new = self.snapshots.join("new");
        let _ = fs::remove_dir_all(&new);
        fs::create_dir(&new).unwrap();
        copy_database(&self.data, &new).unwrap();
        let (last, old) = newest_snapshot(&self.snapshots);
        fs::rename(&new, self.snapshots.join(format!("{:06}", last + 1))).unwrap();
        if last > 0 {
            fs::remove_dir_all(old).unwrap();
        }
    }
}

/// The newest complete copy and its number; 0 where there is none.
fn newest_snapshot(snapshots: &Path) -> (u64, PathBuf) {
    let names =
        fs::read_dir(snapshots).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let last = names.filter_map(|name| name.parse::<u64>().ok()).max().unwrap_or(0);
    (last, snapshots.join(format!("{last:06}")))
}

/// Copies a database that may be compacting. Tables never change, so they are linked: those that
/// the manifest may name are linked before it is copied, and those that it has come to name by
/// then, after.
fn copy_database(from: &Path, to: &Path) -> io::Result<()> {
    let link_tables = || -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            let target = to.join(&name);
            if name.to_string_lossy().ends_with(".sst") && !target.exists() {
                match fs::hard_link(from.join(&name), target) {
                    // A compaction has just removed it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        Ok(())
    };
    link_tables()?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if ["CURRENT", "IDENTITY", "MANIFEST-", "OPTIONS-"].iter().any(|kind| text.starts_with(kind)) {
            fs::copy(from.join(&name), to.join(&name))?;
        }
    }
    link_tables()
}

impl Engine for SnapshotEngine {
    fn get(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.inner.get(cf, key, out)
    }

    fn get_flushed(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let found = self.inner.get_flushed(cf, key, out)?;
        // A compaction flushes too: the log is truncated behind what is said to be flushed here.
        self.snapshot();
        Ok(found)
    }

    fn iter<'a>(&'a self, cf: Cf, lower: &[u8], upper: &[u8]) -> Result<Box<dyn EngineIter + Send + 'a>> {
        self.inner.iter(cf, lower, upper)
    }

    fn write(&self, batch: &WriteBatch) -> Result<()> {
        self.inner.write(batch)
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()?;
        self.snapshot();
        Ok(())
    }

    fn compact(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<()> {
        self.inner.compact(cf, start, end)
    }

    fn set_filter_thresholds(&self, thresholds: FilterThresholds) {
        self.inner.set_filter_thresholds(thresholds);
    }

    fn filter_thresholds(&self) -> FilterThresholds {
        self.inner.filter_thresholds()
    }

    fn snapshot(self: Arc<Self>) -> Result<Box<dyn EngineSnapshot>> {
        Arc::clone(&self.inner).snapshot()
    }

    fn stage(&self, cf: Cf) -> Result<Box<dyn Stage>> {
        self.inner.stage(cf)
    }

    fn staged(&self) -> Result<Vec<String>> {
        self.inner.staged()
    }

    fn ingest(&self, cf: Cf, names: &[String]) -> Result<()> {
        self.inner.ingest(cf, names)?;
        self.snapshot();
        Ok(())
    }

    fn discard(&self, name: &str) -> Result<()> {
        self.inner.discard(name)
    }

    fn approximate_size(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        self.inner.approximate_size(cf, start, end)
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
}
