//! The future of one call: it submits on its first poll, tells whoever drives here that there is something to send, and
//! then waits on its slot. Dropping it gives the call up; the reply, if one comes, is thrown away.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use redis::Value;

use super::command::{Blocking, Packet};
use super::driver::Accepted;
use super::slot::Slot;
use super::{Connection, Driver};
use crate::context::{self, Context as Driving};
use crate::error::Result;

/// One call on its way; await it for the reply. See [`Connection::send`].
#[must_use = "nothing is sent until it is awaited"]
pub struct Request {
    connection: Connection,
    state: State,
}

enum State {
    New(Packet),
    Sent { slot: Arc<Slot>, driver: Arc<Driver>, dedicated: bool },
    Over,
}

impl Request {
    pub(super) fn new(connection: Connection, packet: Packet) -> Self {
        Self { connection, state: State::New(packet) }
    }

    fn submit(&self, packet: Packet) -> Result<State> {
        packet.check_framing()?;
        let context = context::current();
        #[cfg(feature = "tokio")]
        let on_tokio = context == Driving::Elsewhere && crate::tokio_driver::ensure();
        #[cfg(not(feature = "tokio"))]
        let on_tokio = false;
        if context == Driving::Elsewhere && !on_tokio {
            return Err(crate::blocking::nobody_drives());
        }
        let dedicated = packet.blocking != Blocking::No;
        let timeout = self.connection.time_left(packet.blocking)?;
        let driver = if dedicated { self.connection.dedicated_driver() } else { self.connection.driver() };
        let slot = Arc::new(Slot::new());
        let accepted = driver.submit(packet, &slot, timeout)?;
        if context == Driving::Loop && (dedicated || accepted == Accepted::Waiting) {
            context::want_prompt_cancel();
        }
        match context {
            // An idle connection sends at once, which saves a loop iteration; a busy one collects what comes.
            Driving::Loop if accepted == Accepted::Busy => context::send_later(Arc::clone(&driver)),
            Driving::Loop | Driving::Blocking => driver.flush(),
            #[cfg(feature = "tokio")]
            Driving::Elsewhere => crate::tokio_driver::send_soon(),
            #[cfg(not(feature = "tokio"))]
            Driving::Elsewhere => {}
        }
        Ok(State::Sent { slot, driver, dedicated })
    }
}

impl Future for Request {
    type Output = Result<Value>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::New(_) = self.state
            && let State::New(packet) = std::mem::replace(&mut self.state, State::Over)
        {
            match self.submit(packet) {
                Ok(sent) => self.state = sent,
                Err(error) => return Poll::Ready(Err(error.with_alias(self.connection.alias()))),
            }
        }
        let State::Sent { slot, .. } = &self.state else { return Poll::Pending };
        let result = ready!(slot.poll(cx));
        if let State::Sent { driver, dedicated: true, .. } = std::mem::replace(&mut self.state, State::Over) {
            self.connection.give_back(driver);
        }
        Poll::Ready(result.map_err(|error| error.with_alias(self.connection.alias())))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let State::Sent { slot, driver, dedicated } = &self.state {
            slot.abandon();
            if *dedicated {
                // The server sits on the command: only closing the connection takes it back.
                driver.close();
            } else {
                driver.abandoned();
            }
        }
    }
}
