//! `wait_changed` and `await_changed`: wait for a key to change.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vcache::python::to_exception;

use super::answers::boolean;
use crate::cache::forms::{Conversation, Object, Operation};
use crate::cache::replies::Shared;
use crate::cache::{expiry, keys};

pub(in crate::cache) fn wait_changed(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    timeout: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
    let timeout = expiry::seconds_of(timeout)?.map(duration).transpose()?;
    let future = wait(Arc::clone(shared), keys::build(cache, key, version)?, timeout);
    // It raises also where exceptions are ignored: an answer at once would have its callers ask again and again.
    Ok(Conversation::new(future, |py: Python<'_>, changed| match changed {
        Ok(changed) => Ok(boolean(py, changed)),
        Err(error) => Err(to_exception(py, &error)),
    }))
}

/// A number of seconds as Python gives it.
fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!("timeout must be from 0 seconds on, or None, not {seconds}"))
    })
}

/// Waits until `key` changes (`true`), or for so long.
async fn wait(shared: Arc<Shared>, key: Vec<u8>, timeout: Option<Duration>) -> vcache::Result<bool> {
    let watched = shared.connection.watch(&key).await?;
    if !watched.is_tracked() {
        Python::try_attach(|py| shared.report_untracked(py));
    }
    watched.changed(timeout).await
}
