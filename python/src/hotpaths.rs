//! The hot paths that the wheel ships, for Python as `django_vcache.hotpaths`.

/// Hot paths in Rust that the wheel brings along, on the connection of the cache alias `default`.
///
/// They are examples, to try and to measure against. For limits and streams in production use
/// `django_vcache.admission`.
#[vcache::module]
pub mod hotpaths {
    use pyo3::prelude::*;
    use vcache::prelude::*;
    use vcache::redis;

    /// Spends `cost` units of the budget `key`, which has `limit` units for each `period` seconds.
    ///
    /// ```python
    /// decision = allow(f"project:{project_id}", limit=100, period=60)
    /// ```
    ///
    /// One script on the server, on the server's clock (GCRA). A refused call charges nothing; a cost of 0 asks whether
    /// a unit would be let through, and charges nothing. The decision's one rule is called "allow". The key is the
    /// server's own, without prefix and version. No outage policy decides: an error is raised.
    ///
    /// Raises ValueError for an empty key and numbers that make no sense, TypeError for wrong types; ConnectionError,
    /// TimeoutError or ResponseError, of `django_vcache.exceptions`, if the server does not answer or refuses.
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

    /// Appends `payload` to a stream, as the field `payload`, and returns the entry's id.
    ///
    /// ```python
    /// entry_id = enqueue("events", request.body, maxlen=1_000_000)
    /// ```
    ///
    /// With `maxlen` the stream is trimmed to about that many entries, the oldest first, whether or not they were read;
    /// without it, it grows.
    ///
    /// Raises TypeError for wrong types; ConnectionError, TimeoutError or ResponseError, of `django_vcache.exceptions`.
    /// After a time-out it is not known whether the entry was written.
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
    /// The key is the server's own, without prefix and version. A value that the cache wrote comes as the cache encoded
    /// it.
    ///
    /// Raises ConnectionError, TimeoutError or ResponseError, of `django_vcache.exceptions`.
    #[hotpath]
    pub async fn read(conn: &mut Connection, key: &str) -> vcache::Result<Option<Vec<u8>>> {
        conn.get(key).await
    }

    /// The server's number for the connection that this runs on: its `CLIENT ID`.
    ///
    /// Raises ConnectionError, TimeoutError or ResponseError, of `django_vcache.exceptions`.
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
