//! `#[hotpath]`: one `async fn` becomes itself, what checks it, and the Python functions around it.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, Item, ItemFn, Result, Type, parse_quote};

use crate::checks;
use crate::options::{Cancel, Only, Options, is_keyword};
use crate::parameters::{self, Parameter, is_result};
use crate::signature::Signature;
use crate::stub;

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

/// What stands for a hot path in its module.
pub(crate) struct Expanded {
    pub(crate) items: Vec<Item>,
    /// The statement that marks what is to be awaited as a coroutine function.
    pub(crate) mark: TokenStream,
    /// The statement that writes it into the stub.
    pub(crate) stub: TokenStream,
    /// Its Python names, to find the same one twice; none if it is compiled under a condition.
    pub(crate) names: Vec<(String, Span)>,
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

    pub(crate) fn expand(&self) -> Expanded {
        let function = self.function;
        let mut items: Vec<Item> = vec![parse_quote! { #function }, checks::item(self), self.future()];
        items.extend(self.forms.iter().map(|form| self.python_function(form)));
        let names = if self.cfgs.is_empty() {
            self.forms.iter().map(|form| (form.name.clone(), function.sig.ident.span())).collect()
        } else {
            Vec::new()
        };
        Expanded { items, mark: self.mark(), stub: stub::statement(self), names }
    }

    fn mark(&self) -> TokenStream {
        let cfgs = &self.cfgs;
        let names = self.forms.iter().filter(|form| form.awaitable).map(|form| &form.name);
        quote! {
            #(#cfgs)*
            ::vcache::python::mark_functions(__vcache_module, &[#(#names),*])?;
        }
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

    fn ident(&self, what: &str) -> Ident {
        format_ident!("__vcache_{what}_{}", self.function.sig.ident.unraw())
    }

    /// The function that makes the future of one call, which both forms share.
    fn future(&self) -> Item {
        let Self { function, options, parameters, cfgs, .. } = self;
        let (maker, named, output) = (self.ident("future"), function.sig.ident.span(), self.output());
        let names = parameters.iter().map(|p| &p.name);
        let owned = parameters.iter().map(|p| &p.owned);
        let cache = options.cache();
        let (body, spawned) = (self.body(), self.spawned());
        // On the author's own name: what is held across an `.await` and is not `Send` is told there.
        let made = quote_spanned! { named=>
            ::vcache::pyo3::PyResult<
                impl ::std::future::Future<Output = ::vcache::Result<#output>> + ::std::marker::Send + use<>
            >
        };
        let done = quote_spanned! { named=> ::vcache::pyo3::PyResult::Ok(__vcache_future) };
        parse_quote! {
            #(#cfgs)*
            #[allow(unused_imports, unused_mut, clippy::all, clippy::pedantic, clippy::nursery)]
            fn #maker(__vcache_py: ::vcache::pyo3::Python<'_>, #(#names: #owned),*) -> #made {
                use ::vcache::python::expansion::{IntoError as _, IntoErrorNot as _};
                let mut __vcache_connection = ::vcache::python::connection_for(__vcache_py, #cache)?;
                let __vcache_future = #body;
                #spawned
                #done
            }
        }
    }

    /// The `timeout`, as an expression.
    fn timeout(&self) -> Option<TokenStream> {
        let micros = u64::try_from(self.options.timeout?.as_micros()).unwrap_or(u64::MAX);
        Some(quote! { ::std::time::Duration::from_micros(#micros) })
    }

    /// Gives the connection the deadline that `timeout` asks for. It runs from the first poll: a coroutine may wait before it
    /// is awaited.
    fn limit(&self) -> Option<TokenStream> {
        let timeout = self.timeout()?;
        Some(quote! {
            __vcache_connection = __vcache_connection.with_deadline(::std::time::Instant::now() + #timeout);
        })
    }

    /// The call of the Rust function, and its result as the crate's own.
    fn body(&self) -> TokenStream {
        let Self { returned, .. } = self;
        let called = &self.function.sig.ident;
        let pass = self.parameters.iter().map(|p| &p.pass);
        let limit = self.limit();
        let result = if is_result(returned) {
            quote_spanned! { returned.span()=>
                ::vcache::python::expansion::into_hot_result(
                    __vcache_returned,
                    __vcache_connection.alias(),
                    |error| {
                        (&::vcache::python::expansion::Probe::<
                            <#returned as ::vcache::python::expansion::HotResult>::Error
                        >::new()).convert(error)
                    },
                )
            }
        } else {
            quote! { ::vcache::Result::Ok(__vcache_returned) }
        };
        quote_spanned! { called.span()=>
            async move {
                #limit
                let __vcache_returned = self::#called(&mut __vcache_connection, #(#pass),*).await;
                #result
            }
        }
    }

    /// Puts the future onto the tokio runtime, if it is to be there.
    fn spawned(&self) -> Option<TokenStream> {
        let Options { spawn, cancel, .. } = &self.options;
        let (abort, cache) = (*cancel != Some(Cancel::Finish), self.options.cache());
        let budget = match self.timeout() {
            Some(timeout) => quote! { ::std::option::Option::Some(#timeout) },
            None => quote! { ::std::option::Option::None },
        };
        spawn.map(|span| {
            quote_spanned! { span=>
                let __vcache_future = ::vcache::__spawned!(__vcache_future, #cache, #abort, #budget);
            }
        })
    }

    fn python_function(&self, form: &Form) -> Item {
        let Self { parameters, cfgs, .. } = self;
        let (name, docs) = (&form.name, &form.docs);
        let (function, maker) =
            (self.ident(if form.awaitable { "async" } else { "sync" }), self.ident("future"));
        let names: Vec<_> = parameters.iter().map(|p| &p.name).collect();
        let owned = parameters.iter().map(|p| &p.owned);
        let (shown, text) = (self.signature.for_pyo3(parameters), self.signature.text());
        let attributes = quote! {
            #(#cfgs)*
            #(#[doc = #docs])*
            #[allow(clippy::all, clippy::pedantic, clippy::nursery)]
            #[::vcache::pyo3::pyfunction]
            #[pyo3(crate = "::vcache::pyo3", name = #name, signature = #shown, text_signature = #text)]
        };
        let future = quote! { self::#maker(__vcache_py, #(#names),*)? };
        if !form.awaitable {
            return parse_quote! {
                #attributes
                fn #function(
                    __vcache_py: ::vcache::pyo3::Python<'_>, #(#names: #owned),*
                ) -> ::vcache::pyo3::PyResult<::vcache::pyo3::Py<::vcache::pyo3::PyAny>> {
                    let __vcache_future = #future;
                    let __vcache_output = ::vcache::python::block_on(__vcache_py, __vcache_future)?;
                    ::vcache::python::output_to_python(__vcache_py, __vcache_output)
                }
            };
        }
        let steps = match self.options.cancel {
            Some(Cancel::Finish) => quote! { All },
            Some(Cancel::Drop) | None => quote! { Many },
        };
        parse_quote! {
            #attributes
            fn #function<'py>(
                __vcache_py: ::vcache::pyo3::Python<'py>, #(#names: #owned),*
            ) -> ::vcache::pyo3::PyResult<::vcache::pyo3::Bound<'py, ::vcache::python::Coroutine>> {
                let __vcache_future = #future;
                ::vcache::python::coroutine(
                    __vcache_py,
                    #name,
                    ::vcache::python::Steps::#steps,
                    __vcache_future,
                    |py, output| ::vcache::python::output_to_python(py, output),
                )
            }
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
