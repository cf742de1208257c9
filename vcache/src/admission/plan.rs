//! One admission worked out against a gate: which rules are asked, at which limits, in which windows, under which keys.

use super::asked::{Admission, Override};
use super::inner::{Inner, Resolved, check_cost, to_int};
use super::keys::{shard_of, write_entry, write_int, write_text};
use super::limits::{Counted, Flow, LARGEST, Limits};
use super::local;
use super::local::deny::Version;
use super::names::Rule;
use super::rate::Rate;
use super::receipt::{Draft, Receipt, nonce, nonce_of};
use super::scope::{Scope, ScopeValue};
use super::script::Head;
use super::spec::{Full, QuotaTerms, Terms, named};
use super::window::Window;
use crate::connection::Packet;
use crate::error::{Error, Result};

pub(super) struct Plan<'a> {
    pub(super) inner: &'a Inner,
    /// What the connection's keys begin with.
    pub(super) key_head: &'a [u8],
    pub(super) scope: &'a Scope<'a>,
    pub(super) payload: Option<&'a [u8]>,
    /// Of every rule, unless `costs` says otherwise.
    cost: i64,
    /// Throttles, then quotas; empty if all cost the same.
    costs: Vec<i64>,
    pub(super) dedupe: Option<&'a str>,
    pub(super) shard: u32,
    /// How often something had been forgotten when this began.
    pub(super) forgets: u64,
    /// Throttles by their place, at another rate than their own.
    rates: Vec<(usize, Limits)>,
    /// Quotas by their place, with another limit than their own.
    limits: Vec<(usize, i64)>,
    /// Of each quota.
    pub(super) windows: Vec<Window>,
    nonce: u64,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// `Value` for all that is wrong about an admission but its keys.
    pub(super) fn new(
        inner: &'a Inner,
        key_head: &'a [u8],
        admission: &Admission<'a>,
        shard: Option<u32>,
    ) -> Result<Self> {
        let Admission { scope, payload, cost, ref costs, dedupe, ref overrides } = *admission;
        check_cost("the cost", cost)?;
        if let Some(payload) = payload {
            if inner.stream.is_none() {
                return Err(Error::value("there is a payload, but the gate has no stream to write it to"));
            }
            check_payload(inner, payload)?;
            scope.check_fields()?;
        }
        let mut plan = match shard {
            Some(shard) => Self::on(shard, inner, key_head, scope),
            None => Self::bare(inner, key_head, scope)?,
        };
        (plan.payload, plan.cost, plan.dedupe) = (payload, cost, dedupe);
        if !costs.is_empty() {
            plan.costs = inner.costs(cost, costs)?;
        }
        for (rule, change) in overrides {
            plan.change(rule, *change)?;
        }
        plan.check_limits()?;
        if !inner.quotas.is_empty() {
            plan.windows_at(inner.server_now())?;
        }
        if dedupe.is_some() || plan.is_charged() {
            plan.nonce = nonce();
        }
        Ok(plan)
    }

    /// Of the keys only: the limits of the rules may be missing, and no window is known.
    pub(super) fn bare(inner: &'a Inner, key_head: &'a [u8], scope: &'a Scope<'a>) -> Result<Self> {
        scope.check()?;
        let shard = match inner.settings.shards {
            1 => 0,
            shards => shard_of(inner.sharded_by(scope)?, shards),
        };
        Ok(Self::on(shard, inner, key_head, scope))
    }

    fn on(shard: u32, inner: &'a Inner, key_head: &'a [u8], scope: &'a Scope<'a>) -> Self {
        Self {
            inner,
            key_head,
            scope,
            payload: None,
            cost: 0,
            costs: Vec::new(),
            dedupe: None,
            shard,
            forgets: inner.forgets(),
            rates: Vec::new(),
            limits: Vec::new(),
            windows: Vec::new(),
            nonce: 0,
        }
    }

    fn change(&mut self, rule: &str, change: Override) -> Result<()> {
        let inner = self.inner;
        if let Some(at) = inner.throttles.iter().position(|throttle| *throttle.name == *rule) {
            let throttle = &inner.throttles[at];
            let rate = match (change, throttle.terms.rate) {
                (Override::Rate(rate), _) => rate,
                (Override::Limit(limit), Some(rate)) => Rate::new(limit, rate.period())?,
                (Override::Limit(_), None) => {
                    return Err(Error::value(format!(
                        "throttle '{rule}' has no fixed rate whose limit could be changed: give a rate"
                    )));
                }
            };
            self.rates.retain(|(known, _)| *known != at);
            self.rates.push((at, Limits::new(rate, throttle.terms.burst)?));
            return Ok(());
        }
        if let Some(at) = inner.quotas.iter().position(|quota| *quota.name == *rule) {
            let Override::Limit(limit) = change else {
                return Err(Error::value(format!("quota '{rule}' has a limit and no rate")));
            };
            check_limit(rule, limit)?;
            self.limits.retain(|(known, _)| *known != at);
            self.limits.push((at, limit));
            return Ok(());
        }
        Err(Error::value(format!("there is no rule '{rule}' whose limit could be changed")))
    }

    /// Of a rule that has none, the call must have one.
    fn check_limits(&self) -> Result<()> {
        for (at, throttle) in self.inner.throttles.iter().enumerate() {
            if throttle.terms.limits.is_none() && !self.rates.iter().any(|(known, _)| *known == at) {
                return Err(Error::value(format!(
                    "throttle '{}' has no fixed rate: each call has to give one",
                    throttle.name
                )));
            }
        }
        for (at, quota) in self.inner.quotas.iter().enumerate() {
            if quota.terms.limit.is_none() && !self.limits.iter().any(|(known, _)| *known == at) {
                return Err(Error::value(format!(
                    "quota '{}' has no fixed limit: each call has to give one",
                    quota.name
                )));
            }
        }
        Ok(())
    }

    /// Works the windows out for a moment, microseconds since 1970.
    pub(super) fn windows_at(&mut self, now: i64) -> Result<()> {
        let second = now.div_euclid(1_000_000);
        self.windows.clear();
        for quota in &self.inner.quotas {
            self.windows.push(quota.terms.calendar.at(second)?);
        }
        Ok(())
    }

    pub(super) fn rate(&self, at: usize) -> &Limits {
        const NONE: &Limits =
            &Limits { limit: 0, burst: 0, window: std::time::Duration::ZERO, flow: Flow::Nothing };
        let changed = self.rates.iter().find(|(known, _)| *known == at).map(|(_, limits)| limits);
        // `check_limits` has seen that there is one.
        changed.or(self.inner.throttles[at].terms.limits.as_ref()).unwrap_or(NONE)
    }

    pub(super) fn limit(&self, at: usize) -> i64 {
        let changed = self.limits.iter().find(|(known, _)| *known == at).map(|(_, limit)| *limit);
        changed.or(self.inner.quotas[at].terms.limit).unwrap_or(0)
    }

    /// The throttles that are asked, with what they are asked by.
    pub(super) fn counted(&self) -> impl Iterator<Item = (usize, &Counted)> {
        (0..self.inner.throttles.len()).filter_map(|at| Some((at, self.rate(at).counted()?)))
    }

    /// What a rule is charged.
    pub(super) fn cost(&self, rule: usize) -> i64 {
        self.costs.get(rule).copied().unwrap_or(self.cost)
    }

    /// For how many units a rule is asked: a cost of 0 asks for one, and a rule that has a cost of 0 for itself is not asked.
    pub(super) fn asked(&self, rule: usize) -> i64 {
        self.costs.get(rule).copied().unwrap_or(self.cost.max(1))
    }

    /// Whether all of it is free.
    pub(super) fn is_free(&self) -> bool {
        self.costs.iter().max().copied().unwrap_or(self.cost) == 0
    }

    /// Whether an admission is charged to any quota, so that there is something to refund.
    pub(super) fn is_charged(&self) -> bool {
        let throttles = self.inner.throttles.len();
        self.inner
            .quotas
            .iter()
            .enumerate()
            .any(|(at, quota)| quota.terms.charges() && self.cost(throttles + at) > 0)
    }

    fn throttle_key(&self, at: usize, out: &mut Vec<u8>) -> Result<()> {
        self.rule_key(&self.inner.throttles[at], out)
    }

    fn quota_key(&self, at: usize, out: &mut Vec<u8>) -> Result<()> {
        let quota = &self.inner.quotas[at];
        self.rule_key(quota, out)?;
        out.push(b':');
        quota.terms.calendar.write_start(self.windows[at].start, out);
        Ok(())
    }

    fn rule_key<T: Terms>(&self, rule: &Resolved<T>, out: &mut Vec<u8>) -> Result<()> {
        self.inner.space.write(self.key_head, self.shard, &rule.middle, out);
        rule.by.write(&named::<T>(&rule.name), self.scope, out)
    }

    /// An id counts for one owner, and in one stream or gate: others may have chosen the same.
    fn dedupe_key(&self, id: &str, out: &mut Vec<u8>) -> Result<()> {
        let inner = self.inner;
        inner.space.write(self.key_head, self.shard, &inner.dedupe, out);
        match &inner.settings.owner {
            Some(owner) => write_entry(&Rule::Owner, owner, self.scope, out)?,
            None if inner.is_only_a_stream() => {}
            None => {
                return Err(Error::value(
                    "a dedupe id counts for an owner: make the gate with one, the name of a scope's entry",
                ));
            }
        }
        out.push(b':');
        write_text(&"the dedupe id", id, out)
    }

    /// A rule's key in the tables of this process: of the throttles, then of the quotas.
    pub(super) fn local_key(&self, rule: usize) -> Result<Vec<u8>> {
        local::key(self.inner.id, |out| match rule.checked_sub(self.inner.throttles.len()) {
            None => self.throttle_key(rule, out),
            Some(quota) => self.quota_key(quota, out),
        })
    }

    /// A rule's settings, as the deny cache tells them apart.
    pub(super) fn version(&self, rule: usize) -> Version {
        match rule.checked_sub(self.inner.throttles.len()) {
            None => match &self.rate(rule).flow {
                Flow::Counted(Counted { flow, unit, burst, .. }) => [*flow, *unit, *burst],
                Flow::Unlimited => [-1; 3],
                Flow::Nothing => [0; 3],
            },
            Some(quota) => [self.limit(quota), self.inner.quotas[quota].terms.mode.number(), 0],
        }
    }

    /// Tells what is wrong about the keys, for a decision that needs none.
    pub(super) fn check_keys(&self) -> Result<()> {
        let rules = self.inner.rules();
        (0..rules).try_for_each(|rule| self.local_key(rule).map(drop))?;
        self.dedupe.map_or(Ok(()), |id| self.dedupe_key(id, &mut Vec::new()))
    }

    /// The call of the script that decides and writes.
    pub(super) fn encode(&self, head: Head<'_>, receipt: &str) -> Result<Packet> {
        let repeatable = self.dedupe.is_some() || (self.is_free() && self.payload.is_none());
        let rules = self.inner.rules();
        let room = head.size() + 256 + 160 * rules + receipt.len() + self.payload.map_or(0, <[u8]>::len);
        let mut packet = Packet::with_room(room).repeatable(repeatable);
        self.append(&mut packet, head, receipt)?;
        Ok(packet)
    }

    pub(super) fn append(&self, packet: &mut Packet, head: Head<'_>, receipt: &str) -> Result<()> {
        let inner = self.inner;
        let usual = self.rates.is_empty();
        let throttles = if usual { inner.usual.throttles } else { self.counted().count() };
        let quotas = inner.quotas.len();
        let stream = self.payload.and(inner.stream.as_ref());
        let keys = throttles + quotas + usize::from(stream.is_some()) + usize::from(self.dedupe.is_some());
        let fields = 2 + 2 * self.scope.iter().len();
        let args = 6 + 3 * throttles + 5 * quotas + if stream.is_some() { 3 + fields } else { 0 };
        head.append(packet, keys, args);
        for (at, _) in self.counted() {
            packet.arg_with(|out| self.throttle_key(at, out))?;
        }
        for at in 0..quotas {
            packet.arg_with(|out| self.quota_key(at, out))?;
        }
        if let Some(stream) = stream {
            packet.arg_with(|out| {
                inner.space.write(self.key_head, self.shard, &stream.middle, out);
                Ok::<_, Error>(())
            })?;
        }
        if let Some(id) = self.dedupe {
            packet.arg_with(|out| self.dedupe_key(id, out))?;
        }
        self.append_costs(packet);
        if usual && stream.is_none() && self.dedupe.is_none() {
            packet.encoded_args(&inner.usual.wire, inner.usual.args);
        } else {
            let dedupe_ms = self.dedupe.map_or(0, |_| inner.settings.dedupe_for.as_millis());
            packet.int(to_int(throttles)).int(to_int(quotas)).int(i64::from(stream.is_some()));
            packet.int(i64::try_from(dedupe_ms).unwrap_or(i64::MAX)).arg(receipt.as_bytes());
            for (_, counted) in self.counted() {
                packet.encoded_args(&counted.wire, 3);
            }
        }
        for (at, quota) in inner.quotas.iter().enumerate() {
            let window = self.windows[at];
            packet.int(self.limit(at)).int(window.start * 1_000).int(window.end * 1_000);
            packet.int(quota.terms.mode.number()).int(quota.terms.keep_ms());
        }
        if let (Some(stream), Some(payload)) = (stream, self.payload) {
            packet.int(stream.maxlen).int(i64::from(stream.full == Full::Trim)).int(to_int(fields));
            append_fields(packet, payload, self.scope);
        }
        Ok(())
    }

    fn append_costs(&self, packet: &mut Packet) {
        if self.costs.is_empty() {
            packet.int(self.cost);
            return;
        }
        let throttles = self.inner.throttles.len();
        let asked = self.counted().map(|(at, _)| at).chain(throttles..throttles + self.inner.quotas.len());
        let mut text = Vec::with_capacity(64);
        for rule in asked {
            write_int(self.cost(rule), &mut text);
            text.push(b',');
        }
        if text.is_empty() {
            // The script is asked about no rule, and one cost tells it whether the call is free.
            packet.int(self.costs.iter().max().copied().unwrap_or(0));
            return;
        }
        packet.arg(&text);
    }

    /// The call of the script that looks.
    pub(super) fn encode_peek(&self, head: Head<'_>) -> Result<Packet> {
        let throttles = self.counted().count();
        let quotas = self.inner.quotas.len();
        let mut packet = Packet::pipeline().repeatable(true);
        head.append(&mut packet, throttles + quotas, 2 + 3 * throttles);
        for (at, _) in self.counted() {
            packet.arg_with(|out| self.throttle_key(at, out))?;
        }
        for at in 0..quotas {
            packet.arg_with(|out| self.quota_key(at, out))?;
        }
        packet.int(to_int(throttles)).int(to_int(quotas));
        for (_, counted) in self.counted() {
            packet.encoded_args(&counted.wire, 3);
        }
        Ok(packet)
    }

    /// The receipt of this admission in its windows; its nonce stays the same in every attempt.
    /// Without quotas that are charged it only tells this admission from others. `None` where no caller needs it.
    pub(super) fn receipt(&self) -> Result<Option<Receipt>> {
        if !self.is_charged() && self.dedupe.is_none() {
            return Ok(None);
        }
        let throttles = self.inner.throttles.len();
        let charged = || self.inner.quotas.iter().enumerate().filter(|(_, quota)| quota.terms.charges());
        let costs: Vec<i64> = charged().map(|(at, _)| self.cost(throttles + at)).collect();
        let mut draft = Draft::new(self.nonce, self.shard, &costs);
        if !self.is_charged() {
            return Ok(Some(draft.receipt()));
        }
        for (at, _) in charged() {
            draft.start(self.windows[at].start);
        }
        draft.fingerprint(self.inner.fingerprint(self.key_head));
        let mut value = Vec::with_capacity(32);
        for (_, quota) in charged() {
            value.clear();
            quota.by.write(&named::<QuotaTerms>(&quota.name), self.scope, &mut value)?;
            draft.value(&value);
        }
        Ok(Some(draft.receipt()))
    }

    /// Whether a receipt that the server kept is that of an attempt of this very admission.
    pub(super) fn is_ours(&self, receipt: &str) -> bool {
        nonce_of(receipt) == Some(self.nonce)
    }
}

/// # Errors
/// `Value` for a payload that is too large.
pub(super) fn check_payload(inner: &Inner, payload: &[u8]) -> Result<()> {
    let most = inner.settings.max_payload;
    if payload.len() > most {
        return Err(Error::value(format!(
            "the payload has {} bytes: at most {most} are taken (max_payload)",
            payload.len()
        )));
    }
    Ok(())
}

pub(super) fn append_fields(packet: &mut Packet, payload: &[u8], scope: &Scope<'_>) {
    packet.arg(b"payload").arg(payload);
    for (name, value) in scope.iter() {
        packet.arg(name.as_bytes());
        match value {
            ScopeValue::Int(number) => packet.int(*number),
            ScopeValue::Text(text) => packet.arg(text.as_bytes()),
        };
    }
}

/// # Errors
/// `Value` for what is no limit of a quota.
pub(super) fn check_limit(rule: &str, limit: i64) -> Result<()> {
    if (-1..=LARGEST).contains(&limit) {
        return Ok(());
    }
    Err(Error::value(format!(
        "the limit of quota '{rule}' is {limit}: give 0 to 2^53, or -1 for one that only counts"
    )))
}
