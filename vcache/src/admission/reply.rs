//! What a script answered, read by hand: numbers in the order that it says, and a few texts.

use redis::Value;

use crate::error::{Error, Result};

/// The members of a reply.
pub(super) struct Numbers(std::vec::IntoIter<Value>);

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

    /// Leaves out so many members.
    pub(super) fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.0.next();
        }
    }

    #[cfg(feature = "admission")]
    pub(super) fn text(&mut self) -> Result<String> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => {
                String::from_utf8(bytes).map_err(|_| unreadable("bytes that are no text"))
            }
            other => Err(unreadable(&format!("{other:?} for a text"))),
        }
    }
}

fn unreadable(what: &str) -> Error {
    let what: String = what.chars().take(80).collect();
    Error::refused(format!("the server's reply to a script of vcache cannot be read: it has {what}"))
}
