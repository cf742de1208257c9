//! Python's coroutines and futures inside a hot path. Such a one runs on the asyncio loop that the hot path was called
//! on, as a task in the caller's context; the hot path awaits it wherever it is polled itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3_async_runtimes::{TaskLocals, into_future_with_locals};

use super::annotations::Annotate;
use super::coroutine::Coroutine;
use super::polled::{is_blocking, note_prompt_cancel};
use crate::error::Result;
use crate::sync::lock;

const ONLY_ASYNC: &str = "an awaitable can be awaited only while an asyncio loop runs it: call the async form of this \
                          hot path, and declare it with only = \"async\"";

/// A parameter that Python passes as something to await: a coroutine, a `Future`, a `Task`, any object with `__await__`.
///
/// It starts when it is first awaited, not before: one that is never needed (a loader, when the cache has the value) costs
/// nothing, and a coroutine is then closed. It runs as a task on the loop that the hot path was called on, in a copy of the
/// caller's context variables. Dropped while it runs, because the hot path was cancelled or chose another branch, that task
/// is cancelled, as with Python's own `await`.
///
/// A hot path that takes one exists in the async form only, since the blocking form would block the loop that it waits
/// for: give it `only = "async"`.
///
/// # Errors
/// `TypeError` for another object; `RuntimeError` if no asyncio loop runs on the calling thread. To await it gives what
/// the awaitable raised, which a hot path hands on to its caller with `?`.
///
/// ```
/// use vcache::prelude::*;
///
/// /// The cached text, or what `load` makes, kept for a minute.
/// async fn get_or_load(conn: &mut Connection, key: String, load: Awaitable) -> vcache::Result<String> {
///     if let Some(text) = conn.get(&key).await? {
///         return Ok(text);
///     }
///     let text: String = load.extract().await?;
///     let () = conn.set_ex(&key, &text, 60).await?;
///     Ok(text)
/// }
/// ```
pub struct Awaitable {
    /// The loop and the context that it was called in.
    locals: TaskLocals,
    thread: ThreadId,
    state: State,
}

enum State {
    Unstarted(Py<PyAny>),
    Running { output: Output, relay: Py<Relay> },
    Done,
}

type Output = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;

impl Annotate for Awaitable {
    fn input() -> String {
        "Awaitable[Any]".into()
    }

    fn output() -> String {
        Self::input()
    }
}

impl<'py> FromPyObject<'_, 'py> for Awaitable {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        static AWAITABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = object.py();
        if !object.is_instance(AWAITABLE.import(py, "collections.abc", "Awaitable")?)? {
            let found = object.get_type().fully_qualified_name()?;
            return Err(PyTypeError::new_err(format!(
                "a coroutine, Future, Task or object with __await__ expected, not {found}"
            )));
        }
        let locals = TaskLocals::with_running_loop(py).map_err(|_| PyRuntimeError::new_err(ONLY_ASYNC))?;
        Ok(Self {
            locals: locals.copy_context(py)?,
            thread: thread::current().id(),
            state: State::Unstarted(object.to_owned().unbind()),
        })
    }
}

impl Awaitable {
    /// Awaits it and takes the result as a `T`: a number, a text, a `FromDict<...>`.
    ///
    /// # Errors
    /// What the awaitable raised, or what the conversion did.
    pub async fn extract<T>(self) -> Result<T>
    where
        T: for<'py> FromPyObjectOwned<'py>,
    {
        let object = self.await?;
        Python::attach(|py| object.bind(py).extract().map_err(|error| Into::<PyErr>::into(error).into()))
    }

    fn start(&self, awaitable: Py<PyAny>) -> PyResult<State> {
        if is_blocking() && thread::current().id() == self.thread {
            // The thread that waits is the one that the loop runs on: neither would ever go on.
            return Err(PyRuntimeError::new_err(ONLY_ASYNC));
        }
        Python::attach(|py| {
            let relay = Py::new(py, Relay { stage: Mutex::new(Stage::Scheduled(awaitable)) })?;
            let output = into_future_with_locals(&self.locals, relay.bind(py).clone().into_any())?;
            Ok(State::Running { output: Box::pin(output), relay })
        })
    }
}

