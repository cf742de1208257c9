//! The keywords that the constructors share: where keys are, and what is done without the server.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyBool, PyDict, PyFloat, PyInt};
use vcache::admission::{Outage, Settings};
use vcache::python::to_exception;

/// What rules and gates take.
pub(super) const OF_RULES: &[&str] =
    &["using", "prefix", "shards", "outage", "deny_cache", "guard", "processes", "deadline", "breaker"];
/// What streams take.
pub(super) const OF_STREAMS: &[&str] =
    &["using", "prefix", "owner", "shards", "outage", "deadline", "breaker", "dedupe_for", "max_payload"];
/// What gates take: all of it.
pub(super) const OF_GATES: &[&str] = &[
    "using",
    "prefix",
    "owner",
    "shards",
    "outage",
    "deny_cache",
    "guard",
    "processes",
    "deadline",
    "breaker",
    "dedupe_for",
    "max_payload",
];

/// A constructor's keywords.
pub(super) struct Keywords {
    /// The cache alias whose server is asked, if it is named.
    pub(super) using: Option<String>,
    /// The policy, if there is one among them.
    pub(super) outage: Option<Outage>,
    pub(super) settings: Settings,
}

impl Keywords {
    /// `class` is what the errors call it, `known` which keywords it has.
    pub(super) fn new(given: Option<&Bound<'_, PyDict>>, class: &str, known: &[&str]) -> PyResult<Self> {
        let mut keywords = Self { using: None, outage: None, settings: Settings::default() };
        for (name, value) in given.into_iter().flatten() {
            let name: String = name.extract()?;
            if !known.contains(&name.as_str()) {
                return Err(PyTypeError::new_err(format!(
                    "{class}() has no keyword {name:?}; it has {}",
                    known.join(", ")
                )));
            }
            keywords.set(&name, &value)?;
        }
        Ok(keywords)
    }

    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let settings = &mut self.settings;
        match name {
            "using" => self.using = Some(text(name, value)?),
            "prefix" => settings.prefix = text(name, value)?,
            "owner" => settings.owner = if value.is_none() { None } else { Some(text(name, value)?) },
            "shards" => settings.shards = whole(name, value)?,
            "outage" => {
                let policy: Outage =
                    text(name, value)?.parse().map_err(|error| to_exception(value.py(), &error))?;
                settings.outage = policy;
                self.outage = Some(policy);
            }
            "deny_cache" => settings.deny_cache = boolean(name, value)?,
            "guard" => settings.guard = if value.is_none() { None } else { Some(number(name, value)?) },
            "processes" => {
                settings.processes = if value.is_none() { None } else { Some(whole(name, value)?) }
            }
            "deadline" => {
                settings.deadline = if value.is_none() { None } else { Some(seconds(name, value)?) }
            }
            "breaker" => settings.breaker = boolean(name, value)?,
            "dedupe_for" => settings.dedupe_for = seconds(name, value)?,
            _ => settings.max_payload = whole(name, value)?,
        }
        Ok(())
    }
}

fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    value.extract().map_err(|_| wrong(name, "a str", value))
}

fn boolean(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.cast::<PyBool>().map(|flag| flag.is_true()).map_err(|_| wrong(name, "True or False", value))
}

fn number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    if value.is_instance_of::<PyBool>()
        || !(value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>())
    {
        return Err(wrong(name, "a number", value));
    }
    value.extract()
}

/// A whole number of the field's type, from 0.
pub(super) fn whole<T: TryFrom<u64>>(name: &str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(wrong(name, "an int", value));
    }
    let whole: Option<u64> = value.extract().ok();
    whole.and_then(|whole| T::try_from(whole).ok()).ok_or_else(|| {
        let range = if value.lt(0).unwrap_or(false) { "give 0 or more" } else { "that is too large" };
        PyValueError::new_err(format!("{name} is {value}: {range}"))
    })
}

pub(super) fn seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = number(name, value)?;
    if seconds > 0.0
        && let Ok(length) = Duration::try_from_secs_f64(seconds)
    {
        return Ok(length);
    }
    Err(PyValueError::new_err(format!("{name} is {seconds}: give seconds above 0")))
}

fn wrong(name: &str, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let found = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} must be {expected}, not {found}"))
}

/// `key=`: a name, or several.
pub(super) fn key(given: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if let Ok(name) = given.extract::<String>() {
        return Ok(vec![name]);
    }
    let names: Vec<Bound<'_, PyAny>> =
        given.extract().map_err(|_| wrong("key", "a str or a sequence of strs", given))?;
    names.iter().map(|name| name.extract().map_err(|_| wrong("each name of key", "a str", name))).collect()
}
