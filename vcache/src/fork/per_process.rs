//! What a process keeps for itself. A forked child finds it stale, and makes its own: locks that another thread of the
//! parent held in that moment would never be free again, and random numbers would come twice.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::{epoch, watch};

/// A static that is made on first use, and anew in a forked child. The parent's is leaked there: its locks may be held.
pub(crate) struct PerProcess<T> {
    current: AtomicPtr<Held<T>>,
}

struct Held<T> {
    epoch: u64,
    value: T,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self { current: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// This process's.
    pub(crate) fn get(&'static self, make: fn() -> T) -> &'static T {
        match self.try_get(|| Ok::<T, std::convert::Infallible>(make())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// This process's, if it can be made.
    pub(crate) fn try_get<E>(&'static self, make: impl FnOnce() -> Result<T, E>) -> Result<&'static T, E> {
        let known = self.current.load(Ordering::Acquire);
        match Self::current(known) {
            Some(value) => Ok(value),
            None => self.replace(known, make),
        }
    }

    /// This process's, if it was ever used.
    #[cfg(any(feature = "driver", feature = "admission"))]
    pub(crate) fn get_if_made(&'static self) -> Option<&'static T> {
        Self::current(self.current.load(Ordering::Acquire))
    }

    fn current(known: *const Held<T>) -> Option<&'static T> {
        // SAFETY: a pointer that is not null was leaked from a Box below and is never freed.
        let held = unsafe { known.as_ref() }?;
        (held.epoch == epoch()).then_some(&held.value)
    }

    #[cold]
    fn replace<E>(
        &'static self,
        stale: *mut Held<T>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&'static T, E> {
        watch();
        let fresh = Box::into_raw(Box::new(Held { epoch: epoch(), value: make()? }));
        match self.current.compare_exchange(stale, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it was leaked from a Box just now and is never freed.
            Ok(_) => Ok(unsafe { &(*fresh).value }),
            Err(faster) => {
                // SAFETY: nothing has seen `fresh`, the exchange failed; and what is stored is never freed. Another
                // thread of this process stored it after the look at `stale`, so it is of this epoch.
                unsafe {
                    drop(Box::from_raw(fresh));
                    Ok(&(*faster).value)
                }
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
