//! Making a connection: a thread that lives as long as one attempt. It finds out where the server is, connects, and shakes
//! hands, all within the connect timeout, and reports to the driver. Only the look-up of a name may take longer.
//!
//! A link should lead to a primary. Of several addresses the first whose server is one is taken; where there is none, a
//! replica is better than nothing, because it can be read.

use std::io;
use std::iter;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::cluster::{Announced, Layout};
use super::handshake::{self, Failure, Role, shake_hands};
use super::race;
use super::resp::Reader;
use super::sentinel;
use super::socket::Socket;
use super::tls::{self, TlsSocket};
use super::transport::Transport;
use crate::config::{Address, Config, Credentials, Provider, ReadFrom, Sentinels};
use crate::error::{Error, Result};

/// A silent connection is probed by the kernel after so long, so often, and given up after so many.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(5), 3);
/// The kernel gives up bytes that are not acknowledged after the response timeout, but not before this.
const LEAST_USER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server may take for the handshake while there are others to try.
const LONGEST_TURN: Duration = Duration::from_millis(500);
/// How long after sentinels named a server that is no primary they are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Credentials are asked for again no sooner, however soon they expire.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// What an attempt brings.
pub(crate) struct Established {
    pub(super) transport: Transport,
    /// It may hold what the server said after the handshake.
    pub(super) reader: Reader,
    pub(super) role: Role,
    /// When to authenticate anew, if the credentials expire.
    pub(super) renew_at: Option<Instant>,
    /// If it was asked for, and the server is one of several: who has which slot, and the name of this one among them.
    pub(super) layout: Option<(Layout, String)>,
    /// The host and the port of the server.
    at: Option<(String, u16)>,
    /// Where it stands, if it says so.
    zone: Option<String>,
}

impl Established {
    /// What a primary that stands alone has: all slots, and no replicas that are known.
    pub(super) fn alone(&self) -> Option<(Layout, String)> {
        let (host, port) = self.at.clone().filter(|_| self.role == Role::Primary)?;
        let id = format!("{host}:{port}");
        let primary = Announced { id: id.clone(), names: Vec::new(), host, port, zone: self.zone.clone() };
        Some((Layout::of_primary(primary, Vec::new()), id))
    }
}

/// Where the server is, who we are there, and what we expect to find.
pub(crate) struct Dialer {
    config: Arc<Config>,
    /// A node of a cluster is asked who has which slot, and of a primary the replicas are told.
    asks_for_layout: bool,
    /// Replicas are asked where they stand.
    asks_for_zones: bool,
    /// Where a cluster may be found if it is not where the config says.
    nodes: Vec<(String, u16)>,
    /// Where replicas are, and in which zone, as far as is known.
    zones: Vec<(String, u16, String)>,
}

