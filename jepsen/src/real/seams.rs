//! What stands around the seams of a real node, to bring misfortune over it on [`Order`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use cairn_kv::Result;
use cairn_kv::seam::{BoxFuture, Channel, Clock, Disk, DiskFile, NodeId, Transport};
use cairn_server::node::Hooks;
use parking_lot::{Condvar, Mutex};

use super::order::{Direction, Order};

/// The misfortune of one node, shared by its seams.
#[derive(Default)]
pub struct Misfortune {
    skew_micros: AtomicI64,
    hangs: Mutex<bool>,
    goes_on: Condvar,
    cuts: Mutex<BTreeMap<NodeId, Direction>>,
}

impl Misfortune {
    /// Obeys; a question changes nothing.
    pub fn obey(&self, order: Order) {
        match order {
            Order::Skew(micros) => self.skew_micros.store(micros, Ordering::SeqCst),
            Order::Hang => *self.hangs.lock() = true,
            Order::Unhang => {
                *self.hangs.lock() = false;
                self.goes_on.notify_all();
            }
            Order::Cut(node, direction) => {
                self.cuts.lock().insert(node, direction);
            }
            Order::Heal => self.cuts.lock().clear(),
            Order::Status => {}
        }
    }

    /// Puts it around a node.
    pub fn hooks(self: &Arc<Self>) -> Hooks {
        let (clock, disk, transport) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        Hooks {
            clock: Some(Box::new(move |inner| Arc::new(Skewed { inner, misfortune: clock }))),
            disk: Some(Box::new(move |inner| Arc::new(Hanging { inner, misfortune: disk }))),
            transport: Some(Box::new(move |inner| Arc::new(Cut { inner, misfortune: transport }))),
            ..Hooks::default()
        }
    }

    /// Blocks its thread, as a system call on a disk that hangs does.
    fn wait_for_disk(&self) {
        let mut hangs = self.hangs.lock();
        while *hangs {
            self.goes_on.wait(&mut hangs);
        }
    }

    fn is_cut(&self, node: NodeId, way: fn(Direction) -> bool) -> bool {
        self.cuts.lock().get(&node).is_some_and(|direction| way(*direction))
    }
}

struct Skewed {
    inner: Arc<dyn Clock>,
    misfortune: Arc<Misfortune>,
}

impl Clock for Skewed {
    fn wall_micros(&self) -> u64 {
        self.inner.wall_micros().saturating_add_signed(self.misfortune.skew_micros.load(Ordering::SeqCst))
    }

    fn monotonic_nanos(&self) -> u64 {
        self.inner.monotonic_nanos()
    }
}

struct Cut {
    inner: Arc<dyn Transport>,
    misfortune: Arc<Misfortune>,
}

impl Transport for Cut {
    fn send(&self, to: NodeId, channel: Channel, frame: Bytes) {
        if !self.misfortune.is_cut(to, Direction::is_out) {
            self.inner.send(to, channel, frame);
        }
    }

    fn receive(&self, channel: Channel) -> BoxFuture<'_, (NodeId, Bytes)> {
        Box::pin(async move {
            loop {
                let (from, frame) = self.inner.receive(channel).await;
                if !self.misfortune.is_cut(from, Direction::is_in) {
                    return (from, frame);
                }
            }
        })
    }
}

struct Hanging {
    inner: Arc<dyn Disk>,
    misfortune: Arc<Misfortune>,
}

impl Disk for Hanging {
    fn list(&self) -> Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn DiskFile>> {
        self.misfortune.wait_for_disk();
        let inner = self.inner.open(name, create)?;
        Ok(Arc::new(HangingFile { inner, misfortune: Arc::clone(&self.misfortune) }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.misfortune.wait_for_disk();
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.misfortune.wait_for_disk();
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> BoxFuture<'_, Result<()>> {
        self.misfortune.wait_for_disk();
        self.inner.sync_dir()
    }
}

struct HangingFile {
    inner: Arc<dyn DiskFile>,
    misfortune: Arc<Misfortune>,
}

impl DiskFile for HangingFile {
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.misfortune.wait_for_disk();
        self.inner.write_at(offset, data)
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        self.misfortune.wait_for_disk();
        self.inner.sync()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.misfortune.wait_for_disk();
        self.inner.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use cairn_server::disk::DirectoryDisk;
    use cairn_server::seams::SystemClock;

    use super::*;

    /// Keeps what was sent, and delivers what is put in.
    #[derive(Default)]
    struct Mailbox {
        sent: Mutex<Vec<NodeId>>,
        arrived: Mutex<Vec<(NodeId, Bytes)>>,
    }

    impl Transport for Mailbox {
        fn send(&self, to: NodeId, _channel: Channel, _frame: Bytes) {
            self.sent.lock().push(to);
        }

        fn receive(&self, _channel: Channel) -> BoxFuture<'_, (NodeId, Bytes)> {
            let next = self.arrived.lock().remove(0);
            Box::pin(std::future::ready(next))
        }
    }

    #[test]
    fn a_hung_disk_holds_its_callers_until_it_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let misfortune = Arc::new(Misfortune::default());
        let wrap = misfortune.hooks().disk.expect("there is one");
        let disk = wrap(Arc::new(DirectoryDisk::open(directory.path()).unwrap()));
        let file = disk.open("log", true).unwrap();
        misfortune.obey(Order::Hang);
        let (done, wait) = mpsc::channel();
        let writer = std::thread::spawn(move || {
            file.write_at(0, b"late").unwrap();
            done.send(()).unwrap();
        });
        assert!(wait.recv_timeout(Duration::from_millis(50)).is_err(), "the disk hangs");
        misfortune.obey(Order::Unhang);
        wait.recv_timeout(Duration::from_secs(10)).expect("the disk goes on");
        writer.join().unwrap();
    }

    #[test]
    fn a_link_is_cut_in_one_direction_and_a_clock_is_off() {
        let misfortune = Arc::new(Misfortune::default());
        let inner = Arc::new(Mailbox::default());
        let hooks = misfortune.hooks();
        let transport = hooks.transport.expect("there is one")(Arc::clone(&inner) as _);
        let send = |to| transport.send(to, Channel::Raft, Bytes::new());
        misfortune.obey(Order::Cut(2, Direction::Out));
        misfortune.obey(Order::Cut(3, Direction::In));
        send(2);
        send(3);
        assert_eq!(*inner.sent.lock(), [3]);
        *inner.arrived.lock() = [3, 2].map(|from| (from, Bytes::new())).to_vec();
        let next = || futures_util::FutureExt::now_or_never(transport.receive(Channel::Raft)).expect("ready");
        assert_eq!(next().0, 2, "what node 3 sends is dropped");
        misfortune.obey(Order::Heal);
        send(2);
        assert_eq!(*inner.sent.lock(), [3, 2]);

        let real = Arc::new(SystemClock::default());
        let clock = hooks.clock.expect("there is one")(Arc::clone(&real) as _);
        misfortune.obey(Order::Skew(-60_000_000));
        assert!(clock.wall_micros() + 50_000_000 < real.wall_micros());
    }
}
