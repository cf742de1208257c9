//! The hot paths that the wheel ships, for Python as `django_vcache.hotpaths`.

/// Hot paths in Rust, on the connection of the cache alias `default`.
#[vcache::module]
pub mod hotpaths {
    use pyo3::prelude::*;
    use vcache::prelude::*;
    use vcache::redis;

    /// Spend `cost` units of `key`'s budget of `limit` units per `period` seconds.
    ///
    /// One script on the server, on the server's clock (GCRA). A refused call charges nothing; a cost of 0 asks whether a
    /// unit would be let through, and charges nothing. Returns a `django_vcache.admission.Decision`, whose one rule is called
    /// "allow". The key is the server's own, without prefix and version. No outage policy decides: an error is raised.
    ///
    /// Raises ValueError for an empty key and numbers that make no sense, TypeError for wrong types, and the connection's
    /// errors.
    #[hotpath(signature = (key, limit, period, cost = 1))]
    pub async fn allow(
        conn: &mut Connection,
        key: &str,
        limit: i64,
        period: f64,
        cost: i64,
    ) -> vcache::Result<Decision> {
        if !crate::admission::limits_are_on()? {
            return vcache::admission::waive(key, limit, period, cost).map(|answer| Decision(answer.into()));
        }
        vcache::admission::allow(conn, key, limit, period, cost).await.map(|answer| Decision(answer.into()))
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

    /// An allowance as Python gets it: a `django_vcache.admission.Decision`, whose one rule is called "allow".
    pub struct Decision(vcache::admission::Decision);

    impl vcache::python::Annotate for Decision {
        fn input() -> String {
            Self::output()
        }

        fn output() -> String {
            "django_vcache.admission.Decision".into()
        }
    }

    impl<'py> IntoPyObject<'py> for Decision {
        type Target = PyAny;
        type Output = Bound<'py, PyAny>;
        type Error = PyErr;

        fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
            crate::admission::PyDecision::make(py, self.0).map(|decision| decision.into_bound(py))
        }
    }
}