impl Dialer {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, asks_for_layout: false, asks_for_zones: false, nodes: Vec::new(), zones: Vec::new() }
    }

    /// The same, and if the server is one of several, it is found out who has which slot.
    pub(super) fn asking_for_the_layout(self) -> Self {
        Self { asks_for_layout: true, ..self }
    }

    /// Finds out who has which slot: where the config says, or where nodes were. Of replicas the zones in `zones` are known.
    pub(super) fn for_layout(
        config: Arc<Config>,
        nodes: Vec<(String, u16)>,
        zones: Vec<(String, u16, String)>,
    ) -> Self {
        let asks_for_zones = matches!(config.read_from, ReadFrom::Zone(_));
        Self { config, asks_for_layout: true, asks_for_zones, nodes, zones }
    }

    /// Starts an attempt, which ends in a call of `report`. If not even a thread can be had, that is its outcome.
    pub(crate) fn start(self, report: impl FnOnce(Result<Established>) + Clone + Send + 'static) {
        let told = report.clone();
        let started = thread::Builder::new()
            .name("vcache-connect".into())
            .stack_size(1024 * 1024)
            .spawn(move || report(self.dial()));
        if let Err(error) = started {
            told(Err(Error::connection(format!("cannot start a thread to connect: {error}"))));
        }
    }

    /// Asks for credentials, which ends in a call of `report`.
    pub(crate) fn start_minting(
        self,
        report: impl FnOnce(Result<Option<Credentials>>) + Clone + Send + 'static,
    ) {
        let told = report.clone();
        let started =
            thread::Builder::new().name("vcache-credentials".into()).spawn(move || report(self.mint()));
        if let Err(error) = started {
            told(Err(Error::connection(format!("cannot start a thread for credentials: {error}"))));
        }
    }

    fn dial(&self) -> Result<Established> {
        match self.dial_with(self.mint()?) {
            // Tokens may end early: the next one may do.
            Err(Ended::WrongPassword(_)) if self.config.provider.is_some() => self.dial_with(self.mint()?),
            outcome => outcome,
        }
        .map_err(Ended::into_error)
    }

    /// What a provider of credentials gives now; None without a provider.
    fn mint(&self) -> Result<Option<Credentials>> {
        let Some(Provider(provider)) = &self.config.provider else { return Ok(None) };
        provider.credentials().map(Some).map_err(|words| self.refused(&words))
    }

    fn dial_with(&self, minted: Option<Credentials>) -> Result<Established, Ended> {
        let attempt = Attempt { dialer: self, minted };
        let until = Instant::now() + self.config.connect_timeout;
        let found = match &self.config.address {
            Address::Unix(path) => {
                let socket = race::connect_unix(path, self.config.connect_timeout);
                socket
                    .map_err(|error| self.failed(&error).into())
                    .and_then(|socket| attempt.establish(socket, &[], until))
            }
            Address::Tcp { host, port } => attempt.dial_any_of(&[(host.clone(), *port)], &[], None),
            Address::Several(servers) => attempt
                .dial_any_of(servers, &[], None)
                .map(|found| attempt.with_replicas(found, servers.clone(), &[])),
            Address::Node { host, port, names, .. } => {
                attempt.dial_any_of(&[(host.clone(), *port)], names, None)
            }
            Address::Sentinel(sentinels) => attempt.dial_by(sentinels, until),
        };
        match found {
            // Names are looked up anew each time, so the nodes that the user named come first.
            Err(_) if !self.nodes.is_empty() => {
                let names: Vec<_> = self.config.address.hosts().map(str::to_owned).collect();
                attempt.dial_any_of(&self.nodes, &names, None)
            }
            found => found,
        }
    }

    /// The addresses of a host, for what is asked of it.
    fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>> {
        let found = (host, port).to_socket_addrs().map_err(|error| self.failed(&error))?;
        Ok(race::in_turns(found))
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

    fn failed(&self, error: &io::Error) -> Error {
        let config = &self.config;
        let reason = match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                let seconds = config.connect_timeout.as_secs_f64();
                let hint = if config.tls.is_some() { ". Does it speak TLS on this port?" } else { "" };
                format!("no answer within {seconds} s (CONNECT_TIMEOUT){hint}")
            }
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                format!("{error}. Is the server running there?")
            }
            io::ErrorKind::ConnectionReset if config.tls.is_none() => {
                format!("{error}. If the server wants TLS, begin the URL with rediss:// or valkeys://")
            }
            _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                format!("{error}. Raise the number of descriptors (ulimit -n) or close some")
            }
            _ => error.to_string(),
        };
        self.refused(&reason)
    }

    fn refused(&self, reason: &str) -> Error {
        Error::connection(format!("cannot connect to {}: {reason}", self.config))
    }
}

/// Why an attempt brought nothing.
enum Ended {
    /// The server does not take the user name and the password.
    WrongPassword(Error),
    Other(Error),
}

