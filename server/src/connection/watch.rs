//! Running a statement while watching its client.
//!
//! A statement is polled on its connection's task. As long as it never waits, nothing here costs
//! anything: no system call, no timer. When it waits (for a lock, the log, a slow client), the
//! socket is read ahead, so that a client that left is noticed, and time and the node's end are
//! watched. Whatever happens, the statement is polled to its end: it is told through its cancel
//! token, never dropped.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_txn::CancelToken;
use tokio::io::AsyncRead;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::reader::{End, Reader};
use super::registry::Handle;

/// How long the work of a client that has said goodbye may go on: what was sent before (a
/// fire-and-forget INSERT, then Terminate) should be done, but a lock is not waited for.
const GOODBYE_GRACE: Duration = Duration::from_secs(1);

/// Why a statement was told to end, when not by a cancel request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `statement_timeout`.
    Timeout,
    /// The client is gone.
    Gone,
    /// The node ends.
    Shutdown,
}

/// What is watched beside the socket.
pub struct Watch<'a> {
    /// Of the connection.
    pub handle: &'a Handle,
    /// Of the session.
    pub cancel: &'a CancelToken,
    /// `statement_timeout`.
    pub timeout: Option<Duration>,
    /// Counts completed statements; each starts the timeout anew.
    pub completed: &'a AtomicU64,
}

/// Polls `statement` to its end.
pub async fn run<F: Future, R: AsyncRead + Unpin>(
    mut statement: Pin<&mut F>,
    reader: &mut Reader<R>,
    watch: Watch<'_>,
) -> (F::Output, Option<Cause>) {
    let mut timeout = watch.timeout.map(|duration| Timeout {
        duration,
        deadline: Instant::now() + duration,
        completed: watch.completed.load(Ordering::Relaxed),
        timer: None,
    });
    let mut goodbye: Option<Pin<Box<Sleep>>> = None;
    let mut cause = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = statement.as_mut().poll(cx) {
            return Poll::Ready((output, cause));
        }
        if cause.is_none() {
            watch.handle.watch(cx.waker());
            cause = if watch.handle.is_killed() {
                Some(Cause::Shutdown)
            } else if timeout.as_mut().is_some_and(|timeout| timeout.poll(watch.completed, cx)) {
                Some(Cause::Timeout)
            } else if poll_gone(reader, &mut goodbye, cx) {
                Some(Cause::Gone)
            } else {
                None
            };
            if cause.is_some() {
                watch.cancel.cancel();
                // A statement that yields rather than waits looks at the flag when polled again.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await
}

/// `statement_timeout` of the statement at work.
struct Timeout {
    duration: Duration,
    deadline: Instant,
    completed: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Timeout {
    fn poll(&mut self, completed: &AtomicU64, cx: &mut Context<'_>) -> bool {
        let completed = completed.load(Ordering::Relaxed);
        if completed != self.completed {
            self.completed = completed;
            self.deadline = Instant::now() + self.duration;
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(self.deadline);
            }
        }
        let deadline = self.deadline;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer.as_mut().poll(cx).is_ready()
    }
}

/// Reads ahead; true when the client is gone for good.
fn poll_gone<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    goodbye: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> bool {
    while reader.end().is_none() && reader.poll_fill(cx).is_ready() {}
    let leaving = match reader.end() {
        Some(End::Broken(_)) => return true,
        Some(End::Closed) => true,
        None => reader.sees_terminate(),
    };
    if !leaving {
        return false;
    }
    goodbye.get_or_insert_with(|| Box::pin(sleep(GOODBYE_GRACE))).as_mut().poll(cx).is_ready()
}
