//! Answers, as Sentry's clients read them.

use vcache::admission::{Decision, RuleKind};
use vcache::http::Response;

use crate::refusal::Refusal;

/// Seconds after which a client may try again where nothing better is known.
const PATIENCE: u64 = 60;
/// What the limits of events are about, in the protocol's words. Without it a client would hold back everything.
const CATEGORY: &str = "error";

/// A response: status, headers, and a body of JSON.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Besides those about the body.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

impl Answer {
    /// As HTTP has it.
    ///
    /// # Errors
    /// `Value` for a header that HTTP does not allow: none is.
    pub fn response(self) -> vcache::Result<Response> {
        let begun = Response::new(self.status).bytes("application/json", self.body)?;
        self.headers.into_iter().try_fold(begun, |response, (name, value)| response.header(name, value))
    }

    /// Everything was taken; `id` is that of the first event.
    pub fn taken(id: Option<&str>) -> Self {
        // An id has nothing that JSON would escape.
        let body = id.map_or_else(|| "{}".into(), |id| format!("{{\"id\":\"{id}\"}}"));
        Self { status: 200, headers: Vec::new(), body }
    }

    /// What is to be done later, because something that is needed is away.
    pub fn unavailable(reason: &str, seconds: u64) -> Self {
        let mut answer = Self::from(Refusal { status: 503, reason: reason.into() });
        answer.headers.push(("Retry-After", seconds.to_string()));
        answer
    }

    /// One of the events was not admitted.
    pub fn refused(decision: &Decision) -> Self {
        let wait =
            decision.retry_after.map_or(PATIENCE, |wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        let wait = wait.max(1);
        let Some(refusal) = decision.refused_by.as_ref().filter(|_| decision.status() == 429) else {
            let full = decision.refused_by.as_ref().is_some_and(|refusal| refusal.kind == RuleKind::Stream);
            let reason = if full { "too many events wait to be stored" } else { "the event cannot be kept" };
            return Self::unavailable(&format!("{reason}: try again later"), wait);
        };
        let rule = &refusal.rule;
        let mut answer =
            Self::from(Refusal { status: 429, reason: format!("the project is over its limit: {rule}") });
        answer.headers.push(("Retry-After", wait.to_string()));
        answer.headers.push(("X-Sentry-Rate-Limits", format!("{wait}:{CATEGORY}:project:{rule}")));
        answer
    }
}

impl From<Refusal> for Answer {
    fn from(Refusal { status, reason }: Refusal) -> Self {
        let body = sonic_rs::to_string(&reason).unwrap_or_else(|_| "\"\"".into());
        Self { status, headers: Vec::new(), body: format!("{{\"detail\":{body}}}") }
    }
}
