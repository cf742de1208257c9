//! One connection to one server. Any thread may move it on: [`Driver::submit`] accepts a call and writes, [`Driven::step`]
//! reads, writes and expires.
//!
//! What it knows is behind one mutex, held only for a non-blocking step of bounded length; nothing under it runs foreign
//! code. Whom a step completed is woken after the mutex is free. See [`super::state`] for the steps.
//!
//! ```text
//!                submit
//!                  |
//!        no connection, no room           connected
//!   .----------- waiting ----------------------------> in flight
//!   |              ^                                       |
//!   |  gave up     |  lost: was not sent, or may be        |  written: its clock starts
//!   |  waiting     |  repeated; refused by a replica       v
//!   |              '------------------------------------- sent
//!   |                                                      |
//!   '--> error <--- lost, or due ------------------------- +----> answered
//! ```
//!
//! A call keeps its encoded bytes until the reply is there, so writing needs no second buffer. Connecting is the business
//! of a short-lived thread (see [`super::dial`]), because name resolution blocks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use redis::PushKind;

use super::changed::Changes;
use super::command::Packet;
use super::dial::{Dialer, Established};
use super::in_flight::Entry;
use super::limits::Limits;
use super::push::Listener;
use super::receiver::Receiver;
use super::state::{Accepted, After, State};
use crate::config::Config;
use crate::error::Result;
use crate::fork;
use crate::reactor::watch::new_key;
use crate::reactor::{Driven, Watch};
use crate::sync::lock;

/// What a loop collects is written when the oldest of it is so old, or so much: the server works while Python does.
const OLDEST_UNSENT: Duration = Duration::from_millis(1);
const MOST_UNSENT: usize = 32 * 1024;
/// How often one that reads and reads lets a waiting thread in before it takes the mutex again.
const COURTESY: usize = 50;

pub(crate) struct Driver {
    config: Arc<Config>,
    epoch: u64,
    /// Threads that wait for the mutex.
    queue: AtomicUsize,
    state: Mutex<State>,
    changes: OnceLock<Arc<Changes>>,
    me: Weak<Driver>,
}

/// When the bytes of a call are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flush {
    /// At once.
    Now,
    /// An idle connection sends at once, which saves a loop iteration; a busy one collects what comes.
    Collect,
    /// With those that come after it.
    Together,
    /// By the next to drive.
    Later,
}

/// What became of a call that was submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Submitted {
    /// It was written, or is about to be: there is nothing to do.
    Sent,
    /// It is to be written by [`Driven::flush`].
    Unsent,
    /// It waits for a connection, or for room.
    Waiting,
}

