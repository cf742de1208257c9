//! Handles on this library's own driver, and the calls made by them.

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use redis::Value;

use super::command::{Blocking, Packet};
use super::driver::{Accepted, Driver};
use super::slot::{Receiver, Slot};
use crate::config::Config;
use crate::context::{self, Context as Driving};
use crate::error::{Error, Result};
use crate::fork;
use crate::reactor::reactor;

/// Connections for blocking commands that are kept for the next one.
const SPARE_CONNECTIONS: usize = 4;

/// The connection of one alias in this process.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Shared>);

struct Shared {
    alias: Arc<str>,
    config: Arc<Config>,
    /// This process's driver, and after a fork, until the first use, still the parent's.
    driver: Current,
    /// Idle connections that served blocking commands.
    spare: Mutex<Vec<Arc<Driver>>>,
}

impl Handle {
    pub(super) fn new(alias: &str, config: Config) -> Self {
        let config = Arc::new(config);
        Self(Arc::new(Shared {
            alias: alias.into(),
            driver: Current::new(reactor().driver(&config)),
            config,
            spare: Mutex::default(),
        }))
    }

    /// As a pointer that owns a reference.
    #[cfg(feature = "python")]
    pub(crate) fn into_raw(self) -> *const std::ffi::c_void {
        Arc::into_raw(self.0).cast()
    }

