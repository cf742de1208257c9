//! `add`: stores a value if there is none, and answers whether it did.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::{Packet, Value};

use super::answers::boolean;
use super::set::store;
use crate::cache::expiry::Expiry;
use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn add(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    value: &Object<'_>,
    timeout: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
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
    Ok(Exchange::send(packet, move |py: Python<'_>, result, _: &Packet| {
        let reply = shared.reply(py, result)?;
        let added =
            if only_asks { matches!(reply, Ok(Value::Int(0))) } else { matches!(reply, Ok(Value::Okay)) };
        Ok(boolean(py, added))
    }))
}
