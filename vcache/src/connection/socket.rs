//! The non-blocking socket: TCP or Unix, registered with the process's poller for as long as it lives.

use std::io::{self, IoSlice};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use polling::{Event, PollMode};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::config::Address;
use crate::fork;
use crate::reactor::Reactor;

/// NOTE: sendmsg and not writev, for this flag: a Rust library in somebody's process must not raise SIGPIPE. Apple's
/// systems do not have it; there the standard library sets SO_NOSIGPIPE on the sockets it opens.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: rustix::net::SendFlags = rustix::net::SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: rustix::net::SendFlags = rustix::net::SendFlags::empty();

/// A connected socket. Dropping it in the process that opened it closes it; in a forked child the number may belong to
/// something else by then, so there it is left alone.
pub(crate) struct Socket {
    fd: RawFd,
    epoch: u64,
    registered: Option<(&'static Reactor, usize)>,
    wants_write: bool,
}

impl Socket {
    /// Connects within `timeout`; only name resolution may take longer. Blocking: for connector threads.
    pub(crate) fn connect(address: &Address, timeout: Duration) -> io::Result<Self> {
        let fd: OwnedFd = match address {
            Address::Tcp { host, port } => connect_tcp(host, *port, timeout)?.into(),
            Address::Unix(path) => connect_unix(path, timeout)?,
        };
        let fd = fd.into_raw_fd();
        fork::register(fd);
        Ok(Self { fd, epoch: fork::epoch(), registered: None, wants_write: false })
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

    /// From here on nothing blocks, and the poller tells when there is something to read.
    pub(crate) fn watch(&mut self, reactor: &'static Reactor, key: usize) -> io::Result<()> {
        rustix::io::ioctl_fionbio(self.as_fd(), true)?;
        // SAFETY: the descriptor is open, and it is deleted from the poller before it is closed (see Drop).
        unsafe { reactor.poller().add_with_mode(self.fd, Event::readable(key), PollMode::Level)? };
        self.registered = Some((reactor, key));
        Ok(())
    }

    /// Asks to be told when there is room to write again, or no longer.
    pub(crate) fn want_write(&mut self, wanted: bool) -> io::Result<()> {
        if wanted == self.wants_write {
            return Ok(());
        }
        if let Some((reactor, key)) = self.registered {
            let event = if wanted { Event::all(key) } else { Event::readable(key) };
            reactor.poller().modify_with_mode(self.as_fd(), event, PollMode::Level)?;
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
        // SAFETY: the descriptor stays open as long as `self`, which the borrow is tied to.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.epoch != fork::epoch() {
            return;
        }
        if let Some((reactor, _)) = self.registered {
            let _ = reactor.poller().delete(self.as_fd());
        }
        fork::unregister(self.fd);
        // SAFETY: this process opened the descriptor (the epoch is its own), and nobody else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(self.fd) });
    }
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let until = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no address for host '{host}'"));
    for address in (host, port).to_socket_addrs()? {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// NOTE: not `UnixStream::connect`, which waits without end for a server that does not accept.
fn connect_unix(path: &Path, timeout: Duration) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => Ok(socket),
        Err(Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}
