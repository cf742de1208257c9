//! The host's side of the table: its functions, on this library's driver and executor.
//!
//! | module | is for |
//! |---|---|
//! | [`calls`] | connections, commands, tickets |
//! | [`replies`] | a reply as flat nodes |
//! | [`errors`] | an error as a struct |
//! | [`tasks`] | a guest's futures on our executor, and our wakers for them |

mod calls;
mod errors;
#[cfg(all(test, feature = "testing"))]
mod guest_tests;
#[cfg(all(test, feature = "testing"))]
mod panic_tests;
mod replies;
mod tasks;
#[cfg(test)]
mod tests;

use std::ffi::c_int;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::border::contained;
use super::offer::offer;
use super::table::{
    FEATURE_OWNERS, FEATURE_REACTOR, FOR_EVER, Header, MAGIC, MAJOR, MINOR, Status, Table, Text,
};
use crate::fork;
use crate::reactor::{Reactor, reactor};

static TABLE: Table = Table {
    header: Header {
        magic: MAGIC,
        major: MAJOR,
        minor: MINOR,
        size: size_of::<Table>(),
        features: FEATURE_REACTOR | FEATURE_OWNERS,
        version: Text::of(env!("CARGO_PKG_VERSION")),
    },
    epoch,
    acquire: calls::acquire,
    retain: calls::retain,
    release: calls::release,
    submit: calls::submit,
    cancel: calls::cancel,
    reply_free: calls::reply_free,
    error_free: errors::free,
    loop_acquire: tasks::loop_acquire,
    loop_spawn: tasks::loop_spawn,
    loop_release: tasks::loop_release,
    block_on: tasks::block_on,
    #[cfg(not(feature = "__abi_older"))]
    reactor_fd: Some(reactor_fd),
    #[cfg(not(feature = "__abi_older"))]
    reactor_drive: Some(reactor_drive),
    #[cfg(not(feature = "__abi_older"))]
    owners: Some(calls::owners),
    #[cfg(feature = "__abi_newer")]
    of_tomorrow: Some(epoch),
};

/// The table in its capsule, for the attribute `django_vcache._capi`.
///
/// # Errors
/// `MemoryError`.
pub fn capsule(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    offer(py, &TABLE)
}

/// Stops a panic at the border.
fn guarded(body: impl FnOnce() -> Status) -> Status {
    contained(Status::PANIC, body)
}

unsafe extern "C" fn epoch() -> u64 {
    contained((), fork::watch);
    fork::epoch()
}

#[cfg(not(feature = "__abi_older"))]
unsafe extern "C" fn reactor_fd() -> c_int {
    contained(-1, || reactor().map_or(-1, Reactor::fd))
}

#[cfg(not(feature = "__abi_older"))]
unsafe extern "C" fn reactor_drive() -> u64 {
    contained(FOR_EVER, || {
        let deadline = reactor().ok().and_then(Reactor::step);
        deadline.map_or(FOR_EVER, |deadline| {
            u64::try_from(deadline.saturating_duration_since(Instant::now()).as_micros()).unwrap_or(FOR_EVER)
        })
    })
}
