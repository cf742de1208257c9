//! Which throttles there are in this process and where each counts: the system checks look for those that share a counter
//! and have several rates.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use vcache::admission::Throttle;

/// A cache alias, the place of the counters, the throttle's name, and the rate: its limit, its microseconds and its burst.
type Budget = (String, String, String, (i64, u64, i64));

/// How many throttles have such a budget.
///
/// NOTE: it is locked only where the GIL is held, so a forked child finds it free.
static BUDGETS: Mutex<BTreeMap<Budget, usize>> = Mutex::new(BTreeMap::new());

/// A throttle's entry, for as long as it lives. One whose calls say the rate has none.
pub(super) struct Entry(Option<Budget>);

impl Entry {
    pub(super) fn of(throttle: &Throttle, using: &str) -> Self {
        let budget = throttle.rate_and_burst().map(|(rate, burst)| {
            let micros = u64::try_from(rate.period().as_micros()).unwrap_or(u64::MAX);
            (using.to_owned(), throttle.place(), throttle.name().to_owned(), (rate.limit(), micros, burst))
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

/// A budget with its period in seconds, as Python gets it.
type Shown = (String, String, String, (i64, f64, i64));

/// The throttles of this process, those of gates included: the cache alias, where the counters are, the name, and the rate
/// as its limit, its period in seconds and its burst.
#[pyfunction]
pub(crate) fn throttles_in_use() -> Vec<Shown> {
    let seconds = |micros: u64| std::time::Duration::from_micros(micros).as_secs_f64();
    let budgets = budgets();
    let all = budgets.keys().cloned();
    all.map(|(alias, place, name, (limit, micros, burst))| {
        (alias, place, name, (limit, seconds(micros), burst))
    })
    .collect()
}
