//! The bridge to Python: Rust futures become awaitables on the running asyncio loop or blocking calls, replies become
//! Python values, errors become exceptions. It knows Python and asyncio, not Django.
//!
//! | module | is for |
//! |---|---|
//! | `event_loop` | our callbacks on a loop, and the loop of a thread |
//! | `loop_state` | what a loop keeps for us: ready tasks, a bell, one timer |
//! | `awaited` | the asyncio future that a task completes |
//! | `task` | one Rust future, polled on the loop's thread, that completes one `loop.create_future()` |
//! | `exchange` | one call, without a future between the reply and the awaitable |
//! | `pooled` | memory for large futures, used again |
//! | `blocking` | the same future, driven by the calling thread with the GIL released |
//! | `exceptions` | [`Error`](crate::Error) as an exception of `django_vcache.exceptions` |
//! | `attach` | attaching when PyO3's count may be wrong |
//! | `ending`, `shield` | what is done for the interpreter's end, and in which threads |
//! | `coroutine`, `coroutine_function` | what the form to await returns, and the function that returns it |
//! | `aliases` | a hot path finds its connection, configured on first use |
//! | `arguments` | what a hot path takes and gives |
//! | `annotations`, `stub` | types as Python annotations, and the `.pyi` of a module |
//! | `spawn` | a hot path's body on a tokio runtime |
//! | `expansion` | what the code written by the macros calls besides |
//! | `polled` | what a future may ask of what polls it |
//! | `values` | [`Value`](crate::Value) as plain Python objects |
//! | `large` | large strings of bytes, copied with the GIL released |
//! | `json` | `Json<T>`: text in, bytes out |
//! | `http` | `Request` in, `Response` out |
//! | `from_dict`, `to_dict`, `conversion_error` | Python objects as a serde data format, and where in them it failed |
//! | `awaitable` | `Awaitable`: Python's coroutines and futures inside a hot path |

#[cfg(feature = "driver")]
mod aliases;
mod annotations;
mod arguments;
#[cfg(feature = "driver")]
mod attach;
#[cfg(feature = "awaitable")]
mod awaitable;
#[cfg(feature = "driver")]
mod awaited;
#[cfg(feature = "driver")]
mod blocking;
#[cfg(feature = "dict")]
mod conversion_error;
mod coroutine;
mod coroutine_function;
pub(crate) mod ending;
#[cfg(feature = "driver")]
mod event_loop;
mod exceptions;
#[cfg(feature = "driver")]
mod exchange;
#[doc(hidden)]
pub mod expansion;
#[cfg(feature = "dict")]
mod from_dict;
#[cfg(feature = "http")]
mod http;
#[cfg(any(feature = "json", feature = "http"))]
mod json;
mod large;
#[cfg(feature = "driver")]
mod loop_state;
#[cfg(any(feature = "awaitable", feature = "spawn"))]
mod polled;
#[cfg(feature = "driver")]
mod pooled;
#[cfg(feature = "driver")]
mod shield;
mod spawn;
mod stub;
#[cfg(feature = "driver")]
mod task;
#[cfg(feature = "dict")]
mod to_dict;
mod values;

#[cfg(not(feature = "driver"))]
pub use crate::abi::guest::python::{block_on, connection_for, prepare, spawn};
#[cfg(feature = "driver")]
pub use aliases::{connection_for, on_unknown_alias};
pub use annotations::Annotate;
pub use arguments::{Bytes, output_to_python};
#[cfg(feature = "driver")]
pub(crate) use attach::really_attached;
#[cfg(feature = "awaitable")]
pub use awaitable::Awaitable;
#[cfg(feature = "driver")]
pub use blocking::block_on;
pub use coroutine::{Coroutine, Onward, coroutine, coroutine_onward};
pub use coroutine_function::{mark_functions, mark_methods};
#[cfg(not(feature = "driver"))]
pub(crate) use exceptions::panicked;
pub use exceptions::{panic_message, to_exception};
#[cfg(feature = "driver")]
pub use exchange::{block_on_exchange, exchange};
#[cfg(feature = "dict")]
pub use from_dict::FromDict;
pub use large::{bytes_to_python, free};
#[cfg(feature = "driver")]
pub use shield::shield;
#[cfg(feature = "spawn")]
pub use spawn::spawned;
#[cfg(feature = "driver")]
pub(crate) use task::Loop;
#[cfg(feature = "driver")]
pub use task::spawn;
#[cfg(feature = "dict")]
pub use to_dict::ToDict;
pub use values::to_python;

/// How often a future goes back to the server, which decides when a cancellation must be looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Steps {
    /// One call. If it is cancelled after it was sent, its reply is dropped when it comes; one that still waits to be
    /// sent, or that the server may sit on, is given up at once.
    One,
    /// Any number. Before each step after the first the future is dropped if the awaitable was cancelled.
    Many,
    /// Any number, and all of them are taken, whether or not a caller still waits.
    All,
}

/// What a module of hot paths does first when it is imported. This library holds the connection itself, so there is nothing
/// to find; but beside a wheel that is loaded already it is one too many.
///
/// # Errors
/// `ImportError` if the wheel django-vcache holds another connection in this process, which its users will expect. Where
/// the connection is another module's: `ABIMismatch` if that does not fit.
#[cfg(feature = "driver")]
pub fn prepare() -> pyo3::PyResult<()> {
    pyo3::Python::attach(|py| {
        crate::abi::offer::refuse_a_second_connection(py)?;
        ending::prepare(py)
    })
}