impl Ended {
    fn into_error(self) -> Error {
        match self {
            Self::WrongPassword(error) | Self::Other(error) => error,
        }
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// One attempt, and what it authenticates with.
struct Attempt<'a> {
    dialer: &'a Dialer,
    minted: Option<Credentials>,
}

impl Attempt<'_> {
    /// Asks the sentinels, again and again while what they name is no primary: a failover may be under way.
    fn dial_by(&self, sentinels: &Sentinels, until: Instant) -> Result<Established, Ended> {
        let mut turn = 0;
        loop {
            let config = &self.dialer.config;
            let mut found = sentinel::find(sentinels, turn, self.wants_replicas(), until)
                .map_err(|words| self.dialer.refused(&words))?;
            for (host, port) in iter::once(&mut found.primary).chain(&mut found.replicas) {
                (*host, *port) = config.mapped(host, *port);
            }
            // A certificate may name the address, or the host that the user named.
            let names: Vec<_> = sentinels.hosts.iter().map(|(host, _)| host.clone()).collect();
            let outcome = self
                .dial_any_of(&[found.primary], &names, Some(until))
                .map(|established| self.with_replicas(established, found.replicas, &names));
            let is_final = match &outcome {
                Ok(established) => established.role == Role::Primary,
                Err(Ended::WrongPassword(_)) => true,
                Err(Ended::Other(_)) => false,
            };
            if is_final || Instant::now() + ASK_AGAIN >= until {
                return outcome;
            }
            thread::sleep(ASK_AGAIN);
            turn += 1;
        }
    }

    fn wants_replicas(&self) -> bool {
        self.dialer.asks_for_layout && self.dialer.config.read_from.wants_replicas()
    }

    /// The primary that was found, with those of these servers that are its replicas, if they are wanted.
    fn with_replicas(
        &self,
        primary: Established,
        servers: Vec<(String, u16)>,
        names: &[String],
    ) -> Established {
        let (true, Role::Primary, None, Some((host, port))) =
            (self.wants_replicas(), primary.role, &primary.layout, primary.at.clone())
        else {
            return primary;
        };
        let until = Instant::now() + LONGEST_TURN;
        let announced = |host: String, port: u16, zone: Option<String>| Announced {
            id: format!("{host}:{port}"),
            names: names.to_vec(),
            host,
            port,
            zone,
        };
        let replicas = servers.into_iter().filter(|(other, at)| (other, *at) != (&host, port));
        let replicas = replicas.map(|(host, port)| {
            let zone = self.zone_of(&host, port, names, until);
            announced(host, port, zone)
        });
        let layout =
            Layout::of_primary(announced(host.clone(), port, primary.zone.clone()), replicas.collect());
        Established { layout: Some((layout, format!("{host}:{port}"))), ..primary }
    }

    /// Where a replica stands, as far as it is known or wanted.
    fn zone_of(&self, host: &str, port: u16, names: &[String], until: Instant) -> Option<String> {
        let known = self.dialer.zones.iter().find(|(other, at, _)| (other.as_str(), *at) == (host, port));
        if known.is_some() || !self.dialer.asks_for_zones {
            return known.map(|(_, _, zone)| zone.clone());
        }
        self.dial_any_of(&[(host.to_owned(), port)], names, Some(until)).ok()?.zone
    }

