//! The module's `.pyi`: for each hot path a statement that writes its functions, with annotations that come from the
//! types themselves when the stub is asked for.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Item, parse_quote};

use crate::hotpath::HotPath;
use crate::signature::{Entry, Kind};

/// The statement that writes one hot path.
pub(crate) fn statement(hotpath: &HotPath<'_>) -> TokenStream {
    let HotPath { signature, cfgs, forms, .. } = hotpath;
    let arguments = signature.items().iter().map(|item| argument(hotpath, item));
    let output = match &signature.returns {
        Some(annotation) => quote! { ::std::string::String::from(#annotation) },
        None => {
            let output = hotpath.output();
            quote! { (&::vcache::python::expansion::Probe::<#output>::new()).output() }
        }
    };
    let forms = forms.iter().map(|form| {
        let (name, awaitable, docs) = (&form.name, form.awaitable, &form.docs);
        quote! {
            ::vcache::python::expansion::Form { name: #name, awaitable: #awaitable, docs: &[#(#docs),*] }
        }
    });
    quote! {
        #(#cfgs)*
        __vcache_stub.function(&[#(#forms),*], &[#(#arguments),*], &#output);
    }
}

fn argument(hotpath: &HotPath<'_>, item: &Entry) -> TokenStream {
    let name = item.python_name();
    let annotation = match (&item.annotation, item.ident()) {
        (_, None) => quote! { ::std::option::Option::None },
        (Some(annotation), _) => {
            quote! { ::std::option::Option::Some(::std::string::String::from(#annotation)) }
        }
        (None, Some(ident)) => {
            let owned = hotpath.parameters.iter().filter(|p| p.name == *ident).map(|p| &p.owned);
            let method = match item.kind {
                Kind::Args(_) | Kind::Kwargs(_) => quote! { item },
                Kind::Plain(..) | Kind::Marker(_) => quote! { input },
            };
            quote! {
                ::std::option::Option::Some(
                    (&::vcache::python::expansion::Probe::<#(#owned)*>::new()).#method()
                )
            }
        }
    };
    let default = match item.python_default() {
        Some(default) => quote! { ::std::option::Option::Some(#default) },
        None => quote! { ::std::option::Option::None },
    };
    quote! {
        ::vcache::python::expansion::Argument { name: #name, annotation: #annotation, default: #default }
    }
}

/// The hidden function of the module that returns its stub. `open`: the module has more in it than hot paths.
pub(crate) fn item(attributes: &[Attribute], statements: &[TokenStream], open: bool) -> Item {
    let docs = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("doc"))
        .filter_map(|attribute| attribute.meta.require_name_value().ok())
        .map(|meta| &meta.value);
    parse_quote! {
        /// The text of this module's `.pyi`.
        #[allow(unused_imports, clippy::all, clippy::pedantic, clippy::nursery)]
        #[::vcache::pyo3::pyfunction]
        #[pyo3(crate = "::vcache::pyo3", name = "__vcache_stub__")]
        fn __vcache_stub() -> ::std::string::String {
            use ::vcache::python::expansion::{Annotated as _, AnnotatedNot as _};
            let mut __vcache_stub = ::vcache::python::expansion::Stub::new(&[#(#docs),*]);
            #(#statements)*
            __vcache_stub.finish(#open)
        }
    }
}
