//! The hot paths that the tests call, and a module in which they are not alone.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use vcache::pyo3::prelude::*;
use vcache::python::Annotate;

/// How many bodies of `shop.linger` came to their end.
pub static LINGERED: AtomicU32 = AtomicU32::new(0);

/// A price, to show a type of the user's own.
pub struct Price(u64);

impl FromPyObject<'_, '_> for Price {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        object.extract().map(Self)
    }
}

impl<'py> IntoPyObject<'py> for Price {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        py.import("decimal")?.getattr("Decimal")?.call1((self.0,))
    }
}

impl Annotate for Price {
    fn input() -> String {
        "int".into()
    }

    fn output() -> String {
        "decimal.Decimal".into()
    }
}

/// An error of the user's own.
pub struct SoldOut;

impl From<SoldOut> for vcache::Error {
    fn from(_: SoldOut) -> Self {
        Self::raising("shop_errors.SoldOut", "none are left")
    }
}

/// The shop's hot paths.
///
/// They are all for tests.
#[vcache::module]
#[allow(clippy::unused_async, clippy::needless_pass_by_ref_mut)]
pub mod shop {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use vcache::Error;
    use vcache::prelude::*;

    /// Spend `cost` units.
    ///
    /// Says "what" is left.
    #[hotpath(signature = (project, cost = 1))]
    pub async fn spend(conn: &mut Connection, project: u64, cost: i64) -> vcache::Result<i64> {
        conn.decr(format!("budget:{project}"), cost).await
    }

    /// Makes a test's keys new, on a server that was used before.
    #[hotpath(only = "sync")]
    pub async fn forget(conn: &mut Connection, keys: Vec<String>) -> vcache::Result<()> {
        conn.del(keys).await
    }

    #[hotpath(name = "get", aname = "get_soon")]
    pub async fn renamed(_conn: &mut Connection) -> u8 {
        7
    }

    /// Only blocking.
    #[hotpath(only = "sync")]
    pub async fn blocking(_conn: &mut Connection) {}

    /// Only to await.
    #[hotpath(only = "async")]
    pub async fn awaited(_conn: &mut Connection) {}

    #[hotpath(cache = "second")]
    pub async fn which(conn: &mut Connection) -> String {
        conn.alias().to_owned()
    }

    #[hotpath]
    pub async fn texts(
        _conn: &mut Connection,
        a: &str,
        mut b: String,
        c: Option<&str>,
        d: char,
    ) -> vcache::Result<String> {
        b.push_str(c.unwrap_or("-"));
        b.push(d);
        Ok(format!("{a}{b}"))
    }

    #[hotpath]
    pub async fn bytes(
        _conn: &mut Connection,
        a: &[u8],
        mut b: Vec<u8>,
        c: Option<&[u8]>,
        d: Option<Vec<u8>>,
    ) -> Vec<u8> {
        b.extend_from_slice(c.unwrap_or(b"-"));
        b.extend(d.unwrap_or_default());
        [a, &b].concat()
    }

    #[hotpath]
    pub async fn numbers(_conn: &mut Connection, a: i8, b: u64, c: f64, d: bool) -> (i64, f64, bool) {
        (i64::from(a) + i64::try_from(b).unwrap_or(-1), c, d)
    }

    #[hotpath]
    pub async fn many(
        _conn: &mut Connection,
        list: Vec<u32>,
        map: HashMap<String, Option<f64>>,
    ) -> (Vec<u32>, BTreeMap<String, Option<f64>>, HashSet<u32>) {
        (list.clone(), map.into_iter().collect(), list.into_iter().collect())
    }

    #[hotpath]
    pub async fn price(_conn: &mut Connection, price: Price, wait: Duration) -> (Price, Duration) {
        (Price(price.0 + 1), wait)
    }

    #[hotpath(signature = (a = "x\"y", b = b"\x00b", c = None, d = -1, e = Some("z"), /, *, flag = true, rest = Vec::new()))]
    #[allow(clippy::too_many_arguments)]
    pub async fn defaults(
        _conn: &mut Connection,
        a: &str,
        b: &[u8],
        c: Option<&[u8]>,
        d: i32,
        e: Option<&str>,
        flag: bool,
        rest: Vec<u8>,
    ) -> String {
        format!("{a} {b:?} {c:?} {d} {e:?} {flag} {rest:?}")
    }

