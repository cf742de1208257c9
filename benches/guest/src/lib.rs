//! Hot paths to be measured, built as their author would build them: a crate by itself, a client of the connection of the
//! wheel.

mod ingest;

/// What the benches call.
#[vcache::module]
mod bench_guest {
    use vcache::prelude::*;
    use vcache::redis;

    use crate::ingest::{self, Event};

    /// The bytes under a key, or None: the same as the wheel's own `read`.
    #[hotpath]
    pub async fn read(conn: &mut Connection, key: &str) -> vcache::Result<Option<Vec<u8>>> {
        Ok(conn.get(key).await?)
    }

    /// Five commands, of which each but the first needs the reply before it. Returns the count.
    ///
    /// The bench has the same five in Python, see `five` in benches/django/clients.py.
    #[hotpath]
    pub async fn five(conn: &mut Connection, key: &str) -> vcache::Result<i64> {
        let owner: String = conn.get(key).await?;
        let plan: String = conn.get(format!("bench:plan:{owner}")).await?;
        let limit: i64 = conn.get(format!("bench:limit:{plan}")).await?;
        let count: i64 = conn.incr(format!("bench:count:{owner}"), 1).await?;
        let state = if count > limit { "over" } else { "within" };
        let () = conn.set_ex(format!("bench:state:{owner}"), state, 300).await?;
        Ok(count)
    }

    /// Returns at once, without a word to the server.
    #[hotpath]
    pub async fn nothing(_conn: &mut Connection) -> vcache::Result<()> {
        Ok(())
    }

    /// The server's number for the connection that this runs on.
    #[hotpath]
    pub async fn connection_id(conn: &mut Connection) -> vcache::Result<u64> {
        Ok(redis::cmd("CLIENT").arg("ID").query_async(conn).await?)
    }

    /// A hot route: an event is checked, charged and put on the stream.
    #[hotpath]
    pub async fn ingest(
        conn: &mut Connection,
        request: Request,
        project_id: u64,
    ) -> vcache::Result<Response> {
        let event: Event<'_> = request.json()?;
        ingest::admit(conn, project_id, event.id()?, request.body()?).await
    }

    /// A hot route: the same of the event in an envelope.
    #[hotpath]
    pub async fn envelope(
        conn: &mut Connection,
        request: Request,
        project_id: u64,
    ) -> vcache::Result<Response> {
        let (event, payload) = ingest::event_of(request.body()?)?;
        ingest::admit(conn, project_id, event.id()?, payload).await
    }

    /// A hot route without a word to the server: an event is checked.
    #[hotpath]
    pub async fn check(_conn: &mut Connection, request: Request) -> vcache::Result<Response> {
        let event: Event<'_> = request.json()?;
        ingest::accepted(event.id()?)
    }
}
