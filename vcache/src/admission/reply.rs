//! What a script answered, read by hand: numbers in the order that it says, and a few texts.

use redis::Value;

use crate::error::{Error, Result};

/// The reply of the script that decides, in one string: big-endian doubles that are whole numbers, and behind them a text.
pub(super) struct Packed {
    bytes: Vec<u8>,
    at: usize,
}

impl Packed {
    pub(super) fn of(reply: Value) -> Result<Self> {
        match reply {
            Value::BulkString(bytes) => Ok(Self { bytes, at: 0 }),
            other => Err(unreadable(&format!("{other:?}"))),
        }
    }

    pub(super) fn int(&mut self) -> Result<i64> {
        let Some((double, _)) = self.bytes[self.at..].split_first_chunk() else {
            return Err(unreadable("an end where a number should be"));
        };
        self.at += size_of::<f64>();
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53, and would saturate")]
        Ok(f64::from_be_bytes(*double) as i64)
    }

    /// The entry's id and the receipt behind the numbers; each is empty if there is none.
    #[cfg(feature = "admission")]
    pub(super) fn texts(&self) -> Result<(&str, &str)> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(("", ""));
        }
        std::str::from_utf8(rest)
            .ok()
            .and_then(|text| text.split_once(' '))
            .ok_or_else(|| unreadable("bytes behind its numbers that are no text"))
    }
}

/// The members of a list.
#[cfg(feature = "admission")]
pub(super) struct Numbers(std::vec::IntoIter<Value>);

#[cfg(feature = "admission")]
impl Numbers {
    pub(super) fn of(reply: Value) -> Result<Self> {
        match reply {
            Value::Array(items) => Ok(Self(items.into_iter())),
            other => Err(unreadable(&format!("{other:?}"))),
        }
    }

    pub(super) fn int(&mut self) -> Result<i64> {
        match self.0.next() {
            Some(Value::Int(number)) => Ok(number),
            other => Err(unreadable(&format!("{other:?} for a number"))),
        }
    }
}

fn unreadable(what: &str) -> Error {
    let what: String = what.chars().take(80).collect();
    Error::refused(format!("the server's reply to a script of vcache cannot be read: it has {what}"))
}

#[cfg(all(test, feature = "admission"))]
mod tests {
    use super::*;

    fn packed(numbers: &[f64], text: &[u8]) -> Packed {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        bytes.extend_from_slice(text);
        Packed::of(Value::BulkString(bytes)).unwrap()
    }

    #[test]
    fn numbers_and_texts_are_read_in_order() {
        let mut reply = packed(&[1.0, -1.0, 9_007_199_254_740_992.0], b"5-0 receipt with spaces");
        assert_eq!((reply.int().unwrap(), reply.int().unwrap(), reply.int().unwrap()), (1, -1, 1 << 53));
        assert_eq!(reply.texts().unwrap(), ("5-0", "receipt with spaces"));
        assert_eq!(packed(&[], b"").texts().unwrap(), ("", ""));
        assert_eq!(packed(&[], b" r").texts().unwrap(), ("", "r"));
    }

    #[test]
    fn what_is_not_such_a_reply_is_an_error() {
        assert!(Packed::of(Value::Int(1)).is_err() && Packed::of(Value::Nil).is_err());
        assert!(packed(&[], b"short").int().is_err());
        assert!(packed(&[], b"without-a-space").texts().is_err());
        assert!(packed(&[], b"\xff \xff").texts().is_err());
        assert!(unreadable(&"x".repeat(1_000)).to_string().len() < 200);
    }
}
