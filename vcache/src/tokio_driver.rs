//! Driving from a tokio runtime: one task per runtime watches the poller's descriptor. It is started by the first call
//! that is polled in the runtime, and ends with it.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;

#[cfg(not(feature = "driver"))]
use crate::abi::guest::reactor::reactor;
use crate::fork::{PerProcess, epoch};
#[cfg(feature = "driver")]
use crate::reactor::reactor;
use crate::sync::lock;

/// The runtimes that drive. A forked child has its own list, because it may have inherited the parent's locked.
type Runtimes = Mutex<Vec<(Id, Arc<Notify>)>>;
static RUNTIMES: PerProcess<Runtimes> = PerProcess::new();

thread_local! {
    /// The runtime that this thread's last call belonged to.
    static RECENT: std::cell::RefCell<Option<(u64, Id, Arc<Notify>)>> = const { std::cell::RefCell::new(None) };
}

/// Makes sure that the current runtime drives. `false`: there is none.
pub(crate) fn ensure() -> bool {
    let Ok(handle) = Handle::try_current() else { return false };
    let (epoch, id) = (epoch(), handle.id());
    if RECENT.with_borrow(|recent| recent.as_ref().is_some_and(|(e, i, _)| *e == epoch && *i == id)) {
        return true;
    }
    let mut list = lock(RUNTIMES.get(Mutex::default));
    let send = match list.iter().find(|(known, _)| *known == id) {
        Some((_, send)) => Arc::clone(send),
        None => {
            let Some(poller) = watch() else { return false };
            let send = Arc::new(Notify::new());
            #[cfg(feature = "driver")]
            learn_of_deadlines(&send);
            list.push((id, Arc::clone(&send)));
            handle.spawn(drive(poller, Registration { epoch, id }, Arc::clone(&send)));
            send
        }
    };
    RECENT.set(Some((epoch, id, send)));
    true
}

#[cfg(feature = "driver")]
impl crate::reactor::Sleeper for Notify {
    fn look_again(&self) {
        self.notify_one();
    }
}

/// Has the runtime look again when a deadline comes earlier than it thought.
#[cfg(feature = "driver")]
fn learn_of_deadlines(send: &Arc<Notify>) {
    if let Ok(reactor) = reactor() {
        reactor.shared().add_sleeper(Arc::downgrade(send) as std::sync::Weak<dyn crate::reactor::Sleeper>);
    }
}

/// Tells this thread's runtime that a call was submitted.
pub(crate) fn send_soon() {
    RECENT.with_borrow(|recent| {
        if let Some((_, _, send)) = recent {
            send.notify_one();
        }
    });
}

/// Takes the runtime off the list when its task ends.
struct Registration {
    epoch: u64,
    id: Id,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // In a child there is nothing to take off: it has a list of its own.
        if self.epoch == epoch() {
            lock(RUNTIMES.get(Mutex::default)).retain(|(id, _)| *id != self.id);
        }
    }
}

/// The poller's descriptor, borrowed for good: a reactor is never freed.
struct Watched(RawFd);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// The poller as this runtime sees it; `None` in a runtime that was built without I/O or without time.
fn watch() -> Option<AsyncFd<Watched>> {
    std::panic::catch_unwind(|| {
        drop(tokio::time::sleep(Duration::ZERO));
        // SAFETY: the descriptor is the poller's of this process, which is never closed while the epoch lasts, and
        // `drive` ends with the epoch.
        unsafe { AsyncFd::register_with_interest(Watched(reactor().ok()?.fd()), Interest::READABLE) }.ok()
    })
    .ok()
    .flatten()
}

async fn drive(poller: AsyncFd<Watched>, registration: Registration, send: Arc<Notify>) {
    let Ok(reactor) = reactor() else { return };
    while registration.epoch == epoch() {
        let wake_at = reactor.step().map(tokio::time::Instant::from_std);
        let alarm = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => tokio::time::sleep(Duration::from_secs(3600)).await,
            }
        };
        tokio::select! {
            ready = poller.readable() => {
                // Cleared before we drive: what comes in meanwhile makes it readable again.
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
            }
            () = send.notified() => {}
            () = alarm => {}
        }
    }
}
