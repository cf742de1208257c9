//! `has_key`: whether a key is there.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::Packet;

use super::answers::whether_positive;
use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn has_key(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
    let mut packet = Packet::command("EXISTS", 1);
    packet.arg(&keys::build(cache, key, version)?);
    Ok(Exchange::send(packet, whether_positive(shared)))
}
