//! `django_vcache.admission`: throttles, quotas, streams and gates as Python classes. What they decide is
//! `vcache::admission`'s; here stand Python's arguments, the two forms of a call, and what Python gets of a decision.
//!
//! | module | is for |
//! |---|---|
//! | [`throttle`], [`quota`], [`stream`], [`gate`] | a class each |
//! | [`part`], [`rule`], [`refund`] | what the classes have in common |
//! | [`decision`] | what they answer |
//! | [`pickled`] | values as Python pickles them |
//! | [`alias`], [`budgets`] | the cache aliases that are counted on, and where throttles count: for the system checks |
//! | [`asked`] | the arguments of a gate's admission |
//! | [`call`] | a call in its two forms |
//! | [`scope`] | a scope, or the value that stands for one |
//! | [`limit`], [`later`], [`form`] | limits and rates that are callables of the scope, also async ones |
//! | [`server`] | which server is asked, if any |
//! | [`settings`] | the keywords that all constructors have |
//! | [`words`] | what Python's half has to know of names, keys and errors |

mod alias;
mod asked;
mod budgets;
mod call;
mod decision;
mod form;
mod gate;
mod later;
mod limit;
mod part;
mod pickled;
mod quota;
mod refund;
mod rule;
mod scope;
mod server;
mod settings;
mod stream;
mod throttle;
mod words;

pub(crate) use alias::{aliases_in_use, aliases_with_streams};
pub(crate) use budgets::{counted_as, throttles_in_use};
pub(crate) use decision::{
    _restore_decision, _restore_refund, _restore_refusal, _restore_rule_state, PyDecision, PyRefund,
    PyRefusal, PyRuleState,
};
pub(crate) use gate::PyGate;
pub(crate) use quota::PyQuota;
pub(crate) use server::{awarm_up, forget_enabled, limits_are_on, warm_up};
pub(crate) use settings::check_policy;
pub(crate) use stream::PyStream;
pub(crate) use throttle::{PyThrottle, parse_rate};
pub(crate) use words::{add_words, as_name};
