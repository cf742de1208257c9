//! The value codec: from a Python object to the bytes that the server stores, and back.
//!
//! An exact int is bare ASCII digits (`int.rs`). Anything else is two bytes of header (`wire.rs`) and a
//! payload: plain data as msgpack (`write.rs`, `read.rs`, `ext.rs`, `moment.rs`), the rest as a signed pickle
//! (`sign.rs`), or whatever the configured serializer makes of it; compressed where that pays (`zip.rs`). A part that
//! a value holds more than once is written once (`parts.rs`).
//!
//! | SERIALIZER | writes          | reads           |
//! |------------|-----------------|-----------------|
//! | auto       | msgpack, pickle | msgpack, pickle |
//! | pickle     | pickle          | msgpack, pickle |
//! | msgpack    | msgpack         | msgpack         |
//! | json       | json            | json            |
//! | custom     | custom          | custom          |
//!
//! Every serializer writes and reads bare ints.

mod error;
mod ext;
mod int;
mod moment;
mod parts;
mod pyclass;
mod read;
mod refusal;
mod sign;
mod sink;
mod types;
mod wire;
mod write;
mod zip;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyInt, PyString};

pub(crate) use error::DecodeError;
pub(crate) use pyclass::PyCodec;
#[doc(hidden)]
pub use pyclass::fuzz_decode;
use refusal::{Refusal, too_large};
use sign::{Signer, TAG_LEN};
use sink::Sink;
use types::Types;
use vcache::python::bytes_to_python;
use wire::{HEADER_LEN, Kind, MAGIC};

/// `COMPRESS_MIN_LEN` where it is not set, in bytes.
pub(crate) const COMPRESS_MIN_LEN: usize = 1024;
/// `MAX_VALUE_LEN` where it is not set, in bytes.
pub(crate) const MAX_VALUE_LEN: usize = 64 * 1024 * 1024;

/// The setting `SERIALIZER`.
pub(crate) enum Serializer {
    /// msgpack for plain data, a signed pickle for the rest.
    Auto,
    /// A signed pickle for everything but ints.
    Pickle,
    /// msgpack, and `TypeError` for what it cannot carry. No pickle is ever made or loaded.
    Msgpack,
    /// The standard library's `json`.
    Json,
    /// The `dumps(value) -> bytes` and `loads(bytes) -> value` of an object of the user's.
    Custom {
        /// Called with the value; returns bytes.
        dumps: Py<PyAny>,
        /// Called with those bytes.
        loads: Py<PyAny>,
    },
}

/// What a codec is made from.
pub(crate) struct Options {
    /// How values are written, and which are read.
    pub(crate) serializer: Serializer,
    /// Payloads of at least this many bytes are compressed if that makes them smaller. None: never.
    pub(crate) compress_min_len: Option<usize>,
    /// The most bytes a value may take, encoded and not compressed. It bounds what is read as well as what is
    /// written.
    pub(crate) max_value_len: usize,
    /// Secrets for signing pickles: the first signs, all verify.
    pub(crate) signing_keys: Vec<Vec<u8>>,
}

/// Encodes and decodes values. Immutable, and shared by all threads.
pub(crate) struct Codec {
    serializer: Loaded,
    compress_min_len: Option<usize>,
    max_value_len: usize,
    signer: Signer,
    types: Types,
}

/// A serializer with the Python functions it calls.
enum Loaded {
    Pickle { dumps: Py<PyAny>, loads: Py<PyAny>, protocol: Py<PyAny>, msgpack_first: bool },
    Msgpack,
    Json { encode: Py<PyAny>, loads: Py<PyAny> },
    Custom { dumps: Py<PyAny>, loads: Py<PyAny> },
}

