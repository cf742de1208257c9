//! The host's errors as this crate's.

use pyo3::Python;
use pyo3::prelude::*;

use crate::abi::table::{self, Status, Table};
use crate::error::{Error, ErrorKind};

/// Takes an error over and frees it.
///
/// # Safety
/// `error` must be the host's and not have been freed, or null.
pub(super) unsafe fn take(table: &Table, error: *mut table::Error, status: Status) -> Error {
    // SAFETY: the caller's promise.
    let Some(view) = (unsafe { error.as_ref() }) else {
        return Error::new(
            ErrorKind::Panic,
            format!("django-vcache failed without a message (status {}); please report it", status.0),
        );
    };
    // SAFETY: the texts live until the error is freed, below.
    let (code, message, alias) = unsafe {
        (view.code.to_string(), view.message.to_string().unwrap_or_default(), view.alias.to_string())
    };
    let taken = if view.exception.is_null() {
        let kind = match view.kind {
            table::Error::CONNECTION => ErrorKind::Connection,
            table::Error::TIMEOUT => ErrorKind::Timeout,
            table::Error::RESPONSE => ErrorKind::Response,
            table::Error::CONFIGURATION => ErrorKind::Configuration,
            table::Error::PANIC => ErrorKind::Panic,
            // Also a kind that a later host may have: its message is what counts.
            _ => ErrorKind::Value,
        };
        Error::from_parts(kind, code, message, alias.as_deref())
    } else {
        Python::try_attach(|py| {
            // SAFETY: the exception lives until the error is freed, below, and a reference of our own is taken.
            let exception = unsafe { Bound::from_borrowed_ptr(py, view.exception) };
            PyErr::from_value(exception).into()
        })
        .unwrap_or_else(|| Error::configuration(message))
    };
    // SAFETY: it is ours, and this is its end.
    unsafe { (table.error_free)(error) };
    taken
}
