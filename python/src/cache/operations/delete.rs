//! `delete`: deletes a key, and answers whether it was there.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::Packet;

use super::answers::whether_positive;
use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn delete(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
    // Executed twice, it would say False to the one who did delete.
    let mut packet = Packet::command("UNLINK", 1);
    packet.arg(&keys::build(cache, key, version)?);
    Ok(Exchange::send(packet, whether_positive(shared)))
}
