//! `get`: a value, or the default.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::python::free;
use vcache::{Packet, Value};

use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn get(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    default: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
    let mut packet = Packet::command("GET", 1);
    packet.arg_with(|out| keys::append(cache, key, version, out))?;
    let (shared, default) = (Arc::clone(shared), default.clone().unbind());
    Ok(Exchange::send(packet, move |py: Python<'_>, result, packet: &Packet| {
        let Ok(Value::BulkString(stored)) = shared.reply(py, result)? else { return Ok(default) };
        let value = shared.decode(py, || key_of(packet, 0), &stored)?;
        free(py, stored);
        Ok(value.map_or(default, Bound::unbind))
    }))
}

/// One of a packet's keys, for people.
pub(super) fn key_of(packet: &Packet, index: usize) -> String {
    let keys = packet.keys().unwrap_or_default();
    keys.get(index).map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default()
}
