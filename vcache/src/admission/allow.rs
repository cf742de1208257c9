//! One rate limit under a key of the caller's own, decided in one round trip by the generic cell rate algorithm (GCRA) on
//! the server's clock.
//!
//! The state of a key expires when what is owed does. In any window W at most `burst + rate * W` units pass, where the
//! burst is the limit itself.

#[cfg(feature = "admission")]
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

#[cfg(feature = "admission")]
use super::decision::{Decision, Refusal, RuleKind, RuleState, Source};
use super::limits::{Counted, LARGEST};
use super::reply::Packed;
use super::script::{self, ADMIT};
use crate::connection::{Connection, Packet};
use crate::error::{Error, Result};

/// The answer of [`allow`]. With the feature `admission` it becomes a [`Decision`](super::Decision) by `into()`, whose one
/// rule is called "allow".
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Allowance {
    /// Whether the call may go on. If not, nothing was charged.
    pub allowed: bool,
    /// Units in a window, and as many may go at once.
    pub limit: i64,
    /// Whole units left in the burst.
    pub remaining: i64,
    /// How long to wait until the same cost would be allowed; zero if it was, `None` if it never will be.
    pub retry_after: Option<Duration>,
    /// Until the whole burst is there again.
    pub reset_after: Duration,
    /// The length of the window.
    pub window: Duration,
    by: DecidedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecidedBy {
    Server,
    /// The limit of 0.
    Limit,
    /// Limits are switched off.
    Switch,
}

/// Spends `cost` units of `key`'s budget of `limit` units per `period` seconds. A cost of 0 asks whether a
/// unit would be let through, and writes nothing.
///
/// # Errors
/// [`ErrorKind::Value`](crate::ErrorKind::Value) for an empty key, a limit below 0, a period that is not positive, or
/// numbers too large to be counted exactly; a connection's errors otherwise.
///
/// ```no_run
/// # async fn example(conn: &mut vcache::Connection) -> vcache::Result<()> {
/// let answer = vcache::admission::allow(conn, "throttle:42", 100, 60.0, 1).await?;
/// if !answer.allowed {
///     println!("come back in {:?}", answer.retry_after);
/// }
/// # Ok(()) }
/// ```
pub async fn allow(
    conn: &mut Connection,
    key: &str,
    limit: i64,
    period: f64,
    cost: i64,
) -> Result<Allowance> {
    let (window, rule) = rule(key, limit, period, cost)?;
    let Some(rule) = rule else {
        return Ok(Allowance {
            allowed: false,
            limit,
            remaining: 0,
            retry_after: None,
            reset_after: Duration::ZERO,
            window,
            by: DecidedBy::Limit,
        });
    };
    let reply = script::run(conn, &ADMIT, None, |head| {
        let mut packet = Packet::pipeline();
        head.append(&mut packet, 1, 9);
        packet.arg(key.as_bytes());
        packet.int(cost).int(1).int(0).int(0).int(0).arg(b"");
        packet.int(rule.flow).int(rule.unit).int(rule.burst);
        Ok(packet)
    })
    .await?;
    read(reply, limit, window)
}

/// The answer where limits are switched off: yes. No server is asked.
///
/// # Errors
/// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`allow`].
pub fn waive(key: &str, limit: i64, period: f64, cost: i64) -> Result<Allowance> {
    let (window, _rule) = rule(key, limit, period, cost)?;
    Ok(Allowance {
        allowed: true,
        limit,
        remaining: limit,
        retry_after: Some(Duration::ZERO),
        reset_after: Duration::ZERO,
        window,
        by: DecidedBy::Switch,
    })
}

/// The window, and what the server is asked by; `None` for a limit of 0, which it need not be asked about.
fn rule(key: &str, limit: i64, period: f64, cost: i64) -> Result<(Duration, Option<Counted>)> {
    if key.is_empty() {
        return Err(Error::value("the throttle's key is empty"));
    }
    if limit < 0 || cost < 0 {
        return Err(Error::value(format!("limit is {limit} and cost {cost}: neither may be negative")));
    }
    if !(period.is_finite() && period > 0.0) {
        return Err(Error::value(format!("period is {period}: give seconds above 0")));
    }
    let too_large = || {
        Error::value(format!(
            "limit {limit}, period {period} s and cost {cost} are together too large to be counted exactly"
        ))
    };
    // Begun microseconds count.
    let micros = (period * 1e6).ceil();
    #[expect(clippy::cast_precision_loss, reason = "it is a power of two")]
    if micros > LARGEST as f64 || cost > LARGEST {
        return Err(too_large());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let period = Duration::from_micros(micros as u64);
    if limit == 0 {
        return Ok((period, None));
    }
    let counted = Counted::new(limit, period, limit).map_err(|_| too_large())?;
    Ok((period, Some(counted)))
}

fn read(reply: Value, limit: i64, window: Duration) -> Result<Allowance> {
    let mut reply = Packed::of(reply)?;
    let (verdict, _rule, _now) = (reply.int()?, reply.int()?, reply.int()?);
    let (remaining, wait, reset) = (reply.int()?.max(0), reply.int()?, reply.int()?);
    Ok(Allowance {
        allowed: verdict == 1,
        limit,
        remaining,
        retry_after: u64::try_from(wait).ok().map(Duration::from_micros),
        reset_after: Duration::from_micros(u64::try_from(reset).unwrap_or(0)),
        window,
        by: DecidedBy::Server,
    })
}

#[cfg(feature = "admission")]
impl From<Allowance> for Decision {
    fn from(answer: Allowance) -> Self {
        let name: Arc<str> = "allow".into();
        let refused = || Refusal { rule: Arc::clone(&name), kind: RuleKind::Throttle };
        Self {
            allowed: answer.allowed,
            duplicate: false,
            id: None,
            receipt: None,
            refused_by: (!answer.allowed).then(refused),
            retry_after: answer.retry_after,
            rules: vec![RuleState {
                name,
                kind: RuleKind::Throttle,
                limit: answer.limit,
                burst: answer.limit,
                remaining: Some(answer.remaining),
                used: 0,
                reset_after: answer.reset_after,
                window: answer.window,
            }],
            source: match answer.by {
                DecidedBy::Server => Source::Server,
                DecidedBy::Limit => Source::Settings,
                DecidedBy::Switch => Source::Disabled,
            },
            outage: None,
        }
    }
}
