//! Python objects as a serde data format, to read from: a dict that a view has anyway becomes a Rust struct.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyMapping, PyMemoryView,
    PySet, PyString, PyTuple,
};
use serde::de::value::SeqDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::conversion_error::{ConversionError, DEEPEST, Segment};
use crate::wrapper::transparent;

type Result<T, E = ConversionError> = std::result::Result<T, E>;

/// A parameter that is made of plain Python objects by serde.
///
/// | Python | serde |
/// |---|---|
/// | `dict`, any `collections.abc.Mapping` | struct, map; `{"Variant": ...}` an enum |
/// | `list`, `tuple`, `set`, `frozenset` | sequence, tuple |
/// | `str` (also `TextChoices`) | string, char, an enum's unit variant |
/// | `bytes`, `bytearray`, `memoryview` | bytes, sequence of `u8` |
/// | `int` up to 128 bits, `float`, `bool`, `None` | the same; an `int` is also taken for a float |
///
/// A mapping is read by its `items()`, so of a `QueryDict` the last value of each key counts, as everywhere in Django
/// (and all its values are `str`). Nothing else is taken: a `datetime`, a `Decimal`, a dataclass or a model needs to be
/// made plain first (`dataclasses.asdict`). Values of keys that the struct does not have are not looked at.
///
/// # Errors
/// In Python: `TypeError` for a value of a wrong type, `ValueError` for a wrong value of a right type, among them
/// nesting of more than 64 levels; each with the path: `items[3].price: expected f64, got datetime.datetime`.
/// What a mapping's own code raises comes through as it is.
///
/// ```
/// # fn main() {}
/// use serde::Deserialize;
/// use vcache::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Filter {
///     tags: Vec<String>,
///     limit: Option<u32>,
/// }
///
/// #[vcache::module]
/// mod _native {
///     use super::*;
///
///     /// `await acount({"tags": ["new", "red"]})`
///     #[hotpath]
///     async fn count(conn: &mut Connection, filter: FromDict<Filter>) -> vcache::Result<usize> {
///         let both: Vec<String> = conn.sinter(&filter.tags).await?;
///         Ok(both.len().min(filter.limit.unwrap_or(u32::MAX) as usize))
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FromDict<T>(pub T);

transparent!(FromDict);

impl<'py, T: DeserializeOwned> FromPyObject<'_, 'py> for FromDict<T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(T::deserialize(Source { object: &object, depth: 0 })?))
    }
}

/// An object to deserialise from. serde gets copies: nothing borrows from Python.
#[derive(Clone, Copy)]
struct Source<'a, 'py> {
    object: &'a Bound<'py, PyAny>,
    depth: u8,
}

/// Keys and values as they were when the mapping was read.
type Pairs<'py> = Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>;

impl<'a, 'py> Source<'a, 'py> {
    fn mismatch(self, expected: &dyn Expected) -> ConversionError {
        ConversionError::mismatch(self.object, expected)
    }

    fn deeper(self) -> Result<u8> {
        if self.depth == DEEPEST { Err(ConversionError::too_deep()) } else { Ok(self.depth + 1) }
    }

    /// The object as an `int`, unless it is a `bool`, which in Python is one too.
    fn int(self) -> Option<&'a Bound<'py, PyInt>> {
        if self.object.is_instance_of::<PyBool>() { None } else { self.object.cast().ok() }
    }

