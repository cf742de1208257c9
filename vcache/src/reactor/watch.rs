//! A set of connections that are watched together, and the steps that they need: those that are ready, have something to
//! write or a deadline that has come. A connection that has none of these is not touched.
//!
//! The process has one for its shared connections. An event loop or a thread that waits for blocking commands has one
//! more for theirs, so that their replies wake no other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::deadlines::Deadlines;
use super::poller::Poller;
use crate::sync::lock;

/// A connection as its watch sees it.
pub(crate) trait Driven: Send + Sync {
    /// Reads, writes and expires what it can without blocking, and wakes the callers that it completed.
    fn step(self: Arc<Self>, now: Instant);

    /// Writes what is to be written and can be.
    fn flush(self: Arc<Self>);
}

/// One of the watched, under its key. They stand in the order of their keys.
type Watched = (usize, Weak<dyn Driven>);

pub(crate) struct Watch {
    poller: Poller,
    watched: ArcSwap<Vec<Watched>>,
    deadlines: Deadlines,
    /// Those that were given something to write on a thread that does not write itself.
    unwritten: Mutex<Vec<Arc<dyn Driven>>>,
    sleepers: Mutex<Vec<Weak<dyn Sleeper>>>,
}

/// Who sleeps until the watch has something to do, or until the next deadline as it was then.
pub(crate) trait Sleeper: Send + Sync {
    /// There is an earlier deadline now: look again how long to sleep.
    fn look_again(&self);
}

/// The number of a connection in this process.
pub(crate) fn new_key() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Watch {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            watched: ArcSwap::default(),
            deadlines: Deadlines::default(),
            unwritten: Mutex::default(),
            sleepers: Mutex::default(),
        })
    }

    pub(crate) fn poller(&self) -> &Poller {
        &self.poller
    }

    /// Takes a connection in.
    pub(crate) fn add(&self, key: usize, driven: &Weak<dyn Driven>) {
        self.watched.rcu(|watched| {
            let mut watched: Vec<_> = watched.iter().filter(|(_, d)| d.strong_count() > 0).cloned().collect();
            let at = watched.partition_point(|(known, _)| *known < key);
            watched.insert(at, (key, Weak::clone(driven)));
            watched
        });
    }

    /// Whether it watches anything.
    pub(crate) fn has_any(&self) -> bool {
        !self.watched.load().is_empty()
    }

    /// Lets a connection go.
    pub(crate) fn remove(&self, key: usize) {
        self.watched
            .rcu(|watched| watched.iter().filter(|(known, _)| *known != key).cloned().collect::<Vec<_>>());
    }

    /// Replaces the moment at which a connection has to be looked at, at the latest. It may be another thread that sleeps,
    /// and for longer than that.
    pub(crate) fn set_deadline(&self, key: usize, before: Option<Instant>, after: Option<Instant>) {
        if self.deadlines.replace(key, before, after) {
            for sleeper in lock(&self.sleepers).iter().filter_map(Weak::upgrade) {
                sleeper.look_again();
            }
        }
    }

    /// Has one that sleeps learn of earlier deadlines.
    pub(crate) fn add_sleeper(&self, sleeper: Weak<dyn Sleeper>) {
        let mut sleepers = lock(&self.sleepers);
        sleepers.retain(|known| known.strong_count() > 0 && !Weak::ptr_eq(known, &sleeper));
        sleepers.push(sleeper);
    }

    /// Has a connection written to by the next to drive.
    pub(crate) fn write_soon(&self, driven: Arc<dyn Driven>) {
        lock(&self.unwritten).push(driven);
    }

    /// When [`Watch::drive`] has to be called next, even if nothing becomes readable.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Lets the connections that are ready take a step, and those that are due.
    pub(crate) fn drive(&self) {
        let now = Instant::now();
        for driven in std::mem::take(&mut *lock(&self.unwritten)) {
            driven.flush();
        }
        let watched = self.watched.load();
        match &watched[..] {
            // To read from the only one costs as much as to ask whether there is something to read.
            [(_, only)] => only.upgrade().into_iter().for_each(|driven| driven.step(now)),
            [] => {}
            _ => {
                let ready = self.poller.look().unwrap_or_default();
                step(&watched, &ready, now);
            }
        }
        if watched.len() != 1 && self.deadlines.is_due(now) {
            step(&watched, &self.deadlines.due(now), now);
        }
    }
}

fn step(watched: &[Watched], keys: &[usize], now: Instant) {
    for key in keys {
        let found = watched.binary_search_by_key(key, |(known, _)| *known);
        if let Some(driven) = found.ok().and_then(|at| watched[at].1.upgrade()) {
            driven.step(now);
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::super::bell::Bell;
    use super::super::sleep;
    use super::*;

    #[test]
    fn who_sleeps_learns_of_an_earlier_deadline_from_another_thread() {
        let watch = Arc::new(Watch::new().unwrap());
        let bell = Arc::new(Bell::new().unwrap());
        watch.add_sleeper(Arc::downgrade(&bell) as Weak<dyn Sleeper>);
        let begun = Instant::now();
        let hour = Duration::from_secs(3_600);
        watch.set_deadline(1, None, Some(begun + hour));
        bell.silence();
        let sleeper = {
            let (watch, bell) = (Arc::clone(&watch), Arc::clone(&bell));
            thread::spawn(move || sleep(&[&watch], &bell, hour).unwrap())
        };
        let soon = Some(begun + Duration::from_millis(20));
        watch.set_deadline(2, None, soon);
        assert!(sleeper.join().unwrap(), "the bell rang");
        assert_eq!(watch.next_deadline().map(|next| next < begun + Duration::from_secs(60)), Some(true));
    }
}
