//! Where servers are.

use std::fmt;
use std::path::PathBuf;

use super::Sentinels;

/// Where the server listens.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
    /// Where sentinels say.
    Sentinel(Box<Sentinels>),
    /// Nodes of a cluster, or a primary and its replicas.
    Several(Vec<(String, u16)>),
    /// One node of a cluster, and other names that its certificate may have.
    Node {
        host: String,
        port: u16,
        names: Vec<String>,
        /// It is a replica, and has to be told that it is read from: without `READONLY` it would name the primary instead.
        says_readonly: bool,
    },
}

impl Address {
    /// Whether the server is on this machine, where no network can lose a connection in silence.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// The hosts that it names, of servers.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::Tcp { host, .. } | Self::Node { host, .. } => (Some(host.as_str()), &[][..]),
            Self::Several(servers) => (None, servers.as_slice()),
            Self::Unix(_) | Self::Sentinel(_) => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().map(|(host, _)| host.as_str()))
    }
}

/// A host and a port, as URLs have them.
pub(super) struct HostPort<'a>(pub(super) &'a str, pub(super) u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } | Self::Node { host, port, .. } => HostPort(host, *port).fmt(f),
            Self::Several(servers) => {
                for (number, (host, port)) in servers.iter().enumerate() {
                    f.write_str(if number > 0 { "," } else { "" })?;
                    HostPort(host, *port).fmt(f)?;
                }
                Ok(())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Sentinel(sentinels) => write!(f, "{sentinels}"),
        }
    }
}
