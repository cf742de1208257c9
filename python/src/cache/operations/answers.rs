//! What several operations answer.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBool;
use vcache::{Packet, Value};

use crate::cache::forms::{Answer, Object};
use crate::cache::replies::Shared;

pub(super) fn boolean(py: Python<'_>, truth: bool) -> Py<PyAny> {
    PyBool::new(py, truth).to_owned().into_any().unbind()
}

/// Whether the reply is a count above 0; `false` where the error was ignored.
pub(super) fn is_positive(reply: Result<Value, ()>) -> bool {
    matches!(reply, Ok(Value::Int(count)) if count > 0)
}

/// The answer is whether the reply is a count above 0.
pub(super) fn whether_positive(shared: &Arc<Shared>) -> impl Answer + use<> {
    let shared = Arc::clone(shared);
    move |py: Python<'_>, result, _: &Packet| Ok(boolean(py, is_positive(shared.reply(py, result)?)))
}

/// The answer is None, whatever the reply.
pub(super) fn nothing(shared: &Arc<Shared>) -> impl Answer + use<> {
    let shared = Arc::clone(shared);
    move |py: Python<'_>, result, _: &Packet| {
        let _ignored = shared.reply(py, result)?;
        Ok(py.None())
    }
}

/// Django's words for a key that is not there.
pub(super) fn missing_key(key: &Object<'_>) -> PyResult<String> {
    Ok(format!("Key '{}' not found", key.str()?.to_str()?))
}
