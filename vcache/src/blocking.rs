//! Waiting without an event loop: the calling thread polls the connections itself.
//!
//! Of the threads that wait at a time one has the reader's role: it sleeps on the process's poller, and drives the
//! connections for everybody. The others park. A reader whose own call is done hands the role to one that still waits.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use crate::context::{self, Context as Driving};
use crate::error::Result;
use crate::reactor::{Reactor, reactor};
use crate::sync::lock;

/// How often a thread that waits looks whether it was interrupted (Ctrl-C). A signal ends no sleep when it comes a moment
/// before it, or to another thread.
const LOOK_UP: Duration = Duration::from_millis(200);

/// Who is the reader, and who would be next.
#[derive(Default)]
pub(crate) struct Role(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    taken: bool,
    parked: VecDeque<Arc<Parker>>,
}

/// A thread that waits.
struct Parker {
    thread: Thread,
    id: ThreadId,
    notified: AtomicBool,
    reading: AtomicBool,
}

thread_local! {
    /// This thread's parker while no call uses it.
    static SPARE: Cell<Option<Arc<Parker>>> = const { Cell::new(None) };
}

/// The parker of one call. A call made from within another one's wait (by a signal handler) gets one of its own, so that
/// neither takes the other's wake-up.
struct Own(Arc<Parker>);

impl Own {
    fn take() -> Self {
        Self(SPARE.take().unwrap_or_else(|| {
            let thread = thread::current();
            Arc::new(Parker {
                id: thread.id(),
                thread,
                notified: AtomicBool::new(false),
                reading: AtomicBool::new(false),
            })
        }))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        SPARE.set(Some(Arc::clone(&self.0)));
    }
}

impl Parker {
    fn is_notified(&self) -> bool {
        self.notified.load(Ordering::SeqCst)
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
        if self.reading.load(Ordering::SeqCst) {
            reactor().ring();
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

/// As [`block_on`], but gives up with the error of `interrupted`, which is asked whenever a signal came, and
/// every [`LOOK_UP`].
pub(crate) fn block_on_until<F: Future, E>(
    future: F,
    mut interrupted: impl FnMut() -> Result<(), E>,
) -> Result<F::Output, E> {
    let mut future = pin!(future);
    let _driving = context::enter(Driving::Blocking);
    let own = Own::take();
    let parker = &own.0;
    let waker = Waker::from(Arc::clone(parker));
    let mut cx = Context::from_waker(&waker);
    loop {
        parker.notified.store(false, Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Ok(output);
        }
        wait(reactor(), parker, &mut interrupted)?;
    }
}

fn wait<E>(
    reactor: &'static Reactor,
    parker: &Arc<Parker>,
    interrupted: &mut impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    while !parker.is_notified() {
        let undisturbed = Turn::take(reactor, parker).wait();
        // Asked without the role: a signal handler may run for long, and call us itself.
        if !undisturbed {
            interrupted()?;
        }
    }
    Ok(())
}

/// A thread's place among those who wait, as the reader or behind it, until it is dropped.
struct Turn<'a> {
    reactor: &'static Reactor,
    parker: &'a Arc<Parker>,
    reading: bool,
}

impl<'a> Turn<'a> {
    fn take(reactor: &'static Reactor, parker: &'a Arc<Parker>) -> Self {
        let reading = reactor.blocking.take_or_queue(parker);
        Self { reactor, parker, reading }
    }

    /// Waits until the call is done. `false`: until it should be asked whether a signal came.
    fn wait(mut self) -> bool {
        loop {
            if self.parker.is_notified() {
                return true;
            }
            self.reading = self.reading || self.reactor.blocking.was_given_to(self.parker);
            let undisturbed =
                if self.reading { sleep(self.reactor, self.parker) } else { park(self.reactor, self.parker) };
            if !undisturbed {
                return false;
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.reactor.blocking.leave(self.parker);
    }
}

/// One turn of a parked thread. `false` says that it should look whether it was interrupted.
fn park(reactor: &'static Reactor, parker: &Arc<Parker>) -> bool {
    // The reader went to sleep before this thread's call was there, perhaps for longer than this call may take.
    let now = Instant::now();
    let until = reactor.next_deadline().map_or(LOOK_UP, |deadline| deadline.saturating_duration_since(now));
    thread::park_timeout(until.min(LOOK_UP));
    // Woken for its reply, or to be the reader.
    if parker.is_notified() || parker.reading.load(Ordering::SeqCst) {
        return true;
    }
    if reactor.next_deadline().is_some_and(|deadline| deadline <= Instant::now()) {
        reactor.drive();
    }
    false
}

/// One turn of the reader. `false` says that it should look whether it was interrupted.
fn sleep(reactor: &'static Reactor, parker: &Arc<Parker>) -> bool {
    parker.reading.store(true, Ordering::SeqCst);
    let undisturbed = if parker.is_notified() {
        true
    } else {
        // An error here would be EBADF or ENOMEM: driving instead of sleeping still makes progress.
        reactor.sleep(LOOK_UP).unwrap_or(true)
    };
    reactor.drive();
    undisturbed
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
        parker.reading.load(Ordering::SeqCst) && {
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
        parker.reading.store(false, Ordering::SeqCst);
        // One whose call is done needs no role: it wakes by itself, and would only have to hand it on.
        let waiting = queue.parked.iter().position(|parked| !parked.is_notified());
        let next = waiting.and_then(|at| queue.parked.remove(at));
        queue.taken = next.is_some();
        if let Some(next) = next {
            // Under the lock, or it could have left already, and would be thought to read for ever.
            next.reading.store(true, Ordering::SeqCst);
            next.thread.unpark();
        }
    }
}
