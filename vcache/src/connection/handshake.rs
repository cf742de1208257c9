//! The first words on a connection: HELLO with AUTH and SETNAME, SELECT, CLIENT SETINFO, PING. Blocking, for connector
//! threads.

use std::io;
use std::time::Instant;

use redis::{ServerError, Value};

use super::cluster::Layout;
use super::command::Packet;
use super::exchange::{Broken, exchange, text};
use super::resp::Reader;
use super::transport::Transport;
use crate::config::{Address, Config, Credentials};
use crate::error::Error;

/// What a server says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Primary,
    Replica,
}

/// What a server's answer to HELLO says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hello {
    pub(super) role: Role,
    /// It is one of a cluster's.
    pub(super) is_cluster: bool,
    /// Where it stands, if it says so.
    pub(super) zone: Option<String>,
}

/// Why there is no connection.
pub(super) enum Failure {
    Io(io::Error),
    Refused(Error),
    /// The server does not take the user name and the password.
    WrongPassword(Error),
}

/// Shakes hands within the deadline. The reader may hold what the server said beyond that.
pub(super) fn shake_hands(
    config: &Config,
    minted: Option<&Credentials>,
    transport: &mut Transport,
    until: Instant,
) -> Result<(Reader, Hello), Failure> {
    let packet = packet(config, minted);
    let mut reader = Reader::new();
    let mut replies = Vec::with_capacity(packet.replies);
    if let Err(error) = exchange(&packet, transport, until, &mut reader, &mut replies) {
        return Err(match (replies.first(), error) {
            // A server that does not want us says why, and closes the connection.
            (Some(Value::ServerError(said)), _) => refused(config, said, "the server refused the connection"),
            (_, Broken::Io(error)) => Failure::Io(error),
            (_, Broken::Protocol(text)) => Failure::Refused(Error::connection(format!(
                "cannot connect to {config}: what answers there is not a Valkey or Redis server ({text})"
            ))),
        });
    }
    check(config, &replies)?;
    Ok((reader, hello(replies.first())))
}

/// Asks a node of a cluster that was reached at `host` who has which slot, and for its own name.
pub(super) fn layout(
    transport: &mut Transport,
    reader: &mut Reader,
    host: &str,
    until: Instant,
) -> Result<(Layout, String), String> {
    let mut packet = Packet::unchecked();
    packet.then("CLUSTER", 1).arg(b"SLOTS");
    packet.then("CLUSTER", 1).arg(b"MYID");
    let mut replies = Vec::with_capacity(packet.replies);
    if let Err(error) = exchange(&packet, transport, until, reader, &mut replies) {
        return Err(match error {
            Broken::Io(error) => {
                format!("it is one of a cluster's, and did not say who has which slot: {error}")
            }
            Broken::Protocol(text) => text,
        });
    }
    let id = replies.pop().as_ref().and_then(text).unwrap_or_default();
    match replies.pop() {
        Some(Value::ServerError(error)) => Err(format!(
            "it is one of a cluster's, and CLUSTER SLOTS was refused ({} {})",
            error.code(),
            error.details().unwrap_or_default()
        )),
        Some(answer) if Layout::has_no_ports(&answer) => Err(
            "it is one of a cluster's, and CLUSTER SLOTS names nodes without a port: a server that has TLS alone needs \
             'tls-cluster yes'"
                .to_owned(),
        ),
        answer => Layout::read(&answer.unwrap_or(Value::Nil), host)
            .map(|layout| (layout, id))
            .ok_or_else(|| "it is one of a cluster's, and its answer to CLUSTER SLOTS is no list".to_owned()),
    }
}

/// Who we are: a user without a password may be one that needs none, which the server decides.
fn credentials<'a>(config: &'a Config, minted: Option<&'a Credentials>) -> Option<(&'a str, &'a str)> {
    if let Some(minted) = minted {
        // A user of the config's stands beside tokens that name none.
        let user = minted.username.as_deref().or(config.username.as_deref());
        return Some((user.unwrap_or("default"), &minted.password));
    }
    match (config.username.as_deref(), config.password.as_deref()) {
        (None, None) => None,
        (user, password) => Some((user.unwrap_or("default"), password.unwrap_or_default())),
    }
}

