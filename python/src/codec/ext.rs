//! What msgpack lacks, as its application ext types: the codes, and the payloads of big ints, Decimal, UUID
//! and timedelta in both directions. Tuples and sets hold a msgpack array; dates and times are in
//! `moment.rs`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDelta, PyDeltaAccess, PyInt, PyString};

use super::error::DecodeError;
use super::read::Reader;
use super::refusal::Refusal;
use super::write::{Writer, Written};

// The codes are on the wire: never reuse one.
pub(super) const TUPLE: u8 = 1;
pub(super) const SET: u8 = 2;
pub(super) const BIG_INT: u8 = 3;
pub(super) const DATETIME: u8 = 4;
pub(super) const DATE: u8 = 5;
pub(super) const TIME: u8 = 6;
pub(super) const TIMEDELTA: u8 = 7;
pub(super) const DECIMAL: u8 = 8;
pub(super) const UUID: u8 = 9;

impl Writer<'_> {
    /// Two's complement, big-endian, as short as it goes.
    pub(super) fn big_int(&mut self, int: &Bound<'_, PyInt>) -> Written {
        let py = int.py();
        let bits: usize = int.call_method0(intern!(py, "bit_length"))?.extract()?;
        let len = bits / 8 + 1;
        self.room_for(len)?;
        let signed = [(intern!(py, "signed"), true)].into_py_dict(py)?;
        let bytes = int.call_method(intern!(py, "to_bytes"), (len, intern!(py, "big")), Some(&signed))?;
        self.out.extend_from_slice(bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes());
        Ok(())
    }

    /// Its `str`, which is exact also for NaN, sNaN, infinities, -0 and trailing zeros.
    pub(super) fn decimal(&mut self, decimal: &Bound<'_, PyAny>) -> Written {
        let text = decimal.str()?;
        let text = text.to_str()?;
        self.room_for(text.len())?;
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// 16 bytes, and a 17th with `is_safe` where that is known (`uuid.uuid1()`).
    pub(super) fn uuid(&mut self, uuid: &Bound<'_, PyAny>) -> Written {
        let py = uuid.py();
        let Ok(int) = uuid.getattr(intern!(py, "int"))?.extract::<u128>() else {
            return Err(Refusal::unsupported(uuid, " without a 128-bit int"));
        };
        self.out.extend_from_slice(&int.to_be_bytes());
        let is_safe = uuid.getattr(intern!(py, "is_safe"))?;
        if !is_safe.is(&self.types.safe_unknown) {
            let Ok(code) = is_safe.getattr(intern!(py, "value")).and_then(|code| code.extract::<i8>()) else {
                return Err(Refusal::unsupported(uuid, " with an unknown is_safe"));
            };
            self.out.extend_from_slice(&code.to_be_bytes());
        }
        Ok(())
    }

    /// Days (i32), seconds, microseconds (u32): 12 bytes, normalised by Python itself.
    pub(super) fn timedelta(&mut self, delta: &Bound<'_, PyDelta>) {
        self.out.extend_from_slice(&delta.get_days().to_be_bytes());
        self.out.extend_from_slice(&delta.get_seconds().to_be_bytes());
        self.out.extend_from_slice(&delta.get_microseconds().to_be_bytes());
    }
}

impl<'py> Reader<'_, 'py> {
    pub(super) fn read_big_int(&self, payload: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
        let py = self.py;
        let read = || {
            let signed = [(intern!(py, "signed"), true)].into_py_dict(py)?;
            let args = (PyBytes::new(py, payload), intern!(py, "big"));
            py.get_type::<PyInt>().call_method(intern!(py, "from_bytes"), args, Some(&signed))
        };
        read().map_err(|error| DecodeError::corrupt(py, error, "a bad big int"))
    }

    pub(super) fn read_decimal(&self, payload: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
        let py = self.py;
        PyString::from_bytes(py, payload)
            .and_then(|text| self.types.decimal.bind(py).call1((text,)))
            .map_err(|error| DecodeError::corrupt(py, error, "a bad Decimal"))
    }

    pub(super) fn read_uuid(&self, payload: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
        let py = self.py;
        let Some((int, is_safe)) = payload.split_first_chunk::<16>() else {
            return Err(DecodeError::Corrupt("a UUID of the wrong length"));
        };
        let int = u128::from_be_bytes(*int);
        let (none, uuid) = (py.None(), self.types.uuid.bind(py));
        // UUID(hex, bytes, bytes_le, fields, int)
        let args = (&none, &none, &none, &none, int);
        match is_safe {
            [] => uuid.call1(args),
            [code] => {
                self.types.safe_uuid.bind(py).call1((i8::from_be_bytes([*code]),)).and_then(|is_safe| {
                    uuid.call(args, Some(&[(intern!(py, "is_safe"), is_safe)].into_py_dict(py)?))
                })
            }
            _ => return Err(DecodeError::Corrupt("a UUID of the wrong length")),
        }
        .map_err(|error| DecodeError::corrupt(py, error, "a bad UUID"))
    }

    pub(super) fn read_timedelta(&self, payload: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
        let field =
            |at: usize| payload.get(at..).and_then(<[u8]>::first_chunk::<4>).map(|b| i32::from_be_bytes(*b));
        let (Some(days), Some(seconds), Some(microseconds), 12) =
            (field(0), field(4), field(8), payload.len())
        else {
            return Err(DecodeError::Corrupt("a timedelta of the wrong length"));
        };
        PyDelta::new(self.py, days, seconds, microseconds, true)
            .map(Bound::into_any)
            .map_err(|error| DecodeError::corrupt(self.py, error, "a bad timedelta"))
    }
}
