//! One thread, virtual time, and a seed that chooses what runs next.
//!
//! Every task belongs to an *incarnation* of a node: what one process would run between a start
//! and a crash. A crash drops an incarnation's tasks at whatever await they stand, and makes its
//! [`SimRuntime`] inert: what a destructor still spawns never runs, its timers never fire. The nodes of
//! one world share thread, time and schedule.
//!
//! Each poll moves virtual time on by some microseconds, so that clocks tick while a node is busy
//! and timers expire among ready tasks, as they do on a real machine. When nothing is ready, time
//! jumps to the next timer.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::seam::{BoxFuture, Runtime};

use super::clock::SimClock;
use super::rng::SimRng;
use super::trace::{POLL, Trace};

type TaskId = u64;

/// The id of the future that [`SimExecutor::run`] itself drives.
const ROOT: TaskId = 0;

/// No crash is planned at a poll.
const NEVER: u64 = u64::MAX;

/// Why [`SimExecutor::run`] ended before its future did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The requested crash happened.
    Crashed,
    /// Nothing is ready and no timer is set: the names of the waiting tasks.
    Deadlock(Vec<&'static str>),
    /// Virtual time passed the limit: the names of the waiting tasks.
    TimedOut(Vec<&'static str>),
}

/// The simulator's executor, as one node uses it. Clones share it.
#[derive(Clone)]
pub struct SimExecutor {
    shared: Arc<Shared>,
    node: Arc<Node>,
}

/// What the executor knows of a node.
struct Node {
    number: u32,
    incarnation: AtomicU64,
    /// Operations until the power is cut; negative: no cut is planned.
    operations_left: AtomicI64,
    power_cut: AtomicBool,
    crash_at_poll: AtomicU64,
}

impl Node {
    fn new(number: u32) -> Arc<Node> {
        Arc::new(Node {
            number,
            incarnation: AtomicU64::new(0),
            operations_left: AtomicI64::new(-1),
            power_cut: AtomicBool::new(false),
            crash_at_poll: AtomicU64::new(NEVER),
        })
    }

    fn crash_is_due(&self, polls: u64) -> bool {
        self.power_cut.load(Ordering::SeqCst) || polls >= self.crash_at_poll.load(Ordering::SeqCst)
    }
}

struct Shared {
    clock: Arc<SimClock>,
    rng: SimRng,
    trace: Trace,
    /// Woken tasks. Apart from `state`, because destructors and wakers run under no lock of ours
    /// but may be run by any.
    ready: Arc<Mutex<Vec<TaskId>>>,
    state: Mutex<State>,
}

struct State {
    nodes: Vec<Arc<Node>>,
    next_task: TaskId,
    tasks: BTreeMap<TaskId, Task>,
    next_timer: u64,
    timers: BTreeMap<(u64, u64), (u32, Waker)>,
    polls: u64,
    time_limit_nanos: Option<u64>,
}

struct Task {
    name: &'static str,
    /// Number of the node whose it is.
    node: u32,
    /// Absent while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    wake: Arc<TaskWake>,
}

struct TaskWake {
    id: TaskId,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            self.ready.lock().push(self.id);
        }
    }
}

impl SimExecutor {
    pub(super) fn new(clock: Arc<SimClock>, rng: SimRng, trace: Trace) -> SimExecutor {
        let node = Node::new(0);
        let state = State {
            nodes: vec![Arc::clone(&node)],
            next_task: ROOT + 1,
            tasks: BTreeMap::new(),
            next_timer: 0,
            timers: BTreeMap::new(),
            polls: 0,
            time_limit_nanos: None,
        };
        let shared = Shared { clock, rng, trace, ready: Arc::default(), state: Mutex::new(state) };
        SimExecutor { shared: Arc::new(shared), node }
    }

    /// The same executor for another node of this world, and the node's number.
    pub(super) fn beside(&self) -> (SimExecutor, u32) {
        let mut state = self.shared.state.lock();
        let number = state.nodes.len() as u32;
        let node = Node::new(number);
        state.nodes.push(Arc::clone(&node));
        (SimExecutor { shared: Arc::clone(&self.shared), node }, number)
    }

    /// The runtime of the present incarnation.
    pub fn runtime(&self) -> SimRuntime {
        SimRuntime { executor: self.clone(), incarnation: self.incarnation() }
    }

    /// The present incarnation's number.
    pub fn incarnation(&self) -> u64 {
        self.node.incarnation.load(Ordering::SeqCst)
    }

    /// Polls so far.
    pub fn polls(&self) -> u64 {
        self.shared.state.lock().polls
    }

    /// Requests a crash instead of the poll that is `polls` further from here.
    pub fn crash_after_polls(&self, polls: u64) {
        let now = self.polls();
        self.node.crash_at_poll.store(now + polls, Ordering::SeqCst);
    }

