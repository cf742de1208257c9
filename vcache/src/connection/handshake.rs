//! The first words on a connection: HELLO with AUTH and SETNAME, SELECT, CLIENT SETINFO, PING. Blocking, for connector
//! threads.

use std::io;
use std::time::Instant;

use redis::{ServerError, Value};

use super::command::Packet;
use super::resp::Reader;
use super::socket::Socket;
use crate::config::Config;
use crate::error::{Error, Result};

/// What a server says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Primary,
    Replica,
}

/// Why there is no connection.
pub(super) enum Failure {
    Io(io::Error),
    Refused(Error),
}

enum Broken {
    Io(io::Error),
    Protocol(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Shakes hands within the deadline. The reader may hold what the server said beyond that.
pub(super) fn shake_hands(
    config: &Config,
    socket: &Socket,
    until: Instant,
) -> Result<(Reader, Role), Failure> {
    let packet = packet(config);
    let mut reader = Reader::new();
    let mut replies = Vec::with_capacity(packet.replies);
    if let Err(error) = exchange(&packet, socket, until, &mut reader, &mut replies) {
        return Err(match (replies.first(), error) {
            // A server that does not want us says why, and closes the connection.
            (Some(Value::ServerError(said)), _) => {
                Failure::Refused(refused(config, said, "the server refused the connection"))
            }
            (_, Broken::Io(error)) => Failure::Io(error),
            (_, Broken::Protocol(text)) => Failure::Refused(Error::connection(format!(
                "cannot connect to {config}: what answers there is not a Valkey or Redis server ({text})"
            ))),
        });
    }
    check(config, &replies).map_err(Failure::Refused)?;
    Ok((reader, role(replies.first())))
}

/// Who we are: a user without a password may be one that needs none, which the server decides.
fn credentials(config: &Config) -> Option<(&str, &str)> {
    match (config.username.as_deref(), config.password.as_deref()) {
        (None, None) => None,
        (user, password) => Some((user.unwrap_or("default"), password.unwrap_or_default())),
    }
}

fn packet(config: &Config) -> Packet {
    let credentials = credentials(config);
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
    // Servers before 7.2 do not know these two; their error is no reason to fail.
    packet.then("CLIENT", 3).arg(b"SETINFO").arg(b"LIB-NAME").arg(b"vcache");
    packet.then("CLIENT", 3).arg(b"SETINFO").arg(b"LIB-VER").arg(env!("CARGO_PKG_VERSION").as_bytes());
    // A server that is loading its data shakes hands and then refuses every command, this one too.
    packet.then("PING", 0);
    packet
}

fn exchange(
    packet: &Packet,
    socket: &Socket,
    until: Instant,
    reader: &mut Reader,
    replies: &mut Vec<Value>,
) -> Result<(), Broken> {
    let mut rest = &packet.bytes[..];
    let mut broken = None;
    while !rest.is_empty() && broken.is_none() {
        socket.set_deadline(until)?;
        match socket.write(&[io::IoSlice::new(rest)]) {
            Ok(sent) => rest = &rest[sent..],
            // It closed the connection. What it said before that is still to be read.
            Err(error) => broken = Some(error),
        }
    }
    while replies.len() < packet.replies {
        match reader.next() {
            Ok(Some(Value::Push { .. })) => {}
            Ok(Some(reply)) => replies.push(reply),
            Ok(None) => {
                socket.set_deadline(until)?;
                let (count, _) =
                    reader.fill(|room| socket.read(room)).map_err(|error| broken.take().unwrap_or(error))?;
                if count == 0 {
                    return Err(Broken::Io(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the server closed the connection during the handshake",
                    )));
                }
            }
            Err(error) => return Err(Broken::Protocol(error.0)),
        }
    }
    Ok(())
}

/// The server's own words on what it refused; they hold no password, and we add none.
fn refused(config: &Config, error: &ServerError, otherwise: &str) -> Error {
    let hint = match error.code() {
        "WRONGPASS" => "check the user name and the password",
        "NOAUTH" => "the server wants a password: give it in LOCATION (redis://:password@host) or in OPTIONS",
        "NOPROTO" => "the server is too old: vcache needs RESP3, that is Redis 6 or Valkey",
        _ => otherwise,
    };
    let words = error.details().unwrap_or_default();
    Error::connection(format!("cannot connect to {config}: {hint} ({} {words})", error.code()))
}

fn check(config: &Config, replies: &[Value]) -> Result<()> {
    if replies.iter().any(|reply| matches!(reply, Value::ServerError(error) if error.code() == "LOADING")) {
        return Err(Error::connection(format!(
            "cannot connect to {config}: the server is still loading its data"
        )));
    }
    if let Some(Value::ServerError(error)) = replies.first() {
        return Err(refused(config, error, "the server refused HELLO 3"));
    }
    if config.db != 0
        && let Some(Value::ServerError(error)) = replies.get(1)
    {
        return Err(Error::connection(format!(
            "cannot connect to {config}: SELECT {} was refused ({} {})",
            config.db,
            error.code(),
            error.details().unwrap_or_default()
        )));
    }
    Ok(())
}

/// What HELLO's answer says; a server that says nothing is taken for a primary.
fn role(hello: Option<&Value>) -> Role {
    let Some(Value::Map(fields)) = hello else { return Role::Primary };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    };
    match fields.iter().find(|(name, _)| text(name) == "role").map(|(_, role)| text(role)).as_deref() {
        Some("slave" | "replica") => Role::Replica,
        _ => Role::Primary,
    }
}
