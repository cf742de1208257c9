//! Waiting without an event loop: the calling thread polls the connections itself.
//!
//! Of the threads that wait for shared connections one at a time has the reader's role: it sleeps on the process's poller,
//! and drives the connections for all. The others park. A reader whose own call is done hands the role to one that still
//! waits. A thread that waits for a blocking command (`BLPOP` and the like) sleeps on the connection of that alone, and a
//! reply to others does not wake it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

#[cfg(feature = "python")]
use crate::connection::local::forked;
#[cfg(feature = "python")]
use crate::connection::receiver::{Outcome, Receiver};
#[cfg(feature = "python")]
use crate::connection::{Connection, Packet};
use crate::fork::{self, PerProcess};
use crate::reactor::waiter::Waiter;
use crate::reactor::{self, Reactor, Sleeper, Watch, reactor_if_made};
use crate::scope::{self, Driving};
use crate::sync::lock;

/// How often a waiting main thread looks whether it was interrupted (Ctrl-C), at least. A signal ends no sleep when it
/// comes a moment before it, or to another thread.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Other threads get no signals. They look up all the same, rarely.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Who is the reader, and who would be next.
#[derive(Default)]
struct Role(Mutex<Queue>);

static ROLE: PerProcess<Role> = PerProcess::new();

#[derive(Default)]
struct Queue {
    taken: bool,
    parked: VecDeque<Arc<Parker>>,
}

/// How a waiting thread is to be woken.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Sleeps {
    Parked,
    /// On the shared poller: by the reactor's bell.
    Reading,
    /// On its own watch: by its own bell.
    Alone,
}

/// A thread that waits.
struct Parker {
    thread: Thread,
    id: ThreadId,
    epoch: u64,
    notified: AtomicBool,
    sleeps: AtomicU8,
    waiter: Arc<Waiter>,
    /// How often it looks up.
    look_up: Duration,
}

/// Whether this is the thread that the process began with, which is the one that runs signal handlers in Python.
fn is_main() -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return rustix::thread::gettid() == rustix::process::getpid();
    #[cfg(target_vendor = "apple")]
    // SAFETY: a function without arguments that looks at the calling thread.
    return unsafe { libc::pthread_main_np() } != 0;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    return true;
}

thread_local! {
    /// This thread's parker while no call uses it.
    static SPARE: Cell<Option<Arc<Parker>>> = const { Cell::new(None) };
}

/// The parker of one call. A call made from within another one's wait (by a signal handler) gets one that is not in use, so
/// that neither takes the other's wake-up.
struct Own(Arc<Parker>);

impl Own {
    fn take() -> Self {
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        Self(spare.filter(|parker| parker.epoch == fork::epoch()).unwrap_or_else(|| {
            let thread = thread::current();
            Arc::new(Parker {
                id: thread.id(),
                thread,
                epoch: fork::epoch(),
                notified: AtomicBool::new(false),
                sleeps: AtomicU8::new(Sleeps::Parked as u8),
                waiter: Arc::default(),
                look_up: if is_main() { LOOK_UP } else { LONGEST_SLEEP },
            })
        }))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = SPARE.try_with(|spare| spare.set(Some(Arc::clone(&self.0))));
    }
}

impl Parker {
    fn is_notified(&self) -> bool {
        self.notified.load(Ordering::SeqCst)
    }

    fn set(&self, sleeps: Sleeps) {
        self.sleeps.store(sleeps as u8, Ordering::SeqCst);
    }

    fn is(&self, sleeps: Sleeps) -> bool {
        self.sleeps.load(Ordering::SeqCst) == sleeps as u8
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.notified.swap(true, Ordering::SeqCst) || self.id == thread::current().id() {
            return;
        }
        if self.is(Sleeps::Alone)
            && let Some(bell) = self.waiter.bell()
        {
            bell.ring();
        } else if self.is(Sleeps::Reading)
            && let Some(reactor) = reactor_if_made()
        {
            reactor.ring();
        } else {
            self.thread.unpark();
        }
    }
}

/// Runs a future to its end on this thread, driving the connections while it waits.
///
/// In Python, release the GIL first. On an asyncio loop's own thread it works, and blocks that loop.
///
/// ```no_run
/// use vcache::AsyncCommands;
///
/// let greeting: Option<String> = vcache::block_on(async {
///     vcache::connection()?.get("greeting").await.map_err(vcache::Error::from)
/// })?;
/// # Ok::<(), vcache::Error>(())
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    match block_on_until(future, || Ok::<(), std::convert::Infallible>(())) {
        Ok(output) => output,
        Err(never) => match never {},
    }
}

