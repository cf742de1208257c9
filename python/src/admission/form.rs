//! The form of a gate's call, on which it depends what async callables of its rules mean: one that blocks refuses them, and
//! one that is awaited awaits them first.

use std::sync::Arc;

use pyo3::prelude::*;

use super::later::Later;
use super::limit::Said;
use super::rule::{Limited, Rule};

/// How a call is made.
pub(super) enum Form {
    /// By this method, which waits until it is over.
    Blocks(&'static str),
    /// By one that is awaited, and with it what async callables returned.
    Awaited(Later),
}

/// Adds what a rule's callable says, unless the call has a limit for the rule; the rule's name, if the answer is awaited.
pub(super) fn called<R: Limited>(
    rule: &Rule<R>,
    scope: &Bound<'_, PyAny>,
    limits: &mut Vec<(Arc<str>, R::Limit)>,
    form: &mut Form,
) -> PyResult<Option<Arc<str>>> {
    if !rule.is_called() || limits.iter().any(|(known, _)| **known == *rule.name()) {
        return Ok(None);
    }
    let said = match form {
        Form::Blocks(method) => rule.limit_now(scope, None, method)?.map_or(Said::Own, Said::This),
        Form::Awaited(_) => rule.limit_for(scope, None)?,
    };
    match (said, form) {
        (Said::This(limit), _) => limits.push((rule.name().into(), limit)),
        (Said::Awaited(awaitable), Form::Awaited(later)) => {
            later.push(awaitable);
            return Ok(Some(rule.name().into()));
        }
        _ => {}
    }
    Ok(None)
}
