//! What Python gets for a reply: a value, a miss, or an exception. What cannot be read is a logged miss; what cannot be
//! reached is an exception, or with IGNORE_EXCEPTIONS a logged miss too.

use pyo3::prelude::*;
use vcache::python::to_exception;
use vcache::{Connection, ErrorKind, Value};

use super::scripts::Scripting;
use crate::codec::{Codec, DecodeError};

/// What the operations share: the connection, the codec, and where to report.
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) codec: Codec,
    pub(super) ignore_exceptions: bool,
    /// `on_miss(alias, key, reason)`: a stored value could not be read.
    pub(super) on_miss: Py<PyAny>,
    /// `on_error(alias, exception)`: an exception was ignored.
    pub(super) on_error: Py<PyAny>,
    /// `on_untracked(alias)`: the server does not say when a key changes.
    pub(super) on_untracked: Py<PyAny>,
    /// `on_unscripted(alias)`: the server refuses scripts.
    pub(super) on_unscripted: Py<PyAny>,
    pub(super) scripting: Scripting,
}

impl Shared {
    /// A stored value, or `None` if it cannot be read, which is logged.
    pub(super) fn decode<'py>(
        &self,
        py: Python<'py>,
        key: impl FnOnce() -> String,
        stored: &[u8],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.codec.decode(py, stored) {
            Ok(value) => Ok(Some(value)),
            Err(DecodeError::Interrupted(error)) => Err(error),
            Err(error) => {
                self.on_miss.call1(py, (self.connection.alias(), key(), error.to_string()))?;
                Ok(None)
            }
        }
    }

    /// Tells the log that the server does not say when a key changes.
    pub(super) fn report_untracked(&self, py: Python<'_>) {
        if let Err(error) = self.on_untracked.call1(py, (self.connection.alias(),)) {
            error.write_unraisable(py, None);
        }
    }

    /// Tells the log that the server refuses scripts.
    pub(super) fn report_unscripted(&self, py: Python<'_>) {
        if let Err(error) = self.on_unscripted.call1(py, (self.connection.alias(),)) {
            error.write_unraisable(py, None);
        }
    }

    /// The reply, unless it is an error. `Ok(Err(()))` says that the error was ignored, as the user wished.
    pub(super) fn reply(&self, py: Python<'_>, result: vcache::Result<Value>) -> PyResult<Result<Value, ()>> {
        self.outcome(py, result.and_then(|reply| self.connection.check(reply)))
    }

    /// The same for any outcome.
    pub(super) fn outcome<T>(&self, py: Python<'_>, result: vcache::Result<T>) -> PyResult<Result<T, ()>> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(error) if self.ignore_exceptions && is_ignorable(error.kind()) => {
                self.on_error.call1(py, (self.connection.alias(), to_exception(py, &error)))?;
                Ok(Err(()))
            }
            Err(error) => Err(to_exception(py, &error)),
        }
    }
}

/// What IGNORE_EXCEPTIONS is about: the server, and never a caller's own mistake.
fn is_ignorable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Response)
}
