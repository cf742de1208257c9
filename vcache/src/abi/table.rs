//! The table's fields and the structs that its functions take, as C sees them. See [the contract](super).

use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;

use pyo3::ffi::PyObject;

use super::sized::Growing;

/// The first eight bytes of every table: `vcache` and a number that tells the byte order.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"vcache\x01\x00");
/// Tables of another major version are not to be used beyond their header.
pub const MAJOR: u32 = 1;
/// Counts the additions within a major version.
pub const MINOR: u32 = 4;
/// The capsule's name.
pub const CAPSULE: &CStr = c"django_vcache._capi@1";
/// What every capsule's name begins with.
pub const CAPSULE_PREFIX: &str = "django_vcache._capi@";

/// [`Table::reactor_fd`] and [`Table::reactor_drive`] are there: a guest may drive from its own runtime (1.1).
pub const FEATURE_REACTOR: u64 = 1;
/// [`Table::owners`] is there: a guest may ask each primary of a cluster (1.4).
pub const FEATURE_OWNERS: u64 = 2;

/// UTF-8 that the other side owns; null and 0 is no text. It never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    /// Where it begins.
    pub start: *const u8,
    /// Its length in bytes.
    pub len: usize,
}

impl Text {
    /// No text.
    pub const NONE: Self = Self { start: std::ptr::null(), len: 0 };

    /// A view of `text`, for as long as that lives.
    #[must_use]
    pub const fn of(text: &str) -> Self {
        Self { start: text.as_ptr(), len: text.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    /// They must live and stay unchanged for `'a`.
    #[must_use]
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: the caller's promise, and not null.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// A copy, with what is not UTF-8 replaced; `None` for none.
    ///
    /// # Safety
    /// As for [`Text::bytes`].
    #[must_use]
    pub unsafe fn to_string(self) -> Option<String> {
        // SAFETY: the caller's promise.
        (!self.start.is_null()).then(|| String::from_utf8_lossy(unsafe { self.bytes() }).into_owned())
    }
}

/// How a function of the table ended.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub c_int);

impl Status {
    /// As it should.
    pub const OK: Self = Self(0);
    /// With an error, in the function's `error`, or set as Python's if it is called attached.
    pub const ERROR: Self = Self(1);
    /// The handle is the parent process's: acquire it again.
    pub const FORKED: Self = Self(2);
    /// Nothing drives the connection on this thread; see [`Command::DRIVEN`].
    pub const NOBODY_DRIVES: Self = Self(3);
    /// A panic was caught, on the other side.
    pub const PANIC: Self = Self(4);
}

/// The same in every major version.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
    /// The size of the whole table in bytes.
    pub size: usize,
    /// Feature bits.
    pub features: u64,
    /// The host's own version, for people.
    pub version: Text,
}

/// A connection, as [`Table::acquire`] gives it. The texts live as long as the handle.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Connection {
    /// Before: `size_of::<Connection>()` where the caller was compiled, beyond which nothing is written. After: as much as was
    /// written. What a caller finds beyond that is what it has put there: zero.
    pub size: usize,
    /// For the table's functions. Counted: see [`Table::retain`] and [`Table::release`].
    pub handle: *const c_void,
    /// The alias it was acquired by.
    pub alias: Text,
    /// The database number.
    pub db: i64,
    /// Microseconds that a call waits for its reply unless it says otherwise.
    pub response_timeout: u64,
    /// What the keys begin with that the crate makes on this connection; no text is nothing (1.3).
    pub key_head: Text,
    /// For tests: a field that no version has yet.
    #[cfg(feature = "__abi_longer")]
    pub of_tomorrow: u64,
}

impl Connection {
    /// The size in version 1.0.
    pub const FIRST: usize = offset_of!(Self, response_timeout) + size_of::<u64>();
}

