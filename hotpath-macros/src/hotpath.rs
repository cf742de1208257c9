//! `#[hotpath]`: one `async fn` becomes itself and two Python functions around it.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, FnArg, Ident, Item, ItemFn, Meta, Pat, Type, parse_quote};

/// `#[hotpath]` met by the compiler itself, and not by `#[module]`.
pub(crate) fn outside_of_a_module(_args: TokenStream, item: TokenStream) -> TokenStream {
    let span = syn::parse2::<ItemFn>(item.clone()).map_or_else(|_| Span::call_site(), |f| f.sig.ident.span());
    let error =
        Error::new(span, "#[hotpath] must stand inside a #[vcache::module], which makes it known to Python")
            .to_compile_error();
    quote! { #error #item }
}

/// Takes the `#[hotpath]` attribute off a function, if it has one.
pub(crate) fn take_attribute(function: &mut ItemFn) -> syn::Result<Option<Attribute>> {
    let is_hotpath = |attribute: &Attribute| {
        attribute.path().segments.last().is_some_and(|segment| segment.ident == "hotpath")
    };
    let Some(at) = function.attrs.iter().position(is_hotpath) else { return Ok(None) };
    let attribute = function.attrs.remove(at);
    if let Some(twice) = function.attrs.iter().find(|attribute| is_hotpath(attribute)) {
        return Err(Error::new_spanned(twice, "#[hotpath] is given twice"));
    }
    Ok(Some(attribute))
}

/// What Python passes for one parameter, and how the Rust function gets it.
struct Parameter {
    name: Ident,
    /// The type that is taken from Python and owned while the call runs.
    owned: Type,
    /// The expression for the Rust function's argument.
    pass: TokenStream,
}

/// The items that stand for the function: itself, `name` and `aname`.
pub(crate) fn expand(attribute: &Attribute, function: &ItemFn) -> syn::Result<Vec<Item>> {
    let options = Options::parse(attribute)?;
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new_spanned(signature.fn_token, "a hot path must be an `async fn`"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "generic hot paths are not supported: Python has no types to choose",
        ));
    }
    let mut inputs = signature.inputs.iter();
    match inputs.next() {
        Some(FnArg::Typed(first)) if is_connection(&first.ty) => {}
        first => {
            let span = first.map_or_else(|| signature.paren_token.span.span(), Spanned::span);
            return Err(Error::new(span, "the first parameter of a hot path must be `&mut Connection`"));
        }
    }
    let parameters: Vec<_> = inputs.map(parameter).collect::<syn::Result<_>>()?;

    let name = &signature.ident;
    let python_name = name.unraw().to_string();
    let async_name = format!("a{python_name}");
    let (sync_ident, async_ident) =
        (format_ident!("__vcache_sync_{python_name}"), format_ident!("__vcache_async_{python_name}"));
    let names: Vec<_> = parameters.iter().map(|p| &p.name).collect();
    let owned: Vec<_> = parameters.iter().map(|p| &p.owned).collect();
    let pass: Vec<_> = parameters.iter().map(|p| &p.pass).collect();
    let kept = |a: &&Attribute| a.path().is_ident("doc") || a.path().is_ident("cfg");
    let docs: Vec<_> = function.attrs.iter().filter(kept).collect();
    let shown = options.signature.unwrap_or_else(|| quote! { #(#names),* });
    let call = quote! {
        let mut __vcache_connection = ::vcache::python::connection_for(__vcache_py, "default")?;
        let __vcache_future = async move {
            let __vcache_result = self::#name(&mut __vcache_connection, #(#pass),*).await;
            ::vcache::python::IntoHotResult::into_hot_result(__vcache_result, __vcache_connection.alias())
         };
    };
    let finish = quote! {
        |py, output| ::vcache::python::output_to_python(py, output)
    };
    Ok(vec![
        parse_quote! { #function },
        parse_quote! {
            #(#docs)*
            #[::vcache::pyo3::pyfunction]
            #[pyo3(crate = "::vcache::pyo3", name = #python_name, signature = (#shown))]
            fn #sync_ident(
                __vcache_py: ::vcache::pyo3::Python<'_>, #(#names: #owned),*
            ) -> ::vcache::pyo3::PyResult<::vcache::pyo3::Py<::vcache::pyo3::PyAny>> {
                #call
                let __vcache_finish = #finish;
                __vcache_finish(__vcache_py, ::vcache::python::block_on(__vcache_py, __vcache_future)?)
            }
        },
        parse_quote! {
            #(#docs)*
            #[::vcache::pyo3::pyfunction]
            #[pyo3(crate = "::vcache::pyo3", name = #async_name, signature = (#shown))]
            fn #async_ident<'py>(
                __vcache_py: ::vcache::pyo3::Python<'py>, #(#names: #owned),*
            ) -> ::vcache::pyo3::PyResult<::vcache::pyo3::Bound<'py, ::vcache::pyo3::PyAny>> {
                #call
                ::vcache::python::spawn(__vcache_py, ::vcache::python::Steps::Many, __vcache_future, #finish)
            }
        },
    ])
}

/// What stands in the attribute's parentheses.
#[derive(Default)]
struct Options {
    /// `signature = (...)` as PyO3 writes it.
    signature: Option<TokenStream>,
}

impl Options {
    fn parse(attribute: &Attribute) -> syn::Result<Self> {
        let mut options = Self::default();
        if matches!(attribute.meta, Meta::Path(_)) {
            return Ok(options);
        }
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("signature") {
                return Err(meta.error("unknown argument of #[hotpath]: it takes `signature = (...)`"));
            }
            let value = meta.value()?;
            let content;
            syn::parenthesized!(content in value);
            options.signature = Some(content.parse()?);
            Ok(())
        })?;
        Ok(options)
    }
}

fn is_connection(ty: &Type) -> bool {
    let Type::Reference(reference) = ty else { return false };
    reference.mutability.is_some()
        && matches!(&*reference.elem, Type::Path(path)
            if path.path.segments.last().is_some_and(|segment| segment.ident == "Connection"))
}

fn parameter(input: &FnArg) -> syn::Result<Parameter> {
    let FnArg::Typed(typed) = input else {
        return Err(Error::new_spanned(input, "a hot path is a function, not a method"));
    };
    let Pat::Ident(pattern) = &*typed.pat else {
        return Err(Error::new_spanned(
            &typed.pat,
            "a hot path's parameter needs a plain name: Python calls it by that",
        ));
    };
    let name = pattern.ident.clone();
    let Type::Reference(reference) = &*typed.ty else {
        return Ok(Parameter { pass: name.to_token_stream(), owned: (*typed.ty).clone(), name });
    };
    let owned: Type = match &*reference.elem {
        Type::Path(path) if path.path.is_ident("str") => parse_quote! { ::std::string::String },
        Type::Slice(slice) if matches!(&*slice.elem, Type::Path(path) if path.path.is_ident("u8")) => {
            parse_quote! { ::vcache::python::Bytes }
        }
        _ => {
            return Err(Error::new_spanned(
                &typed.ty,
                "a hot path borrows only `&str` and `&[u8]` from Python: take other values owned",
            ));
        }
    };
    Ok(Parameter { pass: quote! { &#name }, owned, name })
}
