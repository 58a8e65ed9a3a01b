//! Stores and databases in one thread: tasks chosen by a seed, virtual time, files in memory.

#![allow(dead_code)]

mod line;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use cairn_kv::engine::SharedEngine;
use cairn_kv::engine::mem::MemEngine;
use cairn_kv::seam::{BoxFuture, Clock, Disk, DiskFile, Env, NoPeers, Rng, Runtime};
use cairn_raft::{Store, StoreConfig};
use cairn_txn::{Db, DbConfig};

#[allow(unused_imports)]
pub use line::{Fate, Line};

/// Whether databases are opened as those of a node without the lease: `remote.rs` has the tests that run
/// in both ways.
const IS_REMOTE: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"remote");

/// A linear congruential generator, mixed.
pub struct Seeded(AtomicU64);

impl Seeded {
    pub fn new(seed: u64) -> Seeded {
        Seeded(AtomicU64::new(seed))
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

impl Rng for Seeded {
    fn next_u64(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Virtual time that no test needs.
const LONGEST_RUN_NANOS: u64 = 600_000_000_000;

/// The executor; also the clock.
pub struct Executor {
    rng: Seeded,
    nanos: AtomicU64,
    spawned: Mutex<Vec<Task>>,
    sleepers: Mutex<Vec<(u64, Waker)>>,
}

impl Executor {
    pub fn new(seed: u64) -> Arc<Executor> {
        Arc::new(Executor {
            rng: Seeded::new(seed),
            nanos: AtomicU64::new(1_700_000_000_000_000_000),
            spawned: Mutex::default(),
            sleepers: Mutex::default(),
        })
    }

    /// Runs tasks in an order drawn from the seed until `main` is done.
    pub fn run<T: Send + 'static>(&self, main: impl Future<Output = T> + Send + 'static) -> T {
        let result = Arc::new(Mutex::new(None));
        let store = Arc::clone(&result);
        self.add(Box::pin(async move {
            let output = main.await;
            *store.lock().unwrap() = Some(output);
        }));
        let mut tasks: Vec<Task> = Vec::new();
        let begun = self.nanos.load(Ordering::SeqCst);
        loop {
            // Background tasks sleep and wake for ever, whatever has become of the others.
            let lasted = self.nanos.load(Ordering::SeqCst) - begun;
            assert!(lasted < LONGEST_RUN_NANOS, "some task waits for what does not come");
            tasks.append(&mut self.spawned.lock().unwrap());
            if let Some(result) = result.lock().unwrap().take() {
                // What is left runs in the next call.
                self.spawned.lock().unwrap().append(&mut tasks);
                return result;
            }
            let ready: Vec<usize> =
                (0..tasks.len()).filter(|index| tasks[*index].woken.0.load(Ordering::SeqCst)).collect();
            if ready.is_empty() {
                let mut sleepers = self.sleepers.lock().unwrap();
                sleepers.sort_by_key(|(until, _)| *until);
                assert!(!sleepers.is_empty(), "every task waits for another");
                let (until, waker) = sleepers.remove(0);
                self.nanos.fetch_max(until, Ordering::SeqCst);
                drop(sleepers);
                waker.wake();
                continue;
            }
            self.nanos.fetch_add(1_000 + self.rng.below(2_000), Ordering::SeqCst);
            let index = ready[self.rng.below(ready.len() as u64) as usize];
            tasks[index].woken.0.store(false, Ordering::SeqCst);
            let waker = Waker::from(Arc::clone(&tasks[index].woken));
            let done = tasks[index].future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            if done {
                drop(tasks.swap_remove(index));
            }
        }
    }

    fn add(&self, future: BoxFuture<'static, ()>) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.spawned.lock().unwrap().push(Task { future, woken });
    }
}

impl Clock for Executor {
    fn wall_micros(&self) -> u64 {
        self.nanos.load(Ordering::SeqCst) / 1_000
    }

    fn monotonic_nanos(&self) -> u64 {
        self.nanos.load(Ordering::SeqCst)
    }
}

/// The executor as a seam.
pub struct Tasks(pub Arc<Executor>);

impl Runtime for Tasks {
    fn spawn(&self, _: &'static str, task: BoxFuture<'static, ()>) {
        self.0.add(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let executor = Arc::clone(&self.0);
        let until = executor.monotonic_nanos() + duration.as_nanos() as u64;
        Box::pin(std::future::poll_fn(move |context| {
            if executor.monotonic_nanos() >= until {
                return Poll::Ready(());
            }
            executor.sleepers.lock().unwrap().push((until, context.waker().clone()));
            Poll::Pending
        }))
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        let mut yielded = false;
        Box::pin(std::future::poll_fn(move |context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    fn blocking(&self, _: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(async {})
    }
}

/// Files in memory; nothing is ever lost.
#[derive(Default)]
pub struct MemDisk {
    files: Mutex<BTreeMap<String, Arc<MemFile>>>,
    executor: Option<Arc<Executor>>,
}

#[derive(Default)]
struct MemFile {
    data: Mutex<Vec<u8>>,
    executor: Option<Arc<Executor>>,
}

impl Disk for MemDisk {
    fn list(&self) -> cairn_kv::Result<Vec<String>> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }

    fn open(&self, name: &str, create: bool) -> cairn_kv::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock().unwrap();
        if let Some(file) = files.get(name) {
            return Ok(Arc::clone(file) as Arc<dyn DiskFile>);
        }
        if !create {
            return Err(cairn_kv::Error::Io(format!("{name}: no such file")));
        }
        let file = Arc::new(MemFile { data: Mutex::default(), executor: self.executor.clone() });
        files.insert(name.into(), Arc::clone(&file));
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> cairn_kv::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or_else(|| cairn_kv::Error::Io(format!("{from}: no such file")))?;
        files.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> cairn_kv::Result<()> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> BoxFuture<'_, cairn_kv::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl DiskFile for MemFile {
    fn len(&self) -> cairn_kv::Result<u64> {
        Ok(self.data.lock().unwrap().len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> cairn_kv::Result<usize> {
        let data = self.data.lock().unwrap();
        let offset = (offset as usize).min(data.len());
        let count = buf.len().min(data.len() - offset);
        buf[..count].copy_from_slice(&data[offset..offset + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> cairn_kv::Result<()> {
        let mut data = self.data.lock().unwrap();
        let end = offset as usize + bytes.len();
        if data.len() < end {
            data.resize(end, 0);
        }
        data[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, cairn_kv::Result<()>> {
        match &self.executor {
            // Others run while a commit is on its way to the disk.
            Some(executor) => Box::pin(async move {
                for _ in 0..executor.rng.below(4) {
                    Tasks(Arc::clone(executor)).yield_now().await;
                }
                Ok(())
            }),
            None => Box::pin(async { Ok(()) }),
        }
    }

    fn set_len(&self, len: u64) -> cairn_kv::Result<()> {
        self.data.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
}

/// A node's parts that outlive a restart, and the executor.
#[derive(Clone)]
pub struct World {
    pub executor: Arc<Executor>,
    pub engine: SharedEngine,
    disk: Arc<MemDisk>,
    /// The way to the leaseholder from other nodes.
    pub line: Arc<Line>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let executor = Executor::new(seed);
        World::on(&executor, Line::new(Arc::clone(&executor)))
    }

    fn on(executor: &Arc<Executor>, line: Arc<Line>) -> World {
        let executor = Arc::clone(executor);
        let disk = MemDisk { files: Mutex::default(), executor: Some(Arc::clone(&executor)) };
        World { executor, engine: Arc::new(MemEngine::default()), disk: Arc::new(disk), line }
    }

    pub fn env(&self) -> Env {
        Env {
            clock: Arc::clone(&self.executor) as Arc<dyn Clock>,
            rng: Arc::new(Seeded::new(self.executor.rng.next_u64())),
            runtime: Arc::new(Tasks(Arc::clone(&self.executor))),
            disk: Arc::clone(&self.disk) as Arc<dyn Disk>,
            transport: Arc::new(NoPeers),
        }
    }

    async fn open_store(&self) -> Arc<Store> {
        let small = StoreConfig { segment_bytes: 1 << 20, ..StoreConfig::default() };
        Store::open(self.env(), Arc::clone(&self.engine), small).await.expect("the store opens")
    }

    /// Opens store and database, and in the tests that say so a second node's, to be used instead.
    pub fn open(&self, config: DbConfig) -> Arc<Db> {
        let world = self.clone();
        self.executor.run(async move {
            let db = world.open_leaseholder(config.clone()).await;
            if IS_REMOTE { world.open_gateway(2, config).await } else { db }
        })
    }

    /// Opens the node with the lease, and has the line end there.
    pub async fn open_leaseholder(&self, config: DbConfig) -> Arc<Db> {
        let db = Db::open(self.open_store().await, config).await.expect("the database opens");
        self.line.serve(1, Arc::clone(&db));
        db
    }

    /// Opens a node without the lease, with an empty store of its own.
    pub async fn open_gateway(&self, node: u64, config: DbConfig) -> Arc<Db> {
        self.open_gateway_to(node, 1, config).await
    }

    /// The same, where it takes another node for the leaseholder.
    pub async fn open_gateway_to(&self, node: u64, leaseholder: u64, config: DbConfig) -> Arc<Db> {
        let store = World::on(&self.executor, Arc::clone(&self.line)).open_store().await;
        let remote = Arc::clone(&self.line) as Arc<dyn cairn_txn::wire::Remote>;
        Db::open_remote(store, remote, node, leaseholder, config).await.expect("the database opens")
    }
}
