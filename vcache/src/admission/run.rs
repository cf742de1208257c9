//! One admission from its first look at this process's own tables to the server's answer, or to what is said instead of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::asked::Admission;
use super::decide::Verdict;
use super::decision::{Decision, Refusal, RuleKind, Source};
use super::inner::Inner;
use super::local;
use super::local::breaker::Permit;
use super::local::bucket::{self, Empty, GUARDS, LOCAL, Share};
use super::local::outage::{is_foreign, is_outage};
use super::plan::Plan;
use super::receipt::Receipt;
use super::script::{self, ADMIT};
use super::settings::Outage;
use super::spec::Mode;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Result};

/// What a client is told to wait at least when there is an outage.
const OUTAGE_RETRY: Duration = Duration::from_secs(1);
/// How often the windows are worked out anew: once because the clocks differ, and once more because the hour struck.
const MOST_STALE: u32 = 2;

impl<'a> Plan<'a> {
    pub(super) async fn admit(&mut self, conn: &Connection) -> Result<Decision> {
        let inner = self.inner;
        let counters = &inner.counters;
        if let Some(decision) = self.settled()? {
            if decision.allowed { &counters.admitted } else { &counters.refused }.count();
            return Ok(decision);
        }
        let begun = Instant::now();
        if let Some(decision) = self.denied(begun)? {
            counters.deny_cache.count();
            return Ok(decision);
        }
        if let Some(decision) = self.guarded()? {
            counters.guard.count();
            return Ok(decision);
        }
        let mut replays = u32::from(self.dedupe.is_some());
        let mut replaying = false;
        let mut stale = 0;
        let mut sent = begun;
        loop {
            let permit = match self.permit(sent) {
                Ok(permit) => permit,
                Err(left) => return self.outage(left, None, conn.alias()),
            };
            if std::mem::take(&mut replaying) {
                counters.replayed.count();
            }
            let receipt = self.receipt()?;
            // The server keeps it for a second call with this id.
            let kept = receipt.as_ref().filter(|_| self.dedupe.is_some()).map_or("", Receipt::as_str);
            let reply =
                script::run(conn, &ADMIT, inner.settings.deadline, |head| self.encode(head, kept)).await;
            let error = match reply {
                Ok(reply) => {
                    answered(permit);
                    match self.decide(reply, sent, receipt)? {
                        Verdict::Decided(decision) => {
                            let counter = match &decision {
                                Decision { allowed: false, .. } => &counters.refused,
                                Decision { duplicate: true, .. } => &counters.duplicates,
                                _ => &counters.admitted,
                            };
                            counter.count();
                            return Ok(decision);
                        }
                        Verdict::Stale(server_now) if stale < MOST_STALE => {
                            stale += 1;
                            counters.stale_windows.count();
                            inner.set_clock(server_now);
                            self.windows_at(server_now)?;
                            sent = Instant::now();
                            continue;
                        }
                        Verdict::Stale(server_now) => {
                            return Err(restless(server_now).with_alias(conn.alias()));
                        }
                    }
                }
                Err(error) => error,
            };
            if !is_outage(&error) {
                if error.kind() == ErrorKind::Response {
                    answered(permit);
                }
                if is_foreign(&error) {
                    return self.outage(Duration::ZERO, Some(self.in_the_way(&error)), conn.alias());
                }
                return Err(error);
            }
            if conn.is_out_of_time() {
                return Err(error);
            }
            if permit.is_some_and(|permit| permit.failed(sent, Instant::now())) {
                counters.breaker_opened.count();
            }
            if replays == 0 || error.kind() != ErrorKind::Timeout {
                return self.outage(Duration::ZERO, Some(error), conn.alias());
            }
            replays -= 1;
            replaying = true;
            sent = Instant::now();
        }
    }

    /// Says which keys there are, one of which holds something else, and what to do.
    #[cold]
    fn in_the_way(&self, error: &Error) -> Error {
        let rules = 0..self.inner.rules();
        let mut keys: Vec<_> = rules
            .filter_map(|rule| self.local_key(rule).ok())
            .map(|key| String::from_utf8_lossy(local::on_server(&key)).into_owned())
            .collect();
        if let (Some(stream), Some(_)) = (&self.inner.stream, self.payload) {
            let middle = String::from_utf8_lossy(&stream.middle);
            keys.push(self.inner.space.text(self.key_head, self.shard, &middle));
        }
        error.with_hint(&format!(
            "one of its keys ({}) holds another program's value, or another version's: delete it, or count under another \
             prefix",
            keys.join(", ")
        ))
    }

