//! Guests of every kind, the wrong ones too: whose structs are shorter or longer, and whose bytes are not what they say. They call
//! the table's functions as a separately compiled module does.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::Value;

use super::TABLE;
use crate::abi::fenced::Fenced;
use crate::abi::table::{self, Command, Connection, FOR_EVER, Node, Reply, Status, Task, Text, Waker};
use crate::testing::Server;

/// What `done` was given.
struct Outcome {
    is_there: AtomicBool,
    reply: *mut Reply,
    error: *mut table::Error,
}

unsafe extern "C" fn done(context: *mut c_void, reply: *mut Reply, error: *mut table::Error) {
    let outcome = context.cast::<Outcome>();
    // SAFETY: the context of one call, whose caller waits for it.
    unsafe {
        (*outcome).reply = reply;
        (*outcome).error = error;
        (*outcome).is_there.store(true, Ordering::Release);
    }
}

/// An error's kind and text; the error is freed.
fn told(error: *mut table::Error) -> (u32, String) {
    // SAFETY: an error of the host's, freed once.
    unsafe {
        let told = ((*error).kind, (*error).message.to_string().unwrap());
        (TABLE.error_free)(error);
        told
    }
}

/// A module that is at home here.
struct Guest {
    handle: *const c_void,
    /// For questions to the server, on the same socket.
    conn: crate::Connection,
    _server: Server,
}

impl Guest {
    fn new(alias: &str) -> Self {
        let server = Server::start();
        crate::configure(alias, server.connection().config().clone());
        let (status, place) = acquire(alias, size_of::<Connection>());
        assert!(status == Ok(()), "{status:?}");
        // SAFETY: it was written.
        let handle = unsafe { (*place.at::<Connection>()).handle };
        Self { handle, conn: server.connection(), _server: server }
    }

    fn command(bytes: &[u8], replies: usize, flags: u64) -> Command {
        Command {
            size: size_of::<Command>(),
            bytes: bytes.as_ptr(),
            len: bytes.len(),
            replies,
            flags: flags | Command::DRIVEN,
            blocks: 0,
            timeout: 20_000_000,
            done,
            context: ptr::null_mut(),
            patience: 0,
            deadline: 0,
            slot: 0,
            #[cfg(feature = "__abi_longer")]
            of_tomorrow: u64::MAX,
        }
    }

    /// The nodes of the reply, by their tags; or the error.
    fn submit(&self, command: &Command, size: usize) -> Result<Vec<u32>, (u32, String)> {
        let mut outcome =
            Outcome { is_there: AtomicBool::new(false), reply: ptr::null_mut(), error: ptr::null_mut() };
        let command = Command { context: (&raw mut outcome).cast(), ..*command };
        let fenced = Fenced::holding(&command, size);
        let (mut ticket, mut error) = (ptr::null(), ptr::null_mut());
        // SAFETY: the command is as large as it says, and all of it lives until the call is over, which is waited for here.
        unsafe {
            let status = (TABLE.submit)(self.handle, fenced.at(), &raw mut ticket, &raw mut error);
            drop(fenced);
            if status != Status::OK {
                assert_eq!(status, Status::ERROR);
                return Err(told(error));
            }
            drive_until(&outcome.is_there);
            assert_eq!((TABLE.cancel)(ticket), 0, "it is over");
        }
        if outcome.reply.is_null() {
            return Err(told(outcome.error));
        }
        // SAFETY: a reply of the host's, freed once.
        unsafe {
            let nodes: &[Node] = std::slice::from_raw_parts((*outcome.reply).nodes, (*outcome.reply).count);
            let tags = nodes.iter().map(|node| node.tag).collect();
            (TABLE.reply_free)(outcome.reply);
            Ok(tags)
        }
    }

    fn send(&self, bytes: &[u8], replies: usize, flags: u64) -> Result<Vec<u32>, (u32, String)> {
        self.submit(&Self::command(bytes, replies, flags), size_of::<Command>())
    }

    /// How many commands have reached the server, this question not among them.
    fn count(&self) -> u64 {
        let reply = crate::block_on(async {
            let command = redis::cmd("INFO").arg("stats").clone();
            self.conn.send_command(&command)?.await
        });
        let Value::VerbatimString { text, .. } = reply.unwrap() else { panic!("INFO answers with text") };
        let line = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // SAFETY: it was acquired once.
        unsafe { (TABLE.release)(self.handle) };
    }
}

fn drive_until(flag: &AtomicBool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !flag.load(Ordering::Acquire) {
        assert!(Instant::now() < until, "nothing came");
        // SAFETY: functions without arguments, and a descriptor that lives as long as the process.
        unsafe {
            let mut watched =
                libc::pollfd { fd: TABLE.reactor_fd.unwrap()(), events: libc::POLLIN, revents: 0 };
            libc::poll(&raw mut watched, 1, 10);
            TABLE.reactor_drive.unwrap()();
        }
    }
}