    /// Dials the addresses of all these servers, in their order. Their certificates may have their own names, or these.
    /// Without `until` they have the connect timeout, which begins when their names are looked up.
    fn dial_any_of(
        &self,
        servers: &[(String, u16)],
        names: &[String],
        until: Option<Instant>,
    ) -> Result<Established, Ended> {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let mut hosts: Vec<(SocketAddr, &str)> = Vec::new();
        let mut failure = None;
        for (host, port) in servers {
            match self.dialer.resolve(host, *port) {
                Ok(found) => {
                    hosts.extend(found.iter().map(|address| (*address, host.as_str())));
                    addresses.extend(found);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        addresses.dedup();
        if let (true, Some(error)) = (addresses.is_empty(), failure) {
            return Err(error.into());
        }
        let hosts_of = |address| {
            let of_address = hosts.iter().filter(|(known, _)| *known == address).map(|(_, host)| *host);
            of_address.chain(names.iter().map(String::as_str)).collect::<Vec<_>>()
        };
        // No time limits a look-up of a name. What it finds late is of use all the same.
        let until = until.unwrap_or_else(|| Instant::now() + self.dialer.config.connect_timeout);
        self.dial_one_of(addresses, hosts_of, until)
    }

    /// Dials these addresses until one of them leads to a server that will do; `hosts_of` says which names the certificate
    /// of one may have.
    fn dial_one_of<'a>(
        &self,
        mut addresses: Vec<SocketAddr>,
        hosts_of: impl Fn(SocketAddr) -> Vec<&'a str>,
        until: Instant,
    ) -> Result<Established, Ended> {
        let mut replica = None;
        let mut failure: Option<Ended> = None;
        loop {
            let (socket, address) = match race::connect(&addresses, until) {
                Ok(connected) => connected,
                Err(error) => {
                    return replica
                        .ok_or_else(|| failure.unwrap_or_else(|| self.dialer.failed(&error).into()));
                }
            };
            addresses.retain(|other| *other != address);
            // One that hangs must leave the others some time.
            let turn = if addresses.is_empty() { until } else { until.min(Instant::now() + LONGEST_TURN) };
            match self
                .dialer
                .prepare(&socket)
                .map_err(|error| self.dialer.failed(&error).into())
                .and_then(|()| self.establish(socket, &hosts_of(address), turn))
                .map(|found| Established {
                    at: hosts_of(address).first().map(|host| ((*host).to_owned(), address.port())),
                    ..found
                }) {
                Ok(established) if established.role == Role::Primary || established.layout.is_some() => {
                    return Ok(established);
                }
                Ok(established) => replica = replica.or(Some(established)),
                Err(error) => failure = failure.or(Some(error)),
            }
            if addresses.is_empty() || Instant::now() >= until {
                return match (replica, failure) {
                    (Some(replica), _) => Ok(replica),
                    (None, Some(failure)) => Err(failure),
                    (None, None) => Err(self.dialer.failed(&io::ErrorKind::NotFound.into()).into()),
                };
            }
        }
    }

    /// Shakes hands. `hosts` are the names that a certificate may have.
    fn establish(&self, socket: OwnedFd, hosts: &[&str], until: Instant) -> Result<Established, Ended> {
        let dialer = self.dialer;
        let mut transport = self.transport(Socket::new(socket), hosts, until)?;
        let (reader, hello) = shake_hands(&dialer.config, self.minted.as_ref(), &mut transport, until)
            .map_err(|error| match error {
                Failure::Io(error) => dialer.failed(&error).into(),
                Failure::Refused(error) => Ended::Other(error),
                Failure::WrongPassword(error) => Ended::WrongPassword(error),
            })?;
        let renew_at = self.minted.as_ref().and_then(renew_at);
        let mut established = Established {
            transport,
            reader,
            role: hello.role,
            renew_at,
            layout: None,
            at: None,
            zone: hello.zone,
        };
        if dialer.asks_for_layout && dialer.config.cluster && hello.is_cluster {
            let host = hosts.first().copied().unwrap_or("127.0.0.1");
            let layout = handshake::layout(&mut established.transport, &mut established.reader, host, until);
            established.layout = Some(layout.map_err(|reason| dialer.refused(&reason))?);
        }
        Ok(established)
    }

    fn transport(&self, socket: Socket, hosts: &[&str], until: Instant) -> Result<Transport> {
        match &self.dialer.config.tls {
            Some(tls) if !hosts.is_empty() => match TlsSocket::connect(socket, tls, hosts, until) {
                Ok(socket) => Ok(Transport::Tls(Box::new(socket))),
                Err(tls::Failure::Io(error)) => Err(self.dialer.failed(&error)),
                Err(tls::Failure::Refused(words)) => Err(self.dialer.refused(&words)),
            },
            _ => Ok(Transport::Plain(socket)),
        }
    }
}

/// When to authenticate anew with credentials that expire: when a fifth of their time is left.
pub(super) fn renew_at(minted: &Credentials) -> Option<Instant> {
    let left = minted.expires_at?.duration_since(SystemTime::now()).unwrap_or_default();
    Some(Instant::now() + left.mul_f64(0.8).max(SHORTEST_LIFE))
}
