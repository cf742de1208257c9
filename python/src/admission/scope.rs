//! Python's scopes: a mapping of names to ints and strs, or for a rule that stands alone the value of its own entry.

use std::borrow::Cow;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyInt, PyMapping, PyString};
use vcache::admission::{Scope, ScopeValue, Subject};

/// A scope that a future owns.
pub(super) type Owned = Scope<'static>;

/// For whom a rule that stands alone is asked.
pub(super) enum Of {
    Value(ScopeValue<'static>),
    Scope(Owned),
}

impl Of {
    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Value(ScopeValue::Int(number)) => Subject::Value(ScopeValue::Int(*number)),
            Self::Value(ScopeValue::Text(text)) => Subject::Value(ScopeValue::Text(Cow::Borrowed(text))),
            Self::Scope(scope) => Subject::Scope(scope),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Of {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Some(value) = value(&object)? {
            return Ok(Self::Value(value));
        }
        scope(&object)?.map(Self::Scope).ok_or_else(|| wrong_type("a scope, or an int, str or UUID", &object))
    }
}

/// The scope of a gate, or of a stream's entry.
pub(super) struct Given(pub(super) Owned);

impl<'py> FromPyObject<'_, 'py> for Given {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        scope(&object)?.map(Self).ok_or_else(|| wrong_type("a scope", &object))
    }
}

/// What a dict holds now. To look at a value may run Python code, which could change the dict, and its iterator panics then.
pub(super) fn pairs<'py>(dict: &Bound<'py, PyDict>) -> Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    dict.iter().collect()
}

/// `None` for what is not a mapping.
fn scope(object: &Bound<'_, PyAny>) -> PyResult<Option<Owned>> {
    let mut scope = Scope::new();
    let mut push = |name: &Bound<'_, PyAny>, given: &Bound<'_, PyAny>| -> PyResult<()> {
        let Ok(name) = name.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!(
                "a scope's names are strs, not {}",
                name.get_type().name()?
            )));
        };
        let name = name.to_str()?;
        let Some(value) = value(given)? else {
            return Err(PyTypeError::new_err(format!(
                "the scope's {name:?} must be an int, a str or a UUID, not {}",
                given.get_type().name()?
            )));
        };
        scope.push(name.to_owned(), value);
        Ok(())
    };
    if let Ok(dict) = object.cast::<PyDict>() {
        for (name, value) in pairs(dict) {
            push(&name, &value)?;
        }
    } else if let Ok(mapping) = object.cast::<PyMapping>() {
        for item in mapping.items()? {
            let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
            push(&name, &value)?;
        }
    } else {
        return Ok(None);
    }
    Ok(Some(scope))
}

/// `None` for what is neither an int, a str nor a UUID. `True` is none of them.
fn value(object: &Bound<'_, PyAny>) -> PyResult<Option<ScopeValue<'static>>> {
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Some(ScopeValue::Text(Cow::Owned(text.to_str()?.to_owned()))));
    }
    if object.is_instance_of::<PyInt>() && !object.is_instance_of::<PyBool>() {
        return Ok(Some(match object.extract::<i64>() {
            Ok(number) => ScopeValue::Int(number),
            Err(_) => ScopeValue::Text(Cow::Owned(object.str()?.to_str()?.to_owned())),
        }));
    }
    static UUID: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if object.is_instance(UUID.import(object.py(), "uuid", "UUID")?)? {
        return Ok(Some(ScopeValue::Text(Cow::Owned(object.str()?.to_str()?.to_owned()))));
    }
    Ok(None)
}

fn wrong_type(expected: &str, found: &Bound<'_, PyAny>) -> PyErr {
    let name = found.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{expected} expected (a mapping such as {{\"org\": 1}}), not {name}"))
}

/// What a rule's callable gets: the mapping, or for a value one with the entry that it stands for. `None` for a value that
/// stands for none, which the call itself refuses.
pub(super) fn for_callable<'py>(
    entries: &[String],
    of: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Ok(dict) = of.cast::<PyDict>() {
        // An async callable looks at it later, when the program may have changed its own.
        return Ok(Some(dict.copy()?.into_any()));
    }
    if of.cast::<PyMapping>().is_ok() {
        return Ok(Some(of.clone()));
    }
    let [entry] = entries else { return Ok(None) };
    let scope = PyDict::new(of.py());
    scope.set_item(entry, of)?;
    Ok(Some(scope.into_any()))
}
