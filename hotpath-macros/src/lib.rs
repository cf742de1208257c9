//! The procedural macros of the `vcache` crate; use them from there. `#[module]` turns an inline module into a Python
//! module, `#[hotpath]` turns an `async fn` in it into two Python functions: `name`, which blocks with the GIL released,
//! and `aname`, which is awaited on the running asyncio loop.

mod checks;
mod expand;
mod hotpath;
mod keywords;
mod module;
mod options;
mod parameters;
mod signature;
mod stub;
mod test;

use proc_macro::TokenStream;

/// Makes an `async fn` in a [`macro@module`] two functions in Python: `name`, which blocks with the GIL released, and
/// `aname`, which is awaited.
///
/// ```no_run
/// #[vcache::module]
/// mod shop {
///     use vcache::prelude::*;
///
///     /// Spend `cost` units of a project's budget; False when it is used up.
///     #[hotpath(signature = (project, cost = 1))]
///     async fn spend(conn: &mut Connection, project: u64, cost: i64) -> vcache::Result<bool> {
///         let left: i64 = conn.decr(format!("budget:{project}"), cost).await?;
///         Ok(left >= 0)
///     }
/// }
/// # fn main() {}
/// ```
///
/// In Python that is `shop.spend(42)` and `await shop.aspend(42, cost=3)`. The doc comment is the docstring of both. The
/// Rust function stays as it was written, and Rust may call it.
///
/// # Parameters
///
/// The first is `conn: &mut Connection`, which Python does not see. Each of the others has a plain name, by which Python
/// may pass it.
///
/// | in Rust | from Python |
/// |---|---|
/// | `&str`, `String`, `char` | `str` |
/// | `&[u8]`, `Vec<u8>` | `bytes`, `bytearray`, `memoryview`, or `str` as UTF-8 |
/// | integers, `f64`, `f32`, `bool` | `int`, `float`, `bool` |
/// | `Option<T>`, also of `&str` and `&[u8]` | what `T` is, or `None` |
/// | `Vec<T>`, `HashMap<K, V>`, `HashSet<T>`, tuples | a sequence, `dict`, `set`, `tuple` |
/// | `Duration` | `datetime.timedelta` |
/// | any other owned `T: FromPyObject + Send` | what it takes |
///
/// `Python<'_>`, `Bound`, `Py` and the like are refused: they cannot be held across an `.await`. A value of the wrong
/// type is a `TypeError`, a number out of range an `OverflowError`; both are raised by the call, before anything is sent.
///
/// # Results
///
/// `T` or `Result<T, E>`, for `T: IntoPyObject` and `E: Into<vcache::Error>`. It is taken as the latter if it is called
/// `Result`, or has parameters and a name that ends so: `vcache::Result<T>`, `PyResult<T>`. `()` is `None`. A [`PyErr`] is raised in
/// Python as the exception that it is; `vcache::Error::raising` raises a class of your own; a panic is a `HotPathPanic`.
///
/// [`PyErr`]: https://docs.rs/pyo3/latest/pyo3/struct.PyErr.html
///
/// # Arguments
///
/// ## `name = "..."`, `aname = "..."`
///
/// The names in Python, if they are not to be the function's and that with an `a` in front. `aname` follows `name`.
///
/// ```no_run
/// # #[vcache::module]
/// # mod shop {
/// # use vcache::prelude::*;
/// #[hotpath(name = "import_order", aname = "import_order_async")]
/// async fn import(conn: &mut Connection, id: u64) -> vcache::Result<bool> {
///     Ok(conn.set_nx(format!("order:{id}"), 1).await?)
/// }
/// # }
/// # fn main() {}
/// ```
///
/// ## `only = "sync"`, `only = "async"`
///
/// Makes one of the two functions: the blocking `name`, or the awaitable `aname`.
///
/// ```no_run
/// # #[vcache::module]
/// # mod shop {
/// # use vcache::prelude::*;
/// #[hotpath(only = "async")]
/// async fn visit(conn: &mut Connection) -> vcache::Result<u64> {
///     Ok(conn.incr("visits", 1).await?)
/// }
/// # }
/// # fn main() {}
/// ```
///
/// ## `cache = "alias"`
///
/// The cache alias whose connection it gets. The default is `"default"`.
///
/// ```no_run
/// # #[vcache::module]
/// # mod shop {
/// # use vcache::prelude::*;
/// #[hotpath(cache = "sessions")]
/// async fn log_out(conn: &mut Connection, session: &str) -> vcache::Result<bool> {
///     Ok(conn.del(session).await?)
/// }
/// # }
/// # fn main() {}
/// ```
///
/// ## `timeout = "50ms"`
///
/// The time for the whole hot path, a whole number with the unit `us`, `ms`, `s` or `m`. All its calls on `conn` share
/// it, from the moment Python calls; when it is over they fail with a time-out. What does not call the server is not
/// interrupted, except with `spawn`, at its next `.await`.
///
/// ```no_run
/// # #[vcache::module]
/// # mod shop {
/// # use vcache::prelude::*;
/// #[hotpath(timeout = "50ms")]
/// async fn total(conn: &mut Connection, keys: Vec<String>) -> vcache::Result<u64> {
///     let mut total = 0;
///     for key in keys {
///         total += conn.get::<_, Option<u64>>(key).await?.unwrap_or(0);
///     }
///     Ok(total)
/// }
/// # }
/// # fn main() {}
/// ```
///
/// ## `spawn`
///
/// The body runs on a tokio runtime that vcache makes for the process, for work that would keep the loop's thread busy
/// for long, or that needs tokio's timers and tasks. It costs a hand-over there and back, which a hot path that only
/// calls the server should not pay. It needs the feature `spawn` of the crate `vcache`.
///
/// ```no_run
/// # #[vcache::module]
/// # mod shop {
/// # use vcache::prelude::*;
/// #[hotpath(spawn)]
/// async fn count_words(conn: &mut Connection, key: &str) -> vcache::Result<usize> {
///     let text: String = conn.get(key).await?;
///     Ok(text.split_whitespace().count())
/// }
/// # }
/// # fn main() {}
/// ```
///
/// ## `cancel = "drop"`, `cancel = "finish"`
///
/// What becomes of it when its awaitable is cancelled. With `"drop"`, the default, it takes no further step: it stops at
/// the `.await` where it is. With `"finish"` it goes on to its end, as long as its loop runs, and its result is dropped.
///
/// ```no_run
/// # #[vcache::module]
/// # mod shop {
/// # use vcache::prelude::*;
/// #[hotpath(cancel = "finish")]
/// async fn move_on(conn: &mut Connection, from_key: &str, to_key: &str) -> vcache::Result<()> {
///     let value: Vec<u8> = conn.get(from_key).await?;
///     let () = conn.set(to_key, value).await?;
///     Ok(conn.del(from_key).await?)
/// }
/// # }
/// # fn main() {}
/// ```
///
/// ## `signature = (...)`
///
/// Defaults and kinds of parameters, as in PyO3: `a, /, b = 1, *, c = None` or `*args, **kwargs`, in the function's order
/// and without `conn`. The default of a borrowed parameter is borrowed too: `key = "visits"`. An annotation for the stub
/// may be given as a text.
///
/// ```no_run
/// # #[vcache::module]
/// # mod shop {
/// # use vcache::prelude::*;
/// #[hotpath(signature = (key = "visits", *, by: "Literal[1, 10]" = 1))]
/// async fn count(conn: &mut Connection, key: &str, by: u64) -> vcache::Result<u64> {
///     Ok(conn.incr(key, by).await?)
/// }
/// # }
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn hotpath(_args: TokenStream, item: TokenStream) -> TokenStream {
    hotpath::outside_of_a_module(&item.into()).into()
}

