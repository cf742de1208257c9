//! Each operation of the cache API, as what to send and what Python gets for the outcome. `client.rs` runs them.

use std::sync::Arc;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use vcache::python::{free, to_python};
use vcache::{Packet, Value};

use super::expiry::Expiry;
use super::keys;
use super::replies::Shared;
use super::scripts::Outcome;

pub(super) type Object<'py> = Bound<'py, PyAny>;

/// Makes Python's answer of an outcome.
pub(super) trait Finish<T>:
    FnOnce(Python<'_>, vcache::Result<T>) -> PyResult<Py<PyAny>> + Send + 'static
{
}

impl<T, F> Finish<T> for F where
    F: FnOnce(Python<'_>, vcache::Result<T>) -> PyResult<Py<PyAny>> + Send + 'static
{
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

/// One operation.
pub(super) enum Operation<F> {
    /// It goes to the server.
    Send(Packet, F),
    /// There is nothing to send.
    Done(Py<PyAny>),
}

type Prepared<F> = PyResult<Operation<F>>;

fn boolean(py: Python<'_>, truth: bool) -> Py<PyAny> {
    PyBool::new(py, truth).to_owned().into_any().unbind()
}

/// Whether the reply is a count above 0; `false` where the error was ignored.
fn is_positive(reply: Result<Value, ()>) -> bool {
    matches!(reply, Ok(Value::Int(count)) if count > 0)
}

pub(super) fn get(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    default: &Object<'_>,
    version: &Object<'_>,
) -> Prepared<impl Answer> {
    let mut packet = Packet::command("GET", 1);
    packet.arg_with(|out| keys::append(cache, key, version, out))?;
    let (shared, default) = (Arc::clone(shared), default.clone().unbind());
    Ok(Operation::Send(packet, move |py: Python<'_>, result, packet: &Packet| {
        let Ok(Value::BulkString(stored)) = shared.reply(py, result)? else { return Ok(default) };
        let value = shared.decode(py, || key_of(packet, 0), &stored)?;
        free(py, stored);
        Ok(value.map_or(default, Bound::unbind))
    }))
}

pub(super) fn get_many(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    wanted: &Object<'_>,
    version: &Object<'_>,
) -> Prepared<impl Answer> {
    let py = cache.py();
    let wanted: Vec<Py<PyAny>> =
        wanted.try_iter()?.map(|key| key.map(Bound::unbind)).collect::<PyResult<_>>()?;
    if wanted.is_empty() {
        return Ok(Operation::Done(PyDict::new(py).into_any().unbind()));
    }
    let mut packet = Packet::command("MGET", wanted.len());
    for key in &wanted {
        packet.arg_with(|out| keys::append(cache, key.bind(py), version, out))?;
    }
    let shared = Arc::clone(shared);
    Ok(Operation::Send(packet, move |py: Python<'_>, result, packet: &Packet| {
        let found = PyDict::new(py);
        if let Ok(Value::Array(values)) = shared.reply(py, result)? {
            for (index, (name, value)) in wanted.iter().zip(values).enumerate() {
                if let Value::BulkString(stored) = value
                    && let Some(value) = shared.decode(py, || key_of(packet, index), &stored)?
                {
                    found.set_item(name, value)?;
                    free(py, stored);
                }
            }
        }
        Ok(found.into_any().unbind())
    }))
}

/// One of a packet's keys, for people.
fn key_of(packet: &Packet, index: usize) -> String {
    let keys = packet.keys().unwrap_or_default();
    keys.get(index).map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default()
}

/// Appends a SET of `value` as `expiry` says; what expires at once is deleted instead.
fn store(
    shared: &Shared,
    packet: &mut Packet,
    key: &[u8],
    value: &Object<'_>,
    expiry: Expiry,
    extra: &[&[u8]],
) -> PyResult<()> {
    let expires = if matches!(expiry, Expiry::After(_)) { 2 } else { 0 };
    packet.then("SET", 2 + extra.len() + expires).arg(key);
    packet.arg_with(|out| shared.codec.encode(value, out))?;
    for option in extra {
        packet.arg(option);
    }
    if let Expiry::After(milliseconds) = expiry {
        packet.arg(b"PX").int(milliseconds);
    }
    Ok(())
}

pub(super) fn set(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    value: &Object<'_>,
    timeout: &Object<'_>,
    version: &Object<'_>,
) -> Prepared<impl Answer> {
    let expiry = Expiry::of(cache, timeout)?;
    let key = keys::build(cache, key, version)?;
    // Also an UNLINK: its count is not looked at.
    let mut packet = Packet::pipeline().repeatable(true);
    if expiry == Expiry::AtOnce {
        packet.then("UNLINK", 1).arg(&key);
    } else {
        store(shared, &mut packet, &key, value, expiry, &[])?;
    }
    let shared = Arc::clone(shared);
    Ok(Operation::Send(packet, move |py: Python<'_>, result, _: &Packet| {
        let _ignored = shared.reply(py, result)?;
        Ok(py.None())
    }))
}

