//! What the package's Python half has to know of names, keys and errors, as the core has it.

use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyString};
use vcache::admission::{LONGEST_NAME, OUTAGE_CODES, Settings};

/// The text with an underscore for each character that no name may have. It is not shortened.
#[pyfunction]
pub(crate) fn as_name(text: &Bound<'_, PyString>) -> String {
    vcache::admission::as_name(&text.to_string_lossy())
}

pub(crate) fn add_words(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("DEFAULT_PREFIX", Settings::default().prefix)?;
    module.add("LONGEST_NAME", LONGEST_NAME)?;
    module.add("OUTAGE_CODES", PyFrozenSet::new(module.py(), OUTAGE_CODES)?)
}
