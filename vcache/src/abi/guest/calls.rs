//! Handles and calls by way of the table.

use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use redis::Value;

use super::find::table;
use super::{errors, replies};
use crate::abi::border::contained;
use crate::abi::sized::{read_sized, room};
use crate::abi::table::{self, Command, FOR_EVER, Reply, Status, Table, Text};
#[cfg(not(feature = "__abi_older"))]
use crate::connection::Primaries;
use crate::connection::command::Packet;
use crate::connection::limits::Limits;
use crate::connection::policy::Blocking;
use crate::connection::slot::Slot;
use crate::error::{Error, Result};

/// The connection of one alias, at the host's.
pub(crate) struct Handle {
    table: &'static Table,
    view: table::Connection,
}

// SAFETY: the contract: a handle may be used by any thread, and its texts live as long as it does.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    pub(crate) fn find(alias: &str) -> Result<Self> {
        let table = table()?;
        let mut view = room::<table::Connection>();
        let mut error = ptr::null_mut();
        // SAFETY: the text lives during the call, and the places are ours.
        let status = unsafe { (table.acquire)(Text::of(alias), view.as_mut_ptr(), &raw mut error) };
        if status == Status::OK {
            // SAFETY: it is ours, and the rest of it is zero.
            let view = unsafe { read_sized(view.as_ptr()) };
            return view.map(|view| Self { table, view }).ok_or_else(|| {
                Error::configuration(
                    "django-vcache gave a connection that is smaller than any that there was",
                )
            });
        }
        // SAFETY: the contract: an error, or null as we left it.
        Err(unsafe { errors::take(table, error, status) })
    }

    pub(crate) fn alias(&self) -> &str {
        // SAFETY: it lives as long as the handle; and it is UTF-8, because a host answers with the alias that it was given,
        // which was a `str`.
        unsafe { std::str::from_utf8_unchecked(self.view.alias.bytes()) }
    }

    #[cfg(feature = "admission")]
    pub(crate) fn key_head(&self) -> &str {
        // SAFETY: as for the alias: it was made of a `str`.
        unsafe { std::str::from_utf8_unchecked(self.view.key_head.bytes()) }
    }

    pub(crate) fn db(&self) -> i64 {
        self.view.db
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        Duration::from_micros(self.view.response_timeout)
    }

    pub(crate) fn call(&self, packet: Packet, limits: Limits) -> Result<Call> {
        packet.check()?;
        match self.submit_or_drive(&packet, &limits) {
            Err(Refusal::Forked) => Self::find(self.alias())?.submit_or_drive(&packet, &limits),
            outcome => outcome,
        }
        .map_err(Refusal::into_error)
    }

    /// As the host's own handle says it.
    pub(crate) fn owners(&self) -> Result<Vec<Option<usize>>> {
        match self.ask_for_owners() {
            Err(Refusal::Forked) => Self::find(self.alias())?.ask_for_owners(),
            outcome => outcome,
        }
        .map_err(Refusal::into_error)
    }

    #[cfg(feature = "__abi_older")]
    fn ask_for_owners(&self) -> std::result::Result<Vec<Option<usize>>, Refusal> {
        Err(Refusal::Error(no_owners(self.table)))
    }

    #[cfg(not(feature = "__abi_older"))]
    fn ask_for_owners(&self) -> std::result::Result<Vec<Option<usize>>, Refusal> {
        let Some(owners) = self.table.owners else { return Err(Refusal::Error(no_owners(self.table))) };
        let mut numbers = vec![0_u64; usize::from(Primaries::SLOTS)];
        let mut error = ptr::null_mut();
        // SAFETY: the handle is ours, and the places are ours.
        let status = unsafe { owners(self.view.handle, numbers.as_mut_ptr(), numbers.len(), &raw mut error) };
        match status {
            Status::OK if numbers.iter().all(|number| *number == 0) => Ok(Vec::new()),
            Status::OK => {
                let owner = |number: u64| usize::try_from(number).ok().filter(|number| *number != 0);
                Ok(numbers.into_iter().map(owner).collect())
            }
            Status::FORKED => Err(Refusal::Forked),
            // SAFETY: the contract: an error, or null as we left it.
            status => Err(Refusal::Error(unsafe { errors::take(self.table, error, status) })),
        }
    }

    /// Submits, and if nothing drives on this thread, has this library's own runtime do it.
    fn submit_or_drive(&self, packet: &Packet, limits: &Limits) -> std::result::Result<Call, Refusal> {
        match self.submit(packet, limits, 0) {
            #[cfg(feature = "tokio")]
            Err(Refusal::NobodyDrives) if crate::tokio_driver::ensure() => {
                let call = self.submit(packet, limits, Command::DRIVEN)?;
                crate::tokio_driver::send_soon();
                Ok(call)
            }
            outcome => outcome,
        }
    }

    fn submit(&self, packet: &Packet, limits: &Limits, flags: u64) -> std::result::Result<Call, Refusal> {
        let (blocking, blocks) = match packet.blocking {
            Blocking::No => (0, 0),
            Blocking::Yes(None) => (Command::BLOCKS, FOR_EVER),
            Blocking::Yes(Some(seconds)) => {
                (Command::BLOCKS, micros(Duration::try_from_secs_f64(seconds).ok()))
            }
        };
        let left = limits.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A host before 1.2 knows one time only, which it counts from now on.
        let timeout = match self.table.header.minor {
            0 | 1 => limits.shortest().into_iter().chain(left).min(),
            _ => limits.timeout,
        };
        let slot = Arc::new(Slot::new());
        let command = Command {
            size: size_of::<Command>(),
            bytes: packet.bytes.as_ptr(),
            len: packet.bytes.len(),
            replies: packet.replies,
            flags: flags | blocking | if packet.repeatable { Command::IDEMPOTENT } else { 0 },
            blocks,
            timeout: micros(timeout),
            done,
            context: Arc::into_raw(Arc::clone(&slot)).cast_mut().cast(),
            patience: limits.patience.map_or(0, |patience| micros(Some(patience)).max(1)),
            deadline: left.map_or(0, |left| micros(Some(left)).max(1)),
            slot: limits.slot.map_or(0, |slot| u64::from(slot) + 1),
            #[cfg(feature = "__abi_longer")]
            of_tomorrow: u64::MAX,
        };
        let (mut ticket, mut error) = (ptr::null(), ptr::null_mut());
        // SAFETY: the handle is ours, the command and its bytes live during the call, and the places are ours.
        let status = unsafe {
            (self.table.submit)(self.view.handle, &raw const command, &raw mut ticket, &raw mut error)
        };
        if status == Status::OK {
            return Ok(Call { table: self.table, slot, ticket });
        }
        // SAFETY: the call was refused, so `done` will not be called and the context is ours again.
        drop(unsafe { Context_::from_raw(command.context.cast()) });
        Err(match status {
            Status::FORKED => Refusal::Forked,
            Status::NOBODY_DRIVES => Refusal::NobodyDrives,
            // SAFETY: the contract: an error, or null as we left it.
            status => Refusal::Error(unsafe { errors::take(self.table, error, status) }),
        })
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        // SAFETY: the handle is ours.
        unsafe { (self.table.retain)(self.view.handle) };
        Self { table: self.table, view: self.view }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and this is its end.
        unsafe { (self.table.release)(self.view.handle) };
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' of django-vcache", self.alias())
    }
}