    #[hotpath(signature = (*values, **named))]
    pub async fn stars(
        _conn: &mut Connection,
        values: Vec<u64>,
        named: Option<HashMap<String, f64>>,
    ) -> (u64, usize) {
        (values.iter().sum(), named.map_or(0, |named| named.len()))
    }

    #[hotpath(signature = (r#type: "Literal['a', 'b']") -> "Literal['a', 'b']")]
    pub async fn annotated(_conn: &mut Connection, r#type: String) -> String {
        r#type
    }

    pub struct Unknown;

    impl<'py> IntoPyObject<'py> for Unknown {
        type Target = PyAny;
        type Output = Bound<'py, PyAny>;
        type Error = PyErr;

        fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
            Ok(py.None().into_bound(py))
        }
    }

    #[hotpath]
    pub async fn unknown(_conn: &mut Connection) -> vcache::Result<Unknown> {
        Ok(Unknown)
    }

    #[hotpath]
    pub async fn fail(_conn: &mut Connection, how: &str) -> vcache::Result<()> {
        match how {
            "value" => Err(Error::value("bad")),
            "wrong path" => Err(Error::raising("shop_errors.Nothing", "the message")),
            "no class" => Err(Error::raising("shop_errors.answer", "the message")),
            "panic" => panic!("it {}", "burst"),
            _ => Ok(()),
        }
    }

    #[hotpath]
    pub async fn sold_out(_conn: &mut Connection) -> Result<u64, SoldOut> {
        Err(SoldOut)
    }

    #[hotpath]
    pub async fn pass_through(_conn: &mut Connection, code: String) -> PyResult<i64> {
        Python::attach(|py| py.eval(&CString::new(code)?, None, None)?.extract())
    }

    #[hotpath(cache = "busy", timeout = "100ms")]
    pub async fn hurried(conn: &mut Connection, calls: u32) -> vcache::Result<()> {
        for _ in 0..calls {
            let () = vcache::redis::cmd("PING").query_async(conn).await?;
        }
        Ok(())
    }

    #[hotpath(spawn, timeout = "50ms")]
    pub async fn hurried_elsewhere(_conn: &mut Connection) {
        std::future::pending().await
    }

    #[hotpath]
    pub async fn two_steps(conn: &mut Connection, key: &str) -> vcache::Result<()> {
        let () = conn.incr(key, 1).await?;
        conn.incr(key, 1).await
    }

    #[hotpath(cancel = "finish")]
    pub async fn both_steps(conn: &mut Connection, key: &str) -> vcache::Result<()> {
        let () = conn.incr(key, 1).await?;
        conn.incr(key, 1).await
    }

    /// Computes elsewhere, and calls the server from there.
    #[hotpath(spawn)]
    pub async fn compute(conn: &mut Connection, key: &str, time: Duration) -> vcache::Result<i64> {
        std::thread::sleep(time);
        conn.incr(key, 1).await
    }

    #[hotpath(spawn)]
    pub async fn burst(_conn: &mut Connection) -> u64 {
        panic!("it burst elsewhere")
    }

    #[hotpath(spawn)]
    pub async fn endless(_conn: &mut Connection, begun: &str, guard: &str) {
        struct Gone(CString);
        impl Drop for Gone {
            fn drop(&mut self) {
                Python::attach(|py| py.run(&self.0, None, None)).unwrap();
            }
        }
        let _gone = Gone(CString::new(guard).unwrap());
        let begun = CString::new(begun).unwrap();
        Python::attach(|py| py.run(&begun, None, None)).unwrap();
        std::future::pending().await
    }

    #[hotpath(spawn, cancel = "finish")]
    pub async fn linger(_conn: &mut Connection) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        LINGERED.fetch_add(1, Ordering::SeqCst);
    }

    #[cfg(any())]
    #[hotpath]
    pub async fn not_compiled(conn: &mut Connection, nothing: Nothing) {}
}

/// A module with items of PyO3's, and with an initialisation of its own.
#[vcache::module]
pub mod mixed {
    use super::*;
    use vcache::prelude::*;

    #[pyfunction]
    #[pyo3(crate = "::vcache::pyo3")]
    fn plain() -> u8 {
        1
    }

    #[hotpath]
    async fn set(_conn: &mut Connection) -> std::collections::HashSet<u8> {
        [1].into()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) {
        if module.add("answer", 42).is_err() {
            return;
        }
        let _ = module.add("late", true);
    }
}
