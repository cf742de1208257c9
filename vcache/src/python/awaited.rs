//! The asyncio future that a task of ours completes: who holds it, whether it is wanted still, and its result.

use std::sync::Weak;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::loop_state::{LoopState, Runnable};

/// An awaitable, as its task has it: the number under which the loop holds it. The task is held by the driver, so a loop that
/// is forgotten would never be collected if the task held what leads to the loop.
#[derive(Clone, Copy)]
pub(super) struct Awaited(usize);

impl Awaited {
    pub(super) fn new(home: &LoopState, awaitable: Py<PyAny>) -> Self {
        Self(home.keep(awaitable))
    }

    /// The awaitable itself; `None` if its loop is gone.
    pub(super) fn take(self, home: &LoopState) -> Option<Py<PyAny>> {
        home.let_go(self.0)
    }

    /// Whether it wants no result any more.
    pub(super) fn is_done(&self, py: Python<'_>, home: &LoopState) -> bool {
        home.kept(py, self.0).is_none_or(|awaitable| is_done(awaitable.bind(py)))
    }

    /// Has the awaitable tell its task at once when it is cancelled, and the loop when it is closed. Not done for every call,
    /// because asyncio then schedules a callback for each, which would be a good part of what a call costs.
    pub(super) fn watch(&self, py: Python<'_>, home: &LoopState, task: &Weak<dyn Runnable>) {
        let Some(awaitable) = home.kept_for(py, self.0, task) else { return };
        let watched = Bound::new(py, Canceller { task: Weak::clone(task) })
            .and_then(|canceller| awaitable.call_method1(py, intern!(py, "add_done_callback"), (canceller,)));
        if let Err(error) = watched {
            error.write_unraisable(py, Some(awaitable.bind(py)));
        }
    }
}

/// Called by the awaitable when it is done, which it also is when it was cancelled.
#[pyclass(frozen, module = "django_vcache._vcache")]
struct Canceller {
    /// Weak, because the awaitable holds this.
    task: Weak<dyn Runnable>,
}

#[pymethods]
impl Canceller {
    fn __call__(&self, py: Python<'_>, _awaitable: &Bound<'_, PyAny>) {
        if let Some(task) = self.task.upgrade() {
            task.give_up(py);
        }
    }
}

/// asyncio's own class of futures and two of its methods. They are looked up once, because to find a method by its name costs
/// as much as to call it.
struct Methods {
    class: Py<PyAny>,
    done: Py<PyAny>,
    set_result: Py<PyAny>,
}

impl Methods {
    /// Those of an awaitable; `None` for one of another class, which has its own.
    fn of(awaitable: &Bound<'_, PyAny>) -> Option<&'static Self> {
        static METHODS: PyOnceLock<Option<Methods>> = PyOnceLock::new();
        let py = awaitable.py();
        let find = || {
            let class = py.import("asyncio").and_then(|asyncio| asyncio.getattr("Future")).ok()?;
            let (done, set_result) = (class.getattr("done").ok()?, class.getattr("set_result").ok()?);
            Some(Self { class: class.unbind(), done: done.unbind(), set_result: set_result.unbind() })
        };
        let methods = METHODS.get_or_init(py, find).as_ref()?;
        (awaitable.get_type().as_ptr() == methods.class.as_ptr()).then_some(methods)
    }
}

fn is_done(awaitable: &Bound<'_, PyAny>) -> bool {
    let done = match Methods::of(awaitable) {
        Some(methods) => methods.done.bind(awaitable.py()).call1((awaitable,)),
        None => awaitable.call_method0(intern!(awaitable.py(), "done")),
    };
    done.and_then(|done| done.is_truthy()).unwrap_or(true)
}

/// Gives the awaitable its result, unless it was cancelled in the meantime.
pub(super) fn settle(py: Python<'_>, awaitable: &Bound<'_, PyAny>, result: PyResult<Py<PyAny>>) {
    let set = match result {
        Ok(value) => match Methods::of(awaitable) {
            Some(methods) => methods.set_result.bind(py).call1((awaitable, value)),
            None => awaitable.call_method1(intern!(py, "set_result"), (value,)),
        },
        Err(error) => awaitable.call_method1(intern!(py, "set_exception"), (error.into_value(py),)),
    };
    if let Err(error) = set
        && !is_done(awaitable)
    {
        error.write_unraisable(py, Some(awaitable));
    }
}
