//! A hot path's parameters: what Python passes for each, what the call owns meanwhile, and how the Rust function gets it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{
    Error, FnArg, GenericArgument, Ident, Pat, PathArguments, Result, ReturnType, Signature, Token, Type,
    TypeReference, parse_quote,
};

use crate::keywords::is_keyword;

/// Types of PyO3's that stand for the interpreter or an object in it.
const ATTACHED: [&str; 8] =
    ["Python", "Bound", "Borrowed", "Py", "PyRef", "PyRefMut", "PyClassGuard", "PyClassGuardMut"];

/// One parameter after the connection.
pub(crate) struct Parameter {
    pub(crate) name: Ident,
    /// The type as the author wrote it.
    pub(crate) written: Type,
    /// The type that is taken from Python and owned while the call runs.
    pub(crate) owned: Type,
    /// The expression for the Rust function's argument.
    pub(crate) pass: TokenStream,
    /// The owned type is not the written one.
    pub(crate) converts: bool,
}

/// The parameters after the first, which must be the connection.
pub(crate) fn all(signature: &Signature) -> Result<Vec<Parameter>> {
    let needs_connection =
        |span| Error::new(span, "the first parameter of a hot path must be `&mut Connection`");
    let mut inputs = signature.inputs.iter();
    match inputs.next() {
        Some(FnArg::Typed(first)) if is_connection(&first.ty) => {}
        Some(FnArg::Receiver(receiver)) => return Err(method(receiver)),
        Some(FnArg::Typed(first)) => {
            return Err(Error::new_spanned(&first.ty, needs_connection(signature.ident.span())));
        }
        None => return Err(needs_connection(signature.ident.span())),
    }
    inputs.map(parameter).collect()
}

fn is_connection(ty: &Type) -> bool {
    matches!(ty, Type::Reference(TypeReference { mutability: Some(_), elem, .. })
        if last_segment(elem).is_some_and(|(ident, _)| ident == "Connection"))
}

fn method(receiver: impl ToTokens) -> Error {
    Error::new_spanned(receiver, "a hot path is a function, not a method: it has no `self`")
}