impl Codec {
    /// # Errors
    /// `ValueError` for an empty signing key, or for none where the serializer writes pickles.
    pub(crate) fn new(py: Python<'_>, options: Options) -> PyResult<Self> {
        let signer = Signer::new(&options.signing_keys)?;
        let serializer = match options.serializer {
            serializer @ (Serializer::Auto | Serializer::Pickle) => {
                if !signer.can_sign() {
                    return Err(PyValueError::new_err(
                        "pickles are signed: the codec needs a key (SECRET_KEY)",
                    ));
                }
                let pickle = py.import("pickle")?;
                Loaded::Pickle {
                    dumps: pickle.getattr("dumps")?.unbind(),
                    loads: pickle.getattr("loads")?.unbind(),
                    protocol: pickle.getattr("HIGHEST_PROTOCOL")?.unbind(),
                    msgpack_first: matches!(serializer, Serializer::Auto),
                }
            }
            Serializer::Msgpack => Loaded::Msgpack,
            Serializer::Json => {
                let json = py.import("json")?;
                // What `json.dumps(value, separators=(",", ":"))` makes anew for each call.
                let compact = [("separators", (",", ":"))].into_py_dict(py)?;
                let encoder = json.getattr("JSONEncoder")?.call((), Some(&compact))?;
                Loaded::Json {
                    encode: encoder.getattr("encode")?.unbind(),
                    loads: json.getattr("loads")?.unbind(),
                }
            }
            Serializer::Custom { dumps, loads } => Loaded::Custom { dumps, loads },
        };
        Ok(Self {
            serializer,
            compress_min_len: options.compress_min_len,
            max_value_len: options.max_value_len,
            signer,
            types: Types::new(py)?,
        })
    }

    /// Appends the stored form of `value` to `out`. On error `out` is as it was.
    ///
    /// # Errors
    /// `ValueError` for more than `MAX_VALUE_LEN` bytes or an int of more than 4300 digits; otherwise what
    /// the serializer raises: in "msgpack" a `TypeError` that names the part it cannot carry, in "auto" and
    /// "pickle" what `pickle.dumps` raises, unchanged.
    pub(crate) fn encode(&self, value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
        let start = out.len();
        let encoded = match value.cast_exact::<PyInt>() {
            Ok(int) => int::write(int, out).and_then(|()| self.check_len(out.len() - start)),
            Err(_) => self.encode_payload(value, out),
        };
        if encoded.is_err() {
            out.truncate(start);
        }
        encoded
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// This value cannot be trusted or read: log it and report a miss, except for `DecodeError::Interrupted`.
    pub(crate) fn decode<'py>(&self, py: Python<'py>, data: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
        if data.len() > self.max_value_len.saturating_add(HEADER_LEN + TAG_LEN) {
            return Err(self.over_limit());
        }
        match data {
            [] | [MAGIC] => Err(DecodeError::Truncated),
            [b'-' | b'0'..=b'9', ..] => int::read(py, data),
            [MAGIC, flags, rest @ ..] => self.decode_payload(py, *flags, rest),
            _ => Err(DecodeError::Foreign),
        }
    }

    fn encode_payload(&self, value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
        let py = value.py();
        match &self.serializer {
            Loaded::Pickle { dumps, protocol, msgpack_first, .. } => {
                if *msgpack_first {
                    match self.write_msgpack(value, out, false) {
                        Err(Refusal::Unsupported(_) | Refusal::TooDeep | Refusal::InItself) => {}
                        written => {
                            return written.map_err(|refusal| refusal.into_error(py, self.max_value_len));
                        }
                    }
                }
                let pickle = dumps.bind(py).call1((value, protocol))?;
                let pickle = pickle.cast::<PyBytes>()?;
                self.write(py, Kind::Pickle, pickle.as_bytes(), out)
            }
            Loaded::Msgpack => self
                .write_msgpack(value, out, true)
                .map_err(|refusal| refusal.into_error(py, self.max_value_len)),
            Loaded::Json { encode, .. } => {
                let json = encode.bind(py).call1((value,))?;
                self.write(py, Kind::Json, json.cast::<PyString>()?.to_str()?.as_bytes(), out)
            }
            Loaded::Custom { dumps, .. } => {
                let custom = dumps.bind(py).call1((value,))?;
                let Ok(bytes) = custom.cast::<PyBytes>() else {
                    let name = custom.get_type().name()?;
                    return Err(PyTypeError::new_err(format!(
                        "the SERIALIZER's dumps returned {name}, not bytes"
                    )));
                };
                self.write(py, Kind::Custom, bytes.as_bytes(), out)
            }
        }
    }

    /// Appends `value` as msgpack, or leaves `out` as it was.
    fn write_msgpack(
        &self,
        value: &Bound<'_, PyAny>,
        out: &mut Vec<u8>,
        explain: bool,
    ) -> Result<(), Refusal> {
        let start = out.len();
        let payload = start + HEADER_LEN;
        out.extend_from_slice(&[MAGIC, wire::flags(Kind::Msgpack, false)]);
        let writer = write::Writer::new(&self.types, Sink::new(out, self.max_value_len), explain);
        let kind = match writer.write(value) {
            Ok(false) => Kind::Msgpack,
            Ok(true) => Kind::Parts,
            Err(refusal) => {
                out.truncate(start);
                return Err(refusal);
            }
        };
        out[start + 1] = wire::flags(kind, false);
        self.check_len(out.len() - payload)?;
        self.compress(value.py(), kind, out, start, payload);
        Ok(())
    }

