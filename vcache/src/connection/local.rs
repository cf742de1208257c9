//! Handles on this library's own connections, and the calls made by them.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use redis::Value;

use super::command::Packet;
use super::driver::{Driver, Flush, Submitted};
use super::limits::Limits;
use super::policy::Blocking;
use super::receiver::{Outcome, Receiver};
use super::recording;
use super::slot::Slot;
use super::topology::Topology;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::reactor::reactor;
use crate::reactor::waiter::{UnderWay, Waiter};
use crate::scope::{self, Driving};

/// Connections for blocking commands that are kept for the next one.
const SPARE_CONNECTIONS: usize = 4;

/// The connection of one alias in this process.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Shared>);

struct Shared {
    alias: Arc<str>,
    /// What keys begin with that this library makes: the key prefix and a colon, or nothing.
    key_head: Box<str>,
    topology: Topology,
    /// Idle connections that served blocking commands.
    spare: Mutex<Vec<Arc<Driver>>>,
}

impl Handle {
    pub(super) fn new(alias: &str, config: Config, key_head: String) -> Self {
        let topology = Topology::new(Arc::new(config));
        let key_head = key_head.into();
        Self(Arc::new(Shared { alias: alias.into(), key_head, topology, spare: Mutex::default() }))
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
        self.0.topology.is_stale()
    }

