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
pub struct ReplyFuture {
    connection: Connection,
    state: State,
}

pub(super) enum State {
    New(Packet),
    Sent(Call),
    Over,
}

impl ReplyFuture {
    pub(super) fn new(connection: Connection, packet: Packet) -> Self {
        Self { connection, state: State::New(packet) }
    }
}

impl State {
    pub(super) fn poll(&mut self, connection: &Connection, cx: &mut Context<'_>) -> Poll<Result<Value>> {
        if let Self::New(_) = self
            && let Self::New(packet) = std::mem::replace(self, Self::Over)
        {
            match submit(connection, packet) {
                Ok(call) => *self = Self::Sent(call),
                Err(error) => return Poll::Ready(Err(error.with_alias(connection.alias()))),
            }
        }
        let Self::Sent(call) = self else { return Poll::Pending };
        let result = ready!(call.poll(cx));
        *self = Self::Over;
        Poll::Ready(result.map_err(|error| error.with_alias(connection.alias())))
    }
}

fn submit(connection: &Connection, packet: Packet) -> Result<Call> {
    let limits = connection.limits(packet.blocking)?;
    connection.handle.call(packet, limits)
}

impl Future for ReplyFuture {
    type Output = Result<Value>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.state.poll(&this.connection, cx)
    }
}
