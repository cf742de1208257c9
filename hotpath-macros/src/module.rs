//! `#[module]`: expands the hot paths of an inline module, adds its stub and its first step, and hands it to PyO3.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Error, FnArg, Item, ItemFn, ItemMod, Result, ReturnType, parse_quote};

use crate::expand::Expanded;
use crate::hotpath::{self, HotPath};
use crate::stub;

/// Attributes of PyO3's that put an item into the module.
const EXPORTS: [&str; 5] = ["pyclass", "pyfunction", "pymodule", "pymodule_export", "pymodule_init"];

pub(crate) fn expand(args: &TokenStream, item: TokenStream) -> TokenStream {
    try_expand(args, item).unwrap_or_else(|error| error.to_compile_error())
}

fn try_expand(args: &TokenStream, item: TokenStream) -> Result<TokenStream> {
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
    let mut contents = Contents::default();
    std::mem::take(items).into_iter().for_each(|item| contents.add(item));
    contents.refuse_names_given_twice();
    contents.prepare();
    let Contents { items: mut expanded, stubs, open, .. } = contents;
    expanded.push(stub::item(&module.attrs, &stubs, open));
    *items = expanded;
    let module = module.into_token_stream();
    Ok(quote! {
        #[::vcache::pyo3::pymodule(gil_used = true)]
        #[pyo3(crate = "::vcache::pyo3")]
        #module
    })
}

/// The module's items while they are expanded.
#[derive(Default)]
struct Contents {
    items: Vec<Item>,
    stubs: Vec<TokenStream>,
    marks: Vec<TokenStream>,
    names: Vec<(String, proc_macro2::Span)>,
    /// It holds items of PyO3's, which the stub does not know.
    open: bool,
}

impl Contents {
    fn add(&mut self, item: Item) {
        let Item::Fn(mut function) = item else {
            self.open |= attributes(&item).iter().any(is_export);
            self.items.push(item);
            return;
        };
        let expanded = match hotpath::take_attribute(&mut function) {
            Ok(None) => {
                self.open |= function.attrs.iter().any(is_export);
                self.items.push(Item::Fn(function));
                return;
            }
            Ok(Some(attribute)) => HotPath::parse(&attribute, &function).map(|hotpath| hotpath.expand()),
            Err(error) => Err(error),
        };
        match expanded {
            Ok(Expanded { items, mark, stub, names }) => {
                self.items.extend(items);
                self.marks.push(mark);
                self.stubs.push(stub);
                self.names.extend(names);
            }
            Err(error) => {
                self.refuse(&error);
                // The function stays, so that the error is the only one.
                function.attrs.retain(|a| !a.path().is_ident("pyo3") && !a.path().is_ident("pyfunction"));
                self.items.push(parse_quote! { #[allow(dead_code)] #function });
            }
        }
    }

    fn refuse(&mut self, error: &Error) {
        let error = error.to_compile_error();
        self.items.push(Item::Verbatim(error));
    }

    fn refuse_names_given_twice(&mut self) {
        for (at, (name, span)) in std::mem::take(&mut self.names).iter().enumerate() {
            self.names.push((name.clone(), *span));
            if self.names[..at].iter().any(|(earlier, _)| earlier == name) {
                self.refuse(&Error::new(
                    *span,
                    format!("another hot path of this module is already called `{name}` in Python"),
                ));
            }
        }
    }

    /// Makes the module's initialisation begin with what the connection's own half needs, and with the marks of the functions
    /// that are to be awaited: PyO3 has added them by then.
    fn prepare(&mut self) {
        let marks = &self.marks;
        self.items.push(parse_quote! {
            fn __vcache_prepare(
                __vcache_module: &::vcache::pyo3::Bound<'_, ::vcache::pyo3::types::PyModule>,
            ) -> ::vcache::pyo3::PyResult<()> {
                ::vcache::python::prepare()?;
                #(#marks)*
                ::vcache::pyo3::PyResult::Ok(())
            }
        });
        let is_init = |a: &Attribute| a.path().is_ident("pymodule_init");
        let own = self.items.iter_mut().find_map(|item| match item {
            Item::Fn(function) if function.attrs.iter().any(is_init) => Some(function),
            _ => None,
        });
        let Some(ItemFn { sig, block, .. }) = own else {
            self.items.push(parse_quote! {
                #[pymodule_init]
                fn __vcache_init(
                    module: &::vcache::pyo3::Bound<'_, ::vcache::pyo3::types::PyModule>,
                ) -> ::vcache::pyo3::PyResult<()> {
                    __vcache_prepare(module)
                }
            });
            return;
        };
        // Its parameter may be a pattern, such as `_`.
        let Some(FnArg::Typed(parameter)) = sig.inputs.first_mut() else { return };
        let pattern = std::mem::replace(&mut *parameter.pat, parse_quote! { __vcache_module });
        if matches!(sig.output, ReturnType::Default) {
            sig.output = parse_quote! { -> ::vcache::pyo3::PyResult<()> };
            // In a closure, because it may return early, and then returns nothing.
            **block = parse_quote! {{
                __vcache_prepare(__vcache_module)?;
                let #pattern = __vcache_module;
                (|| #block)();
                ::vcache::pyo3::PyResult::Ok(())
            }};
        } else {
            **block = parse_quote! {{
                __vcache_prepare(__vcache_module)?;
                let #pattern = __vcache_module;
                #block
            }};
        }
    }
}

fn is_export(attribute: &Attribute) -> bool {
    attribute
        .path()
        .segments
        .last()
        .is_some_and(|segment| EXPORTS.iter().any(|export| segment.ident == export))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