/// Acquires into a place of so many bytes.
fn acquire(alias: &str, room: usize) -> (Result<(), (u32, String)>, Fenced) {
    let place = Fenced::new(room.max(size_of::<usize>()));
    let mut error = ptr::null_mut();
    // SAFETY: the place is as large as it says.
    let status = unsafe {
        place.at::<usize>().write(room);
        (TABLE.acquire)(Text::of(alias), place.at(), &raw mut error)
    };
    let outcome = if status == Status::OK { Ok(()) } else { Err(told(error)) };
    (outcome, place)
}

fn encoded(commands: &[&str]) -> Vec<u8> {
    let mut pipeline = redis::pipe();
    for command in commands {
        let mut words = command.split(' ');
        pipeline.cmd(words.next().unwrap());
        words.for_each(|word| {
            pipeline.arg(word);
        });
    }
    pipeline.get_packed_pipeline()
}

#[test]
fn a_connection_is_written_into_the_room_that_there_is() {
    let guest = Guest::new("sized");
    for room in [Connection::FIRST, size_of::<Connection>(), size_of::<Connection>() + 8, 1000] {
        let (status, place) = acquire("sized", room);
        assert_eq!(status, Ok(()));
        // SAFETY: at least the first version's fields were written.
        unsafe {
            let view = place.at::<Connection>();
            assert_eq!((&raw const (*view).size).read(), room.min(size_of::<Connection>()));
            assert_eq!((&raw const (*view).alias).read().bytes(), b"sized");
            assert_eq!((&raw const (*view).handle).read(), guest.handle);
            (TABLE.release)(guest.handle);
        }
        let rest = place.bytes().iter().skip(size_of::<Connection>());
        assert!(rest.copied().all(|byte| byte == 0xA5), "beyond our own size nothing was written");
    }
    for room in [0, 8, Connection::FIRST - 1] {
        let (status, place) = acquire("sized", room);
        let (kind, message) = status.unwrap_err();
        assert_eq!(kind, table::Error::CONFIGURATION);
        assert!(message.contains("do not fit together"), "{message}");
        assert!(place.bytes()[8..].iter().all(|byte| *byte == 0xA5), "nothing was written");
    }
    assert_eq!(guest.send(&encoded(&["PING"]), 1, 0), Ok(vec![Node::SIMPLE]), "the handle is alive");
}

#[test]
fn of_a_command_as_much_is_read_as_there_is() {
    let guest = Guest::new("sized commands");
    let bytes = encoded(&["SET k v", "GET k"]);
    let command = Guest::command(&bytes, 2, 0);
    for size in [Command::FIRST, size_of::<Command>(), size_of::<Command>() + 8, 1000] {
        assert_eq!(guest.submit(&command, size), Ok(vec![Node::ARRAY, Node::OKAY, Node::BULK]), "{size}");
    }
    for size in [8, Command::FIRST - 8, Command::FIRST - 1] {
        let (kind, message) = guest.submit(&command, size).unwrap_err();
        assert_eq!(kind, table::Error::CONFIGURATION);
        assert!(message.contains("a command is smaller"), "{message}");
    }
}

/// Two polls, between which it wakes itself by way of a copy.
pub(super) unsafe extern "C" fn poll(data: *mut c_void, waker: *const Waker) -> u32 {
    // SAFETY: the data of the task below, and a waker that lives during the poll.
    unsafe {
        let polls = data.cast::<u32>();
        *polls += 1;
        if *polls == 2 {
            return Task::READY;
        }
        let vtable = &*(*waker).vtable;
        let copy = (vtable.clone)(waker);
        (vtable.wake_by_ref)(copy);
        (vtable.drop)((vtable.clone)(copy));
        (vtable.wake)(copy);
    }
    Task::PENDING
}

pub(super) unsafe extern "C" fn finish(_: *mut c_void, _: *mut *mut pyo3::ffi::PyObject) -> Status {
    Status::PANIC
}

unsafe extern "C" fn nothing(_: *mut c_void) {}

#[test]
fn of_a_task_as_much_is_read_as_there_is() {
    let run = |size| {
        let mut polls = 0_u32;
        let task = Task {
            size: 0,
            steps: Task::ALL,
            reserved: 0,
            data: (&raw mut polls).cast(),
            poll,
            finish,
            drop: nothing,
            #[cfg(feature = "__abi_longer")]
            of_tomorrow: u64::MAX,
        };
        let task = Fenced::holding(&task, size);
        // SAFETY: it is as large as it says.
        (unsafe { (TABLE.block_on)(task.at(), ptr::null_mut()) }, polls)
    };
    for size in [Task::FIRST, size_of::<Task>(), size_of::<Task>() + 8, 1000] {
        assert_eq!(run(size), (Status::OK, 2), "{size}");
    }
    for size in [8, Task::FIRST - 8, Task::FIRST - 1] {
        assert_eq!(run(size), (Status::ERROR, 0), "{size}");
    }
}

