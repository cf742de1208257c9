//! Python values to msgpack: the built-in containers and scalars here, the classes of the standard library in
//! `ext.rs` and `moment.rs`. By exact type only: a subclass means something that its base cannot carry.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDate, PyDateTime, PyDelta, PyDict, PyFloat, PyInt, PyList, PySet, PyString,
};
use pyo3::types::{PyTime, PyTuple};
use rmp::{Marker, encode};

use super::parts::{Memo, Met};
use super::refusal::{Refusal, Written, key_step};
use super::sink::Sink;
use super::types::Types;
use super::wire::{MAX_DEPTH, ext_code};
use super::{ext, moment};

/// Bytes before an ext payload of up to 255 bytes: marker, length, type.
const EXT8_HEADER: usize = 3;
/// The same for a longer one.
const EXT32_HEADER: usize = 6;

/// References to an object that only one container holds: the container's, and ours.
const UNSHARED: isize = 2;
/// A str or bytes object is looked for in the memo from this length on, in bytes. A reference takes 3 to 6.
const LONG: usize = 64;

/// Writes one value.
pub(super) struct Writer<'a, 'py> {
    types: &'a Types,
    out: Sink<'a>,
    /// Whether a refusal is shown: then it is worth saying where it was.
    explain: bool,
    memo: Memo<'py>,
    /// How many containers were around the innermost one so far, itself included.
    deepest: usize,
    /// Whether what is written now is hashed when it is read. A hash of nested parts that are shared costs as much as
    /// that of as many copies, so a reader does not accept them there.
    hashed: bool,
}

impl<'a, 'py> Writer<'a, 'py> {
    pub(super) fn new(types: &'a Types, out: Sink<'a>, explain: bool) -> Self {
        Self { types, out, explain, memo: Memo::default(), deepest: 0, hashed: false }
    }

    /// Appends `value`, and its table of shared parts if it has any; says whether it has.
    pub(super) fn write(mut self, value: &Bound<'py, PyAny>) -> Result<bool, Refusal> {
        let start = self.out.bytes.len();
        self.value(value, 0)?;
        self.memo.write_table(&mut self.out, start)
    }

