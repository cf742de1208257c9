//! Who gets the reply to a call, and what it gets.

use std::sync::Arc;
use std::task::Waker;

use redis::Value;

use super::command::Packet;
use crate::error::Result;

/// How a call ended.
pub(crate) struct Outcome {
    pub(crate) result: Result<Value>,
    /// The call's own bytes, so that it can be sent elsewhere.
    pub(crate) packet: Packet,
    /// Whether the server may have seen it.
    pub(crate) sent: bool,
}

/// Who gets the reply to a call.
pub(crate) trait Receiver: Send + Sync {
    /// Takes the outcome, and says whom to wake. The caller wakes after it has let go of its own locks.
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker>;

    /// Whether it waits no longer.
    fn is_abandoned(&self) -> bool;

    /// Whether the call is about this very connection: then no other takes it over.
    fn is_tied(&self) -> bool {
        false
    }
}