    /// Requests a crash at the disk or engine operation that is `operations` further from here.
    pub fn crash_after_operations(&self, operations: u32) {
        self.node.operations_left.store(i64::from(operations), Ordering::SeqCst);
    }

    /// Whether the node still runs. False after the power was cut in the middle of a poll: what
    /// the rest of that poll answers must not count as answered.
    pub fn is_powered(&self) -> bool {
        !self.node.power_cut.load(Ordering::SeqCst)
    }

    /// Whether a planned crash of this node has come and is not carried out yet.
    pub(super) fn crash_is_due(&self) -> bool {
        self.node.crash_is_due(self.polls())
    }

    /// Bounds how far virtual time may go from here on, or lifts the bound.
    pub fn set_time_limit(&self, limit: Option<Duration>) {
        let now = self.shared.clock.now_nanos();
        self.shared.state.lock().time_limit_nanos = limit.map(|d| now + d.as_nanos() as u64);
    }

    /// Drives all tasks until `root` completes. After [`Stopped::Crashed`] `root` and the tasks
    /// still exist: the caller makes disk and engine inert before it drops them.
    pub(super) fn run<F: Future>(&self, root: &mut Pin<Box<F>>) -> Result<F::Output, Stopped> {
        let shared = &*self.shared;
        let root_wake =
            Arc::new(TaskWake { id: ROOT, queued: AtomicBool::new(true), ready: Arc::clone(&shared.ready) });
        shared.ready.lock().push(ROOT);
        let root_waker = Waker::from(Arc::clone(&root_wake));
        let result = loop {
            if let Err(stopped) = self.before_poll() {
                break Err(stopped);
            }
            let id = self.take_ready();
            if id == ROOT {
                root_wake.queued.store(false, Ordering::SeqCst);
                if let Poll::Ready(output) = root.as_mut().poll(&mut Context::from_waker(&root_waker)) {
                    break Ok(output);
                }
            } else {
                self.poll_task(id);
            }
        };
        // A late wake of this root must not be taken for the next one's.
        root_wake.queued.store(true, Ordering::SeqCst);
        shared.ready.lock().retain(|id| *id != ROOT);
        result
    }

    /// The node has crashed: from here on the runtimes of earlier incarnations are inert.
    pub(super) fn begin_incarnation(&self) {
        self.node.incarnation.fetch_add(1, Ordering::SeqCst);
    }

    /// Drops the tasks and timers of the node's incarnation that is over; returns the number of tasks.
    pub(super) fn drop_tasks(&self) -> usize {
        let number = self.node.number;
        let (tasks, timers) = {
            let mut state = self.shared.state.lock();
            self.node.crash_at_poll.store(NEVER, Ordering::SeqCst);
            self.node.operations_left.store(-1, Ordering::SeqCst);
            self.node.power_cut.store(false, Ordering::SeqCst);
            let tasks: Vec<Task> =
                state.tasks.extract_if(.., |_, t| t.node == number).map(|(_, t)| t).collect();
            let timers: Vec<Waker> =
                state.timers.extract_if(.., |_, (node, _)| *node == number).map(|(_, (_, w))| w).collect();
            (tasks, timers)
        };
        let dropped = tasks.len();
        // In the order of their creation; outside the lock, since destructors may spawn and wake.
        drop(tasks);
        drop(timers);
        // Also what destructors have woken of them is gone.
        let state = self.shared.state.lock();
        self.shared.ready.lock().retain(|id| *id == ROOT || state.tasks.contains_key(id));
        dropped
    }

    /// Whether a crash is due, time is up or nothing can run; else makes some task ready.
    fn before_poll(&self) -> Result<(), Stopped> {
        let shared = &*self.shared;
        let mut due = Vec::new();
        loop {
            let mut state = shared.state.lock();
            if state.nodes.iter().any(|node| node.crash_is_due(state.polls)) {
                return Err(Stopped::Crashed);
            }
            let mut now = shared.clock.now_nanos();
            if state.time_limit_nanos.is_some_and(|limit| now > limit) {
                return Err(Stopped::TimedOut(state.task_names()));
            }
            let idle = shared.ready.lock().is_empty();
            match state.timers.first_key_value() {
                Some((&(deadline, _), _)) if idle => now = now.max(deadline),
                None if idle => return Err(Stopped::Deadlock(state.task_names())),
                _ => {}
            }
            while let Some(entry) = state.timers.first_entry().filter(|e| e.key().0 <= now) {
                due.push(entry.remove().1);
            }
            shared.clock.advance_to(now);
            drop(state);
            due.drain(..).for_each(Waker::wake);
            if !shared.ready.lock().is_empty() {
                return Ok(());
            }
        }
    }

