//! The arguments of `#[hotpath(...)]`: what they may be, and an error on the one that is wrong.

use std::time::Duration;

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, Ident, LitStr, Meta, Result, Token};

use crate::keywords::is_keyword;
use crate::signature::Signature;

const KNOWN: &str = "`name`, `aname`, `only`, `cache`, `timeout`, `spawn`, `cancel` and `signature`";

/// Which of the two Python functions there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    Sync,
    Async,
}

/// What becomes of a hot path whose awaitable is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancel {
    Drop,
    Finish,
}

/// What stands in the attribute's parentheses.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) aname: Option<LitStr>,
    pub(crate) only: Option<Only>,
    pub(crate) cache: Option<LitStr>,
    pub(crate) timeout: Option<Duration>,
    /// Where `spawn` stands, for errors about it.
    pub(crate) spawn: Option<Span>,
    pub(crate) cancel: Option<Cancel>,
    pub(crate) signature: Option<Signature>,
    given: Vec<Ident>,
}

impl Options {
    pub(crate) fn parse(attribute: &Attribute) -> Result<Self> {
        let mut options = Self::default();
        if matches!(attribute.meta, Meta::Path(_)) {
            return Ok(options);
        }
        attribute.parse_nested_meta(|meta| options.argument(&meta))?;
        options.check()?;
        Ok(options)
    }

    /// The alias of the connection that it gets.
    pub(crate) fn cache(&self) -> String {
        self.cache.as_ref().map_or_else(|| "default".to_owned(), LitStr::value)
    }

    fn argument(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let unknown = || meta.error(format!("unknown argument of #[hotpath]: it takes {KNOWN}"));
        let argument = meta.path.get_ident().ok_or_else(unknown)?;
        if self.given.contains(argument) {
            return Err(meta.error(format!("`{argument}` is given twice")));
        }
        match argument.to_string().as_str() {
            "name" => self.name = Some(identifier(meta)?),
            "aname" => self.aname = Some(identifier(meta)?),
            "only" => self.only = Some(choice(meta, &[("sync", Only::Sync), ("async", Only::Async)])?),
            "cache" => self.cache = Some(alias(meta)?),
            "timeout" => self.timeout = Some(duration(&text(meta)?)?),
            "spawn" if meta.input.peek(Token![=]) => {
                return Err(meta.error("`spawn` takes no value: it stands alone"));
            }
            "spawn" => self.spawn = Some(argument.span()),
            "cancel" => {
                self.cancel = Some(choice(meta, &[("drop", Cancel::Drop), ("finish", Cancel::Finish)])?);
            }
            "signature" => self.signature = Some(meta.value()?.parse()?),
            _ => return Err(unknown()),
        }
        self.given.push(argument.clone());
        Ok(())
    }

    /// Finds the arguments that do not go together.
    fn check(&self) -> Result<()> {
        match self.only {
            Some(Only::Sync) => {
                self.refuse("aname", "`aname` conflicts with `only = \"sync\"`: there is no async form to name")?;
                self.refuse("cancel", "`cancel` conflicts with `only = \"sync\"`: it is about the async form")
            }
            Some(Only::Async) => self.refuse(
                "name",
                "`name` conflicts with `only = \"async\"`: there is no blocking form to name, and `aname` names the other",
            ),
            None => Ok(()),
        }
    }

    fn refuse(&self, argument: &str, message: &str) -> Result<()> {
        match self.given.iter().find(|given| *given == argument) {
            Some(given) => Err(Error::new(given.span(), message)),
            None => Ok(()),
        }
    }
}

/// `= "text"`
fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let argument = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
    if !meta.input.peek(Token![=]) {
        return Err(meta.error(format!("`{argument}` takes a value: {argument} = \"...\"")));
    }
    let value = meta.value()?;
    value.parse().map_err(|error| Error::new(error.span(), format!("`{argument}` takes a text in quotes")))
}

fn choice<T: Copy>(meta: &ParseNestedMeta<'_>, choices: &[(&str, T)]) -> Result<T> {
    let value = text(meta)?;
    choices.iter().find(|(name, _)| *name == value.value()).map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        Error::new(value.span(), format!("expected {}", names.join(" or ")))
    })
}

fn alias(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let value = text(meta)?;
    if value.value().is_empty() {
        return Err(Error::new(value.span(), "`cache` takes the alias of a cache, such as \"default\""));
    }
    Ok(value)
}

fn identifier(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let value = text(meta)?;
    let name = value.value();
    if is_keyword(&name) {
        return Err(Error::new(value.span(), format!("`{name}` is a keyword of Python's")));
    }
    if syn::parse_str::<Ident>(&format!("_{name}")).is_err() || !name.starts_with(|c: char| !c.is_numeric()) {
        return Err(Error::new(value.span(), format!("\"{name}\" is not a Python identifier")));
    }
    Ok(value)
}

fn duration(value: &LitStr) -> Result<Duration> {
    let text = value.value();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wrong = || {
        Error::new(
            value.span(),
            "a time-out is a whole number and its unit, us, ms, s or m: for example \"50ms\"",
        )
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let duration = match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(wrong()),
    };
    // NOTE: also keeps the moment it ends at within what an `Instant` holds.
    if duration.is_zero() || duration > Duration::from_secs(366 * 24 * 3600) {
        return Err(Error::new(value.span(), "a time-out is longer than 0 and at most a year"));
    }
    Ok(duration)
}
