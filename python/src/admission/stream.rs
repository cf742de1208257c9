//! `Stream`: where what was admitted is put.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use vcache::admission::{Decision, Event, Full, Stream};
use vcache::python::{Bytes, Coroutine, connection_for};

use super::call::{Call, Outcome, plain};
use super::decision::{PyDecision, metrics};
use super::part::{Placed, part};
use super::scope::Given;
use super::settings::{self, Keywords, Taker};

/// A stream of entries for a batch job to find.
///
/// ```python
/// mails = Stream("mails", maxlen=100_000)
/// decision = mails.add(b"to: a@example.com", {"org": 1}, dedupe="mail-17")
/// for batch in mails.consumer("sender"):
///     send([entry.payload for entry in batch])
/// ```
///
/// Given to a gate, it takes on the gate's alias, prefix, owner, shards and other settings.
///
/// - `name`: up to 64 letters, digits, `_`, `.` and `-`. On the server it is part of the key.
/// - `maxlen`: the most entries of all shards together, each of which takes its part; None is no bound.
/// - `full`: what happens then: `"refuse"`, or `"trim"`, which drops the oldest entries, also unread ones.
/// - `using`: the cache alias on whose server it is, a `django_vcache.ValkeyCache`.
/// - `policy`: the name of a policy in `VCACHE["POLICIES"]`, for keywords that are not given here.
/// - `prefix`: what the keys on the server begin with, behind the `KEY_PREFIX` of the alias.
/// - `owner`: the entry of a scope that says which shard it is in, and whom a dedupe id counts for. Without one, the
///   shards take turns, and a dedupe id counts in the whole stream, which then has one shard.
/// - `shards`: over how many hash tags entries are spread, 1 to 9999. A change leaves old entries behind: drain it
///   first.
/// - `outage`: without the server an entry is refused, with a 503; `"raise"` raises instead.
/// - `deadline`: seconds that the server may take for `add`; None is the alias's `RESPONSE_TIMEOUT`.
/// - `breaker`: whether a server that failed five times in a row is left alone for 1 to 10 seconds.
/// - `dedupe_for`: seconds for which a dedupe id is remembered, twice the deadline at least and up to a year.
/// - `max_payload`: bytes of a payload at the most.
///
/// Raises ValueError for what is not a name, a maxlen of 0 and settings out of range; TypeError for wrong types and
/// unknown keywords.
#[pyclass(frozen, subclass, name = "Stream", module = "django_vcache.admission")]
pub(crate) struct PyStream {
    pub(super) placed: Placed<Stream>,
}

part!(Stream, "stream", "alias, prefix or number of shards", stores: true);

/// The id of each entry; `None` for what found no room.
type Ids = Vec<Option<String>>;

impl PyStream {
    pub(super) fn of(stream: Stream, using: Option<String>) -> Self {
        Self { placed: Placed::of(stream, using) }
    }

    fn added(
        &self,
        py: Python<'_>,
        payload: Bytes,
        scope: Option<Given>,
        dedupe: Option<String>,
    ) -> PyResult<Call<impl Outcome<Decision> + use<>, Decision>> {
        let (conn, stream) = (connection_for(py, self.placed.alias())?, Arc::clone(self.placed.asked()));
        Ok(Call::new(
            async move {
                let mut event = Event::new(&*payload);
                if let Some(Given(scope)) = &scope {
                    event = event.scope(scope);
                }
                if let Some(id) = &dedupe {
                    event = event.dedupe(id);
                }
                stream.add(&conn, event).await
            },
            PyDecision::make,
        ))
    }

    fn added_many(
        &self,
        payloads: &Bound<'_, PyAny>,
        scope: Option<Given>,
    ) -> PyResult<Call<impl Outcome<Ids> + use<>, Ids>> {
        let py = payloads.py();
        let payloads: Vec<Bytes> =
            payloads.try_iter()?.map(|payload| payload?.extract()).collect::<PyResult<_>>()?;
        let (conn, stream) = (connection_for(py, self.placed.alias())?, Arc::clone(self.placed.asked()));
        Ok(Call::new(
            async move {
                let events: Vec<_> = payloads
                    .iter()
                    .map(|payload| match &scope {
                        Some(Given(scope)) => Event::new(&**payload).scope(scope),
                        None => Event::new(&**payload),
                    })
                    .collect();
                stream.add_many(&conn, &events).await
            },
            plain,
        ))
    }

    fn counted(&self, py: Python<'_>) -> PyResult<Call<impl Outcome<u64> + use<>, u64>> {
        let (conn, stream) = (connection_for(py, self.placed.alias())?, Arc::clone(self.placed.asked()));
        Ok(Call::new(async move { stream.length(&conn).await }, plain))
    }
}

