//! What a server says without being asked. It stands between replies, in the order in which things happened, and goes to
//! those who registered for its kind.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use redis::{PushKind, Value};

/// Listens to one kind of messages of one connection. It is called while the connection is locked: it takes note, and says
/// whom to wake.
pub(crate) trait Listener: Send + Sync {
    /// A message came.
    fn heard(&self, data: &[Value], wakers: &mut Vec<Waker>);

    /// The connection is gone, and with it what would have been said.
    fn lost(&self, wakers: &mut Vec<Waker>);

    /// When it has something to do although nothing is said.
    fn next_due(&self) -> Option<Instant>;

    /// That moment may have come.
    fn expire(&self, now: Instant, wakers: &mut Vec<Waker>);
}

#[derive(Default)]
pub(super) struct Pushes {
    listeners: Vec<(PushKind, Arc<dyn Listener>)>,
}

impl Pushes {
    /// Has a listener hear the messages of a kind, on this link and on those that follow it.
    pub(super) fn register(&mut self, kind: PushKind, listener: Arc<dyn Listener>) {
        self.listeners.push((kind, listener));
    }

    pub(super) fn dispatch(&self, kind: &PushKind, data: &[Value], wakers: &mut Vec<Waker>) {
        for (wanted, listener) in &self.listeners {
            if wanted == kind {
                listener.heard(data, wakers);
            }
        }
    }

    pub(super) fn lost(&self, wakers: &mut Vec<Waker>) {
        for (_, listener) in &self.listeners {
            listener.lost(wakers);
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.listeners.iter().filter_map(|(_, listener)| listener.next_due()).min()
    }

    pub(super) fn expire(&self, now: Instant, wakers: &mut Vec<Waker>) {
        for (_, listener) in &self.listeners {
            listener.expire(now, wakers);
        }
    }
}
