//! The future of one call: it submits on its first poll, and then waits for its reply. Dropping it gives the call up; the
//! reply, if one comes, is thrown away.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use redis::Value;

use super::Connection;
use super::command::Packet;
#[cfg(feature = "driver")]
use super::local::Call;
#[cfg(not(feature = "driver"))]
use crate::abi::guest::Call;
use crate::error::Result;

/// One call on its way; await it for the reply. See [`Connection::send`].
#[must_use = "nothing is sent until it is awaited"]
pub struct Request {
    connection: Connection,
    state: State,
}

enum State {
    New(Packet),
    Sent(Call),
    Over,
}

impl Request {
    pub(super) fn new(connection: Connection, packet: Packet) -> Self {
        Self { connection, state: State::New(packet) }
    }

    fn submit(&self, packet: Packet) -> Result<Call> {
        let timeout = self.connection.time_left(packet.blocking)?;
        self.connection.handle.call(packet, timeout)
    }
}

impl Future for Request {
    type Output = Result<Value>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::New(_) = self.state
            && let State::New(packet) = std::mem::replace(&mut self.state, State::Over)
        {
            match self.submit(packet) {
                Ok(call) => self.state = State::Sent(call),
                Err(error) => return Poll::Ready(Err(error.with_alias(self.connection.alias()))),
            }
        }
        let State::Sent(call) = &mut self.state else { return Poll::Pending };
        let result = ready!(call.poll(cx));
        self.state = State::Over;
        Poll::Ready(result.map_err(|error| error.with_alias(self.connection.alias())))
    }
}