pub(super) fn add(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    value: &Object<'_>,
    timeout: &Object<'_>,
    version: &Object<'_>,
) -> Prepared<impl Answer> {
    let expiry = Expiry::of(cache, timeout)?;
    let key = keys::build(cache, key, version)?;
    // Executed twice, it would say False to the one who did add.
    let mut packet = Packet::pipeline().repeatable(false);
    let only_asks = expiry == Expiry::AtOnce;
    if only_asks {
        packet.then("EXISTS", 1).arg(&key);
    } else {
        store(shared, &mut packet, &key, value, expiry, &[b"NX"])?;
    }
    let shared = Arc::clone(shared);
    Ok(Operation::Send(packet, move |py: Python<'_>, result, _: &Packet| {
        let reply = shared.reply(py, result)?;
        let added =
            if only_asks { matches!(reply, Ok(Value::Int(0))) } else { matches!(reply, Ok(Value::Okay)) };
        Ok(boolean(py, added))
    }))
}

pub(super) fn set_many(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    data: &Object<'_>,
    timeout: &Object<'_>,
    version: &Object<'_>,
) -> Prepared<impl Answer> {
    let py = cache.py();
    let expiry = Expiry::of(cache, timeout)?;
    // Also an UNLINK: its count is not looked at.
    let mut packet = Packet::pipeline().repeatable(true);
    let mut names: Vec<Py<PyAny>> = Vec::new();
    for pair in data.call_method0("items")?.try_iter()? {
        let (name, value): (Object<'_>, Object<'_>) = pair?.extract()?;
        let key = keys::build(cache, &name, version)?;
        if expiry == Expiry::AtOnce {
            packet.then("UNLINK", 1).arg(&key);
        } else {
            store(shared, &mut packet, &key, &value, expiry, &[])?;
        }
        names.push(name.unbind());
    }
    if names.is_empty() {
        return Ok(Operation::Done(PyList::empty(py).into_any().unbind()));
    }
    let shared = Arc::clone(shared);
    Ok(Operation::Send(packet, move |py: Python<'_>, result, _: &Packet| {
        let replies = match shared.outcome(py, result)? {
            Ok(Value::Array(replies)) => replies,
            Ok(single) => vec![single],
            // Django's answer for values that were not stored is the list of their keys.
            Err(()) => return Ok(PyList::new(py, names)?.into_any().unbind()),
        };
        let failed = PyList::empty(py);
        for (name, reply) in names.into_iter().zip(replies) {
            if let Err(()) = shared.reply(py, Ok(reply))? {
                failed.append(name)?;
            }
        }
        Ok(failed.into_any().unbind())
    }))
}

pub(super) fn touch(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    timeout: &Object<'_>,
    version: &Object<'_>,
) -> Prepared<impl Answer> {
    let expiry = Expiry::of(cache, timeout)?;
    let key = keys::build(cache, key, version)?;
    // The answer is whether the key was there, which only an UNLINK changes.
    let mut packet = Packet::pipeline().repeatable(expiry != Expiry::AtOnce);
    match expiry {
        Expiry::AtOnce => {
            packet.then("UNLINK", 1).arg(&key);
        }
        Expiry::After(milliseconds) => {
            packet.then("PEXPIRE", 2).arg(&key).int(milliseconds);
        }
        Expiry::Never => {
            // PERSIST says 0 for a key that had no time to live, so the answer is EXISTS's.
            packet.then("PERSIST", 1).arg(&key);
            packet.then("EXISTS", 1).arg(&key);
        }
    }
    let shared = Arc::clone(shared);
    Ok(Operation::Send(packet, move |py: Python<'_>, result: vcache::Result<Value>, _: &Packet| {
        let result = result.map(|reply| match reply {
            Value::Array(mut replies) => replies.pop().unwrap_or(Value::Nil),
            single => single,
        });
        Ok(boolean(py, is_positive(shared.reply(py, result)?)))
    }))
}

pub(super) fn delete(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    version: &Object<'_>,
) -> Prepared<impl Answer> {
    // Executed twice, it would say False to the one who did delete.
    one_key_question(shared, cache, key, version, "UNLINK")
}

pub(super) fn has_key(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    version: &Object<'_>,
) -> Prepared<impl Answer> {
    one_key_question(shared, cache, key, version, "EXISTS")
}

fn one_key_question(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    version: &Object<'_>,
    command: &str,
) -> Prepared<impl Answer + use<>> {
    let mut packet = Packet::command(command, 1);
    packet.arg(&keys::build(cache, key, version)?);
    let shared = Arc::clone(shared);
    Ok(Operation::Send(packet, move |py: Python<'_>, result, _: &Packet| {
        Ok(boolean(py, is_positive(shared.reply(py, result)?)))
    }))
}

pub(super) fn delete_many(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    unwanted: &Object<'_>,
    version: &Object<'_>,
) -> Prepared<impl Answer> {
    let keys: Vec<Vec<u8>> =
        unwanted.try_iter()?.map(|key| keys::build(cache, &key?, version)).collect::<PyResult<_>>()?;
    if keys.is_empty() {
        return Ok(Operation::Done(cache.py().None()));
    }
    // Its count is not looked at.
    let mut packet = Packet::command("UNLINK", keys.len()).repeatable(true);
    for key in &keys {
        packet.arg(key);
    }
    Ok(Operation::Send(packet, nothing(shared)))
}

