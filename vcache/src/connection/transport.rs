//! What carries the bytes of one connection. The driver knows reading, writing and readiness; what is below is not its
//! business.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::socket::Socket;
use crate::reactor::Watch;

pub(crate) enum Transport {
    /// The socket itself.
    Plain(Socket),
}

impl Transport {
    /// From here on nothing blocks, and `watch` tells when there is something to read.
    pub(crate) fn attach(&mut self, watch: &Arc<Watch>, key: usize) -> io::Result<()> {
        let Self::Plain(socket) = self;
        socket.attach(watch, key)
    }

    /// Nothing tells any more.
    pub(crate) fn detach(&mut self) {
        let Self::Plain(socket) = self;
        socket.detach();
    }

    /// Asks to be told when there is room to write again, or no longer.
    pub(crate) fn want_write(&mut self, wanted: bool) -> io::Result<()> {
        let Self::Plain(socket) = self;
        socket.want_write(wanted)
    }

    /// Bytes that have come. `Ok(0)` is the end of the stream, `WouldBlock` says that there are none yet.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Self::Plain(socket) = self;
        socket.read(into)
    }

    /// Hands bytes over: how many were taken.
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let Self::Plain(socket) = self;
        socket.write(pieces)
    }
}
