//! `Client`: the operations of Django's cache API in their two forms, blocking (`get`) and awaited (`aget`).
//!
//! A client belongs to one configured alias and is shared by all its backend objects, of which Django makes one per
//! thread or request; what can differ between those, and change at run time, is asked of the backend object in each call.

use std::future::{Future, ready};
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyTuple};
use vcache::python::{Steps, block_on, block_on_exchange, exchange, spawn, to_exception};
use vcache::{Config, Options, Packet};

use super::operations::{self as ops, Answer, Finish, Object, Operation};
use super::replies::Shared;
use super::sweep::{Layout, Sweep};
use super::{changes, expiry, keys, scripts};
use crate::codec::{Codec, Options as CodecOptions, Serializer};

/// One cache alias on the shared connection. `version` is None for the cache's own.
#[pyclass(frozen, module = "django_vcache._vcache")]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

impl Client {
    fn run<F: Answer>(&self, py: Python<'_>, operation: Operation<F>) -> PyResult<Py<PyAny>> {
        match operation {
            Operation::Done(answer) => Ok(answer),
            Operation::Send(packet, finish) => {
                let (outcome, packet) = block_on_exchange(py, &self.shared.connection, packet)?;
                let alias = self.shared.connection.alias();
                finish(py, outcome.map_err(|error| error.with_alias(alias)), &packet)
            }
        }
    }

