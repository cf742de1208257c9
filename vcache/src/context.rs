//! Who drives the connections for the future that is being polled on this thread.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use crate::connection::Driver;

/// The driver of the current poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Context {
    /// Nobody of ours: perhaps a tokio runtime.
    Elsewhere,
    /// `block_on`: it sends at once, because it is about to wait.
    Blocking,
    /// An asyncio loop: it sends what one iteration brought together.
    #[cfg_attr(not(feature = "python"), allow(dead_code))]
    Loop,
}

thread_local! {
    static CURRENT: Cell<Context> = const { Cell::new(Context::Elsewhere) };
    static PROMPT_CANCEL: Cell<bool> = const { Cell::new(false) };
    static COLLECTING: Cell<bool> = const { Cell::new(false) };
    static NEXT: Cell<Option<Instant>> = const { Cell::new(None) };
    static UNSENT: RefCell<Vec<Arc<Driver>>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn current() -> Context {
    CURRENT.get()
}

/// Sets the context until the guard is dropped.
pub(crate) fn enter(context: Context) -> Guard {
    Guard(CURRENT.replace(context))
}

pub(crate) struct Guard(Context);

impl Drop for Guard {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Until the guard is dropped everything is collected: whoever holds it sends right after.
#[cfg(feature = "python")]
pub(crate) fn collect() -> Collecting {
    Collecting(COLLECTING.replace(true))
}

pub(crate) fn is_collecting() -> bool {
    COLLECTING.get()
}

#[cfg(feature = "python")]
pub(crate) struct Collecting(bool);

#[cfg(feature = "python")]
impl Drop for Collecting {
    fn drop(&mut self) {
        COLLECTING.set(self.0);
    }
}

/// Notes when a connection has to be looked at, at the latest, because of what this thread did with it.
pub(crate) fn note_deadline(deadline: Option<Instant>) {
    if let Some(deadline) = deadline
        && NEXT.get().is_none_or(|earlier| deadline < earlier)
    {
        NEXT.set(Some(deadline));
    }
}

/// The earliest that was noted on this thread since it was last asked.
#[cfg(feature = "python")]
pub(crate) fn take_deadline() -> Option<Instant> {
    NEXT.take()
}

/// Notes a connection that has something to send at the end of this loop iteration.
pub(crate) fn send_later(driver: Arc<Driver>) {
    UNSENT.with_borrow_mut(|unsent| {
        if !unsent.iter().any(|known| Arc::ptr_eq(known, &driver)) {
            unsent.push(driver);
        }
    });
}

/// Whether this thread's loop has something to send.
#[cfg(feature = "python")]
pub(crate) fn has_unsent() -> bool {
    UNSENT.with_borrow(|unsent| !unsent.is_empty())
}

/// Sends what was noted on this thread.
#[cfg(feature = "python")]
pub(crate) fn send_unsent() {
    while let Some(driver) = UNSENT.with_borrow_mut(Vec::pop) {
        driver.flush();
    }
}

/// Notes that the call being polled must learn of its cancellation at once, and not with its reply: it waits for its turn
/// with its bytes in hand, or the server sits on it.
pub(crate) fn want_prompt_cancel() {
    PROMPT_CANCEL.set(true);
}

/// Whether that was noted since it was last asked.
#[cfg(feature = "python")]
pub(crate) fn take_prompt_cancel() -> bool {
    PROMPT_CANCEL.take()
}
