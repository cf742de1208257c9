//! One connection for separately compiled extension modules.
//!
//! Rust's statics belong to one shared object, so a second extension module that links this crate would have a second
//! connection. Instead the wheel `django-vcache` (the *host*) publishes a table of C functions, and this crate, where it is
//! compiled into another extension module (a *guest*, without the feature `driver`), is a client of that table. Only
//! what is written down here crosses between the two: no type whose layout Rust may change, no panic, no exception of
//! another pyo3.
//!
//! | module | is for |
//! |---|---|
//! | [`table`] | the table, field by field |
//! | `layout` | the same in numbers: a build that changes it ends there |
//! | `sized` | copying the structs that grow |
//! | `border` | stopping panics |
//! | `host` | its functions, on the driver (feature `driver`) |
//! | `guest` | finding the table, and everything that this crate does by way of it (without `driver`) |
//!
//! # The contract
//!
//! **Where it is.** The Python attribute `django_vcache._capi` is a `PyCapsule` around a [`table::Table`]. That attribute
//! never moves. The capsule's name is `django_vcache._capi@` and the major version, so a client of another major version
//! cannot even get at the pointer. The table is static and the capsule is never freed.
//!
//! **Versions.** The header ([`table::Header`]) is the same in every major version. Within one, fields are only ever
//! appended: `minor` counts up, `size` grows, and an entry that not every host can offer also has a feature bit. A client
//! looks at `size` or at the bit before it reads an entry beyond the first minor version's. Structs that grow
//! ([`table::Connection`], [`table::Command`], [`table::Task`]) carry their own size first, and each side copies as much of
//! one as both know: what is missing is zero, which means "as before". Those without a size ([`table::Text`], [`table::Node`],
//! [`table::Waker`], [`table::Reply`], [`table::Error`]) never change. A number that its reader does not know (a tag, a
//! kind, a status) is an error there, never undefined behaviour.
//!
//! **Calls.** [`submit`](table::Table::submit) copies the bytes before it returns, and looks at each command in them: it
//! refuses what would shift the replies of others or change the connection for them, whatever the guest has checked. If it
//! refuses, `done` is never called. If
//! it accepts, `done` is called exactly once, on whichever thread drives the connection, attached to Python or not, with no
//! lock held; it must not block, and may wake, free and cancel; unless [`cancel`](table::Table::cancel) hands the context
//! back, and then never. It is not called in a forked child. The ticket must be given to `cancel` exactly once
//! in any case, before the call is over or after.
//!
//! **Replies** are a flat array of nodes, each aggregate followed by its members, in one allocation freed by one call.
//!
//! **Tasks** are futures of the guest's, polled by the host's executor on the loop's thread or on the blocked thread, with
//! a waker of the host's, which any thread may use. Every task that was taken over is dropped exactly once.
//!
//! **Python.** Functions marked *attached* are called, and call back, with the GIL held; they fail as C functions of Python
//! do, with the exception set. All others may be called with or without it. Object pointers are owned references.
//!
//! **Ownership.** The side that allocated something frees it. Handles are counted.
//!
//! **Forks.** [`epoch`](table::Table::epoch) changes in a forked child. Handles from before answer
//! [`Status::FORKED`](table::Status::FORKED), and are acquired again by their alias.
//!
//! **Panics** stop at the border on either side, and come out as a status where a function has one. No function of either
//! side unwinds, and none aborts because a body, a destructor or a panic's payload panicked.

pub(crate) mod border;
#[cfg(all(test, feature = "driver"))]
mod fenced;
#[cfg(not(feature = "driver"))]
pub(crate) mod guest;
#[cfg(feature = "driver")]
pub(crate) mod host;
mod layout;
#[cfg(feature = "driver")]
pub(crate) mod offer;
mod sized;
pub mod table;

#[cfg(feature = "driver")]
pub use host::capsule;