    fn text(self) -> Option<Result<&'a str>> {
        let text = self.object.cast::<PyString>().ok()?;
        Some(text.to_str().map_err(|_| ConversionError::lone_surrogate()))
    }

    /// The bytes of an object that holds such. They are copied if Python code could change them.
    fn bytes(self) -> Option<Result<PyBackedBytes>> {
        let object = self.object;
        if object.is_instance_of::<PyBytes>() || object.is_instance_of::<PyByteArray>() {
            return Some(object.extract().map_err(|error| PyErr::from(error).into()));
        }
        let view = object.cast_exact::<PyMemoryView>().ok()?;
        let copy = view.call_method0(intern!(object.py(), "tobytes"));
        Some(copy.and_then(|copy| copy.extract::<PyBackedBytes>().map_err(PyErr::from)).map_err(Into::into))
    }

    /// What a mapping holds, `None` for anything else. It is read before a value is looked at, because that may run Python
    /// code, which could change the mapping.
    fn pairs(self) -> Option<Result<Pairs<'py>>> {
        let object = self.object;
        if let Ok(dict) = object.cast_exact::<PyDict>() {
            return Some(Ok(with_critical_section(dict, || dict.iter().collect())));
        }
        let mapping = object.cast::<PyMapping>().ok()?;
        // Not the concrete dict that there may be underneath: a `QueryDict` keeps lists in its own.
        let items = mapping.call_method0(intern!(object.py(), "items")).and_then(|items| items.try_iter());
        let pairs = items.and_then(|items| items.map(|pair| pair?.extract()).collect());
        Some(pairs.map_err(Into::into))
    }

    fn visit_int<'de, V: Visitor<'de>>(self, int: &Bound<'py, PyInt>, visitor: V) -> Result<V::Value> {
        if let Ok(number) = int.extract::<i64>() {
            visitor.visit_i64(number)
        } else if let Ok(number) = int.extract::<u64>() {
            visitor.visit_u64(number)
        } else if let Ok(number) = int.extract::<i128>() {
            visitor.visit_i128(number)
        } else if let Ok(number) = int.extract::<u128>() {
            visitor.visit_u128(number)
        } else {
            Err(out_of_range(&visitor))
        }
    }

    /// For a type of at most 64 bits.
    fn visit_short_int<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let Some(int) = self.int() else { return self.deserialize_any(visitor) };
        if let Ok(number) = int.extract::<i64>() {
            visitor.visit_i64(number)
        } else if let Ok(number) = int.extract::<u64>() {
            visitor.visit_u64(number)
        } else {
            Err(out_of_range(&visitor))
        }
    }

    fn visit_float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.int().map(|int| int.extract::<f64>()) {
            Some(Ok(number)) => visitor.visit_f64(number),
            Some(Err(_)) => Err(out_of_range(&visitor)),
            None => self.deserialize_any(visitor),
        }
    }

    /// A list, tuple or set, which must have `length` items if one is given.
    fn visit_sequence<'de, V: Visitor<'de>>(self, length: Option<usize>, visitor: V) -> Result<V::Value> {
        let object = self.object;
        let set = object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>();
        if !(set || object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>()) {
            return Err(self.mismatch(&visitor));
        }
        let depth = self.deeper()?;
        if let Some(length) = length {
            let found = object.len()?;
            if found != length {
                return Err(ConversionError::wrong_value(format!(
                    "expected {}, of length {length}, got {found} items",
                    &visitor as &dyn Expected
                )));
            }
        }
        if let Ok(list) = object.cast::<PyList>() {
            visitor.visit_seq(Items { items: list.iter().map(Ok), index: 0, depth })
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            visitor.visit_seq(Items { items: tuple.iter().map(Ok), index: 0, depth })
        } else {
            visitor.visit_seq(Items { items: object.try_iter()?, index: 0, depth })
        }
    }

    fn visit_mapping<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let Some(pairs) = self.pairs() else { return Err(self.mismatch(&visitor)) };
        let depth = self.deeper()?;
        visitor.visit_map(Entries { pairs: pairs?.into_iter(), current: None, depth })
    }
}

#[cold]
fn out_of_range(expected: &dyn Expected) -> ConversionError {
    ConversionError::wrong_value(format!("int out of range: expected {expected}"))
}

