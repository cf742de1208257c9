//! Django's cache API on the shared connection. Every operation is written once, as a request and what to make of its
//! reply, and called in two forms: blocking with the GIL released, and awaited on the running loop.
//!
//! | module | is for |
//! |---|---|
//! | [`client`] | the class `Client`, which Python calls: each operation in its two forms |
//! | [`operations`] | each operation: what to send, what the reply means |
//! | [`forms`] | what an operation is, and how its two forms run |
//! | [`scripts`] | `incr`: by a script, or without |
//! | [`replies`] | a reply becomes a value, a miss or an exception |
//! | [`expiry`] | Django's `timeout` becomes milliseconds |
//! | [`keys`] | a user's key and version become the key on the server |

mod client;
mod expiry;
mod forms;
mod keys;
mod operations;
mod replies;
mod scripts;

pub(crate) use client::Client;
