//! What msgpack lacks, as payloads of its application ext types: big ints, Decimal, UUID and timedelta, in both
//! directions. Tuples and sets hold a msgpack array; dates and times are in `moment.rs`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDelta, PyDeltaAccess, PyInt, PyString};

use super::error::DecodeError;
use super::refusal::{Refusal, Written};
use super::sink::Sink;
use super::types::Types;

/// Two's complement, big-endian, as short as it goes.
pub(super) fn write_big_int(out: &mut Sink<'_>, int: &Bound<'_, PyInt>) -> Written {
    let py = int.py();
    let bits: usize = int.call_method0(intern!(py, "bit_length"))?.extract()?;
    let len = bits / 8 + 1;
    out.room_for(len)?;
    let signed = [(intern!(py, "signed"), true)].into_py_dict(py)?;
    let bytes = int.call_method(intern!(py, "to_bytes"), (len, intern!(py, "big")), Some(&signed))?;
    out.push(bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes());
    Ok(())
}

/// Its `str`, which is exact also for NaN, sNaN, infinities, -0 and trailing zeros.
pub(super) fn write_decimal(out: &mut Sink<'_>, decimal: &Bound<'_, PyAny>) -> Written {
    let text = decimal.str()?;
    out.push_checked(text.to_str()?.as_bytes())
}

/// 16 bytes, and a 17th with `is_safe` where that is known (`uuid.uuid1()`).
pub(super) fn write_uuid(out: &mut Sink<'_>, types: &Types, uuid: &Bound<'_, PyAny>) -> Written {
    let py = uuid.py();
    let Ok(int) = uuid.getattr(intern!(py, "int"))?.extract::<u128>() else {
        return Err(Refusal::unsupported(uuid, " without a 128-bit int"));
    };
    out.push(&int.to_be_bytes());
    let is_safe = uuid.getattr(intern!(py, "is_safe"))?;
    if !is_safe.is(&types.safe_unknown) {
        let Ok(code) = is_safe.getattr(intern!(py, "value")).and_then(|code| code.extract::<i8>()) else {
            return Err(Refusal::unsupported(uuid, " with an unknown is_safe"));
        };
        out.push(&code.to_be_bytes());
    }
    Ok(())
}

/// Days (i32), seconds, microseconds (u32): 12 bytes, normalised by Python itself.
pub(super) fn write_timedelta(out: &mut Sink<'_>, delta: &Bound<'_, PyDelta>) {
    out.push(&delta.get_days().to_be_bytes());
    out.push(&delta.get_seconds().to_be_bytes());
    out.push(&delta.get_microseconds().to_be_bytes());
}

pub(super) fn read_big_int<'py>(py: Python<'py>, payload: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
    let read = || {
        let signed = [(intern!(py, "signed"), true)].into_py_dict(py)?;
        let args = (PyBytes::new(py, payload), intern!(py, "big"));
        py.get_type::<PyInt>().call_method(intern!(py, "from_bytes"), args, Some(&signed))
    };
    read().map_err(|error| DecodeError::corrupt(py, error, "a bad big int"))
}

pub(super) fn read_decimal<'py>(
    py: Python<'py>,
    types: &Types,
    payload: &[u8],
) -> Result<Bound<'py, PyAny>, DecodeError> {
    PyString::from_bytes(py, payload)
        .and_then(|text| types.decimal.bind(py).call1((text,)))
        .map_err(|error| DecodeError::corrupt(py, error, "a bad Decimal"))
}

pub(super) fn read_uuid<'py>(
    py: Python<'py>,
    types: &Types,
    payload: &[u8],
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let Some((int, is_safe)) = payload.split_first_chunk::<16>() else {
        return Err(DecodeError::Corrupt("a UUID of the wrong length"));
    };
    let int = u128::from_be_bytes(*int);
    let (none, uuid) = (py.None(), types.uuid.bind(py));
    // UUID(hex, bytes, bytes_le, fields, int)
    let args = (&none, &none, &none, &none, int);
    match is_safe {
        [] => uuid.call1(args),
        [code] => types.safe_uuid.bind(py).call1((i8::from_be_bytes([*code]),)).and_then(|is_safe| {
            uuid.call(args, Some(&[(intern!(py, "is_safe"), is_safe)].into_py_dict(py)?))
        }),
        _ => return Err(DecodeError::Corrupt("a UUID of the wrong length")),
    }
    .map_err(|error| DecodeError::corrupt(py, error, "a bad UUID"))
}

pub(super) fn read_timedelta<'py>(py: Python<'py>, payload: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
    let field =
        |at: usize| payload.get(at..).and_then(<[u8]>::first_chunk::<4>).map(|b| i32::from_be_bytes(*b));
    let (Some(days), Some(seconds), Some(microseconds), 12) = (field(0), field(4), field(8), payload.len())
    else {
        return Err(DecodeError::Corrupt("a timedelta of the wrong length"));
    };
    PyDelta::new(py, days, seconds, microseconds, true)
        .map(Bound::into_any)
        .map_err(|error| DecodeError::corrupt(py, error, "a bad timedelta"))
}
