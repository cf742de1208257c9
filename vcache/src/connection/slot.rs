//! The place where one call waits for its reply: filled once, by whichever thread reads it from the socket, and taken
//! once, by the caller. A caller that went away leaves an abandoned slot behind, and its reply is thrown away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use redis::Value;

use crate::error::Result;

pub(crate) struct Slot(Mutex<State>);

enum State {
    Waiting(Option<Waker>),
    Filled(Result<Value>),
    /// Taken, or given up.
    Over,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State::Waiting(None)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the result in, and hands back whom to wake. The caller wakes after it has let go of its own locks.
    pub(crate) fn fill(&self, result: Result<Value>) -> Option<Waker> {
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

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<Value>> {
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

    pub(crate) fn abandon(&self) {
        *self.lock() = State::Over;
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(*self.lock(), State::Over)
    }
}
