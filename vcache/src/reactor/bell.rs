//! A descriptor that another thread can make readable, to wake who sleeps on it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::watch::Sleeper;
use crate::fork::Descriptor;

/// Ringing it often costs one system call until it is silenced.
pub(crate) struct Bell {
    receiver: Descriptor,
    /// NOTE: an eventfd is both ends in one; elsewhere a pipe has two.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    sender: Descriptor,
    rung: AtomicBool,
}

impl Bell {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        let receiver = Descriptor::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok(Self { receiver, rung: AtomicBool::new(false) })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn new() -> io::Result<Self> {
        let (receiver, sender) = rustix::pipe::pipe()?;
        for end in [&receiver, &sender] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Self {
            receiver: Descriptor::new(receiver),
            sender: Descriptor::new(sender),
            rung: AtomicBool::new(false),
        })
    }

    #[cfg(feature = "python")]
    pub(crate) fn fd(&self) -> RawFd {
        self.receiver.as_raw_fd()
    }

    pub(crate) fn ring(&self) {
        // What is written to a file of the user's, opened under this number after all were closed, would spoil it.
        if self.rung.swap(true, Ordering::SeqCst) || !self.receiver.is_ours() {
            return;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let sender = &self.receiver;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let sender = &self.sender;
        // It holds at most this one message, so the write does not block; an eventfd wants eight bytes.
        let _ = rustix::io::write(sender, &1_u64.to_ne_bytes());
    }

    /// Makes it unreadable again, once it was seen readable. What was announced before must be looked at after.
    pub(crate) fn silence(&self) {
        if self.receiver.is_ours() {
            // In this order: a ring in between writes nothing and is not lost, because the caller looks afterwards.
            let _ = rustix::io::read(&self.receiver, &mut [0_u8; 8]);
            self.rung.store(false, Ordering::SeqCst);
        }
    }
}

impl Sleeper for Bell {
    fn look_again(&self) {
        self.ring();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.receiver.as_raw_fd()
    }
}
