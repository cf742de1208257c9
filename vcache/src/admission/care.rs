//! What is done about rules besides admitting: looking, giving back, forgetting.

use std::time::Duration;

use redis::Value;

use super::asked::Admission;
use super::decision::{Refund, RuleState, Source, Usage};
use super::inner::Inner;
use super::local;
use super::plan::Plan;
use super::receipt::{Parts, Receipt};
use super::reply::Numbers;
use super::scope::Scope;
use super::script::{self, PEEK, REFUND};
use crate::connection::{Connection, Packet};
use crate::error::{Error, Result};

/// A refund is remembered so long at least, and as long as what it was of.
const LEAST_KEPT: Duration = Duration::from_secs(60);
/// As in an admission.
const MOST_STALE: u32 = 2;

impl Plan<'_> {
    pub(super) async fn peek(mut self, conn: &Connection) -> Result<Vec<RuleState>> {
        self.check_keys()?;
        if self.counted().next().is_none() && self.inner.quotas.is_empty() {
            return Ok((0..self.inner.throttles.len()).map(|rule| self.state(rule)).collect());
        }
        for _ in 0..=MOST_STALE {
            let reply = script::run(conn, &PEEK, None, |head| self.encode_peek(head)).await?;
            match self.states(reply)? {
                Ok(states) => return Ok(states),
                Err(server_now) => {
                    self.inner.set_clock(server_now);
                    self.windows_at(server_now)?;
                }
            }
        }
        Err(Error::refused(
            "the server's clock is elsewhere each time it is asked: no window is the one that is now",
        )
        .with_alias(conn.alias()))
    }
}

impl Inner {
    pub(super) async fn peek(&self, conn: &Connection, admission: Admission<'_>) -> Result<Vec<RuleState>> {
        Plan::new(self, conn.key_head(), &admission, None)?.peek(conn).await
    }

    /// How every rule stands of which nothing is used.
    pub(super) fn untouched(&self, admission: &Admission<'_>) -> Result<Vec<RuleState>> {
        Plan::new(self, b"", admission, None)?.unasked(Source::Disabled).map(|decision| decision.rules)
    }

    pub(super) async fn refund(&self, conn: &Connection, receipt: &Receipt) -> Result<Refund> {
        let parts = receipt.parts()?;
        let keys = self.refunded_keys(conn.key_head(), &parts)?;
        let local_keys: Vec<_> = keys.iter().map(|(key, _)| local::key_of(self.id, key)).collect();
        // Now too: a call that is given up meanwhile may have given back all the same.
        self.forget(&local_keys);
        let reply = script::run(conn, &REFUND, None, |head| {
            // A second time answers otherwise than the first, so it is not for the connection to repeat.
            let mut packet = Packet::pipeline();
            head.append(&mut packet, 1 + keys.len(), 1 + keys.len());
            packet.arg(
                self.space
                    .text(conn.key_head(), parts.shard, &format!("}}:r:{:016x}", parts.nonce))
                    .as_bytes(),
            );
            for (key, _) in &keys {
                packet.arg(key);
            }
            packet.int(self.marker_ms(&parts)?);
            parts.costs.iter().for_each(|cost| _ = packet.int(*cost));
            Ok(packet)
        })
        .await;
        // Also after an error: what the server did then is not known.
        self.forget(&local_keys);
        let mut reply = Numbers::of(reply?)?;
        let refunded = reply.int()? == 1;
        let mut usage = Vec::with_capacity(keys.len());
        for (_, name) in keys {
            usage.push(Usage { name, used: reply.int()? });
        }
        Ok(Refund { refunded, usage })
    }

    /// The counters that a receipt is of, with their quotas' names.
    fn refunded_keys(&self, key_head: &[u8], parts: &Parts) -> Result<Vec<(Vec<u8>, std::sync::Arc<str>)>> {
        let charged: Vec<_> = self.quotas.iter().filter(|quota| quota.terms.charges()).collect();
        let fits = parts.fingerprint == self.fingerprint(key_head)
            && parts.starts.len() == charged.len()
            && parts.shard < self.settings.shards
            && charged.iter().zip(&parts.values).all(|(quota, value)| quota.by.is_of(value));
        if !fits {
            let names: Vec<&str> = charged.iter().map(|quota| &*quota.name).collect();
            return Err(Error::value(format!(
                "the receipt is not of these quotas ({}): it is of others, or of the same under another prefix, key or \
                 number of shards",
                if names.is_empty() { "none that is charged".into() } else { names.join(", ") }
            )));
        }
        let keys =
            charged.into_iter().zip(&parts.values).zip(&parts.starts).map(|((quota, value), start)| {
                let mut key = Vec::with_capacity(96);
                self.space.write(key_head, parts.shard, &quota.middle, &mut key);
                key.extend_from_slice(value.as_bytes());
                key.push(b':');
                quota.terms.calendar.write_start(*start, &mut key);
                (key, quota.name.clone())
            });
        Ok(keys.collect())
    }

    /// For how long it has to be known that the receipt was refunded: as long as any of its counters may be there.
    fn marker_ms(&self, parts: &Parts) -> Result<i64> {
        let now = self.server_now() / 1_000;
        let mut longest = i64::try_from(LEAST_KEPT.as_millis()).unwrap_or(0);
        for (quota, start) in self.quotas.iter().filter(|quota| quota.terms.charges()).zip(&parts.starts) {
            let end = quota
                .terms
                .calendar
                .look(*start)?
                .end
                .saturating_mul(1_000)
                .saturating_add(quota.terms.keep_ms());
            longest = longest.max(end.saturating_sub(now));
        }
        Ok(longest)
    }

    pub(super) async fn reset(
        &self,
        conn: &Connection,
        scope: &Scope<'_>,
        rule: Option<&str>,
    ) -> Result<u64> {
        let mut plan = Plan::bare(self, conn.key_head(), scope)?;
        if !self.quotas.is_empty() {
            plan.windows_at(server_time(conn).await?)?;
        }
        let mut keys = Vec::new();
        for (at, name) in self.names().enumerate() {
            if rule.is_none_or(|rule| rule == &**name) {
                keys.push(plan.local_key(at)?);
            }
        }
        if keys.is_empty() {
            return match rule {
                Some(rule) => Err(Error::value(format!("there is no rule '{rule}' that could be reset"))),
                None => Ok(0),
            };
        }
        let mut packet = Packet::command("DEL", keys.len());
        for key in &keys {
            packet.arg(local::on_server(key));
        }
        self.forget(&keys);
        let reply = conn.exchange(packet, None).await;
        self.forget(&keys);
        match conn.check(reply?)? {
            Value::Int(deleted) => Ok(u64::try_from(deleted).unwrap_or(0)),
            other => Err(Error::refused(format!("DEL was answered with {other:?}")).with_alias(conn.alias())),
        }
    }
}

/// Microseconds since 1970.
async fn server_time(conn: &Connection) -> Result<i64> {
    let reply = conn.check(conn.exchange(Packet::command("TIME", 0), None).await?)?;
    let (seconds, micros): (i64, i64) = redis::from_redis_value(reply)
        .map_err(|error| Error::from(redis::RedisError::from(error)).with_alias(conn.alias()))?;
    Ok(seconds.saturating_mul(1_000_000).saturating_add(micros))
}
