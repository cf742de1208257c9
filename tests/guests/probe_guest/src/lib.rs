//! Hot paths that do what a test wants to see done: fail, panic, block, and measure.

/// What the tests call.
#[vcache::module]
mod probe_guest {
    use std::time::Duration;

    use vcache::prelude::*;
    use vcache::redis;

    /// The server's number for the connection that this runs on.
    #[hotpath]
    pub async fn connection_id(conn: &mut Connection) -> vcache::Result<u64> {
        Ok(redis::cmd("CLIENT").arg("ID").query_async(conn).await?)
    }

    /// The bytes under a key.
    #[hotpath]
    pub async fn fetch(conn: &mut Connection, key: &str) -> vcache::Result<Option<Vec<u8>>> {
        Ok(conn.get(key).await?)
    }

    /// Any command's reply, as text.
    #[hotpath]
    pub async fn reply(conn: &mut Connection, words: Vec<String>) -> vcache::Result<String> {
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word);
        });
        let reply: vcache::Value = command.query_async(conn).await?;
        Ok(format!("{reply:?}"))
    }

    /// A pipeline that is a transaction, with one command that fails among others.
    #[hotpath]
    pub async fn transaction(conn: &mut Connection, key: &str) -> vcache::Result<(i64, i64)> {
        Ok(redis::pipe().atomic().incr(key, 2).incr(key, 3).query_async(conn).await?)
    }

    /// Panics before it has asked anything, or after.
    #[hotpath]
    pub async fn panics(conn: &mut Connection, after: bool) -> vcache::Result<()> {
        if after {
            let _: Option<i64> = conn.get("nothing").await?;
        }
        panic!("as it was told to");
    }

    /// Keeps the thread that polls it for so long.
    #[hotpath]
    pub async fn blocks(conn: &mut Connection, milliseconds: u64) -> vcache::Result<Option<i64>> {
        std::thread::sleep(Duration::from_millis(milliseconds));
        Ok(conn.get("nothing").await?)
    }

    /// Fails by itself.
    #[hotpath]
    pub async fn fails(_conn: &mut Connection, why: &str) -> vcache::Result<()> {
        Err(vcache::Error::value(why))
    }

    /// Takes an element off a list, waiting for one for so many seconds, on a connection of its own.
    #[hotpath]
    pub async fn pop(conn: &mut Connection, key: &str, seconds: f64) -> vcache::Result<Option<(String, String)>> {
        Ok(conn.blpop(key, seconds).await?)
    }

    /// On another alias than `default`, found by name while it runs.
    #[hotpath]
    pub async fn elsewhere(_conn: &mut Connection, alias: &str) -> vcache::Result<u64> {
        let mut conn = vcache::connection_for(alias)?;
        Ok(redis::cmd("CLIENT").arg("ID").query_async(&mut conn).await?)
    }

    /// The version of the crate.
    #[pyfunction]
    fn noop() {}

    use vcache::pyo3::pyfunction;
}
