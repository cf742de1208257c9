//! The bridge to Python: Rust futures become awaitables on the running asyncio loop or blocking calls, replies become
//! Python values, errors become exceptions. It knows Python and asyncio, not Django.
//!
//! | module | is for |
//! |---|---|
//! | `event_loop` | what a loop's thread keeps: ready tasks, the watch on the poller, one timer |
//! | `task` | one Rust future, polled on the loop's thread, that completes one `loop.create_future()` |
//! | `blocking` | the same future, driven by the calling thread with the GIL released |
//! | `exceptions` | [`Error`](crate::Error) as an exception of `django_vcache.exceptions` |
//! | `aliases` | a hot path finds its connection, configured on first use |
//! | `arguments` | what a hot path takes and gives |
//! | `annotations`, `stub` | types as Python annotations, and the `.pyi` of a module |
//! | `spawn` | a hot path's body on a tokio runtime |
//! | `expansion` | what the code written by the macros calls besides |
//! | `values` | [`Value`](crate::Value) as plain Python objects |

mod aliases;
mod annotations;
mod arguments;
mod blocking;
mod event_loop;
mod exceptions;
#[doc(hidden)]
pub mod expansion;
mod spawn;
mod stub;
mod task;
mod values;

pub use aliases::{connection_for, on_unknown_alias};
pub use annotations::Annotate;
pub use arguments::{Bytes, output_to_python};
pub use blocking::block_on;
pub use exceptions::{panic_message, to_exception};
#[cfg(feature = "spawn")]
pub use spawn::spawned;
pub use task::{Steps, spawn};
pub use values::to_python;

/// What a module of hot paths does first when Python imports it. Where the connection is compiled into the same
/// extension there is nothing to do.
///
/// # Errors
/// None here.
pub fn prepare() -> pyo3::PyResult<()> {
    Ok(())
}
