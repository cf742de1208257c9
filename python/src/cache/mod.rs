//! Django's cache API on the shared connection. Every operation is written once, as a request and what to make of its
//! reply, and called in two forms: blocking with the GIL released, and awaited on the running loop.
//!
//! | module | is for |
//! |---|---|
//! | [`client`] | the class `Client`, which Python calls |
//! | [`operations`] | each operation: what to send, what the reply means |
//! | [`keys`] | a user's key and version become the key on the server |
//! | [`expiry`] | Django's `timeout` becomes milliseconds |
//! | [`replies`] | a reply becomes a value, a miss or an exception |
//! | [`scripts`] | `incr`: by a script, or without |
//! | [`sweep`] | `clear()` by prefix |
//! | [`changes`] | waiting for a key to change |

mod changes;
mod client;
mod expiry;
mod keys;
mod operations;
mod replies;
mod scripts;
mod sweep;

pub(crate) use client::Client;