/// A blocking call.
#[cfg(feature = "python")]
struct Exchange {
    outcome: Mutex<Option<Outcome>>,
    parker: Arc<Parker>,
    given_up: AtomicBool,
}

#[cfg(feature = "python")]
impl Receiver for Exchange {
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker> {
        *lock(&self.outcome) = Some(outcome);
        Some(Waker::from(Arc::clone(&self.parker)))
    }

    fn is_abandoned(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// Sends a packet and waits for its outcome on this thread, as [`block_on_until`] waits for a future.
#[cfg(feature = "python")]
pub(crate) fn exchange_until<E>(
    connection: &Connection,
    packet: Packet,
    mut interrupted: impl FnMut() -> Result<(), E>,
) -> Result<Outcome, E> {
    let own = Own::take();
    let parker = &own.0;
    let exchange = Arc::new(Exchange {
        outcome: Mutex::new(None),
        parker: Arc::clone(parker),
        given_up: AtomicBool::new(false),
    });
    parker.notified.store(false, Ordering::SeqCst);
    let receiver = Arc::clone(&exchange) as Arc<dyn Receiver>;
    let failed = |error| Outcome { result: Err(error), packet: Packet::empty(), sent: false };
    let route = match connection.begin(packet, receiver, Driving::Blocking, &parker.waiter) {
        Ok((route, _)) => route,
        Err(error) => return Ok(failed(error)),
    };
    loop {
        if let Err(raised) = wait_for_wake(parker, &mut interrupted) {
            exchange.given_up.store(true, Ordering::Relaxed);
            if !route.is_stale() {
                route.given_up();
            }
            return Err(raised);
        }
        if route.is_stale() {
            return Ok(failed(forked()));
        }
        // A reply to an earlier call of this thread, which was given up, wakes it too. In this order, or a wake-up is lost.
        parker.notified.store(false, Ordering::SeqCst);
        if let Some(outcome) = lock(&exchange.outcome).take() {
            route.finished();
            return Ok(outcome);
        }
    }
}

/// As [`block_on`], but gives up with the error of `interrupted`, which the main thread asks every [`LOOK_UP`] at
/// least, and when a signal came.
pub(crate) fn block_on_until<F: Future, E>(
    future: F,
    mut interrupted: impl FnMut() -> Result<(), E>,
) -> Result<F::Output, E> {
    let mut future = pin!(future);
    let own = Own::take();
    let parker = &own.0;
    let _driving = scope::enter(Driving::Blocking, &parker.waiter);
    let waker = Waker::from(Arc::clone(parker));
    let mut cx = Context::from_waker(&waker);
    loop {
        parker.notified.store(false, Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Ok(output);
        }
        wait_for_wake(parker, &mut interrupted)?;
    }
}

/// Waits until the thread is woken. In a child that a signal handler made meanwhile it returns at once: what it waits for
/// is its parent's.
fn wait_for_wake<E>(parker: &Arc<Parker>, interrupted: &mut impl FnMut() -> Result<(), E>) -> Result<(), E> {
    let mut asked = Instant::now();
    while !parker.is_notified() {
        let undisturbed = wait(parker, asked + parker.look_up);
        // Asked without the role: a signal handler may run for long, and call us itself.
        if !undisturbed || asked.elapsed() >= parker.look_up {
            interrupted()?;
            asked = Instant::now();
            if parker.epoch != fork::epoch() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Waits until the call is done, or until it should be asked whether a signal came (`false`), and no longer than `until`.
fn wait(parker: &Arc<Parker>, until: Instant) -> bool {
    if let Some(own) = parker.waiter.own()
        && own.has_any()
    {
        return wait_alone(parker, own, until);
    }
    let Some(reactor) = reactor_if_made() else {
        // No call was made: what it waits for is no business of ours.
        thread::park_timeout(until.saturating_duration_since(Instant::now()));
        return parker.is_notified();
    };
    Turn::take(reactor, parker).wait(until)
}

/// Waits on the thread's own watch, and beside it on the shared one if a call is under way there.
fn wait_alone(parker: &Arc<Parker>, own: &Watch, until: Instant) -> bool {
    let Ok(bell) = parker.waiter.bell_or_new() else {
        thread::park_timeout(LOOK_UP / 10);
        own.drive();
        return false;
    };
    let shared = reactor_if_made().filter(|_| parker.waiter.waits_on_shared());
    if let Some(reactor) = shared {
        reactor.shared().add_sleeper(Arc::downgrade(bell) as Weak<dyn Sleeper>);
    }
    let watches: &[&Watch] = match shared {
        Some(reactor) => &[own, reactor.shared()],
        None => &[own],
    };
    parker.set(Sleeps::Alone);
    let undisturbed = parker.is_notified()
        || reactor::sleep(watches, bell, until.saturating_duration_since(Instant::now())).unwrap_or(true);
    parker.set(Sleeps::Parked);
    watches.iter().for_each(|watch| watch.drive());
    undisturbed
}

/// A thread's place among those who wait for shared connections, as the reader or behind it, until it is dropped.
struct Turn<'a> {
    reactor: &'static Reactor,
    role: &'static Role,
    parker: &'a Arc<Parker>,
    reading: bool,
}

impl<'a> Turn<'a> {
    fn take(reactor: &'static Reactor, parker: &'a Arc<Parker>) -> Self {
        let role = ROLE.get(Role::default);
        let reading = role.take_or_queue(parker);
        Self { reactor, role, parker, reading }
    }

    fn wait(mut self, until: Instant) -> bool {
        loop {
            if self.parker.is_notified() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.reading = self.reading || self.role.was_given_to(self.parker);
            let undisturbed = if self.reading { self.sleep(left) } else { self.park(left) };
            if !undisturbed {
                return false;
            }
        }
    }

    /// One turn of a parked thread. `false` says that it should look whether it was interrupted.
    fn park(&self, at_most: Duration) -> bool {
        // The reader went to sleep before this thread's call was there, perhaps for longer than this call may take.
        let due = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        thread::park_timeout(
            self.reactor.next_deadline().map_or(at_most, |deadline| due(deadline).min(at_most)),
        );
        // Woken for its reply, or to be the reader.
        if self.parker.is_notified() || self.parker.is(Sleeps::Reading) {
            return true;
        }
        if self.reactor.next_deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            self.reactor.drive();
        }
        false
    }

    /// One turn of the reader. `false` says that it should look whether it was interrupted.
    fn sleep(&self, at_most: Duration) -> bool {
        self.parker.set(Sleeps::Reading);
        // An error here would be EBADF or ENOMEM: driving instead of sleeping still makes progress.
        let undisturbed = self.parker.is_notified() || self.reactor.sleep(at_most).unwrap_or(true);
        self.reactor.drive();
        undisturbed
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.role.leave(self.parker);
    }
}

impl Role {
    /// Takes the role if it is free (`true`), or joins those who wait for it.
    fn take_or_queue(&self, parker: &Arc<Parker>) -> bool {
        let mut queue = lock(&self.0);
        if queue.taken {
            queue.parked.push_back(Arc::clone(parker));
            return false;
        }
        queue.taken = true;
        true
    }

    /// Whether a reader that left has made this thread the reader: then it no longer stands in the queue.
    fn was_given_to(&self, parker: &Arc<Parker>) -> bool {
        parker.is(Sleeps::Reading) && {
            let queue = lock(&self.0);
            !queue.parked.iter().any(|parked| Arc::ptr_eq(parked, parker))
        }
    }

    /// Leaves the queue, or gives the role to the next.
    fn leave(&self, parker: &Arc<Parker>) {
        let mut queue = lock(&self.0);
        if let Some(at) = queue.parked.iter().position(|parked| Arc::ptr_eq(parked, parker)) {
            queue.parked.remove(at);
            return;
        }
        parker.set(Sleeps::Parked);
        // One whose call is done needs no role: it wakes by itself, and would only have to hand it on.
        let waiting = queue.parked.iter().position(|parked| !parked.is_notified());
        let next = waiting.and_then(|at| queue.parked.remove(at));
        queue.taken = next.is_some();
        if let Some(next) = next {
            // Under the lock, or it could have left already, and would be thought to read for ever.
            next.set(Sleeps::Reading);
            next.thread.unpark();
        }
    }
}
