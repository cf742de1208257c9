//! `signature = (...)` as PyO3 writes it, read for what PyO3 does not do: defaults for parameters that the Rust function
//! borrows, the text signature that leaves the connection out, and the stub.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprCall, ExprLit, ExprUnary, Ident, Lit, LitStr, Result, Token, UnOp};

use crate::parameters::Parameter;

pub(crate) struct Signature {
    span: Span,
    items: Vec<Entry>,
    /// `-> "annotation"` behind it.
    pub(crate) returns: Option<String>,
}

/// One entry between the parentheses.
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// What its annotation is, if the author says so himself.
    pub(crate) annotation: Option<String>,
}

pub(crate) enum Kind {
    /// `/` or `*`.
    Marker(&'static str),
    Plain(Ident, Option<Expr>),
    /// `*args`
    Args(Ident),
    /// `**kwargs`
    Kwargs(Ident),
}

impl Entry {
    pub(crate) fn ident(&self) -> Option<&Ident> {
        match &self.kind {
            Kind::Marker(_) => None,
            Kind::Plain(ident, _) | Kind::Args(ident) | Kind::Kwargs(ident) => Some(ident),
        }
    }

    /// Its stars and its name, as Python writes them.
    pub(crate) fn python_name(&self) -> String {
        match &self.kind {
            Kind::Marker(marker) => (*marker).to_owned(),
            Kind::Plain(ident, _) => ident.unraw().to_string(),
            Kind::Args(ident) => format!("*{}", ident.unraw()),
            Kind::Kwargs(ident) => format!("**{}", ident.unraw()),
        }
    }

    pub(crate) fn python_default(&self) -> Option<String> {
        match &self.kind {
            Kind::Plain(_, Some(default)) => Some(python_literal(default)),
            _ => None,
        }
    }
}

impl Parse for Signature {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let content;
        let parentheses = syn::parenthesized!(content in input);
        let items = Punctuated::<Entry, Token![,]>::parse_terminated(&content)?;
        let returns = if input.peek(Token![->]) {
            input.parse::<Token![->]>()?;
            Some(input.parse::<LitStr>()?.value())
        } else {
            None
        };
        Ok(Self { span: parentheses.span.join(), items: items.into_iter().collect(), returns })
    }
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let kind = if input.parse::<Option<Token![/]>>()?.is_some() {
            Kind::Marker("/")
        } else if input.peek(Token![*]) && input.peek2(Token![*]) {
            input.parse::<Token![*]>()?;
            input.parse::<Token![*]>()?;
            Kind::Kwargs(input.parse()?)
        } else if input.parse::<Option<Token![*]>>()?.is_some() {
            if input.is_empty() || input.peek(Token![,]) {
                Kind::Marker("*")
            } else {
                Kind::Args(input.parse()?)
            }
        } else {
            Kind::Plain(input.call(Ident::parse_any)?, None)
        };
        let annotated = !matches!(kind, Kind::Marker(_)) && input.parse::<Option<Token![:]>>()?.is_some();
        let annotation = if annotated { Some(input.parse::<LitStr>()?.value()) } else { None };
        let kind = match kind {
            Kind::Plain(ident, _) if input.parse::<Option<Token![=]>>()?.is_some() => {
                Kind::Plain(ident, Some(input.parse()?))
            }
            kind => kind,
        };
        Ok(Self { kind, annotation })
    }
}

impl Signature {
    /// The signature of a hot path that says none: its parameters.
    pub(crate) fn plain(parameters: &[Parameter]) -> Self {
        let entry = |p: &Parameter| Entry { kind: Kind::Plain(p.name.clone(), None), annotation: None };
        Self { span: Span::call_site(), items: parameters.iter().map(entry).collect(), returns: None }
    }

    pub(crate) fn items(&self) -> &[Entry] {
        &self.items
    }

    /// Finds parameters that are missing or stand elsewhere than in the function.
    pub(crate) fn check(&self, parameters: &[Parameter]) -> Result<()> {
        let mut expected = parameters.iter().map(|parameter| &parameter.name);
        for ident in self.items.iter().filter_map(Entry::ident) {
            match expected.next() {
                Some(name) if name == ident => {}
                Some(name) => {
                    return Err(Error::new(
                        ident.span(),
                        format!("the function's next parameter is `{name}`, not `{ident}`"),
                    ));
                }
                None => {
                    return Err(Error::new(
                        ident.span(),
                        format!("the function has no further parameter `{ident}`"),
                    ));
                }
            }
        }
        match expected.next() {
            Some(name) => {
                Err(Error::new(self.span, format!("the function's parameter `{name}` is missing here")))
            }
            None => Ok(()),
        }
    }

