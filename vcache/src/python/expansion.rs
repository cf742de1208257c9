//! What the code that `#[hotpath]` and `#[module]` write calls, besides the bridge itself. Nothing here is for people:
//! it may change with any release, together with the macros.
//!
//! The checks work in two steps, so that the message is ours. A method call on a [`Probe`] finds out, by autoref, whether
//! the type has a trait: it gives [`Yes`] or [`No`], and never fails. A function then wants a [`Yes`]; its bound is not
//! met by [`No`], and that is what the compiler tells.

use std::marker::PhantomData;

use pyo3::conversion::FromPyObjectOwned;
use pyo3::prelude::*;

pub use super::annotations::{Annotated, AnnotatedNot};
pub use super::arguments::{DefaultFor, HotResult, into_hot_result};
pub use super::stub::{Argument, Form, Stub};
use crate::error::Error;

/// Asks what a type can do, without having a value of it.
pub struct Probe<T>(PhantomData<fn() -> T>);

impl<T> Probe<T> {
    #[allow(clippy::new_without_default, missing_docs)]
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// The type has the trait.
pub struct Yes;

/// The type has it not.
pub struct No;

macro_rules! probe {
    ($has:ident, $has_not:ident, $method:ident, $($bound:tt)+) => {
        #[doc(hidden)]
        pub trait $has {
            fn $method(&self) -> Yes {
                Yes
            }
        }

        impl<T> $has for Probe<T> where T: $($bound)+ {}

        #[doc(hidden)]
        pub trait $has_not {
            fn $method(&self) -> No {
                No
            }
        }

        // Found after the other, because calling it takes one reference more.
        impl<T> $has_not for &Probe<T> {}
    };
}

probe!(FromPython, FromPythonNot, comes, for<'py> FromPyObjectOwned<'py>);
probe!(ToPython, ToPythonNot, goes, for<'py> IntoPyObject<'py>);

#[doc(hidden)]
#[allow(missing_docs)]
pub trait IntoError<E> {
    fn becomes(&self) -> Yes;
    fn convert(&self, error: E) -> Error;
}

impl<E: Into<Error>> IntoError<E> for Probe<E> {
    fn becomes(&self) -> Yes {
        Yes
    }

    fn convert(&self, error: E) -> Error {
        error.into()
    }
}

#[doc(hidden)]
#[allow(missing_docs)]
pub trait IntoErrorNot<E> {
    fn becomes(&self) -> No {
        No
    }

    /// Never called: what would call it does not compile, for the reason that [`BecomesAnError`] gives.
    fn convert(&self, _: E) -> Error {
        Error::value("this error does not turn into vcache::Error")
    }
}

impl<E> IntoErrorNot<E> for &Probe<E> {}

/// `T` can be a parameter.
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot come from Python",
    label = "not a parameter that Python can pass",
    note = "derive `FromPyObject` for it, or take `Json<{T}>`"
)]
pub trait ComesFromPython<T> {}
impl<T> ComesFromPython<T> for Yes {}

/// `T` can be a result.
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot go to Python",
    label = "not a result that Python can get",
    note = "implement or derive `IntoPyObject` for it, or return `Json<{T}>` or `ToDict<{T}>`"
)]
pub trait GoesToPython<T> {}
impl<T> GoesToPython<T> for Yes {}

/// `T` can be a hot path's error.
#[diagnostic::on_unimplemented(
    message = "the error `{T}` does not turn into `vcache::Error`",
    label = "a hot path's error becomes a Python exception by way of `vcache::Error`",
    note = "write `impl From<{T}> for vcache::Error`, or return `vcache::Result`"
)]
pub trait BecomesAnError<T> {}
impl<T> BecomesAnError<T> for Yes {}

#[allow(missing_docs)]
pub fn comes_from_python<T, V: ComesFromPython<T>>(_: V) {}

#[allow(missing_docs)]
pub fn goes_to_python<T, V: GoesToPython<T>>(_: V) {}

#[allow(missing_docs)]
pub fn becomes_an_error<T, V: BecomesAnError<T>>(_: V) {}
