//! One connection on real servers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::task::{Context, Poll, Waker};

use redis::Value;

use super::*;
use crate::connection::cluster::{Announced, Layout};
use crate::connection::receiver::Outcome;
use crate::connection::slot::Slot;
use crate::testing::Server;

/// Within this, or the test hangs.
const SOON: Duration = Duration::from_secs(20);

fn packet(name: &str, arguments: &[&str]) -> Packet {
    let mut packet = Packet::command(name, arguments.len());
    for argument in arguments {
        packet.arg(argument.as_bytes());
    }
    packet.check().unwrap();
    packet
}

fn submit(driver: &Driver, packet: Packet) -> Arc<Slot<Outcome>> {
    let slot = Arc::new(Slot::new());
    let limits = Limits { timeout: Some(SOON), ..Limits::default() };
    driver.submit(packet, Arc::clone(&slot) as Arc<dyn Receiver>, limits, Flush::Now).unwrap();
    slot
}

fn answer(slot: &Slot<Outcome>) -> Option<Value> {
    match slot.poll(&Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome.result.unwrap()),
        Poll::Pending => None,
    }
}

fn until<T>(watch: &Watch, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        watch.drive();
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "nothing comes of it");
        thread::yield_now();
    }
}

fn looks(drivers: &[Arc<Driver>]) -> Vec<usize> {
    drivers.iter().map(|driver| driver.lock().looks).collect()
}

#[test]
fn connections_that_wait_are_not_touched_while_another_is_busy() {
    let server = Server::start();
    let config = Arc::new(server.connection().config().clone());
    let watch = Arc::new(Watch::new().unwrap());
    let attached = || {
        let driver = Driver::new(Arc::clone(&config));
        driver.attach(&watch);
        driver
    };
    let waiting: Vec<_> = (0..64).map(|_| attached()).collect();
    let pops: Vec<_> =
        waiting.iter().map(|driver| submit(driver, packet("BLPOP", &["queue", "0"]))).collect();
    let busy = attached();
    let blocked = || {
        let slot = submit(&busy, packet("INFO", &["clients"]));
        let Value::VerbatimString { text, .. } = until(&watch, || answer(&slot)) else { panic!("no text") };
        text.contains("blocked_clients:64")
    };
    until(&watch, || blocked().then_some(()));
    let before = looks(&waiting);
    for _ in 0..100 {
        let slot = submit(&busy, packet("GET", &["k"]));
        assert_eq!(until(&watch, || answer(&slot)), Value::Nil);
    }
    assert_eq!(looks(&waiting), before);
    assert!(pops.iter().all(|pop| answer(pop).is_none()));
    submit(&busy, packet("RPUSH", &["queue", "x"]));
    until(&watch, || pops.iter().find_map(|pop| answer(pop)));
}

#[test]
fn a_step_reads_a_part_of_a_long_reply_and_lets_others_have_their_turn() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        let mut hear = |peer: &mut std::net::TcpStream, what: &[u8]| {
            while !heard.windows(what.len()).any(|window| window == what) {
                let mut room = [0; 1024];
                let count = peer.read(&mut room).unwrap();
                assert!(count > 0, "the client went away");
                heard.extend_from_slice(&room[..count]);
            }
        };
        hear(&mut peer, b"PING");
        peer.write_all(b"%0\r\n+OK\r\n+OK\r\n+PONG\r\n").unwrap();
        hear(&mut peer, b"GET");
        peer.write_all(format!("${LENGTH}\r\n").as_bytes()).unwrap();
        peer.write_all(&vec![b'x'; LENGTH]).unwrap();
        peer.write_all(b"\r\n").unwrap();
        peer
    });
    let watch = Arc::new(Watch::new().unwrap());
    let driver = Driver::new(Arc::new(Config::from_url(&url).unwrap()));
    driver.attach(&watch);
    let slot = submit(&driver, packet("GET", &["k"]));
    let value = until(&watch, || answer(&slot));
    let Value::BulkString(bytes) = value else { panic!("{value:?}") };
    assert_eq!(bytes.len(), LENGTH);
    let looks = looks(&[driver])[0];
    assert!(looks >= LENGTH / (1024 * 1024), "in {looks} steps");
    drop(server.join());
}

