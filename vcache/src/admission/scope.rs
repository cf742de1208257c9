//! For whom something is admitted: names and values.

use std::borrow::Cow;
use std::fmt;

use super::names::{By, Rule, check_name, without_key};
use crate::error::{Error, Result};

/// Bytes of a value as it stands in a key.
pub(super) const LONGEST_VALUE: usize = 512;
/// Entries of a scope.
const MOST_ENTRIES: usize = 32;

/// A value of a scope: the text or the number that stands for a user, a customer, a project. `1` and `"1"` are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeValue<'a> {
    /// A whole number.
    Int(i64),
    /// A text; not empty.
    Text(Cow<'a, str>),
}

impl fmt::Display for ScopeValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// For whom something is admitted: names and values. Their order does not matter.
///
/// ```
/// use vcache::admission::Scope;
///
/// let scope = Scope::new().with("org", 1).with("project", "backend");
/// assert_eq!(scope.get("org").unwrap().to_string(), "1");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    entries: Vec<(Cow<'a, str>, ScopeValue<'a>)>,
}

impl<'a> Scope<'a> {
    /// One without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The scope with one more entry.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<ScopeValue<'a>>) -> Self {
        self.push(name, value);
        self
    }

    /// Appends an entry.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<ScopeValue<'a>>) {
        self.entries.push((name.into(), value.into()));
    }

    /// The value of an entry.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ScopeValue<'a>> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &ScopeValue<'a>)> {
        self.entries.iter().map(|(name, value)| (&**name, value))
    }

    /// # Errors
    /// `Value` for a name that is there twice, and too many.
    pub(super) fn check(&self) -> Result<()> {
        if self.entries.len() > MOST_ENTRIES {
            return Err(Error::value(format!(
                "the scope has {} entries: give at most {MOST_ENTRIES}",
                self.entries.len()
            )));
        }
        for (at, (name, _)) in self.entries.iter().enumerate() {
            if self.entries[..at].iter().any(|(known, _)| known == name) {
                return Err(Error::value(format!("the scope has {name:?} twice")));
            }
        }
        Ok(())
    }

    /// Whether it can be written as the fields of a stream's entry.
    ///
    /// # Errors
    /// `Value` for what is not a name, the name of the payload's own field, and values that are too long.
    pub(super) fn check_fields(&self) -> Result<()> {
        for (name, value) in &self.entries {
            check_name("a scope's entry", name)?;
            if name == "payload" {
                return Err(Error::value(
                    "the scope has an entry \"payload\", which is the stream's own field",
                ));
            }
            if let ScopeValue::Text(text) = value
                && text.len() > LONGEST_VALUE
            {
                return Err(Error::value(format!(
                    "the scope's {name:?} has {} bytes: at most {LONGEST_VALUE} can stand in a stream's entry",
                    text.len()
                )));
            }
        }
        Ok(())
    }
}

/// For whom a rule that stands alone is asked: a scope, or for a rule whose key is one entry, just its value.
#[derive(Clone, Debug)]
pub enum Subject<'a> {
    /// The value of the rule's own entry.
    Value(ScopeValue<'a>),
    /// A scope.
    Scope(&'a Scope<'a>),
}

impl<'a> Subject<'a> {
    /// The scope that a rule is asked for.
    ///
    /// # Errors
    /// `Value` for a bare value unless the rule is keyed by one entry.
    pub(super) fn scope(self, rule: &Rule<'_>, by: &'a By) -> Result<Cow<'a, Scope<'a>>> {
        match (self, by.single()) {
            (Self::Scope(scope), _) => Ok(Cow::Borrowed(scope)),
            (Self::Value(value), Some(entry)) => {
                Ok(Cow::Owned(Scope { entries: vec![(entry.into(), value)] }))
            }
            (Self::Value(_), None) if *by == By::Owner => Err(without_key(rule)),
            (Self::Value(_), None) => Err(Error::value(format!(
                "{rule} {}: give a scope with all of them, and not a bare value",
                by.names().iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" and ")
            ))),
        }
    }
}

macro_rules! from_integers {
    ($($integer:ty),+) => {$(
        impl From<$integer> for ScopeValue<'_> {
            fn from(value: $integer) -> Self {
                Self::Int(i64::from(value))
            }
        }

        impl From<$integer> for Subject<'_> {
            fn from(value: $integer) -> Self {
                Self::Value(value.into())
            }
        }
    )+};
}

from_integers!(i64, i32, u32, u16, u8);

macro_rules! from_large {
    ($($integer:ty),+) => {$(
        impl From<$integer> for ScopeValue<'_> {
            fn from(value: $integer) -> Self {
                i64::try_from(value).map_or_else(|_| Self::Text(value.to_string().into()), Self::Int)
            }
        }

        impl From<$integer> for Subject<'_> {
            fn from(value: $integer) -> Self {
                Self::Value(value.into())
            }
        }
    )+};
}

from_large!(u64, usize);

macro_rules! from_texts {
    ($($text:ty),+) => {$(
        impl<'a> From<$text> for ScopeValue<'a> {
            fn from(value: $text) -> Self {
                Self::Text(value.into())
            }
        }

        impl<'a> From<$text> for Subject<'a> {
            fn from(value: $text) -> Self {
                Self::Value(value.into())
            }
        }
    )+};
}

from_texts!(&'a str, String, Cow<'a, str>, &'a String);

impl<'a> From<ScopeValue<'a>> for Subject<'a> {
    fn from(value: ScopeValue<'a>) -> Self {
        Self::Value(value)
    }
}

impl<'a> From<&'a Scope<'a>> for Subject<'a> {
    fn from(scope: &'a Scope<'a>) -> Self {
        Self::Scope(scope)
    }
}
