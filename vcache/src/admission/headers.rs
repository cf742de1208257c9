//! A decision in the headers of an answer: the IETF's `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers),
//! `Retry-After`, and the X-RateLimit triple that came before them.

use std::fmt::Write as _;
use std::time::Duration;

use super::decision::{Decision, RuleState};

impl Decision {
    /// The headers of the answer, names and values: `RateLimit-Policy` and `RateLimit` as the IETF's draft has them, and
    /// `Retry-After` if it was refused and there is something to wait for. With `legacy` also `X-RateLimit-Limit`,
    /// `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds from now) of the rule that is closest to its limit.
    ///
    /// Rules without a limit are left out, and so are all that are not known, as in an outage.
    #[must_use]
    pub fn headers(&self, legacy: bool) -> Vec<(&'static str, String)> {
        let mut headers = Vec::with_capacity(6);
        let (mut policies, mut limits) = (String::new(), String::new());
        for (rule, remaining) in self.limited() {
            let comma = if policies.is_empty() { "" } else { ", " };
            // Names need no escape: of what could be in one, a quoted string takes everything as it is.
            let _ = write!(
                policies,
                "{comma}\"{}\";q={};w={}",
                rule.name,
                rule.limit,
                seconds(rule.window).max(1)
            );
            let _ = write!(limits, "{comma}\"{}\";r={remaining};t={}", rule.name, seconds(rule.reset_after));
        }
        if !policies.is_empty() {
            headers.push(("RateLimit-Policy", policies));
            headers.push(("RateLimit", limits));
        }
        if let Some(wait) = self.retry_after.filter(|_| !self.allowed) {
            headers.push(("Retry-After", seconds(wait).max(1).to_string()));
        }
        if legacy && let Some((rule, remaining)) = self.closest() {
            headers.push(("X-RateLimit-Limit", rule.limit.to_string()));
            headers.push(("X-RateLimit-Remaining", remaining.to_string()));
            headers.push(("X-RateLimit-Reset", seconds(rule.reset_after).to_string()));
        }
        headers
    }

    /// What a Sentry client reads, also in an answer of 200: `X-Sentry-Rate-Limits`, with the seconds, the categories (all if
    /// there is none), the scope and the rule that refused, and `Retry-After`. Nothing for what was admitted, or never will be.
    ///
    /// ```no_run
    /// # fn example(decision: &vcache::admission::Decision) {
    /// for (name, value) in decision.sentry_headers(&["error", "transaction"], "organization") {
    ///     println!("{name}: {value}"); // X-Sentry-Rate-Limits: 60:error;transaction:organization:org
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn sentry_headers(&self, categories: &[&str], scope: &str) -> Vec<(&'static str, String)> {
        let (Some(refusal), Some(wait)) = (&self.refused_by, self.retry_after) else { return Vec::new() };
        let wait = seconds(wait).max(1);
        vec![
            ("X-Sentry-Rate-Limits", format!("{wait}:{}:{scope}:{}", categories.join(";"), refusal.rule)),
            ("Retry-After", wait.to_string()),
        ]
    }

    fn limited(&self) -> impl Iterator<Item = (&RuleState, i64)> {
        self.rules.iter().filter_map(|rule| Some((rule, rule.remaining?)))
    }

    /// The rule that is closest to its limit: the one that refused, or else the one with the smallest part of its burst left.
    /// `None` if there is no limit, or nothing is known of them.
    #[must_use]
    pub fn closest_rule(&self) -> Option<&RuleState> {
        self.closest().map(|(rule, _)| rule)
    }

    fn closest(&self) -> Option<(&RuleState, i64)> {
        let refused = self.refused_by.as_ref().and_then(|refusal| {
            self.limited().find(|(rule, _)| rule.name == refusal.rule && rule.kind == refusal.kind)
        });
        refused.or_else(|| {
            // By cross-multiplication, which is exact.
            self.limited().min_by(|(one, left), (other, right)| {
                let of = |rule: &RuleState| i128::from(rule.burst.max(1));
                (i128::from(*left) * of(other)).cmp(&(i128::from(*right) * of(one)))
            })
        })
    }
}

/// Whole seconds, begun ones included.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::decision::{Refusal, RuleKind, Source};

    fn rule(name: &str, limit: i64, burst: i64, remaining: Option<i64>) -> RuleState {
        RuleState {
            name: name.into(),
            kind: RuleKind::Throttle,
            limit,
            burst,
            remaining,
            used: 0,
            reset_after: Duration::from_millis(1_200),
            window: Duration::from_secs(10),
        }
    }

    fn decision(rules: Vec<RuleState>) -> Decision {
        Decision {
            allowed: true,
            duplicate: false,
            id: None,
            receipt: None,
            refused_by: None,
            retry_after: None,
            rules,
            source: Source::Server,
            outage: None,
        }
    }

    fn get<'a>(headers: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
        headers.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    #[test]
    fn an_admission_tells_every_limit() {
        let rules = vec![
            rule("burst", 10, 10, Some(8)),
            rule("daily", 1_000, 1_000, Some(1)),
            rule("none", -1, -1, None),
        ];
        let headers = decision(rules).headers(true);
        assert_eq!(get(&headers, "RateLimit-Policy"), Some(r#""burst";q=10;w=10, "daily";q=1000;w=10"#));
        assert_eq!(get(&headers, "RateLimit"), Some(r#""burst";r=8;t=2, "daily";r=1;t=2"#));
        assert_eq!(get(&headers, "Retry-After"), None);
        assert_eq!(get(&headers, "X-RateLimit-Limit"), Some("1000"), "the one that is closest to its limit");
        assert_eq!(get(&headers, "X-RateLimit-Remaining"), Some("1"));
        assert_eq!(get(&headers, "X-RateLimit-Reset"), Some("2"));
    }

    #[test]
    fn a_refusal_tells_when_to_come_back() {
        let mut refused = decision(vec![rule("a", 10, 10, Some(3)), rule("b", 10, 10, Some(0))]);
        refused.allowed = false;
        refused.refused_by = Some(Refusal { rule: "a".into(), kind: RuleKind::Throttle });
        refused.retry_after = Some(Duration::from_micros(1));
        assert_eq!(refused.status(), 429);
        let headers = refused.headers(true);
        assert_eq!(get(&headers, "Retry-After"), Some("1"), "never 0, which is at once");
        assert_eq!(get(&headers, "X-RateLimit-Remaining"), Some("3"), "of the rule that refused");
        refused.retry_after = None;
        assert_eq!(get(&refused.headers(false), "Retry-After"), None, "there is nothing to wait for");
        assert_eq!(get(&refused.headers(false), "X-RateLimit-Limit"), None);
    }

    #[test]
    fn an_outage_tells_no_limits() {
        let mut outage = decision(Vec::new());
        outage.allowed = false;
        outage.refused_by = Some(Refusal { rule: "events".into(), kind: RuleKind::Outage });
        outage.retry_after = Some(Duration::from_secs(1));
        assert_eq!(outage.status(), 503);
        assert_eq!(outage.headers(true), [("Retry-After", "1".to_owned())]);
        assert_eq!(decision(Vec::new()).status(), 200);
        assert_eq!(decision(Vec::new()).headers(true), []);
    }
}
