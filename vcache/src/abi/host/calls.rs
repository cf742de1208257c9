//! Connections, commands and tickets.

use std::cell::{RefCell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::iter;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use redis::Value;

use super::replies::HostReply;
use super::{errors, guarded};
use crate::abi::border::contained;
use crate::abi::sized::{read_sized, write_sized};
use crate::abi::table::{self, Command, FOR_EVER, Reply, Status, Text};
use crate::connection::Primaries;
use crate::connection::command::Packet;
use crate::connection::limits::Limits;
use crate::connection::local::{Handle, Route};
use crate::connection::policy::Blocking;
use crate::connection::receiver::{Outcome, Receiver};
use crate::connection::slot::Slot;
use crate::error::{Error, Result};
use crate::python::really_attached;
use crate::scope::{self, Driving};

pub(super) unsafe extern "C" fn acquire(
    alias: Text,
    connection: *mut table::Connection,
    error: *mut *mut table::Error,
) -> Status {
    guarded(|| {
        // SAFETY: the caller's text lives during the call.
        let found = find(unsafe { alias.bytes() });
        match found {
            Ok(handle) => {
                let view = table::Connection {
                    size: size_of::<table::Connection>(),
                    alias: Text::of(handle.alias()),
                    db: handle.db(),
                    response_timeout: micros(handle.response_timeout()),
                    key_head: Text::of(handle.key_head()),
                    // The texts lie in what the handle points to, so they stay where they are.
                    handle: handle.into_raw(),
                    #[cfg(feature = "__abi_longer")]
                    of_tomorrow: u64::MAX,
                };
                // SAFETY: the caller gives a place to write to, and has written how much room there is.
                if unsafe { write_sized(connection, &view) } {
                    return Status::OK;
                }
                // SAFETY: it was not handed over.
                drop(unsafe { Handle::from_raw(view.handle) });
                refused(error, "the place for a connection is smaller than any that there was")
            }
            Err(given) => {
                // SAFETY: as above.
                unsafe { error.write(given) };
                Status::ERROR
            }
        }
    })
}

/// The handle of an alias, usable in this process; Python is asked about one that is not known.
fn find(alias: &[u8]) -> std::result::Result<Handle, *mut table::Error> {
    // What is known was once text, so most aliases need no look at their encoding.
    let handle = Handle::known(alias).map_or_else(|| configure(alias), Ok);
    handle.inspect(Handle::refresh)
}

#[cold]
fn configure(alias: &[u8]) -> std::result::Result<Handle, *mut table::Error> {
    let Ok(alias) = std::str::from_utf8(alias) else {
        return Err(errors::give(&Error::configuration("a cache alias is not UTF-8")));
    };
    really_attached(|py| {
        let connection = crate::python::connection_for(py, alias);
        connection
            .map(crate::connection::Connection::into_handle)
            .map_err(|error| errors::give_exception(py, error))
    })
    .unwrap_or_else(|| match Handle::find(alias) {
        Ok(handle) => Ok(handle),
        Err(error) => Err(errors::give(&error)),
    })
}

pub(super) unsafe extern "C" fn retain(handle: *const c_void) {
    contained((), || {
        // SAFETY: a handle of `acquire`, which the caller holds a reference to.
        let handle = unsafe { borrow(handle) };
        let _ = Handle::clone(&handle).into_raw();
    });
}

pub(super) unsafe extern "C" fn release(handle: *const c_void) {
    contained((), || {
        // SAFETY: a handle of `acquire`, and a reference that the caller gives up.
        drop(unsafe { Handle::from_raw(handle) });
    });
}

/// # Safety
/// The handle must come from `acquire` and not have been released.
unsafe fn borrow(handle: *const c_void) -> ManuallyDrop<Handle> {
    // SAFETY: the caller's promise; the reference is not given up.
    ManuallyDrop::new(unsafe { Handle::from_raw(handle) })
}

/// One call of a guest's, and the reply to it: one allocation, of which the guest has a part as its ticket, and later one
/// as its reply. The driving thread runs `wake`, with no lock held.
#[repr(C)]
struct Ticket {
    /// The first field, so that its address is the ticket's.
    reply: UnsafeCell<HostReply>,
    slot: Slot<Result<Value>>,
    /// Taken when the call is given up: the driver has the ticket until the reply comes, and is not to own itself.
    route: UnsafeCell<Option<Route>>,
    done: unsafe extern "C" fn(*mut c_void, *mut Reply, *mut table::Error),
    context: *mut c_void,
}

// SAFETY: `done` may be called from any thread with its context: that is the contract.
unsafe impl Send for Ticket {}
// SAFETY: as above; and it is called once, because a slot is taken once. The reply is written before that by the one who
// took it, and then only read. The route is taken by the owner of the ticket once the slot is abandoned, after which no one
// asks for it.
unsafe impl Sync for Ticket {}

thread_local! {
    /// Tickets for the calls to come: they are too large for the allocator to keep many at hand.
    static SPARE: RefCell<Vec<Arc<Ticket>>> = const { RefCell::new(Vec::new()) };
}

/// Tickets that a thread keeps, of some 250 bytes each.
const MOST_SPARE: usize = 512;

impl Ticket {
    fn new(route: Route, command: &Command) -> Arc<Self> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        if let Some(mut spare) = spare
            && let Some(ticket) = Arc::get_mut(&mut spare)
        {
            ticket.slot = Slot::new();
            ticket.route = UnsafeCell::new(Some(route));
            (ticket.done, ticket.context) = (command.done, command.context);
            return spare;
        }
        Arc::new(Self {
            reply: UnsafeCell::new(HostReply::empty()),
            slot: Slot::new(),
            route: UnsafeCell::new(Some(route)),
            done: command.done,
            context: command.context,
        })
    }

    /// Keeps it for another call, if this was the last reference.
    fn put_away(mut self: Arc<Self>) {
        if let Some(ticket) = Arc::get_mut(&mut self) {
            drop(ticket.route.get_mut().take());
            let _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < MOST_SPARE {
                    spare.push(self);
                }
            });
        }
    }

    /// # Safety
    /// The call must not have been given up.
    unsafe fn route(&self) -> Option<&Route> {
        // SAFETY: the caller's promise: it is not being taken.
        unsafe { (*self.route.get()).as_ref() }
    }
}