/// Encoded commands and what to do when they are answered.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Command {
    /// `size_of::<Command>()` where it was compiled.
    pub size: usize,
    /// RESP: whole commands, each an array of bulk strings. Copied by `submit`, which refuses those that would change the
    /// connection for others, in any place of a pipeline; `MULTI` must be followed by its `EXEC`.
    pub bytes: *const u8,
    /// Its length.
    pub len: usize,
    /// The number of replies it will have, which is that of the commands.
    pub replies: usize,
    /// [`Command::IDEMPOTENT`] and so on.
    pub flags: u64,
    /// With [`Command::BLOCKS`]: microseconds that the server may keep it; [`FOR_EVER`] is without end.
    pub blocks: u64,
    /// Microseconds from when it was sent until the caller gives up; [`FOR_EVER`] is never.
    pub timeout: u64,
    /// Called once: with a reply to be freed by [`Table::reply_free`], or with an error to be freed by
    /// [`Table::error_free`].
    pub done: unsafe extern "C" fn(context: *mut c_void, reply: *mut Reply, error: *mut Error),
    /// Given to `done`.
    pub context: *mut c_void,
    /// Microseconds until the caller gives up, which do not run while a long reply to an earlier call is arriving; 0 is
    /// never (1.2).
    pub patience: u64,
    /// Microseconds from now until the whole of which the call is a part is to be over; 0 is never. `timeout` and `patience`
    /// count from when the call was sent (1.2).
    pub deadline: u64,
    /// In a cluster, a slot and one: whatever keys it has, the call is for the node that has this slot. 0 is where its keys
    /// are (1.4).
    pub slot: u64,
    /// For tests: a field that no version has yet.
    #[cfg(feature = "__abi_longer")]
    pub of_tomorrow: u64,
}

/// No end to a number of microseconds.
pub const FOR_EVER: u64 = u64::MAX;

impl Command {
    /// The size in version 1.0.
    pub const FIRST: usize = offset_of!(Self, context) + size_of::<*mut c_void>();
    /// All the flags there are.
    pub const KNOWN: u64 = Self::IDEMPOTENT | Self::BLOCKS | Self::DRIVEN;

    /// Executing it twice does what executing it once does. It is believed, for instance, of the caller's own scripts; but where
    /// a command's options decide, as those of `SET` do, the host looks at them itself.
    pub const IDEMPOTENT: u64 = 1;
    /// The server may sit on it: it gets a separate connection. A command that is known to block is refused without this.
    /// With it, what the command says about its time is what counts; only of commands that are not known, `blocks` does.
    pub const BLOCKS: u64 = 2;
    /// The caller drives the connection by itself, though this thread is not known to.
    pub const DRIVEN: u64 = 4;
}

/// A reply: its nodes, and behind them what belongs to the host. It carries no size, so it never changes: for what a later version
/// has to say of a reply, the table gets another function. New kinds of values are new tags of [`Node`].
#[repr(C)]
pub struct Reply {
    /// Preorder.
    pub nodes: *const Node,
    /// How many.
    pub count: usize,
}

/// One value of a reply. It stands in arrays, so it never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Node {
    /// [`Node::NIL`] and so on.
    pub tag: u32,
    /// Zero.
    pub reserved: u32,
    /// The length of the bytes, or the number of members that follow.
    pub len: usize,
    /// By `tag`.
    pub data: Data,
}

/// What a node holds.
#[repr(C)]
#[derive(Clone, Copy)]
pub union Data {
    /// Of strings.
    pub bytes: *const u8,
    /// Of integers and truth values.
    pub int: i64,
    /// Of doubles.
    pub double: f64,
}

impl Node {
    /// Nothing.
    pub const NIL: u32 = 0;
    /// An integer.
    pub const INT: u32 = 1;
    /// A string of bytes.
    pub const BULK: u32 = 2;
    /// `len` members follow.
    pub const ARRAY: u32 = 3;
    /// A status.
    pub const SIMPLE: u32 = 4;
    /// The status `OK`.
    pub const OKAY: u32 = 5;
    /// `len` pairs follow, key and value.
    pub const MAP: u32 = 6;
    /// `len` members follow.
    pub const SET: u32 = 7;
    /// A double.
    pub const DOUBLE: u32 = 8;
    /// 0 or 1.
    pub const BOOL: u32 = 9;
    /// A text; one [`Node::BULK`] follows, its format.
    pub const VERBATIM: u32 = 10;
    /// The decimal digits of a large integer.
    pub const BIG: u32 = 11;
    /// An error, its code; one [`Node::BULK`] or [`Node::NIL`] follows, its text.
    pub const ERROR: u32 = 12;
}

