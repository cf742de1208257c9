//! `delete_many`: deletes keys, by one command.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::Packet;

use super::answers::nothing;
use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn delete_many(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    unwanted: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
    let keys: Vec<Vec<u8>> =
        unwanted.try_iter()?.map(|key| keys::build(cache, &key?, version)).collect::<PyResult<_>>()?;
    if keys.is_empty() {
        return Ok(Exchange::Done(cache.py().None()));
    }
    // Its count is not looked at.
    let mut packet = Packet::command("UNLINK", keys.len()).repeatable(true);
    for key in &keys {
        packet.arg(key);
    }
    Ok(Exchange::send(packet, nothing(shared)))
}
