//! `vcache::testing` and `#[vcache::test]`: a server for each test, and nothing left behind.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vcache::prelude::*;
use vcache::redis::cmd;
use vcache::testing::Server;

/// The server's socket, to look for it when the server is gone.
fn socket(server: &Server) -> PathBuf {
    server.url().strip_prefix("unix://").expect("it is a Unix socket").into()
}

fn assert_gone(socket: &std::path::Path) {
    assert!(UnixStream::connect(socket).is_err(), "the server still listens");
    assert!(!socket.parent().unwrap().exists(), "its folder is still there");
}

#[vcache::test]
async fn a_test_has_an_empty_server_as_the_alias_default(conn: &mut Connection) {
    assert_eq!(conn.alias(), "default");
    let keys: usize = cmd("DBSIZE").query_async(conn).await.unwrap();
    assert_eq!(keys, 0);
}

#[vcache::test]
async fn a_test_may_own_its_connection(conn: Connection) {
    let (mut one, mut two) = (conn.clone(), conn);
    let () = one.set("key", 1).await.unwrap();
    let value: i64 = two.get("key").await.unwrap();
    assert_eq!(value, 1);
}

#[vcache::test]
async fn a_test_may_return_a_result(conn: &mut Connection) -> vcache::Result<()> {
    let visits: i64 = conn.incr("visits", 1).await?;
    assert_eq!(visits, 1);
    Ok(())
}

#[vcache::test]
#[should_panic(expected = "the test's own words")]
async fn attributes_are_the_tests(conn: &mut Connection) {
    let () = conn.set("key", 1).await.unwrap();
    panic!("the test's own words");
}

#[vcache::test]
async fn a_server_can_be_killed_and_restarted_empty_at_its_url(conn: &mut Connection, server: &mut Server) {
    let () = conn.set("key", 1).await.unwrap();
    let url = server.url();
    server.kill();
    assert_gone(&socket(server));
    assert!(conn.get::<_, Option<i64>>("key").await.is_err());
    server.restart();
    assert_eq!(server.url(), url);
    let mut fresh = server.connection();
    let until = Instant::now() + Duration::from_secs(20);
    let value = loop {
        match fresh.get::<_, Option<i64>>("key").await {
            Ok(value) => break value,
            // The connection is one for both handles, and waits a moment before it tries again.
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(value, None, "nothing is kept");
}

#[vcache::test]
async fn a_restart_ends_a_server_that_runs(conn: &mut Connection, server: &mut Server) {
    let before: String = cmd("INFO").arg("server").query_async(conn).await.unwrap();
    server.restart();
    let mut stream = BufReader::new(UnixStream::connect(socket(server)).unwrap());
    std::io::Write::write_all(stream.get_mut(), b"INFO server\r\nQUIT\r\n").unwrap();
    let mut after = String::new();
    std::io::Read::read_to_string(&mut stream, &mut after).unwrap();
    let run_id = |info: &str| info.lines().find(|line| line.starts_with("run_id:")).map(str::to_owned);
    assert!(run_id(&before).is_some());
    assert_ne!(run_id(&before), run_id(&after));
}

#[test]
fn servers_are_apart() {
    let (one, two) = (Server::start(), Server::start());
    assert_ne!(one.url(), two.url());
    let () = vcache::block_on(one.connection().set("key", 1)).unwrap();
    let value: Option<i64> = vcache::block_on(two.connection().get("key")).unwrap();
    assert_eq!(value, None);
}

#[test]
fn a_dropped_server_is_gone() {
    let server = Server::start();
    let socket = socket(&server);
    UnixStream::connect(&socket).unwrap();
    drop(server);
    assert_gone(&socket);
}

#[test]
fn a_panicking_test_leaves_nothing() {
    let (told, socket_of) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let server = Server::start();
        told.send(socket(&server)).unwrap();
        // Not `panic!`, whose message would look like a failure in the output.
        std::panic::resume_unwind(Box::new("a failed assertion"));
    });
    assert!(test.join().is_err());
    assert_gone(&socket_of.recv().unwrap());
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let server = std::thread::spawn(Server::start).join().unwrap();
    let pong: String = vcache::block_on(cmd("PING").query_async(&mut server.connection())).unwrap();
    assert_eq!(pong, "PONG");
}

/// Not a test: what the next one runs in a process of its own.
#[test]
#[ignore = "it waits to be killed"]
fn holds_a_server() {
    let server = Server::start();
    eprintln!("socket {}", socket(&server).display());
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_killed_test_process_leaves_nothing() {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_server", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let socket: PathBuf =
        lines.map(Result::unwrap).find_map(|line| Some(line.strip_prefix("socket ")?.into())).unwrap();
    UnixStream::connect(&socket).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while socket.parent().unwrap().exists() {
        assert!(Instant::now() < until, "the server or its folder is left behind");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_gone(&socket);
}
