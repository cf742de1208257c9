//! The place where one call waits for its reply: filled once, by whichever thread reads it from the socket, and taken
//! once, by the caller. A caller that went away leaves an abandoned slot behind, and its reply is thrown away.

#[cfg(feature = "driver")]
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[cfg(feature = "driver")]
use super::receiver::{Outcome, Receiver};

#[cfg(feature = "driver")]
impl Receiver for Slot<Outcome> {
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker> {
        Slot::fill(&self, outcome)
    }

    fn is_abandoned(&self) -> bool {
        Slot::is_abandoned(self)
    }
}

/// A place for a `T`: the driver's is a reply, that of a client of the driver's is what it was told.
pub(crate) struct Slot<T>(Mutex<State<T>>);

enum State<T> {
    Waiting(Option<Waker>),
    Filled(T),
    /// Taken, or given up.
    Over,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State::Waiting(None)))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the result in, and hands back whom to wake. The caller wakes after it has let go of its own locks.
    pub(crate) fn fill(&self, result: T) -> Option<Waker> {
        let mut state = self.lock();
        match &mut *state {
            State::Waiting(waker) => {
                let waker = waker.take();
                *state = State::Filled(result);
                waker
            }
            State::Filled(_) | State::Over => None,
        }
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<T> {
        let mut state = self.lock();
        match &mut *state {
            State::Waiting(Some(waker)) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            State::Waiting(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Filled(_) => match std::mem::replace(&mut *state, State::Over) {
                State::Filled(result) => Poll::Ready(result),
                State::Waiting(_) | State::Over => Poll::Pending,
            },
            State::Over => Poll::Pending,
        }
    }

    /// Gives up waiting, and throws away what may have come.
    pub(crate) fn abandon(&self) {
        let old = std::mem::replace(&mut *self.lock(), State::Over);
        drop(old);
    }

    /// Puts the result in, for one who does not poll; `false` if it is not wanted any more.
    #[cfg(all(feature = "driver", feature = "python"))]
    pub(crate) fn put(&self, result: T) -> bool {
        let mut state = self.lock();
        match &*state {
            State::Waiting(_) => {
                *state = State::Filled(result);
                true
            }
            State::Filled(_) | State::Over => false,
        }
    }

    /// What has come; `None` if nothing has, or it was taken or given up.
    #[cfg(all(feature = "driver", feature = "python"))]
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Filled(result) => Some(result),
            before => {
                *state = before;
                None
            }
        }
    }

    /// Gives up waiting if nothing has come yet; `false` if something has.
    #[cfg(all(feature = "driver", feature = "python"))]
    pub(crate) fn abandon_unfilled(&self) -> bool {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Over) {
            before @ State::Waiting(_) => {
                drop(state);
                drop(before);
                true
            }
            before => {
                *state = before;
                false
            }
        }
    }

    #[cfg(feature = "driver")]
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(*self.lock(), State::Over)
    }
}
