//! Finding the table when the extension module is imported, and saying what to do if it is not there or does not fit.

use std::ffi::CStr;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::{PyAttributeError, PyImportError, PyModuleNotFoundError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyType};

use crate::abi::sized::read_prefix;
use crate::abi::table::{CAPSULE, CAPSULE_PREFIX, Header, MAGIC, MAJOR, MINOR, Table};
use crate::error::{Error, Result};

/// This crate's own version, and thus that of the wheel it was made with.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What to do about a wheel that is not there, or not the right one. Its name alone finds another project's package.
const HOW: &str = concat!(
    "install django-vcache ",
    env!("CARGO_PKG_VERSION"),
    " or a later one of its series from its checkout, pip install PATH"
);

/// A copy of the host's table, without the entries that are not known here. Those that the host's does not have are absent.
static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

/// The host's table.
///
/// # Errors
/// `Configuration` in a library that was not imported as a Python module.
pub(super) fn table() -> Result<&'static Table> {
    // SAFETY: a table that was stored is never freed.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }.ok_or_else(|| {
        Error::configuration(
            "there is no connection in this program: it is the wheel django-vcache's, found when Python imports this \
             extension module. A Rust program or test enables the feature `driver` (or `testing`) of the crate vcache",
        )
    })
}

/// The number of this process in the line of forks that led to it; 0 where there is no table.
#[cfg(any(feature = "admission", feature = "tokio"))]
pub(crate) fn epoch() -> u64 {
    // SAFETY: a function without arguments.
    table().map_or(0, |table| unsafe { (table.epoch)() })
}

/// Finds the table.
///
/// # Errors
/// `ABIMismatch` with both versions and the command that mends it, or what importing the wheel raised.
pub(super) fn find(py: Python<'_>) -> PyResult<()> {
    if !TABLE.load(Ordering::Acquire).is_null() {
        return Ok(());
    }
    let package = py.import("django_vcache").map_err(|error| missing(py, error))?;
    let capsule = match package.getattr("_capi") {
        Ok(capsule) => capsule,
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => {
            return Err(too_old(py, &version_of(&package), "no table at all"));
        }
        Err(error) => return Err(error),
    };
    let capsule = capsule.cast_into::<PyCapsule>().map_err(|_| unusable(&package, "not a capsule"))?;
    let found = Box::into_raw(Box::new(check(&package, &capsule)?));
    if TABLE.compare_exchange(ptr::null_mut(), found, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: another thread was faster, so this one was never shared.
        drop(unsafe { Box::from_raw(found) });
    }
    Ok(())
}

/// The capsule's table, if this crate can use it.
fn check(package: &Bound<'_, PyModule>, capsule: &Bound<'_, PyCapsule>) -> PyResult<Table> {
    let py = package.py();
    let Some(name) = capsule.name()? else {
        return Err(unusable(package, "a capsule without a name"));
    };
    // SAFETY: the name is the host's constant, which lives as long as the capsule.
    let name: &CStr = unsafe { name.as_cstr() };
    if !name.to_string_lossy().starts_with(CAPSULE_PREFIX) {
        return Err(unusable(package, &format!("another capsule, {name:?}")));
    }
    let table = capsule.pointer_checked(Some(name))?.as_ptr().cast_const();
    // SAFETY: a header stands first in every major version's table, and the table is static.
    let header = unsafe { table.cast::<Header>().read() };
    if header.magic != MAGIC {
        return Err(unusable(package, "not a table of this machine's"));
    }
    // SAFETY: it is a header, and the host's version is static.
    let version = unsafe { header.version.to_string() }.unwrap_or_else(|| version_of(package));
    let provided = format!("{}.{}", header.major, header.minor);
    if header.major > MAJOR {
        return Err(too_new(py, &version, &provided));
    }
    let fits = header.major == MAJOR
        && name == CAPSULE
        && header.size >= needed_size()
        && header.features & needed_features() == needed_features();
    if !fits {
        return Err(too_old(py, &version, &format!("table {provided}")));
    }
    // SAFETY: it is a table of this major version, as large as it says and as is needed; what it may lack is an `Option`.
    Ok(unsafe { read_prefix(table.cast(), header.size) })
}

/// How much of the table is read: entries behind that are not there in an older host's.
fn needed_size() -> usize {
    #[cfg(feature = "__abi_newer")]
    return size_of::<Table>();
    #[cfg(all(feature = "tokio", not(feature = "__abi_older"), not(feature = "__abi_newer")))]
    return offset_of!(Table, reactor_drive) + size_of::<usize>();
    #[allow(unreachable_code, reason = "the last of the cases")]
    {
        offset_of!(Table, block_on) + size_of::<usize>()
    }
}

fn needed_features() -> u64 {
    if cfg!(feature = "tokio") { crate::abi::table::FEATURE_REACTOR } else { 0 }
}

fn version_of(package: &Bound<'_, PyModule>) -> String {
    package
        .getattr("__version__")
        .and_then(|version| version.extract())
        .unwrap_or_else(|_| "of an unknown version".to_owned())
}

fn built() -> String {
    // All that a module without its own runtime uses was there from the beginning.
    let minor = if cfg!(feature = "__abi_newer") { MINOR } else { u32::from(cfg!(feature = "tokio")) };
    format!("this extension module was built with vcache {VERSION} and needs table {MAJOR}.{minor}")
}

fn missing(py: Python<'_>, error: PyErr) -> PyErr {
    let absent = error.is_instance_of::<PyModuleNotFoundError>(py)
        && error
            .value(py)
            .getattr("name")
            .and_then(|name| name.extract::<String>())
            .is_ok_and(|name| name == "django_vcache");
    if !absent {
        return error;
    }
    let told =
        mismatch(py, format!("{}, of the wheel django-vcache, which is not installed: {HOW}", built()));
    told.set_cause(py, Some(error));
    told
}

fn too_old(py: Python<'_>, version: &str, provided: &str) -> PyErr {
    mismatch(
        py,
        format!(
            "{}, but the installed django-vcache {version} is older and provides {provided}: {HOW}",
            built()
        ),
    )
}

fn unusable(package: &Bound<'_, PyModule>, what: &str) -> PyErr {
    mismatch(
        package.py(),
        format!(
            "{}, but django_vcache._capi of the installed django-vcache {} is {what}: {HOW}",
            built(),
            version_of(package)
        ),
    )
}

fn too_new(py: Python<'_>, version: &str, provided: &str) -> PyErr {
    mismatch(
        py,
        format!(
            "{}, but the installed django-vcache {version} is newer and provides table {provided}: build the module anew \
             with `cargo update -p vcache` and `pip install --force-reinstall --no-deps` of its folder, or go back \
             to django-vcache {VERSION}",
            built()
        ),
    )
}

/// An `ABIMismatch`; where the wheel has none, one of the same name and base.
fn mismatch(py: Python<'_>, message: String) -> PyErr {
    let class = py
        .import("django_vcache.exceptions")
        .and_then(|home| home.getattr("ABIMismatch"))
        .and_then(|class| Ok(class.cast_into::<PyType>()?))
        .or_else(|_| {
            let base = py.get_type::<PyImportError>();
            PyErr::new_type(py, c"django_vcache.exceptions.ABIMismatch", None, Some(&base), None)
                .map(|class| class.into_bound(py))
        });
    match class {
        Ok(class) => PyErr::from_type(class, (message,)),
        Err(_) => PyImportError::new_err(message),
    }
}