impl Receiver for Ticket {
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker> {
        self.slot.put(outcome.result).then(|| Waker::from(self))
    }

    fn is_abandoned(&self) -> bool {
        self.slot.is_abandoned()
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        let Some(result) = self.slot.take() else { return };
        // SAFETY: its result was taken just now, so it was not given up and cannot be.
        unsafe { self.route() }.iter().for_each(|route| route.finished());
        let (done, context) = (self.done, self.context);
        let (reply, error) = match result {
            Ok(value) => {
                // SAFETY: the slot's result was there once, so no one else writes, and no one reads before `done`.
                unsafe { (*self.reply.get()).fill(value) };
                (Arc::into_raw(self).cast_mut().cast(), ptr::null_mut())
            }
            Err(error) => (ptr::null_mut(), errors::give(&error)),
        };
        // SAFETY: the contract; the slot's result was there once, and now it is taken.
        unsafe { done(context, reply, error) };
    }
}

pub(super) unsafe extern "C" fn reply_free(reply: *mut Reply) {
    if reply.is_null() {
        return;
    }
    contained((), || {
        // SAFETY: it is a ticket's first field, whose reference was given up with it, and it is given back once.
        let call = unsafe { Arc::from_raw(reply.cast_const().cast::<Ticket>()) };
        // The ticket may live on, and the reply may be large.
        // SAFETY: the reply is its reader's alone, who has done with it.
        unsafe { (*call.reply.get()).clear() };
        call.put_away();
    });
}

pub(super) unsafe extern "C" fn submit(
    handle: *const c_void,
    command: *const Command,
    ticket: *mut *const c_void,
    error: *mut *mut table::Error,
) -> Status {
    guarded(|| {
        // SAFETY: a handle of `acquire`, held by the caller.
        let handle = unsafe { borrow(handle) };
        if handle.is_stale() {
            return Status::FORKED;
        }
        // SAFETY: the caller's command lives during the call, and its first field says how much of it there is.
        let Some(command) = (unsafe { read_sized(command) }) else {
            return refused(error, "a command is smaller than any that there was");
        };
        if command.flags & !Command::KNOWN != 0 {
            return refused(error, "a command has flags that are not known here");
        }
        let Ok(slot) = slot(&command) else {
            return refused(error, "a command is for a slot that there is not");
        };
        let driven = command.flags & Command::DRIVEN != 0;
        if scope::driving() == Driving::Elsewhere && !driven {
            return Status::NOBODY_DRIVES;
        }
        // SAFETY: the caller's bytes live during the call.
        let packet = match unsafe { packet(&command) } {
            Ok(packet) => packet,
            Err(why) => return failed(error, &why),
        };
        let route = match handle.route(&packet) {
            Ok(route) => route,
            Err(why) => return failed(error, &why),
        };
        let timeout = timeout(&command, packet.blocking, &handle);
        let call = Ticket::new(route, &command);
        let receiver = Arc::clone(&call) as Arc<dyn Receiver>;
        let submitted = contained(None, || {
            let limits = Limits { slot, ..limits(&command, timeout) };
            // SAFETY: the caller does not have the ticket yet, so it cannot have given it up.
            let route = unsafe { call.route() };
            Some(route.map_or(Ok(()), |route| route.submit(packet, receiver, limits, driven)))
        });
        match submitted {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                // Nothing is called, also if the driver kept it.
                call.slot.abandon();
                return failed(error, &why);
            }
            None if call.slot.abandon_unfilled() => return Status::PANIC,
            // It panicked, but had the call already, and may have answered it: that stands.
            None => {}
        }
        // SAFETY: the caller gives a place to write to.
        unsafe { ticket.write(Arc::into_raw(call).cast()) };
        Status::OK
    })
}