impl Future for Awaitable {
    type Output = Result<Py<PyAny>>;

    /// # Panics
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.state = match std::mem::replace(&mut this.state, State::Done) {
            State::Unstarted(awaitable) => match this.start(awaitable) {
                Ok(running) => running,
                Err(error) => return Poll::Ready(Err(error.into())),
            },
            other => other,
        };
        let State::Running { output, .. } = &mut this.state else {
            panic!("an awaitable is polled after it was ready");
        };
        match output.as_mut().poll(context) {
            Poll::Ready(result) => {
                this.state = State::Done;
                Poll::Ready(result.map_err(Into::into))
            }
            Poll::Pending => {
                // It may take its time, so the task that polls this is to hear of its own cancellation at once.
                note_prompt_cancel();
                Poll::Pending
            }
        }
    }
}

impl Drop for Awaitable {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done);
        if matches!(state, State::Done) {
            return;
        }
        // At the interpreter's end there is nothing to attach to, and no loop to tell.
        Python::try_attach(|py| match state {
            State::Unstarted(awaitable) => close_if_new(awaitable.bind(py)),
            State::Running { relay, .. } => {
                if let Some(task) = relay.get().cancel(py) {
                    // A loop that is closed takes no calls, and runs no task that would need one.
                    let _ = task.getattr(py, intern!(py, "cancel")).and_then(|cancel| {
                        let event_loop = self.locals.event_loop(py);
                        event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (cancel,)).map(drop)
                    });
                }
            }
            State::Done => {}
        });
    }
}

/// Closes a coroutine that did not begin, so that Python does not warn of it. Others may be in use elsewhere.
fn close_if_new(awaitable: &Bound<'_, PyAny>) {
    static STATE_OF: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = awaitable.py();
    if let Ok(ours) = awaitable.cast::<Coroutine>() {
        return ours.get().close_if_new();
    }
    // What is no coroutine has no such state, and needs no closing.
    let _ = STATE_OF
        .import(py, "inspect", "getcoroutinestate")
        .and_then(|state_of| state_of.call1((awaitable,))?.eq("CORO_CREATED"))
        .and_then(|new| if new { awaitable.call_method0(intern!(py, "close")).map(drop) } else { Ok(()) });
}

/// What the loop awaits in place of the awaitable, so that the task around it becomes known and can be cancelled.
#[pyclass(frozen, module = "django_vcache._vcache")]
struct Relay {
    stage: Mutex<Stage>,
}

enum Stage {
    /// The loop was asked to start it.
    Scheduled(Py<PyAny>),
    Running {
        task: Py<PyAny>,
    },
    Over,
}

#[pymethods]
impl Relay {
    /// The first step of the task.
    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CURRENT_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let task = CURRENT_TASK.import(py, "asyncio", "current_task")?.call0()?.unbind();
        let stage = std::mem::replace(&mut *lock(&self.stage), Stage::Running { task });
        match stage {
            Stage::Scheduled(awaitable) => awaitable.bind(py).call_method0(intern!(py, "__await__")),
            Stage::Running { .. } | Stage::Over => {
                *lock(&self.stage) = Stage::Over;
                let cancelled = py.import("asyncio")?.getattr("CancelledError")?.call0()?;
                Err(PyErr::from_value(cancelled))
            }
        }
    }
}

impl Relay {
    /// No caller waits any more: the task to cancel, if there is one yet.
    fn cancel(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let stage = std::mem::replace(&mut *lock(&self.stage), Stage::Over);
        match stage {
            Stage::Scheduled(awaitable) => {
                close_if_new(awaitable.bind(py));
                None
            }
            Stage::Running { task } => Some(task),
            Stage::Over => None,
        }
    }
}
