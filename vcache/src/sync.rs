//! Locks that outlive a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of our locks is a bug, but not one that should take every later call with it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