/// An error: what can be read of it, and behind it what belongs to the host. It carries no size, so it never changes: for what a
/// later version has to say of an error, the table gets another function.
#[repr(C)]
pub struct Error {
    /// [`Error::CONNECTION`] and so on.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// The server's error code, if it answered with one.
    pub code: Text,
    /// What went wrong, for people.
    pub message: Text,
    /// The alias it belongs to, if that is not the caller's own.
    pub alias: Text,
    /// The Python exception that it is, borrowed, or null.
    pub exception: *mut PyObject,
}

impl Error {
    /// The server could not be reached, or the connection was lost.
    pub const CONNECTION: u32 = 1;
    /// No reply in time.
    pub const TIMEOUT: u32 = 2;
    /// The server answered with an error.
    pub const RESPONSE: u32 = 3;
    /// A setting is wrong.
    pub const CONFIGURATION: u32 = 4;
    /// A value cannot be sent or read.
    pub const VALUE: u32 = 5;
    /// A panic.
    pub const PANIC: u32 = 6;
    /// A Python exception, in [`Error::exception`].
    pub const EXCEPTION: u32 = 7;
}

/// Wakes a task. The functions may be called by any thread. It never changes, nor does its table of functions.
#[repr(C)]
pub struct Waker {
    /// What can be done with it.
    pub vtable: *const WakerVTable,
}

// SAFETY: its functions may be called by any thread.
unsafe impl Sync for Waker {}

/// The functions of a [`Waker`], as those of `std::task::RawWakerVTable`.
#[repr(C)]
pub struct WakerVTable {
    /// One more reference; it may be used after the poll.
    pub clone: unsafe extern "C" fn(*const Waker) -> *const Waker,
    /// Wakes, and takes the reference.
    pub wake: unsafe extern "C" fn(*const Waker),
    /// Wakes.
    pub wake_by_ref: unsafe extern "C" fn(*const Waker),
    /// Takes the reference.
    pub drop: unsafe extern "C" fn(*const Waker),
}

/// A future of the guest's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Task {
    /// `size_of::<Task>()` where it was compiled.
    pub size: usize,
    /// [`Task::ONE`], [`Task::MANY`] or [`Task::ALL`].
    pub steps: u32,
    /// Zero.
    pub reserved: u32,
    /// Given to the functions.
    pub data: *mut c_void,
    /// Takes a step: [`Task::PENDING`], [`Task::PENDING_WATCHED`] or [`Task::READY`]. The waker is borrowed.
    pub poll: unsafe extern "C" fn(data: *mut c_void, waker: *const Waker) -> u32,
    /// Attached. Called once, after `poll` said [`Task::READY`]: the awaitable's result in `result`, or
    /// [`Status::ERROR`] and Python's exception set.
    pub finish: unsafe extern "C" fn(data: *mut c_void, result: *mut *mut PyObject) -> Status,
    /// Attached. Frees it. Called once, unless the interpreter ends before.
    pub drop: unsafe extern "C" fn(data: *mut c_void),
    /// For tests: a field that no version has yet.
    #[cfg(feature = "__abi_longer")]
    pub of_tomorrow: u64,
}

impl Task {
    /// The size in version 1.0.
    pub const FIRST: usize = offset_of!(Self, drop) + size_of::<usize>();

    /// It makes one call.
    pub const ONE: u32 = 0;
    /// It makes any number of calls, and is dropped between two of them when it is not awaited any more.
    pub const MANY: u32 = 1;
    /// It makes any number of calls, and runs to its end also if it is not awaited any more.
    pub const ALL: u32 = 2;

    /// Not yet.
    pub const PENDING: u32 = 0;
    /// Its output is there.
    pub const READY: u32 = 1;
    /// Not yet, and it wants to be dropped at once if it is not awaited any more.
    pub const PENDING_WATCHED: u32 = 2;
}