    /// # Safety
    /// The pointer must come from [`Handle::into_raw`], and own a reference.
    #[cfg(feature = "python")]
    pub(crate) unsafe fn from_raw(handle: *const std::ffi::c_void) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Arc::from_raw(handle.cast::<Shared>()) })
    }

    /// Whether it was last used before this process was forked.
    #[cfg(feature = "python")]
    pub(crate) fn is_stale(&self) -> bool {
        self.0.driver.get().epoch() != fork::epoch()
    }

    /// Makes it this process's.
    #[cfg(feature = "python")]
    pub(crate) fn refresh(&self) {
        if self.is_stale() {
            self.after_fork();
        }
    }

    pub(crate) fn find(alias: &str) -> Result<Self> {
        super::registry::find(alias).map(|connection| connection.handle)
    }

    #[cfg(feature = "python")]
    pub(crate) fn known(alias: &[u8]) -> Option<Self> {
        super::registry::known(alias).map(|connection| connection.handle)
    }

    pub(crate) fn alias(&self) -> &str {
        &self.0.alias
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn db(&self) -> i64 {
        self.0.config.db
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        self.0.config.response_timeout
    }

    pub(super) fn call(&self, packet: Packet, timeout: Option<Duration>) -> Result<Call> {
        let route = self.route(&packet);
        let slot = Arc::new(Slot::new());
        route.submit(packet, Arc::clone(&slot) as Arc<dyn Receiver>, timeout, false)?;
        Ok(Call { slot, route, over: false })
    }

    /// The driver that a packet goes to.
    pub(crate) fn route(&self, packet: &Packet) -> Route {
        if packet.blocking == Blocking::No {
            Route { driver: self.driver(), lent_by: None }
        } else {
            Route { driver: self.dedicated_driver(), lent_by: Some(self.clone()) }
        }
    }

    /// This process's driver.
    fn driver(&self) -> Arc<Driver> {
        let driver = self.0.driver.get();
        if driver.epoch() == fork::epoch() { Arc::clone(&driver) } else { self.after_fork() }
    }

    #[cold]
    fn after_fork(&self) -> Arc<Driver> {
        let stale = self.0.driver.get();
        if stale.epoch() != fork::epoch() {
            self.0.driver.replace(&stale, reactor().driver(&self.0.config));
        }
        Arc::clone(&self.0.driver.get())
    }

    /// A driver for one blocking command.
    fn dedicated_driver(&self) -> Arc<Driver> {
        let epoch = fork::epoch();
        // NOTE: try_lock, because a fork may have happened while another thread of the parent held it.
        let spare = self.0.spare.try_lock().ok().and_then(|mut spare| {
            spare.retain(|driver| driver.epoch() == epoch);
            spare.pop()
        });
        spare.unwrap_or_else(|| reactor().dedicated_driver(&self.0.config))
    }

    fn give_back(&self, driver: Arc<Driver>) {
        if driver.epoch() == fork::epoch()
            && driver.is_idle()
            && let Ok(mut spare) = self.0.spare.try_lock()
            && spare.len() < SPARE_CONNECTIONS
        {
            spare.push(driver);
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' at {}", self.0.alias, self.0.config)
    }
}

/// A driver that is replaced once a process, at the first use after the fork that made it.
///
/// What it is replaced by is seen by all, and what it was is not freed while the process lives, because another thread may
/// just be reading it. So reading costs no more than a pointer.
struct Current(AtomicPtr<Driver>);

impl Current {
    fn new(driver: Arc<Driver>) -> Self {
        Self(AtomicPtr::new(Arc::into_raw(driver).cast_mut()))
    }

    fn get(&self) -> ManuallyDrop<Arc<Driver>> {
        let driver = self.0.load(Ordering::Acquire);
        // SAFETY: it came from `into_raw`, and its reference is ours until we are dropped, and beyond if it was replaced;
        // it is not given up here.
        ManuallyDrop::new(unsafe { Arc::from_raw(driver) })
    }

    /// Replaces `stale`, unless another thread was faster.
    fn replace(&self, stale: &Arc<Driver>, fresh: Arc<Driver>) {
        let stale = Arc::as_ptr(stale).cast_mut();
        let fresh = Arc::into_raw(fresh).cast_mut();
        if self.0.compare_exchange(stale, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: it was not stored, so its reference is still ours.
            drop(unsafe { Arc::from_raw(fresh) });
        }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        // SAFETY: as in `get`, and this is the end of it: nobody has a reference to us.
        drop(unsafe { Arc::from_raw(*self.0.get_mut()) });
    }
}

/// Where one call goes.
pub(crate) struct Route {
    driver: Arc<Driver>,
    /// Set for a driver that serves this call alone.
    lent_by: Option<Handle>,
}

impl Route {
    /// Hands the call to the driver and sees to it that it is sent. `driven` says that somebody drives even though this
    /// thread is not known to.
    pub(crate) fn submit(
        &self,
        packet: Packet,
        receiver: Arc<dyn Receiver>,
        timeout: Option<Duration>,
        driven: bool,
    ) -> Result<()> {
        packet.check()?;
        let context = context::current();
        if context == Driving::Elsewhere && !driven && !crate::tokio_driver::ensure() {
            return Err(Error::nobody_drives());
        }
        let accepted = self.driver.submit(packet, receiver, timeout)?;
        if context == Driving::Loop && (self.lent_by.is_some() || accepted == Accepted::Waiting) {
            context::want_prompt_cancel();
        }
        match context {
            // An idle connection sends at once, which saves a loop iteration; a busy one collects what comes.
            Driving::Loop if accepted == Accepted::Busy || context::is_collecting() => {
                context::send_later(Arc::clone(&self.driver));
            }
            Driving::Loop | Driving::Blocking => self.driver.flush(),
            Driving::Elsewhere if driven => {}
            Driving::Elsewhere => crate::tokio_driver::send_soon(),
        }
        Ok(())
    }

    /// The call is over.
    pub(crate) fn finished(&self) {
        if let Some(handle) = &self.lent_by {
            handle.give_back(Arc::clone(&self.driver));
        }
    }

    /// The caller has gone away before the call was over.
    pub(crate) fn given_up(&self) {
        if self.lent_by.is_some() {
            // The server sits on the command: only closing the connection takes it back.
            self.driver.close();
        } else {
            self.driver.abandoned();
        }
    }
}

/// One call on its way. Dropping it gives it up.
pub(crate) struct Call {
    slot: Arc<Slot<Result<Value>>>,
    route: Route,
    over: bool,
}

impl Call {
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Value>> {
        let result = ready!(self.slot.poll(cx));
        self.over = true;
        self.route.finished();
        Poll::Ready(result)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.over {
            self.slot.abandon();
            self.route.given_up();
        }
    }
}