    /// Appends a payload that another serializer made.
    fn write(&self, py: Python<'_>, kind: Kind, payload: &[u8], out: &mut Vec<u8>) -> PyResult<()> {
        self.check_len(payload.len())?;
        let start = out.len();
        out.extend_from_slice(&[MAGIC, wire::flags(kind, false)]);
        let tag = out.len();
        if kind == Kind::Pickle {
            out.extend_from_slice(&[0; TAG_LEN]);
        }
        let from = out.len();
        out.extend_from_slice(payload);
        self.compress(py, kind, out, start, from);
        if kind == Kind::Pickle {
            let (flags, stored) = (out[start + 1], &out[from..]);
            let signature = zip::detached(py, stored.len(), || self.signer.sign(flags, stored));
            let signature = signature.ok_or_else(|| PyValueError::new_err("no key to sign a pickle with"))?;
            out[tag..from].copy_from_slice(&signature);
        }
        Ok(())
    }

    /// Compresses `out[payload..]` where that is wanted and pays, and says so in the header at `start`.
    fn compress(&self, py: Python<'_>, kind: Kind, out: &mut Vec<u8>, start: usize, payload: usize) {
        if self.compress_min_len.is_some_and(|min| out.len() - payload >= min)
            && zip::compress_tail(py, out, payload)
        {
            out[start + 1] = wire::flags(kind, true);
        }
    }

    fn decode_payload<'py>(
        &self,
        py: Python<'py>,
        flags: u8,
        rest: &[u8],
    ) -> Result<Bound<'py, PyAny>, DecodeError> {
        let (kind, compressed) = wire::parse_flags(flags).ok_or(DecodeError::UnknownFlags(flags))?;
        if !self.reads(kind) {
            return Err(DecodeError::Refused(kind));
        }
        let stored = match kind {
            // Before anything else looks at it.
            Kind::Pickle => zip::detached(py, rest.len(), || self.signer.verify(flags, rest))?,
            _ => rest,
        };
        if compressed {
            let plain = zip::decompress(py, stored, self.max_value_len)?;
            self.load(py, kind, &plain)
        } else {
            self.load(py, kind, stored)
        }
    }

    fn load<'py>(
        &self,
        py: Python<'py>,
        kind: Kind,
        payload: &[u8],
    ) -> Result<Bound<'py, PyAny>, DecodeError> {
        if payload.len() > self.max_value_len {
            return Err(self.over_limit());
        }
        match (kind, &self.serializer) {
            (Kind::Msgpack, _) => read::Reader::read(py, &self.types, payload),
            (Kind::Parts, _) => read::Reader::read_parts(py, &self.types, payload),
            (Kind::Pickle, Loaded::Pickle { loads, .. }) | (Kind::Custom, Loaded::Custom { loads, .. }) => {
                bytes_to_python(py, payload)
                    .and_then(|payload| loads.bind(py).call1((payload,)))
                    .map_err(|error| DecodeError::load(py, error))
            }
            (Kind::Json, Loaded::Json { loads, .. }) => PyString::from_bytes(py, payload)
                .and_then(|json| loads.bind(py).call1((json,)))
                .map_err(|error| DecodeError::load(py, error)),
            _ => Err(DecodeError::Refused(kind)),
        }
    }

    fn reads(&self, kind: Kind) -> bool {
        match self.serializer {
            Loaded::Pickle { .. } => matches!(kind, Kind::Msgpack | Kind::Parts | Kind::Pickle),
            Loaded::Msgpack => matches!(kind, Kind::Msgpack | Kind::Parts),
            Loaded::Json { .. } => kind == Kind::Json,
            Loaded::Custom { .. } => kind == Kind::Custom,
        }
    }

    fn check_len(&self, len: usize) -> PyResult<()> {
        if len > self.max_value_len { Err(too_large(Some(len), self.max_value_len)) } else { Ok(()) }
    }

    fn over_limit(&self) -> DecodeError {
        DecodeError::TooLarge { limit: self.max_value_len }
    }
}
