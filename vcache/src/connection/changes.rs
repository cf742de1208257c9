//! Who waits for which key on one connection, and what the server says about it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use redis::Value;

use super::push::Listener;
use crate::sync::lock;

/// The waits for each key.
type Waits = HashMap<Box<[u8]>, Vec<Weak<Wait>>>;

/// Who waits for which key on one connection.
#[derive(Default)]
pub(super) struct Changes {
    keys: Mutex<Waits>,
    tracking: AtomicU8,
}

/// Whether the server tracks keys for this connection.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tracking {
    Unknown,
    On,
    Refused,
}

impl Changes {
    pub(super) fn tracking(&self) -> Tracking {
        match self.tracking.load(Ordering::Acquire) {
            1 => Tracking::On,
            2 => Tracking::Refused,
            _ => Tracking::Unknown,
        }
    }

    pub(super) fn set(&self, tracking: Tracking) {
        self.tracking.store(tracking as u8, Ordering::Release);
    }

    pub(super) fn add(&self, key: &[u8], wait: &Arc<Wait>) {
        let mut keys = lock(&self.keys);
        let waits = keys.entry(key.into()).or_default();
        waits.retain(|wait| wait.strong_count() > 0);
        waits.push(Arc::downgrade(wait));
    }

    /// Forgets the waits for a key that were given up.
    pub(super) fn tidy(&self, key: &[u8]) {
        let mut keys = lock(&self.keys);
        if let Some(waits) = keys.get_mut(key) {
            waits.retain(|wait| wait.strong_count() > 0);
            if waits.is_empty() {
                keys.remove(key);
            }
        }
    }

    fn end(waits: &[Weak<Wait>], with: Ended, wakers: &mut Vec<Waker>) {
        wakers.extend(waits.iter().filter_map(Weak::upgrade).filter_map(|wait| wait.end(with)));
    }
}

impl Listener for Changes {
    fn heard(&self, data: &[Value], wakers: &mut Vec<Waker>) {
        let keys = lock(&self.keys);
        match data.first() {
            Some(Value::Array(changed)) => {
                for key in changed {
                    if let Value::BulkString(key) = key
                        && let Some(waits) = keys.get(&key[..])
                    {
                        Self::end(waits, Ended::Changed, wakers);
                    }
                }
            }
            // All keys at once.
            _ => keys.values().for_each(|waits| Self::end(waits, Ended::Changed, wakers)),
        }
    }

    fn lost(&self, wakers: &mut Vec<Waker>) {
        self.set(Tracking::Unknown);
        lock(&self.keys).values().for_each(|waits| Self::end(waits, Ended::Lost, wakers));
    }

    fn next_due(&self) -> Option<Instant> {
        let keys = lock(&self.keys);
        keys.values().flatten().filter_map(Weak::upgrade).filter_map(|wait| wait.due()).min()
    }

    fn expire(&self, now: Instant, wakers: &mut Vec<Waker>) {
        for wait in lock(&self.keys).values().flatten().filter_map(Weak::upgrade) {
            if wait.due().is_some_and(|due| due <= now) {
                wakers.extend(wait.end(Ended::Due));
            }
        }
    }
}

/// One wait, from its look at the key on.
#[derive(Default)]
pub(super) struct Wait(Mutex<Phase>);

#[derive(Default)]
enum Phase {
    /// The look is under way. What is heard now is about an earlier one.
    #[default]
    Looking,
    Waiting {
        due: Option<Instant>,
        waker: Option<Waker>,
    },
    Ended(Ended),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Changed,
    /// The connection was lost: the key has to be looked at again.
    Lost,
    Due,
}

impl Wait {
    pub(super) fn begin(&self) {
        let mut phase = lock(&self.0);
        if matches!(*phase, Phase::Looking) {
            *phase = Phase::Waiting { due: None, waker: None };
        }
    }

    fn end(&self, with: Ended) -> Option<Waker> {
        let mut phase = lock(&self.0);
        match std::mem::replace(&mut *phase, Phase::Ended(with)) {
            Phase::Waiting { waker, .. } => waker,
            // A lost connection ends a look as well, which then fails or is repeated.
            before => {
                *phase = before;
                None
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        match &*lock(&self.0) {
            Phase::Waiting { due, .. } => *due,
            _ => None,
        }
    }

    pub(super) fn poll(&self, until: Option<Instant>, cx: &Context<'_>) -> Poll<Ended> {
        match &mut *lock(&self.0) {
            Phase::Waiting { due, waker } => {
                *due = until;
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Phase::Ended(ended) => Poll::Ready(*ended),
            // The look was answered, so it is over.
            Phase::Looking => Poll::Ready(Ended::Lost),
        }
    }
}
