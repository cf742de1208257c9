//! The host's reactor, as far as a tokio runtime in this library needs it to drive.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::find::table;
use crate::error::Result;
use crate::abi::table::FOR_EVER;

/// A runtime is only asked for once a call was refused, so the table is there, and it has these entries because this
/// feature wants them when it is found.
pub(crate) struct Reactor;

pub(crate) fn reactor() -> Result<Reactor> {
    table().map(|_| Reactor)
}

impl Reactor {
    pub(crate) fn fd(&self) -> RawFd {
        // SAFETY: a function without arguments.
        table().map_or(-1, |table| unsafe { (table.reactor_fd)() })
    }

    pub(crate) fn step(&self) -> Option<Instant> {
        // SAFETY: a function without arguments.
        let micros = table().map_or(FOR_EVER, |table| unsafe { (table.reactor_drive)() });
        if micros == FOR_EVER { None } else { Instant::now().checked_add(Duration::from_micros(micros)) }
    }
}
