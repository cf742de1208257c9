//! The pollers of the process, and who drives what they watch.
//!
//! There is no I/O thread. The shared connections are registered with one poller, whose descriptor becomes readable when
//! one of them is. An asyncio loop watches that descriptor with `add_reader`, a tokio runtime with an `AsyncFd`, a blocking
//! caller with poll(2), and each drives the connections when it is readable. Registrations are level-triggered, so it
//! does not matter which of them sees an event first, or whether two do.
//!
//! A connection that waits for a blocking command is watched by its caller alone: see [`waiter`].
//!
//! | module | is for |
//! |---|---|
//! | [`poller`] | epoll, or kqueue |
//! | [`deadlines`] | which connection has to be looked at when |
//! | [`watch`] | connections that are watched together |
//! | [`waiter`] | an event loop or a thread, and the calls that it waits for |
//! | [`bell`] | a descriptor by which one thread wakes another |
//!
//! A reactor belongs to one process: a forked child finds the epoch changed and makes its own.

mod bell;
mod deadlines;
mod poller;
pub(crate) mod waiter;
pub(crate) mod watch;

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub(crate) use bell::Bell;
use rustix::event::{PollFd, PollFlags, Timespec};
pub(crate) use watch::{Driven, Sleeper, Watch};

use crate::error::{Error, Result};
use crate::fork::PerProcess;

pub(crate) struct Reactor {
    /// The shared connections.
    shared: Arc<Watch>,
    /// Wakes the blocking caller that sleeps on the poller, if there is one.
    bell: Arc<Bell>,
}

static REACTOR: PerProcess<Reactor> = PerProcess::new();

/// The reactor of this process.
///
/// # Errors
/// `Connection` if the process has no descriptor left when it first needs one.
pub(crate) fn reactor() -> Result<&'static Reactor> {
    REACTOR
        .try_get(|| {
            let (shared, bell) = (Arc::new(Watch::new()?), Arc::new(Bell::new()?));
            let sleeper: Weak<dyn Sleeper> = Arc::downgrade(&bell) as Weak<dyn Sleeper>;
            shared.add_sleeper(sleeper);
            Ok(Reactor { shared, bell })
        })
        .map_err(|error: io::Error| Error::no_descriptor(&error))
}

/// The reactor, where there is one already.
pub(crate) fn reactor_if_made() -> Option<&'static Reactor> {
    REACTOR.get_if_made()
}

impl Reactor {
    /// The watch of the connections that all callers share.
    pub(crate) fn shared(&self) -> &Arc<Watch> {
        &self.shared
    }

    /// The descriptor to watch: readable when a shared connection has something to do.
    pub(crate) fn fd(&self) -> RawFd {
        self.shared.as_raw_fd()
    }

    /// Lets the shared connections read, write and expire what they can without blocking, and wakes those they completed.
    pub(crate) fn drive(&self) {
        self.shared.drive();
    }

    /// Drives, and says when to come again at the latest.
    pub(crate) fn step(&self) -> Option<Instant> {
        self.drive();
        self.next_deadline()
    }

    /// When [`Reactor::drive`] has to be called next, even if nothing becomes readable.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.shared.next_deadline()
    }

    /// Sleeps until a shared connection has something to do or the bell rings. `Ok(false)` says that a signal or a deadline
    /// came first, or that it was `at_most` this long.
    pub(crate) fn sleep(&self, at_most: Duration) -> io::Result<bool> {
        sleep(&[&self.shared], &self.bell, at_most)
    }

    /// Wakes the one who is in [`Reactor::sleep`], or the next to call it.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }
}

/// Sleeps until one of `watches` has something to do or the bell rings.
pub(crate) fn sleep(watches: &[&Watch], bell: &Bell, at_most: Duration) -> io::Result<bool> {
    let now = Instant::now();
    let next = watches.iter().filter_map(|watch| watch.next_deadline()).min();
    let left = next.map_or(at_most, |until| until.saturating_duration_since(now).min(at_most));
    // Rounded up: a sleep that ends a moment too early would be followed by many very short ones.
    let timeout = left + Duration::from_micros(50);
    let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
    let bell_fd = bell.as_fd();
    let mut watched = [
        PollFd::from_borrowed_fd(bell_fd, PollFlags::IN),
        PollFd::from_borrowed_fd(watches.first().map_or(bell_fd, |watch| watch.as_fd()), PollFlags::IN),
        PollFd::from_borrowed_fd(watches.get(1).map_or(bell_fd, |watch| watch.as_fd()), PollFlags::IN),
    ];
    match rustix::event::poll(&mut watched[..=watches.len().min(2)], Some(&timeout)) {
        Ok(ready) => {
            if !watched[0].revents().is_empty() {
                bell.silence();
            }
            Ok(ready > 0)
        }
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
