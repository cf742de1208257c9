//! One rate limit under a key of the caller's own, decided in one round trip by the generic cell rate algorithm (GCRA) on
//! the server's clock.
//!
//! The state of a key expires when what is owed does. In any window W at most `burst + rate * W` units pass, where the
//! burst is the limit itself.

use std::time::Duration;

use redis::Value;

use super::limits::{Counted, LARGEST};
use super::reply::Packed;
use super::script::{self, ADMIT};
use crate::connection::{Connection, Packet};
use crate::error::{Error, Result};

/// The answer of a throttle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Whether the call may go on. If not, nothing was charged.
    pub allowed: bool,
    /// Whole units left in the burst.
    pub remaining: i64,
    /// How long to wait until the same cost would be allowed; zero if it was, `None` if it never will be.
    pub retry_after: Option<Duration>,
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
    let Some(rule) = rule(key, limit, period, cost)? else {
        return Ok(Allowance { allowed: false, remaining: 0, retry_after: None });
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
    read(reply)
}

/// The answer where limits are switched off: yes. No server is asked.
///
/// # Errors
/// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`allow`].
pub fn waive(key: &str, limit: i64, period: f64, cost: i64) -> Result<Allowance> {
    rule(key, limit, period, cost)?;
    Ok(Allowance { allowed: true, remaining: limit, retry_after: Some(Duration::ZERO) })
}

/// What the server is asked by; `None` for a limit of 0, which it need not be asked about.
fn rule(key: &str, limit: i64, period: f64, cost: i64) -> Result<Option<Counted>> {
    if key.is_empty() {
        return Err(Error::value("the throttle's key is empty"));
    }
    if limit < 0 || cost < 0 {
        return Err(Error::value(format!("limit is {limit} and cost {cost}: neither may be negative")));
    }
    if !(period.is_finite() && period > 0.0) {
        return Err(Error::value(format!("period is {period}: give seconds above 0")));
    }
    if limit == 0 {
        return Ok(None);
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
    Counted::new(limit, period, limit).map(Some).map_err(|_| too_large())
}

fn read(reply: Value) -> Result<Allowance> {
    let mut reply = Packed::of(reply)?;
    let (verdict, _rule, _now) = (reply.int()?, reply.int()?, reply.int()?);
    let (remaining, wait) = (reply.int()?.max(0), reply.int()?);
    Ok(Allowance {
        allowed: verdict == 1,
        remaining,
        retry_after: u64::try_from(wait).ok().map(Duration::from_micros),
    })
}
