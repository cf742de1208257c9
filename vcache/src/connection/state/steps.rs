//! Reading and writing: the steps that move calls on while there is a connection.

use std::io::{self, IoSlice};
use std::time::Instant;

use redis::Value;

use super::{After, Kind, MOST_BYTES_IN_FLIGHT, MOST_IN_FLIGHT, State};
use crate::connection::cluster::Why;
use crate::connection::command::Packet;
use crate::connection::in_flight::Unasked;
use crate::connection::link::Link;
use crate::connection::refusal::WhenRefused;
use crate::error::{Error, Result};

/// Pieces of one vectored write.
const MOST_PIECES: usize = 128;
/// Bytes that one step reads, at most: then others have their turn.
const MOST_READ: usize = 1024 * 1024;

impl State {
    /// Reads, lets waiting calls in, writes, and ends what is due.
    pub(in crate::connection) fn step(&mut self, now: Instant, after: &mut After) {
        let is_drained = self.look_or_lose(now, after);
        self.admit(now);
        let wrote = self.write_or_lose(now, after);
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        // What is due may be answered by what lies in the socket, or by what the server makes of what it was just sent.
        if is_drained && (!wrote || self.put_off) {
            self.put_off = false;
            self.expire(now, after);
        } else {
            self.put_off = wrote;
        }
    }

    /// Writes what is to be written and can be.
    pub(in crate::connection) fn write_or_lose(&mut self, now: Instant, after: &mut After) -> bool {
        if !self.has_unwritten() {
            return false;
        }
        if let Err(error) = self.write(now) {
            // What it said before it closed the connection, answers among it, is still to be read.
            if self.look_or_lose(now, after) {
                self.lose(&self.lost(&error), now, after);
            }
        }
        true
    }

    /// Reads what is there. `true`: there is no more for now.
    pub(super) fn look_or_lose(&mut self, now: Instant, after: &mut After) -> bool {
        let is_drained = match self.look(now) {
            Ok(is_drained) => is_drained,
            Err(error) => {
                self.lose(&error, now, after);
                true
            }
        };
        if self.in_flight.is_empty() && matches!(&self.link, Link::Up(up) if up.leaves) {
            self.leave(now, after);
        }
        is_drained
    }

    pub(super) fn look(&mut self, now: Instant) -> Result<bool> {
        self.looked = now;
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let mut read = 0;
        loop {
            let Link::Up(up) = &mut self.link else { return Ok(true) };
            let (count, filled) = match up.reader.fill(|room| up.transport.read(room)) {
                Ok(filled) => filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if up.last_words.is_none() => return Err(self.lost(&error)),
                Err(_) => return Err(self.closed(now)),
            };
            if count == 0 {
                return Err(self.closed(now));
            }
            let (more, holds_bytes) = (up.transport.may_have_more(filled), up.transport.holds_bytes());
            self.progress = now;
            self.deliver_all(now)?;
            if !more {
                return Ok(true);
            }
            read += count;
            // No poller would tell of bytes that the transport holds.
            if read >= MOST_READ && !holds_bytes {
                return Ok(false);
            }
        }
    }

    pub(super) fn deliver_all(&mut self, now: Instant) -> Result<()> {
        loop {
            let Link::Up(up) = &mut self.link else { return Ok(()) };
            match up.reader.next() {
                Ok(Some(Value::Push { kind, data })) => self.pushes.dispatch(&kind, &data, &mut self.wakers),
                Ok(Some(reply)) => self.deliver(reply, now)?,
                Ok(None) => {
                    if up.reader.is_within_a_long_reply() {
                        self.held_up = Some(now);
                    }
                    return Ok(());
                }
                Err(error) => {
                    return Err(Error::connection(format!(
                        "{} sent what is not a reply ({}): the connection was reset; is it a Valkey or Redis server?",
                        self.config, error.0
                    )));
                }
            }
        }
    }