fn parameter(input: &FnArg) -> Result<Parameter> {
    let FnArg::Typed(typed) = input else { return Err(method(input)) };
    let name = match &*typed.pat {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => pattern.ident.clone(),
        pattern => {
            return Err(Error::new_spanned(
                pattern,
                "a hot path's parameter needs a plain name: Python calls it by that",
            ));
        }
    };
    if is_keyword(&name.unraw().to_string()) {
        return Err(Error::new(
            name.span(),
            format!("`{}` is a keyword of Python's, which cannot pass it by that name", name.unraw()),
        ));
    }
    let written = (*typed.ty).clone();
    refuse_unowned(&written)?;
    let (owned, pass) = match of_option(&written) {
        Some(inner) => match borrowed_or_bytes(inner)? {
            Some(Kind::Str) => {
                (parse_quote! { ::std::option::Option<::std::string::String> }, quote! { #name.as_deref() })
            }
            Some(Kind::Bytes) => {
                (parse_quote! { ::std::option::Option<::vcache::python::Bytes> }, quote! { #name.as_deref() })
            }
            Some(Kind::Vec) => (
                parse_quote! { ::std::option::Option<::vcache::python::Bytes> },
                quote! { #name.map(::vcache::python::Bytes::into_vec) },
            ),
            None => return Ok(as_written(name, written)),
        },
        None => match borrowed_or_bytes(&written)? {
            Some(Kind::Str) => (parse_quote! { ::std::string::String }, quote! { &#name }),
            Some(Kind::Bytes) => (parse_quote! { ::vcache::python::Bytes }, quote! { &#name }),
            Some(Kind::Vec) => (parse_quote! { ::vcache::python::Bytes }, quote! { #name.into_vec() }),
            None => return Ok(as_written(name, written)),
        },
    };
    Ok(Parameter { name, written, owned, pass, converts: true })
}

fn as_written(name: Ident, written: Type) -> Parameter {
    Parameter { pass: name.to_token_stream(), owned: written.clone(), name, written, converts: false }
}

/// Parameters whose owned type is another than the written one.
enum Kind {
    Str,
    Bytes,
    Vec,
}

fn borrowed_or_bytes(ty: &Type) -> Result<Option<Kind>> {
    let is_u8 = |ty: &Type| matches!(ty, Type::Path(path) if path.path.is_ident("u8"));
    if let Some((ident, PathArguments::AngleBracketed(arguments))) = last_segment(ty)
        && ident == "Vec"
        && matches!(arguments.args.first(), Some(GenericArgument::Type(item)) if is_u8(item))
    {
        return Ok(Some(Kind::Vec));
    }
    let Type::Reference(reference) = ty else { return Ok(None) };
    if let Some(lifetime) = reference.lifetime.as_ref().filter(|lifetime| lifetime.ident == "static") {
        return Err(Error::new_spanned(lifetime, "what Python passes lives only as long as the call"));
    }
    match &*reference.elem {
        Type::Path(path) if path.path.is_ident("str") && reference.mutability.is_none() => {
            Ok(Some(Kind::Str))
        }
        Type::Slice(slice) if is_u8(&slice.elem) && reference.mutability.is_none() => Ok(Some(Kind::Bytes)),
        _ => Err(Error::new_spanned(
            ty,
            "a hot path borrows only `&str` and `&[u8]` from Python: take other values owned",
        )),
    }
}

/// `T` of `Option<T>`.
fn of_option(ty: &Type) -> Option<&Type> {
    match last_segment(ty)? {
        (ident, PathArguments::AngleBracketed(arguments)) if ident == "Option" => {
            match arguments.args.first()? {
                GenericArgument::Type(inner) => Some(inner),
                _ => None,
            }
        }
        _ => None,
    }
}

fn last_segment(ty: &Type) -> Option<(&Ident, &PathArguments)> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| (&segment.ident, &segment.arguments)),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// Finds Python's own objects and `impl Trait`, at any depth.
fn refuse_unowned(ty: &Type) -> Result<()> {
    walk(ty, &mut |ty| match ty {
        Type::ImplTrait(_) => Err(generic(ty)),
        _ => match last_segment(ty) {
            Some((ident, _)) if ATTACHED.iter().any(|attached| ident == attached) => Err(Error::new_spanned(
                ty,
                format!(
                    "`{ident}` cannot be held across `.await`, where Python is not attached: take owned data, such as \
                     `String`, `Vec<T>` or a type that derives `FromPyObject`"
                ),
            )),
            _ => Ok(()),
        },
    })
}

/// What a generic hot path is told.
pub(crate) fn generic(at: impl ToTokens) -> Error {
    Error::new_spanned(at, "generic hot paths are not supported: Python has no types to choose")
}

/// The type that is given to Python.
pub(crate) fn returned(signature: &Signature) -> Result<Type> {
    let ReturnType::Type(_, ty) = &signature.output else { return Ok(parse_quote! { () }) };
    walk(ty, &mut |part| match part {
        Type::ImplTrait(_) => Err(generic(part)),
        Type::Reference(TypeReference { lifetime, .. })
            if lifetime.as_ref().is_none_or(|lifetime| lifetime.ident != "static") =>
        {
            Err(Error::new_spanned(
                part,
                "a hot path gives Python what it owns: return `String`, `Vec<u8>` or so",
            ))
        }
        part => match last_segment(part) {
            Some((ident, _)) if ident != "Py" && ATTACHED.iter().any(|attached| ident == attached) => {
                Err(Error::new_spanned(
                    part,
                    format!(
                        "`{ident}` cannot leave a hot path, where Python is not attached: return owned data"
                    ),
                ))
            }
            _ => Ok(()),
        },
    })?;
    Ok((**ty).clone())
}

/// Whether a type is written as a `Result`: `Result<T, E>`, `vcache::Result<T>`, `PyResult<T>`, `RedisResult<T>`. A
/// `SearchResult` without parameters is a type of the author's.
pub(crate) fn is_result(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|(ident, arguments)| {
        ident == "Result" || (ident.to_string().ends_with("Result") && !arguments.is_none())
    })
}

/// Calls `visit` for a type and those it is made of.
fn walk(ty: &Type, visit: &mut impl FnMut(&Type) -> Result<()>) -> Result<()> {
    visit(ty)?;
    match ty {
        Type::Array(array) => walk(&array.elem, visit),
        Type::Group(group) => walk(&group.elem, visit),
        Type::Paren(paren) => walk(&paren.elem, visit),
        Type::Ptr(pointer) => walk(&pointer.elem, visit),
        Type::Reference(reference) => walk(&reference.elem, visit),
        Type::Slice(slice) => walk(&slice.elem, visit),
        Type::Tuple(tuple) => tuple.elems.iter().try_for_each(|item| walk(item, visit)),
        Type::Path(path) => path.path.segments.iter().try_for_each(|segment| match &segment.arguments {
            PathArguments::AngleBracketed(arguments) => walk_arguments(&arguments.args, visit),
            _ => Ok(()),
        }),
        _ => Ok(()),
    }
}

fn walk_arguments(
    arguments: &Punctuated<GenericArgument, Token![,]>,
    visit: &mut impl FnMut(&Type) -> Result<()>,
) -> Result<()> {
    arguments.iter().try_for_each(|argument| match argument {
        GenericArgument::Type(ty) => walk(ty, visit),
        _ => Ok(()),
    })
}
