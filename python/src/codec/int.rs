//! Top-level ints: ASCII decimal, the form that the server's INCRBY reads and writes.

use std::io::Write as _;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

use super::error::DecodeError;

/// The longest int that is stored or read, in digits. It is `CPython`'s own default limit
/// (`sys.set_int_max_str_digits`): conversion is quadratic, so a longer run of digits in the store would be a
/// way to burn our CPU.
const MAX_DIGITS: usize = 4300;

/// Digits that an i64 always has room for.
const SAFE_DIGITS: usize = 18;

/// Appends `int` as digits.
///
/// # Errors
/// `ValueError` beyond 4300 digits, from `CPython` or, where the program lifted `CPython`'s limit, from here.
pub(super) fn write(int: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(small) = int.extract::<i64>() {
        // A write to a Vec cannot fail.
        let _ = write!(out, "{small}");
        return Ok(());
    }
    let text = int.str()?;
    let text = text.to_str()?;
    if text.len() > MAX_DIGITS + 1 {
        return Err(PyValueError::new_err(format!("cannot store an int of more than {MAX_DIGITS} digits")));
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Reads `-?[0-9]+` with no leading zero and no "-0": what INCRBY writes, and nothing else.
pub(super) fn read<'py>(py: Python<'py>, text: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [] => return Err(DecodeError::Truncated),
        [b'0'] if text.len() == 1 => {}
        [b'0', ..] => return Err(DecodeError::Corrupt("an int with a leading zero")),
        _ => {}
    }
    if digits.len() > MAX_DIGITS {
        return Err(DecodeError::Corrupt("an int of too many digits"));
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(DecodeError::Corrupt("an int with something other than digits"));
    }
    if digits.len() <= SAFE_DIGITS {
        let magnitude = digits.iter().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        let int = if digits.len() == text.len() { magnitude } else { -magnitude };
        let Ok(int) = int.into_pyobject(py);
        return Ok(int.into_any());
    }
    // CPython's limit may have been set lower than ours: then this is a ValueError, and a miss.
    PyString::from_bytes(py, text)
        .and_then(|text| py.get_type::<PyInt>().call1((text,)))
        .map_err(|error| DecodeError::corrupt(py, error, "an int of too many digits"))
}