pub(super) fn flush(shared: &Arc<Shared>) -> Operation<impl Answer> {
    Operation::Send(Packet::command("FLUSHDB", 0), nothing(shared))
}

/// The answer is None, whatever the reply.
fn nothing(shared: &Arc<Shared>) -> impl Answer + use<> {
    let shared = Arc::clone(shared);
    move |py: Python<'_>, result, _: &Packet| {
        let _ignored = shared.reply(py, result)?;
        Ok(py.None())
    }
}

/// Renames the key of one version to that of another, which keeps its time to live.
pub(super) fn move_version(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    from: &Object<'_>,
    to: &Object<'_>,
) -> Prepared<impl Answer> {
    let mut packet = Packet::command("RENAME", 2);
    packet.arg(&keys::build(cache, key, from)?).arg(&keys::build(cache, key, to)?);
    let missing = PyValueError::new_err(missing_key(key)?);
    let (shared, to) = (Arc::clone(shared), to.clone().unbind());
    Ok(Operation::Send(packet, move |py: Python<'_>, result, _: &Packet| {
        if matches!(&result, Ok(Value::ServerError(error)) if error.details().is_some_and(|d| d.contains("no such key")))
        {
            return Err(missing);
        }
        match shared.reply(py, result)? {
            Ok(_) => Ok(to),
            Err(()) => Err(missing),
        }
    }))
}

/// Django's words for a key that is not there.
fn missing_key(key: &Object<'_>) -> PyResult<String> {
    Ok(format!("Key '{}' not found", key.str()?.to_str()?))
}

/// The `delta` of `incr`.
pub(super) fn delta(delta: &Object<'_>) -> PyResult<i64> {
    delta.extract().map_err(|error: PyErr| {
        let shown = keys::shown(delta);
        if error.is_instance_of::<PyOverflowError>(delta.py()) {
            PyOverflowError::new_err(format!("delta must fit into 64 bits, and {shown} does not"))
        } else {
            PyTypeError::new_err(format!("delta must be an int, not {shown}"))
        }
    })
}

/// What `incr` answers.
pub(super) fn incremented(
    shared: &Arc<Shared>,
    key: &Object<'_>,
    stored_as: &[u8],
) -> PyResult<impl Finish<Outcome> + use<>> {
    let missing = missing_key(key)?;
    let (shared, stored_as) = (Arc::clone(shared), stored_as.to_vec());
    Ok(move |py: Python<'_>, result: vcache::Result<Outcome>| match shared.outcome(py, result)? {
        Ok(Outcome::Number(number)) => Ok(number.into_pyobject(py)?.into_any().unbind()),
        Ok(Outcome::Missing) | Err(()) => Err(PyValueError::new_err(missing)),
        Ok(Outcome::Other(stored)) => {
            let Some(value) =
                shared.decode(py, || String::from_utf8_lossy(&stored_as).into_owned(), &stored)?
            else {
                return Err(PyValueError::new_err(missing));
            };
            let message =
                format!("cannot increment or decrement a value of type {}", value.get_type().name()?);
            Err(PyTypeError::new_err(message))
        }
    })
}

/// Any command: `("CLIENT", "ID")`.
pub(super) fn command(arguments: &Bound<'_, PyTuple>) -> PyResult<vcache::redis::Cmd> {
    let mut command = vcache::redis::Cmd::new();
    if arguments.is_empty() {
        return Err(PyValueError::new_err("execute() needs a command: execute('CLIENT', 'ID')"));
    }
    for (index, argument) in arguments.iter().enumerate() {
        let wrong = |what: String| format!("execute(): argument {} {what}", index + 1);
        if let Ok(text) = argument.cast::<PyString>() {
            let utf8 = text.to_str().map_err(|_| PyValueError::new_err(wrong(keys::not_utf8(&argument))))?;
            command.arg(utf8);
        } else if argument.is_exact_instance_of::<PyFloat>() {
            command.arg(argument.str()?.to_str()?);
        } else if argument.is_instance_of::<PyInt>() && !argument.is_instance_of::<PyBool>() {
            // The number, also of an enum's member, whose `str` is its name.
            let number = argument.py().get_type::<PyInt>().call1((&argument,))?;
            command.arg(number.str()?.to_str()?);
        } else {
            let bytes = argument.extract::<vcache::python::Bytes>().map_err(|_| {
                let class = argument.get_type();
                let name = class.name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
                PyTypeError::new_err(wrong(format!("must be str, bytes, int or float, not {name}")))
            })?;
            command.arg(&*bytes);
        }
    }
    Ok(command)
}

/// The reply of `execute`.
pub(super) fn plain(shared: &Arc<Shared>) -> impl Answer + use<> {
    let shared = Arc::clone(shared);
    move |py: Python<'_>, result: vcache::Result<Value>, _: &Packet| {
        to_python(py, result.and_then(|reply| shared.connection.check(reply))?).map(Bound::unbind)
    }
}
