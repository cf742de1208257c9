//! Why a stored value was not read. The caller logs it and reports a miss, so a message says what is wrong
//! with the value and how to tell it from other faults, and never repeats the value's bytes: they may be
//! secret, or hostile.

use std::fmt;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use super::wire::Kind;

/// The reasons a stored value cannot be trusted or read.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// It ends before its own header or lengths say it should.
    Truncated,
    /// It does not start the way this codec starts a value: another program, backend or version wrote it.
    Foreign,
    /// It has this codec's first byte, and a version or kind that this release does not know.
    UnknownFlags(u8),
    /// The configured serializer does not read this kind.
    Refused(Kind),
    /// A pickle whose signature was not made with one of our keys.
    Forged,
    /// It is larger than `MAX_VALUE_LEN` (bytes), or would be once decompressed.
    TooLarge {
        /// The configured limit, in bytes.
        limit: usize,
    },
    /// It contradicts its format.
    Corrupt(&'static str),
    /// `pickle`, `json` or the custom serializer raised this while loading it.
    Load(PyErr),
    /// `KeyboardInterrupt`, `SystemExit` or another non-`Exception` arrived while loading it. It is not about
    /// the value: raise it rather than report a miss.
    Interrupted(PyErr),
}

impl DecodeError {
    /// For an error raised by code that was given the value to load.
    pub(super) fn load(py: Python<'_>, error: PyErr) -> Self {
        if error.is_instance_of::<PyException>(py) { Self::Load(error) } else { Self::Interrupted(error) }
    }

    /// For an error that a constructor of the standard library raised about bytes of the value.
    pub(super) fn corrupt(py: Python<'_>, error: PyErr, what: &'static str) -> Self {
        if error.is_instance_of::<PyException>(py) { Self::Corrupt(what) } else { Self::Interrupted(error) }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the stored value is truncated"),
            Self::Foreign => f.write_str("the stored value was not written by this codec"),
            Self::UnknownFlags(flags) => {
                write!(f, "the stored value has an unknown version or kind (flags 0x{flags:02x})")
            }
            Self::Refused(kind) => write!(f, "the configured SERIALIZER does not read a stored {kind} value"),
            Self::Forged => f.write_str(
                "the stored pickle has a bad signature: it was forged, damaged, \
                 or signed with a key that is neither SECRET_KEY nor in SECRET_KEY_FALLBACKS",
            ),
            Self::TooLarge { limit } => {
                write!(f, "the stored value is larger than MAX_VALUE_LEN ({limit} bytes)")
            }
            Self::Corrupt(what) => write!(f, "the stored value is corrupt: {what}"),
            // Only the type: the message may quote the value. The whole error is there for the log's
            // `exc_info`.
            Self::Load(error) | Self::Interrupted(error) => Python::attach(|py| {
                let name = error
                    .get_type(py)
                    .name()
                    .map_or_else(|_| String::from("an exception"), |n| n.to_string());
                write!(f, "loading the stored value raised {name}")
            }),
        }
    }
}
