//! Python objects as a serde data format, to write: a hot path's result becomes plain dicts and lists.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};
use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::conversion_error::{ConversionError, DEEPEST, Segment, type_name};
use crate::wrapper::transparent;

type Result<T, E = ConversionError> = std::result::Result<T, E>;

/// A result that becomes plain Python objects by serde.
///
/// | serde | Python |
/// |---|---|
/// | struct, map | `dict`; a key that is a sequence becomes a `tuple` |
/// | sequence (also a `HashSet`) | `list` |
/// | tuple, tuple struct | `tuple` |
/// | string, char | `str` |
/// | bytes (`serde_bytes`) | `bytes`; a `Vec<u8>` alone is a sequence, so a `list` |
/// | integers up to 128 bits, floats, bool | `int`, `float` (also NaN), `bool` |
/// | unit, `None` | `None`; `Some` is its value |
/// | an enum's variant | its name, or `{"Variant": ...}` with what it holds |
///
/// # Errors
/// In Python, each with the path (`items[3].price: ...`): `ValueError` if a value's `Serialize` fails, or for nesting of
/// more than 64 levels; `TypeError` for a key that Python cannot hash.
///
/// ```
/// # fn main() {}
/// use serde::Serialize;
/// use vcache::prelude::*;
///
/// #[derive(Serialize)]
/// struct Stock {
///     sku: String,
///     left: Option<i64>,
/// }
///
/// #[vcache::module]
/// mod _native {
///     use super::*;
///
///     /// `await astock("A-1") == {"sku": "A-1", "left": 7}`
///     #[hotpath]
///     async fn stock(conn: &mut Connection, sku: String) -> vcache::Result<ToDict<Stock>> {
///         let left = conn.get(format!("stock:{sku}")).await?;
///         Ok(ToDict(Stock { sku, left }))
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToDict<T>(pub T);

transparent!(ToDict);

impl<'py, T: Serialize> IntoPyObject<'py> for ToDict<T> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        Ok(self.0.serialize(Builder { py, depth: 0 })?)
    }
}

/// Makes one Python object of one value.
#[derive(Clone, Copy)]
struct Builder<'py> {
    py: Python<'py>,
    depth: u8,
}

impl<'py> Builder<'py> {
    fn deeper(self) -> Result<Self> {
        if self.depth == DEEPEST {
            return Err(ConversionError::too_deep());
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn sequence(self, length: usize, kind: Kind, variant: Option<&'static str>) -> Result<Sequence<'py>> {
        Ok(Sequence { inner: self.deeper()?, items: Vec::with_capacity(length), kind, variant })
    }

    fn mapping(self, variant: Option<&'static str>) -> Result<Mapping<'py>> {
        Ok(Mapping { inner: self.deeper()?, dict: PyDict::new(self.py), key: None, variant })
    }

    /// `content`, or `{variant: content}`.
    fn wrapped(self, content: Bound<'py, PyAny>, variant: Option<&'static str>) -> Result<Bound<'py, PyAny>> {
        let Some(variant) = variant else { return Ok(content) };
        let dict = PyDict::new(self.py);
        dict.set_item(PyString::intern(self.py, variant), content)?;
        Ok(dict.into_any())
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, number: $type) -> Result<Self::Ok> {
            let Ok(int) = number.into_pyobject(self.py);
            Ok(int.into_any())
        })*
    };
}

impl<'py> Serializer for Builder<'py> {
    type Ok = Bound<'py, PyAny>;
    type Error = ConversionError;
    type SerializeSeq = Sequence<'py>;
    type SerializeTuple = Sequence<'py>;
    type SerializeTupleStruct = Sequence<'py>;
    type SerializeTupleVariant = Sequence<'py>;
    type SerializeMap = Mapping<'py>;
    type SerializeStruct = Mapping<'py>;
    type SerializeStructVariant = Mapping<'py>;

    integers! {
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
    }

    fn serialize_bool(self, truth: bool) -> Result<Self::Ok> {
        Ok(PyBool::new(self.py, truth).to_owned().into_any())
    }

    fn serialize_f32(self, number: f32) -> Result<Self::Ok> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<Self::Ok> {
        Ok(PyFloat::new(self.py, number).into_any())
    }

