//! msgpack to Python values. The input is hostile until proved otherwise: nothing is allocated by a length
//! before that many bytes are seen to be there, nesting is bounded, and every fault is an error, never a
//! panic.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyList, PySet, PyString, PyTuple};
use rmp::Marker;
use vcache::python::bytes_to_python;

use super::error::DecodeError;
use super::parts::Table;
use super::types::Types;
use super::wire::{MAX_DEPTH, ext_code};
use super::{ext, moment};

/// How many recent dict keys are remembered while one value is read.
const KEY_SLOTS: usize = 32;

type Read<'py> = Result<Bound<'py, PyAny>, DecodeError>;

/// Takes one value from the front of `input`.
pub(super) struct Reader<'a, 'py> {
    py: Python<'py>,
    types: &'a Types,
    input: &'a [u8],
    /// How many more items containers may announce. Each takes a byte of input at least, so the input's
    /// length bounds all of them together; bounding each container alone would let nested ones claim the same
    /// bytes again.
    budget: usize,
    /// The items of the lists, tuples and sets that are being read.
    items: Vec<Bound<'py, PyAny>>,
    /// Recent dict keys, by `slot_of`. Rows repeat their keys, and a str that was a key before has its hash
    /// already.
    keys: [Option<(&'a [u8], Bound<'py, PyAny>)>; KEY_SLOTS],
    /// The parts that are needed again.
    parts: Table<'py>,
    /// How many containers were around the innermost one so far, itself included.
    deepest: usize,
    /// Whether what is read now will be hashed. References are not accepted there: a few bytes of them can stand for
    /// more items than there is time to hash.
    hashed: bool,
}

impl<'a, 'py> Reader<'a, 'py> {
    /// Reads `payload`, all of it, as one value.
    pub(super) fn read(py: Python<'py>, types: &'a Types, payload: &'a [u8]) -> Read<'py> {
        Self::read_with(py, types, payload, Table::empty())
    }

    /// The same for a value with shared parts, whose table follows it.
    pub(super) fn read_parts(py: Python<'py>, types: &'a Types, payload: &'a [u8]) -> Read<'py> {
        let (payload, parts) = Table::split_off(payload)?;
        Self::read_with(py, types, payload, parts)
    }

    fn read_with(py: Python<'py>, types: &'a Types, payload: &'a [u8], parts: Table<'py>) -> Read<'py> {
        let mut reader = Self {
            py,
            types,
            input: payload,
            budget: payload.len(),
            items: Vec::new(),
            keys: [const { None }; KEY_SLOTS],
            parts,
            deepest: 0,
            hashed: false,
        };
        let value = reader.value(0)?;
        reader.finished()?;
        if !reader.parts.is_used_up() {
            return Err(DecodeError::Corrupt("a table of parts that are not there"));
        }
        Ok(value)
    }

    /// Reads one value that is inside `depth` containers.
    fn value(&mut self, depth: usize) -> Read<'py> {
        if self.parts.has_part_at(self.input) { self.part(depth) } else { self.plain(depth) }
    }