    /// Leave to ask the server, of the breaker if there is one; or how long the server is left alone.
    fn permit(&self, now: Instant) -> Result<Option<Permit<'a>>, Duration> {
        if !self.inner.settings.breaker {
            return Ok(None);
        }
        self.inner.breaker.permit(now).map(Some)
    }

    /// The refusal of the guard, if there is one: this process alone asks for more than all may have together.
    fn guarded(&self) -> Result<Option<Decision>> {
        let Some(factor) = self.inner.settings.guard.filter(|_| !self.is_free()) else { return Ok(None) };
        for (rule, _) in self.counted() {
            let limits = self.rate(rule);
            let share = Share { limit: limits.limit, window: limits.window, burst: limits.burst, factor };
            // A smaller bucket would refuse what the server admits.
            if !share.is_whole() {
                continue;
            }
            let key = self.local_key(rule)?;
            // What is more than the guard ever has is more than the burst: the server says that.
            let spent = bucket::spend(&GUARDS, &key, self.version(rule), &share, self.cost(rule));
            if let Err(Empty::For(wait)) = spent {
                let mut state = self.state(rule);
                (state.remaining, state.reset_after) = (Some(0), wait);
                return Ok(Some(self.refusal(rule, state, Some(wait), Source::Guard)));
            }
        }
        Ok(None)
    }

    /// What is said when the server cannot be asked: `error` is why, or the breaker leaves it alone for `left`.
    fn outage(&self, left: Duration, error: Option<Error>, alias: &str) -> Result<Decision> {
        // Nothing was encoded if the breaker is open, and what is wrong about a call is so whatever the server does.
        self.check_keys()?;
        let inner = self.inner;
        let counters = &inner.counters;
        counters.outages.count();
        let retry = left.max(OUTAGE_RETRY);
        let error = error.unwrap_or_else(|| left_alone(left)).with_alias(alias);
        let policies = || {
            let throttles = self.counted().map(|(rule, _)| (rule, inner.throttles[rule].outage));
            let refuses = |at: usize| self.limit(at) >= 0 && inner.quotas[at].terms.mode != Mode::Shadow;
            let quotas = (0..inner.quotas.len()).filter(move |at| refuses(*at));
            throttles
                .chain(quotas.map(|at| (inner.throttles.len() + at, inner.quotas[at].outage)))
                .filter(|(rule, _)| self.asked(*rule) > 0)
        };
        let stream = self.payload.and(inner.stream.as_ref());
        if policies().any(|(_, policy)| policy == Outage::Raise)
            || (stream.is_some() && inner.settings.outage == Outage::Raise)
        {
            return Err(error);
        }
        // What is not stored is not admitted, whatever the policies are.
        let closed = match stream {
            Some(stream) => Some(stream.name.clone()),
            None => policies()
                .find(|(_, policy)| *policy == Outage::Closed)
                .map(|(rule, _)| self.name(rule).clone()),
        };
        let decision = Decision {
            allowed: closed.is_none(),
            duplicate: false,
            id: None,
            receipt: None,
            retry_after: Some(if closed.is_some() { retry } else { Duration::ZERO }),
            refused_by: closed.map(|rule| Refusal { rule, kind: RuleKind::Outage }),
            rules: self.unknown(),
            source: Source::Outage,
            outage: Some(error.clone()),
        };
        if !decision.allowed {
            counters.outage_closed.count();
            return Ok(decision);
        }
        let counts = |rule: usize| {
            rule.checked_sub(inner.throttles.len()).is_none_or(|at| inner.quotas[at].terms.charges())
        };
        for (rule, _) in policies().filter(|(rule, policy)| *policy == Outage::Local && counts(*rule)) {
            let share = self.share(rule);
            let spent =
                bucket::spend(&LOCAL, &self.local_key(rule)?, self.version(rule), &share, self.cost(rule));
            if let Err(empty) = spent {
                counters.outage_local.count();
                let wait = match empty {
                    Empty::For(wait) => wait,
                    Empty::TooSmall => retry,
                };
                let mut state = self.state(rule);
                (state.remaining, state.reset_after) = (Some(0), wait);
                let refusal = self.refusal(rule, state, Some(wait), Source::Outage);
                return Ok(Decision { outage: Some(error), ..refusal });
            }
        }
        counters.outage_open.count();
        Ok(decision)
    }

    /// This process's share of a rule.
    fn share(&self, rule: usize) -> Share {
        let factor = 1.0 / f64::from(self.inner.settings.sharers());
        match rule.checked_sub(self.inner.throttles.len()) {
            None => {
                let limits = self.rate(rule);
                Share { limit: limits.limit, window: limits.window, burst: limits.burst, factor }
            }
            Some(at) => {
                let (limit, window) = (self.limit(at), Duration::from_secs(self.windows[at].seconds()));
                Share { limit, window, burst: limit, factor }
            }
        }
    }

    fn name(&self, rule: usize) -> &Arc<str> {
        match rule.checked_sub(self.inner.throttles.len()) {
            None => &self.inner.throttles[rule].name,
            Some(at) => &self.inner.quotas[at].name,
        }
    }
}