    /// Appends `value`, which is inside `depth` containers. Ordered by how often a cache sees the type.
    fn value(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> Written {
        if self.out.is_over() {
            return Err(Refusal::TooLarge);
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            let utf8 = utf8(text)?;
            if utf8.len() >= LONG && is_shared(value) {
                return self.shared(value, depth);
            }
            return self.text(utf8);
        }
        if let Ok(int) = value.cast_exact::<PyInt>() {
            if let Ok(small) = int.extract::<i64>() {
                return written(encode::write_sint(self.out.bytes, small));
            }
            if let Ok(small) = int.extract::<u64>() {
                return written(encode::write_uint(self.out.bytes, small));
            }
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            return if is_shared(value) { self.shared(value, depth) } else { self.dict(dict, depth) };
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            return if is_shared(value) { self.shared(value, depth) } else { self.list(list, depth) };
        } else if value.is_none() {
            return written(encode::write_nil(self.out.bytes));
        } else if let Ok(flag) = value.cast_exact::<PyBool>() {
            return written(encode::write_bool(self.out.bytes, flag.is_true()));
        } else if let Ok(float) = value.cast_exact::<PyFloat>() {
            return written(encode::write_f64(self.out.bytes, float.value()));
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>()
            && bytes.as_bytes().len() < LONG
        {
            return self.bytes(bytes.as_bytes());
        }
        if is_shared(value) { self.shared(value, depth) } else { self.part(value, depth) }
    }

    /// Appends a part that others hold as well, so that it may be in this value more than once.
    #[inline(never)]
    fn shared(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> Written {
        // A value that is in itself is noticed one level further in. Python has one empty tuple.
        if depth == 0 || self.hashed || value.cast_exact::<PyTuple>().is_ok_and(|tuple| tuple.is_empty()) {
            return self.part(value, depth);
        }
        match self.memo.meet(value, self.out.bytes.len())? {
            Met::First(index) => {
                let before = std::mem::replace(&mut self.deepest, depth);
                self.part(value, depth)?;
                self.memo.finish(index, self.deepest - depth);
                self.deepest = self.deepest.max(before);
                Ok(())
            }
            Met::Again { number, height } => {
                self.deepest = self.deepest.max(depth + height);
                if depth + height > MAX_DEPTH {
                    return Err(Refusal::TooDeep);
                }
                self.reference(number)
            }
            Met::Inside => Err(Refusal::InItself),
        }
    }

    /// Appends, in place of a part, its number.
    fn reference(&mut self, number: u32) -> Written {
        let bytes = number.to_be_bytes();
        let (marker, number) = match bytes {
            [0, 0, 0, _] => (Marker::FixExt1, &bytes[3..]),
            [0, 0, _, _] => (Marker::FixExt2, &bytes[2..]),
            _ => (Marker::FixExt4, &bytes[..]),
        };
        self.out.push(&[marker.to_u8(), ext_code::PART]);
        self.out.push(number);
        Ok(())
    }

    /// Appends a part that is worth a place in the memo, whether it is there or not.
    fn part(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> Written {
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            return self.dict(dict, depth);
        }
        if let Ok(list) = value.cast_exact::<PyList>() {
            return self.list(list, depth);
        }
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            return self.ext(ext_code::TUPLE, |writer| writer.tuple(tuple, depth));
        }
        if let Ok(moment) = value.cast_exact::<PyDateTime>() {
            return self.ext(ext_code::DATETIME, |writer| {
                moment::write_datetime(&mut writer.out, writer.types, moment)
            });
        }
        if Types::is_exactly(value, &self.types.uuid) {
            return self.ext(ext_code::UUID, |writer| ext::write_uuid(&mut writer.out, writer.types, value));
        }
        if Types::is_exactly(value, &self.types.decimal) {
            return self.ext(ext_code::DECIMAL, |writer| ext::write_decimal(&mut writer.out, value));
        }
        if let Ok(set) = value.cast_exact::<PySet>() {
            return self.ext(ext_code::SET, |writer| writer.set(set, depth));
        }
        if let Ok(date) = value.cast_exact::<PyDate>() {
            return self.ext(ext_code::DATE, |writer| {
                moment::write_day(&mut writer.out, date);
                Ok(())
            });
        }
        if let Ok(delta) = value.cast_exact::<PyDelta>() {
            return self.ext(ext_code::TIMEDELTA, |writer| {
                ext::write_timedelta(&mut writer.out, delta);
                Ok(())
            });
        }
        if let Ok(time) = value.cast_exact::<PyTime>() {
            return self
                .ext(ext_code::TIME, |writer| moment::write_time(&mut writer.out, writer.types, time));
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            return self.text(utf8(text)?);
        }
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            return self.bytes(bytes.as_bytes());
        }
        if let Ok(int) = value.cast_exact::<PyInt>() {
            return self.ext(ext_code::BIG_INT, |writer| ext::write_big_int(&mut writer.out, int));
        }
        Err(Refusal::unsupported(value, ""))
    }

    /// Appends an ext value whose payload `body` writes, however long it turns out.
    fn ext(&mut self, code: u8, body: impl FnOnce(&mut Self) -> Written) -> Written {
        let start = self.out.bytes.len();
        self.out.push(&[Marker::Ext8.to_u8(), 0, code]);
        body(self)?;
        let out = &mut *self.out.bytes;
        let payload = start + EXT8_HEADER;
        let len = out.len() - payload;
        if let Ok(len) = u8::try_from(len) {
            out[start + 1] = len;
            return Ok(());
        }
        let len = u32::try_from(len).map_err(|_| Refusal::TooLarge)?;
        let by = EXT32_HEADER - EXT8_HEADER;
        out.extend_from_slice(&[0; EXT32_HEADER - EXT8_HEADER]);
        let shifted = out.len() - by;
        out.copy_within(payload..shifted, start + EXT32_HEADER);
        out[start] = Marker::Ext32.to_u8();
        out[start + 1..start + 5].copy_from_slice(&len.to_be_bytes());
        out[start + 5] = code;
        self.memo.shift(payload, by);
        Ok(())
    }

    #[inline]
    fn text(&mut self, utf8: &str) -> Written {
        let len = self.out.room_for(utf8.len())?;
        written(encode::write_str_len(self.out.bytes, len))?;
        self.out.push(utf8.as_bytes());
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Written {
        let len = self.out.room_for(bytes.len())?;
        written(encode::write_bin_len(self.out.bytes, len))?;
        self.out.push(bytes);
        Ok(())
    }

    fn list(&mut self, list: &Bound<'py, PyList>, depth: usize) -> Written {
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

    fn tuple(&mut self, tuple: &Bound<'py, PyTuple>, depth: usize) -> Written {
        self.open(tuple.len(), depth, encode::write_array_len)?;
        // Not borrowed: `UNSHARED` counts our reference.
        for (index, item) in tuple.iter().enumerate() {
            self.value(&item, depth + 1).map_err(|refusal| self.under(refusal, || format!("[{index}]")))?;
        }
        Ok(())
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>, depth: usize) -> Written {
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
            self.hashed(&key, depth + 1, "the key itself")?;
            self.value(&value, depth + 1).map_err(|refusal| self.under(refusal, || key_step(&key)))?;
        }
        if dict.len() == len { Ok(()) } else { Err(changed("dict")) }
    }

    fn set(&mut self, set: &Bound<'py, PySet>, depth: usize) -> Written {
        let len = set.len();
        self.open(len, depth, encode::write_array_len)?;
        let mut count = 0;
        // `PySet::iter` panics where Python raises.
        for item in set.try_iter()? {
            self.hashed(&item?, depth + 1, "in a set")?;
            count += 1;
        }
        if count == len { Ok(()) } else { Err(changed("set")) }
    }

    /// Appends a dict's key or a set's item, without references in it.
    #[inline]
    fn hashed(&mut self, value: &Bound<'py, PyAny>, depth: usize, place: &str) -> Written {
        if let Ok(text) = value.cast_exact::<PyString>() {
            let written = utf8(text).and_then(|utf8| self.text(utf8));
            return written
                .map_err(|refusal| self.under(refusal, || format!("{} ({place})", key_step(value))));
        }
        let before = std::mem::replace(&mut self.hashed, true);
        self.value(value, depth)
            .map_err(|refusal| self.under(refusal, || format!("{} ({place})", key_step(value))))?;
        self.hashed = before;
        Ok(())
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
        self.deepest = self.deepest.max(depth + 1);
        // Every item takes a byte at least.
        let len = self.out.room_for(len)?;
        written(header(self.out.bytes, len))
    }

    #[cold]
    fn under(&self, refusal: Refusal, step: impl FnOnce() -> String) -> Refusal {
        if self.explain { refusal.under(step) } else { refusal }
    }
}

#[inline]
fn utf8<'t>(text: &'t Bound<'_, PyString>) -> Result<&'t str, Refusal> {
    text.to_str().map_err(|_| Refusal::unsupported(text, " with an unpaired surrogate"))
}

/// Whether there are references to `value` beside `UNSHARED`.
#[inline]
fn is_shared(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: `value` is a live object, and a `Bound` shows that this thread is attached to the interpreter.
    unsafe { ffi::Py_REFCNT(value.as_ptr()) > UNSHARED }
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