#[test]
fn what_a_guest_sends_is_looked_at_whatever_the_guest_did() {
    let guest = Guest::new("checked");
    let before = guest.count();
    let get = encoded(&["GET k"]);
    for (bytes, replies, flags, told) in [
        // What would change the connection, in any case and in any place.
        (encoded(&["SELECT 3"]), 1, 0, "SELECT cannot run on the shared connection: configure another alias"),
        (encoded(&["select 3"]), 1, 0, "SELECT cannot run"),
        (encoded(&["GET a", "SeLeCt 3", "GET b"]), 3, 0, "SELECT cannot run"),
        (encoded(&["client reply OFF"]), 1, 0, "CLIENT REPLY cannot run"),
        (encoded(&["GET a", "CLIENT REPLY SKIP"]), 2, 0, "CLIENT REPLY cannot run"),
        (encoded(&["MULTI"]), 1, 0, "MULTI cannot run"),
        (encoded(&["MULTI", "GET a"]), 2, 0, "MULTI cannot run"),
        (encoded(&["GET a", "EXEC"]), 2, 0, "EXEC cannot run"),
        (encoded(&["MULTI", "SUBSCRIBE c", "EXEC"]), 3, 0, "SUBSCRIBE cannot run"),
        (encoded(&["HELLO 2"]), 1, 0, "HELLO cannot run"),
        (encoded(&["SELECT\0 3"]), 1, 0, "zero byte"),
        // Counts that are not those of the commands.
        (get.clone(), 0, 0, "a packet of 1 commands was announced as one that has 0 replies"),
        (get.clone(), 2, 0, "announced as one that has 2 replies"),
        (encoded(&["GET a", "GET b"]), 1, 0, "announced as one that has 1 replies"),
        (encoded(&["MULTI", "GET a", "EXEC"]), 1, 0, "announced as one that has 1 replies"),
        // What is no whole number of commands.
        (get[..get.len() - 1].to_vec(), 1, 0, "whole commands"),
        (get[..get.len() - 3].to_vec(), 1, 0, "whole commands"),
        ([&get[..], b"*"].concat(), 1, 0, "whole commands"),
        ([&get[..], b"\r\n"].concat(), 1, 0, "whole commands"),
        (b"*0\r\n".to_vec(), 1, 0, "whole commands"),
        (b"GET k\r\n".to_vec(), 1, 0, "whole commands"),
        (b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n".to_vec(), 1, 0, "whole commands"),
        (Vec::new(), 0, 0, "empty pipeline"),
        (Vec::new(), 1, 0, "empty pipeline"),
        // What would hold the shared connection up.
        (encoded(&["BLPOP l 0"]), 1, 0, "does not block"),
        (encoded(&["xread block 0 streams s $"]), 1, 0, "does not block"),
        (encoded(&["GET a", "BLPOP l 0"]), 2, Command::BLOCKS, "cannot be part of a pipeline"),
        (encoded(&["OF.A.MODULE", "GET a"]), 2, Command::BLOCKS, "cannot be part of a pipeline"),
    ] {
        let (kind, message) = guest.send(&bytes, replies, flags).unwrap_err();
        assert!(message.contains(told), "{}: {message}", bytes.escape_ascii());
        assert_eq!(kind, table::Error::VALUE);
    }
    assert_eq!(guest.count(), before + 1, "nothing reached the server but the question before");
    let (kind, _) = guest.send(&get, 1, 1 << 40).unwrap_err();
    assert_eq!(kind, table::Error::CONFIGURATION, "a flag that is not known");
}

#[test]
fn what_is_right_goes_through() {
    let guest = Guest::new("let through");
    let ok = |bytes: &[u8], replies, flags| guest.send(bytes, replies, flags).unwrap();
    assert_eq!(ok(&encoded(&["set a 1"]), 1, Command::IDEMPOTENT), [Node::OKAY]);
    let transaction = encoded(&["MULTI", "GET a", "EXEC"]);
    assert_eq!(ok(&transaction, 3, 0), [Node::ARRAY, Node::OKAY, Node::SIMPLE, Node::ARRAY, Node::BULK]);
    assert_eq!(ok(&encoded(&["NOSUCHCOMMAND"]), 1, 0)[0], Node::ERROR);
    // It gets a separate connection.
    assert_eq!(ok(&encoded(&["NOSUCHCOMMAND"]), 1, Command::BLOCKS)[0], Node::ERROR);
    assert_eq!(ok(&encoded(&["BLPOP l 0.01"]), 1, Command::BLOCKS), [Node::NIL]);
    // A guest that takes the stream for the option.
    let read = encoded(&["XREAD STREAMS block 0"]);
    let command =
        Command { blocks: FOR_EVER, timeout: FOR_EVER, ..Guest::command(&read, 1, Command::BLOCKS) };
    assert_eq!(guest.submit(&command, size_of::<Command>()), Ok(vec![Node::NIL]));
}
