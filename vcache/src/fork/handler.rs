//! Whether the handler that runs in forked children is installed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::{process, thread};

/// Whether it is installed.
///
/// NOTE: not a `Once`. `pthread_atfork` waits while another thread forks, and the child would find the `Once` taken by a
/// thread that it does not have.
pub(super) struct Handler(AtomicU32);

impl Handler {
    const MISSING: u32 = 0;
    const INSTALLED: u32 = u32::MAX;

    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(Self::MISSING))
    }

    /// Installs it, or waits until another thread of this process has.
    pub(super) fn install(&self, install: impl FnOnce()) {
        loop {
            let state = self.0.load(Ordering::Acquire);
            if state == Self::INSTALLED {
                return;
            }
            let process = process::id();
            if state == process {
                thread::yield_now();
                continue;
            }
            // It is missing, or a thread of the parent was about to install it when this process was forked. If the parent
            // had done so, then there are two now, and the second finds nothing to do but to count the epoch up once more.
            if self.0.compare_exchange(state, process, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                install();
                self.0.store(Self::INSTALLED, Ordering::Release);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_installed_once() {
        static HANDLER: Handler = Handler::new();
        let installed = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    HANDLER.install(|| {
                        thread::sleep(Duration::from_millis(20));
                        installed.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(installed.load(Ordering::Relaxed), 1, "the others wait for it");
                });
            }
        });
    }

    #[test]
    fn a_child_that_is_forked_while_a_thread_installs_it_installs_it() {
        static HANDLER: Handler = Handler::new();
        static BEGUN: Barrier = Barrier::new(2);
        static FORKED: AtomicBool = AtomicBool::new(false);
        let parent = thread::spawn(|| {
            HANDLER.install(|| {
                BEGUN.wait();
                while !FORKED.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            });
        });
        BEGUN.wait();
        // SAFETY: the child touches atomics only and leaves at once.
        match unsafe { libc::fork() } {
            0 => {
                let mut is_installed = false;
                HANDLER.install(|| is_installed = true);
                HANDLER.install(|| is_installed = false);
                // SAFETY: it ends the child without running what belongs to the parent.
                unsafe { libc::_exit(i32::from(!is_installed)) }
            }
            child => {
                FORKED.store(true, Ordering::Release);
                let mut status = -1;
                // SAFETY: the child is ours, and the place for its status too.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                assert_eq!(status, 0);
            }
        }
        parent.join().unwrap();
    }
}