#[pymethods]
impl PyStream {
    #[new]
    #[pyo3(signature = (name, maxlen = None, full = "refuse", **settings))]
    fn new(
        py: Python<'_>,
        name: &str,
        maxlen: Option<&Bound<'_, PyAny>>,
        full: &str,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let keywords = Keywords::new(py, settings, "Stream", Taker::Stream)?;
        let full = match full {
            "refuse" => Full::Refuse,
            "trim" => Full::Trim,
            _ => {
                return Err(PyValueError::new_err(format!("full is {full:?}: it is \"refuse\" or \"trim\"")));
            }
        };
        let mut stream = Stream::new(name)?.full(full);
        if let Some(maxlen) = maxlen {
            let maxlen: u64 = settings::whole("maxlen", maxlen)?;
            if maxlen == 0 {
                return Err(PyValueError::new_err("maxlen is 0: give 1 or more, or None for no limit"));
            }
            stream = stream.maxlen(maxlen);
        }
        Ok(Self { placed: Placed::new(stream, keywords)? })
    }

    /// The stream's name.
    #[getter]
    fn name(&self) -> &str {
        self.placed.name()
    }

    /// The cache alias on whose server it is.
    #[getter]
    fn using(&self) -> &str {
        self.placed.alias()
    }

    /// The keys of its shards on the server.
    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.placed.asked().keys(&connection_for(py, self.placed.alias())?))
    }

    /// The keys of its shards' dead letters.
    #[getter]
    fn dead_keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.placed.asked().dead_keys(&connection_for(py, self.placed.alias())?))
    }

    /// Appends an entry: the field `payload`, and one for each entry of the scope. Blocks, with the GIL released.
    ///
    /// The decision's `id` is the entry's. A full stream refuses, and so does an outage, since it could not be stored.
    /// With `dedupe` it is written only once under that id, which counts for the scope's owner; with several shards it
    /// needs a scope. Without a scope the shards take turns.
    ///
    /// Raises ValueError for a payload above max_payload and for a scope or id that cannot be written, TypeError for
    /// wrong types, both before anything is sent; ResponseError for what the server refuses otherwise than in an
    /// outage.
    #[pyo3(signature = (payload, scope = None, dedupe = None))]
    fn add(
        &self,
        py: Python<'_>,
        payload: Bytes,
        scope: Option<Given>,
        dedupe: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        self.added(py, payload, scope, dedupe)?.block(py)
    }

    /// As `add`, to be awaited. Nothing is asked before that. In a boolean context it raises TypeError: an `await` was
    /// forgotten.
    #[pyo3(signature = (payload, scope = None, dedupe = None))]
    fn aadd<'py>(
        &self,
        py: Python<'py>,
        payload: Bytes,
        scope: Option<Given>,
        dedupe: Option<String>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.added(py, payload, scope, dedupe)?.defer(py, "Stream.aadd")
    }

    /// Appends entries in order, in one round trip; the ids, None for what found no room.
    ///
    /// They are no transaction: what was written before an error stays. It has the alias's `RESPONSE_TIMEOUT`.
    ///
    /// Raises ValueError and TypeError as `add`; ConnectionError, TimeoutError or ResponseError, after which it is not
    /// known which entries were written.
    #[pyo3(signature = (payloads, scope = None))]
    fn add_many(&self, payloads: &Bound<'_, PyAny>, scope: Option<Given>) -> PyResult<Py<PyAny>> {
        self.added_many(payloads, scope)?.block(payloads.py())
    }

    /// As `add_many`, to be awaited.
    #[pyo3(signature = (payloads, scope = None))]
    fn aadd_many<'py>(
        &self,
        payloads: &Bound<'py, PyAny>,
        scope: Option<Given>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.added_many(payloads, scope)?.defer(payloads.py(), "Stream.aadd_many")
    }

    /// How many entries its shards have together.
    ///
    /// Raises ConnectionError, TimeoutError or ResponseError for a server that cannot be asked.
    fn length(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.counted(py)?.block(py)
    }

    /// As `length`, to be awaited.
    fn alength<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Coroutine>> {
        self.counted(py)?.defer(py, "Stream.alength")
    }

    /// A consumer of a group: iterate over it for batches. See `django_vcache.admission.consumer.Consumer`.
    ///
    /// - `group`: consumers of one group share the work.
    /// - `batch`: entries of a batch at the most.
    /// - `max_wait`: seconds for which a batch is collected, from its first entry on.
    /// - `name`: of this consumer in its group; made up if left out.
    /// - `reclaim_after`: seconds after which what was not acknowledged is delivered again; at least twice max_wait.
    /// - `max_deliveries`: how often before an entry goes to the dead letters; None is no end.
    /// - `delete`: whether to delete entries that all groups have acknowledged.
    /// - `signals`: the signals that stop it, SIGTERM and SIGINT; `()` where another handler has them.
    ///
    /// Raises ValueError or TypeError for an argument that makes no sense.
    #[pyo3(signature = (group, **keywords))]
    fn consumer<'py>(
        slf: &Bound<'py, Self>,
        group: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static CONSUMER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = CONSUMER.import(slf.py(), "django_vcache.admission.consumer", "Consumer")?;
        class.call((slf, group), keywords)
    }

    /// What `add` and `add_many` did in this process; the names are those of `Throttle.metrics`.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics(py, self.placed.asked().metrics())
    }

    fn __repr__(&self) -> String {
        format!("<Stream '{}'>", self.placed.name())
    }
}
