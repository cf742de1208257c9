//! The guest's side: everything that this crate does by way of the table of the wheel in this process.
//!
//! | module | is for |
//! |---|---|
//! | [`find`] | the table, or an `ABIMismatch` that says what to install |
//! | [`calls`] | handles and calls, as [`crate::connection`] wants them |
//! | [`replies`], [`errors`] | the host's structs as this crate's values |
//! | [`tasks`] | futures as C structs, and the host's wakers as Rust's |
//! | [`python`] | the bridge's functions, as [`crate::python`] wants them |
//! | [`reactor`] | driving the connections from a runtime of our own |

mod calls;
mod errors;
mod find;
pub(crate) mod python;
#[cfg(feature = "tokio")]
pub(crate) mod reactor;
mod replies;
mod tasks;

pub(crate) use calls::{Call, Handle};
#[cfg(any(feature = "admission", feature = "tokio"))]
pub(crate) use find::epoch;
pub use tasks::block_on;
#[cfg(feature = "awaitable")]
pub(crate) use tasks::is_blocking;
#[cfg(any(feature = "awaitable", feature = "spawn"))]
pub(crate) use tasks::note_prompt_cancel;