impl Inner {
    pub(super) async fn admit(&self, conn: &Connection, admission: Admission<'_>) -> Result<Decision> {
        let mut plan = Plan::new(self, conn.key_head(), &admission, None)?;
        plan.admit(conn).await
    }

    /// The answer where limits are switched off.
    pub(super) fn waive(&self, admission: &Admission<'_>) -> Result<Decision> {
        let decision = Plan::new(self, b"", admission, None)?.unasked(Source::Disabled)?;
        self.counters.admitted.count();
        Ok(decision)
    }
}

/// The server answered, whatever it said.
fn answered(permit: Option<Permit<'_>>) {
    if let Some(permit) = permit {
        permit.succeeded();
    }
}

fn left_alone(left: Duration) -> Error {
    Error::connection(format!(
        "the server failed several times in a row and is left alone for {:.1} s more (Settings::breaker)",
        left.as_secs_f64()
    ))
}

fn restless(server_now: i64) -> Error {
    Error::refused(format!(
        "the server's clock says {server_now} us since 1970, and something else each time: no window is the one that is now"
    ))
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use crate::admission::{Admission, Gate, Period, Quota, Scope, Settings};
    use crate::block_on;
    use crate::testing::Server;

    const DAY: i64 = 86_400_000_000;

    fn gate() -> Gate {
        Gate::builder()
            .settings(Settings { deadline: None, ..Settings::default() })
            .owner("org")
            .quota(Quota::new("hour", 100, Period::Hour).unwrap())
            .quota(Quota::new("day", 100, Period::Day).unwrap().timezone("Australia/Lord_Howe").unwrap())
            .quota(Quota::new("month", 100, Period::Month).unwrap().timezone("America/New_York").unwrap())
            .build()
            .unwrap()
    }

    #[test]
    fn a_window_that_is_not_the_servers_is_worked_out_anew_by_its_clock() {
        let server = Server::start();
        let (conn, scope) = (server.connection(), Scope::new().with("org", 1));
        // A client whose clock is far behind, far ahead, and beyond any calendar that the server would have.
        for ahead in [-40 * DAY, 40 * DAY, 4_000 * DAY] {
            let gate = gate();
            let now = gate.inner.server_now();
            gate.inner.set_clock(now + ahead);
            block_on(async {
                let first = gate.admit(&conn, Admission::new(&scope)).await.unwrap();
                assert_eq!((first.allowed, first.rules.len()), (true, 3));
                assert!(
                    first
                        .rules
                        .iter()
                        .all(|rule| !rule.reset_after.is_zero() && rule.reset_after <= rule.window)
                );
                assert_eq!(gate.metrics().stale_windows, 1);
                gate.admit(&conn, Admission::new(&scope)).await.unwrap();
                assert_eq!(gate.metrics().stale_windows, 1, "the difference is remembered");
                gate.inner.set_clock(now + ahead);
                let states = gate.peek(&conn, Admission::new(&scope)).await.unwrap();
                let used: Vec<_> = states.iter().map(|state| state.used).collect();
                assert_eq!(used, [2, 2, 2], "a peek looks into the same windows");
                gate.inner.set_clock(now + ahead);
                assert_eq!(gate.reset(&conn, &scope, None).await.unwrap(), 3, "and a reset");
                gate.inner.set_clock(now + ahead);
                let receipt = gate.admit(&conn, Admission::new(&scope)).await.unwrap().receipt.unwrap();
                gate.inner.set_clock(now + ahead);
                let refund = gate.refund(&conn, &receipt).await.unwrap();
                assert!(refund.refunded && refund.usage.iter().all(|usage| usage.used == 0));
            });
        }
    }

    #[test]
    fn a_refund_is_remembered_as_long_as_what_it_was_of() {
        let server = Server::start();
        let mut conn = server.connection();
        let (gate, scope) = (gate(), Scope::new().with("org", 1));
        block_on(async {
            let receipt = gate.admit(&conn, Admission::new(&scope)).await.unwrap().receipt.unwrap();
            gate.reset(&conn, &scope, None).await.unwrap();
            gate.refund(&conn, &receipt).await.unwrap();
            let key = format!("vcache:2:{{v00}}:r:{}", &receipt.as_str()[..16]);
            let kept: i64 = redis::cmd("PTTL").arg(key).query_async(&mut conn).await.unwrap();
            // In a month's last hours a day of another zone may end after it.
            let starts = receipt.parts().unwrap().starts;
            let left = gate.inner.quotas.iter().zip(starts).map(|(quota, start)| {
                let end = quota.terms.calendar.look(start).unwrap().end;
                end * 1_000 + quota.terms.keep_ms() - gate.inner.server_now() / 1_000
            });
            let left = left.max().unwrap();
            assert!((kept - left).abs() < 60_000, "{kept} of {left}");
        });
    }
}