#[cfg(not(feature = "__abi_older"))]
pub(super) unsafe extern "C" fn owners(
    handle: *const c_void,
    owners: *mut u64,
    count: usize,
    error: *mut *mut table::Error,
) -> Status {
    guarded(|| {
        // SAFETY: a handle of `acquire`, held by the caller.
        let handle = unsafe { borrow(handle) };
        if handle.is_stale() {
            return Status::FORKED;
        }
        let found = match handle.owners() {
            Ok(found) => found,
            Err(why) => return failed(error, &why),
        };
        let numbers = found.into_iter().map(|owner| owner.map_or(0, |owner| owner as u64));
        for (at, number) in numbers.chain(iter::repeat(0)).take(count).enumerate() {
            // SAFETY: the caller has room for so many.
            unsafe { owners.add(at).write(number) };
        }
        Status::OK
    })
}

/// The answer to a guest that speaks another version.
fn refused(error: *mut *mut table::Error, what: &str) -> Status {
    let why = Error::configuration(format!(
        "{what}: the extension module and django-vcache {} do not fit together",
        env!("CARGO_PKG_VERSION")
    ));
    failed(error, &why)
}

/// The answer to a call that was not taken.
fn failed(error: *mut *mut table::Error, why: &Error) -> Status {
    // SAFETY: the caller gives a place to write to.
    unsafe { error.write(errors::give(why)) };
    Status::ERROR
}

pub(super) unsafe extern "C" fn cancel(ticket: *const c_void) -> c_int {
    contained(0, || {
        // SAFETY: `submit` made it, and it is given back once.
        let call = unsafe { Arc::from_raw(ticket.cast::<Ticket>()) };
        if !call.slot.abandon_unfilled() {
            call.put_away();
            return 0;
        }
        // The slot is abandoned whatever becomes of the rest: `done` will not be called.
        contained((), || {
            // SAFETY: it was abandoned just now by its owner, so no other thread asks for the route any more.
            let route = unsafe { (*call.route.get()).take() };
            route.iter().for_each(Route::given_up);
        });
        1
    })
}

/// The packet of a guest's command. What the guest says of it is compared with what is in it, because a guest may be wrong,
/// or built when less was known of the server's commands.
///
/// # Errors
/// `Value`, as for our own packets; and if the replies are not as many as the commands, or if a command blocks that was
/// not announced as one that does.
///
/// # Safety
/// The command's bytes must be there.
unsafe fn packet(command: &Command) -> Result<Packet> {
    let bytes = if command.len == 0 {
        Vec::new()
    } else {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(command.bytes, command.len) }.to_vec()
    };
    let promised = command.flags & Command::IDEMPOTENT != 0;
    let mut packet = Packet::received(bytes, promised)?;
    packet.repeatable &= promised;
    if packet.replies != command.replies {
        return Err(Error::refused(format!(
            "a packet of {} commands was announced as one that has {} replies",
            packet.replies, command.replies
        )));
    }
    match (command.flags & Command::BLOCKS != 0, packet.blocking) {
        (false, Blocking::Yes(_)) => {
            return Err(Error::refused("a blocking command was announced as one that does not block"));
        }
        // It may be a module's. Of a command that is known, our own word counts.
        (true, Blocking::No) if !packet.is_known() => {
            packet.blocking = Blocking::Yes(duration(command.blocks).map(|limit| limit.as_secs_f64()));
            packet.check()?;
        }
        _ => {}
    }
    Ok(packet)
}

/// How long the caller waits. Without end, for a command that does not block, is longer than any reply takes.
fn timeout(command: &Command, blocking: Blocking, handle: &Handle) -> Option<Duration> {
    match (duration(command.timeout), blocking) {
        (Some(limit), _) => Some(limit),
        (None, Blocking::Yes(_)) => None,
        // The caller took it for a command that blocks, so this time was not meant.
        (None, Blocking::No) if command.flags & Command::BLOCKS != 0 => Some(handle.response_timeout()),
        (None, Blocking::No) => Some(Duration::MAX),
    }
}

/// The slot whose node it is for.
fn slot(command: &Command) -> std::result::Result<Option<u16>, ()> {
    match command.slot.checked_sub(1) {
        None => Ok(None),
        Some(slot) => u16::try_from(slot).ok().filter(|slot| *slot < Primaries::SLOTS).map(Some).ok_or(()),
    }
}

/// When the call is to be over. What an older guest does not say is never.
fn limits(command: &Command, timeout: Option<Duration>) -> Limits {
    let some = |micros: u64| (micros != 0).then(|| Duration::from_micros(micros));
    Limits {
        timeout,
        patience: some(command.patience),
        deadline: some(command.deadline).and_then(|left| Instant::now().checked_add(left)),
        slot: None,
    }
}

fn duration(micros: u64) -> Option<Duration> {
    (micros != FOR_EVER).then(|| Duration::from_micros(micros))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(FOR_EVER)
}
