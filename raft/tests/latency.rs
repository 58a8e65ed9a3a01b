//! Measures, run by hand: `cargo test -p cairn-raft --test latency -- --ignored --nocapture`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cairn_kv::effects::{EFFECTS_FORMAT, Effects, VersionWrite};
use cairn_kv::engine::mem::MemEngine;
use cairn_kv::engine::rocks::{RocksEngine, RocksOptions};
use cairn_kv::seam::{BoxFuture, Clock, Disk, DiskFile, Env, NoPeers, Rng, Runtime};
use cairn_kv::{Error, Result};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Store, StoreConfig};
use parking_lot::Mutex;

struct Machine;

impl Clock for Machine {
    fn wall_micros(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64
    }
    fn monotonic_nanos(&self) -> u64 {
        self.wall_micros() * 1000
    }
}

struct Counter(AtomicU64);

impl Rng for Counter {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

impl Runtime for Machine {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }
    fn blocking(&self, _name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = tokio::task::spawn_blocking(work);
        Box::pin(async move {
            task.await.expect("the work ends");
        })
    }
}

/// Files in memory; a sync costs nothing.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Arc<MemoryFile>>>);

#[derive(Default)]
struct MemoryFile(Mutex<Vec<u8>>);

impl Disk for Memory {
    fn list(&self) -> Result<Vec<String>> {
        Ok(self.0.lock().keys().cloned().collect())
    }
    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn DiskFile>> {
        let mut files = self.0.lock();
        if create {
            files.entry(name.into()).or_default();
        }
        Ok(files.get(name).cloned().ok_or_else(|| Error::Io(format!("{name}: not found")))?)
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut files = self.0.lock();
        let file = files.remove(from).expect("exists");
        files.insert(to.into(), file);
        Ok(())
    }
    fn remove(&self, name: &str) -> Result<()> {
        self.0.lock().remove(name);
        Ok(())
    }
    fn sync_dir(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> Result<u64> {
        Ok(self.0.lock().len() as u64)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let bytes = self.0.lock();
        let from = (offset as usize).min(bytes.len());
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut bytes = self.0.lock();
        let end = offset as usize + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(data);
        Ok(())
    }
    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.0.lock().resize(len as usize, 0);
        Ok(())
    }
}

/// A real directory.
struct Directory(PathBuf, Arc<SyncTime>);

#[derive(Default)]
struct SyncTime {
    nanos: AtomicU64,
    writes: AtomicU64,
}

struct RealFile(File, Arc<SyncTime>);

fn io(error: std::io::Error) -> Error {
    Error::Io(error.to_string())
}

impl Disk for Directory {
    fn list(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = std::fs::read_dir(&self.0)
            .map_err(io)?
            .map(|e| e.expect("entry").file_name().into_string().expect("utf-8"))
            .collect();
        names.sort();
        Ok(names)
    }
    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn DiskFile>> {
        let file =
            OpenOptions::new().read(true).write(true).create(create).truncate(false).open(self.0.join(name));
        Ok(Arc::new(RealFile(file.map_err(io)?, Arc::clone(&self.1))))
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to)).map_err(io)
    }
    fn remove(&self, name: &str) -> Result<()> {
        std::fs::remove_file(self.0.join(name)).map_err(io)
    }
    fn sync_dir(&self) -> BoxFuture<'_, Result<()>> {
        let result = File::open(&self.0).and_then(|d| d.sync_all()).map_err(io);
        Box::pin(std::future::ready(result))
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> Result<u64> {
        Ok(self.0.metadata().map_err(io)?.len())
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.0.read_at(buf, offset).map_err(io)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let start = Instant::now();
        let result = self.0.write_all_at(data, offset).map_err(io);
        self.1.writes.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }
    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        let start = Instant::now();
        let result = self.0.sync_data().map_err(io);
        self.1.nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Box::pin(std::future::ready(result))
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.0.set_len(len).map_err(io)
    }
}

fn env(disk: Arc<dyn Disk>) -> Env {
    Env {
        clock: Arc::new(Machine),
        rng: Arc::new(Counter(AtomicU64::new(7))),
        runtime: Arc::new(Machine),
        disk,
        transport: Arc::new(NoPeers),
    }
}

/// Like a pgbench transaction: four small rows.
fn command(client: u64, i: u64, ts: u64) -> Effects {
    let write = |table: u64, key: u64| VersionWrite {
        key: Bytes::from([table.to_be_bytes(), key.to_be_bytes()].concat()),
        ts,
        value: Some(Bytes::from(vec![7; 90])),
        fresh: table == 3,
        supersedes: None,
    };
    let client_key = |key: u64| client << 32 | key;
    let writes = vec![
        write(0, client_key((i * 7919) % 1000)),
        write(1, client),
        write(2, client_key(i % 10)),
        write(3, client_key(i)),
    ];
    Effects { format: EFFECTS_FORMAT, writes, ..Effects::default() }
}

