//! Who waits: an event loop, or a thread in a blocking call. It counts the calls that it has under way on shared
//! connections, so that it watches those only while it has one, and it watches the connections of its blocking commands
//! (`BLPOP` and the like) by itself.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::bell::Bell;
use super::watch::{Sleeper, Watch};
use crate::error::{Error, Result};

#[derive(Default)]
pub(crate) struct Waiter {
    shared: AtomicUsize,
    own: OnceLock<Arc<Watch>>,
    /// What wakes it.
    bell: OnceLock<Arc<Bell>>,
}

impl Waiter {
    /// A call on a shared connection is under way until the guard is dropped, on any thread.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.shared.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Whether a call on a shared connection is under way.
    pub(crate) fn waits_on_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed) > 0
    }

    /// The watch of its blocking commands, if it ever had one.
    pub(crate) fn own(&self) -> Option<&Arc<Watch>> {
        self.own.get()
    }

    /// The watch of its blocking commands.
    ///
    /// # Errors
    /// `Connection` if the process has no descriptor left.
    pub(crate) fn own_or_new(&self) -> Result<&Arc<Watch>> {
        if let Some(own) = self.own.get() {
            return Ok(own);
        }
        let failed = |error| Error::no_descriptor(&error);
        let (fresh, bell) = (Arc::new(Watch::new().map_err(failed)?), self.bell_or_new().map_err(failed)?);
        fresh.add_sleeper(Arc::downgrade(bell) as Weak<dyn Sleeper>);
        Ok(self.own.get_or_init(|| fresh))
    }

    /// What wakes it, if it ever had something for that.
    pub(crate) fn bell(&self) -> Option<&Arc<Bell>> {
        self.bell.get()
    }

    /// What wakes it.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub(crate) fn bell_or_new(&self) -> io::Result<&Arc<Bell>> {
        if let Some(bell) = self.bell.get() {
            return Ok(bell);
        }
        let fresh = Arc::new(Bell::new()?);
        Ok(self.bell.get_or_init(|| fresh))
    }
}

/// One call on a shared connection.
pub(crate) struct UnderWay(Arc<Waiter>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.shared.fetch_sub(1, Ordering::Relaxed);
    }
}
