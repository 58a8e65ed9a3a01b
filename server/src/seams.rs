//! The production side of the seams (R1): the operating system's clocks and entropy, and tokio.
//! Files are in [`crate::disk`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cairn_kv::seam::{BoxFuture, Clock, Rng, Runtime};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// The operating system's clocks.
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall_micros(&self) -> u64 {
        // Before 1970 the clock is wrong anyway; the HLC does not go back (R11).
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// The operating system's entropy.
#[derive(Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        // Secrets and log salts must not be guessed: a cryptographic generator per thread, seeded by the
        // operating system, which panics without entropy. A system call for each would cost every
        // transaction two.
        rand::random()
    }
}

/// Tasks on tokio, until [`TokioRuntime::stop`].
pub struct TokioRuntime {
    handle: Handle,
    tasks: Mutex<JoinSet<()>>,
    threads: Mutex<Vec<Dedicated>>,
    failure: watch::Sender<Option<&'static str>>,
}

impl TokioRuntime {
    /// Tasks run on the runtime of the caller.
    pub fn current() -> Arc<TokioRuntime> {
        Arc::new(TokioRuntime {
            handle: Handle::current(),
            tasks: Mutex::default(),
            threads: Mutex::default(),
            failure: watch::Sender::new(None),
        })
    }

    /// Completes with the name of a task that panicked: what it kept in order no longer is, so the
    /// node has to stop.
    pub async fn failed(&self) -> &'static str {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.expect("the sender lives as long as `self`");
        failed.expect("waited for")
    }

    /// Ends all tasks.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        let threads = std::mem::take(&mut *self.threads.lock());
        for Dedicated { stop, thread } in threads {
            // An error: it has ended by itself.
            let _ = stop.send(());
            // Its task does not panic, as it is caught.
            let _ = self.handle.spawn_blocking(|| thread.join()).await;
        }
    }

    /// `task`, whose panic is told.
    fn watched(&self, name: &'static str, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let failure = self.failure.clone();
        Box::pin(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(task = name, "a background task panicked");
                failure.send_replace(Some(name));
            }
        })
    }
}

/// A task's own thread.
struct Dedicated {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Runtime for TokioRuntime {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let task = self.watched(name, task);
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.handle);
    }

    fn spawn_dedicated(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let task = self.watched(name, task);
        let (stop, stopped) = oneshot::channel::<()>();
        let started =
            tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
                let run = move || {
                    runtime.block_on(async {
                        tokio::select! {
                            biased;
                            _ = stopped => {}
                            () = task => {}
                        }
                    });
                };
                std::thread::Builder::new().name(name.into()).spawn(run)
            });
        match started {
            Ok(thread) => self.threads.lock().push(Dedicated { stop, thread }),
            Err(error) => {
                tracing::error!(task = name, %error, "a thread cannot be started");
                self.failure.send_replace(Some(name));
            }
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }

    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let work = self.handle.spawn_blocking(work);
        let failure = self.failure.clone();
        Box::pin(async move {
            if work.await.is_err() {
                tracing::error!(task = name, "background work panicked");
                failure.send_replace(Some(name));
            }
        })
    }
}
