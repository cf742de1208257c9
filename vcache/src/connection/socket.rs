//! The non-blocking socket: TCP or Unix, registered with a poller while its connection is watched.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::fork::{self, Descriptor};
use crate::reactor::Watch;

/// NOTE: sendmsg and not writev, for this flag: a Rust library in a user's process must not raise SIGPIPE. Apple's
/// systems do not have it; there the standard library sets SO_NOSIGPIPE on the sockets it opens.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: rustix::net::SendFlags = rustix::net::SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: rustix::net::SendFlags = rustix::net::SendFlags::empty();

/// A connected socket. Dropping it in the process that opened it closes it; in a forked child the number may belong to
/// something else by then, so there it is left alone.
pub(crate) struct Socket {
    fd: Descriptor,
    registered: Option<(Arc<Watch>, usize)>,
    wants_write: bool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        fork::register(fd.as_raw_fd());
        Self { fd: Descriptor::new(fd), registered: None, wants_write: false }
    }

    /// Whether this process opened it.
    pub(super) fn is_current(&self) -> bool {
        self.fd.is_current()
    }

    /// While the handshake runs, reads and writes block, up to `until`.
    pub(crate) fn set_deadline(&self, until: Instant) -> io::Result<()> {
        let left = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
        set_socket_timeout(self.as_fd(), Timeout::Recv, Some(left))?;
        set_socket_timeout(self.as_fd(), Timeout::Send, Some(left))?;
        Ok(())
    }

    /// From here on nothing blocks, and `watch` tells when there is something to read.
    pub(crate) fn attach(&mut self, watch: &Arc<Watch>, key: usize) -> io::Result<()> {
        self.detach();
        rustix::io::ioctl_fionbio(self.as_fd(), true)?;
        watch.poller().add(self.as_fd(), key)?;
        self.registered = Some((Arc::clone(watch), key));
        if std::mem::take(&mut self.wants_write) {
            self.want_write(true)?;
        }
        Ok(())
    }

    /// Nothing tells any more.
    pub(crate) fn detach(&mut self) {
        if let Some((watch, _)) = self.registered.take()
            && self.fd.is_current()
        {
            watch.poller().delete(self.as_fd());
        }
    }

    /// Asks to be told when there is room to write again, or no longer.
    pub(crate) fn want_write(&mut self, wanted: bool) -> io::Result<()> {
        if wanted == self.wants_write {
            return Ok(());
        }
        if let Some((watch, key)) = &self.registered {
            watch.poller().want_write(self.as_fd(), *key, wanted)?;
        }
        self.wants_write = wanted;
        Ok(())
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(self.as_fd(), &mut *into, rustix::net::RecvFlags::empty()) {
                Ok((count, _)) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match rustix::net::sendmsg(
                self.as_fd(),
                pieces,
                &mut rustix::net::SendAncillaryBuffer::default(),
                SEND_FLAGS,
            ) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.detach();
        if self.fd.is_current() {
            fork::unregister(self.fd.as_raw_fd());
        }
    }
}
