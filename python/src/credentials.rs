//! CREDENTIALS of an alias: Python is asked for a user name and a password, on the thread that makes a connection.

use std::time::{Duration, SystemTime};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use vcache::{CredentialProvider, Credentials};

/// A callable without arguments, or an object of redis-py's with `get_credentials`.
pub(crate) struct Asked(pub(crate) Py<PyAny>);

impl CredentialProvider for Asked {
    fn credentials(&self) -> Result<Credentials, String> {
        Python::try_attach(|py| {
            let found = self.ask(py).map_err(|error| in_words(py, &error))?;
            read(&found).map_err(|_| WRONG.to_owned())
        })
        .unwrap_or_else(|| Err("Python ends, so CREDENTIALS cannot be asked".to_owned()))
    }

    fn identity(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl Asked {
    fn ask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let provider = self.0.bind(py);
        match provider.getattr_opt("get_credentials")? {
            Some(method) => method.call0(),
            None => provider.call0(),
        }
    }
}

const WRONG: &str = "CREDENTIALS returned neither a pair of a user name and a password, nor a dict with \"username\", \
    \"password\" and, if they expire, \"expires_at\" in seconds since 1970";

/// A pair, a password alone in a tuple or as a text, or a dict.
fn read(found: &Bound<'_, PyAny>) -> PyResult<Credentials> {
    if let Ok(dict) = found.cast::<PyDict>() {
        let value = |name: &str| Ok::<_, PyErr>(dict.get_item(name)?.filter(|value| !value.is_none()));
        let password = value("password")?.ok_or_else(|| PyValueError::new_err("no password"))?;
        return Ok(Credentials {
            username: value("username")?.map(|name| name.extract()).transpose()?,
            password: password.extract()?,
            expires_at: value("expires_at")?.map(|at| moment(&at)).transpose()?,
        });
    }
    // As some write a pair.
    if let Ok(list) = found.cast::<PyList>() {
        return read(list.to_tuple().as_any());
    }
    let (username, password) = if found.is_instance_of::<PyString>() {
        (None, found.extract()?)
    } else if let Ok((password,)) = found.extract::<(String,)>() {
        (None, password)
    } else {
        found.extract::<(Option<String>, String)>()?
    };
    Ok(Credentials { username, password, expires_at: None })
}

/// Seconds since 1970, or a datetime.
fn moment(value: &Bound<'_, PyAny>) -> PyResult<SystemTime> {
    let seconds: f64 = match value.getattr_opt("timestamp")? {
        Some(timestamp) => timestamp.call0()?.extract()?,
        None => value.extract()?,
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
        .ok_or_else(|| PyValueError::new_err("no time"))
}

/// An error without its text, which may hold what it is about.
fn in_words(py: Python<'_>, error: &PyErr) -> String {
    let kind =
        error.get_type(py).qualname().map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
    format!("CREDENTIALS raised {kind}; call it by hand to see more")
}
