//! Replies as plain Python objects.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyTuple};
use redis::Value;

use super::exceptions::to_exception;
use super::large::{bytes_to_python, free};
use crate::error::Error;

/// A reply as Python sees it: `int`, `float`, `bool`, `None`, `list`, `dict`, `set`, and for every kind of string `bytes`:
/// what is stored, a status, a verbatim text. In keys and members of sets, which Python hashes, lists are tuples, dicts
/// are tuples of pairs, and sets are frozensets.
///
/// # Errors
/// `ResponseError` if the reply is an error. Errors inside a list are exception objects in it.
pub fn to_python<'py>(py: Python<'py>, value: Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::ServerError(error) => Err(to_exception(py, &Error::response(&error))),
        value => convert(py, value),
    }
}

fn convert<'py>(py: Python<'py>, value: Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Nil => py.None().into_bound(py),
        Value::Int(number) => PyInt::new(py, number).into_any(),
        Value::BulkString(bytes) => {
            let made = bytes_to_python(py, &bytes)?;
            free(py, bytes);
            made.into_any()
        }
        Value::Okay => PyBytes::new(py, b"OK").into_any(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => {
            bytes_to_python(py, text.as_bytes())?.into_any()
        }
        Value::Double(number) => PyFloat::new(py, number).into_any(),
        Value::Boolean(truth) => PyBool::new(py, truth).to_owned().into_any(),
        Value::BigNumber(digits) => {
            py.get_type::<PyInt>().call1((String::from_utf8_lossy(&digits).into_owned(),))?
        }
        Value::Array(items) | Value::Push { data: items, .. } => list(py, items)?.into_any(),
        Value::Set(items) => {
            let set = PySet::empty(py)?;
            for item in items {
                set.add(hashable(convert(py, item)?)?)?;
            }
            set.into_any()
        }
        Value::Map(pairs) => {
            let dict = PyDict::new(py);
            for (key, value) in pairs {
                dict.set_item(hashable(convert(py, key)?)?, convert(py, value)?)?;
            }
            dict.into_any()
        }
        Value::ServerError(error) => {
            to_exception(py, &Error::response(&error)).into_value(py).into_bound(py).into_any()
        }
        Value::Attribute { data, .. } => convert(py, *data)?,
        other => return Err(PyTypeError::new_err(format!("no Python value for the reply {other:?}"))),
    })
}

fn list<'py>(py: Python<'py>, items: Vec<Value>) -> PyResult<Bound<'py, PyList>> {
    let items: Vec<_> = items.into_iter().map(|item| convert(py, item)).collect::<PyResult<_>>()?;
    PyList::new(py, items)
}

fn hashable(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = value.py();
    if let Ok(list) = value.cast::<PyList>() {
        let items: Vec<_> = list.iter().map(hashable).collect::<PyResult<_>>()?;
        return Ok(PyTuple::new(py, items)?.into_any());
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        // Its keys are hashable already.
        let pairs: Vec<_> =
            dict.iter().map(|(key, value)| Ok((key, hashable(value)?))).collect::<PyResult<_>>()?;
        return Ok(PyTuple::new(py, pairs)?.into_any());
    }
    if let Ok(set) = value.cast::<PySet>() {
        return Ok(PyFrozenSet::new(py, set.iter())?.into_any());
    }
    Ok(value)
}
