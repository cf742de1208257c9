//! From what the scripts answer to a decision, and to what the deny cache may remember of it.

use std::time::{Duration, Instant};

use redis::Value;

use super::decision::{Decision, Refusal, RuleKind, RuleState, Source};
use super::limits::{Flow, Limits};
use super::local::deny::{self, Denial};
use super::plan::Plan;
use super::receipt::Receipt;
use super::reply::{Numbers, Packed};
use super::spec::Mode;
use super::window::Window;
use crate::error::Result;

/// The wait that a client gets for a full stream: when it has room again is not known.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// What the server decided.
pub(super) enum Verdict {
    Decided(Decision),
    /// A window is not the one of the server's clock, which says these microseconds.
    Stale(i64),
}

/// A wait until the same may be admitted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    /// It may be now.
    None,
    For(Duration),
    Never,
}

impl Wait {
    fn micros(micros: i64) -> Self {
        match u64::try_from(micros) {
            Ok(0) => Self::None,
            Ok(micros) => Self::For(Duration::from_micros(micros)),
            Err(_) => Self::Never,
        }
    }

    fn known(self) -> Option<Duration> {
        match self {
            Self::None => Some(Duration::ZERO),
            Self::For(wait) => Some(wait),
            Self::Never => None,
        }
    }
}