macro_rules! by {
    ($($method:ident => $visit:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.$visit(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Source<'_, '_> {
    type Error = ConversionError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let object = self.object;
        if object.is_none() {
            visitor.visit_unit()
        } else if let Ok(truth) = object.cast::<PyBool>() {
            visitor.visit_bool(truth.is_true())
        } else if let Some(text) = self.text() {
            visitor.visit_str(text?)
        } else if let Some(int) = self.int() {
            self.visit_int(int, visitor)
        } else if let Ok(float) = object.cast::<PyFloat>() {
            visitor.visit_f64(float.value())
        } else if object.is_instance_of::<PyDict>() {
            self.visit_mapping(visitor)
        } else if let Some(bytes) = self.bytes() {
            visitor.visit_bytes(&bytes?)
        } else if object.is_instance_of::<PyMapping>() {
            self.visit_mapping(visitor)
        } else {
            self.visit_sequence(None, visitor)
        }
    }

    by! {
        deserialize_i8 => visit_short_int,
        deserialize_i16 => visit_short_int,
        deserialize_i32 => visit_short_int,
        deserialize_i64 => visit_short_int,
        deserialize_u8 => visit_short_int,
        deserialize_u16 => visit_short_int,
        deserialize_u32 => visit_short_int,
        deserialize_u64 => visit_short_int,
        deserialize_f32 => visit_float,
        deserialize_f64 => visit_float,
        deserialize_string => deserialize_str,
        deserialize_char => deserialize_str,
        deserialize_byte_buf => deserialize_bytes,
        deserialize_map => visit_mapping,
    }

    forward_to_deserialize_any! { bool bytes unit identifier }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.int().map(|int| int.extract()) {
            Some(Ok(number)) => visitor.visit_i128(number),
            Some(Err(_)) => Err(out_of_range(&visitor)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.int().map(|int| int.extract()) {
            Some(Ok(number)) => visitor.visit_u128(number),
            Some(Err(_)) => Err(out_of_range(&visitor)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        // serde's `String` would take bytes that are UTF-8. In Python these two are not each other.
        if self.bytes().is_some() { Err(self.mismatch(&visitor)) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.object.is_none() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.bytes() {
            // A `Vec<u8>` asks for a sequence.
            Some(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes?.iter().copied())),
            None => self.visit_sequence(None, visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        match self.bytes() {
            Some(bytes) => {
                let bytes = bytes?;
                let mut items = SeqDeserializer::<_, ConversionError>::new(bytes.iter().copied());
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            None => self.visit_sequence(Some(length), visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.visit_sequence(Some(length), visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.visit_mapping(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if let Some(text) = self.text() {
            return visitor.visit_enum(text?.into_deserializer());
        }
        let Some(pairs) = self.pairs() else { return Err(self.mismatch(&visitor)) };
        let depth = self.deeper()?;
        match <[_; 1]>::try_from(pairs?) {
            Ok([(name, value)]) => visitor.visit_enum(Variant { name, value, depth }),
            Err(pairs) => Err(ConversionError::wrong_value(format!(
                "expected {}: a dict of one item, the variant's name and its value; got {} items",
                &visitor as &dyn Expected,
                pairs.len()
            ))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }
}

/// The items of a list, tuple or set.
struct Items<I> {
    items: I,
    index: usize,
    depth: u8,
}

impl<'de, 'py, I: Iterator<Item = PyResult<Bound<'py, PyAny>>>> SeqAccess<'de> for Items<I> {
    type Error = ConversionError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Source { object: &item?, depth: self.depth })
            .map(Some)
            .map_err(|error| error.within(Segment::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        self.items.size_hint().1
    }
}

/// The items of a mapping.
struct Entries<'py> {
    pairs: std::vec::IntoIter<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    current: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    depth: u8,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ConversionError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        self.current = self.pairs.next();
        let Some((key, _)) = &self.current else { return Ok(None) };
        seed.deserialize(Source { object: key, depth: self.depth })
            .map(Some)
            .map_err(ConversionError::within_key)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let Some((key, value)) = self.current.take() else {
            return Err(ConversionError::wrong_value("a value was asked for before its key"));
        };
        seed.deserialize(Source { object: &value, depth: self.depth })
            .map_err(|error| error.within(Segment::key(&key)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.pairs.len())
    }
}

/// An enum's variant with its content: `{"Variant": ...}`.
struct Variant<'py> {
    name: Bound<'py, PyAny>,
    value: Bound<'py, PyAny>,
    depth: u8,
}

impl Variant<'_> {
    fn content<T>(&self, read: impl FnOnce(Source<'_, '_>) -> Result<T>) -> Result<T> {
        read(Source { object: &self.value, depth: self.depth })
            .map_err(|error| error.within(Segment::key(&self.name)))
    }
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = ConversionError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let name = seed.deserialize(Source { object: &self.name, depth: self.depth });
        Ok((name.map_err(ConversionError::within_key)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = ConversionError;

    fn unit_variant(self) -> Result<()> {
        self.content(|source| <()>::deserialize(source))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        self.content(|source| seed.deserialize(source))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        self.content(|source| source.visit_sequence(Some(length), visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.content(|source| source.visit_mapping(visitor))
    }
}
