//! The capsule in which the wheel offers its table. What it holds tells this library whether the wheel is another one.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::table::{CAPSULE, Table};

/// The table that this library offers; null if it offers none, because it is not the wheel.
static OFFERED: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Puts this library's table into a capsule.
///
/// # Errors
/// `MemoryError`.
pub(super) fn offer<'py>(py: Python<'py>, table: &'static Table) -> PyResult<Bound<'py, PyCapsule>> {
    let table = NonNull::from(table).cast::<c_void>();
    OFFERED.store(table.as_ptr(), Ordering::Release);
    // SAFETY: the table is static and never written to.
    unsafe { PyCapsule::new_with_pointer(py, table, CAPSULE) }
}

/// An extension module that was built with the feature `driver`, by mistake most likely, would connect by itself
/// beside the wheel's, and none of its aliases.
pub(crate) fn refuse_a_second_connection(py: Python<'_>) -> PyResult<()> {
    let loaded = py.import("sys")?.getattr("modules")?.call_method1("get", ("django_vcache._vcache",))?;
    let Ok(capsule) = loaded.getattr("_capi").and_then(|capsule| Ok(capsule.cast_into::<PyCapsule>()?))
    else {
        return Ok(());
    };
    match capsule.pointer_checked(Some(CAPSULE)) {
        Ok(table) if table.as_ptr() != OFFERED.load(Ordering::Acquire) => Err(PyImportError::new_err(
            "this extension module was built with the feature `driver` of the crate vcache, so it would connect by itself \
             and would not use that of the installed django-vcache: build it without (`cargo build -p` of it alone, if \
             another member of its workspace asks for `driver` or `testing`)",
        )),
        _ => Ok(()),
    }
}
