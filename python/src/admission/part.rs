//! What rules and streams have in common: each is asked by itself until it is given to a gate, and then where the gate
//! charges.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vcache::admission::{Metrics, Settings};

use super::alias::Alias;
use super::settings::Keywords;

/// What a gate can consist of.
pub(super) trait Part: Clone {
    /// What the errors call it.
    const KIND: &'static str;
    /// What its place on the server depends on.
    const PLACE: &'static str;
    /// Whether it may store events.
    const STORES: bool;

    fn name(&self) -> &str;
    fn is_same(&self, other: &Self) -> bool;
    fn settings(self, settings: Settings) -> vcache::Result<Self>;
    fn metrics(&self) -> Metrics;
}

/// Implements [`Part`] by the methods of the same names that the type has.
macro_rules! part {
    ($part:ty, $kind:literal, $place:literal, stores: $stores:literal) => {
        impl $crate::admission::part::Part for $part {
            const KIND: &'static str = $kind;
            const PLACE: &'static str = $place;
            const STORES: bool = $stores;

            fn name(&self) -> &str {
                self.name()
            }

            fn is_same(&self, other: &Self) -> bool {
                self.is_same(other)
            }

            fn settings(self, settings: ::vcache::admission::Settings) -> ::vcache::Result<Self> {
                self.settings(settings)
            }

            fn metrics(&self) -> ::vcache::admission::Metrics {
                self.metrics()
            }
        }
    };
}
pub(super) use part;

/// A part, alone or in a gate.
pub(super) struct Placed<P> {
    /// Shared with the calls that are under way.
    alone: Arc<P>,
    /// As a gate takes it, where that is something else: without the project's defaults, which the gate has itself.
    said: Option<P>,
    /// As it is in the gate that it was given to: there is where it is charged, or stores its entries.
    joined: OnceLock<(Arc<P>, String)>,
    using: Alias,
    /// The settings with the names of those that were said of this part.
    named: Option<Box<(Vec<String>, Settings)>>,
}

impl<P: Part> Placed<P> {
    /// A part with the settings of its keywords.
    pub(super) fn new(part: P, keywords: Keywords) -> PyResult<Self> {
        let said = keywords.of_a_part().map(|said| part.clone().settings(said.clone())).transpose()?;
        let named =
            (!keywords.named.is_empty()).then(|| Box::new((keywords.named, keywords.settings.clone())));
        Ok(Self { said, named, ..Self::of(part.settings(keywords.settings)?, keywords.using) })
    }

    /// Checks what was said of it against a gate that it is to be in.
    ///
    /// # Errors
    /// `ValueError` for a setting that the gate would ignore, also one that is vcache's own default.
    pub(super) fn check(&self, gate: &Settings) -> PyResult<()> {
        let Some(named) = &self.named else { return Ok(()) };
        let (names, settings) = &**named;
        let what = format!("{} '{}'", P::KIND, self.name());
        Ok(gate.refuse_others(&what, settings, |name| names.iter().any(|named| named == name))?)
    }

    pub(super) fn of(part: P, using: Option<String>) -> Self {
        Self {
            alone: Arc::new(part),
            said: None,
            joined: OnceLock::new(),
            using: Alias::new(using, P::STORES),
            named: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.alone.name()
    }

    /// As it was made, for a gate.
    pub(super) fn made(&self) -> &P {
        self.said.as_ref().unwrap_or(&self.alone)
    }

    /// As it is asked.
    pub(super) fn asked(&self) -> &Arc<P> {
        self.joined.get().map_or(&self.alone, |(part, _)| part)
    }

    pub(super) fn alias(&self) -> &str {
        self.joined.get().map_or(&self.using, |(_, using)| using)
    }

    /// From now on it is a part of a gate, and asked where that charges.
    ///
    /// # Errors
    /// `ValueError` if it is a part of another gate already, which charges elsewhere.
    pub(super) fn join(&self, part: &P, using: &str) -> PyResult<()> {
        self.using.release();
        let (known, alias) = self.joined.get_or_init(|| (Arc::new(part.clone()), using.to_owned()));
        if known.is_same(part) && alias == using {
            return Ok(());
        }
        Err(PyValueError::new_err(format!(
            "{} '{}' is a part of another gate, with another {}: make one for each",
            P::KIND,
            self.name(),
            P::PLACE
        )))
    }
}
