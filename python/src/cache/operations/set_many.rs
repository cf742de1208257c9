//! `set_many`: stores many values, and answers the keys of those that were not stored.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyList;
use vcache::{Packet, Value};

use super::set::store;
use crate::cache::expiry::Expiry;
use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn set_many(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    data: &Object<'_>,
    timeout: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
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
        return Ok(Exchange::Done(PyList::empty(py).into_any().unbind()));
    }
    let shared = Arc::clone(shared);
    Ok(Exchange::send(packet, move |py: Python<'_>, result, _: &Packet| {
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