    fn start<'py, F: Answer>(&self, py: Python<'py>, operation: Operation<F>) -> PyResult<Object<'py>> {
        match operation {
            Operation::Done(answer) => spawn(py, Steps::One, ready(()), move |_, ()| Ok(answer)),
            Operation::Send(packet, finish) => {
                let shared = Arc::clone(&self.shared);
                exchange(py, &self.shared.connection, packet, move |py, outcome, packet| {
                    let alias = shared.connection.alias();
                    finish(py, outcome.map_err(|error| error.with_alias(alias)), packet)
                })
            }
        }
    }

    fn incr_parts(
        &self,
        cache: &Object<'_>,
        key: &Object<'_>,
        delta: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<(
        impl Future<Output = vcache::Result<scripts::Outcome>> + Send + use<>,
        impl Finish<scripts::Outcome> + use<>,
    )> {
        let delta = ops::delta(delta)?;
        let stored_as = keys::build(cache, key, version)?;
        let finish = ops::incremented(&self.shared, key, &stored_as)?;
        let shared = Arc::clone(&self.shared);
        let future = async move {
            let on_refused = || {
                Python::try_attach(|py| shared.report_unscripted(py));
            };
            shared.scripting.incr(shared.connection.clone(), stored_as, delta, on_refused).await
        };
        Ok((future, finish))
    }

    fn change_parts(
        &self,
        cache: &Object<'_>,
        key: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<(impl Future<Output = vcache::Result<bool>> + Send + use<>, impl Finish<bool> + use<>)>
    {
        let timeout = expiry::seconds_of(timeout)?.map(changes::timeout).transpose()?;
        let future = changes::wait(Arc::clone(&self.shared), keys::build(cache, key, version)?, timeout);
        // It raises also where exceptions are ignored: an answer at once would have its callers ask again and again.
        let finish = move |py: Python<'_>, changed: vcache::Result<bool>| {
            let changed = changed.map_err(|error| to_exception(py, &error))?;
            Ok(PyBool::new(py, changed).to_owned().into_any().unbind())
        };
        Ok((future, finish))
    }

    fn sweep_parts(
        &self,
        layouts: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
        version: &str,
    ) -> PyResult<(impl Future<Output = vcache::Result<i64>> + Send + use<>, impl Finish<i64> + use<>)> {
        let mut layouts = layouts.into_iter().map(|(head, middle, tail)| Layout { head, middle, tail });
        let own = layouts.next().ok_or_else(|| PyValueError::new_err("the layout of the keys is missing"))?;
        let sweep = Sweep { own, others: layouts.collect(), version: version.as_bytes().to_vec() };
        let shared = Arc::clone(&self.shared);
        let finish = move |py: Python<'_>, deleted| {
            let _ignored = shared.outcome(py, deleted)?;
            Ok(py.None())
        };
        Ok((sweep.run(self.shared.connection.clone()), finish))
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (
        alias, url, *, key_prefix, connect_timeout, response_timeout, client_name, username, password, db, serializer,
        dumps, loads, compress_min_len, max_value_len, signing_keys, ignore_exceptions, on_miss, on_error, on_untracked,
        on_unscripted
    ))]
    #[expect(clippy::too_many_arguments, reason = "one keyword for each option, called in one place")]
    fn new(
        py: Python<'_>,
        alias: &str,
        url: &str,
        key_prefix: &str,
        connect_timeout: Option<f64>,
        response_timeout: Option<f64>,
        client_name: Option<String>,
        username: Option<String>,
        password: Option<String>,
        db: Option<i64>,
        serializer: &str,
        dumps: Option<Py<PyAny>>,
        loads: Option<Py<PyAny>>,
        compress_min_len: Option<usize>,
        max_value_len: usize,
        signing_keys: Vec<Bound<'_, PyBytes>>,
        ignore_exceptions: bool,
        on_miss: Py<PyAny>,
        on_error: Py<PyAny>,
        on_untracked: Py<PyAny>,
        on_unscripted: Py<PyAny>,
    ) -> PyResult<Self> {
        let options = Options { connect_timeout, response_timeout, client_name, username, password, db };
        let config = Config::from_url(url)?.with_options(options)?;
        let serializer = match (serializer, dumps, loads) {
            ("pickle", ..) => Serializer::Pickle,
            ("msgpack", ..) => Serializer::Msgpack,
            ("json", ..) => Serializer::Json,
            (_, Some(dumps), Some(loads)) => Serializer::Custom { dumps, loads },
            _ => Serializer::Auto,
        };
        let codec = Codec::new(
            py,
            CodecOptions {
                serializer,
                compress_min_len,
                max_value_len,
                signing_keys: signing_keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            },
        )?;
        let connection = vcache::Connection::new(alias, config).with_key_prefix(key_prefix);
        Ok(Self {
            shared: Arc::new(Shared {
                connection,
                codec,
                ignore_exceptions,
                on_miss,
                on_error,
                on_untracked,
                on_unscripted,
                scripting: scripts::Scripting::default(),
            }),
        })
    }

    /// Makes this connection the one that Rust knows by `alias`: hot paths run on it.
    fn publish(&self, alias: &str) {
        vcache::publish(alias, &self.shared.connection);
    }

    fn __repr__(&self) -> String {
        format!("<Client {:?}>", self.shared.connection)
    }

    fn get(
        &self,
        cache: &Object<'_>,
        key: &Object<'_>,
        default: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::get(&self.shared, cache, key, default, version)?)
    }

    fn aget<'py>(
        &self,
        cache: &Object<'py>,
        key: &Object<'_>,
        default: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::get(&self.shared, cache, key, default, version)?)
    }

    fn get_many(&self, cache: &Object<'_>, keys: &Object<'_>, version: &Object<'_>) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::get_many(&self.shared, cache, keys, version)?)
    }

    fn aget_many<'py>(
        &self,
        cache: &Object<'py>,
        keys: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::get_many(&self.shared, cache, keys, version)?)
    }

    fn set(
        &self,
        cache: &Object<'_>,
        key: &Object<'_>,
        value: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::set(&self.shared, cache, key, value, timeout, version)?)
    }

    fn aset<'py>(
        &self,
        cache: &Object<'py>,
        key: &Object<'_>,
        value: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::set(&self.shared, cache, key, value, timeout, version)?)
    }

    fn add(
        &self,
        cache: &Object<'_>,
        key: &Object<'_>,
        value: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::add(&self.shared, cache, key, value, timeout, version)?)
    }

    fn aadd<'py>(
        &self,
        cache: &Object<'py>,
        key: &Object<'_>,
        value: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::add(&self.shared, cache, key, value, timeout, version)?)
    }

    fn set_many(
        &self,
        cache: &Object<'_>,
        data: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::set_many(&self.shared, cache, data, timeout, version)?)
    }

    fn aset_many<'py>(
        &self,
        cache: &Object<'py>,
        data: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::set_many(&self.shared, cache, data, timeout, version)?)
    }

    fn touch(
        &self,
        cache: &Object<'_>,
        key: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::touch(&self.shared, cache, key, timeout, version)?)
    }

    fn atouch<'py>(
        &self,
        cache: &Object<'py>,
        key: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::touch(&self.shared, cache, key, timeout, version)?)
    }

    fn delete(&self, cache: &Object<'_>, key: &Object<'_>, version: &Object<'_>) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::delete(&self.shared, cache, key, version)?)
    }

    fn adelete<'py>(
        &self,
        cache: &Object<'py>,
        key: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::delete(&self.shared, cache, key, version)?)
    }

    fn delete_many(
        &self,
        cache: &Object<'_>,
        keys: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::delete_many(&self.shared, cache, keys, version)?)
    }

    fn adelete_many<'py>(
        &self,
        cache: &Object<'py>,
        keys: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::delete_many(&self.shared, cache, keys, version)?)
    }

    fn has_key(&self, cache: &Object<'_>, key: &Object<'_>, version: &Object<'_>) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::has_key(&self.shared, cache, key, version)?)
    }

    fn ahas_key<'py>(
        &self,
        cache: &Object<'py>,
        key: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::has_key(&self.shared, cache, key, version)?)
    }

    fn incr(
        &self,
        cache: &Object<'_>,
        key: &Object<'_>,
        delta: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Py<PyAny>> {
        let (future, finish) = self.incr_parts(cache, key, delta, version)?;
        finish(cache.py(), block_on(cache.py(), future)?)
    }

    fn aincr<'py>(
        &self,
        cache: &Object<'py>,
        key: &Object<'_>,
        delta: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        let (future, finish) = self.incr_parts(cache, key, delta, version)?;
        spawn(cache.py(), Steps::Many, future, finish)
    }

    fn move_version(
        &self,
        cache: &Object<'_>,
        key: &Object<'_>,
        from: &Object<'_>,
        to: &Object<'_>,
    ) -> PyResult<Py<PyAny>> {
        self.run(cache.py(), ops::move_version(&self.shared, cache, key, from, to)?)
    }

    fn amove_version<'py>(
        &self,
        cache: &Object<'py>,
        key: &Object<'_>,
        from: &Object<'_>,
        to: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        self.start(cache.py(), ops::move_version(&self.shared, cache, key, from, to)?)
    }

    fn wait_changed(
        &self,
        cache: &Object<'_>,
        key: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Py<PyAny>> {
        let (future, finish) = self.change_parts(cache, key, timeout, version)?;
        finish(cache.py(), block_on(cache.py(), future)?)
    }

    fn await_changed<'py>(
        &self,
        cache: &Object<'py>,
        key: &Object<'_>,
        timeout: &Object<'_>,
        version: &Object<'_>,
    ) -> PyResult<Object<'py>> {
        let (future, finish) = self.change_parts(cache, key, timeout, version)?;
        spawn(cache.py(), Steps::Many, future, finish)
    }

    /// Empties the whole database.
    fn flush(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.run(py, ops::flush(&self.shared))
    }

    fn aflush<'py>(&self, py: Python<'py>) -> PyResult<Object<'py>> {
        self.start(py, ops::flush(&self.shared))
    }

    /// Deletes every key that has the first of the layouts, with an integer for a version or with `version`, and none of
    /// the others.
    fn sweep(
        &self,
        py: Python<'_>,
        layouts: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
        version: &str,
    ) -> PyResult<Py<PyAny>> {
        let (future, finish) = self.sweep_parts(layouts, version)?;
        finish(py, block_on(py, future)?)
    }

    fn asweep<'py>(
        &self,
        py: Python<'py>,
        layouts: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
        version: &str,
    ) -> PyResult<Object<'py>> {
        let (future, finish) = self.sweep_parts(layouts, version)?;
        spawn(py, Steps::Many, future, finish)
    }

    #[pyo3(signature = (*arguments))]
    fn execute(&self, arguments: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.run(arguments.py(), self.any_command(arguments)?)
    }

    #[pyo3(signature = (*arguments))]
    fn aexecute<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Object<'py>> {
        self.start(arguments.py(), self.any_command(arguments)?)
    }
}

impl Client {
    fn any_command(&self, arguments: &Bound<'_, PyTuple>) -> PyResult<Operation<impl Answer + use<>>> {
        let command = ops::command(arguments)?;
        let packet = Packet::try_from(&command).map_err(|error| {
            to_exception(arguments.py(), &error.with_alias(self.shared.connection.alias()))
        })?;
        Ok(Operation::Send(packet, ops::plain(&self.shared)))
    }
}
