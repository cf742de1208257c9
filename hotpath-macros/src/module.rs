//! `#[module]`: expands the hot paths of an inline module and hands the module to PyO3.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Error, Item, ItemMod};

use crate::hotpath;

pub(crate) fn expand(args: &TokenStream, item: TokenStream) -> TokenStream {
    try_expand(args, item).unwrap_or_else(|error| error.to_compile_error())
}

fn try_expand(args: &TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !args.is_empty() {
        return Err(Error::new_spanned(args, "#[vcache::module] takes no arguments"));
    }
    let mut module: ItemMod = syn::parse2(item)?;
    let Some((_, items)) = &mut module.content else {
        return Err(Error::new_spanned(
            &module,
            "#[vcache::module] needs an inline module: `mod name { ... }`",
        ));
    };
    let mut expanded = Vec::with_capacity(items.len());
    for item in std::mem::take(items) {
        match item {
            Item::Fn(mut function) => match hotpath::take_attribute(&mut function)? {
                Some(attribute) => expanded.extend(hotpath::expand(&attribute, &function)?),
                None => expanded.push(Item::Fn(function)),
            },
            other => expanded.push(other),
        }
    }
    *items = expanded;
    let module = module.into_token_stream();
    Ok(quote! {
        #[::vcache::pyo3::pymodule(gil_used = true)]
        #[pyo3(crate = "::vcache::pyo3")]
        #module
    })
}
