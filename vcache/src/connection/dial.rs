//! Making a connection: a thread that lives as long as one attempt. It finds out where the server is, connects, and shakes
//! hands, all within the connect timeout, and reports to the driver. Only the look-up of a name may take longer.
//!
//! A link should lead to a primary. Of several addresses the first whose server is one is taken; where there is none, a
//! replica is better than nothing, because it can be read.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handshake::{Failure, Role, shake_hands};
use super::race;
use super::resp::Reader;
use super::socket::Socket;
use super::transport::Transport;
use crate::config::{Address, Config};
use crate::error::{Error, Result};

/// A silent connection is probed by the kernel after so long, so often, and given up after so many.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(5), 3);
/// The kernel gives up bytes that are not acknowledged after the response timeout, but not before this.
const LEAST_USER_TIMEOUT: Duration = Duration::from_secs(1);

/// What an attempt brings.
pub(crate) struct Established {
    pub(super) transport: Transport,
    /// It may hold what the server said after the handshake.
    pub(super) reader: Reader,
    pub(super) role: Role,
}

/// Where the server is, who we are there, and what we expect to find.
pub(crate) struct Dialer {
    config: Arc<Config>,
}

impl Dialer {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config }
    }

    /// Starts an attempt, which ends in a call of `report`. If not even a thread can be had, that is its outcome.
    pub(crate) fn start(self, report: impl FnOnce(Result<Established>) + Clone + Send + 'static) {
        let told = report.clone();
        let started = std::thread::Builder::new()
            .name("vcache-connect".into())
            .stack_size(1024 * 1024)
            .spawn(move || report(self.dial()));
        if let Err(error) = started {
            told(Err(Error::connection(format!("cannot start a thread to connect: {error}"))));
        }
    }

    fn dial(&self) -> Result<Established> {
        match &self.config.address {
            Address::Unix(path) => {
                let until = Instant::now() + self.config.connect_timeout;
                let socket = race::connect_unix(path, self.config.connect_timeout);
                self.establish(socket.map_err(|error| self.failed(&error))?, until)
            }
            Address::Tcp { host, port } => {
                let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| self.failed(&error))?;
                // No time limits a look-up of a name. What it finds late is of use all the same.
                self.dial_one_of(race::in_turns(found), Instant::now() + self.config.connect_timeout)
            }
        }
    }

    fn dial_one_of(&self, mut addresses: Vec<SocketAddr>, until: Instant) -> Result<Established> {
        let mut replica = None;
        let mut failure = None;
        loop {
            let (socket, address) = match race::connect(&addresses, until) {
                Ok(connected) => connected,
                Err(error) => {
                    return replica.ok_or_else(|| failure.unwrap_or_else(|| self.failed(&error)));
                }
            };
            addresses.retain(|other| *other != address);
            match self
                .prepare(&socket)
                .map_err(|error| self.failed(&error))
                .and_then(|()| self.establish(socket, until))
            {
                Ok(established) if established.role == Role::Primary => return Ok(established),
                Ok(established) => replica = replica.or(Some(established)),
                Err(error) => failure = failure.or(Some(error)),
            }
            if addresses.is_empty() || Instant::now() >= until {
                return match (replica, failure) {
                    (Some(replica), _) => Ok(replica),
                    (None, Some(failure)) => Err(failure),
                    (None, None) => Err(self.failed(&io::ErrorKind::NotFound.into())),
                };
            }
        }
    }

    /// The options of a TCP socket.
    fn prepare(&self, socket: &OwnedFd) -> io::Result<()> {
        use rustix::net::sockopt;
        rustix::io::ioctl_fionbio(socket, false)?;
        sockopt::set_tcp_nodelay(socket, true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        let (idle, interval, count) = KEEPALIVE;
        sockopt::set_tcp_keepidle(socket, idle)?;
        sockopt::set_tcp_keepintvl(socket, interval)?;
        sockopt::set_tcp_keepcnt(socket, count)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let unacknowledged = self.config.response_timeout.max(LEAST_USER_TIMEOUT).as_millis();
            sockopt::set_tcp_user_timeout(socket, u32::try_from(unacknowledged).unwrap_or(u32::MAX))?;
        }
        Ok(())
    }

    fn establish(&self, socket: OwnedFd, until: Instant) -> Result<Established> {
        let socket = Socket::new(socket);
        let (reader, role) = shake_hands(&self.config, &socket, until).map_err(|error| match error {
            Failure::Io(error) => self.failed(&error),
            Failure::Refused(error) => error,
        })?;
        Ok(Established { transport: Transport::Plain(socket), reader, role })
    }

    fn failed(&self, error: &io::Error) -> Error {
        let config = &self.config;
        let reason = match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                format!("no answer within {} s (CONNECT_TIMEOUT)", config.connect_timeout.as_secs_f64())
            }
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                format!("{error}. Is the server running there?")
            }
            _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                format!("{error}. Raise the number of descriptors (ulimit -n) or close some")
            }
            _ => error.to_string(),
        };
        Error::connection(format!("cannot connect to {config}: {reason}"))
    }
}
