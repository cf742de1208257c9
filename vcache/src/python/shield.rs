//! Threads that outlive the interpreter do not bring the process down.
//!
//! Once the interpreter's end has begun, CPython before 3.14 stops a thread that wants the GIL by pthread_exit(3),
//! wherever the thread is: often in Python code that Rust called. glibc unwinds the thread's stack for that, and aborts
//! the process at the first frame that lets nothing pass, as most frames of Rust do. So a thread that calls us gets a
//! cleanup handler, which the C library runs before it unwinds anything. There the thread waits for the process to end,
//! with no lock of the interpreter's, as CPython 3.14 has it do by itself.
//!
//! PyO3 does the same where it takes the GIL itself, but it cannot where the interpreter does.

pub(super) use handler::watch;

/// Makes sure that this thread does not abort the process at the interpreter's end. After the first time it is a look at
/// a thread-local.
pub fn shield() {
    handler::raise();
}

#[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
mod handler {
    use std::cell::UnsafeCell;
    use std::ffi::{c_int, c_void};
    use std::ptr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pyo3::prelude::*;
    use pyo3::types::{PyCFunction, PyDict, PyTuple};

    /// The thread that ends the interpreter; 0 before.
    static ENDS: AtomicUsize = AtomicUsize::new(0);

    fn this_thread() -> usize {
        // SAFETY: it has no conditions.
        unsafe { libc::pthread_self() as usize }
    }

    /// Has the interpreter say when it ends. Called when an extension module is imported.
    ///
    /// # Errors
    /// What `atexit.register` raises.
    pub(in crate::python) fn watch(py: Python<'_>) -> PyResult<()> {
        // The end proper begins when all such callbacks have run.
        let begins = |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            ENDS.store(this_thread(), Ordering::SeqCst);
        };
        let callback = PyCFunction::new_closure(py, None, None, begins)?;
        py.import("atexit")?.call_method1("register", (callback,)).map(drop)
    }

    pub(super) fn raise() {
        // A thread whose thread-locals are gone has no Python code left to run.
        let _ = SHIELD.try_with(|_| ());
    }

    thread_local! {
        static SHIELD: Shield = Shield::new();
    }

    /// Room for the C library's note of a handler: four words in glibc, three in musl.
    type Note = UnsafeCell<[usize; 4]>;

    // Both belong to the Linux Standard Base. NOTE: the C library compares the note's address with those of the frames
    // that it leaves, to run each handler in its turn. A note that is not on the stack comes before all of them.
    unsafe extern "C" {
        fn _pthread_cleanup_push(
            note: *mut c_void,
            run: unsafe extern "C" fn(*mut c_void),
            with: *mut c_void,
        );
        fn _pthread_cleanup_pop(note: *mut c_void, run: c_int);
    }

    struct Shield(Box<Note>);

    impl Shield {
        fn new() -> Self {
            let note = Box::new(Note::default());
            // SAFETY: the note is large enough, does not move, and is taken off before it is freed.
            unsafe { _pthread_cleanup_push(note.get().cast(), wait_if_it_ends, ptr::null_mut()) };
            Self(note)
        }
    }

    impl Drop for Shield {
        fn drop(&mut self) {
            // SAFETY: this thread pushed it, and is past all frames that may have pushed another one since.
            unsafe { _pthread_cleanup_pop(self.0.get().cast(), 0) };
        }
    }

    /// Runs when the thread is stopped from within. If that is not the interpreter's end, it goes its way.
    unsafe extern "C" fn wait_if_it_ends(_: *mut c_void) {
        let ends = ENDS.load(Ordering::SeqCst);
        while ends != 0 && ends != this_thread() {
            // SAFETY: it has no conditions.
            unsafe { libc::pause() };
        }
    }
}

/// Elsewhere pthread_exit(3) leaves the stack alone.
#[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"))))]
mod handler {
    use pyo3::prelude::*;

    pub(in crate::python) fn watch(_: Python<'_>) -> PyResult<()> {
        Ok(())
    }

    pub(super) fn raise() {}
}
