//! One connection on real servers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::task::{Context, Poll, Waker};

use redis::Value;

use super::*;
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
