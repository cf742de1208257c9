//! `touch`: gives a key another time to live, and answers whether it was there.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::{Packet, Value};

use super::answers::{boolean, is_positive};
use crate::cache::expiry::Expiry;
use crate::cache::forms::{Exchange, Object, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn touch(
    shared: &Arc<Shared>,
    cache: &Object<'_>,
    key: &Object<'_>,
    timeout: &Object<'_>,
    version: &Object<'_>,
) -> PyResult<impl Operation> {
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
    Ok(Exchange::send(packet, move |py: Python<'_>, result: vcache::Result<Value>, _: &Packet| {
        let result = result.map(|reply| match reply {
            Value::Array(mut replies) => replies.pop().unwrap_or(Value::Nil),
            single => single,
        });
        Ok(boolean(py, is_positive(shared.reply(py, result)?)))
    }))
}
