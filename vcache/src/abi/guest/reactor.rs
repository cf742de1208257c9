//! The host's reactor, as far as a tokio runtime in this library needs it to drive.

use std::ffi::c_int;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::find::table;
use crate::abi::table::FOR_EVER;
use crate::error::Result;

/// A runtime is only asked for once a call was refused, so the table is there, and it has these entries because this
/// feature wants them when it is found.
pub(crate) struct Reactor;

pub(crate) fn reactor() -> Result<Reactor> {
    table().map(|_| Reactor)
}

type Entries = (unsafe extern "C" fn() -> c_int, unsafe extern "C" fn() -> u64);

fn entries() -> Option<Entries> {
    let table = table().ok()?;
    table.reactor_fd.zip(table.reactor_drive)
}

impl Reactor {
    pub(crate) fn fd(&self) -> RawFd {
        // SAFETY: a function without arguments.
        entries().map_or(-1, |(fd, _)| unsafe { fd() })
    }

    pub(crate) fn step(&self) -> Option<Instant> {
        // SAFETY: a function without arguments.
        let micros = entries().map_or(FOR_EVER, |(_, drive)| unsafe { drive() });
        if micros == FOR_EVER { None } else { Instant::now().checked_add(Duration::from_micros(micros)) }
    }
}
