//! The names of rules, streams and scopes' entries, and by which of these a rule is keyed.

use std::fmt;

use crate::error::{Error, Result};

/// Bytes of the name of a rule, a stream or a scope's entry.
pub const LONGEST_NAME: usize = 64;

/// Checks the name of a `what`: of a rule, a stream, a scope's entry.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Error::value(format!(
        "{name:?} is not a name for {what}: take 1 to {LONGEST_NAME} of the letters A-Z and a-z, digits, '_', '.' and '-'"
    )))
}

/// The text with `_` for each character that stands in no name. It may still be too long, or empty.
///
/// ```
/// assert_eq!(vcache::admission::as_name("shop.views:<lambda> é"), "shop.views__lambda___");
/// ```
#[must_use]
pub fn as_name(text: &str) -> String {
    let fits = |letter: char| u8::try_from(letter).is_ok_and(is_name_byte);
    text.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect()
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_name_byte)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

pub(super) fn check_prefix(prefix: &str) -> Result<()> {
    let good = (1..=LONGEST_NAME).contains(&prefix.len())
        && prefix.bytes().all(|byte| is_name_byte(byte) || byte == b':');
    if good {
        return Ok(());
    }
    Err(Error::value(format!(
        "{prefix:?} is not a prefix for keys: take 1 to {LONGEST_NAME} of the letters A-Z and a-z, digits, '_', '.', '-' and ':'"
    )))
}

/// Which of a scope's entries a rule is keyed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The owner of the gate that the rule will be in.
    Owner,
    /// These, in the order of their names.
    Entries(Vec<String>),
}

impl By {
    /// # Errors
    /// `Value` for no names, a name twice, or what is no name.
    pub(super) fn entries<I>(rule: &str, names: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut entries: Vec<String> = Vec::new();
        for name in names {
            let name = name.as_ref();
            check_name("a scope's entry", name)?;
            if entries.iter().any(|known| known == name) {
                return Err(Error::value(format!("the key of '{rule}' names {name:?} twice")));
            }
            entries.push(name.to_owned());
        }
        if entries.is_empty() {
            return Err(Error::value(format!("the key of '{rule}' names no entry of the scope")));
        }
        entries.sort_unstable();
        Ok(Self::Entries(entries))
    }

    /// The entries; none while it is the owner of a gate that is not known yet.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::Owner => &[],
            Self::Entries(names) => names,
        }
    }

    /// The entry that a bare value stands for; `None` if that is not one.
    pub(super) fn single(&self) -> Option<&str> {
        match self.names() {
            [name] => Some(name),
            _ => None,
        }
    }

    /// Whether such entries, as they stand in a key, may be of it.
    pub(super) fn is_of(&self, entries: &str) -> bool {
        let names = self.names();
        entries.split(':').count() == names.len()
            && entries.split(':').zip(names).all(|(entry, name)| {
                entry.strip_prefix(&**name).is_some_and(|value| value.len() > 1 && value.starts_with('='))
            })
    }
}

/// What a key belongs to, for an error: `throttle 'org' is keyed by`.
pub(super) enum Rule<'a> {
    /// A rule of a kind and a name.
    Named(&'static str, &'a str),
    Owner,
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(kind, name) => write!(f, "{kind} '{name}' is keyed by"),
            Self::Owner => f.write_str("the owner is"),
        }
    }
}

/// A rule's key is that of a gate's owner, and it is in no gate.
pub(super) fn without_key(rule: &Rule<'_>) -> Error {
    Error::value(format!(
        "{rule} the owner of its gate, and it is in no gate: give it a key, the name of a scope's entry"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes_are_of_a_few_letters() {
        for good in ["a", "Org_1.x-y", &"n".repeat(64)] {
            check_name("a rule", good).unwrap();
            check_prefix(good).unwrap();
        }
        for bad in ["", "a b", "é", "a{b}", "a%", "a/b", &"n".repeat(65)] {
            assert!(check_name("a rule", bad).unwrap_err().to_string().contains("is not a name"), "{bad}");
            assert!(check_prefix(bad).is_err(), "{bad}");
        }
        assert!(check_name("a rule", "a:b").is_err());
        check_prefix("a:b").unwrap();
    }
}
