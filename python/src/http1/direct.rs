//! Hot paths that are called without Python's `Route`: those of Rust, where the route has nothing else to do for the
//! request. It must be of a known host and a method that the route takes. Everything else, errors too, is the route's.

use std::ptr;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::request::HotRequest;

/// What a hot path answered, and the future of its answer: one of the two is None.
pub type Started<'py> = (Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>);

/// Calls the hot path of a request; None if it is the route's to do.
///
/// # Errors
/// What the hot path raised.
pub fn start<'py>(
    py: Python<'py>,
    request: &HotRequest,
    scheme: &Bound<'py, PyString>,
    proxies: usize,
) -> PyResult<Option<Started<'py>>> {
    let Some(direct) = &request.target.direct else { return Ok(None) };
    let method = request.method.bind(py).to_str()?;
    let is_taken = |methods: &Vec<String>| methods.iter().any(|each| each == method);
    // What may be a preflight is the route's.
    if method == "OPTIONS" || !direct.methods.as_ref().is_none_or(is_taken) {
        return Ok(None);
    }
    let packed = (
        request.method.bind(py),
        request.path.bind(py),
        request.query.bind(py),
        request.headers.bind(py),
        request.body.bind(py),
        request.peer.bind(py),
        scheme,
        proxies,
        direct.most,
    )
        .into_pyobject(py)?;
    // Nothing has run yet if an argument is refused: the route calls it once more, and says what is wrong.
    let Ok(coroutine) = direct.awaitable.bind(py).call((packed,), Some(request.params.bind(py))) else {
        return Ok(None);
    };
    let steps = coroutine.call_method0(intern!(py, "__await__"))?;
    let mut result = ptr::null_mut();
    // SAFETY: the first is an iterator, as `__await__` returns one; there is a place for the result.
    let step = unsafe { ffi::PyIter_Send(steps.as_ptr(), ffi::Py_None(), &raw mut result) };
    // SAFETY: an owned reference; null if an exception is set.
    let result = unsafe { Bound::from_owned_ptr_or_opt(py, result) };
    match (step, result) {
        (ffi::PySendResult::PYGEN_RETURN, Some(answer)) => Ok(Some((Some(answer), None))),
        (ffi::PySendResult::PYGEN_NEXT, Some(future)) => {
            // A task would do so with what it is to wait for. Here a callback waits.
            future.setattr(intern!(py, "_asyncio_future_blocking"), false)?;
            Ok(Some((None, Some(future))))
        }
        _ => Err(PyErr::fetch(py)),
    }
}

/// The parts of a hot path's answer; None if it is an error, which the route logs, or of another kind than most.
pub fn parts<'py>(answer: &Bound<'py, PyAny>) -> Option<(u16, Bound<'py, PyList>, Bound<'py, PyBytes>)> {
    let tuple = answer.cast_exact::<PyTuple>().ok()?;
    if tuple.len() != 3 {
        return None;
    }
    let status = tuple.get_borrowed_item(0).ok()?.extract().ok()?;
    let headers = tuple.get_item(1).ok()?.cast_into().ok()?;
    let body = tuple.get_item(2).ok()?.cast_into().ok()?;
    (200..400).contains(&status).then_some((status, headers, body))
}
