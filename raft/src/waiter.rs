//! Where a caller waits for its proposal, or is asked to drive the log itself.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::driver::Seat;
use crate::store::{Applied, ProposeError};

/// What a waiter is told.
pub(crate) enum Signal {
    /// The outcome.
    Done(Result<Applied, ProposeError>),
    /// The log is idle and work is queued, this waiter's among it: drive.
    Drive(Seat),
}

/// A slot for signals. At most one is in it: a waiter that was handed the seat takes it before
/// anything else can happen to its proposal.
#[derive(Default)]
pub(crate) struct Waiter {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    signal: Option<Signal>,
    waker: Option<Waker>,
    /// The caller is gone.
    abandoned: bool,
}

impl Waiter {
    fn complete(&self, outcome: Result<Applied, ProposeError>) {
        let (replaced, waker) = {
            let mut state = self.state.lock();
            (state.signal.replace(Signal::Done(outcome)), state.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        // A seat on offer here is replaced only when the store has failed. Its destructor answers
        // others: not under the lock.
        drop(replaced);
    }

    /// Asks the caller to drive; gives the seat back if nobody waits here.
    pub(crate) fn offer(&self, seat: Seat) -> Result<(), Seat> {
        let waker = {
            let mut state = self.state.lock();
            if state.abandoned {
                return Err(seat);
            }
            state.signal = Some(Signal::Drive(seat));
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Waits for the next signal.
    pub(crate) async fn signal(&self) -> Signal {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if let Some(signal) = state.signal.take() {
                return Poll::Ready(signal);
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    fn abandon(&self) -> Option<Signal> {
        let mut state = self.state.lock();
        state.abandoned = true;
        state.signal.take()
    }
}

/// The duty to answer a waiter, exactly once. Dropped unanswered, it says that the outcome is unknown.
pub(crate) struct Reply(Option<Arc<Waiter>>);

impl Reply {
    pub(crate) fn new(waiter: Arc<Waiter>) -> Reply {
        Reply(Some(waiter))
    }

    pub(crate) fn waiter(&self) -> &Arc<Waiter> {
        self.0.as_ref().expect("present until it is sent")
    }

    pub(crate) fn send(mut self, outcome: Result<Applied, ProposeError>) {
        if let Some(waiter) = self.0.take() {
            waiter.complete(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(waiter) = self.0.take() {
            waiter.complete(Err(ProposeError::Ambiguous("the store stopped before it was applied".into())));
        }
    }
}

/// A caller's side of a waiter: gives a seat that it was offered and did not take to a task.
pub(crate) struct Waiting(pub(crate) Arc<Waiter>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(Signal::Drive(seat)) = self.0.abandon() {
            seat.drive_as_task();
        }
    }
}
