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
    #[cfg_attr(not(feature = "python"), expect(dead_code, reason = "for servers that are more than one"))]
    pub(crate) packet: Packet,
    /// Whether the server may have seen it.
    #[cfg_attr(not(test), expect(dead_code, reason = "for servers that are more than one"))]
    pub(crate) sent: bool,
}

/// Who gets the reply to a call.
pub(crate) trait Receiver: Send + Sync {
    /// Takes the outcome, and says whom to wake. The caller wakes after it has let go of its own locks.
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker>;

    /// Whether it waits no longer.
    fn is_abandoned(&self) -> bool;
}
