//! `#[test]`: an `async fn` becomes a test that runs on a server of its own.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, ItemFn, Type, Visibility};

pub(crate) fn expand(args: &TokenStream, item: TokenStream) -> TokenStream {
    try_expand(args, item).unwrap_or_else(|error| error.to_compile_error())
}

fn try_expand(args: &TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !args.is_empty() {
        return Err(Error::new_spanned(args, "#[vcache::test] takes no arguments"));
    }
    let mut function: ItemFn = syn::parse2(item)?;
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new_spanned(signature.fn_token, "a test with a connection must be an `async fn`"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "a test cannot be generic: nobody chooses its types",
        ));
    }
    let arguments = arguments(&function)?;

    // The attributes (`#[should_panic]`, `#[ignore]`, `#[cfg]`) are the test's; the function in it stays as it was written.
    let attributes = std::mem::take(&mut function.attrs);
    let visibility = std::mem::replace(&mut function.vis, Visibility::Inherited);
    let (name, output) = (&function.sig.ident, &function.sig.output);
    Ok(quote! {
        #[::core::prelude::v1::test]
        #(#attributes)*
        #visibility fn #name() #output {
            #function
            #[allow(unused_mut)]
            let mut __vcache_server = ::vcache::testing::Server::start();
            #[allow(unused_mut)]
            let mut __vcache_connection = __vcache_server.connection();
            ::vcache::block_on(#name(#(#arguments),*))
        }
    })
}

/// What the function is called with, for the parameters that it has.
fn arguments(function: &ItemFn) -> syn::Result<Vec<TokenStream>> {
    const WRONG: &str = "a test takes `conn: &mut Connection` or `conn: Connection`, and after it `server: &mut Server` if it needs that";

    let inputs = &function.sig.inputs;
    let mut arguments = Vec::with_capacity(2);
    for (at, input) in inputs.iter().enumerate() {
        arguments.push(match (at, named_type(input)) {
            (0, Some((name, true))) if name == "Connection" => quote! { &mut __vcache_connection },
            (0, Some((name, false))) if name == "Connection" => quote! { __vcache_connection },
            (1, Some((name, true))) if name == "Server" => quote! { &mut __vcache_server },
            _ => return Err(Error::new_spanned(input, WRONG)),
        });
    }
    if arguments.is_empty() {
        return Err(Error::new(function.sig.paren_token.span.join(), WRONG));
    }
    Ok(arguments)
}

/// The last name in a parameter's type, and whether it is taken as `&mut`.
fn named_type(input: &FnArg) -> Option<(String, bool)> {
    let FnArg::Typed(typed) = input else { return None };
    let (ty, borrowed) = match &*typed.ty {
        Type::Reference(reference) if reference.mutability.is_some() => (&*reference.elem, true),
        ty => (ty, false),
    };
    let Type::Path(path) = ty else { return None };
    Some((path.path.segments.last()?.ident.to_string(), borrowed))
}
