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
