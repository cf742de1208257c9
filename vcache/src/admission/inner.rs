//! What a gate consists of, with all that its configuration determines worked out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::keys::{FNV_SEED, Space, fnv, middle, missing};
use super::limits::LARGEST;
use super::local::breaker::Breaker;
use super::local::{self, deny};
use super::metrics::Counters;
use super::names::{By, Rule};
use super::scope::{Scope, ScopeValue};
use super::script::{ADMIT, PEEK, REFUND};
use super::settings::{Outage, Settings};
use super::spec::{Full, QuotaSpec, QuotaTerms, Spec, StreamSpec, Terms, ThrottleSpec, ThrottleTerms};
use crate::connection::Packet;
use crate::error::{Error, Result};

/// A throttle or a quota of a gate.
pub(super) struct Resolved<T> {
    pub(super) name: Arc<str>,
    pub(super) by: By,
    pub(super) terms: T,
    /// Its own, or the gate's.
    pub(super) outage: Outage,
    /// What stands between a shard's number and the entries in its keys.
    pub(super) middle: Vec<u8>,
}

impl<T: Terms> Resolved<T> {
    fn new(spec: &Spec<T>, settings: &Settings) -> Self {
        Self {
            name: Arc::clone(&spec.name),
            by: spec.by.clone(),
            terms: spec.terms.clone(),
            outage: spec.outage.unwrap_or(settings.outage),
            middle: middle(T::LETTER, &spec.name),
        }
    }
}

pub(super) struct StreamRule {
    pub(super) name: Arc<str>,
    /// Of one shard.
    pub(super) maxlen: i64,
    pub(super) full: Full,
    pub(super) middle: Vec<u8>,
}

/// Arguments that were encoded once.
pub(super) struct Usual {
    pub(super) throttles: usize,
    pub(super) args: usize,
    pub(super) wire: Box<[u8]>,
}

impl Usual {
    fn new(throttles: &[Resolved<ThrottleTerms>], quotas: usize) -> Self {
        let counted = || throttles.iter().filter_map(|rule| rule.terms.limits.as_ref()?.counted());
        let count = counted().count();
        let wire = Packet::encode(|packet| {
            let packet = packet.int(to_int(count)).int(to_int(quotas)).int(0).int(0).arg(b"");
            counted().fold(packet, |packet, counted| packet.encoded_args(&counted.wire, 3))
        });
        Self { throttles: count, args: 5 + 3 * count, wire }
    }
}

pub(super) fn to_int(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) struct Inner {
    /// It tells this gate's entries in the process's tables from others'.
    pub(super) id: u64,
    pub(super) settings: Settings,
    pub(super) space: Space,
    pub(super) throttles: Vec<Resolved<ThrottleTerms>>,
    pub(super) quotas: Vec<Resolved<QuotaTerms>>,
    pub(super) stream: Option<StreamRule>,
    /// What follows the cost of a call that changes no rate, writes nothing and has no id: the numbers of throttles that
    /// are asked, of quotas, of streams, no time for an id and no receipt; and what the throttles are asked by.
    pub(super) usual: Usual,
    /// Of the quotas, whose charges a receipt is of.
    fingerprint: u64,
    /// What stands between a shard's number and an owner in the keys of dedupe ids.
    pub(super) dedupe: Vec<u8>,
    pub(super) breaker: Breaker,
    pub(super) counters: Counters,
    born: Instant,
    /// Nanoseconds after birth until which the deny cache may hold something of this gate's.
    denies_until: AtomicU64,
    forgets: AtomicU64,
    /// What a rule that stands alone is keyed by.
    alone: Option<By>,
    /// By how many microseconds the server's clock was ahead of ours when that last mattered.
    ahead: AtomicI64,
}

