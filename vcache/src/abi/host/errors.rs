//! An error as a struct that a guest can read.

use std::ptr;

use pyo3::prelude::*;

use crate::abi::border::contained;
use crate::abi::table::{self, Text};
use crate::error::{Error, ErrorKind};
use crate::python::really_attached;

/// The struct, and behind it what its texts are part of.
#[repr(C)]
struct HostError {
    view: table::Error,
    code: Option<String>,
    message: String,
    exception: Option<Py<PyAny>>,
}

/// Hands an error over.
pub(super) fn give(error: &Error) -> *mut table::Error {
    let kind = match error.kind() {
        ErrorKind::Connection => table::Error::CONNECTION,
        ErrorKind::Timeout => table::Error::TIMEOUT,
        ErrorKind::Response => table::Error::RESPONSE,
        ErrorKind::Configuration => table::Error::CONFIGURATION,
        ErrorKind::Value => table::Error::VALUE,
        ErrorKind::Panic => table::Error::PANIC,
        // The connection makes neither, and what Python raised is handed over by `give_exception`.
        ErrorKind::Request | ErrorKind::Raised => table::Error::VALUE,
    };
    pack(kind, error.code().map(str::to_owned), error.to_string(), None)
}

/// Hands a Python exception over.
pub(super) fn give_exception(py: Python<'_>, error: PyErr) -> *mut table::Error {
    let message = error.to_string();
    pack(table::Error::EXCEPTION, None, message, Some(error.into_value(py).into_any()))
}

fn pack(kind: u32, code: Option<String>, message: String, exception: Option<Py<PyAny>>) -> *mut table::Error {
    let view = table::Error {
        kind,
        reserved: 0,
        code: code.as_deref().map_or(Text::NONE, Text::of),
        message: Text::of(&message),
        alias: Text::NONE,
        exception: exception.as_ref().map_or(ptr::null_mut(), Py::as_ptr),
    };
    Box::into_raw(Box::new(HostError { view, code, message, exception })).cast()
}

pub(super) unsafe extern "C" fn free(error: *mut table::Error) {
    if error.is_null() {
        return;
    }
    contained((), || {
        // SAFETY: `pack` made it, and it is given back once.
        let error = unsafe { Box::from_raw(error.cast::<HostError>()) };
        if error.exception.is_some() {
            // Without an interpreter it is left alone.
            let _ = really_attached(|_| drop(error));
        }
    });
}
