//! The connection of an alias in this process. One server has one. Of a cluster it is the one that leads to the nodes'.

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::driver::Driver;
use crate::config::Config;
use crate::error::Result;
use crate::fork::PerProcess;
use crate::reactor::reactor;
use crate::sync::lock;

/// The shared connections of this process: equal configs have one.
static SHARED: PerProcess<Mutex<HashMap<Config, Weak<Driver>>>> = PerProcess::new();

/// The connection of this config: the one that is there, or a new one. It connects on first use.
fn shared(config: &Arc<Config>) -> Result<Arc<Driver>> {
    let watch = reactor()?.shared();
    let mut shared = lock(SHARED.get(Mutex::default));
    if let Some(driver) = shared.get(&**config).and_then(Weak::upgrade) {
        return Ok(driver);
    }
    shared.retain(|_, driver| driver.strong_count() > 0);
    let driver = Driver::new(Arc::clone(config));
    driver.attach(watch);
    shared.insert((**config).clone(), Arc::downgrade(&driver));
    Ok(driver)
}

/// Where the packets of one alias go.
pub(crate) enum Topology {
    /// To one server.
    Single(Single),
}

impl Topology {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self::Single(Single { config, current: AtomicPtr::new(ptr::null_mut()) })
    }

    pub(crate) fn config(&self) -> &Arc<Config> {
        let Self::Single(single) = self;
        &single.config
    }

    /// The connection that packets go to.
    ///
    /// # Errors
    /// `Connection` if the process has no descriptor left to wait for one.
    pub(crate) fn route(&self) -> Result<Arc<Driver>> {
        let Self::Single(single) = self;
        single.driver()
    }

    /// Whether it was last used before this process was forked.
    #[cfg(feature = "python")]
    pub(crate) fn is_stale(&self) -> bool {
        let Self::Single(single) = self;
        single.current().is_some_and(|driver| driver.is_stale())
    }

    /// Makes it this process's. What fails here fails again, and says so, when it is used.
    #[cfg(feature = "python")]
    pub(crate) fn refresh(&self) {
        let Self::Single(single) = self;
        let _ = single.driver();
    }
}

/// One server's shared connection, which is looked up once a process: at the first use, and at that after a fork.
///
/// What it is replaced by is seen by all, and what it was is not freed while the process lives, because another thread may
/// just be reading it. So reading costs no more than a pointer.
pub(crate) struct Single {
    config: Arc<Config>,
    current: AtomicPtr<Driver>,
}

impl Single {
    fn driver(&self) -> Result<Arc<Driver>> {
        match self.current() {
            Some(driver) if !driver.is_stale() => Ok(Arc::clone(&driver)),
            _ => self.find(),
        }
    }

    fn current(&self) -> Option<ManuallyDrop<Arc<Driver>>> {
        let driver = self.current.load(Ordering::Acquire);
        // SAFETY: it came from `into_raw`, and its reference is ours until we are dropped, and beyond if it was replaced;
        // it is not given up here.
        (!driver.is_null()).then(|| ManuallyDrop::new(unsafe { Arc::from_raw(driver) }))
    }

    #[cold]
    fn find(&self) -> Result<Arc<Driver>> {
        let known = self.current.load(Ordering::Acquire);
        let fresh = shared(&self.config)?;
        let stored = Arc::into_raw(Arc::clone(&fresh)).cast_mut();
        if self.current.compare_exchange(known, stored, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: it was not stored, so its reference is still ours.
            drop(unsafe { Arc::from_raw(stored) });
        }
        // Another thread that was faster has found the same one.
        Ok(fresh)
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        let driver = *self.current.get_mut();
        if !driver.is_null() {
            // SAFETY: as in `current`, and this is the end of it: nothing has a reference to us.
            drop(unsafe { Arc::from_raw(driver) });
        }
    }
}
