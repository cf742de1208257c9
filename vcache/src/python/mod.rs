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
//! | `values` | [`Value`](crate::Value) as plain Python objects |
//! | `json` | `Json<T>`: text in, bytes out, by sonic-rs |
//! | `from_dict`, `to_dict`, `conversion_error` | Python objects as a serde data format, and where in them it failed |
//! | `wrapper` | what `Json`, `FromDict` and `ToDict` have in common |
//! | `awaitable` | `Awaitable`: Python's coroutines and futures inside a hot path |

mod aliases;
mod arguments;
#[cfg(feature = "awaitable")]
mod awaitable;
mod blocking;
#[cfg(feature = "dict")]
mod conversion_error;
mod event_loop;
mod exceptions;
#[cfg(feature = "dict")]
mod from_dict;
#[cfg(feature = "json")]
mod json;
mod task;
#[cfg(feature = "dict")]
mod to_dict;
mod values;
#[cfg(any(feature = "json", feature = "dict"))]
mod wrapper;

pub use aliases::{connection_for, on_unknown_alias};
pub use arguments::{Bytes, IntoHotResult, output_to_python};
#[cfg(feature = "awaitable")]
pub use awaitable::Awaitable;
pub use blocking::block_on;
pub use exceptions::{panic_message, to_exception};
#[cfg(feature = "dict")]
pub use from_dict::FromDict;
#[cfg(feature = "json")]
pub use json::Json;
pub use task::{Steps, spawn};
#[cfg(feature = "dict")]
pub use to_dict::ToDict;
pub use values::to_python;
