//! The procedural macros of the `vcache` crate; use them from there. `#[module]` turns an inline module into a Python
//! module, `#[hotpath]` turns an `async fn` in it into two Python functions: `name`, which blocks with the GIL released,
//! and `aname`, which is awaited on the running asyncio loop.

mod checks;
mod hotpath;
mod module;
mod options;
mod parameters;
mod signature;
mod stub;
mod test;

use proc_macro::TokenStream;

/// Marks an `async fn` in a [`macro@module`] as callable from Python.
///
/// Its first parameter is `conn: &mut Connection`, which Python does not see: it is the connection of the cache alias
/// `default`. The others are taken from Python; `&str` and `&[u8]` are owned by the call while it runs. The Rust function
/// stays as it was written.
#[proc_macro_attribute]
pub fn hotpath(_args: TokenStream, item: TokenStream) -> TokenStream {
    hotpath::outside_of_a_module(&item.into()).into()
}

/// Turns an inline module into a Python module of its [`macro@hotpath`] functions.
///
/// The module's name is the Python module's. Other items are left as they are, so whatever PyO3's own `#[pymodule]`
/// understands (`#[pyclass]`, `#[pyfunction]`) may stand beside the hot paths.
#[proc_macro_attribute]
pub fn module(args: TokenStream, item: TokenStream) -> TokenStream {
    module::expand(&args.into(), item.into()).into()
}

/// Runs an `async fn` as a test, on a Valkey server of its own; the cargo feature is `testing`.
///
/// It takes `conn: &mut Connection`, or `conn: Connection`, and after it, if it needs it, `server: &mut Server`. It may
/// return a `Result`. `#[should_panic]` and `#[ignore]` work as on any test. Each test starts a server, empty and known to
/// nobody else, and is driven by `vcache::block_on`; so tests may run at once, which is what `cargo test` does.
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
