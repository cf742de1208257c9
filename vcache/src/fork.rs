//! What a forked child must know: that it is one.
//!
//! A handler registered with `pthread_atfork` runs in the child of every fork, also of those that Python never hears of
//! (uWSGI's). It counts the epoch up, which makes everything of the parent's stale, and closes the inherited sockets
//! without writing to them. It may do only what is safe in a signal handler, so the sockets stand in a plain array.
//!
//! | module | is for |
//! |---|---|
//! | [`descriptor`] | a file descriptor that only the process that opened it closes |
//! | [`per_process`] | a static that a forked child makes anew |

#[cfg(feature = "driver")]
mod descriptor;
mod per_process;

#[cfg(feature = "driver")]
use std::os::fd::RawFd;
#[cfg(feature = "driver")]
use std::sync::Once;
#[cfg(feature = "driver")]
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

#[cfg(feature = "driver")]
pub(crate) use descriptor::Descriptor;
pub(crate) use per_process::PerProcess;

#[cfg(not(feature = "driver"))]
pub(crate) use crate::abi::guest::epoch;

#[cfg(feature = "driver")]
static EPOCH: AtomicU64 = AtomicU64::new(1);
#[cfg(feature = "driver")]
static INSTALL: Once = Once::new();
/// Every open socket of this process. One that finds no place here is closed by the child when it execs or exits.
#[cfg(feature = "driver")]
static SOCKETS: [AtomicI32; 128] = [const { AtomicI32::new(-1) }; 128];

/// The number of this process in the line of forks that led to it.
#[cfg(feature = "driver")]
pub(crate) fn epoch() -> u64 {
    EPOCH.load(Ordering::Acquire)
}

/// Makes sure that forks are noticed from here on.
#[cfg(feature = "driver")]
pub(crate) fn watch() {
    INSTALL.call_once(|| {
        // SAFETY: the handler only touches atomics and calls close(2), both async-signal-safe.
        unsafe {
            libc::pthread_atfork(None, None, Some(in_child));
        }
    });
}

/// In a library without a driver the host watches.
#[cfg(not(feature = "driver"))]
fn watch() {}

#[cfg(feature = "driver")]
extern "C" fn in_child() {
    EPOCH.fetch_add(1, Ordering::AcqRel);
    for place in &SOCKETS {
        let fd = place.swap(-1, Ordering::AcqRel);
        if fd >= 0 {
            // SAFETY: the descriptor was inherited from the parent and nothing in the child uses it: every handle to
            // it is stale from this epoch on, and a stale descriptor's drop closes nothing.
            unsafe {
                libc::close(fd);
            }
        }
    }
}

/// Notes a socket for the child to close.
#[cfg(feature = "driver")]
pub(crate) fn register(fd: RawFd) {
    for place in &SOCKETS {
        if place.compare_exchange(-1, fd, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Takes a socket out again, before it is closed.
#[cfg(feature = "driver")]
pub(crate) fn unregister(fd: RawFd) {
    for place in &SOCKETS {
        if place.compare_exchange(fd, -1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}
