//! The hot paths that the wheel ships, for Python as `django_vcache.hotpaths`.

/// Hot paths in Rust, on the connection of the cache alias `default`.
#[vcache::module]
pub mod hotpaths {
    use pyo3::prelude::*;
    use vcache::prelude::*;
    use vcache::redis;

    /// Spend `cost` units of `key`'s budget of `limit` units per `period` seconds.
    ///
    /// One script on the server, on the server's clock (GCRA). A refused call charges nothing; a cost of 0 asks
    /// whether a unit would be let through, and charges nothing. Returns `(allowed, remaining, retry_after)`: whether it may go on, the whole units left, and the
    /// seconds to wait until the same cost would be allowed (0.0 if it was, None if it never will be).
    ///
    /// Raises ValueError for numbers that make no sense, and the connection's errors.
    #[hotpath(signature = (key, limit, period, cost = 1))]
    pub async fn allow(
        conn: &mut Connection,
        key: &str,
        limit: i64,
        period: f64,
        cost: i64,
    ) -> vcache::Result<Decision> {
        if !crate::admission::limits_are_on()? {
            return vcache::admission::waive(key, limit, period, cost).map(Decision);
        }
        vcache::admission::allow(conn, key, limit, period, cost).await.map(Decision)
    }

    /// Append `payload` (bytes or str) to a stream, as the field `payload`, and return the entry's id.
    ///
    /// With `maxlen` the stream is trimmed to about that many entries, the oldest first, whether or not they were read.
    ///
    /// Raises the connection's errors; after a time-out it is not known whether the entry was written.
    #[hotpath(signature = (stream, payload, maxlen = None))]
    pub async fn enqueue(
        conn: &mut Connection,
        stream: &str,
        payload: &[u8],
        maxlen: Option<u64>,
    ) -> vcache::Result<String> {
        vcache::admission::enqueue(conn, stream, payload, maxlen).await
    }

    /// The bytes under `key`, as they are stored, or None.
    ///
    /// The key is the server's own, without prefix and version. A value that the cache wrote comes as the cache encoded it.
    ///
    /// Raises the connection's errors.
    #[hotpath]
    pub async fn read(conn: &mut Connection, key: &str) -> vcache::Result<Option<Vec<u8>>> {
        conn.get(key).await
    }

    /// The server's number for the connection that this runs on: its `CLIENT ID`.
    ///
    /// Raises the connection's errors.
    #[hotpath]
    pub async fn connection_id(conn: &mut Connection) -> vcache::Result<u64> {
        Ok(redis::cmd("CLIENT").arg("ID").query_async(conn).await?)
    }

    /// An allowance as Python gets it: a `django_vcache.hotpaths.Decision`.
    pub struct Decision(vcache::admission::Allowance);

    impl vcache::python::Annotate for Decision {
        fn input() -> String {
            Self::output()
        }

        fn output() -> String {
            "django_vcache.hotpaths.Decision".into()
        }
    }

    impl<'py> IntoPyObject<'py> for Decision {
        type Target = PyAny;
        type Output = Bound<'py, PyAny>;
        type Error = PyErr;

        fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
            static CLASS: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
            let class = CLASS.import(py, "django_vcache.hotpaths", "Decision")?;
            let retry_after = self.0.retry_after.map(|wait| wait.as_secs_f64());
            class.call1((self.0.allowed, self.0.remaining, retry_after))
        }
    }
}
