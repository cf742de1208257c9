//! `set`: stores a value for as long as its timeout says.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::Packet;

use super::answers::nothing;
use crate::cache::expiry::Expiry;
use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn set(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    value: &Object<'_>,
    timeout: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
    let expiry = Expiry::of(cache, timeout)?;
    let key = keys::build(cache, key, version)?;
    // Also an UNLINK: its count is not looked at.
    let mut packet = Packet::pipeline().repeatable(true);
    if expiry == Expiry::AtOnce {
        packet.then("UNLINK", 1).arg(&key);
    } else {
        store(shared, &mut packet, &key, value, expiry, &[])?;
    }
    Ok(Exchange::send(packet, nothing(shared)))
}

/// Appends a SET of `value` as `expiry` says; what expires at once is deleted instead.
pub(super) fn store(
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
