//! `move_version`: a key's value under another version, which `incr_version` and `decr_version` are made of.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vcache::{Packet, Value};

use super::answers::missing_key;
use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

/// Renames the key of one version to that of another, which keeps its time to live.
pub(in crate::cache) fn move_version(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    from: &Object<'_>,
    to: &Object<'_>,
) -> PyResult<impl Operation> {
    let mut packet = Packet::command("RENAME", 2);
    packet.arg(&keys::build(cache, key, from)?).arg(&keys::build(cache, key, to)?);
    let missing = PyValueError::new_err(missing_key(key)?);
    let (shared, to) = (Arc::clone(shared), to.clone().unbind());
    Ok(Exchange::send(packet, move |py: Python<'_>, result, _: &Packet| {
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
