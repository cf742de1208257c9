//! The cache alias that an object counts on, and which aliases are in use: the system checks look at their servers.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

/// How many objects count on an alias.
///
/// NOTE: it is locked only where the GIL is held, so a forked child finds it free.
static IN_USE: Mutex<BTreeMap<String, Users>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Users {
    all: usize,
    /// Those that store events.
    storing: usize,
}

/// An alias, in use for as long as its object lives, unless that becomes a part of a gate, which has its own.
pub(super) struct Alias {
    name: String,
    stores: bool,
    counted: AtomicBool,
}

impl Alias {
    /// The one that was named, or `default`, for what `stores` events there or does not.
    pub(super) fn new(named: Option<String>, stores: bool) -> Self {
        let name = named.unwrap_or_else(|| "default".to_owned());
        let mut aliases = in_use();
        let users = aliases.entry(name.clone()).or_default();
        users.all += 1;
        users.storing += usize::from(stores);
        drop(aliases);
        Self { name, stores, counted: AtomicBool::new(true) }
    }

    /// Its object does not count there by itself any more.
    pub(super) fn release(&self) {
        if self.counted.swap(false, Ordering::Relaxed) {
            let mut aliases = in_use();
            if let Some(users) = aliases.get_mut(&self.name) {
                users.all -= 1;
                users.storing -= usize::from(self.stores);
                if users.all == 0 {
                    aliases.remove(&self.name);
                }
            }
        }
    }
}

impl Drop for Alias {
    fn drop(&mut self) {
        self.release();
    }
}

impl Deref for Alias {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

fn in_use() -> MutexGuard<'static, BTreeMap<String, Users>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cache aliases that the throttles, quotas, gates and streams of this process count on.
#[pyfunction]
pub(crate) fn aliases_in_use() -> Vec<String> {
    in_use().keys().cloned().collect()
}

/// The cache aliases on which streams of this process store events.
#[pyfunction]
pub(crate) fn aliases_with_streams() -> Vec<String> {
    in_use().iter().filter(|(_, users)| users.storing > 0).map(|(name, _)| name.clone()).collect()
}
