//! `#[hotpath]` as it was written: the attribute, the function under it, and the Python functions that they ask for.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, ItemFn, Result, Type};

use crate::keywords::is_keyword;
use crate::options::{Only, Options};
use crate::parameters::{self, Parameter, is_result};
use crate::signature::Signature;

/// `#[hotpath]` met by the compiler itself, and not by `#[module]`.
pub(crate) fn outside_of_a_module(item: &TokenStream) -> TokenStream {
    let span = syn::parse2::<ItemFn>(item.clone()).map_or_else(|_| Span::call_site(), |f| f.sig.ident.span());
    let error = Error::new(
        span,
        "#[hotpath] must stand directly inside a #[vcache::module], which makes it known to Python",
    )
    .to_compile_error();
    quote! { #error #item }
}

/// Takes the `#[hotpath]` attribute off a function, if it has one.
pub(crate) fn take_attribute(function: &mut ItemFn) -> Result<Option<Attribute>> {
    let is_hotpath = |attribute: &Attribute| {
        attribute.path().segments.last().is_some_and(|segment| segment.ident == "hotpath")
    };
    let mut found = function.attrs.extract_if(.., |attribute| is_hotpath(attribute));
    let (first, second) = (found.next(), found.next());
    drop(found);
    match second {
        Some(twice) => Err(Error::new_spanned(twice, "#[hotpath] is given twice")),
        None => Ok(first),
    }
}

/// One of the Python functions of a hot path.
pub(crate) struct Form {
    pub(crate) name: String,
    pub(crate) awaitable: bool,
    /// The lines of its docstring, as `#[doc = ...]` expressions.
    pub(crate) docs: Vec<TokenStream>,
}

/// A hot path as the macros understood it.
pub(crate) struct HotPath<'a> {
    pub(crate) function: &'a ItemFn,
    pub(crate) options: Options,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) signature: Signature,
    /// What the Rust function returns.
    pub(crate) returned: Type,
    pub(crate) forms: Vec<Form>,
    pub(crate) cfgs: Vec<&'a Attribute>,
}

impl<'a> HotPath<'a> {
    pub(crate) fn parse(attribute: &Attribute, function: &'a ItemFn) -> Result<Self> {
        let mut options = Options::parse(attribute)?;
        check_function(function)?;
        let parameters = parameters::all(&function.sig)?;
        let returned = parameters::returned(&function.sig)?;
        let signature = match options.signature.take() {
            Some(signature) => {
                signature.check(&parameters)?;
                signature
            }
            None => Signature::plain(&parameters),
        };
        let forms = forms(function, &options)?;
        let cfgs = function.attrs.iter().filter(|a| a.path().is_ident("cfg")).collect();
        Ok(Self { function, options, parameters, signature, returned, forms, cfgs })
    }

    /// What the Python function gets when all went well.
    pub(crate) fn output(&self) -> TokenStream {
        let returned = &self.returned;
        if is_result(returned) {
            quote_spanned! { returned.span()=> <#returned as ::vcache::python::expansion::HotResult>::Output }
        } else {
            returned.to_token_stream()
        }
    }
}

fn check_function(function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new_spanned(signature.fn_token, "a hot path must be an `async fn`"));
    }
    if let Some(unsafety) = &signature.unsafety {
        return Err(Error::new_spanned(
            unsafety,
            "a hot path cannot be `unsafe`: Python calls it with anything",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(parameters::generic(&signature.generics));
    }
    let of_pyo3 = |a: &&Attribute| a.path().is_ident("pyo3") || a.path().is_ident("pyfunction");
    if let Some(attribute) = function.attrs.iter().find(of_pyo3) {
        return Err(Error::new_spanned(
            attribute,
            "#[hotpath] makes the #[pyfunction]s itself: use its own arguments, `name` or `signature`",
        ));
    }
    Ok(())
}

/// The Python functions that the options ask for.
fn forms(function: &ItemFn, options: &Options) -> Result<Vec<Form>> {
    let own = function.sig.ident.unraw().to_string();
    let name = options.name.as_ref().map_or_else(|| own.clone(), syn::LitStr::value);
    let aname = options.aname.as_ref().map_or_else(|| format!("a{name}"), syn::LitStr::value);
    if is_keyword(&name) && options.only != Some(Only::Async) {
        let message = format!("`{name}` is a keyword of Python's: give another with `name = \"...\"`");
        return Err(Error::new(function.sig.ident.span(), message));
    }
    if is_keyword(&aname) && options.only != Some(Only::Sync) {
        let message = format!("`{aname}` is a keyword of Python's: give another with `aname = \"...\"`");
        return Err(Error::new(function.sig.ident.span(), message));
    }
    let docs: Vec<_> = function
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("doc"))
        .filter_map(|attribute| attribute.meta.require_name_value().ok())
        .map(|meta| meta.value.to_token_stream())
        .collect();
    let mut forms = Vec::with_capacity(2);
    if options.only != Some(Only::Async) {
        forms.push(Form { name: name.clone(), awaitable: false, docs: docs.clone() });
    }
    if options.only != Some(Only::Sync) {
        let note = match options.only {
            None => format!(" The form of `{name}` to await."),
            Some(_) => " To be awaited.".to_owned(),
        };
        let mut docs = docs;
        if !docs.is_empty() {
            docs.push(quote! { "" });
        }
        docs.push(quote! { #note });
        forms.push(Form { name: aname, awaitable: true, docs });
    }
    Ok(forms)
}
