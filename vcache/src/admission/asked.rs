//! What a gate is asked with.

use super::rate::Rate;
use super::scope::Scope;

/// What a call says about a rule.
#[derive(Clone, Copy, Debug)]
pub(super) enum Override {
    Limit(i64),
    Rate(Rate),
}

/// What is to be admitted: for whom, what it costs, and what is to be written.
///
/// ```
/// use vcache::admission::{Admission, Scope};
///
/// let scope = Scope::new().with("org", 1).with("project", 42);
/// let admission = Admission::new(&scope).payload(b"{}").cost(1).dedupe("0b51").limit("events", 1_000);
/// ```
#[derive(Clone, Debug)]
pub struct Admission<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) payload: Option<&'a [u8]>,
    pub(super) cost: i64,
    pub(super) costs: Vec<(&'a str, i64)>,
    pub(super) dedupe: Option<&'a str>,
    pub(super) overrides: Vec<(&'a str, Override)>,
}

impl<'a> Admission<'a> {
    /// An admission at the cost of 1, without a payload.
    #[must_use]
    pub fn new(scope: &'a Scope<'a>) -> Self {
        Self { scope, payload: None, cost: 1, costs: Vec::new(), dedupe: None, overrides: Vec::new() }
    }

    /// What is written to the gate's stream, as the field `payload`, and behind it a field for each of the scope's
    /// entries. Without a payload nothing is written.
    #[must_use]
    pub fn payload<P: AsRef<[u8]> + ?Sized>(self, payload: &'a P) -> Self {
        Self { payload: Some(payload.as_ref()), ..self }
    }

    /// Units that every rule is charged. At 0 nothing is charged, and it is asked whether a unit would be let through; a
    /// payload is written all the same.
    #[must_use]
    pub fn cost(self, cost: i64) -> Self {
        Self { cost, ..self }
    }

    /// Units that one rule is charged, by its name; the others are charged [`cost`](Self::cost). A rule that is charged 0 so
    /// is left out: it refuses nothing.
    ///
    /// ```
    /// use vcache::admission::{Admission, Scope};
    ///
    /// let scope = Scope::new().with("org", 1);
    /// let admission = Admission::new(&scope).cost_of("bytes", 5_000);
    /// ```
    #[must_use]
    pub fn cost_of(mut self, rule: &'a str, cost: i64) -> Self {
        self.costs.push((rule, cost));
        self
    }

    /// An id under which this is admitted once only, for [`Settings::dedupe_for`](super::Settings::dedupe_for): a second time charges nothing, writes
    /// nothing, and answers the first entry's id and receipt. It counts for the gate's owner, and in the gate's stream; in a
    /// gate without one, among its rules.
    #[must_use]
    pub fn dedupe(self, id: &'a str) -> Self {
        Self { dedupe: Some(id), ..self }
    }

    /// Another limit for this call, of a quota or a throttle.
    #[must_use]
    pub fn limit(mut self, rule: &'a str, limit: i64) -> Self {
        self.overrides.push((rule, Override::Limit(limit)));
        self
    }

    /// Another rate for this call, of a throttle. A burst that was said stays; one that was not is the new limit.
    #[must_use]
    pub fn rate(mut self, rule: &'a str, rate: Rate) -> Self {
        self.overrides.push((rule, Override::Rate(rate)));
        self
    }
}
