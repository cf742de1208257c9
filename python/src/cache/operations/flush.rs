//! `flush`: empties the database, of each primary of a cluster.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::{Connection, Packet, Result};

use crate::cache::forms::{Conversation, Operation};
use crate::cache::replies::Shared;

pub(in crate::cache) fn flush(shared: &Arc<Shared>) -> PyResult<impl Operation + use<>> {
    let shared = Arc::clone(shared);
    Ok(Conversation::new(run(shared.connection.clone()), move |py: Python<'_>, done| {
        let _ignored = shared.outcome(py, done)?;
        Ok(py.None())
    }))
}

async fn run(connection: Connection) -> Result<()> {
    let mut before = connection.primaries().await?;
    loop {
        connection.check(connection.send(Packet::command("FLUSHDB", 0)).await?)?;
        // A slot that moved meanwhile may have taken keys along.
        let after = connection.primaries().await?;
        if before.that_gained(&after).is_empty() {
            return Ok(());
        }
        before = after;
    }
}
