//! Why a value does not go as msgpack. In "auto" most of these mean "pickle it instead"; in "msgpack" they
//! become the exception that the caller sees, so they can say where in the value the offending part is.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::wire::MAX_DEPTH;

/// The longest repr of a dict key that an error message quotes, in characters.
const KEY_REPR: usize = 40;

/// What writing a part comes to.
pub(super) type Written = Result<(), Refusal>;

/// See the module's own text.
pub(super) enum Refusal {
    /// A part of the value has no msgpack form.
    Unsupported(Box<Unsupported>),
    /// Nested more than `MAX_DEPTH` deep.
    TooDeep,
    /// A container is inside itself.
    InItself,
    /// More than `MAX_VALUE_LEN` bytes.
    TooLarge,
    /// Python code that was asked about the value raised.
    Raised(PyErr),
}

/// The part that has no msgpack form, and the way to it from the inside out.
pub(super) struct Unsupported {
    class: Py<PyType>,
    detail: &'static str,
    path: Vec<String>,
}

impl From<PyErr> for Refusal {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl Refusal {
    /// `value` is of a type that has no msgpack form, or of one that has but in a state that has not
    /// (`detail`).
    #[cold]
    pub(super) fn unsupported(value: &Bound<'_, PyAny>, detail: &'static str) -> Self {
        Self::Unsupported(Box::new(Unsupported {
            class: value.get_type().unbind(),
            detail,
            path: Vec::new(),
        }))
    }

    /// Notes one step of the way to the offending part, on the way out.
    #[cold]
    pub(super) fn under(mut self, step: impl FnOnce() -> String) -> Self {
        if let Self::Unsupported(unsupported) = &mut self {
            unsupported.path.push(step());
        }
        self
    }

    /// The exception for it, where nothing but msgpack is allowed.
    pub(super) fn into_error(self, py: Python<'_>, max_value_len: usize) -> PyErr {
        match self {
            Self::Unsupported(part) => {
                let class = part.class.bind(py);
                let name =
                    class.fully_qualified_name().map_or_else(|_| String::from("object"), |n| n.to_string());
                let place: String = part.path.iter().rev().map(String::as_str).collect();
                let detail = part.detail;
                PyTypeError::new_err(if place.is_empty() {
                    format!("SERIALIZER \"msgpack\" cannot store {name}{detail}")
                } else {
                    format!("SERIALIZER \"msgpack\" cannot store {name}{detail} at value{place}")
                })
            }
            Self::TooDeep => PyValueError::new_err(format!(
                "SERIALIZER \"msgpack\" cannot store a value nested more than {MAX_DEPTH} deep"
            )),
            Self::InItself => {
                PyValueError::new_err("SERIALIZER \"msgpack\" cannot store a value that contains itself")
            }
            Self::TooLarge => too_large(None, max_value_len),
            Self::Raised(error) => error,
        }
    }
}

/// `[key]` for an error message, cut short.
pub(super) fn key_step(key: &Bound<'_, PyAny>) -> String {
    let repr = key.repr().map_or_else(|_| String::from("..."), |repr| repr.to_string_lossy().into_owned());
    if repr.chars().count() > KEY_REPR {
        let head: String = repr.chars().take(KEY_REPR).collect();
        format!("[{head}...]")
    } else {
        format!("[{repr}]")
    }
}

/// The exception for a value over the limit. `size` is unknown where encoding stopped at the limit.
#[cold]
pub(super) fn too_large(size: Option<usize>, limit: usize) -> PyErr {
    PyValueError::new_err(match size {
        Some(size) => {
            format!("the value takes {size} bytes encoded, more than MAX_VALUE_LEN ({limit} bytes)")
        }
        None => format!("the value takes more than MAX_VALUE_LEN ({limit} bytes) encoded"),
    })
}
