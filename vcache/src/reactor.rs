//! The one poller of the process, and who drives it.
//!
//! There is no I/O thread. Every socket is registered with one [`polling::Poller`], whose own descriptor becomes readable
//! when any of them is. Whoever is there watches that one descriptor from outside and then polls the connections:
//! an asyncio loop with `add_reader`, a tokio runtime with an `AsyncFd`, a blocking caller with poll(2). Registrations
//! are level-triggered, so it does not matter who comes first, nor whether somebody comes twice.
//!
//! A reactor belongs to one process: a forked child finds the epoch changed and makes its own. The parent's is leaked
//! there on purpose, because dropping it would change the parent's poller, which both share.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use polling::Poller;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::config::Config;
use crate::connection::Driver;
use crate::fork;
use crate::sync::lock;

pub(crate) struct Reactor {
    epoch: u64,
    poller: Poller,
    /// Wakes the blocking caller that sleeps on the poller, if there is one.
    bell: Bell,
    drivers: ArcSwap<Vec<Weak<Driver>>>,
    by_config: Mutex<HashMap<Config, Weak<Driver>>>,
    next_key: AtomicUsize,
    pub(crate) blocking: crate::blocking::Role,
}

static CURRENT: AtomicPtr<Reactor> = AtomicPtr::new(std::ptr::null_mut());

/// The reactor of this process.
///
/// # Panics
/// If the process is out of file descriptors or memory when it first needs one.
pub(crate) fn reactor() -> &'static Reactor {
    let current = CURRENT.load(Ordering::Acquire);
    // SAFETY: a non-null pointer was leaked from a Box below and is never freed.
    if let Some(reactor) = unsafe { current.as_ref() }
        && reactor.epoch == fork::epoch()
    {
        return reactor;
    }
    replace(current)
}

#[cold]
fn replace(stale: *mut Reactor) -> &'static Reactor {
    fork::watch();
    let fresh = Box::into_raw(Box::new(Reactor::new().expect("a poller needs three free file descriptors")));
    match CURRENT.compare_exchange(stale, fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: `fresh` was leaked from a Box just now and is never freed.
        Ok(_) => unsafe { &*fresh },
        Err(_) => {
            // SAFETY: nobody has seen `fresh`, the exchange failed.
            drop(unsafe { Box::from_raw(fresh) });
            reactor()
        }
    }
}

impl Reactor {
    fn new() -> io::Result<Self> {
        Ok(Self {
            epoch: fork::epoch(),
            poller: Poller::new()?,
            bell: Bell::new()?,
            drivers: ArcSwap::default(),
            by_config: Mutex::default(),
            next_key: AtomicUsize::new(1),
            blocking: crate::blocking::Role::default(),
        })
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn poller(&self) -> &Poller {
        &self.poller
    }

    /// The descriptor to watch: readable when a connection has something to do.
    pub(crate) fn fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }

    /// The connection of this config: the one that is there, or a new one. It connects on first use.
    pub(crate) fn driver(&'static self, config: &Arc<Config>) -> Arc<Driver> {
        let mut by_config = lock(&self.by_config);
        if let Some(driver) = by_config.get(&**config).and_then(Weak::upgrade) {
            return driver;
        }
        by_config.retain(|_, driver| driver.strong_count() > 0);
        let driver = self.dedicated_driver(config);
        by_config.insert((**config).clone(), Arc::downgrade(&driver));
        driver
    }

    /// A connection that is shared with nobody, for a command that blocks.
    pub(crate) fn dedicated_driver(&'static self, config: &Arc<Config>) -> Arc<Driver> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let driver = Arc::new(Driver::new(Arc::clone(config), self, key));
        self.drivers.rcu(|drivers| {
            let mut drivers: Vec<_> = drivers.iter().filter(|d| d.strong_count() > 0).cloned().collect();
            drivers.push(Arc::downgrade(&driver));
            drivers
        });
        driver
    }

    /// Lets every connection read, write and expire what it can without blocking, and wakes those it completed.
    pub(crate) fn drive(&self) {
        let now = Instant::now();
        for driver in self.drivers.load().iter().filter_map(Weak::upgrade) {
            driver.drive(now);
        }
    }

    /// Drives, and says when to come again at the latest.
    pub(crate) fn step(&self) -> Option<Instant> {
        self.drive();
        self.next_deadline()
    }

    /// When [`Reactor::drive`] has to be called next, even if nothing becomes readable.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.drivers.load().iter().filter_map(Weak::upgrade).filter_map(|driver| driver.next_deadline()).min()
    }

    /// Sleeps until a connection has something to do or the bell rings. `Ok(false)` says that a signal or a deadline came
    /// first, or that it was `at_most` this long.
    pub(crate) fn sleep(&self, at_most: Duration) -> io::Result<bool> {
        let now = Instant::now();
        let left =
            self.next_deadline().map_or(at_most, |until| until.saturating_duration_since(now).min(at_most));
        // Rounded up: a sleep that ends a moment too early would be followed by many very short ones.
        let timeout = left + Duration::from_micros(50);
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        let mut watched =
            [PollFd::new(&self.poller, PollFlags::IN), PollFd::new(&self.bell.receiver, PollFlags::IN)];
        match rustix::event::poll(&mut watched, Some(&timeout)) {
            Ok(ready) => {
                if !watched[1].revents().is_empty() {
                    self.bell.silence();
                }
                Ok(ready > 0)
            }
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Wakes the one who is in [`Reactor::sleep`], or the next to call it.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }
}

impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

/// A descriptor that another thread can make readable. Ringing it often costs one system call until it is silenced.
pub(crate) struct Bell {
    receiver: OwnedFd,
    sender: OwnedFd,
    rung: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let (receiver, sender) = rustix::pipe::pipe()?;
        for end in [&receiver, &sender] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Self { receiver, sender, rung: AtomicBool::new(false) })
    }

    #[cfg(feature = "python")]
    pub(crate) fn fd(&self) -> RawFd {
        self.receiver.as_raw_fd()
    }

    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // The pipe holds at most this one byte, so the write cannot block.
            let _ = rustix::io::write(&self.sender, &[1]);
        }
    }

    /// Makes it unreadable again, once it was seen readable. What was announced before must be looked at after.
    pub(crate) fn silence(&self) {
        // In this order: a ring in between writes nothing and is not lost, because the caller looks afterwards.
        let _ = rustix::io::read(&self.receiver, &mut [0_u8; 8]);
        self.rung.store(false, Ordering::SeqCst);
    }
}
