//! A project as the cache has it: its key and its limits. What is not there is loaded from Django's database, and kept also
//! if there is no such project, so that clients with a wrong address do not reach the database.

use serde::Deserialize;
use vcache::pyo3::exceptions::PyRuntimeError;
use vcache::pyo3::prelude::*;
use vcache::{Awaitable, Connection, Error, ErrorKind};

use crate::settings;

/// Seconds for which a project is kept. A change deletes it at once; this is for a change that the cache missed.
const KNOWN_FOR: u64 = 60;
/// Seconds for which it is kept that there is none.
const UNKNOWN_FOR: u64 = 10;
/// What is kept for a project that is not there.
const NOTHING: &[u8] = b"null";

/// What `tracker.projects` writes, as JSON.
#[derive(Debug, Deserialize)]
pub struct Project {
    /// What its clients prove themselves with.
    pub key: String,
    /// Events a minute; -1 is no limit.
    pub rate: i64,
    /// Events a month; -1 is no limit.
    pub events: i64,
    /// Bytes of events a month; -1 is no limit.
    pub bytes: i64,
}

/// What is known of a number.
#[derive(Debug)]
pub enum Found {
    /// A project that takes events.
    Project(Project),
    /// There is none.
    Nothing,
    /// It cannot be looked up now.
    Away,
}

/// The project of a number.
///
/// # Errors
/// `Value` for a record that is not one; what is no outage.
pub async fn find(conn: &mut Connection, id: u64) -> vcache::Result<Found> {
    match record(conn, id).await {
        Ok(None) => Ok(Found::Away),
        Ok(Some(record)) => match sonic_rs::from_slice(&record) {
            Ok(found) => Ok(Option::map_or(found, Found::Nothing, Found::Project)),
            Err(_) => {
                Err(Error::value(format!("the record of project {id} in the cache is not one of ours")))
            }
        },
        Err(error) if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout) => Ok(Found::Away),
        Err(error) => Err(error),
    }
}

/// From the cache, or loaded into it. `None` if the database is away.
async fn record(conn: &mut Connection, id: u64) -> vcache::Result<Option<Vec<u8>>> {
    let name = format!("{}project:{id}", settings::get()?.prefix);
    if let Some(record) = conn.get::<_, Option<Vec<u8>>>(&name).await? {
        return Ok(Some(record));
    }
    let Some(record) = load(id).await? else { return Ok(None) };
    let seconds = if record == NOTHING { UNKNOWN_FOR } else { KNOWN_FOR };
    let () = conn.set_ex(&name, &record, seconds).await?;
    Ok(Some(record))
}

/// Asks Django, on the event loop that this is polled on.
async fn load(id: u64) -> vcache::Result<Option<Vec<u8>>> {
    let begin = |py: Python<'_>| -> PyResult<Awaitable> {
        py.import("tracker.projects")?.call_method1("aload", (id,))?.extract()
    };
    let ending = || Err(PyRuntimeError::new_err("the interpreter is ending"));
    Python::try_attach(begin).unwrap_or_else(ending)?.extract().await
}
