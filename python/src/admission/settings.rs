//! The keywords that the constructors share: where keys are, and what is done without the server. What is not said is the
//! project's, `VCACHE["DEFAULTS"]`, or vcache's own default.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyAnyMethods, PyBool, PyDict, PyFloat, PyInt};
use vcache::admission::{Gate, Outage, Settings, Throttle};
use vcache::python::to_exception;

use super::scope::pairs;

/// All keywords.
const KEYWORDS: [&str; 13] = [
    "using",
    "policy",
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

/// What takes keywords.
#[derive(Clone, Copy)]
pub(super) enum Taker {
    Rule,
    Stream,
    Gate,
    /// The project's defaults and its policies.
    Policy,
}

impl Taker {
    fn takes(self, name: &str) -> bool {
        let lacks: &[&str] = match self {
            Self::Rule => &["owner", "dedupe_for", "max_payload"],
            Self::Stream => &["deny_cache", "guard", "processes"],
            Self::Gate => &[],
            Self::Policy => &["using", "policy", "owner", "shards"],
        };
        KEYWORDS.contains(&name) && !lacks.contains(&name)
    }

    /// All that it takes, for an error.
    fn known(self) -> String {
        KEYWORDS.into_iter().filter(|name| self.takes(name)).collect::<Vec<_>>().join(", ")
    }
}

/// A constructor's keywords.
pub(super) struct Keywords {
    /// The cache alias whose server is asked, if it is named.
    pub(super) using: Option<String>,
    /// The outage policy, if it was said.
    pub(super) outage: Option<Outage>,
    /// All of it, the project's defaults included.
    pub(super) settings: Settings,
    /// Without the project's defaults, where these make a difference: what a gate's part may not say otherwise than the gate.
    said: Option<Settings>,
    /// The names of those that were said by the call or its policy.
    pub(super) named: Vec<String>,
}

impl Keywords {
    /// `class` is what the errors call it.
    pub(super) fn new(
        py: Python<'_>,
        given: Option<&Bound<'_, PyDict>>,
        class: &str,
        taker: Taker,
    ) -> PyResult<Self> {
        for (name, _) in given.map(pairs).into_iter().flatten() {
            let name: String = name.extract()?;
            if !taker.takes(&name) {
                return Err(PyTypeError::new_err(format!(
                    "{class}() has no keyword {name:?}; it has {}",
                    taker.known()
                )));
            }
        }
        let policy = given.map_or(Ok(None), |given| given.get_item("policy"))?;
        let (defaults, policy) = project(py, policy)?;
        let applies = |name: &str| taker.takes(name);
        let say = |keywords: &mut Self| {
            keywords.set_all(&policy, applies)?;
            given.map_or(Ok(()), |given| keywords.set_all(given, |name| name != "policy"))
        };
        let mut said = Self::empty();
        say(&mut said)?;
        for (name, _) in pairs(&policy).into_iter().chain(given.map(pairs).into_iter().flatten()) {
            let name: String = name.extract()?;
            if applies(&name) {
                said.named.push(name);
            }
        }
        if defaults.is_empty() {
            return Ok(said);
        }
        let mut all = Self::empty();
        all.set_all(&defaults, applies)?;
        // What the project says of all is not what this one says.
        all.outage = None;
        say(&mut all)?;
        (all.said, all.named) = (Some(said.settings), said.named);
        Ok(all)
    }

    /// As a part of a gate says it, if that is something else.
    pub(super) fn of_a_part(&self) -> Option<&Settings> {
        self.said.as_ref()
    }

    fn empty() -> Self {
        Self { using: None, outage: None, settings: Settings::default(), said: None, named: Vec::new() }
    }

    fn set_all(&mut self, given: &Bound<'_, PyDict>, applies: impl Fn(&str) -> bool) -> PyResult<()> {
        for (name, value) in pairs(given) {
            let name: String = name.extract()?;
            if applies(&name) {
                self.set(&name, &value)?;
            }
        }
        Ok(())
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

/// `VCACHE["DEFAULTS"]`, and the policy of `VCACHE["POLICIES"]` that is named.
fn project<'py>(
    py: Python<'py>,
    policy: Option<Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
    static KEYWORDS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    KEYWORDS.import(py, "django_vcache.admission.settings", "keywords_for")?.call1((policy,))?.extract()
}

/// Raises ValueError or TypeError for keywords that `VCACHE["DEFAULTS"]` or a policy cannot have.
#[pyfunction]
pub(crate) fn check_policy(given: &Bound<'_, PyDict>) -> PyResult<()> {
    for (name, _) in pairs(given) {
        let name = name.str()?;
        if !Taker::Policy.takes(name.to_str()?) {
            return Err(PyTypeError::new_err(format!(
                "there is no keyword {:?} here; there are {}",
                name.to_str()?,
                Taker::Policy.known()
            )));
        }
    }
    let mut keywords = Keywords::empty();
    keywords.set_all(given, |_| true)?;
    let throttle = Throttle::per_call("check")?;
    Gate::builder().throttle(throttle).settings(keywords.settings).build()?;
    Ok(())
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
