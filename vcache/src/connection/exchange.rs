//! A question and its answers on a transport that blocks: for connector threads.

use std::io;
use std::time::Instant;

use redis::Value;

use super::command::Packet;
use super::resp::Reader;
use super::transport::Transport;

/// Why the answers did not come.
pub(super) enum Broken {
    Io(io::Error),
    Protocol(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Sends a packet and reads its answers within the deadline. What came before something broke is in `replies`.
pub(super) fn exchange(
    packet: &Packet,
    transport: &mut Transport,
    until: Instant,
    reader: &mut Reader,
    replies: &mut Vec<Value>,
) -> Result<(), Broken> {
    let mut rest = &packet.bytes[..];
    let mut broken = None;
    while !rest.is_empty() && broken.is_none() {
        transport.set_deadline(until)?;
        match transport.write(&[io::IoSlice::new(rest)]) {
            Ok(sent) => rest = &rest[sent..],
            // It closed the connection. What it said before that is still to be read.
            Err(error) => broken = Some(error),
        }
    }
    if broken.is_none() {
        broken = transport.flush().err();
    }
    while replies.len() < packet.replies {
        match reader.next() {
            Ok(Some(Value::Push { .. })) => {}
            Ok(Some(reply)) => replies.push(reply),
            Ok(None) => {
                transport.set_deadline(until)?;
                let (count, _) = reader
                    .fill(|room| transport.read(room))
                    .map_err(|error| broken.take().unwrap_or(error))?;
                if count == 0 {
                    return Err(Broken::Io(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        match transport {
                            Transport::Plain(_) => {
                                "the server closed the connection during the handshake. If it wants TLS, begin the URL \
                                 with rediss:// or valkeys://"
                            }
                            Transport::Tls(_) => "the server closed the connection during the handshake",
                        },
                    )));
                }
            }
            Err(error) => return Err(Broken::Protocol(error.0)),
        }
    }
    Ok(())
}

/// The text of a reply; None for another kind of reply, or what is not UTF-8.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// What is said in pairs: a map, or a list of names and values in turns.
pub(super) fn pairs(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Map(fields) => {
            fields.iter().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
        }
        Value::Array(words) => {
            words.chunks_exact(2).filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect()
        }
        _ => Vec::new(),
    }
}
