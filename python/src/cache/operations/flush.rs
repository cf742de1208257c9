//! `flush`: empties the database.

use std::sync::Arc;

use pyo3::prelude::*;
use vcache::Packet;

use super::answers::nothing;
use crate::cache::forms::{Exchange, Operation};
use crate::cache::replies::Shared;

pub(in crate::cache) fn flush(shared: &Arc<Shared>) -> PyResult<impl Operation> {
    Ok(Exchange::send(Packet::command("FLUSHDB", 0), nothing(shared)))
}
