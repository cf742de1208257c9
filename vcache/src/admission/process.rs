//! What a process keeps for itself. A forked child finds it stale, and makes its own: locks that another thread of the
//! parent held in that moment would never be free again, and random numbers would come twice.

use std::sync::atomic::{AtomicPtr, Ordering};

#[cfg(not(feature = "driver"))]
use crate::abi::guest::epoch;
#[cfg(feature = "driver")]
use crate::fork::epoch;

/// A static that is made on first use, and anew in a forked child. The parent's is leaked there: its locks may be held.
pub(super) struct PerProcess<T> {
    current: AtomicPtr<Held<T>>,
}

struct Held<T> {
    epoch: u64,
    value: T,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    pub(super) const fn new() -> Self {
        Self { current: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// This process's.
    pub(super) fn get(&'static self, make: fn() -> T) -> &'static T {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: a pointer that is not null was leaked from a Box below and is never freed.
        match unsafe { current.as_ref() } {
            Some(held) if held.epoch == epoch() => &held.value,
            _ => self.replace(current, make),
        }
    }

    /// This process's, if it was ever used.
    pub(super) fn get_if_made(&'static self) -> Option<&'static T> {
        // SAFETY: as above.
        let held = unsafe { self.current.load(Ordering::Acquire).as_ref() }?;
        (held.epoch == epoch()).then_some(&held.value)
    }

    #[cold]
    fn replace(&'static self, stale: *mut Held<T>, make: fn() -> T) -> &'static T {
        #[cfg(feature = "driver")]
        crate::fork::watch();
        let fresh = Box::into_raw(Box::new(Held { epoch: epoch(), value: make() }));
        match self.current.compare_exchange(stale, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it was leaked from a Box just now and is never freed.
            Ok(_) => unsafe { &(*fresh).value },
            Err(_) => {
                // SAFETY: nobody has seen it, the exchange failed.
                drop(unsafe { Box::from_raw(fresh) });
                self.get(make)
            }
        }
    }
}

#[cfg(all(test, feature = "driver"))]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn it_is_made_once_and_anew_in_a_forked_child() {
        static HELD: PerProcess<Mutex<u32>> = PerProcess::new();
        assert!(HELD.get_if_made().is_none());
        let first = HELD.get(Mutex::default);
        *first.lock().unwrap() = 7;
        assert_eq!(*HELD.get(Mutex::default).lock().unwrap(), 7);
        let _held = first.lock().unwrap();
        // SAFETY: the child touches only this static and leaves at once.
        match unsafe { libc::fork() } {
            0 => {
                let fresh = HELD.get_if_made().is_none() && *HELD.get(Mutex::default).lock().unwrap() == 0;
                // SAFETY: it ends the child without running what belongs to the parent.
                unsafe { libc::_exit(i32::from(!fresh)) }
            }
            child => {
                let mut status = -1;
                // SAFETY: the child is ours, and the place for its status too.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                assert_eq!(status, 0);
            }
        }
    }
}