impl Inner {
    /// A gate of what was checked when it was said; `alone` is what its one rule is keyed by, if that is no gate.
    pub(super) fn new(
        settings: &Settings,
        throttles: &[ThrottleSpec],
        quotas: &[QuotaSpec],
        stream: Option<&StreamSpec>,
        alone: Option<By>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Now, and not in the middle of a call.
        for script in [&ADMIT, &PEEK, &REFUND] {
            _ = &**script;
        }
        let throttles: Vec<_> = throttles.iter().map(|spec| Resolved::new(spec, settings)).collect();
        let quotas: Vec<_> = quotas.iter().map(|spec| Resolved::new(spec, settings)).collect();
        let names = throttles.iter().map(|rule| &*rule.name).chain(quotas.iter().map(|rule| &*rule.name));
        let dedupe = dedupe(names, stream);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            space: Space::new(&settings.prefix),
            usual: Usual::new(&throttles, quotas.len()),
            throttles,
            fingerprint: fingerprint(settings, &quotas),
            dedupe,
            quotas,
            stream: stream.map(|spec| StreamRule {
                name: Arc::clone(&spec.name),
                maxlen: i64::try_from(spec.maxlen.div_ceil(u64::from(settings.shards))).unwrap_or(i64::MAX),
                full: spec.full,
                middle: format!("}}:s:{}", spec.name).into_bytes(),
            }),
            settings: settings.clone(),
            breaker: Breaker::new(),
            counters: Counters::default(),
            born: Instant::now(),
            denies_until: AtomicU64::new(0),
            forgets: AtomicU64::new(0),
            alone,
            ahead: AtomicI64::new(0),
        }
    }

    /// Whether the deny cache may hold anything of this gate's: a look at one number, most often the only one.
    pub(super) fn may_deny(&self, now: Instant) -> bool {
        let until = self.denies_until.load(Ordering::Relaxed);
        until != 0 && Duration::from_nanos(until) > now.saturating_duration_since(self.born)
    }

    pub(super) fn denies_until(&self, until: Instant) {
        let nanos = until.saturating_duration_since(self.born).as_nanos();
        self.denies_until.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How often something was given back, reset, or forgotten with everything else. Both counts only grow, so their sum
    /// is the same only if both are.
    pub(super) fn forgets(&self) -> u64 {
        self.forgets.load(Ordering::Acquire).wrapping_add(local::forgotten())
    }

    /// What was refused under these keys of rules is known no more, nor is what calls under way are yet to hear of it.
    pub(super) fn forget(&self, keys: &[Vec<u8>]) {
        self.forgets.fetch_add(1, Ordering::AcqRel);
        keys.iter().for_each(|key| deny::forget(key));
    }

    /// What says which shard a scope is in: the owner, or for a rule that stands alone, the first entry of its key.
    pub(super) fn sharded_by<'a>(&self, scope: &'a Scope<'a>) -> Result<&'a ScopeValue<'a>> {
        let of_rule = || self.alone.as_ref().and_then(|by| by.names().first());
        let name = self.settings.owner.as_ref().or_else(of_rule).ok_or_else(|| {
            Error::value(format!(
                "there are {} shards, and no owner that says which: give one, the name of a scope's entry",
                self.settings.shards
            ))
        })?;
        scope.get(name).ok_or_else(|| missing(&Rule::Owner, name, scope))
    }

    /// How many rules there are: throttles, then quotas.
    pub(super) fn rules(&self) -> usize {
        self.throttles.len() + self.quotas.len()
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.throttles.iter().map(|rule| &rule.name).chain(self.quotas.iter().map(|rule| &rule.name))
    }

    /// What each rule is charged, throttles first: what is named, and `cost` for the others.
    ///
    /// # Errors
    /// `Value` for a name that no rule has, and for what is no cost.
    pub(super) fn costs(&self, cost: i64, named: &[(&str, i64)]) -> Result<Vec<i64>> {
        let mut costs = vec![cost; self.rules()];
        for (name, cost) in named {
            let Some(at) = self.names().position(|rule| &**rule == *name) else {
                let known: Vec<_> = self.names().map(|rule| &**rule).collect();
                return Err(Error::value(format!(
                    "there is a cost for {name:?}, and no rule of that name: there {} {}",
                    if known.len() == 1 { "is" } else { "are" },
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                )));
            };
            check_cost(format_args!("the cost of {name:?}"), *cost)?;
            costs[at] = *cost;
        }
        Ok(costs)
    }

    /// Whether it is a stream that stands alone.
    pub(super) fn is_only_a_stream(&self) -> bool {
        self.rules() == 0
    }

    /// What makes a receipt one of these quotas, on a connection with this key prefix.
    pub(super) fn fingerprint(&self, key_head: &[u8]) -> u64 {
        fnv(self.fingerprint, key_head)
    }

    /// Microseconds since 1970 by the server's clock, as far as it is known.
    pub(super) fn server_now(&self) -> i64 {
        our_now().saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Notes what the server's clock says.
    pub(super) fn set_clock(&self, server_now: i64) {
        self.ahead.store(server_now.saturating_sub(our_now()), Ordering::Relaxed);
    }
}

/// # Errors
/// `Value` for what is no cost.
pub(super) fn check_cost(what: impl fmt::Display, cost: i64) -> Result<()> {
    if (0..=LARGEST).contains(&cost) {
        return Ok(());
    }
    Err(Error::value(format!("{what} is {cost}: give a whole number from 0 to 2^53")))
}

fn our_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// What stands before an owner and a dedupe id in a key: a stream's name, or without one a number for the rules' names, behind
/// a letter that no name has.
fn dedupe<'a>(rules: impl Iterator<Item = &'a str>, stream: Option<&StreamSpec>) -> Vec<u8> {
    match stream {
        Some(stream) => middle('d', &stream.name),
        None => {
            let hash = rules.fold(FNV_SEED, |hash, name| fnv(fnv(hash, name.as_bytes()), b" "));
            middle('d', &format!("~{hash:016x}"))
        }
    }
}

/// A number for all that makes a receipt one of these quotas: where they count, by what, in which windows, and whether
/// they do.
fn fingerprint(settings: &Settings, quotas: &[Resolved<QuotaTerms>]) -> u64 {
    let mut hash = fnv(FNV_SEED, format!("{} {}", settings.prefix, settings.shards).as_bytes());
    for quota in quotas {
        let period = char::from(quota.terms.calendar.letter());
        hash = fnv(
            hash,
            format!(" {} {:?} {period} {}", quota.name, quota.by, quota.terms.charges()).as_bytes(),
        );
    }
    hash
}
