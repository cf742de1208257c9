//! Where things stand on the server. All keys of one owner carry one hash tag, so that they are in one slot of a cluster.
//! Before each stands the key prefix of its connection, if that has one:
//!
//! ```text
//! <prefix>:2:{v07}:t:<name>:<entries>                 a throttle's state
//! <prefix>:2:{v07}:q:<name>:<entries>:h<unix seconds> a quota's counter, in the hour (d: day, m: month) that began then
//! <prefix>:2:{v07}:d:<name>:<owner>:<id>              what a dedupe id was answered, by a stream, or by a gate without one
//! <prefix>:2:{v07}:r:<nonce>                          a receipt that was refunded
//! <prefix>:2:{v07}:s:<name>                           a stream, and with `:dead` behind it, its dead letters
//! ```
//!
//! The 2 is the version of the format. Entries are those of the scope that a rule is keyed by, in the order of their names:
//! `org=1:project=42`. An owner is written so too.

use super::names::{By, Rule, without_key};
use super::scope::{LONGEST_VALUE, Scope, ScopeValue};
use crate::error::{Error, Result};

/// The version of the keys' format.
const FORMAT: u32 = 2;
pub(super) const MOST_SHARDS: u32 = 9_999;

impl By {
    /// Appends the entries of a scope. `rule` tells which rule it is of: `throttle 'org'`.
    ///
    /// # Errors
    /// `Value` for a missing entry, and a value that is empty or too long.
    pub(super) fn write(&self, rule: &Rule<'_>, scope: &Scope<'_>, out: &mut Vec<u8>) -> Result<()> {
        if *self == Self::Owner {
            return Err(without_key(rule));
        }
        for (at, name) in self.names().iter().enumerate() {
            if at > 0 {
                out.push(b':');
            }
            write_entry(rule, name, scope, out)?;
        }
        Ok(())
    }
}

/// Appends an entry of the scope: `org=1`.
///
/// # Errors
/// `Value` if it is missing, empty or too long.
pub(super) fn write_entry(rule: &Rule<'_>, name: &str, scope: &Scope<'_>, out: &mut Vec<u8>) -> Result<()> {
    let value = scope.get(name).ok_or_else(|| missing(rule, name, scope))?;
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    write_value(name, value, out)
}

pub(super) fn missing(rule: &Rule<'_>, name: &str, scope: &Scope<'_>) -> Error {
    let known: Vec<_> = scope.iter().map(|(name, _)| format!("{name:?}")).collect();
    let known =
        if known.is_empty() { "is empty".to_owned() } else { format!("has only {}", known.join(", ")) };
    Error::value(format!("{rule} {name:?}, but the scope {known}"))
}

fn write_value(name: &str, value: &ScopeValue<'_>, out: &mut Vec<u8>) -> Result<()> {
    match value {
        ScopeValue::Int(number) => {
            write_int(*number, out);
            Ok(())
        }
        ScopeValue::Text(text) => write_text(&format_args!("the scope's {name:?}"), text, out),
    }
}

/// Appends a text with everything percent-encoded that has a meaning in keys, or cannot be seen in them.
///
/// # Errors
/// `Value` for one that is empty or too long.
pub(super) fn write_text(what: &dyn std::fmt::Display, text: &str, out: &mut Vec<u8>) -> Result<()> {
    if text.is_empty() {
        return Err(Error::value(format!("{what} is empty: give a value, or leave it out")));
    }
    let start = out.len();
    if text.bytes().all(|byte| byte.is_ascii_graphic() && !is_escaped(byte)) {
        out.extend_from_slice(text.as_bytes());
    } else if text.len() <= LONGEST_VALUE {
        for letter in text.chars() {
            let escaped = if letter.is_ascii() {
                !letter.is_ascii_graphic() || is_escaped(letter as u8)
            } else {
                letter.is_control() || letter.is_whitespace()
            };
            let mut bytes = [0; 4];
            let bytes = letter.encode_utf8(&mut bytes).as_bytes();
            if escaped {
                bytes.iter().for_each(|byte| escape(*byte, out));
            } else {
                out.extend_from_slice(bytes);
            }
        }
    }
    if text.len() > LONGEST_VALUE || out.len() - start > LONGEST_VALUE {
        let begin: String = text.chars().take(16).collect();
        return Err(Error::value(format!(
            "{what} ({begin:?}...) is too long: it takes more than {LONGEST_VALUE} bytes in a key; give a hash of it"
        )));
    }
    Ok(())
}

fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'%' | b':' | b'{' | b'}')
}

pub(super) fn escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Appends digits.
pub(super) fn write_int(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let start = crate::connection::command::format_int(value, &mut digits);
    out.extend_from_slice(&digits[start..]);
}

/// FNV-1a of 64 bits, which every client of the same keys has to agree on.
pub(super) fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(super) const FNV_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// The shard of an owner.
pub(super) fn shard_of(owner: &ScopeValue<'_>, shards: u32) -> u32 {
    if shards == 1 {
        return 0;
    }
    let hash = match owner {
        ScopeValue::Text(text) => fnv(FNV_SEED, text.as_bytes()),
        ScopeValue::Int(number) => {
            let mut digits = [0; 20];
            let start = crate::connection::command::format_int(*number, &mut digits);
            fnv(FNV_SEED, &digits[start..])
        }
    };
    u32::try_from(hash % u64::from(shards)).unwrap_or(0)
}

/// The beginning of all keys of a gate, up to the shard's number.
#[derive(Clone, Debug)]
pub(super) struct Space {
    head: Vec<u8>,
}

impl Space {
    pub(super) fn new(prefix: &str) -> Self {
        Self { head: format!("{prefix}:{FORMAT}:{{v").into_bytes() }
    }

    /// Appends the connection's key prefix, `<prefix>:2:{v07` and then `middle`, which begins with the brace.
    pub(super) fn write(&self, key_head: &[u8], shard: u32, middle: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(key_head);
        out.extend_from_slice(&self.head);
        if shard < 10 {
            out.push(b'0');
        }
        write_int(i64::from(shard), out);
        out.extend_from_slice(middle);
    }

    /// The same as a text.
    pub(super) fn text(&self, key_head: &[u8], shard: u32, middle: &str) -> String {
        let mut out = Vec::new();
        self.write(key_head, shard, middle.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// What stands between the shard's number and the entries.
pub(super) fn middle(kind: char, name: &str) -> Vec<u8> {
    format!("}}:{kind}:{name}:").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<String> {
        let mut out = Vec::new();
        write_text(&"the value", text, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn odd_characters_are_encoded_and_others_stand_as_they_are() {
        assert_eq!(written("a-b_c.d/e?f,g").unwrap(), "a-b_c.d/e?f,g");
        assert_eq!(written("100%:{x}").unwrap(), "100%25%3A%7Bx%7D");
        assert_eq!(written("a b\tc\r\n\0\x7f").unwrap(), "a%20b%09c%0D%0A%00%7F");
        assert_eq!(written("clé 🔑\u{a0}\u{85}\u{2028}").unwrap(), "clé%20🔑%C2%A0%C2%85%E2%80%A8");
    }

    #[test]
    fn different_values_never_share_a_key() {
        let texts = ["a:b", "a%3Ab", "a%253Ab", "a b", "a%20b", "A:B"];
        let keys: std::collections::HashSet<_> = texts.iter().map(|text| written(text).unwrap()).collect();
        assert_eq!(keys.len(), texts.len());
    }

    #[test]
    fn a_value_that_is_empty_or_too_long_is_told() {
        assert!(written("").unwrap_err().to_string().contains("the value is empty"));
        assert_eq!(written(&"x".repeat(512)).unwrap().len(), 512);
        for long in ["x".repeat(513), ":".repeat(171), "é".repeat(257)] {
            assert!(written(&long).unwrap_err().to_string().contains("too long"), "{long}");
        }
    }

    #[test]
    fn shards_are_those_of_fnv_1a() {
        assert_eq!(fnv(FNV_SEED, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(FNV_SEED, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv(FNV_SEED, b"foobar"), 0x85944171f73967e8);
        let hash = fnv(FNV_SEED, b"42");
        assert_eq!(u64::from(shard_of(&42.into(), 16)), hash % 16);
        assert_eq!(shard_of(&42.into(), 16), shard_of(&"42".into(), 16), "a number is its text");
        assert_eq!(shard_of(&42.into(), 1), 0);
    }

    #[test]
    fn a_shards_number_has_two_digits_or_more() {
        let space = Space::new("shop:eu");
        assert_eq!(space.text(b"", 7, "}:s:events"), "shop:eu:2:{v07}:s:events");
        assert_eq!(space.text(b"staging:", 1234, "}:s:events"), "staging:shop:eu:2:{v1234}:s:events");
    }
}
