//! The hot routes of the error tracker: what Sentry's clients send is checked here, admitted and put on a stream, before
//! Django's handler is entered, on the connection of the cache alias `default`.

mod admission;
mod answer;
mod auth;
mod client_report;
mod counts;
mod envelope;
mod event;
mod event_id;
mod ingest;
mod json;
mod project;
mod refusal;
mod settings;

/// The hot routes, and what the pages ask of them.
#[vcache::module]
mod _native {
    use vcache::prelude::*;
    use vcache::pyo3::pyfunction;

    use crate::settings::{self, Settings};
    use crate::{counts, ingest};

    /// Tell what Django's settings say, once: what the names of keys begin with, and how many events may wait.
    #[pyfunction]
    #[pyo3(crate = "::vcache::pyo3")]
    fn configure(prefix: String, maxlen: u64) {
        settings::set(Settings { prefix, maxlen });
    }

    /// Take an envelope of Sentry's protocol: several items, of which events go on the stream.
    // Begun is done to its end: an event that is on the stream is also counted.
    #[hotpath(only = "async", cancel = "finish")]
    pub async fn envelope(
        conn: &mut Connection,
        request: Request,
        project_id: u64,
    ) -> vcache::Result<Response> {
        ingest::envelope(conn, project_id, &request).await?.response()
    }

    /// Take an event alone, as older clients send it.
    #[hotpath(only = "async", cancel = "finish")]
    pub async fn store(conn: &mut Connection, request: Request, project_id: u64) -> vcache::Result<Response> {
        ingest::store(conn, project_id, &request).await?.response()
    }

    /// The counts of a project, or of all if it is 0, in each of `minutes` from `first`, both in minutes since 1970: the
    /// second since 1970 at which a slot of 5 seconds begins, what became of the events, and how many they were. What
    /// this process has counted is among them.
    #[hotpath]
    pub async fn read_counts(
        conn: &mut Connection,
        project_id: u64,
        first: u64,
        minutes: u64,
    ) -> vcache::Result<Vec<(u64, String, u64)>> {
        counts::write(conn).await?;
        counts::read(conn, project_id, first, minutes).await
    }

    /// Write what this process has counted: before it ends.
    #[hotpath]
    pub async fn write_counts(conn: &mut Connection) -> vcache::Result<()> {
        counts::write(conn).await
    }
}
