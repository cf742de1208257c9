//! The first two bytes of a stored value. `0xC1`, which msgpack never uses, then version (high nibble),
//! compressed (bit 3) and kind (bits 0-2). A stored int has neither byte: it is bare ASCII digits, for
//! INCRBY.

use std::fmt;

use super::error::DecodeError;

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
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Msgpack => "msgpack",
            Self::Pickle => "pickle",
            Self::Json => "json",
            Self::Custom => "custom",
        })
    }
}

/// The flags byte.
pub(super) const fn flags(kind: Kind, compressed: bool) -> u8 {
    VERSION | kind as u8 | if compressed { COMPRESSED } else { 0 }
}

/// Kind, and whether the payload is compressed.
pub(super) fn parse_flags(flags: u8) -> Result<(Kind, bool), DecodeError> {
    let kind = match flags & KIND_MASK {
        0 => Kind::Msgpack,
        1 => Kind::Pickle,
        2 => Kind::Json,
        3 => Kind::Custom,
        _ => return Err(DecodeError::UnknownFlags(flags)),
    };
    if flags & VERSION_MASK != VERSION {
        return Err(DecodeError::UnknownFlags(flags));
    }
    Ok((kind, flags & COMPRESSED != 0))
}
