//! Waiting for a key to change, for Python: `wait_changed` and `await_changed`.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::replies::Shared;

/// A number of seconds as Python gives it.
pub(super) fn timeout(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!("timeout must be from 0 seconds on, or None, not {seconds}"))
    })
}

/// Waits until `key` changes (`true`), or for so long.
pub(super) async fn wait(
    shared: Arc<Shared>,
    key: Vec<u8>,
    timeout: Option<Duration>,
) -> vcache::Result<bool> {
    let watched = shared.connection.watch(&key).await?;
    if !watched.is_tracked() {
        Python::try_attach(|py| shared.report_untracked(py));
    }
    watched.changed(timeout).await
}
