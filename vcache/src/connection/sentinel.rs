//! Asking sentinels where the primary is, and its replicas. Blocking, for connector threads.
//!
//! They are asked at each connect. The first has a head start before the next one is asked as well, each on a thread that ends
//! with its answer, so that a sentinel which is dead, or hangs, holds nothing up. Which answer comes first counts; whether the
//! server there is a primary, its own handshake tells.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;

use super::command::Packet;
use super::exchange::{Broken, exchange, pairs, text};
use super::race;
use super::resp::Reader;
use super::socket::Socket;
use super::tls::{self, TlsSocket};
use super::transport::Transport;
use crate::config::Sentinels;

/// How long a sentinel may think before the next one is asked as well.
const HEAD_START: Duration = Duration::from_millis(50);

/// What a sentinel knows: hosts and ports.
pub(super) struct Found {
    pub(super) primary: (String, u16),
    /// Those that can be read, as far as the sentinel knows.
    pub(super) replicas: Vec<(String, u16)>,
}

/// Where the primary is, and its replicas.
///
/// # Errors
/// Why not, in words: what the sentinels said.
pub(super) fn find(
    sentinels: &Sentinels,
    turn: usize,
    with_replicas: bool,
    until: Instant,
) -> Result<Found, String> {
    let sentinels = Arc::new(sentinels.clone());
    let count = sentinels.hosts.len();
    let (answers, answered) = mpsc::channel();
    let mut refusals: Vec<String> = Vec::new();
    let mut asked = 0;
    while refusals.len() < count {
        if asked < count {
            // Another one begins each time: one that is behind the others is not asked first for ever.
            let number = (turn + asked) % count;
            asked += 1;
            let (sentinels, answers) = (Arc::clone(&sentinels), answers.clone());
            let started = thread::Builder::new()
                .name("vcache-sentinel".into())
                .stack_size(512 * 1024)
                .spawn(move || answers.send(ask(&sentinels, number, with_replicas, until)));
            if let Err(error) = started {
                refusals.push(format!("cannot start a thread: {error}"));
                continue;
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        let patience = if asked < count { left.min(HEAD_START) } else { left };
        match answered.recv_timeout(patience) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(refusal)) => refusals.push(refusal),
            Err(RecvTimeoutError::Timeout) if left > patience => {}
            Err(_) => {
                refusals.push("no answer from the others in time".to_owned());
                break;
            }
        }
    }
    Err(format!("no sentinel says where '{}' is: {}", sentinels.service, refusals.join("; ")))
}

/// Asks one. An error names it.
fn ask(sentinels: &Sentinels, number: usize, with_replicas: bool, until: Instant) -> Result<Found, String> {
    let (host, port) = &sentinels.hosts[number];
    try_to_ask(sentinels, host, *port, with_replicas, until).map_err(|why| format!("{host}:{port}: {why}"))
}

fn try_to_ask(
    sentinels: &Sentinels,
    host: &str,
    port: u16,
    with_replicas: bool,
    until: Instant,
) -> Result<Found, String> {
    let in_words = |error: io::Error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => error.to_string(),
    };
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(in_words)?.collect();
    let (socket, _) = race::connect(&race::in_turns(found), until).map_err(in_words)?;
    rustix::io::ioctl_fionbio(&socket, false).map_err(|error| in_words(error.into()))?;
    let socket = Socket::new(socket);
    let mut transport = match &sentinels.tls {
        None => Transport::Plain(socket),
        Some(tls) => match TlsSocket::connect(socket, tls, &[host], until) {
            Ok(socket) => Transport::Tls(Box::new(socket)),
            Err(tls::Failure::Io(error)) => return Err(in_words(error)),
            Err(tls::Failure::Refused(words)) => return Err(words),
        },
    };
    let packet = question(sentinels, with_replicas);
    let (mut reader, mut replies) = (Reader::new(), Vec::new());
    let outcome = exchange(&packet, &mut transport, until, &mut reader, &mut replies);
    // A sentinel that tells nothing of replicas has none, as far as we are concerned.
    let replicas = if with_replicas && outcome.is_ok() { replies.pop() } else { None };
    if let Some(Value::ServerError(error)) =
        replies.iter().find(|reply| matches!(reply, Value::ServerError(_)))
    {
        let words = format!("{} {}", error.code(), error.details().unwrap_or_default());
        return Err(match error.code() {
            "WRONGPASS" | "NOAUTH" => format!("check sentinel_username and sentinel_password ({words})"),
            "ERR" if words.contains("unknown command") => "this is no sentinel".to_owned(),
            _ => words,
        });
    }
    match outcome {
        Ok(()) => {}
        Err(Broken::Io(error)) => return Err(in_words(error)),
        Err(Broken::Protocol(text)) => return Err(format!("this is no sentinel ({text})")),
    }
    let primary = replies.last().and_then(address);
    let primary = primary.ok_or_else(|| format!("it does not know '{}'", sentinels.service))?;
    let replicas = match &replicas {
        Some(Value::Array(rows)) => rows.iter().filter_map(replica).collect(),
        _ => Vec::new(),
    };
    Ok(Found { primary, replicas })
}

fn question(sentinels: &Sentinels, with_replicas: bool) -> Packet {
    let mut packet = Packet::unchecked();
    match (sentinels.username.as_deref(), sentinels.password.as_deref()) {
        (None, None) => {}
        (None, Some(password)) => {
            packet.then("AUTH", 1).arg(password.as_bytes());
        }
        (Some(user), password) => {
            packet.then("AUTH", 2).arg(user.as_bytes()).arg(password.unwrap_or_default().as_bytes());
        }
    }
    packet.then("SENTINEL", 2).arg(b"GET-MASTER-ADDR-BY-NAME").arg(sentinels.service.as_bytes());
    if with_replicas {
        packet.then("SENTINEL", 2).arg(b"REPLICAS").arg(sentinels.service.as_bytes());
    }
    packet
}

/// The address in an answer; None if the sentinel knows none.
fn address(reply: &Value) -> Option<(String, u16)> {
    let Value::Array(parts) = reply else { return None };
    let [host, port] = parts.as_slice() else { return None };
    Some((text(host)?, text(port)?.parse().ok()?))
}

/// The address of a replica that is there and has what its primary has; None for another.
fn replica(row: &Value) -> Option<(String, u16)> {
    let said = pairs(row);
    let of = |wanted: &str| said.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let is_gone = of("flags")?.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected"));
    let is_current = of("master-link-status").is_none_or(|status| status == "ok");
    (!is_gone && is_current).then_some((of("ip")?.to_owned(), of("port")?.parse().ok()?))
}
