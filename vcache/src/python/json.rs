//! JSON in and out of a hot path: text that Python has anyway (a request's body, a cached value) becomes a Rust value
//! without a Python object for each of its parts, and the result becomes the bytes of a response.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::annotations::Annotate;
use super::arguments::Bytes;
use crate::json::{self, Json};

impl<T> Annotate for Json<T> {
    fn input() -> String {
        Bytes::input()
    }

    fn output() -> String {
        "bytes".into()
    }
}

impl<'py, T: DeserializeOwned> FromPyObject<'_, 'py> for Json<T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let parsed = match object.cast::<PyString>() {
            Ok(text) => {
                let lone = |_| PyValueError::new_err("bad JSON: the str holds a lone surrogate");
                json::from_str(text.to_str().map_err(lone)?)
            }
            Err(_) => json::from_slice(&object.extract::<Bytes>()?),
        };
        parsed.map(Self).map_err(PyValueError::new_err)
    }
}

impl<'py, T: Serialize> IntoPyObject<'py> for Json<T> {
    type Target = PyBytes;
    type Output = Bound<'py, PyBytes>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        match sonic_rs::to_vec(&self.0) {
            Ok(bytes) => Ok(PyBytes::new(py, &bytes)),
            Err(error) => Err(PyValueError::new_err(format!("a result that cannot be JSON: {error}"))),
        }
    }
}
