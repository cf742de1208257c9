//! What can go wrong between Python objects and serde's data model, and where in the object it did. The place is put
//! together on the way out of an error, so that a conversion that succeeds pays nothing for it.

use std::fmt;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};
use serde::de::{Expected, Unexpected};

/// How deep lists and dicts may lie in each other, in both directions.
pub(super) const DEEPEST: u8 = 64;
/// How many characters of a key or a name are shown.
const LONGEST_NAME: usize = 40;
/// Of a longer path than both together the first and the last segments are shown.
const SHOWN: usize = 4;

/// An error of `FromDict` or `ToDict`.
pub(super) struct ConversionError(Box<Inner>);

struct Inner {
    what: What,
    /// From the inside out.
    path: Vec<Segment>,
}

enum What {
    /// A value of a wrong type: `TypeError`.
    Type(String),
    /// A wrong value of a right type: `ValueError`.
    Value(String),
    /// Python code that we called raised.
    Raised(PyErr),
}

/// One step from an object into what it holds.
pub(super) enum Segment {
    Index(usize),
    /// A field or a variant, or a key that could be one.
    Name(String),
    /// Another key, as it is shown.
    Key(String),
    /// One of the keys, whatever its value.
    AnyKey,
}

impl Segment {
    pub(super) fn name(name: &str) -> Self {
        Self::Name(cut(name))
    }

    /// NOTE: `repr` of any other object could run anybody's code, and be of any length.
    pub(super) fn key(key: &Bound<'_, PyAny>) -> Self {
        if let Ok(text) = key.cast::<PyString>() {
            let text = text.to_string_lossy();
            let plain = text.chars().all(|c| c.is_alphanumeric() || c == '_')
                && text.chars().next().is_some_and(|c| !c.is_numeric());
            return if plain { Self::name(&text) } else { Self::Key(format!("{:?}", cut(&text))) };
        }
        match key.cast_exact::<PyInt>().map(|key| key.extract::<i64>()) {
            Ok(Ok(number)) => Self::Key(number.to_string()),
            _ => Self::Key(type_name(key)),
        }
    }
}

impl ConversionError {
    fn new(what: What) -> Self {
        Self(Box::new(Inner { what, path: Vec::new() }))
    }

    pub(super) fn wrong_type(text: impl Into<String>) -> Self {
        Self::new(What::Type(text.into()))
    }

    pub(super) fn wrong_value(text: impl Into<String>) -> Self {
        Self::new(What::Value(text.into()))
    }

    /// `object` is of no type that `expected` can be made of.
    #[cold]
    pub(super) fn mismatch(object: &Bound<'_, PyAny>, expected: &dyn Expected) -> Self {
        Self::wrong_type(format!("expected {expected}, got {}", type_name(object)))
    }

    #[cold]
    pub(super) fn too_deep() -> Self {
        Self::wrong_value(format!("nested more than {DEEPEST} levels deep, or it contains itself"))
    }

    #[cold]
    pub(super) fn lone_surrogate() -> Self {
        Self::wrong_value("invalid str: it holds a lone surrogate")
    }

    /// The same error, which happened inside of something.
    #[cold]
    pub(super) fn within(mut self, segment: Segment) -> Self {
        self.0.path.push(segment);
        self
    }

    /// The same error, which happened in a key. A wrong value says itself which one it means.
    #[cold]
    pub(super) fn within_key(self) -> Self {
        if matches!(self.0.what, What::Type(_)) { self.within(Segment::AnyKey) } else { self }
    }
}

impl From<PyErr> for ConversionError {
    fn from(error: PyErr) -> Self {
        Self::new(What::Raised(error))
    }
}

impl From<ConversionError> for PyErr {
    fn from(error: ConversionError) -> Self {
        let text = error.to_string();
        match error.0.what {
            What::Type(_) => PyTypeError::new_err(text),
            What::Value(_) => PyValueError::new_err(text),
            What::Raised(raised) => raised,
        }
    }
}

impl fmt::Display for ConversionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.0.path;
        let skipped = SHOWN..path.len().saturating_sub(SHOWN);
        for (depth, segment) in path.iter().rev().enumerate() {
            if skipped.contains(&depth) {
                if depth == skipped.start {
                    f.write_str("…")?;
                }
                continue;
            }
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Name(name) if depth == 0 => f.write_str(name)?,
                Segment::Name(name) => write!(f, ".{name}")?,
                Segment::Key(key) => write!(f, "[{key}]")?,
                Segment::AnyKey => f.write_str(if depth == 0 { "keys()" } else { ".keys()" })?,
            }
        }
        if !path.is_empty() {
            f.write_str(": ")?;
        }
        match &self.0.what {
            What::Type(text) | What::Value(text) => f.write_str(text),
            What::Raised(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Debug for ConversionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConversionError {}

impl serde::ser::Error for ConversionError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::wrong_value(text.to_string())
    }
}

/// serde's words about Rust and JSON, in Python's. Text of the payload is not repeated, except names.
impl serde::de::Error for ConversionError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::wrong_value(text.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::wrong_type(format!("expected {expected}, got {}", python_type(&unexpected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let kind = python_type(&unexpected);
        Self::wrong_value(match unexpected {
            Unexpected::Unsigned(number) => format!("invalid {kind} {number}: expected {expected}"),
            Unexpected::Signed(number) => format!("invalid {kind} {number}: expected {expected}"),
            Unexpected::Float(number) => format!("invalid {kind} {number}: expected {expected}"),
            _ => format!("invalid {kind}: expected {expected}"),
        })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::wrong_value(format!("unknown variant '{}', expected {}", cut(variant), one_of(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::wrong_value(format!("unknown key '{}', expected {}", cut(field), one_of(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::wrong_value(format!("missing key '{field}'"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::wrong_value(format!("the key '{field}' is there twice"))
    }
}

/// The name of an object's type, with its module unless that is `builtins`.
pub(super) fn type_name(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .fully_qualified_name()
        .map_or_else(|_| "?".to_owned(), |name| cut(&name.to_string_lossy()))
}

fn python_type<'a>(unexpected: &'a Unexpected<'_>) -> &'a str {
    match unexpected {
        Unexpected::Bool(_) => "bool",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "int",
        Unexpected::Float(_) => "float",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::UnitVariant => "str",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "None",
        Unexpected::Seq | Unexpected::TupleVariant => "a sequence",
        Unexpected::Map | Unexpected::StructVariant => "dict",
        Unexpected::Enum => "an enum",
        Unexpected::NewtypeStruct | Unexpected::NewtypeVariant => "a value",
        // serde's own visitors say "integer `...` as i128", with all its digits.
        Unexpected::Other(other) if other.starts_with("integer `") => "int",
        Unexpected::Other(other) => other,
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [name] => format!("'{name}'"),
        names => format!("one of '{}'", names.join("', '")),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
