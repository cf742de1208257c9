//! `move_version`: a key's value under another version, which `incr_version` and `decr_version` are made of.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vcache::{Connection, Packet, Result, Value};

use super::answers::missing_key;
use crate::cache::forms::{Conversation, Object, Operation};
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
    let old = keys::build(cache, key, from)?.to_vec();
    let new = keys::build(cache, key, to)?.to_vec();
    let missing = PyValueError::new_err(missing_key(key)?);
    let (shared, to) = (Arc::clone(shared), to.clone().unbind());
    Ok(Conversation::new(rename(shared.connection.clone(), old, new), move |py: Python<'_>, result| {
        match shared.outcome(py, result)? {
            Ok(true) => Ok(to),
            Ok(false) | Err(()) => Err(missing),
        }
    }))
}

/// Whether there was such a key.
async fn rename(connection: Connection, old: Vec<u8>, new: Vec<u8>) -> Result<bool> {
    let mut packet = Packet::command("RENAME", 2);
    packet.arg(&old).arg(&new);
    let reply = match connection.send(packet).await {
        Ok(reply) => reply,
        // The two are in different slots of a cluster.
        Err(error) if error.code() == Some("CROSSSLOT") => return carry_over(&connection, &old, &new).await,
        Err(error) => return Err(error),
    };
    if matches!(&reply, Value::ServerError(error) if error.details().is_some_and(|d| d.contains("no such key")))
    {
        return Ok(false);
    }
    connection.check(reply).map(|_| true)
}

/// Writes the value to the other key, on another node perhaps, and deletes the old one when that is done. Other than `RENAME`
/// it is not atomic: for a moment both keys are there, and what others write to the old one meanwhile is lost.
async fn carry_over(connection: &Connection, old: &[u8], new: &[u8]) -> Result<bool> {
    let mut look = Packet::pipeline();
    look.then("DUMP", 1).arg(old);
    look.then("PTTL", 1).arg(old);
    let Value::Array(mut replies) = connection.send(look).await? else { return Ok(false) };
    let left = replies.pop().map(|left| connection.check(left)).transpose()?;
    let dump = replies.pop().map(|dump| connection.check(dump)).transpose()?;
    let (Some(Value::BulkString(dump)), Some(Value::Int(left))) = (dump, left) else { return Ok(false) };
    if left == -2 {
        // It expired between the two.
        return Ok(false);
    }
    // To write the same value twice does no harm.
    let mut write = Packet::command("RESTORE", 4).repeatable(true);
    write.arg(new).int(left.max(0)).arg(&dump).arg(b"REPLACE");
    connection.check(connection.send(write).await?)?;
    let mut delete = Packet::command("UNLINK", 1).repeatable(true);
    delete.arg(old);
    connection.check(connection.send(delete).await?)?;
    Ok(true)
}