async fn run(name: &str, disk: Arc<dyn Disk>, times: Arc<SyncTime>, clients: u64, each: u64) {
    let config = StoreConfig { flush_keys: u64::MAX, ..StoreConfig::default() };
    let store = Store::open(env(disk), Arc::new(MemEngine::new()), config).await.expect("opens");
    let lease = store.lease(FIRST_RANGE).expect("leads");
    let before = store.stats();
    times.nanos.store(0, Ordering::Relaxed);
    times.writes.store(0, Ordering::Relaxed);
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for i in 0..each {
                    let ts = store.now().await.expect("now").0;
                    store.propose(FIRST_RANGE, lease, command(client, i, ts)).await.expect("applied");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("ends");
    }
    let elapsed = start.elapsed();
    let after = store.stats();
    let (commits, syncs) = (after.commits - before.commits, after.syncs - before.syncs);
    let per = |nanos: u64| nanos as f64 / 1000.0 / commits as f64;
    println!(
        "{name}: {clients} clients, {commits} commits, {:.1} µs each ({:.1} in sync, {:.1} in write), {:.3} syncs per commit",
        per(elapsed.as_nanos() as u64),
        per(times.nanos.load(Ordering::Relaxed)),
        per(times.writes.load(Ordering::Relaxed)),
        syncs as f64 / commits as f64
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measure, not a test"]
async fn propose_latency() {
    for clients in [1, 8, 32] {
        run("memory", Arc::new(Memory::default()), Arc::default(), clients, 20_000 / clients).await;
    }
    let Ok(base) = std::env::var("CAIRN_BENCH_DIR") else {
        println!("set CAIRN_BENCH_DIR to measure on a real directory too");
        return;
    };
    for clients in [1, 8, 32] {
        let dir = tempfile::tempdir_in(&base).expect("a directory");
        let times = Arc::new(SyncTime::default());
        let disk = Arc::new(Directory(dir.path().into(), Arc::clone(&times)));
        run("real file", disk, times, clients, 10_000 / clients).await;
    }
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("entry");
        if entry.file_type().expect("type").is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

/// What a restart costs after a kill with as much to replay as the flush policy allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measure, not a test"]
async fn restart_latency() {
    let base = std::env::var("CAIRN_BENCH_DIR").unwrap_or_else(|_| "/tmp".into());
    let dir = tempfile::tempdir_in(base).expect("a directory");
    let open = async |name: &str| {
        let at = dir.path().join(name);
        std::fs::create_dir_all(at.join("log")).expect("created");
        let start = Instant::now();
        let engine = RocksEngine::open(&at.join("engine"), &RocksOptions::default()).expect("engine opens");
        let engine_opened = start.elapsed();
        let disk = Arc::new(Directory(at.join("log"), Arc::default()));
        let store = Store::open(env(disk), Arc::new(engine), StoreConfig::default()).await.expect("opens");
        println!("{name}: open {:?}, of which engine {engine_opened:?}", start.elapsed());
        store
    };
    let store = open("empty").await;
    let lease = store.lease(FIRST_RANGE).expect("leads");
    let start = Instant::now();
    let clients: Vec<_> = (0..32)
        .map(|client| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for i in 0..340 {
                    let ts = store.now().await.expect("now").0;
                    store.propose(FIRST_RANGE, lease, command(client, i, ts)).await.expect("applied");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("ends");
    }
    let stats = store.stats();
    println!(
        "{:.1} µs per commit on RocksDB, {stats:?}",
        start.elapsed().as_micros() as f64 / stats.commits as f64
    );
    // As after kill -9: what is on disk now.
    for part in ["log", "engine"] {
        copy_directory(&dir.path().join("empty").join(part), &dir.path().join("killed").join(part));
    }
    let reopened = open("killed").await;
    println!("replayed: {:?}", reopened.stats());
}

/// The slowest commits while the engine flushes again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measure, not a test"]
async fn latency_beside_flushes() {
    let base = std::env::var("CAIRN_BENCH_DIR").unwrap_or_else(|_| "/tmp".into());
    let dir = tempfile::tempdir_in(base).expect("a directory");
    for (name, flush_keys) in [("without", u64::MAX), ("with", 20_000)] {
        let at = dir.path().join("log");
        std::fs::create_dir_all(&at).expect("created");
        let disk = Arc::new(Directory(at, Arc::default()));
        let config = StoreConfig { flush_keys, ..StoreConfig::default() };
        let engine = RocksEngine::open(&dir.path().join(name), &RocksOptions::default()).expect("opens");
        let store = Store::open(env(disk), Arc::new(engine), config).await.expect("opens");
        let lease = store.lease(FIRST_RANGE).expect("leads");
        let clients: Vec<_> = (0..16)
            .map(|client| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for i in 0..2500 {
                        let start = Instant::now();
                        let ts = store.now().await.expect("now").0;
                        store.propose(FIRST_RANGE, lease, command(client, i, ts)).await.expect("applied");
                        times.push(start.elapsed());
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await.expect("ends"));
        }
        times.sort();
        let at = |permille: usize| times[times.len() * permille / 1000 - 1];
        println!(
            "{name} flushes: p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}, {:?}",
            at(500),
            at(990),
            at(999),
            at(1000),
            store.stats()
        );
        std::fs::remove_dir_all(dir.path().join("log")).expect("removed");
    }
}
