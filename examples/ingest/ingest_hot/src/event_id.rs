//! Ids of events: UUIDs, which the protocol writes as 32 hexadecimal digits.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use uuid::Uuid;

/// The id that an event has for good: a second one with it is the same event, sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// 32 digits, or the 36 characters of a UUID; `None` for anything else.
    pub fn read(text: &str) -> Option<Self> {
        // The parser knows forms with braces and prefixes too.
        matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok()).flatten().map(Self)
    }

    /// One for an event that came without.
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).ok_or_else(|| D::Error::custom("an event's id has 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_with_dashes_and_without() {
        let id = "9ec79c33ec9942ab8353589fcb2e04dc";
        for text in [id, "9EC79C33EC9942AB8353589FCB2E04DC", "9ec79c33-ec99-42ab-8353-589fcb2e04dc"] {
            assert_eq!(EventId::read(text).unwrap().to_string(), id);
        }
        for text in [
            "",
            "9ec7",
            "g".repeat(32).as_str(),
            "é".repeat(16).as_str(),
            "9ec79c33ec99-42ab-8353-589fcb2e-04dc",
        ] {
            assert_eq!(EventId::read(text), None, "{text}");
        }
        assert_eq!(EventId::read(&format!("{{{id}}}")), None);
    }
}
