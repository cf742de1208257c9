//! A Valkey server of the test's own, on a Unix socket in a folder of its own, gone when the test is.
//!
//! The binary is `$VCACHE_SERVER` (`make test` sets it), or `valkey-server` or `redis-server` on PATH.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use vcache::{Config, Connection};

pub struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("vcache-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let mut server = Self { child: spawn(&folder), folder };
        server.wait();
        server
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("s.sock")
    }

    pub fn connection(&self) -> Connection {
        let url = format!("unix://{}", self.socket().display());
        Connection::new("test", Config::from_url(&url).expect("the URL is one"))
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("it was our child");
    }

    pub fn restart(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        self.child = spawn(&self.folder);
        self.wait();
    }

    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(self.child.try_wait().expect("our child").is_none(), "the server ended at once");
            assert!(Instant::now() < until, "the server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &std::path::Path) -> Child {
    let from_environment = std::env::var_os("VCACHE_SERVER").map(PathBuf::from);
    let candidates = from_environment.into_iter().chain(["valkey-server".into(), "redis-server".into()]);
    for binary in candidates {
        let started = Command::new(binary)
            .current_dir(folder)
            .args(["--port", "0", "--unixsocket", "s.sock", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(child) = started {
            return child;
        }
    }
    panic!("no Valkey server: set VCACHE_SERVER to its binary, or run the tests with `make test`");
}