    /// Makes it this process's.
    #[cfg(feature = "python")]
    pub(crate) fn refresh(&self) {
        if self.is_stale() {
            self.0.topology.refresh();
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

    pub(crate) fn key_head(&self) -> &str {
        &self.0.key_head
    }

    pub(crate) fn config(&self) -> &Config {
        self.0.topology.config()
    }

    /// For each slot of the cluster behind it, something that is the same for slots on one node; empty without a cluster, as far
    /// as is known.
    pub(crate) fn owners(&self) -> Result<Vec<Option<usize>>> {
        Ok(self.0.topology.route()?.cluster().map(|cluster| cluster.owners()).unwrap_or_default())
    }

    pub(crate) fn db(&self) -> i64 {
        self.0.topology.config().db
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        self.0.topology.config().response_timeout
    }

    pub(super) fn call(&self, packet: Packet, limits: Limits) -> Result<Call> {
        let route = self.route(&packet)?;
        let slot = Arc::new(Slot::new());
        route.submit(packet, Arc::clone(&slot) as Arc<dyn Receiver>, limits, false)?;
        Ok(Call::new(slot, route))
    }

    /// Where a packet goes; what drives on this thread waits for it.
    ///
    /// # Errors
    /// `Connection` if the process has no descriptor left to wait for a connection.
    pub(crate) fn route(&self, packet: &Packet) -> Result<Route> {
        self.route_for(packet, scope::waiter().as_ref())
    }

    /// Where a look at a key goes: it is watched on the very connection that it is read on.
    pub(super) fn route_to_watch(&self, key: &[u8]) -> Result<Route> {
        let mut packet = Packet::unchecked();
        packet.then("GET", 1).arg(key);
        let mut route = self.route(&packet)?;
        if let Some(node) = route.driver.cluster().and_then(|cluster| cluster.driver_of(key)) {
            route.driver = node;
        }
        Ok(route)
    }

    /// Where a packet goes; `None` waits in a runtime.
    pub(crate) fn route_for(&self, packet: &Packet, waiter: Option<&Arc<Waiter>>) -> Result<Route> {
        recording::note(&self.0.alias, packet);
        if packet.blocking == Blocking::No {
            let driver = self.0.topology.route()?;
            return Ok(Route { driver, lent_by: None, under_way: waiter.map(Waiter::begin) });
        }
        let driver = self.dedicated_driver(packet)?;
        driver.attach(match waiter {
            Some(waiter) => waiter.own_or_new()?,
            None => reactor()?.shared(),
        });
        Ok(Route { driver, lent_by: Some(self.clone()), under_way: None })
    }

    /// A connection for one blocking command. Its caller watches it.
    fn dedicated_driver(&self, packet: &Packet) -> Result<Arc<Driver>> {
        let alias = self.0.topology.route()?;
        let config = match alias.cluster() {
            Some(cluster) => Arc::clone(cluster.driver_for(packet)?.config()),
            None => Arc::clone(self.0.topology.config()),
        };
        // NOTE: try_lock, because a fork may have happened while another thread of the parent held it.
        let spare = self.0.spare.try_lock().ok().and_then(|mut spare| {
            spare.retain(|driver| !driver.is_stale());
            let at = spare.iter().position(|driver| Arc::ptr_eq(driver.config(), &config))?;
            Some(spare.remove(at))
        });
        Ok(spare.unwrap_or_else(|| alias.dedicated(config)))
    }

    fn give_back(&self, driver: &Arc<Driver>) {
        if driver.is_stale() {
            return;
        }
        driver.detach();
        if driver.is_idle()
            && !driver.has_successor()
            && let Ok(mut spare) = self.0.spare.try_lock()
        {
            if spare.len() >= SPARE_CONNECTIONS {
                // Those of other nodes make room for it.
                let Some(at) = spare.iter().position(|other| !Arc::ptr_eq(other.config(), driver.config()))
                else {
                    return;
                };
                spare.remove(at);
            }
            spare.push(Arc::clone(driver));
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' at {}", self.0.alias, self.0.topology.config())
    }
}

/// Where one call goes.
pub(crate) struct Route {
    driver: Arc<Driver>,
    /// Set for a connection that serves this call alone.
    lent_by: Option<Handle>,
    /// Its waiter counts the call.
    under_way: Option<UnderWay>,
}

impl Route {
    /// Hands the call to the driver and sees to it that it is sent, by whatever drives on this thread. `driven` says that
    /// something does even though this thread is not known to.
    pub(crate) fn submit(
        &self,
        packet: Packet,
        receiver: Arc<dyn Receiver>,
        limits: Limits,
        driven: bool,
    ) -> Result<()> {
        packet.check()?;
        let driving = scope::driving();
        if driving == Driving::Refused
            && let Some(refusal) = scope::refusal()
        {
            return Err(refusal);
        }
        if driving == Driving::Elsewhere && !driven && !crate::tokio_driver::ensure() {
            return Err(Error::nobody_drives());
        }
        let submitted = self.hand_over(packet, receiver, limits, driving)?;
        if driving == Driving::Loop && (self.lent_by.is_some() || submitted == Submitted::Waiting) {
            scope::want_prompt_cancel();
        }
        if driving == Driving::Elsewhere && !driven {
            crate::tokio_driver::send_soon();
        }
        Ok(())
    }

    /// Hands a checked call to the driver.
    pub(crate) fn hand_over(
        &self,
        packet: Packet,
        receiver: Arc<dyn Receiver>,
        limits: Limits,
        driving: Driving,
    ) -> Result<Submitted> {
        let flush = match driving {
            Driving::Blocking => Flush::Now,
            Driving::Loop if scope::is_collecting() => Flush::Together,
            Driving::Loop => Flush::Collect,
            Driving::Elsewhere | Driving::Refused => Flush::Later,
        };
        let submitted = self.driver.submit(packet, receiver, limits, flush)?;
        if submitted == Submitted::Unsent {
            match driving {
                Driving::Loop => scope::send_later(Arc::clone(&self.driver) as _),
                Driving::Elsewhere => reactor()?.shared().write_soon(Arc::clone(&self.driver) as _),
                Driving::Blocking | Driving::Refused => {}
            }
        }
        Ok(submitted)
    }

    pub(super) fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Whether the connection serves this call alone, so that giving it up takes it back from the server.
    #[cfg(feature = "python")]
    pub(crate) fn is_dedicated(&self) -> bool {
        self.lent_by.is_some()
    }

    /// Whether this is a forked child, and the call its parent's.
    pub(crate) fn is_stale(&self) -> bool {
        self.driver.is_stale()
    }

    /// The call is over.
    pub(crate) fn finished(&self) {
        if let Some(handle) = &self.lent_by {
            handle.give_back(&self.driver);
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

/// What a call in a forked child fails with that was made by its parent.
pub(crate) fn forked() -> Error {
    Error::connection(
        "this process was forked while the call was under way: the reply goes to its parent; call again",
    )
}

/// One call on its way. Dropping it gives it up.
pub(crate) struct Call {
    slot: Arc<Slot<Outcome>>,
    route: Route,
    over: bool,
}

impl Call {
    /// A call that was submitted on this route, and whose outcome comes to the slot.
    pub(super) fn new(slot: Arc<Slot<Outcome>>, route: Route) -> Self {
        Self { slot, route, over: false }
    }

    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Value>> {
        if self.route.is_stale() {
            self.over = true;
            return Poll::Ready(Err(forked()));
        }
        let outcome = ready!(self.slot.poll(cx));
        self.over = true;
        self.route.finished();
        self.route.under_way = None;
        Poll::Ready(outcome.result)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // What a child has of its parent's call is left alone: its locks may be held for ever.
        if !self.over && !self.route.is_stale() {
            self.slot.abandon();
            self.route.given_up();
        }
    }
}
