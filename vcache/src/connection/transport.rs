//! What carries the bytes of one connection. The driver knows reading, writing and readiness; what is below is not its
//! business.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use super::socket::Socket;
use super::tls::TlsSocket;
use crate::reactor::Watch;

pub(crate) enum Transport {
    /// The socket itself.
    Plain(Socket),
    /// TLS on it.
    Tls(Box<TlsSocket>),
}

impl Transport {
    /// While the handshake runs, reads and writes block, up to `until`.
    pub(crate) fn set_deadline(&self, until: Instant) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.set_deadline(until),
            Self::Tls(tls) => tls.set_deadline(until),
        }
    }

    /// From here on nothing blocks, and `watch` tells when there is something to read in the socket.
    pub(crate) fn attach(&mut self, watch: &Arc<Watch>, key: usize) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.attach(watch, key),
            Self::Tls(tls) => tls.attach(watch, key),
        }
    }

    /// Nothing tells any more.
    pub(crate) fn detach(&mut self) {
        match self {
            Self::Plain(socket) => socket.detach(),
            Self::Tls(tls) => tls.detach(),
        }
    }

    /// Asks to be told when there is room to write again, or no longer.
    pub(crate) fn want_write(&mut self, wanted: bool) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.want_write(wanted),
            Self::Tls(tls) => tls.want_write(wanted),
        }
    }

    /// Bytes that have come. `Ok(0)` is the end of the stream, `WouldBlock` says that there are none yet.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }

    /// Whether there may be more after a read, which `filled` the place it was given or not.
    pub(crate) fn may_have_more(&self, filled: bool) -> bool {
        match self {
            Self::Plain(_) => filled,
            Self::Tls(tls) => tls.may_have_more(),
        }
    }

    /// Whether bytes were taken from the socket and not read from here: nothing tells of them.
    pub(crate) fn holds_bytes(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.holds_bytes(),
        }
    }

    /// Hands bytes over: how many were taken. Those may be with the server already.
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(pieces),
            Self::Tls(tls) => tls.write(pieces),
        }
    }

    /// Whether bytes that were taken are still to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_unsent(),
        }
    }

    /// Sends what was taken. `WouldBlock`: there is no room for all of it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