impl Plan<'_> {
    /// Reads the answer of the script that decides. `sent` is when it was asked, `receipt` what it was given.
    pub(super) fn decide(&self, reply: Value, sent: Instant, receipt: Option<Receipt>) -> Result<Verdict> {
        let inner = self.inner;
        let mut reply = Packed::of(reply)?;
        let (verdict, rule, now) = (reply.int()?, reply.int()?, reply.int()?);
        if verdict == 3 {
            return Ok(Verdict::Stale(now));
        }
        let mut rules = Vec::with_capacity(inner.rules());
        let mut wait = Wait::None;
        // The script counts only those that it was asked for, and from 1.
        let mut refused_by = None;
        let mut asked = 0;
        for (at, throttle) in inner.throttles.iter().enumerate() {
            let limits = self.rate(at);
            let mut state = throttle_state(&throttle.name, limits);
            if matches!(limits.flow, Flow::Counted(_)) {
                asked += 1;
                let (remaining, retry, reset) =
                    (reply.int()?.max(0), Wait::micros(reply.int()?), micros(reply.int()?));
                state.remaining = Some(remaining);
                state.reset_after = reset;
                if verdict == 0 && retry != Wait::None {
                    self.remember(rules.len(), retry, &state, sent)?;
                    if rule == asked {
                        (refused_by, wait) = (Some(rules.len()), retry);
                    }
                }
            }
            rules.push(state);
        }
        for (at, quota) in inner.quotas.iter().enumerate() {
            asked += 1;
            let (limit, used, window) = (self.limit(at), reply.int()?, self.windows[at]);
            let state = quota_state(&quota.name, limit, used, window, now);
            if verdict == 0 {
                let retry = self.quota_wait(rules.len(), quota.terms.mode, limit, used, state.reset_after);
                if retry != Wait::None {
                    self.remember(rules.len(), retry, &state, sent)?;
                }
                if rule == asked {
                    (refused_by, wait) = (Some(rules.len()), retry);
                }
            }
            rules.push(state);
        }
        if self.payload.is_some() {
            let _depth = reply.int()?;
        }
        let (id, kept) = reply.texts()?;
        let ours = verdict == 2 && self.is_ours(kept);
        let duplicate = verdict == 2 && !ours;
        let refused_by = (verdict == 0).then(|| match refused_by {
            Some(at) => Refusal { rule: rules[at].name.clone(), kind: rules[at].kind },
            None => {
                wait = Wait::For(FULL_RETRY);
                let stream = inner.stream.as_ref();
                Refusal {
                    rule: stream.map(|stream| stream.name.clone()).unwrap_or_default(),
                    kind: RuleKind::Stream,
                }
            }
        });
        Ok(Verdict::Decided(Decision {
            allowed: verdict != 0,
            duplicate,
            id: (!id.is_empty()).then(|| id.to_owned()),
            receipt: match verdict {
                0 => None,
                _ if duplicate => Receipt::kept(kept),
                _ => receipt.filter(|_| self.is_charged()),
            },
            retry_after: if refused_by.is_some() { wait.known() } else { Some(Duration::ZERO) },
            refused_by,
            rules,
            source: Source::Server,
            outage: None,
        }))
    }

    /// How long a quota refuses, as the script decides it.
    fn quota_wait(&self, rule: usize, mode: Mode, limit: i64, used: i64, left: Duration) -> Wait {
        let asked = self.asked(rule);
        let refuses = match mode {
            _ if limit < 0 || asked == 0 => false,
            Mode::Shadow => false,
            Mode::Crossing => used >= limit,
            Mode::Strict | Mode::CheckOnly => asked > limit - used,
        };
        if !refuses {
            Wait::None
        } else if limit == 0 || (asked > limit && mode != Mode::Crossing) {
            Wait::Never
        } else {
            Wait::For(left)
        }
    }

    /// Notes what the server refused. From the moment that it was asked on: its answer was on the way for a while, and
    /// nothing may be refused here that it would admit.
    fn remember(&self, rule: usize, wait: Wait, state: &RuleState, sent: Instant) -> Result<()> {
        let inner = self.inner;
        if !inner.settings.deny_cache || self.cost(rule) == 0 || inner.forgets() != self.forgets {
            return Ok(());
        }
        let retry_at = wait.known().map(|wait| sent + wait);
        let longest = sent + deny::LONGEST;
        let until = retry_at.map_or(longest, |retry_at| retry_at.min(longest));
        let denial = Denial {
            version: self.version(rule),
            cost: self.cost(rule),
            until,
            retry_at,
            reset_at: sent + state.reset_after,
            remaining: state.remaining.unwrap_or(0),
            used: state.used,
        };
        let key = self.local_key(rule)?;
        deny::remember(&key, denial, sent);
        inner.denies_until(until);
        // Another thread may have given back or reset what was refused, and have come before this one.
        if inner.forgets() != self.forgets {
            deny::forget(&key);
        }
        Ok(())
    }

    /// Whether a rule has as much as is asked for when nothing is used of it.
    fn may_ever_pass(&self, rule: usize) -> bool {
        match rule.checked_sub(self.inner.throttles.len()) {
            None => self.rate(rule).counted().is_none_or(|counted| self.cost(rule) <= counted.burst),
            Some(at) => {
                let limit = self.limit(at);
                limit < 0 || self.cost(rule) <= limit || self.inner.quotas[at].terms.mode == Mode::Crossing
            }
        }
    }

    /// The refusal that the deny cache still knows.
    ///
    /// A dedupe id is always asked for: who comes twice is to get the first answer, whatever has been used up since.
    pub(super) fn denied(&self, now: Instant) -> Result<Option<Decision>> {
        let settings = &self.inner.settings;
        if !settings.deny_cache || self.is_free() || self.dedupe.is_some() || !self.inner.may_deny(now) {
            return Ok(None);
        }
        let mut longest = None;
        for rule in 0..self.inner.rules() {
            let key = self.local_key(rule)?;
            if self.cost(rule) > 0
                && let Some(denial) = deny::find(&key, &self.version(rule), self.cost(rule), now)
            {
                let wait = match denial.retry_at {
                    Some(at) if self.may_ever_pass(rule) => Wait::For(at.saturating_duration_since(now)),
                    _ => Wait::Never,
                };
                if longest.as_ref().is_none_or(|(_, _, known)| wait > *known) {
                    longest = Some((rule, denial, wait));
                }
            }
        }
        let Some((rule, denial, wait)) = longest else { return Ok(None) };
        let mut state = self.state(rule);
        state.remaining = Some(denial.remaining);
        state.used = denial.used;
        state.reset_after = denial.reset_at.saturating_duration_since(now);
        Ok(Some(self.refusal(rule, state, wait.known(), Source::DenyCache)))
    }

    /// What needs no server: a limit of 0 refuses, and where nothing is limited or written, nothing is asked.
    pub(super) fn settled(&self) -> Result<Option<Decision>> {
        let inner = self.inner;
        let nothing = |rule: usize| match rule.checked_sub(inner.throttles.len()) {
            _ if self.asked(rule) == 0 => false,
            None => self.rate(rule).flow == Flow::Nothing,
            Some(at) => self.limit(at) == 0 && inner.quotas[at].terms.mode != Mode::Shadow,
        };
        let rules = inner.rules();
        if let Some(rule) = (0..rules).find(|rule| nothing(*rule)) {
            self.check_keys()?;
            return Ok(Some(self.refusal(rule, self.state(rule), None, Source::Settings)));
        }
        let asks = self.counted().next().is_some()
            || !inner.quotas.is_empty()
            || self.payload.is_some()
            || self.dedupe.is_some();
        if asks {
            return Ok(None);
        }
        self.unasked(Source::Settings).map(Some)
    }

    /// Yes, without asking anybody: nothing is used of any rule.
    ///
    /// # Errors
    /// `Value` for what is wrong about the keys.
    pub(super) fn unasked(&self, source: Source) -> Result<Decision> {
        self.check_keys()?;
        let rules = self.inner.rules();
        Ok(Decision {
            allowed: true,
            duplicate: false,
            id: None,
            receipt: None,
            refused_by: None,
            retry_after: Some(Duration::ZERO),
            rules: (0..rules).map(|rule| self.state(rule)).collect(),
            source,
            outage: None,
        })
    }

    /// A rule of which nothing is used, and nothing left if it gives nothing.
    pub(super) fn state(&self, rule: usize) -> RuleState {
        let inner = self.inner;
        match rule.checked_sub(inner.throttles.len()) {
            None => throttle_state(&inner.throttles[rule].name, self.rate(rule)),
            Some(at) => {
                quota_state(&inner.quotas[at].name, self.limit(at), 0, self.windows[at], inner.server_now())
            }
        }
    }

    /// A refusal by one rule; of the others nothing is known.
    pub(super) fn refusal(
        &self,
        rule: usize,
        state: RuleState,
        retry_after: Option<Duration>,
        source: Source,
    ) -> Decision {
        let mut rules = self.unknown();
        let refused_by = Some(Refusal { rule: state.name.clone(), kind: state.kind });
        rules[rule] = state;
        Decision {
            allowed: false,
            duplicate: false,
            id: None,
            receipt: None,
            refused_by,
            retry_after,
            rules,
            source,
            outage: None,
        }
    }

    /// Every rule, as the server was not asked how it stands.
    pub(super) fn unknown(&self) -> Vec<RuleState> {
        (0..self.inner.rules())
            .map(|rule| {
                let mut state = self.state(rule);
                (state.remaining, state.reset_after) = (None, Duration::ZERO);
                state
            })
            .collect()
    }

    /// Reads the answer of the script that looks; `None` if a window has ended, by the server's clock.
    pub(super) fn states(&self, reply: Value) -> Result<Result<Vec<RuleState>, i64>> {
        let mut reply = Numbers::of(reply)?;
        let now = reply.int()?;
        let second = now.div_euclid(1_000_000);
        if !self.windows.iter().all(|window| window.contains(second)) {
            return Ok(Err(now));
        }
        let mut states = Vec::with_capacity(self.inner.rules());
        for (at, throttle) in self.inner.throttles.iter().enumerate() {
            let limits = self.rate(at);
            let mut state = throttle_state(&throttle.name, limits);
            if matches!(limits.flow, Flow::Counted(_)) {
                state.remaining = Some(reply.int()?.max(0));
                state.reset_after = micros(reply.int()?);
            }
            states.push(state);
        }
        for (at, quota) in self.inner.quotas.iter().enumerate() {
            states.push(quota_state(&quota.name, self.limit(at), reply.int()?, self.windows[at], now));
        }
        Ok(Ok(states))
    }
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn throttle_state(name: &std::sync::Arc<str>, limits: &Limits) -> RuleState {
    RuleState {
        name: name.clone(),
        kind: RuleKind::Throttle,
        limit: limits.limit,
        burst: limits.burst,
        remaining: match limits.flow {
            Flow::Unlimited => None,
            Flow::Nothing => Some(0),
            Flow::Counted(_) => Some(limits.burst),
        },
        used: 0,
        reset_after: Duration::ZERO,
        window: limits.window,
    }
}

fn quota_state(name: &std::sync::Arc<str>, limit: i64, used: i64, window: Window, now: i64) -> RuleState {
    RuleState {
        name: name.clone(),
        kind: RuleKind::Quota,
        limit,
        burst: limit,
        remaining: (limit >= 0).then(|| (limit - used).max(0)),
        used,
        reset_after: micros(window.end.saturating_mul(1_000_000).saturating_sub(now)),
        window: Duration::from_secs(window.seconds()),
    }
}
