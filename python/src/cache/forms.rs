//! What an operation is, and how its two forms run: blocking with the GIL released, and awaited on the running loop.

use std::future::{Future, ready};
use std::sync::Arc;

use pyo3::prelude::*;
use vcache::python::{Steps, block_on, block_on_exchange, exchange, spawn};
use vcache::{Packet, Value};

use super::replies::Shared;

pub(super) type Object<'py> = Bound<'py, PyAny>;

/// An operation, ready to run.
pub(super) trait Operation {
    /// Runs it, and returns what Python gets.
    fn block(self, py: Python<'_>, shared: &Arc<Shared>) -> PyResult<Py<PyAny>>;

    /// Starts it on the running loop, and returns the future of what Python gets.
    fn start<'py>(self, py: Python<'py>, shared: &Arc<Shared>) -> PyResult<Object<'py>>;
}

/// Makes Python's answer of a reply, and of the packet that it is to.
pub(super) trait Answer:
    FnOnce(Python<'_>, vcache::Result<Value>, &Packet) -> PyResult<Py<PyAny>> + Send + 'static
{
}

impl<F> Answer for F where
    F: FnOnce(Python<'_>, vcache::Result<Value>, &Packet) -> PyResult<Py<PyAny>> + Send + 'static
{
}

/// An operation that goes to the server once, or has nothing to send.
pub(super) enum Exchange<F> {
    /// It goes to the server.
    Send(Packet, F),
    /// There is nothing to send.
    Done(Py<PyAny>),
}

impl<F: Answer> Exchange<F> {
    pub(super) fn send(packet: Packet, answer: F) -> Self {
        Self::Send(packet, answer)
    }
}

impl<F: Answer> Operation for Exchange<F> {
    // Inlined, or the packet is moved once more on the way to the connection.
    #[inline]
    fn block(self, py: Python<'_>, shared: &Arc<Shared>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Done(answer) => Ok(answer),
            Self::Send(packet, answer) => {
                let (outcome, packet) = block_on_exchange(py, &shared.connection, packet)?;
                let alias = shared.connection.alias();
                answer(py, outcome.map_err(|error| error.with_alias(alias)), &packet)
            }
        }
    }

    #[inline]
    fn start<'py>(self, py: Python<'py>, shared: &Arc<Shared>) -> PyResult<Object<'py>> {
        match self {
            Self::Done(answer) => spawn(py, Steps::One, ready(()), move |_, ()| Ok(answer)),
            Self::Send(packet, answer) => {
                let owned = Arc::clone(shared);
                exchange(py, &shared.connection, packet, move |py, outcome, packet| {
                    let alias = owned.connection.alias();
                    answer(py, outcome.map_err(|error| error.with_alias(alias)), packet)
                })
            }
        }
    }
}

/// An operation that goes to the server any number of times.
pub(super) struct Conversation<F, C> {
    future: F,
    finish: C,
}

impl<T, F, C> Conversation<F, C>
where
    F: Future<Output = vcache::Result<T>> + Send + 'static,
    C: FnOnce(Python<'_>, vcache::Result<T>) -> PyResult<Py<PyAny>> + Send + 'static,
{
    /// `finish` makes Python's answer of what `future` returns.
    pub(super) fn new(future: F, finish: C) -> Self {
        Self { future, finish }
    }
}

impl<T, F, C> Operation for Conversation<F, C>
where
    T: Send,
    F: Future<Output = vcache::Result<T>> + Send + 'static,
    C: FnOnce(Python<'_>, vcache::Result<T>) -> PyResult<Py<PyAny>> + Send + 'static,
{
    fn block(self, py: Python<'_>, _: &Arc<Shared>) -> PyResult<Py<PyAny>> {
        (self.finish)(py, block_on(py, self.future)?)
    }

    fn start<'py>(self, py: Python<'py>, _: &Arc<Shared>) -> PyResult<Object<'py>> {
        spawn(py, Steps::Many, self.future, self.finish)
    }
}
