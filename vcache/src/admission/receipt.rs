//! The text by which what a quota was charged can be given back.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// For [`Gate::refund`](super::Gate::refund): what was charged, by which rules and in which windows. To its holder it is
/// opaque, printable ASCII without spaces. It is not signed: take none from strangers.
///
/// ```no_run
/// # fn example(text: &str) -> vcache::Result<()> {
/// let receipt: vcache::admission::Receipt = text.parse()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(String);

impl Receipt {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Receipt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(text.to_owned()))
    }
}
