//! What a forked child must know: that it is one.
//!
//! A handler registered with `pthread_atfork` runs in the child of every fork, also of those that Python never hears of
//! (uWSGI's). It counts the epoch up, which makes everything of the parent's stale, and closes the inherited sockets
//! without writing to them. It may do only what is safe in a signal handler, so the sockets stand in a plain array.
//!
//! | module | is for |
//! |---|---|
//! | [`descriptor`] | a file descriptor that only the process that opened it closes |
//! | [`handler`] | whether the handler is installed |
//! | [`lazy`] | a static that a process and its children make once |
//! | [`per_process`] | a static that a forked child makes anew |

#[cfg(feature = "driver")]
mod descriptor;
#[cfg(feature = "driver")]
mod handler;
mod lazy;
#[cfg(any(feature = "driver", feature = "admission", feature = "tokio"))]
mod per_process;

#[cfg(feature = "driver")]
use std::os::fd::{BorrowedFd, RawFd};
#[cfg(feature = "driver")]
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

#[cfg(feature = "driver")]
pub(crate) use descriptor::Descriptor;
#[cfg(feature = "driver")]
use handler::Handler;
pub(crate) use lazy::Lazy;
#[cfg(any(feature = "driver", feature = "admission", feature = "tokio"))]
pub(crate) use per_process::PerProcess;

#[cfg(all(not(feature = "driver"), any(feature = "admission", feature = "tokio")))]
pub(crate) use crate::abi::guest::epoch;

#[cfg(feature = "driver")]
static EPOCH: AtomicU64 = AtomicU64::new(1);
#[cfg(feature = "driver")]
static HANDLER: Handler = Handler::new();
/// Every open socket of this process. One that finds no place here is closed by the child when it execs or exits.
#[cfg(feature = "driver")]
static SOCKETS: [Place; 128] = [const { Place::new() }; 128];

/// A socket's number, and which file that was: a daemon may have closed it and opened a file of the user's under it.
#[cfg(feature = "driver")]
struct Place {
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

/// No socket.
#[cfg(feature = "driver")]
const FREE: RawFd = -1;
/// A thread writes here just now.
#[cfg(feature = "driver")]
const TAKEN: RawFd = -2;

#[cfg(feature = "driver")]
impl Place {
    const fn new() -> Self {
        Self { fd: AtomicI32::new(FREE), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }

    /// Whether the number still is that of the socket.
    fn is_same(&self, fd: RawFd) -> bool {
        // SAFETY: the number is only asked about, and it need not be open for that.
        let found = descriptor::file(unsafe { BorrowedFd::borrow_raw(fd) });
        found == Some((self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed)))
    }
}

/// The number of this process in the line of forks that led to it.
#[cfg(feature = "driver")]
pub(crate) fn epoch() -> u64 {
    EPOCH.load(Ordering::Acquire)
}

/// Makes sure that forks are noticed from here on.
#[cfg(feature = "driver")]
pub(crate) fn watch() {
    HANDLER.install(|| {
        // SAFETY: the handler only touches atomics and calls fstat(2) and close(2), all of it async-signal-safe.
        unsafe {
            libc::pthread_atfork(None, None, Some(in_child));
        }
    });
}

/// In a library without a driver the host watches.
#[cfg(all(not(feature = "driver"), any(feature = "admission", feature = "tokio")))]
fn watch() {}

#[cfg(feature = "driver")]
extern "C" fn in_child() {
    EPOCH.fetch_add(1, Ordering::AcqRel);
    for place in &SOCKETS {
        let fd = place.fd.swap(FREE, Ordering::AcqRel);
        if fd >= 0 && place.is_same(fd) {
            // SAFETY: the descriptor was inherited from the parent and nothing in the child uses it: every handle to
            // it is stale from this epoch on, and a stale descriptor's drop closes nothing. It is not the user's.
            unsafe {
                libc::close(fd);
            }
        }
    }
}

/// Notes a socket for the child to close.
#[cfg(feature = "driver")]
pub(crate) fn register(fd: RawFd) {
    // SAFETY: the caller has it open.
    let Some((device, inode)) = descriptor::file(unsafe { BorrowedFd::borrow_raw(fd) }) else { return };
    for place in &SOCKETS {
        if place.fd.compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            place.device.store(device, Ordering::Relaxed);
            place.inode.store(inode, Ordering::Relaxed);
            place.fd.store(fd, Ordering::Release);
            return;
        }
    }
}

/// Takes a socket out again, before it is closed.
#[cfg(feature = "driver")]
pub(crate) fn unregister(fd: RawFd) {
    for place in &SOCKETS {
        if place.fd.compare_exchange(fd, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}
