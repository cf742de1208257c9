//! A connection authenticates anew before its credentials expire: whether it is due, and what came of it.

use std::sync::Weak;
use std::time::Instant;

use super::{After, State};
use crate::config::Credentials;
use crate::connection::driver::Driver;
use crate::connection::handshake::authentication;
use crate::connection::in_flight::Entry;
use crate::connection::limits::Limits;
use crate::connection::link::{Link, Up};
use crate::connection::renewal::{Answer, Renewal};

impl State {
    /// Begins if it is due: new credentials are asked for without the mutex.
    pub(super) fn renew_if_due(&mut self, now: Instant, after: &mut After) {
        if let Link::Up(Up { renewal: Some(renewal), since, .. }) = &mut self.link
            && renewal.due.is_some_and(|due| due <= now)
        {
            renewal.due = None;
            after.renew = Some(*since);
        }
    }

    /// New credentials have come for the connection that was made then: they go between two calls.
    pub(in crate::connection) fn renew_with(
        &mut self,
        since: Instant,
        minted: &Credentials,
        driver: Weak<Driver>,
        now: Instant,
        after: &mut After,
    ) {
        if self.renewal_of(since).is_none() {
            return;
        }
        let answer = Answer::new(driver, since, minted);
        let packet = authentication(&self.config, minted);
        self.in_flight.push(Entry::new(packet, Some(answer), Limits::default()), now);
        self.write_or_lose(now, after);
    }

    /// It was done, and is due again at `next`; or it failed. What failed is tried again later, and is due then.
    pub(in crate::connection) fn renewed(
        &mut self,
        since: Instant,
        outcome: Result<Option<Instant>, ()>,
        now: Instant,
    ) {
        let Some(renewal) = self.renewal_of(since) else { return };
        match outcome {
            Ok(next) => renewal.done(next),
            Err(()) => renewal.failed(now),
        }
        let due = renewal.due;
        self.come_by(due);
    }

    /// That of the connection that was made then, if it is still there.
    fn renewal_of(&mut self, at: Instant) -> Option<&mut Renewal> {
        match &mut self.link {
            Link::Up(Up { renewal: Some(renewal), since, .. }) if *since == at => Some(renewal),
            _ => None,
        }
    }

    /// When it is due, as a deadline of the connection.
    pub(super) fn renewal_due(&self) -> Option<Instant> {
        match &self.link {
            Link::Up(Up { renewal: Some(renewal), .. }) => renewal.due,
            _ => None,
        }
    }
}