/// The table. All functions are safe to call from any thread. None of them unwinds. Those that were appended later are absent
/// in the copy of a client that was given a smaller table.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Table {
    /// The same in every major version.
    pub header: Header,
    /// The number of this process in the line of forks that led to it.
    pub epoch: unsafe extern "C" fn() -> u64,
    /// The connection of an alias, by `connection`, to be released; or an error, to be freed.
    pub acquire:
        unsafe extern "C" fn(alias: Text, connection: *mut Connection, error: *mut *mut Error) -> Status,
    /// One more reference to a connection.
    pub retain: unsafe extern "C" fn(handle: *const c_void),
    /// One less.
    pub release: unsafe extern "C" fn(handle: *const c_void),
    /// Sends a command. Its ticket, by `ticket`, is for [`Table::cancel`].
    pub submit: unsafe extern "C" fn(
        handle: *const c_void,
        command: *const Command,
        ticket: *mut *const c_void,
        error: *mut *mut Error,
    ) -> Status,
    /// Takes a ticket back and gives its call up. 1: `done` was not called and will not be, its context is the caller's
    /// again. 0: it was, or is about to be.
    pub cancel: unsafe extern "C" fn(ticket: *const c_void) -> c_int,
    /// Frees a reply.
    pub reply_free: unsafe extern "C" fn(reply: *mut Reply),
    /// Frees an error.
    pub error_free: unsafe extern "C" fn(error: *mut Error),
    /// Attached. The asyncio loop that runs on this thread, to be released; or `RuntimeError`.
    pub loop_acquire: unsafe extern "C" fn(running: *mut *mut c_void) -> Status,
    /// Attached, on the loop's own thread. Takes a task over, whatever comes of it, and polls it on the loop: an
    /// `asyncio.Future` by `awaitable`. Null is the loop that runs here.
    pub loop_spawn: unsafe extern "C" fn(
        running: *mut c_void,
        task: *const Task,
        awaitable: *mut *mut PyObject,
    ) -> Status,
    /// Attached. Lets go of the loop.
    pub loop_release: unsafe extern "C" fn(running: *mut c_void),
    /// Not attached. Polls a task on this thread, and drives the connections while it waits, until the task is ready or
    /// Python was interrupted: [`Status::ERROR`], and the exception by `exception`; if that is null, interruptions are not
    /// looked for. Neither `finish` nor `drop` is called.
    pub block_on: unsafe extern "C" fn(task: *const Task, exception: *mut *mut PyObject) -> Status,
    /// With [`FEATURE_REACTOR`]: the descriptor that is readable when [`Table::reactor_drive`] has something to do.
    #[cfg(not(feature = "__abi_older"))]
    pub reactor_fd: Option<unsafe extern "C" fn() -> c_int>,
    /// With [`FEATURE_REACTOR`]: lets every connection take what steps it can without blocking. Microseconds until it must
    /// be called again; [`FOR_EVER`] is when the descriptor is readable.
    #[cfg(not(feature = "__abi_older"))]
    pub reactor_drive: Option<unsafe extern "C" fn() -> u64>,
    /// With [`FEATURE_OWNERS`]: a number for each of the first `count` slots, which is the same for slots of one node and 0 for
    /// a slot that no node serves. Without a cluster, as far as is known, all are 0.
    #[cfg(not(feature = "__abi_older"))]
    pub owners: Option<
        unsafe extern "C" fn(
            handle: *const c_void,
            owners: *mut u64,
            count: usize,
            error: *mut *mut Error,
        ) -> Status,
    >,
    /// For tests: an entry that no host has yet.
    #[cfg(feature = "__abi_newer")]
    pub of_tomorrow: Option<unsafe extern "C" fn() -> u64>,
}

// SAFETY: a table never changes once it is published, its functions may be called from any thread, and its one text is
// static.
unsafe impl Sync for Table {}
// SAFETY: as above.
unsafe impl Send for Table {}

// SAFETY: `repr(C)`, the size first, and nothing beyond the first version's fields.
unsafe impl Growing for Connection {
    const FIRST: usize = Self::FIRST;
}

// SAFETY: as above.
unsafe impl Growing for Command {
    const FIRST: usize = Self::FIRST;
}

// SAFETY: as above.
unsafe impl Growing for Task {
    const FIRST: usize = Self::FIRST;
}
