//! TLS on a connection, by rustls, which does no I/O itself: the driver's steps move the bytes, as they do in the clear.
//!
//! A session belongs to the process that made it. A forked child drops it, and sends nothing on it: no farewell either.

mod roots;
mod settings;
mod verifier;
mod words;

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConnection;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;

use super::socket::Socket;
use crate::config::{Tls, Verify};
use crate::reactor::Watch;

/// What one look at the socket takes, at most. Larger than a record, so that one call of the system brings many replies.
const RAW: usize = 32 * 1024;

/// Why there is no session.
pub(crate) enum Failure {
    Io(io::Error),
    /// In plain words, with what to do.
    Refused(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A socket on which TLS is spoken.
pub(crate) struct TlsSocket {
    socket: Socket,
    session: ClientConnection,
    /// Bytes of the socket that the session has not taken: those from `start` to `end`.
    raw: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last look at the socket brought all that fits.
    raw_was_full: bool,
    /// The session may hold plain bytes that were not read, since there was no room for them.
    has_plain: bool,
    /// What came is no TLS, or ends it. The error waits until what came before it has been read.
    ended: Option<io::Error>,
    /// Bytes were taken and could not be sent: the connection is over, which the next call tells. They count as sent.
    broken: Option<io::Error>,
}

impl TlsSocket {
    /// Shakes hands, blocking, within the deadline. The certificate must be for one of `hosts`; the first is the name that
    /// the server is asked for.
    pub(crate) fn connect(
        socket: Socket,
        tls: &Tls,
        hosts: &[&str],
        until: Instant,
    ) -> Result<Self, Failure> {
        let has_others = tls.verify == Verify::Full && hosts.len() > 1;
        // Their names are compared below.
        let chain = Tls { verify: Verify::Chain, ..tls.clone() };
        let config = settings::client_config(if has_others { &chain } else { tls })?;
        let host = *hosts.first().unwrap_or(&"");
        let name = server_name(host)?;
        let session =
            ClientConnection::new(config, name).map_err(|error| Failure::Refused(words::of(&error, host)))?;
        let mut this = Self {
            socket,
            session,
            raw: vec![0; RAW].into_boxed_slice(),
            start: 0,
            end: 0,
            raw_was_full: false,
            has_plain: false,
            ended: None,
            broken: None,
        };
        this.shake_hands(host, until)?;
        if has_others {
            this.check_name(hosts)?;
        }
        Ok(this)
    }

    /// Whether the certificate, which a trusted CA gave, is for one of these.
    fn check_name(&self, hosts: &[&str]) -> Result<(), Failure> {
        let shown = self.session.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or_else(|| Failure::Refused("the server showed no certificate".to_owned()))?;
        let parsed = ParsedCertificate::try_from(shown)
            .map_err(|error| Failure::Refused(words::of(&error, hosts[0])))?;
        let mut first = None;
        for host in hosts {
            match server_name(host).map(|name| verify_server_name(&parsed, &name)) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => first = first.or_else(|| Some(words::of(&error, &hosts.join("' or '")))),
                Err(_) => {}
            }
        }
        Err(Failure::Refused(first.unwrap_or_else(|| "the server's certificate is for no host".to_owned())))
    }

    fn shake_hands(&mut self, host: &str, until: Instant) -> Result<(), Failure> {
        loop {
            self.socket.set_deadline(until)?;
            self.flush()?;
            if !self.session.is_handshaking() {
                return Ok(());
            }
            if self.start == self.end && self.look()? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server closed the connection during the TLS handshake: does it speak TLS on this port, and has it \
                     room for another client (maxclients)?",
                )
                .into());
            }
            if let Err(error) = self.take_in() {
                // The server is to know why. It need not.
                let _ = self.flush();
                return Err(match error {
                    Taken::Io(error) => Failure::Io(error),
                    Taken::Tls(error) => Failure::Refused(words::of(&error, host)),
                });
            }
        }
    }

    pub(crate) fn set_deadline(&self, until: Instant) -> io::Result<()> {
        self.socket.set_deadline(until)
    }

    pub(crate) fn attach(&mut self, watch: &Arc<Watch>, key: usize) -> io::Result<()> {
        self.socket.attach(watch, key)
    }

    pub(crate) fn detach(&mut self) {
        self.socket.detach();
    }

    pub(crate) fn want_write(&mut self, wanted: bool) -> io::Result<()> {
        self.socket.want_write(wanted)
    }

    /// Whether bytes have left the socket that were not read from here: no poller tells of them.
    pub(crate) fn holds_bytes(&self) -> bool {
        self.has_plain || self.start < self.end || self.ended.is_some()
    }

    /// Whether the last read left something, here or in the socket.
    pub(crate) fn may_have_more(&self) -> bool {
        self.holds_bytes() || self.raw_was_full
    }

    /// Plain bytes. `Ok(0)` is the end of the stream, with a farewell or without one; the protocol above tells whether
    /// something is missing. The socket is looked at once, and only if there is nothing here.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut have = 0;
        loop {
            match self.session.reader().read(&mut into[have..]) {
                Ok(0) => return Ok(have),
                Ok(count) => {
                    have += count;
                    if have == into.len() {
                        self.has_plain = true;
                        return Ok(have);
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.has_plain = false,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(have),
                Err(error) => return Err(error),
            }
            if have > 0 && (self.start == self.end || self.ended.is_some()) {
                return Ok(have);
            }
            if let Some(error) = self.ended.take() {
                return Err(error);
            }
            if self.start == self.end {
                self.look()?;
            }
            if let Err(error) = self.take_in() {
                let _ = self.flush();
                // What came before it is whole, and is read first.
                self.ended = Some(match error {
                    Taken::Io(error) => error,
                    // With TLS 1.3 a server tells only now that it does not take the client's certificate.
                    Taken::Tls(error) => {
                        io::Error::new(io::ErrorKind::InvalidData, words::of(&error, "the server"))
                    }
                });
                continue;
            }
            if self.session.wants_write() {
                // An answer of the protocol's own, to new keys for instance. What does not fit goes with the next write.
                self.flush_or_break();
            }
        }
    }

    /// Takes plain bytes: all that are taken count as sent, since they may be on their way.
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        let taken = self.session.writer().write_vectored(pieces)?;
        self.flush_or_break();
        Ok(taken)
    }

    /// Whether bytes that were taken wait for room in the socket, or an error is to be told.
    pub(crate) fn has_unsent(&self) -> bool {
        self.broken.is_some() || self.session.wants_write()
    }

    /// Sends what was taken. `WouldBlock`: there is no room for all of it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        while self.session.wants_write() {
            self.session.write_tls(&mut Raw(&self.socket))?;
        }
        Ok(())
    }

    fn flush_or_break(&mut self) {
        match self.flush() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.broken = Some(error),
        }
    }

    /// Looks at the socket.
    fn look(&mut self) -> io::Result<usize> {
        self.raw_was_full = false;
        let count = self.socket.read(&mut self.raw)?;
        (self.start, self.end) = (0, count);
        self.raw_was_full = count == self.raw.len();
        Ok(count)
    }

    /// Has the session take what came, or the end of it.
    fn take_in(&mut self) -> Result<(), Taken> {
        let mut rest = &self.raw[self.start..self.end];
        let count = self.session.read_tls(&mut rest).map_err(Taken::Io)?;
        self.start += count;
        self.session.process_new_packets().map_err(Taken::Tls)?;
        Ok(())
    }
}

enum Taken {
    Io(io::Error),
    Tls(rustls::Error),
}

impl Drop for TlsSocket {
    fn drop(&mut self) {
        if self.socket.is_current() && self.broken.is_none() {
            self.session.send_close_notify();
            let _ = self.flush();
        }
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::Refused(format!("'{host}' is not a host name that TLS knows")))
}

/// The socket as rustls writes to it.
struct Raw<'a>(&'a Socket);

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
