//! A hot path becomes the function itself, what checks it, and the Python functions around it.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Ident, Item, parse_quote};

use crate::hotpath::{Form, HotPath};
use crate::options::{Cancel, Options};
use crate::parameters::is_result;
use crate::{checks, stub};

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

impl HotPath<'_> {
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
        let names = |awaitable| {
            let found: Vec<_> =
                self.forms.iter().filter(|form| form.awaitable == awaitable).map(|form| &form.name).collect();
            found
        };
        let (blocking, awaitable) = (names(false), names(true));
        quote! {
            #(#cfgs)*
            ::vcache::python::mark_functions(__vcache_module, &[#(#blocking),*], &[#(#awaitable),*])?;
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
