//! A quota per project, decided on the server in one round trip, as a separate extension module. It is built apart from
//! the wheel `django-vcache`, and runs on the connection that `CACHES["default"]` uses.

/// Quotas on the connection of the cache alias `default`.
#[vcache::module]
mod _native {
    use std::sync::LazyLock;

    use vcache::prelude::*;
    use vcache::redis::{self, Script};

    /// Takes the cost off what is left, if that is enough. A quota that was never set is 0.
    static SPEND: LazyLock<Script> = LazyLock::new(|| {
        Script::new(
            "local left = tonumber(redis.call('GET', KEYS[1]) or '0')
             if left < tonumber(ARGV[1]) then return -1 end
             return redis.call('DECRBY', KEYS[1], ARGV[1])",
        )
    });

    fn key(project: u64) -> String {
        format!("quota:{project}")
    }

    /// Give a project `units` to spend within the next `seconds`. What was left before is gone.
    #[hotpath(signature = (project, units, seconds = 86_400))]
    pub async fn grant(
        conn: &mut Connection,
        project: u64,
        units: u32,
        seconds: u64,
    ) -> vcache::Result<()> {
        let () = conn.set_ex(key(project), units, seconds).await?;
        Ok(())
    }

    /// Spend `cost` units of a project's quota, and return how many are left; None if there are not that many, and then
    /// nothing was spent.
    #[hotpath(signature = (project, cost = 1))]
    pub async fn spend(conn: &mut Connection, project: u64, cost: u32) -> vcache::Result<Option<i64>> {
        let left: i64 = SPEND.key(key(project)).arg(cost).invoke_async(conn).await?;
        Ok((left >= 0).then_some(left))
    }

    /// What the projects have left, in the order given, in one round trip.
    #[hotpath]
    pub async fn left(conn: &mut Connection, projects: Vec<u64>) -> vcache::Result<Vec<i64>> {
        if projects.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = projects.into_iter().map(key).collect();
        let left: Vec<Option<i64>> = conn.mget(keys).await?;
        Ok(left.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// The server's number for the connection that this runs on: the same as `CLIENT ID` by `cache.execute`.
    #[hotpath]
    pub async fn connection_id(conn: &mut Connection) -> vcache::Result<u64> {
        Ok(redis::cmd("CLIENT").arg("ID").query_async(conn).await?)
    }
}