    /// Gives a reply to the oldest call.
    pub(super) fn deliver(&mut self, reply: Value, now: Instant) -> Result<()> {
        let (entry, result) = match self.in_flight.answered(reply) {
            Ok(Some(answered)) => answered,
            Ok(None) => return Ok(()),
            Err(Unasked(reply)) => {
                let what = match last_words(&reply) {
                    Some(words) => format!("gave the connection up: {words}"),
                    None => "sent a reply that nothing asked for: the connection was reset".to_owned(),
                };
                return Err(Error::connection(format!("{} {what}", self.config)));
            }
        };
        let Link::Up(up) = &mut self.link else { return Ok(()) };
        up.probed_until = None;
        if up.last_words.is_some() || matches!(result, Value::ServerError(_)) {
            up.last_words = last_words(&result).map(|words| Box::new((words, now)));
        }
        if self.kind != Kind::Front && is_refused_in_a_cluster(&result) {
            self.give_back_call(entry, Why::Refused(result));
            return Ok(());
        }
        if is_refused_by_a_replica(&entry.packet, &result) {
            self.refused_by_a_replica(entry, result, now);
            return Ok(());
        }
        if !up.has_replied {
            up.has_replied = true;
            self.back_off.reset();
        }
        self.wakers.extend(entry.complete(Ok(result)));
        Ok(())
    }

    /// Moves waiting calls into flight while there is room.
    pub(super) fn admit(&mut self, now: Instant) {
        if self.waiting.is_empty() || !matches!(&self.link, Link::Up(up) if up.takes_calls()) {
            return;
        }
        let in_flight = &self.in_flight;
        let (mut count, mut bytes) = (in_flight.len(), in_flight.bytes());
        let mut admitted = Vec::new();
        while let Some(entry) = self.waiting.next(|entry| {
            count == 0 || (count < MOST_IN_FLIGHT && bytes + entry.packet.bytes.len() <= MOST_BYTES_IN_FLIGHT)
        }) {
            count += 1;
            bytes += entry.packet.bytes.len();
            admitted.push(entry);
        }
        for entry in admitted {
            self.in_flight.push(entry, now);
        }
    }

    pub(super) fn write(&mut self, now: Instant) -> io::Result<()> {
        let Link::Up(up) = &mut self.link else { return Ok(()) };
        self.burst = self.in_flight.unwritten() > 1;
        let mut due = None;
        let outcome = loop {
            if !self.in_flight.has_unwritten() {
                break match up.transport.flush() {
                    Ok(()) => up.transport.want_write(false),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => up.transport.want_write(true),
                    Err(error) => Err(error),
                };
            }
            let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
            let count = self.in_flight.pieces(&mut pieces);
            match up.transport.write(&pieces[..count]) {
                Ok(sent) => {
                    let next = self.in_flight.advance(sent, now);
                    due = due.into_iter().chain(next).min();
                    if self.in_flight.is_sending_the_oldest() {
                        self.progress = now;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let next = self.in_flight.blocked(now);
                    due = due.into_iter().chain(next).min();
                    break up.transport.want_write(true);
                }
                Err(error) => break Err(error),
            }
        };
        // A caller may wait without end; its connection does not.
        let due = due.into_iter().chain(self.dead_at()).min();
        self.come_by(due);
        outcome
    }
}

/// Where servers begin to quote the arguments of a command that they do not know.
const ARGUMENTS: &str = ", with args beginning with";

/// The text of an error reply, without what a caller sent: others may see it too.
fn last_words(reply: &Value) -> Option<String> {
    match reply {
        Value::ServerError(error) => {
            let details = error.details().unwrap_or_default();
            let details = details.split(ARGUMENTS).next().unwrap_or_default();
            Some(format!("{} {details}", error.code()).trim_end().to_owned())
        }
        _ => None,
    }
}

/// Whether a server did not execute all of a call, for reasons that a cluster knows a way around.
fn is_refused_in_a_cluster(result: &Value) -> bool {
    match result {
        Value::ServerError(_) => WhenRefused::in_a_cluster(result).is_some(),
        Value::Array(replies) => replies.iter().any(|reply| WhenRefused::in_a_cluster(reply).is_some()),
        _ => false,
    }
}

/// Whether a server answered that it is a replica, and did nothing.
fn is_refused_by_a_replica(packet: &Packet, result: &Value) -> bool {
    let replies = match result {
        Value::ServerError(_) => std::slice::from_ref(result),
        Value::Array(replies) if packet.replies > 1 => replies,
        _ => return false,
    };
    packet.when_refused(replies) == Some(WhenRefused::NotPrimary)
}