/// Turns an inline module into a Python module of its [`macro@hotpath`] functions.
///
/// The module's name is the Python module's, its doc comment the docstring. Other items are left as they are, so whatever
/// PyO3's own `#[pymodule]` understands (`#[pyclass]`, `#[pyfunction]`, `#[pymodule_init]`, `#[pyo3(name = "...")]`) may
/// stand beside the hot paths.
///
/// ```no_run
/// /// The hot paths of a shop.
/// #[vcache::module]
/// mod shop {
///     use vcache::prelude::*;
///     use vcache::pyo3::prelude::*;
///
///     #[hotpath]
///     async fn visits(conn: &mut Connection) -> vcache::Result<Option<u64>> {
///         Ok(conn.get("visits").await?)
///     }
///
///     #[pymodule_init]
///     fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
///         module.add("__version__", "1.0")
///     }
/// }
/// # fn main() {}
/// ```
///
/// It also gets a hidden function, `__vcache_stub__()`, that returns the text of the module's `.pyi`. The annotations
/// are those of the types, see `vcache::python::Annotate`. Write them to a file when the extension is built:
///
/// ```sh
/// python -m django_vcache stubs shop --output shop.pyi
/// ```
#[proc_macro_attribute]
pub fn module(args: TokenStream, item: TokenStream) -> TokenStream {
    module::expand(&args.into(), item.into()).into()
}

/// Runs an `async fn` as a test, on a Valkey server of its own; the cargo feature is `testing`.
///
/// It takes `conn: &mut Connection`, or `conn: Connection`, and after it, if it needs it, `server: &mut Server`. It may
/// return a `Result`. `#[should_panic]` and `#[ignore]` work as on any test. Each test starts a server, empty and known to
/// no other test, and is driven by `vcache::block_on`; so tests may run at once, which is what `cargo test` does.
///
/// ```ignore
/// use vcache::prelude::*;
/// use vcache::testing::Server;
///
/// #[vcache::test]
/// async fn a_visit_is_counted(conn: &mut Connection) -> vcache::Result<()> {
///     let visits: i64 = conn.incr("visits", 1).await?;
///     assert_eq!(visits, 1);
///     Ok(())
/// }
///
/// #[vcache::test]
/// async fn an_outage_is_an_error(conn: &mut Connection, server: &mut Server) {
///     server.kill();
///     assert!(conn.get::<_, Option<String>>("visits").await.is_err());
/// }
/// ```
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(&args.into(), item.into()).into()
}
