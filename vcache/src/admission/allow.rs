//! One rate limit, decided in one round trip by the generic cell rate algorithm (GCRA) on the server's clock.
//!
//! The state of a key is one number, the theoretical arrival time; it expires when the debt does. In any window W at
//! most `burst + rate * W` units pass, where the burst is the limit itself.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use crate::connection::Connection;
use crate::error::{Error, Result};

/// Lua's numbers are doubles: whole up to here.
const LARGEST: f64 = 9_007_199_254_740_992.0;

static GCRA: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("throttle.lua")));

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

/// Spends `cost` units of `key`'s budget of `limit` units per `period` seconds. A cost of 0 asks and writes nothing.
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
        return Ok(Allowance { allowed: false, remaining: 0, retry_after: None });
    }
    let period_us = (period * 1e6).ceil();
    #[expect(clippy::cast_precision_loss, reason = "numbers this large are refused right below")]
    let (units, spent) = (limit as f64, cost as f64);
    if period_us * units > LARGEST || period_us * spent > LARGEST {
        return Err(Error::value(format!(
            "limit {limit}, period {period} s and cost {cost} are together too large to be counted exactly"
        )));
    }
    let (allowed, remaining, wait): (bool, i64, i64) =
        GCRA.key(key).arg(format!("{period_us:.0}")).arg(limit).arg(cost).invoke_async(conn).await?;
    Ok(Allowance {
        allowed,
        remaining: remaining.max(0),
        retry_after: u64::try_from(wait).ok().map(Duration::from_micros),
    })
}
