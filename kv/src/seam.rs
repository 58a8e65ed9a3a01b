//! The seams (R1): every way in which time, randomness, scheduling and files reach a node.
//!
//! Production implements them with the operating system and tokio (in `cairn-server`); the
//! simulator implements them with a seed, virtual time and a disk in memory. Code below `server/`
//! uses nothing else: no wall clock, monotonic clock, entropy, thread, private runtime,
//! iteration over unordered maps or unbiased `select!`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Error, Result};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Wall and monotonic time.
pub trait Clock: Send + Sync {
    /// Microseconds since the Unix epoch; may jump either way.
    fn wall_micros(&self) -> u64;
    /// Nanoseconds of a clock that never goes back; the origin is arbitrary.
    fn monotonic_nanos(&self) -> u64;
}

/// Randomness.
pub trait Rng: Send + Sync {
    /// 64 random bits.
    fn next_u64(&self) -> u64;
}

/// Tasks and waiting.
pub trait Runtime: Send + Sync {
    /// Runs `task` concurrently. `name` is for diagnosis. The task ends with the node.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
    /// As [`Runtime::spawn`], on a thread of its own: the task runs in time whatever the workers are at.
    fn spawn_dedicated(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.spawn(name, task);
    }
    /// Completes after `duration` of monotonic time.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Lets other tasks run.
    fn yield_now(&self) -> BoxFuture<'static, ()>;
    /// Runs work that blocks its thread for long (a flush, a compaction) away from the workers.
    /// The future completes when the work has; dropping it does not stop the work.
    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// [`Runtime::blocking`] of work that comes to something. Not having run to its end (it panicked) is an error.
pub async fn blocking<T: Send + 'static>(
    runtime: &dyn Runtime,
    name: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let outcome = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&outcome);
    let work = Box::new(move || {
        let done = work();
        *slot.lock() = Some(done);
    });
    runtime.blocking(name, work).await;
    let done = outcome.lock().take();
    done.unwrap_or_else(|| Err(Error::Io(format!("{name} did not run to its end"))))
}

/// A directory of files: the log, spill, snapshots. Names are relative, without separators.
pub trait Disk: Send + Sync {
    /// Names of the files, sorted.
    fn list(&self) -> Result<Vec<String>>;
    /// Opens an existing file, or creates an empty one if `create`.
    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn DiskFile>>;
    /// Renames, replacing. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, name: &str) -> Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> BoxFuture<'_, Result<()>>;
}

/// A file of a [`Disk`]. Writes become durable with [`DiskFile::sync`]; a crash may keep any part
/// of what was not synced, torn at any byte.
pub trait DiskFile: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> Result<u64>;
    /// Whether the length is zero.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads up to `buf.len()` bytes at `offset`; returns how many (short only at the end).
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize>;
    /// Writes all of `data` at `offset`, extending the file when needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()>;
    /// Makes data and length durable. Ready at once in production (it blocks its caller): async so
    /// that the simulator can crash here.
    fn sync(&self) -> BoxFuture<'_, Result<()>>;
    /// Cuts or extends with zeroes.
    fn set_len(&self, len: u64) -> Result<()>;
}

/// Number of a node within its cluster, from 1; that of its store, of which it has one.
pub type NodeId = u64;

/// Which queue a frame goes through: what is urgent must not wait behind what is large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// Store liveness.
    Liveness,
    /// Messages of Raft groups.
    Raft,
    /// Requests of gateways and their answers.
    Request,
    /// Snapshots of ranges: bulk that waits behind all else.
    Snapshot,
}

impl Channel {
    /// All of them.
    pub const ALL: [Channel; 4] = [Channel::Liveness, Channel::Raft, Channel::Request, Channel::Snapshot];
}

/// Frames between the nodes of a cluster. Whom a frame is from is certain; that it arrives, once, in
/// order and soon is not.
pub trait Transport: Send + Sync {
    /// Hands a frame over for delivery; never blocks. Where the queue is full or the peer unreachable it
    /// is dropped.
    fn send(&self, to: NodeId, channel: Channel, frame: Bytes);
    /// The next frame that has arrived on `channel`, and whose it is. One task at a time may wait
    /// for each channel.
    fn receive(&self, channel: Channel) -> BoxFuture<'_, (NodeId, Bytes)>;
}

/// The transport of a node that has no peers.
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&self, _to: NodeId, _channel: Channel, _frame: Bytes) {}

    fn receive(&self, _channel: Channel) -> BoxFuture<'_, (NodeId, Bytes)> {
        Box::pin(std::future::pending())
    }
}

/// The seams a node is built with, handed down through every layer.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Tasks.
    pub runtime: Arc<dyn Runtime>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Messages to and from other nodes.
    pub transport: Arc<dyn Transport>,
}
