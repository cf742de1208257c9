//! `incr`: adds to a number that is there, which keeps its time to live. How it is done on the server is in `scripts.rs`.

use std::sync::Arc;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::answers::missing_key;
use crate::cache::forms::{Conversation, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;
use crate::cache::scripts::Outcome;

pub(in crate::cache) fn incr(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    delta: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
    let delta = integer(delta)?;
    let stored_as = keys::build(cache, key, version)?;
    let missing = missing_key(key)?;
    let (shared, shown) = (Arc::clone(shared), stored_as.clone());
    let answering = Arc::clone(&shared);
    let future = async move {
        let on_refused = || {
            Python::try_attach(|py| shared.report_unscripted(py));
        };
        shared.scripting.incr(shared.connection.clone(), stored_as, delta, on_refused).await
    };
    Ok(Conversation::new(future, move |py: Python<'_>, result| match answering.outcome(py, result)? {
        Ok(Outcome::Number(number)) => Ok(number.into_pyobject(py)?.into_any().unbind()),
        Ok(Outcome::Missing) | Err(()) => Err(PyValueError::new_err(missing)),
        Ok(Outcome::Other(stored)) => {
            let name = || String::from_utf8_lossy(&shown).into_owned();
            let Some(value) = answering.decode(py, name, &stored)? else {
                return Err(PyValueError::new_err(missing));
            };
            let message =
                format!("cannot increment or decrement a value of type {}", value.get_type().name()?);
            Err(PyTypeError::new_err(message))
        }
    }))
}

/// The `delta` of `incr`.
fn integer(delta: &Object<'_>) -> PyResult<i64> {
    delta.extract().map_err(|error: PyErr| {
        let shown = keys::shown(delta);
        if error.is_instance_of::<PyOverflowError>(delta.py()) {
            PyOverflowError::new_err(format!("delta must fit into 64 bits, and {shown} does not"))
        } else {
            PyTypeError::new_err(format!("delta must be an int, not {shown}"))
        }
    })
}