    fn take_ready(&self) -> TaskId {
        let shared = &*self.shared;
        let mut ready = shared.ready.lock();
        let position = shared.rng.below(ready.len() as u64) as usize;
        let among = ready.len() as u64;
        let id = ready.swap_remove(position);
        drop(ready);
        let mut state = shared.state.lock();
        state.polls += 1;
        let polls = state.polls;
        let name = state.tasks.get(&id).map_or("root", |t| t.name);
        drop(state);
        shared.clock.advance_to(shared.clock.now_nanos() + shared.rng.between(200, 4_000));
        shared.trace.event(POLL, &[id, among, polls], || format!("{name}#{id} of {among} ready"));
        id
    }

    fn poll_task(&self, id: TaskId) {
        let taken = {
            let mut state = self.shared.state.lock();
            let Some(task) = state.tasks.get_mut(&id) else { return };
            task.wake.queued.store(false, Ordering::SeqCst);
            task.future.take().map(|future| (future, Arc::clone(&task.wake)))
        };
        let Some((mut future, wake)) = taken else { return };
        let waker = Waker::from(wake);
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if done {
            self.shared.state.lock().tasks.remove(&id);
        } else if let Some(task) = self.shared.state.lock().tasks.get_mut(&id) {
            task.future = Some(future);
        }
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        let mut state = self.shared.state.lock();
        let id = state.next_task;
        state.next_task += 1;
        let ready = Arc::clone(&self.shared.ready);
        let wake = Arc::new(TaskWake { id, queued: AtomicBool::new(true), ready });
        let node = self.node.number;
        state.tasks.insert(id, Task { name, node, future: Some(future), wake });
        self.shared.ready.lock().push(id);
    }
}

impl State {
    fn task_names(&self) -> Vec<&'static str> {
        self.tasks.values().map(|t| t.name).collect()
    }
}

/// [`Runtime`] of one incarnation.
#[derive(Clone)]
pub struct SimRuntime {
    executor: SimExecutor,
    incarnation: u64,
}

impl SimRuntime {
    /// Whether the incarnation still lives.
    pub fn is_alive(&self) -> bool {
        self.executor.incarnation() == self.incarnation
    }

    /// Whether the incarnation lives and its power was not cut in the middle of the present poll.
    pub fn is_running(&self) -> bool {
        self.is_alive() && self.executor.is_powered()
    }

    /// Counts a disk or engine operation; returns whether it takes effect: false once the power is
    /// cut, or the incarnation over.
    pub(super) fn operation(&self) -> bool {
        if !self.is_alive() {
            return false;
        }
        let node = &*self.executor.node;
        if node.operations_left.load(Ordering::SeqCst) >= 0
            && node.operations_left.fetch_sub(1, Ordering::SeqCst) == 0
        {
            node.power_cut.store(true, Ordering::SeqCst);
            let number = node.number;
            self.executor.shared.trace.event("power", &[number.into()], || format!("power cut of {number}"));
        }
        self.executor.is_powered()
    }

    /// A timer that fires `nanos` of virtual time from now; never, once the incarnation is over.
    pub fn timer(&self, nanos: u64) -> Timer {
        let deadline = self.executor.shared.clock.now_nanos().saturating_add(nanos);
        Timer { runtime: self.clone(), deadline, entry: None }
    }
}

impl Runtime for SimRuntime {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        if self.is_alive() {
            self.executor.spawn(name, task);
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.timer(duration.as_nanos().min(u128::from(u64::MAX)) as u64))
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        let mut yielded = false;
        Box::pin(std::future::poll_fn(move |context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let done = Arc::new(Completion::default());
        let latency = self.executor.shared.rng.between(1_000, 2_000_000);
        let timer = self.timer(latency);
        let signal = Arc::clone(&done);
        self.spawn(
            name,
            Box::pin(async move {
                timer.await;
                work();
                signal.complete();
            }),
        );
        Box::pin(std::future::poll_fn(move |context| done.poll(context)))
    }
}

#[derive(Default)]
struct Completion {
    state: Mutex<(bool, Option<Waker>)>,
}

impl Completion {
    fn complete(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A sleep in virtual time.
pub struct Timer {
    runtime: SimRuntime,
    deadline: u64,
    entry: Option<(u64, u64)>,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let shared = &*this.runtime.executor.shared;
        if !this.runtime.is_alive() {
            return Poll::Pending;
        }
        if shared.clock.now_nanos() >= this.deadline {
            return Poll::Ready(());
        }
        let mut state = shared.state.lock();
        let entry = *this.entry.get_or_insert_with(|| {
            state.next_timer += 1;
            (this.deadline, state.next_timer)
        });
        // The replaced waker is dropped after the lock is released.
        let node = this.runtime.executor.node.number;
        let replaced = state.timers.insert(entry, (node, context.waker().clone()));
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            let removed = self.runtime.executor.shared.state.lock().timers.remove(&entry);
            drop(removed);
        }
    }
}
