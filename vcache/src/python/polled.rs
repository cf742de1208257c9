//! What a future may ask of what polls it: the loop's executor, or a thread that waits; this library's, or the host's.

#[cfg(feature = "driver")]
use crate::scope::{self, Driving};

/// Has the loop drop the task being polled as soon as its awaitable is cancelled, and not only at its next step.
#[cfg(feature = "driver")]
pub(crate) fn note_prompt_cancel() {
    if scope::driving() == Driving::Loop {
        scope::want_prompt_cancel();
    }
}

/// Whether this thread waits for the future being polled.
#[cfg(all(feature = "driver", feature = "awaitable"))]
pub(crate) fn is_blocking() -> bool {
    scope::driving() == Driving::Blocking
}

#[cfg(all(not(feature = "driver"), feature = "awaitable"))]
pub(crate) use crate::abi::guest::is_blocking;
#[cfg(not(feature = "driver"))]
pub(crate) use crate::abi::guest::note_prompt_cancel;