impl Driver {
    pub(crate) fn new(config: Arc<Config>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            state: Mutex::new(State::new(Arc::clone(&config), new_key())),
            config,
            epoch: fork::epoch(),
            queue: AtomicUsize::new(0),
            changes: OnceLock::new(),
            me: Weak::clone(me),
        })
    }

    /// Whether this is a forked child and the connection is its parent's: it must not be touched.
    pub(crate) fn is_stale(&self) -> bool {
        self.epoch != fork::epoch()
    }

    /// Has `watch` tell when there is something to do, and no other.
    pub(crate) fn attach(&self, watch: &Arc<Watch>) {
        let me = Weak::clone(&self.me) as Weak<dyn Driven>;
        let mut state = self.lock();
        let after = state.attach(watch, &me, Instant::now());
        self.release(state, after);
    }

    /// Nothing tells any more, until it is attached again.
    pub(crate) fn detach(&self) {
        self.lock().detach();
    }

    /// Accepts a call, or refuses it at once.
    pub(crate) fn submit(
        &self,
        packet: Packet,
        receiver: Arc<dyn Receiver>,
        limits: Limits,
        flush: Flush,
    ) -> Result<Submitted> {
        let entry = Entry::new(packet, Some(receiver), limits);
        let now = Instant::now();
        let mut state = self.lock();
        let mut after = After::default();
        let accepted = state.accept(entry, now, &mut after);
        let at_once = match flush {
            Flush::Now => true,
            // What it waits for may be the answer to a probe, which is to be sent.
            _ if matches!(accepted, Ok(Accepted::Waiting)) => true,
            Flush::Collect if matches!(accepted, Ok(Accepted::Alone)) => true,
            Flush::Collect | Flush::Together => state.has_waited(now, OLDEST_UNSENT, MOST_UNSENT),
            Flush::Later => false,
        };
        if at_once {
            state.write_or_lose(now, &mut after);
        }
        let is_unsent = !at_once && state.has_unwritten();
        self.release(state, after);
        Ok(match accepted? {
            Accepted::Waiting => Submitted::Waiting,
            Accepted::Alone | Accepted::Busy if is_unsent => Submitted::Unsent,
            Accepted::Alone | Accepted::Busy => Submitted::Sent,
        })
    }

    /// A caller has gone away. Once many have, those that still wait for their turn are let go with their bytes.
    pub(crate) fn abandoned(&self) {
        if !self.is_stale() {
            self.lock().abandoned();
        }
    }

    /// Drops the connection, and with it a call that its caller gave up.
    pub(crate) fn close(&self) {
        if self.is_stale() {
            return;
        }
        let mut state = self.lock();
        let mut after = After::default();
        state.close(Instant::now(), &mut after);
        self.release(state, after);
    }

    /// Whether it is connected and has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Who waits for keys to change here.
    pub(super) fn changes(&self) -> &Arc<Changes> {
        self.changes.get_or_init(|| {
            let changes = Arc::new(Changes::default());
            self.lock().pushes.register(PushKind::Invalidate, Arc::clone(&changes) as Arc<dyn Listener>);
            changes
        })
    }

    /// Makes sure that a step is taken at that moment.
    pub(super) fn come_by(&self, at: Option<Instant>) {
        let mut state = self.lock();
        state.come_by(at);
        self.release(state, After::default());
    }

    fn connect(&self, attempt: u64) {
        let me = Weak::clone(&self.me);
        Dialer::new(Arc::clone(&self.config)).start(move |outcome| {
            if let Some(driver) = me.upgrade() {
                driver.connected(attempt, outcome);
            }
        });
    }

    fn connected(&self, attempt: u64, outcome: Result<Established>) {
        if self.is_stale() {
            return;
        }
        let mut state = self.lock();
        let mut after = After::default();
        state.connected(attempt, outcome, Instant::now(), &mut after);
        self.release(state, after);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.queue.fetch_add(1, Ordering::Relaxed);
                let state = lock(&self.state);
                self.queue.fetch_sub(1, Ordering::Relaxed);
                state
            }
        }
    }

    /// Lets go of the mutex, then does what must not be done under it.
    fn release(&self, mut state: MutexGuard<'_, State>, mut after: After) {
        state.settle(&mut after);
        drop(state);
        if let Some(attempt) = after.connect {
            self.connect(attempt);
        }
        if after.wake.is_empty() {
            return;
        }
        for waker in after.wake.drain(..) {
            waker.wake();
        }
        self.lock().give_back(after.wake);
    }
}

impl Driven for Driver {
    fn step(self: Arc<Self>, now: Instant) {
        if self.is_stale() {
            return;
        }
        // NOTE: the mutex is not fair. One that reads a long reply would take it again and again before a thread that was
        // just woken for it gets there.
        for _ in 0..COURTESY {
            if self.queue.load(Ordering::Relaxed) == 0 {
                break;
            }
            thread::yield_now();
        }
        let mut state = self.lock();
        let mut after = After::default();
        state.step(now, &mut after);
        self.release(state, after);
    }

    fn flush(self: Arc<Self>) {
        if self.is_stale() {
            return;
        }
        let mut state = self.lock();
        let mut after = After::default();
        state.write_or_lose(Instant::now(), &mut after);
        self.release(state, after);
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
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
            let Value::VerbatimString { text, .. } = until(&watch, || answer(&slot)) else {
                panic!("no text")
            };
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
}
