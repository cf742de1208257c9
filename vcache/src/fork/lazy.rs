//! What is made once, for a process and its children. `LazyLock` would do, but for a thread that is in the middle of making
//! it when another one forks: the child would wait for ever for a thread that it does not have.

use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A static that is made on first use. Two threads that are first may both make it, and what the faster one made stays.
pub(crate) struct Lazy<T> {
    made: AtomicPtr<T>,
    make: fn() -> T,
}

impl<T: Send + Sync + 'static> Lazy<T> {
    pub(crate) const fn new(make: fn() -> T) -> Self {
        Self { made: AtomicPtr::new(std::ptr::null_mut()), make }
    }

    #[cold]
    fn make(&self) -> &T {
        let fresh = Box::into_raw(Box::new((self.make)()));
        match self.made.compare_exchange(std::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it was leaked from a Box just now and is never freed.
            Ok(_) => unsafe { &*fresh },
            Err(faster) => {
                // SAFETY: nothing has seen `fresh`, the exchange failed; and what is stored is never freed.
                unsafe {
                    drop(Box::from_raw(fresh));
                    &*faster
                }
            }
        }
    }
}

impl<T: Send + Sync + 'static> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a pointer that is not null was leaked from a Box above and is never freed.
        unsafe { self.made.load(Ordering::Acquire).as_ref() }.unwrap_or_else(|| self.make())
    }
}

#[cfg(all(test, feature = "driver"))]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn all_threads_see_what_the_fastest_made() {
        static MADE: Lazy<Vec<u8>> = Lazy::new(|| vec![1, 2, 3]);
        let barrier = Barrier::new(8);
        let seen: Vec<usize> = thread::scope(|scope| {
            let first = || {
                barrier.wait();
                MADE.as_ptr() as usize
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(first)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|place| *place == MADE.as_ptr() as usize));
        assert_eq!(*MADE, [1, 2, 3]);
    }

    #[test]
    fn a_child_that_is_forked_while_a_thread_makes_it_makes_it() {
        static BEGUN: Barrier = Barrier::new(2);
        static FORKED: AtomicBool = AtomicBool::new(false);
        static MADE: Lazy<u32> = Lazy::new(|| {
            if thread::current().name() == Some("slow") {
                BEGUN.wait();
                while !FORKED.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            }
            7
        });
        let slow = thread::Builder::new().name("slow".to_owned()).spawn(|| *MADE).unwrap();
        BEGUN.wait();
        // SAFETY: the child touches this static only and leaves at once.
        match unsafe { libc::fork() } {
            0 => {
                let is_made = *MADE == 7;
                // SAFETY: it ends the child without running what belongs to the parent.
                unsafe { libc::_exit(i32::from(!is_made)) }
            }
            child => {
                FORKED.store(true, Ordering::Release);
                let mut status = -1;
                // SAFETY: the child is ours, and the place for its status too.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                assert_eq!(status, 0);
            }
        }
        assert_eq!(slow.join().unwrap(), 7);
    }
}
