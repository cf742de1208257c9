//! A project as the cache has it: its key and its limits. What is not there is loaded from Django's database, and kept also
//! if there is no such project, so that clients with a wrong address do not reach the database.

use serde::Deserialize;
use vcache::pyo3::exceptions::PyRuntimeError;
use vcache::pyo3::prelude::*;
use vcache::{Awaitable, Connection};

use crate::settings;

/// Seconds for which a project is kept. A change deletes it at once; this is for a change that the cache missed.
const KNOWN_FOR: u64 = 60;
/// Seconds for which it is kept that there is none.
const UNKNOWN_FOR: u64 = 10;
/// What is kept for a project that is not there.
const NONE: &[u8] = b"null";

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

/// The project of this number. `None` if there is none that takes events.
///
/// # Errors
/// The connection's; those of the database, which the loader has raised; `Value` for a record that is not one.
pub async fn find(conn: &mut Connection, id: u64) -> vcache::Result<Option<Project>> {
    let name = format!("{}project:{id}", settings::get()?.prefix);
    let record = match conn.get::<_, Option<Vec<u8>>>(&name).await? {
        Some(record) => record,
        None => {
            let loaded = load(id).await?;
            let seconds = if loaded.is_some() { KNOWN_FOR } else { UNKNOWN_FOR };
            let record = loaded.unwrap_or_else(|| NONE.to_vec());
            let () = conn.set_ex(&name, &record, seconds).await?;
            record
        }
    };
    sonic_rs::from_slice(&record).map_err(|_| {
        vcache::Error::value(format!("the record of project {id} in the cache is not one of ours"))
    })
}

enum Loading {
    Begun(Awaitable),
    Done(Option<Vec<u8>>),
}

/// Asks Django: in a task if this runs on an event loop, else on this thread.
async fn load(id: u64) -> vcache::Result<Option<Vec<u8>>> {
    let begin = |py: Python<'_>| {
        let projects = py.import("tracker.projects")?;
        if py.import("asyncio")?.call_method0("_get_running_loop")?.is_none() {
            return projects.call_method1("load", (id,))?.extract().map(Loading::Done);
        }
        projects.call_method1("aload", (id,))?.extract().map(Loading::Begun)
    };
    let begun = Python::try_attach(begin)
        .unwrap_or_else(|| Err(PyRuntimeError::new_err("the interpreter is ending")))?;
    match begun {
        Loading::Begun(loading) => loading.extract().await,
        Loading::Done(loaded) => Ok(loaded),
    }
}
