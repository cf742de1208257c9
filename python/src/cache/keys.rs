//! A user's key and version become the key on the server: `prefix:version:key`, checked as Django checks it.
//!
//! Django's check is a Python loop over the characters, a good part of what a get costs there. Here it is done on the
//! bytes while Django's default key function is in use; a key that needs a warning, and any other key function, goes
//! through the backend's own Python methods.

use std::io::Write;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyInt, PyString};
use vcache::python::shield;

/// Django's limit, in characters, which it has from memcached.
const LONGEST: usize = 250;

/// Of a longer value an error message shows so many characters.
const LONGEST_SHOWN: usize = 60;

/// The key on the server for `key`, as `cache` (the backend object) is configured right now.
pub(super) fn build(
    cache: &Bound<'_, PyAny>,
    key: &Bound<'_, PyAny>,
    version: &Bound<'_, PyAny>,
) -> PyResult<Vec<u8>> {
    let mut out = Vec::with_capacity(64);
    append(cache, key, version, &mut out)?;
    Ok(out)
}

/// The same, at the end of `out`.
pub(super) fn append(
    cache: &Bound<'_, PyAny>,
    key: &Bound<'_, PyAny>,
    version: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> PyResult<()> {
    shield();
    let py = cache.py();
    let start = out.len();
    if version.is_none()
        && let Ok(ready) = cache.getattr(intern!(py, "_key_start"))?.cast_exact::<PyBytes>()
    {
        out.extend_from_slice(ready.as_bytes());
    } else if is_plain(cache)? {
        append_start(cache, version, out)?;
    } else {
        let made = cache.call_method1(intern!(py, "make_and_validate_key"), (key, version))?;
        return write_text(out, &made, "the key that KEY_FUNCTION or make_key() made");
    }
    write_text(out, key, "key")?;
    if needs_warning(&out[start..]) {
        let text = String::from_utf8_lossy(&out[start..]);
        cache.call_method1(intern!(py, "validate_key"), (text,))?;
    }
    Ok(())
}

/// `prefix:version:`. That of the cache's own version is kept by the cache, which forgets it when one of its parts changes.
fn append_start(cache: &Bound<'_, PyAny>, version: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let py = cache.py();
    let start = out.len();
    write_text(out, &cache.getattr(intern!(py, "key_prefix"))?, "KEY_PREFIX")?;
    out.push(b':');
    if version.is_none() {
        write_text(out, &cache.getattr(intern!(py, "version"))?, "VERSION")?;
    } else {
        write_text(out, version, "version")?;
    }
    out.push(b':');
    if version.is_none() {
        cache.setattr(intern!(py, "_key_start"), PyBytes::new(py, &out[start..]))?;
    }
    Ok(())
}

/// Whether keys are made by Django's own function and checked by its own method.
fn is_plain(cache: &Bound<'_, PyAny>) -> PyResult<bool> {
    static DEFAULT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = cache.py();
    if !cache.getattr(intern!(py, "_plain_keys"))?.is_truthy()? {
        return Ok(false);
    }
    let default = DEFAULT.import(py, "django.core.cache.backends.base", "default_key_func")?;
    Ok(cache.getattr(intern!(py, "key_func"))?.is(default))
}

/// `str(part)`, as `"%s"` writes it: a str subclass or a lazy string is asked for its text. `name` is what the user
/// knows the part by.
fn write_text(out: &mut Vec<u8>, part: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    if let Ok(text) = part.cast_exact::<PyString>() {
        write_str(out, text, name)
    } else if let Ok(number) =
        part.cast_exact::<PyInt>().map_err(PyErr::from).and_then(|n| n.extract::<i64>())
    {
        // Writing to a vector does not fail.
        let _ = write!(out, "{number}");
        Ok(())
    } else {
        write_str(out, &part.str()?, name)
    }
}

#[inline]
fn write_str(out: &mut Vec<u8>, text: &Bound<'_, PyString>, name: &str) -> PyResult<()> {
    let utf8 = text.to_str().map_err(|_| PyValueError::new_err(format!("{name} {}", not_utf8(text))))?;
    out.extend_from_slice(utf8.as_bytes());
    Ok(())
}

/// What is wrong with a str that has no UTF-8 form, to stand after its name.
#[cold]
pub(super) fn not_utf8(text: &Bound<'_, PyAny>) -> String {
    format!("must be text that UTF-8 can hold, and {} has a lone surrogate", shown(text))
}

/// A value in an error message: its `repr`, cut short.
#[cold]
pub(super) fn shown(value: &Bound<'_, PyAny>) -> String {
    let Ok(repr) = value.repr() else { return "?".to_owned() };
    let repr = repr.to_string_lossy();
    match repr.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}...", &repr[..end]),
        None => repr.into_owned(),
    }
}

fn needs_warning(key: &[u8]) -> bool {
    if key.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return true;
    }
    // Bytes are never fewer than characters.
    key.len() > LONGEST && key.iter().filter(|&&byte| byte & 0xC0 != 0x80).count() > LONGEST
}

#[cfg(test)]
mod tests {
    use super::needs_warning;

    #[test]
    fn a_key_that_memcached_would_refuse_is_noticed() {
        assert!(!needs_warning(b":1:key"));
        assert!(!needs_warning("é".repeat(250).as_bytes()));
        for key in
            ["a b".to_owned(), "a\n".to_owned(), "a\u{7f}".to_owned(), "x".repeat(251), "é".repeat(251)]
        {
            assert!(needs_warning(key.as_bytes()), "{key:?}");
        }
    }
}
