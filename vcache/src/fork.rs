//! What a forked child must know: that it is one.
//!
//! A handler registered with `pthread_atfork` runs in the child of every fork, also of those that Python never hears of
//! (uWSGI's). It counts the epoch up, which makes everything of the parent's stale, and closes the inherited sockets
//! without writing to them.
//!
//! | module | is for |
//! |---|---|
//! | [`descriptor`] | a file descriptor that only the process that opened it closes |
//! | [`handler`] | whether the handler is installed |
//! | [`lazy`] | a static that a process and its children make once |
//! | [`per_process`] | a static that a forked child makes anew |
//! | [`sockets`] | the sockets that the child closes |

#[cfg(feature = "driver")]
mod descriptor;
#[cfg(feature = "driver")]
mod handler;
mod lazy;
#[cfg(any(feature = "driver", feature = "admission", feature = "tokio"))]
mod per_process;
#[cfg(feature = "driver")]
mod sockets;

#[cfg(feature = "driver")]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "driver")]
pub(crate) use descriptor::Descriptor;
#[cfg(feature = "driver")]
use handler::Handler;
pub(crate) use lazy::Lazy;
#[cfg(any(feature = "driver", feature = "admission", feature = "tokio"))]
pub(crate) use per_process::PerProcess;
#[cfg(feature = "driver")]
pub(crate) use sockets::{register, unregister};

#[cfg(all(not(feature = "driver"), any(feature = "admission", feature = "tokio")))]
pub(crate) use crate::abi::guest::epoch;

#[cfg(feature = "driver")]
static EPOCH: AtomicU64 = AtomicU64::new(1);
#[cfg(feature = "driver")]
static HANDLER: Handler = Handler::new();

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
    sockets::close_inherited();
}
