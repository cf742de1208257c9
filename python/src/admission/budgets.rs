//! Which throttles there are in this process and where each counts: the system checks look for those that share a counter
//! and have several rates.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vcache::admission::{Rate, Throttle};

/// What a throttle's counters mean, as [`Throttle::flow`] tells it; `None` if a callable says the rate.
type Counted = Option<(i64, i64, i64)>;

/// A cache alias, the place of the counters, the throttle's name, what the counters mean, and the throttle in words.
type Budget = (String, String, String, Counted, String);

/// How many throttles have such a budget.
///
/// NOTE: it is locked only where the GIL is held, so a forked child finds it free.
static BUDGETS: Mutex<BTreeMap<Budget, usize>> = Mutex::new(BTreeMap::new());

/// A throttle's entry, for as long as it lives. One that does not count has none.
pub(super) struct Entry(Option<Budget>);

impl Entry {
    pub(super) fn of(throttle: &Throttle, using: &str) -> Self {
        let shown = match (throttle.rate_and_burst(), throttle.flow()) {
            (None, _) => Some((None, "a Throttle whose rate a callable says".to_owned())),
            (Some(_), None) => None,
            (Some((rate, burst)), counted) => {
                let seconds = rate.period().as_secs_f64();
                Some((counted, format!("a Throttle of {} in {seconds} s with burst {burst}", rate.limit())))
            }
        };
        let budget = shown.map(|(counted, text)| {
            (using.to_owned(), throttle.place(), throttle.name().to_owned(), counted, text)
        });
        if let Some(budget) = &budget {
            *budgets().entry(budget.clone()).or_default() += 1;
        }
        Self(budget)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(budget) = &self.0 else { return };
        let mut budgets = budgets();
        if let Some(count) = budgets.get_mut(budget) {
            *count -= 1;
            if *count == 0 {
                budgets.remove(budget);
            }
        }
    }
}

fn budgets() -> MutexGuard<'static, BTreeMap<Budget, usize>> {
    BUDGETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The throttles of this process that count, those of gates included: the cache alias, where the counters are, the name,
/// what the counters mean or None if a callable says the rate, and the throttle in words.
#[pyfunction]
pub(crate) fn throttles_in_use() -> Vec<Budget> {
    budgets().keys().cloned().collect()
}

/// What the counters of a rate and its burst mean: equal for rates that differ only in words. None if nothing is counted.
///
/// Raises ValueError for what is no rate.
#[pyfunction]
#[pyo3(signature = (limit, seconds, burst = None))]
pub(crate) fn counted_as(limit: i64, seconds: f64, burst: Option<u64>) -> PyResult<Counted> {
    let period =
        Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let mut throttle = Throttle::new("rate", Rate::new(limit, period)?)?;
    if let Some(burst) = burst {
        throttle = throttle.burst(burst)?;
    }
    Ok(throttle.flow())
}
