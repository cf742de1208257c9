//! What is checked about a hot path's types, each on the words that the author wrote. It stands before the functions that
//! need it, so that its message comes before those of PyO3. That the future is `Send` is checked where it is made.

use quote::{format_ident, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Item, parse_quote};

use crate::hotpath::HotPath;
use crate::parameters::is_result;

/// A function that is never called, and compiles if the hot path can be one.
pub(crate) fn item(hotpath: &HotPath<'_>) -> Item {
    let HotPath { function, parameters, returned, cfgs, .. } = hotpath;
    let name = format_ident!("__vcache_check_{}", function.sig.ident.unraw());
    let inputs = parameters.iter().map(|parameter| {
        let owned = &parameter.owned;
        quote_spanned! { parameter.written.span()=>
            ::vcache::python::expansion::comes_from_python::<#owned, _>(
                (&::vcache::python::expansion::Probe::<#owned>::new()).comes()
            );
        }
    });
    let span = returned.span();
    let output = hotpath.output();
    let output = quote_spanned! { span=>
        ::vcache::python::expansion::goes_to_python::<#output, _>(
            (&::vcache::python::expansion::Probe::<#output>::new()).goes()
        );
    };
    let error = is_result(returned).then(|| {
        let error = quote_spanned! { span=> <#returned as ::vcache::python::expansion::HotResult>::Error };
        quote_spanned! { span=>
            ::vcache::python::expansion::becomes_an_error::<#error, _>(
                (&::vcache::python::expansion::Probe::<#error>::new()).becomes()
            );
        }
    });
    parse_quote! {
        #(#cfgs)*
        #[allow(dead_code, unused_imports, clippy::all, clippy::pedantic, clippy::nursery)]
        fn #name() {
            use ::vcache::python::expansion::{FromPython as _, FromPythonNot as _, IntoError as _, IntoErrorNot as _, ToPython as _, ToPythonNot as _};
            #(#inputs)*
            #output
            #error
        }
    }
}
