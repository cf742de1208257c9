//! Hot paths to be measured, built as their author would build them: a crate of its own, with vcache's default features.

/// What the bench calls.
#[vcache::module]
mod bench_guest {
    use vcache::prelude::*;
    use vcache::redis;

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
}
