//! Values pickled: each is a dict of plain values, and the function that makes it of that again.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vcache::python::ToDict;

/// What can be pickled.
pub(super) trait Pickled: serde::Serialize + Clone + Send + 'static {
    /// The function in `django_vcache._vcache`.
    const RESTORE: &'static str;
}

/// What `__reduce__` returns.
pub(super) fn reduce<'py, T: Pickled>(py: Python<'py>, value: &T) -> PyResult<Bound<'py, PyAny>> {
    let restore = py.import("django_vcache._vcache")?.getattr(T::RESTORE)?;
    let parts = PyTuple::new(py, [ToDict(value.clone()).into_pyobject(py)?])?;
    Ok(PyTuple::new(py, [restore, parts.into_any()])?.into_any())
}

/// Writes the functions that make classes of what was pickled.
macro_rules! pickled {
    ($($value:ty => $class:ident, $restore:ident;)+) => {$(
        impl $crate::admission::pickled::Pickled for $value {
            const RESTORE: &'static str = stringify!($restore);
        }

        /// What was pickled.
        #[pyfunction]
        pub(crate) fn $restore(state: ::vcache::python::FromDict<$value>) -> $class {
            $class(state.0)
        }
    )+};
}
pub(super) use pickled;