/// Why the host did not take a call.
enum Refusal {
    Forked,
    NobodyDrives,
    Error(Error),
}

impl Refusal {
    fn into_error(self) -> Error {
        match self {
            Self::Forked => Error::connection("the connection is the parent process's: acquire it again"),
            Self::NobodyDrives => Error::nobody_drives(),
            Self::Error(error) => error,
        }
    }
}

/// What the host said of a call: one of the two.
struct Outcome {
    table: &'static Table,
    reply: *mut Reply,
    error: *mut table::Error,
}

// SAFETY: the contract: they may be read and freed by any thread.
unsafe impl Send for Outcome {}

impl Outcome {
    fn into_result(self) -> Result<Value> {
        if self.reply.is_null() {
            let error = self.error;
            let table = self.table;
            std::mem::forget(self);
            // SAFETY: the contract: an error, ours.
            return Err(unsafe { errors::take(table, error, Status::ERROR) });
        }
        // SAFETY: the contract: a reply, ours until it is freed by our drop.
        unsafe { replies::read(self.reply) }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        // SAFETY: they are ours, and this is their end; freeing null does nothing.
        unsafe {
            (self.table.reply_free)(self.reply);
            (self.table.error_free)(self.error);
        }
    }
}

type Context_ = Arc<Slot<Outcome>>;

/// The host's answer, on whichever thread drives.
unsafe extern "C" fn done(context: *mut c_void, reply: *mut Reply, error: *mut table::Error) {
    contained((), || {
        // SAFETY: the context that `submit` made, given back once.
        let slot = unsafe { Context_::from_raw(context.cast()) };
        let Ok(table) = table() else { return };
        let outcome = Outcome { table, reply, error };
        if let Some(waker) = slot.fill(outcome) {
            waker.wake();
        }
    });
}

/// One call on its way. Dropping it gives it up.
pub(crate) struct Call {
    table: &'static Table,
    slot: Context_,
    ticket: *const c_void,
}

// SAFETY: the contract: a ticket may be given back by any thread.
unsafe impl Send for Call {}
// SAFETY: nothing is done with the ticket but to give it back, by the owner.
unsafe impl Sync for Call {}

impl Call {
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Value>> {
        Poll::Ready(ready!(self.slot.poll(cx)).into_result())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.slot.abandon();
        // SAFETY: the ticket is ours, and this is its end.
        if unsafe { (self.table.cancel)(self.ticket) } == 1 {
            // SAFETY: the host gave the context back.
            drop(unsafe { Context_::from_raw(Arc::as_ptr(&self.slot)) });
        }
    }
}

fn no_owners(table: &Table) -> Error {
    // SAFETY: the host's version is static.
    let version = unsafe { table.header.version.to_string() }.unwrap_or_default();
    Error::configuration(format!(
        "django-vcache {version} cannot tell an extension module which nodes a cluster has: install a later version"
    ))
}

fn micros(duration: Option<Duration>) -> u64 {
    duration.map_or(FOR_EVER, |duration| u64::try_from(duration.as_micros()).unwrap_or(FOR_EVER))
}
