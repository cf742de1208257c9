//! What is agreed between those who write values and those who read them: the two bytes that a stored value begins
//! with, the codes of our msgpack ext types, and how deep containers may nest.
//!
//! The first byte is `0xC1`, which msgpack never uses. The second holds the version (high nibble), whether the rest
//! is compressed (bit 3) and the kind (bits 0-2). A stored int has neither byte: it is bare ASCII digits, for INCRBY.

use std::fmt;

/// The first byte of every stored value that is not an int.
pub(super) const MAGIC: u8 = 0xC1;
/// Magic and flags, in bytes.
pub(super) const HEADER_LEN: usize = 2;

const VERSION: u8 = 0x10;
const VERSION_MASK: u8 = 0xF0;
const COMPRESSED: u8 = 0x08;
const KIND_MASK: u8 = 0x07;

/// What the payload is. The numbers are on the wire: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Plain data, see `write.rs`.
    Msgpack = 0,
    /// A signature and a pickle.
    Pickle = 1,
    /// JSON in UTF-8.
    Json = 2,
    /// What the configured object's `dumps` returned.
    Custom = 3,
    /// Plain data that holds a part more than once, see `parts.rs`.
    Parts = 4,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Msgpack => "msgpack",
            Self::Pickle => "pickle",
            Self::Json => "json",
            Self::Custom => "custom",
            Self::Parts => "msgpack (with shared parts)",
        })
    }
}

/// The flags byte.
pub(super) const fn flags(kind: Kind, compressed: bool) -> u8 {
    VERSION | kind as u8 | if compressed { COMPRESSED } else { 0 }
}

/// Kind, and whether the payload is compressed. None for a version or kind that this release does not know.
pub(super) fn parse_flags(flags: u8) -> Option<(Kind, bool)> {
    if flags & VERSION_MASK != VERSION {
        return None;
    }
    let kind = match flags & KIND_MASK {
        0 => Kind::Msgpack,
        1 => Kind::Pickle,
        2 => Kind::Json,
        3 => Kind::Custom,
        4 => Kind::Parts,
        _ => return None,
    };
    Some((kind, flags & COMPRESSED != 0))
}

/// How deep containers may nest, in both directions. It bounds the Rust stack, which Python's own limit does not.
pub(super) const MAX_DEPTH: usize = 64;

/// The codes of our msgpack ext types. They are on the wire: never reuse one.
pub(super) mod ext_code {
    pub(in super::super) const TUPLE: u8 = 1;
    pub(in super::super) const SET: u8 = 2;
    pub(in super::super) const BIG_INT: u8 = 3;
    pub(in super::super) const DATETIME: u8 = 4;
    pub(in super::super) const DATE: u8 = 5;
    pub(in super::super) const TIME: u8 = 6;
    pub(in super::super) const TIMEDELTA: u8 = 7;
    pub(in super::super) const DECIMAL: u8 = 8;
    pub(in super::super) const UUID: u8 = 9;
    /// A part that was there before, by its number.
    pub(in super::super) const PART: u8 = 10;
}