/// Authenticates anew on a connection that lives.
pub(super) fn authentication(config: &Config, minted: &Credentials) -> Packet {
    let mut packet = Packet::unchecked();
    if let Some((user, password)) = credentials(config, Some(minted)) {
        packet.then("AUTH", 2).arg(user.as_bytes()).arg(password.as_bytes());
    }
    packet
}

fn packet(config: &Config, minted: Option<&Credentials>) -> Packet {
    let credentials = credentials(config, minted);
    let auth = credentials.map_or(0, |_| 3);
    let name = config.client_name.as_ref().map_or(0, |_| 2);
    let mut packet = Packet::unchecked();
    packet.then("HELLO", 1 + auth + name);
    packet.arg(b"3");
    if let Some((user, password)) = credentials {
        packet.arg(b"AUTH").arg(user.as_bytes()).arg(password.as_bytes());
    }
    if let Some(name) = &config.client_name {
        packet.arg(b"SETNAME").arg(name.as_bytes());
    }
    if config.db != 0 {
        packet.then("SELECT", 1).int(config.db);
    }
    if says_readonly(config) {
        packet.then("READONLY", 0);
    }
    // Servers before 7.2 do not know these two; their error is no reason to fail.
    packet.then("CLIENT", 3).arg(b"SETINFO").arg(b"LIB-NAME").arg(b"vcache");
    packet.then("CLIENT", 3).arg(b"SETINFO").arg(b"LIB-VER").arg(env!("CARGO_PKG_VERSION").as_bytes());
    // A server that is loading its data shakes hands and then refuses every command, this one too.
    packet.then("PING", 0);
    packet
}

/// The server's own words on what it refused; they hold no password, and we add none.
fn refused(config: &Config, error: &ServerError, otherwise: &str) -> Failure {
    let hint = match error.code() {
        "WRONGPASS" if config.provider.is_some() => "the server does not take what CREDENTIALS gave",
        "WRONGPASS" => "check the user name and the password",
        "NOAUTH" => "the server wants a password: give it in LOCATION (redis://:password@host) or in OPTIONS",
        "NOPROTO" => "the server is too old: vcache needs RESP3, that is Redis 6 or Valkey",
        _ => otherwise,
    };
    let words = error.details().unwrap_or_default();
    let told = Error::connection(format!("cannot connect to {config}: {hint} ({} {words})", error.code()));
    if error.code() == "WRONGPASS" { Failure::WrongPassword(told) } else { Failure::Refused(told) }
}

fn check(config: &Config, replies: &[Value]) -> Result<(), Failure> {
    if replies.iter().any(|reply| matches!(reply, Value::ServerError(error) if error.code() == "LOADING")) {
        return Err(Failure::Refused(Error::connection(format!(
            "cannot connect to {config}: the server is still loading its data"
        ))));
    }
    if let Some(Value::ServerError(error)) = replies.first() {
        return Err(refused(config, error, "the server refused HELLO 3"));
    }
    if config.db != 0
        && let Some(Value::ServerError(error)) = replies.get(1)
    {
        return Err(Failure::Refused(Error::connection(format!(
            "cannot connect to {config}: SELECT {} was refused ({} {})",
            config.db,
            error.code(),
            error.details().unwrap_or_default()
        ))));
    }
    let readonly = replies.get(1 + usize::from(config.db != 0));
    if says_readonly(config)
        && let Some(Value::ServerError(error)) = readonly
    {
        return Err(Failure::Refused(Error::connection(format!(
            "cannot read from the replica {config}: READONLY was refused ({} {})",
            error.code(),
            error.details().unwrap_or_default()
        ))));
    }
    Ok(())
}

fn says_readonly(config: &Config) -> bool {
    matches!(config.address, Address::Node { says_readonly: true, .. })
}

/// What HELLO's answer says; a server that says nothing is taken for a primary that stands alone.
fn hello(answer: Option<&Value>) -> Hello {
    let fields = match answer {
        Some(Value::Map(fields)) => fields.as_slice(),
        _ => &[],
    };
    let of = |wanted: &str| {
        let found = fields.iter().find(|(name, _)| text(name).as_deref() == Some(wanted));
        found.and_then(|(_, value)| text(value)).unwrap_or_default()
    };
    let role = if matches!(of("role").as_str(), "slave" | "replica") { Role::Replica } else { Role::Primary };
    let zone = Some(of("availability_zone")).filter(|zone| !zone.is_empty());
    Hello { role, is_cluster: of("mode") == "cluster", zone }
}
