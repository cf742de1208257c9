//! `get_many`: the values that are there, by the keys as they were given.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use vcache::python::free;
use vcache::{Packet, Value};

use super::get::key_of;
use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn get_many(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    wanted: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
    let py = cache.py();
    let wanted: Vec<Py<PyAny>> =
        wanted.try_iter()?.map(|key| key.map(Bound::unbind)).collect::<PyResult<_>>()?;
    if wanted.is_empty() {
        return Ok(Exchange::Done(PyDict::new(py).into_any().unbind()));
    }
    let mut packet = Packet::command("MGET", wanted.len());
    for key in &wanted {
        packet.arg_with(|out| keys::append(cache, key.bind(py), version, out))?;
    }
    let shared = Arc::clone(shared);
    Ok(Exchange::send(packet, move |py: Python<'_>, result, packet: &Packet| {
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
