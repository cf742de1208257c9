//! The operating system's own poller: which of these sockets have something to read, or room to write. Its descriptor is
//! readable when one of them has, so it can be watched from outside in their place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::fork::Descriptor;

/// Events that one look brings; more of them come with the next.
const MOST_EVENTS: usize = 64;

/// The keys of what is ready.
pub(super) type Ready = Vec<usize>;

/// Registrations are level-triggered: what one look leaves unread, the next one finds.
pub(crate) struct Poller(Descriptor);

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Descriptor::new(rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)?)))
    }

    /// Watches a socket for something to read.
    pub(crate) fn add(&self, fd: impl AsFd, key: usize) -> io::Result<()> {
        use rustix::event::epoll::{EventData, EventFlags, add};
        Ok(add(&self.0, fd, EventData::new_u64(key as u64), EventFlags::IN)?)
    }

    /// Watches it for room to write as well, or no longer.
    pub(crate) fn want_write(&self, fd: impl AsFd, key: usize, wanted: bool) -> io::Result<()> {
        use rustix::event::epoll::{EventData, EventFlags, modify};
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(modify(&self.0, fd, EventData::new_u64(key as u64), flags)?)
    }

    /// Watches it no longer.
    pub(crate) fn delete(&self, fd: impl AsFd) {
        let _ = rustix::event::epoll::delete(&self.0, fd);
    }

    /// What is ready now, without waiting.
    pub(super) fn look(&self) -> io::Result<Ready> {
        use rustix::event::epoll::{Event, wait};
        let mut events = [const { std::mem::MaybeUninit::<Event>::uninit() }; MOST_EVENTS];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let (events, _) = wait(&self.0, &mut events[..], Some(&at_once))?;
        Ok(events.iter().map(|event| usize::try_from({ event.data }.u64()).unwrap_or(0)).collect())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = rustix::event::kqueue::kqueue()?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Self(Descriptor::new(fd)))
    }

    /// Watches a socket for something to read.
    pub(crate) fn add(&self, fd: impl AsFd, key: usize) -> io::Result<()> {
        use rustix::event::kqueue::{EventFilter, EventFlags};
        self.change(EventFilter::Read(fd.as_fd().as_raw_fd()), EventFlags::ADD, key)
    }

    /// Watches it for room to write as well, or no longer.
    pub(crate) fn want_write(&self, fd: impl AsFd, key: usize, wanted: bool) -> io::Result<()> {
        use rustix::event::kqueue::{EventFilter, EventFlags};
        let flags = if wanted { EventFlags::ADD } else { EventFlags::DELETE };
        self.change(EventFilter::Write(fd.as_fd().as_raw_fd()), flags, key)
    }

    /// Watches it no longer.
    pub(crate) fn delete(&self, fd: impl AsFd) {
        use rustix::event::kqueue::{EventFilter, EventFlags};
        let fd = fd.as_fd().as_raw_fd();
        for filter in [EventFilter::Read(fd), EventFilter::Write(fd)] {
            let _ = self.change(filter, EventFlags::DELETE, 0);
        }
    }

    fn change(
        &self,
        filter: rustix::event::kqueue::EventFilter,
        flags: rustix::event::kqueue::EventFlags,
        key: usize,
    ) -> io::Result<()> {
        use rustix::event::kqueue::{Event, kevent_timespec};
        let change = Event::new(filter, flags, std::ptr::without_provenance_mut(key));
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut none: [Event; 0] = [];
        // SAFETY: a socket is deleted from its poller before it is closed.
        unsafe { kevent_timespec(&self.0, &[change], &mut none[..], Some(&at_once))? };
        Ok(())
    }

    /// What is ready now, without waiting.
    pub(super) fn look(&self) -> io::Result<Ready> {
        use rustix::event::kqueue::{Event, kevent_timespec};
        let mut events = [const { std::mem::MaybeUninit::<Event>::uninit() }; MOST_EVENTS];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: as above.
        let (events, _) = unsafe { kevent_timespec(&self.0, &[], &mut events[..], Some(&at_once))? };
        Ok(events.iter().map(|event| event.udata().addr()).collect())
    }
}
