//! Python values to msgpack: the built-in containers and scalars here, the classes of the standard library in
//! `ext.rs` and `moment.rs`. By exact type only: a subclass means something that its base cannot carry.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDate, PyDateTime, PyDelta, PyDict, PyFloat, PyInt, PyList, PySet, PyString,
};
use pyo3::types::{PyTime, PyTuple};
use rmp::{Marker, encode};

use super::ext;
use super::refusal::{Refusal, key_step};
use super::types::Types;

/// How deep containers may nest, in both directions. It bounds the Rust stack, which Python's own limit does
/// not.
pub(super) const MAX_DEPTH: usize = 64;

/// Bytes before an ext payload of up to 255 bytes: marker, length, type.
const EXT8_HEADER: usize = 3;
/// The same for a longer one.
const EXT32_HEADER: usize = 6;

pub(super) type Written = Result<(), Refusal>;

/// Appends one value to `out`.
pub(super) struct Writer<'a> {
    pub(super) types: &'a Types,
    pub(super) out: &'a mut Vec<u8>,
    /// The length that `out` must not exceed.
    pub(super) end: usize,
    /// Whether a refusal is shown to somebody: then it is worth saying where it was.
    pub(super) explain: bool,
}

impl Writer<'_> {
    /// Appends `value`, which is inside `depth` containers. Ordered by how often a cache sees the type.
    pub(super) fn value(&mut self, value: &Bound<'_, PyAny>, depth: usize) -> Written {
        if self.out.len() > self.end {
            return Err(Refusal::TooLarge);
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            return self.text(text);
        }
        if let Ok(int) = value.cast_exact::<PyInt>() {
            return self.int(int);
        }
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            return self.dict(dict, depth);
        }
        if let Ok(list) = value.cast_exact::<PyList>() {
            return self.list(list, depth);
        }
        if value.is_none() {
            return written(encode::write_nil(self.out));
        }
        if let Ok(flag) = value.cast_exact::<PyBool>() {
            return written(encode::write_bool(self.out, flag.is_true()));
        }
        if let Ok(float) = value.cast_exact::<PyFloat>() {
            return written(encode::write_f64(self.out, float.value()));
        }
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            return self.ext(ext::TUPLE, |writer| writer.tuple(tuple, depth));
        }
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            return self.bytes(bytes.as_bytes());
        }
        if let Ok(moment) = value.cast_exact::<PyDateTime>() {
            return self.ext(ext::DATETIME, |writer| writer.datetime(moment));
        }
        if Types::is_exactly(value, &self.types.uuid) {
            return self.ext(ext::UUID, |writer| writer.uuid(value));
        }
        if Types::is_exactly(value, &self.types.decimal) {
            return self.ext(ext::DECIMAL, |writer| writer.decimal(value));
        }
        if let Ok(set) = value.cast_exact::<PySet>() {
            return self.ext(ext::SET, |writer| writer.set(set, depth));
        }
        if let Ok(date) = value.cast_exact::<PyDate>() {
            return self.ext(ext::DATE, |writer| {
                writer.day(date);
                Ok(())
            });
        }
        if let Ok(delta) = value.cast_exact::<PyDelta>() {
            return self.ext(ext::TIMEDELTA, |writer| {
                writer.timedelta(delta);
                Ok(())
            });
        }
        if let Ok(time) = value.cast_exact::<PyTime>() {
            return self.ext(ext::TIME, |writer| writer.time(time));
        }
        Err(Refusal::unsupported(value, ""))
    }

    /// Appends an ext value whose payload `body` writes, however long it turns out.
    pub(super) fn ext(&mut self, code: u8, body: impl FnOnce(&mut Self) -> Written) -> Written {
        let start = self.out.len();
        self.out.extend_from_slice(&[Marker::Ext8.to_u8(), 0, code]);
        body(self)?;
        let payload = start + EXT8_HEADER;
        let len = self.out.len() - payload;
        if let Ok(len) = u8::try_from(len) {
            self.out[start + 1] = len;
            return Ok(());
        }
        let len = u32::try_from(len).map_err(|_| Refusal::TooLarge)?;
        self.out.extend_from_slice(&[0; EXT32_HEADER - EXT8_HEADER]);
        let shifted = self.out.len() - (EXT32_HEADER - EXT8_HEADER);
        self.out.copy_within(payload..shifted, start + EXT32_HEADER);
        self.out[start] = Marker::Ext32.to_u8();
        self.out[start + 1..start + 5].copy_from_slice(&len.to_be_bytes());
        self.out[start + 5] = code;
        Ok(())
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> Written {
        let Ok(utf8) = text.to_str() else {
            return Err(Refusal::unsupported(text, " with an unpaired surrogate"));
        };
        let len = self.room_for(utf8.len())?;
        written(encode::write_str_len(self.out, len))?;
        self.out.extend_from_slice(utf8.as_bytes());
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Written {
        let len = self.room_for(bytes.len())?;
        written(encode::write_bin_len(self.out, len))?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn int(&mut self, int: &Bound<'_, PyInt>) -> Written {
        if let Ok(small) = int.extract::<i64>() {
            return written(encode::write_sint(self.out, small));
        }
        if let Ok(small) = int.extract::<u64>() {
            return written(encode::write_uint(self.out, small));
        }
        self.ext(ext::BIG_INT, |writer| writer.big_int(int))
    }

    fn list(&mut self, list: &Bound<'_, PyList>, depth: usize) -> Written {
        let len = list.len();
        self.open(len, depth, encode::write_array_len)?;
        let mut count = 0;
        // Encoding an item can run Python code, and that could change the list: the count says whether it
        // did.
        for (index, item) in list.iter().enumerate() {
            self.value(&item, depth + 1).map_err(|refusal| self.under(refusal, || format!("[{index}]")))?;
            count += 1;
        }
        if count == len { Ok(()) } else { Err(changed("list")) }
    }

    fn tuple(&mut self, tuple: &Bound<'_, PyTuple>, depth: usize) -> Written {
        self.open(tuple.len(), depth, encode::write_array_len)?;
        for (index, item) in tuple.iter_borrowed().enumerate() {
            self.value(&item, depth + 1).map_err(|refusal| self.under(refusal, || format!("[{index}]")))?;
        }
        Ok(())
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>, depth: usize) -> Written {
        let len = dict.len();
        self.open(len, depth, encode::write_map_len)?;
        let mut items = dict.iter();
        for _ in 0..len {
            // The iterator panics where the dict was changed under it. Asked `len` times and only while the
            // length stands, it never gets there.
            if dict.len() != len {
                return Err(changed("dict"));
            }
            let Some((key, value)) = items.next() else {
                return Err(changed("dict"));
            };
            self.value(&key, depth + 1)
                .map_err(|refusal| self.under(refusal, || format!("{} (the key itself)", key_step(&key))))?;
            self.value(&value, depth + 1).map_err(|refusal| self.under(refusal, || key_step(&key)))?;
        }
        if dict.len() == len { Ok(()) } else { Err(changed("dict")) }
    }

    fn set(&mut self, set: &Bound<'_, PySet>, depth: usize) -> Written {
        let len = set.len();
        self.open(len, depth, encode::write_array_len)?;
        let mut count = 0;
        // `PySet::iter` panics where Python raises.
        for item in set.try_iter()? {
            let item = item?;
            self.value(&item, depth + 1)
                .map_err(|refusal| self.under(refusal, || format!("{} (in a set)", key_step(&item))))?;
            count += 1;
        }
        if count == len { Ok(()) } else { Err(changed("set")) }
    }

    /// Starts a container of `len` items.
    fn open<W, E>(
        &mut self,
        len: usize,
        depth: usize,
        header: fn(&mut Vec<u8>, u32) -> Result<W, E>,
    ) -> Written {
        if depth >= MAX_DEPTH {
            return Err(Refusal::TooDeep);
        }
        // Every item takes a byte at least.
        let len = self.room_for(len)?;
        written(header(self.out, len))
    }

    /// `len` as msgpack wants it, if that many bytes still fit under the limit.
    pub(super) fn room_for(&self, len: usize) -> Result<u32, Refusal> {
        if len > self.end.saturating_sub(self.out.len()) {
            return Err(Refusal::TooLarge);
        }
        u32::try_from(len).map_err(|_| Refusal::TooLarge)
    }

    #[cold]
    fn under(&self, refusal: Refusal, step: impl FnOnce() -> String) -> Refusal {
        if self.explain { refusal.under(step) } else { refusal }
    }
}

/// `rmp` writes to anything and so returns a Result; a write to a Vec cannot fail.
#[inline]
#[allow(clippy::unnecessary_wraps, reason = "the value of a match arm")]
fn written<W, E>(_: Result<W, E>) -> Written {
    Ok(())
}

#[cold]
fn changed(container: &str) -> Refusal {
    Refusal::Raised(PyRuntimeError::new_err(format!("{container} changed while it was being stored")))
}
