//! One call, awaited or blocking. The driver gives the reply straight to the awaitable, or to the waiting thread: there is
//! no future to poll between the two.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};

use pyo3::intern;
use pyo3::prelude::*;
use redis::Value;

use super::awaited::{Awaited, settle};
use super::blocking::interrupted;
use super::event_loop::Running;
use super::exceptions::panicked;
use super::loop_state::{LoopState, Runnable};
use super::shield::shield;
use crate::blocking::exchange_until;
use crate::connection::driver::Submitted;
use crate::connection::local::Route;
use crate::connection::receiver::{Outcome, Receiver};
use crate::connection::{Connection, Packet};
use crate::error::Result;
use crate::scope::Driving;
use crate::sync::lock;

/// A call on its way to an awaitable.
struct Exchange<C> {
    home: Arc<LoopState>,
    body: Mutex<Body<C>>,
}

struct Body<C> {
    outcome: Option<Outcome>,
    finish: Option<C>,
    awaitable: Option<Awaited>,
    route: Option<Route>,
    over: bool,
}

/// Sends a packet on the running asyncio loop, and returns an `asyncio.Future` of what `finish` makes of the reply. `finish`
/// gets the packet back, but for one whose reply never came.
///
/// # Errors
/// `RuntimeError` if no loop runs on this thread.
pub fn exchange<'py, C>(
    py: Python<'py>,
    connection: &Connection,
    packet: Packet,
    finish: C,
) -> PyResult<Bound<'py, PyAny>>
where
    C: FnOnce(Python<'_>, Result<Value>, &Packet) -> PyResult<Py<PyAny>> + Send + 'static,
{
    let running = Running::here(py)?;
    let awaitable = running.event_loop.call_method0(intern!(py, "create_future"))?;
    let home = running.state();
    let exchange = Arc::new(Exchange {
        home: Arc::clone(home),
        body: Mutex::new(Body {
            outcome: None,
            finish: Some(finish),
            awaitable: None,
            route: None,
            over: false,
        }),
    });
    let receiver = Arc::clone(&exchange) as Arc<dyn Receiver>;
    match connection.begin(packet, receiver, Driving::Loop, &home.waiter) {
        Ok((route, submitted)) => {
            let held = Awaited::new(home, awaitable.clone().unbind());
            if route.is_dedicated() || submitted == Submitted::Waiting {
                let task: Weak<dyn Runnable> = Arc::downgrade(&exchange) as Weak<dyn Runnable>;
                held.watch(py, home, &task);
            }
            let mut body = lock(&exchange.body);
            (body.awaitable, body.route) = (Some(held), Some(route));
            drop(body);
            running.after_spawn()?;
        }
        Err(error) => {
            let finish = lock(&exchange.body).finish.take();
            if let Some(finish) = finish {
                settle(py, &awaitable, finish(py, Err(error), &Packet::empty()));
            }
        }
    }
    Ok(awaitable)
}

impl<C> Receiver for Exchange<C>
where
    C: FnOnce(Python<'_>, Result<Value>, &Packet) -> PyResult<Py<PyAny>> + Send + 'static,
{
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker> {
        let mut body = lock(&self.body);
        if body.over {
            return None;
        }
        body.outcome = Some(outcome);
        drop(body);
        Some(Waker::from(self))
    }

    fn is_abandoned(&self) -> bool {
        lock(&self.body).over
    }
}

impl<C> Wake for Exchange<C>
where
    C: FnOnce(Python<'_>, Result<Value>, &Packet) -> PyResult<Py<PyAny>> + Send + 'static,
{
    fn wake(self: Arc<Self>) {
        let home = Arc::clone(&self.home);
        home.push(self);
    }
}

impl<C> Runnable for Exchange<C>
where
    C: FnOnce(Python<'_>, Result<Value>, &Packet) -> PyResult<Py<PyAny>> + Send + 'static,
{
    fn run(self: Arc<Self>, py: Python<'_>) {
        let mut body = lock(&self.body);
        body.over = true;
        let (outcome, finish) = (body.outcome.take(), body.finish.take());
        let (awaitable, route) = (body.awaitable.take(), body.route.take());
        drop(body);
        if let Some(route) = route {
            route.finished();
        }
        let awaitable = awaitable.and_then(|awaitable| awaitable.take(&self.home));
        if let (Some(outcome), Some(finish), Some(awaitable)) = (outcome, finish, awaitable) {
            let result = catch_unwind(AssertUnwindSafe(|| finish(py, outcome.result, &outcome.packet)))
                .unwrap_or_else(|payload| Err(panicked(py, payload)));
            settle(py, awaitable.bind(py), result);
        }
    }

    fn is_cancelled(&self, py: Python<'_>) -> bool {
        lock(&self.body).awaitable.as_ref().is_some_and(|awaitable| awaitable.is_done(py, &self.home))
    }

    fn abandon(&self) {
        let mut body = lock(&self.body);
        if body.over {
            return;
        }
        body.over = true;
        let (outcome, finish) = (body.outcome.take(), body.finish.take());
        let (awaitable, route) = (body.awaitable.take(), body.route.take());
        drop(body);
        if let Some(route) = route {
            route.given_up();
        }
        drop((outcome, finish, awaitable.and_then(|awaitable| awaitable.take(&self.home))));
    }
}

/// Sends a packet and waits for the reply with the GIL released. The packet comes back with it, but for one whose reply
/// never came.
///
/// # Errors
/// What a signal handler raised.
pub fn block_on_exchange(
    py: Python<'_>,
    connection: &Connection,
    packet: Packet,
) -> PyResult<(Result<Value>, Packet)> {
    shield();
    let outcome =
        py.detach(|| catch_unwind(AssertUnwindSafe(|| exchange_until(connection, packet, interrupted))));
    let outcome = outcome.unwrap_or_else(|payload| Err(panicked(py, payload)))?;
    Ok((outcome.result, outcome.packet))
}