/// A server that answers each `GET` with nil, on any number of connections, for as long as the process lives.
fn server_of_nothing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = peer.unwrap();
            thread::spawn(move || {
                let mut heard = Vec::new();
                let (mut greeted, mut room) = (false, [0; 1024]);
                while let Ok(count @ 1..) = peer.read(&mut room) {
                    heard.extend_from_slice(&room[..count]);
                    let word: &[u8] = if greeted { b"GET" } else { b"PING" };
                    while let Some(at) = heard.windows(word.len()).position(|window| window == word) {
                        heard.drain(..at + word.len());
                        let reply: &[u8] = if greeted { b"_\r\n" } else { b"%0\r\n+OK\r\n+OK\r\n+PONG\r\n" };
                        peer.write_all(reply).unwrap();
                        greeted = true;
                    }
                }
            });
        }
    });
    port
}

/// An alias whose server turns out to be one of several at a moment that the test chooses.
struct Alias {
    watch: Arc<Watch>,
    front: Arc<Driver>,
    port: u16,
}

impl Alias {
    fn new() -> Self {
        let port = server_of_nothing();
        let front = Driver::new(Arc::new(Config::from_url(&format!("redis://127.0.0.1:{port}")).unwrap()));
        let watch = Arc::new(Watch::new().unwrap());
        front.attach(&watch);
        Self { watch, front, port }
    }

    fn turns_out_to_be_one_of_several(&self) {
        let Role::Front(own) = &self.front.role else { unreachable!() };
        let primary = Announced {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            id: "one".to_owned(),
            names: Vec::new(),
            zone: None,
        };
        let (config, me) = (Arc::clone(&self.front.config), Arc::downgrade(&self.front));
        let layout = Layout::of_primary(primary, Vec::new());
        own.get_or_init(|| Cluster::new(config, me, Arc::clone(&self.watch), &layout));
    }

    fn is_answered(&self, slot: &Slot<Outcome>) {
        assert_eq!(until(&self.watch, || answer(slot)), Value::Nil);
    }
}

#[test]
fn a_call_is_answered_whose_caller_looked_before_there_was_a_cluster() {
    let alias = Alias::new();
    alias.turns_out_to_be_one_of_several();
    let slot = Arc::new(Slot::new());
    let limits = Limits { timeout: Some(SOON), ..Limits::default() };
    let entry = Entry::new(packet("GET", &["k"]), Some(Arc::clone(&slot) as Arc<dyn Receiver>), limits);
    assert!(alias.front.submit_entry(entry, Flush::Now).is_ok());
    alias.is_answered(&slot);
}

#[test]
fn calls_of_an_attempt_are_answered_that_ends_after_the_cluster_was_found() {
    let alias = Alias::new();
    let slot = submit(&alias.front, packet("GET", &["k"]));
    // The connector's report waits for the mutex until then, or came before: both are fine.
    alias.turns_out_to_be_one_of_several();
    alias.front.connected(0, Err(crate::error::Error::connection("too late")));
    alias.is_answered(&slot);
}

#[test]
fn calls_under_way_go_on_when_the_server_turns_out_to_be_one_of_several() {
    let alias = Alias::new();
    let first = submit(&alias.front, packet("GET", &["k"]));
    alias.is_answered(&first);
    let slots: Vec<_> = (0..100).map(|_| submit(&alias.front, packet("GET", &["k"]))).collect();
    alias.turns_out_to_be_one_of_several();
    alias.front.connected(0, Err(crate::error::Error::connection("too late")));
    slots.iter().for_each(|slot| alias.is_answered(slot));
}
