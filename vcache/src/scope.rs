//! Who drives the connections for the future that is being polled on this thread, and what that poll leaves to be done: one
//! record for each thread.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::error::Error;
use crate::reactor::Driven;
use crate::reactor::waiter::Waiter;

/// Who drives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Driving {
    /// Not this library: perhaps a tokio runtime.
    Elsewhere,
    /// `block_on`: it sends at once, because it is about to wait.
    Blocking,
    /// An asyncio loop: it sends together what one iteration brings.
    #[cfg_attr(not(feature = "python"), allow(dead_code))]
    Loop,
    /// An asyncio loop that this library cannot be called back by: each call fails, as with a server that is away.
    #[cfg_attr(not(feature = "python"), allow(dead_code))]
    Refused,
}

struct PollScope {
    driving: Cell<Driving>,
    /// The loop or thread that waits for what is submitted here.
    waiter: RefCell<Option<Arc<Waiter>>>,
    /// Why calls are refused.
    refusal: RefCell<Option<Error>>,
    prompt_cancel: Cell<bool>,
    collecting: Cell<bool>,
    unsent: RefCell<Vec<Arc<dyn Driven>>>,
}

thread_local! {
    static SCOPE: PollScope = const {
        PollScope {
            driving: Cell::new(Driving::Elsewhere),
            waiter: RefCell::new(None),
            refusal: RefCell::new(None),
            prompt_cancel: Cell::new(false),
            collecting: Cell::new(false),
            unsent: RefCell::new(Vec::new()),
        }
    };
}

pub(crate) fn driving() -> Driving {
    SCOPE.with(|scope| scope.driving.get())
}

/// The loop or thread that waits for what is submitted here; `None` if a runtime does.
pub(crate) fn waiter() -> Option<Arc<Waiter>> {
    SCOPE.with(|scope| scope.waiter.borrow().clone())
}

/// Sets who drives, and who waits, until the guard is dropped.
pub(crate) fn enter(driving: Driving, waiter: &Arc<Waiter>) -> Guard {
    SCOPE.with(|scope| {
        let waiter = scope.waiter.replace(Some(Arc::clone(waiter)));
        Guard { driving: scope.driving.replace(driving), waiter }
    })
}

/// Has each call fail with this error until the guard is dropped.
#[cfg(feature = "python")]
pub(crate) fn refuse(error: Error) -> Refusing {
    SCOPE.with(|scope| Refusing {
        driving: scope.driving.replace(Driving::Refused),
        refusal: scope.refusal.replace(Some(error)),
    })
}

/// What a call that is refused fails with.
pub(crate) fn refusal() -> Option<Error> {
    SCOPE.with(|scope| scope.refusal.borrow().clone())
}

#[cfg(feature = "python")]
pub(crate) struct Refusing {
    driving: Driving,
    refusal: Option<Error>,
}

#[cfg(feature = "python")]
impl Drop for Refusing {
    fn drop(&mut self) {
        SCOPE.with(|scope| {
            scope.driving.set(self.driving);
            scope.refusal.replace(self.refusal.take());
        });
    }
}

pub(crate) struct Guard {
    driving: Driving,
    waiter: Option<Arc<Waiter>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        SCOPE.with(|scope| {
            scope.driving.set(self.driving);
            scope.waiter.replace(self.waiter.take());
        });
    }
}

/// Until the guard is dropped calls are collected: its holder sends right after.
#[cfg(feature = "python")]
pub(crate) fn collect() -> Collecting {
    Collecting(SCOPE.with(|scope| scope.collecting.replace(true)))
}

pub(crate) fn is_collecting() -> bool {
    SCOPE.with(|scope| scope.collecting.get())
}

#[cfg(feature = "python")]
pub(crate) struct Collecting(bool);

#[cfg(feature = "python")]
impl Drop for Collecting {
    fn drop(&mut self) {
        SCOPE.with(|scope| scope.collecting.set(self.0));
    }
}

/// Notes a connection that has something to send at the end of this loop iteration.
pub(crate) fn send_later(driven: Arc<dyn Driven>) {
    SCOPE.with(|scope| {
        let mut unsent = scope.unsent.borrow_mut();
        if !unsent.iter().any(|known| Arc::ptr_eq(known, &driven)) {
            unsent.push(driven);
        }
    });
}

/// Whether this thread's loop has something to send.
#[cfg(feature = "python")]
pub(crate) fn has_unsent() -> bool {
    SCOPE.with(|scope| !scope.unsent.borrow().is_empty())
}

/// Sends what was noted on this thread.
#[cfg(feature = "python")]
pub(crate) fn send_unsent() {
    while let Some(driven) = SCOPE.with(|scope| scope.unsent.borrow_mut().pop()) {
        driven.flush();
    }
}

/// Notes that the call being polled must learn of its cancellation at once, and not with its reply: it waits for its turn
/// with its bytes in hand, or the server sits on it.
pub(crate) fn want_prompt_cancel() {
    SCOPE.with(|scope| scope.prompt_cancel.set(true));
}

/// Whether that was noted since it was last asked.
#[cfg(feature = "python")]
pub(crate) fn take_prompt_cancel() -> bool {
    SCOPE.with(|scope| scope.prompt_cancel.take())
}
