//! Making a connection: a thread that lives as long as one attempt. It resolves the name, connects, and shakes hands
//! (HELLO with AUTH and SETNAME, SELECT, CLIENT SETINFO, PING), all within the connect timeout, and reports to the driver.

use std::sync::{Arc, Weak};
use std::time::Instant;

use redis::Value;

use super::command::Packet;
use super::driver::Driver;
use super::resp::Reader;
use super::socket::Socket;
use crate::config::Config;
use crate::error::{Error, Result};

/// Starts an attempt. If not even a thread can be had, that is the attempt's outcome.
pub(crate) fn spawn(driver: &Arc<Driver>, attempt: u64) {
    let config = Arc::clone(driver.config());
    let weak = Arc::downgrade(driver);
    let started =
        std::thread::Builder::new().name("vcache-connect".into()).stack_size(1024 * 1024).spawn(move || {
            let outcome = connect(&config);
            if let Some(driver) = Weak::upgrade(&weak) {
                driver.connected(attempt, outcome);
            }
        });
    if let Err(error) = started {
        driver
            .connected(attempt, Err(Error::connection(format!("cannot start a thread to connect: {error}"))));
    }
}

fn connect(config: &Config) -> Result<Socket> {
    let until = Instant::now() + config.connect_timeout;
    let failed = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => {
                format!("no answer within {} s (CONNECT_TIMEOUT)", config.connect_timeout.as_secs_f64())
            }
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => {
                format!("{error}. Is the server running there?")
            }
            _ => error.to_string(),
        };
        Error::connection(format!("cannot connect to {config}: {reason}"))
    };
    let socket = Socket::connect(&config.address, config.connect_timeout).map_err(failed)?;
    let replies = shake_hands(config, &socket, until).map_err(|error| match error {
        HandshakeError::Io(error) => failed(error),
        HandshakeError::Protocol(text) => Error::connection(format!(
            "cannot connect to {config}: what answers there is not a Valkey or Redis server ({text})"
        )),
    })?;
    check(config, &replies)?;
    Ok(socket)
}

enum HandshakeError {
    Io(std::io::Error),
    Protocol(String),
}

/// Who we are: a user without a password may be one that needs none, which the server decides.
fn credentials(config: &Config) -> Option<(&str, &str)> {
    match (config.username.as_deref(), config.password.as_deref()) {
        (None, None) => None,
        (user, password) => Some((user.unwrap_or("default"), password.unwrap_or_default())),
    }
}

fn handshake(config: &Config) -> Packet {
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

fn shake_hands(config: &Config, socket: &Socket, until: Instant) -> Result<Vec<Value>, HandshakeError> {
    let packet = handshake(config);
    let mut rest = &packet.bytes[..];
    while !rest.is_empty() {
        socket.set_deadline(until).map_err(HandshakeError::Io)?;
        let sent = socket.write(&[std::io::IoSlice::new(rest)]).map_err(HandshakeError::Io)?;
        rest = &rest[sent..];
    }
    let mut reader = Reader::new();
    let mut replies = Vec::with_capacity(packet.replies());
    while replies.len() < packet.replies() {
        match reader.next() {
            Ok(Some(Value::Push { .. })) => {}
            Ok(Some(reply)) => replies.push(reply),
            Ok(None) => {
                socket.set_deadline(until).map_err(HandshakeError::Io)?;
                let (count, _) = reader.fill(|room| socket.read(room)).map_err(HandshakeError::Io)?;
                if count == 0 {
                    return Err(HandshakeError::Io(std::io::Error::new(
                        std::io::ErrorKind::UnexpectedEof,
                        "the server closed the connection during the handshake",
                    )));
                }
            }
            Err(error) => return Err(HandshakeError::Protocol(error.0)),
        }
    }
    Ok(replies)
}

/// The server's own words on what it refused; they hold no password, and we add none.
fn check(config: &Config, replies: &[Value]) -> Result<()> {
    if replies.iter().any(|reply| matches!(reply, Value::ServerError(error) if error.code() == "LOADING")) {
        return Err(Error::connection(format!(
            "cannot connect to {config}: the server is still loading its data"
        )));
    }
    if let Some(Value::ServerError(error)) = replies.first() {
        let hint = match error.code() {
            "WRONGPASS" => "check the user name and the password",
            "NOAUTH" => {
                "the server wants a password: give it in LOCATION (redis://:password@host) or in OPTIONS"
            }
            "NOPROTO" => "the server is too old: vcache needs RESP3, that is Redis 6 or Valkey",
            _ => "the server refused HELLO 3",
        };
        let words = error.details().unwrap_or_default();
        return Err(Error::connection(format!(
            "cannot connect to {config}: {hint} ({} {words})",
            error.code()
        )));
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