    fn serialize_char(self, character: char) -> Result<Self::Ok> {
        self.serialize_str(character.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<Self::Ok> {
        Ok(PyString::new(self.py, text).into_any())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Self::Ok> {
        Ok(PyBytes::new(self.py, bytes).into_any())
    }

    fn serialize_none(self) -> Result<Self::Ok> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Self::Ok> {
        Ok(self.py.None().into_bound(self.py))
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Self::Ok> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Self::Ok> {
        Ok(PyString::intern(self.py, variant).into_any())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Self::Ok> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Self::Ok> {
        let content =
            value.serialize(self.deeper()?).map_err(|error| error.within(Segment::name(variant)))?;
        self.wrapped(content, Some(variant))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Sequence<'py>> {
        // A length is what the value says of itself, and need not be so.
        self.sequence(length.unwrap_or(0).min(4096), Kind::List, None)
    }

    fn serialize_tuple(self, length: usize) -> Result<Sequence<'py>> {
        self.sequence(length, Kind::Tuple, None)
    }

    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<Sequence<'py>> {
        self.sequence(length, Kind::Tuple, None)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Sequence<'py>> {
        self.deeper()?.sequence(length, Kind::Tuple, Some(variant))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Mapping<'py>> {
        self.mapping(None)
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Mapping<'py>> {
        self.mapping(None)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Mapping<'py>> {
        self.deeper()?.mapping(Some(variant))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    List,
    Tuple,
}

/// A list or tuple that grows. The items' own builder is one level deeper.
struct Sequence<'py> {
    inner: Builder<'py>,
    items: Vec<Bound<'py, PyAny>>,
    kind: Kind,
    variant: Option<&'static str>,
}

impl<'py> Sequence<'py> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let item = value
            .serialize(self.inner)
            .map_err(|error| inside_variant(error.within(Segment::Index(self.items.len())), self.variant))?;
        self.items.push(item);
        Ok(())
    }

    fn finish(self) -> Result<Bound<'py, PyAny>> {
        let py = self.inner.py;
        let content = match self.kind {
            Kind::List => PyList::new(py, self.items)?.into_any(),
            Kind::Tuple => PyTuple::new(py, self.items)?.into_any(),
        };
        self.inner.wrapped(content, self.variant)
    }
}

/// A dict that grows.
struct Mapping<'py> {
    inner: Builder<'py>,
    dict: Bound<'py, PyDict>,
    key: Option<Bound<'py, PyAny>>,
    variant: Option<&'static str>,
}

impl<'py> Mapping<'py> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
        let value = value
            .serialize(self.inner)
            .map_err(|error| inside_variant(error.within(Segment::name(name)), self.variant))?;
        Ok(self.dict.set_item(PyString::intern(self.inner.py, name), value)?)
    }

    fn finish(self) -> Result<Bound<'py, PyAny>> {
        self.inner.wrapped(self.dict.into_any(), self.variant)
    }
}

fn inside_variant(error: ConversionError, variant: Option<&'static str>) -> ConversionError {
    match variant {
        Some(variant) => error.within(Segment::name(variant)),
        None => error,
    }
}

/// A key as Python can hash it: what is a list as a value is a tuple as a key.
fn hashable(key: Bound<'_, PyAny>) -> Result<Bound<'_, PyAny>> {
    let py = key.py();
    let items: Vec<_> = if let Ok(list) = key.cast::<PyList>() {
        list.iter().map(hashable).collect::<Result<_>>()?
    } else if let Ok(tuple) = key.cast::<PyTuple>() {
        tuple.iter().map(hashable).collect::<Result<_>>()?
    } else if key.is_instance_of::<PyDict>() {
        let text = format!("expected a key that Python can hash, got {}", type_name(&key));
        return Err(ConversionError::wrong_type(text).within_key());
    } else {
        return Ok(key);
    };
    Ok(PyTuple::new(py, items)?.into_any())
}

impl<'py> SerializeMap for Mapping<'py> {
    type Ok = Bound<'py, PyAny>;
    type Error = ConversionError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        let key = key.serialize(self.inner).map_err(ConversionError::within_key)?;
        self.key = Some(hashable(key)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let Some(key) = self.key.take() else {
            return Err(ConversionError::wrong_value("a value was given before its key"));
        };
        let value = value.serialize(self.inner).map_err(|error| error.within(Segment::key(&key)))?;
        Ok(self.dict.set_item(key, value)?)
    }

    fn end(self) -> Result<Self::Ok> {
        self.finish()
    }
}

macro_rules! sequences {
    ($($trait:ident: $method:ident),* $(,)?) => {
        $(impl<'py> $trait for Sequence<'py> {
            type Ok = Bound<'py, PyAny>;
            type Error = ConversionError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.push(value)
            }

            fn end(self) -> Result<Self::Ok> {
                self.finish()
            }
        })*
    };
}

sequences! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! structs {
    ($($trait:ident),* $(,)?) => {
        $(impl<'py> $trait for Mapping<'py> {
            type Ok = Bound<'py, PyAny>;
            type Error = ConversionError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
                self.field(name, value)
            }

            fn end(self) -> Result<Self::Ok> {
                self.finish()
            }
        })*
    };
}

structs!(SerializeStruct, SerializeStructVariant);
