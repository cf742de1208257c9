//! What a forked child must know: that it is one.
//!
//! A handler registered with `pthread_atfork` runs in the child of every fork, also of those that Python never hears of
//! (uWSGI's). It counts the epoch up, which makes every handle of the parent stale, and closes the inherited sockets
//! without writing to them. It may do only what is safe in a signal handler, so the sockets stand in a plain array.

use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

static EPOCH: AtomicU64 = AtomicU64::new(1);
static INSTALL: Once = Once::new();
/// Every open socket of this process. One that finds no place here is closed by the child when it execs or exits.
static SOCKETS: [AtomicI32; 128] = [const { AtomicI32::new(-1) }; 128];

/// The number of this process in the line of forks that led to it.
pub(crate) fn epoch() -> u64 {
    EPOCH.load(Ordering::Acquire)
}

/// Makes sure that forks are noticed from here on.
pub(crate) fn watch() {
    INSTALL.call_once(|| {
        // SAFETY: the handler only touches atomics and calls close(2), both async-signal-safe.
        unsafe {
            libc::pthread_atfork(None, None, Some(in_child));
        }
    });
}

extern "C" fn in_child() {
    EPOCH.fetch_add(1, Ordering::AcqRel);
    for place in &SOCKETS {
        let fd = place.swap(-1, Ordering::AcqRel);
        if fd >= 0 {
            // SAFETY: the descriptor was inherited from the parent and nothing in the child uses it: every handle to
            // it is stale from this epoch on, and a stale socket's drop closes nothing.
            unsafe {
                libc::close(fd);
            }
        }
    }
}

/// Notes a socket for the child to close.
pub(crate) fn register(fd: RawFd) {
    for place in &SOCKETS {
        if place.compare_exchange(-1, fd, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Takes a socket out again, before it is closed.
pub(crate) fn unregister(fd: RawFd) {
    for place in &SOCKETS {
        if place.compare_exchange(fd, -1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}
