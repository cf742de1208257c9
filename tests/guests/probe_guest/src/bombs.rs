//! What panics in unusual places: when it is dropped, woken, or shown to Python.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Wake, Waker};

use vcache::pyo3::prelude::*;

/// Panics when it is dropped.
pub struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // A second panic on the way of a first ends the process, in any program.
        assert!(std::thread::panicking(), "on purpose");
    }
}

/// Something to panic with, which panics itself when it is dropped.
pub struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

/// A result that panics when Python is to have it.
pub struct Unshowable;

impl<'py> IntoPyObject<'py> for Unshowable {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = Infallible;

    fn into_pyobject(self, _py: Python<'py>) -> Result<Self::Output, Self::Error> {
        panic!("on purpose");
    }
}

/// Panics when it is woken.
pub fn waker() -> Waker {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }

    Arc::new(Panics).into()
}