    /// What PyO3 gets: the same, with defaults of the types that the call owns.
    pub(crate) fn for_pyo3(&self, parameters: &[Parameter]) -> TokenStream {
        let items = self.items.iter().map(|item| match &item.kind {
            Kind::Marker("/") => quote! { / },
            Kind::Marker(_) => quote! { * },
            Kind::Args(ident) => quote! { *#ident },
            Kind::Kwargs(ident) => quote! { **#ident },
            Kind::Plain(ident, None) => ident.to_token_stream(),
            Kind::Plain(ident, Some(default)) => {
                match parameters.iter().find(|p| p.name == *ident && p.converts) {
                    Some(Parameter { owned, .. }) => {
                        quote! { #ident = ::vcache::python::expansion::DefaultFor::<#owned>::into_default(#default) }
                    }
                    None => quote! { #ident = #default },
                }
            }
        });
        quote! { (#(#items),*) }
    }

    /// `(key, limit, *, cost=1)`
    pub(crate) fn text(&self) -> String {
        let items: Vec<_> = self
            .items
            .iter()
            .map(|item| match item.python_default() {
                Some(default) => format!("{}={default}", item.python_name()),
                None => item.python_name(),
            })
            .collect();
        format!("({})", items.join(", "))
    }
}

/// A default as Python would write it, or `...` for what is not a plain literal.
fn python_literal(expression: &Expr) -> String {
    match expression {
        Expr::Lit(ExprLit { lit, .. }) => match lit {
            Lit::Int(number) => number.base10_digits().to_owned(),
            Lit::Float(number) => number.base10_digits().to_owned(),
            Lit::Bool(truth) => if truth.value { "True" } else { "False" }.to_owned(),
            Lit::Str(text) => quoted(text.value().chars()),
            Lit::Char(character) => quoted([character.value()].into_iter()),
            Lit::ByteStr(bytes) => format!("b{}", bytes_quoted(&bytes.value())),
            _ => "...".to_owned(),
        },
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) if matches!(**expr, Expr::Lit(_)) => {
            format!("-{}", python_literal(expr))
        }
        Expr::Path(path) if path.path.is_ident("None") => "None".to_owned(),
        Expr::Call(ExprCall { func, args, .. })
            if args.len() == 1 && matches!(&**func, Expr::Path(path) if path.path.is_ident("Some")) =>
        {
            python_literal(&args[0])
        }
        Expr::Group(group) => python_literal(&group.expr),
        _ => "...".to_owned(),
    }
}

fn quoted(text: impl Iterator<Item = char>) -> String {
    let mut quoted = String::from("\"");
    for character in text {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn bytes_quoted(bytes: &[u8]) -> String {
    let text: String = bytes
        .iter()
        .map(|byte| match byte {
            b'"' | b'\\' => format!("\\{}", char::from(*byte)),
            0x20..=0x7e => char::from(*byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect();
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> String {
        python_literal(&syn::parse_str(text).expect("an expression"))
    }

    #[test]
    fn plain_literals_are_written_as_python_writes_them() {
        assert_eq!(literal("1_000u64"), "1000");
        assert_eq!(literal("-1.5f64"), "-1.5");
        assert_eq!(literal("true"), "True");
        assert_eq!(literal("None"), "None");
        assert_eq!(literal("Some(3)"), "3");
        assert_eq!(literal(r#""a\"b\\\n\0""#), r#""a\"b\\\n\U00000000""#);
        assert_eq!(literal(r#"b"a\xff""#), r#"b"a\xff""#);
    }

    #[test]
    fn other_defaults_are_not_spelt_out() {
        assert_eq!(literal("Duration::from_secs(1)"), "...");
        assert_eq!(literal("1 + 1"), "...");
        assert_eq!(literal("LIMIT"), "...");
    }

    #[test]
    fn markers_and_stars_are_kept() {
        let signature: Signature =
            syn::parse_str("(a, /, b = 1, *, c: \"int | None\" = None, **rest)").unwrap();
        assert_eq!(signature.text(), "(a, /, b=1, *, c=None, **rest)");
        assert_eq!(signature.items()[4].annotation.as_deref(), Some("int | None"));
    }
}