    /// Reads a part that is needed again.
    #[cold]
    #[inline(never)]
    fn part(&mut self, depth: usize) -> Read<'py> {
        let number = self.parts.begin();
        let before = std::mem::replace(&mut self.deepest, depth);
        let part = self.plain(depth)?;
        if let Some(number) = number {
            self.parts.keep(number, part.clone(), self.deepest - depth);
        }
        self.deepest = self.deepest.max(before);
        Ok(part)
    }

    /// Reads a reference to a part that stands before it.
    #[cold]
    fn reference(&mut self, payload: &[u8], depth: usize) -> Read<'py> {
        let number = match *payload {
            [a] => u32::from(a),
            [a, b] => u16::from_be_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
            _ => return Err(DecodeError::Corrupt("a reference of the wrong length")),
        };
        if self.hashed {
            return Err(DecodeError::Corrupt("a reference in a key or a set"));
        }
        let (part, height) = self.parts.get(usize::try_from(number).unwrap_or(usize::MAX))?;
        self.deepest = self.deepest.max(depth + height);
        if depth + height > MAX_DEPTH {
            return Err(DecodeError::Corrupt("nested too deep"));
        }
        Ok(part)
    }

    fn plain(&mut self, depth: usize) -> Read<'py> {
        let py = self.py;
        Ok(match Marker::from_u8(self.byte()?) {
            Marker::FixStr(len) => self.text(len.into())?,
            Marker::Str8 => self.u8_len().and_then(|len| self.text(len))?,
            Marker::Str16 => self.u16_len().and_then(|len| self.text(len))?,
            Marker::Str32 => self.u32_len().and_then(|len| self.text(len))?,
            Marker::FixPos(int) => infallible(int.into_pyobject(py)),
            Marker::FixNeg(int) => infallible(int.into_pyobject(py)),
            Marker::U8 => infallible(u8::from_be_bytes(self.array()?).into_pyobject(py)),
            Marker::U16 => infallible(u16::from_be_bytes(self.array()?).into_pyobject(py)),
            Marker::U32 => infallible(u32::from_be_bytes(self.array()?).into_pyobject(py)),
            Marker::U64 => infallible(u64::from_be_bytes(self.array()?).into_pyobject(py)),
            Marker::I8 => infallible(i8::from_be_bytes(self.array()?).into_pyobject(py)),
            Marker::I16 => infallible(i16::from_be_bytes(self.array()?).into_pyobject(py)),
            Marker::I32 => infallible(i32::from_be_bytes(self.array()?).into_pyobject(py)),
            Marker::I64 => infallible(i64::from_be_bytes(self.array()?).into_pyobject(py)),
            Marker::Null => py.None().into_bound(py),
            Marker::True => PyBool::new(py, true).to_owned().into_any(),
            Marker::False => PyBool::new(py, false).to_owned().into_any(),
            Marker::F64 => PyFloat::new(py, f64::from_be_bytes(self.array()?)).into_any(),
            Marker::F32 => PyFloat::new(py, f32::from_be_bytes(self.array()?).into()).into_any(),
            Marker::FixMap(len) => self.dict(len.into(), depth)?,
            Marker::Map16 => self.u16_len().and_then(|len| self.dict(len, depth))?,
            Marker::Map32 => self.u32_len().and_then(|len| self.dict(len, depth))?,
            Marker::FixArray(len) => self.list(len.into(), depth)?,
            Marker::Array16 => self.u16_len().and_then(|len| self.list(len, depth))?,
            Marker::Array32 => self.u32_len().and_then(|len| self.list(len, depth))?,
            Marker::Bin8 => self.u8_len().and_then(|len| self.bytes(len))?,
            Marker::Bin16 => self.u16_len().and_then(|len| self.bytes(len))?,
            Marker::Bin32 => self.u32_len().and_then(|len| self.bytes(len))?,
            Marker::FixExt1 => self.ext(1, depth)?,
            Marker::FixExt2 => self.ext(2, depth)?,
            Marker::FixExt4 => self.ext(4, depth)?,
            Marker::FixExt8 => self.ext(8, depth)?,
            Marker::FixExt16 => self.ext(16, depth)?,
            Marker::Ext8 => self.u8_len().and_then(|len| self.ext(len, depth))?,
            Marker::Ext16 => self.u16_len().and_then(|len| self.ext(len, depth))?,
            Marker::Ext32 => self.u32_len().and_then(|len| self.ext(len, depth))?,
            Marker::Reserved => return Err(DecodeError::Corrupt("a byte that msgpack does not use")),
        })
    }

    fn text(&mut self, len: usize) -> Read<'py> {
        let utf8 = self.take(len)?;
        self.text_of(utf8)
    }

    fn text_of(&self, utf8: &[u8]) -> Read<'py> {
        PyString::from_bytes(self.py, utf8)
            .map(Bound::into_any)
            .map_err(|error| DecodeError::corrupt(self.py, error, "a str that is not UTF-8"))
    }

    fn bytes(&mut self, len: usize) -> Read<'py> {
        let bytes = self.take(len)?;
        bytes_to_python(self.py, bytes).map(Bound::into_any).map_err(|error| {
            DecodeError::corrupt(self.py, error, "a bytes object that does not fit into memory")
        })
    }

    fn list(&mut self, len: usize, depth: usize) -> Read<'py> {
        let base = self.read_items(len, depth)?;
        PyList::new(self.py, self.items.drain(base..))
            .map(Bound::into_any)
            .map_err(|error| self.failed(error))
    }

    fn tuple(&mut self, len: usize, depth: usize) -> Read<'py> {
        let base = self.read_items(len, depth)?;
        PyTuple::new(self.py, self.items.drain(base..))
            .map(Bound::into_any)
            .map_err(|error| self.failed(error))
    }

    fn set(&mut self, len: usize, depth: usize) -> Read<'py> {
        let before = std::mem::replace(&mut self.hashed, true);
        let base = self.read_items(len, depth)?;
        self.hashed = before;
        let set = PySet::empty(self.py).map_err(|error| self.failed(error))?;
        for item in self.items.drain(base..) {
            set.add(item)
                .map_err(|error| DecodeError::corrupt(self.py, error, "an unhashable item in a set"))?;
        }
        Ok(set.into_any())
    }

    fn dict(&mut self, len: usize, depth: usize) -> Read<'py> {
        self.open(len.checked_mul(2).ok_or(DecodeError::Truncated)?, depth)?;
        let dict = PyDict::new(self.py);
        for _ in 0..len {
            let key = self.key(depth + 1)?;
            let value = self.value(depth + 1)?;
            dict.set_item(key, value)
                .map_err(|error| DecodeError::corrupt(self.py, error, "an unhashable key in a dict"))?;
        }
        Ok(dict.into_any())
    }

    /// Reads a dict's key: as any value, but a short str that was a key before is that same str again.
    fn key(&mut self, depth: usize) -> Read<'py> {
        let Some(Marker::FixStr(len)) = self.input.first().map(|byte| Marker::from_u8(*byte)) else {
            let before = std::mem::replace(&mut self.hashed, true);
            let key = self.value(depth)?;
            self.hashed = before;
            return Ok(key);
        };
        self.byte()?;
        let utf8 = self.take(len.into())?;
        let slot = slot_of(utf8);
        if let Some((known, key)) = &self.keys[slot]
            && *known == utf8
        {
            return Ok(key.clone());
        }
        let key = self.text_of(utf8)?;
        self.keys[slot] = Some((utf8, key.clone()));
        Ok(key)
    }

    /// Reads `len` items onto `self.items`; returns where they start.
    fn read_items(&mut self, len: usize, depth: usize) -> Result<usize, DecodeError> {
        self.open(len, depth)?;
        let base = self.items.len();
        for _ in 0..len {
            let item = self.value(depth + 1)?;
            self.items.push(item);
        }
        Ok(base)
    }

    fn ext(&mut self, len: usize, depth: usize) -> Read<'py> {
        let code = self.byte()?;
        let payload = self.take(len)?;
        match code {
            ext_code::TUPLE => self.within(payload, |reader| {
                let len = reader.array_len()?;
                reader.tuple(len, depth)
            }),
            ext_code::SET => self.within(payload, |reader| {
                let len = reader.array_len()?;
                reader.set(len, depth)
            }),
            ext_code::BIG_INT => ext::read_big_int(self.py, payload),
            ext_code::DATETIME => moment::read_datetime(self.py, self.types, payload),
            ext_code::DATE => moment::read_date(self.py, payload),
            ext_code::TIME => moment::read_time(self.py, self.types, payload),
            ext_code::TIMEDELTA => ext::read_timedelta(self.py, payload),
            ext_code::DECIMAL => ext::read_decimal(self.py, self.types, payload),
            ext_code::UUID => ext::read_uuid(self.py, self.types, payload),
            ext_code::PART => self.reference(payload, depth),
            _ => Err(DecodeError::Corrupt("an unknown ext type")),
        }
    }

    /// Runs `read` with `payload`, a part already taken, as the whole input.
    fn within(&mut self, payload: &'a [u8], read: impl FnOnce(&mut Self) -> Read<'py>) -> Read<'py> {
        let after = std::mem::replace(&mut self.input, payload);
        let value = read(self)?;
        self.finished()?;
        self.input = after;
        Ok(value)
    }

    fn array_len(&mut self) -> Result<usize, DecodeError> {
        match Marker::from_u8(self.byte()?) {
            Marker::FixArray(len) => Ok(len.into()),
            Marker::Array16 => self.u16_len(),
            Marker::Array32 => self.u32_len(),
            _ => Err(DecodeError::Corrupt("a tuple or set without its array")),
        }
    }

    /// Allows for a container of `len` items inside `depth` others.
    fn open(&mut self, len: usize, depth: usize) -> Result<(), DecodeError> {
        if depth >= MAX_DEPTH {
            return Err(DecodeError::Corrupt("nested too deep"));
        }
        self.deepest = self.deepest.max(depth + 1);
        if len > self.input.len() {
            return Err(DecodeError::Truncated);
        }
        self.budget = self.budget.checked_sub(len).ok_or(DecodeError::Truncated)?;
        Ok(())
    }

    fn finished(&self) -> Result<(), DecodeError> {
        if self.input.is_empty() { Ok(()) } else { Err(DecodeError::Corrupt("bytes after its end")) }
    }

    fn failed(&self, error: PyErr) -> DecodeError {
        DecodeError::load(self.py, error)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.input.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.input = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.input.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.input = rest;
        Ok(*taken)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u8_len(&mut self) -> Result<usize, DecodeError> {
        self.byte().map(usize::from)
    }

    fn u16_len(&mut self) -> Result<usize, DecodeError> {
        self.array().map(|len| usize::from(u16::from_be_bytes(len)))
    }

    fn u32_len(&mut self) -> Result<usize, DecodeError> {
        // usize has 32 bits at least wherever CPython runs; a length past it is past the input as well.
        self.array().map(|len| usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX))
    }
}

/// Where among the recent keys a key is. Distinct keys of one row should mostly not share a slot; no more is
/// asked of it.
fn slot_of(key: &[u8]) -> usize {
    let at = |index: usize| usize::from(key.get(index).copied().unwrap_or_default());
    let last = key.len().wrapping_sub(1);
    (key.len() + at(0) * 5 + at(key.len() / 2) * 3 + at(last) * 7) % KEY_SLOTS
}

/// An int as any other object: making one cannot fail short of running out of memory.
#[inline]
fn infallible<T>(int: Result<Bound<'_, T>, std::convert::Infallible>) -> Bound<'_, PyAny> {
    let Ok(int) = int;
    int.into_any()
}
