//! Where what was admitted is put, for a batch job to find.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use redis::Value;

use super::asked::Admission;
use super::decision::Decision;
use super::inner::Inner;
use super::keys::Space;
use super::metrics::Metrics;
use super::names::check_name;
use super::plan::{Plan, append_fields};
use super::reply::Packed;
use super::scope::Scope;
use super::script::{ADMIT, Head, is_unknown};
use super::settings::Settings;
use super::spec::{Full, StreamSpec};
use crate::connection::{Connection, Packet};
use crate::error::{Error, Result};

/// How often a batch is completed by those of its entries that met a server without the script.
const MOST_ROUNDS: usize = 3;
static NO_SCOPE: Scope<'static> = Scope::new();

/// An entry for a stream: a payload, and what there is to say of it.
///
/// ```
/// use vcache::admission::{Event, Scope};
///
/// let scope = Scope::new().with("org", 1);
/// let event = Event::new(b"{}").scope(&scope).dedupe("0b51");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub(super) payload: &'a [u8],
    pub(super) scope: Option<&'a Scope<'a>>,
    pub(super) dedupe: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// An entry with this payload.
    #[must_use]
    pub fn new<P: AsRef<[u8]> + ?Sized>(payload: &'a P) -> Self {
        Self { payload: payload.as_ref(), scope: None, dedupe: None }
    }

    /// Whom it is of: each entry of the scope becomes a field. The entry of the stream's owner says which shard it is in; without
    /// an owner, or without a scope, the shards take turns.
    #[must_use]
    pub fn scope(self, scope: &'a Scope<'a>) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// An id under which it is written once only. It counts for the stream's owner; without one, in a stream of one shard.
    #[must_use]
    pub fn dedupe(self, id: &'a str) -> Self {
        Self { dedupe: Some(id), ..self }
    }
}

impl<'a> From<&'a [u8]> for Event<'a> {
    fn from(payload: &'a [u8]) -> Self {
        Self::new(payload)
    }
}

/// A stream of entries, in the shards of its settings.
///
/// ```no_run
/// use vcache::admission::{Event, Stream};
///
/// # async fn example(conn: &mut vcache::Connection) -> vcache::Result<()> {
/// let stream = Stream::new("events")?.maxlen(1_000_000);
/// let decision = stream.add(conn, Event::new(br#"{"level": "error"}"#)).await?;
/// assert!(decision.allowed, "there was room");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Stream {
    pub(super) spec: StreamSpec,
    settings: Settings,
    /// It alone, as entries are added to it.
    inner: Arc<Inner>,
    /// The shard whose turn it is for an entry without an owner.
    turn: Arc<AtomicU32>,
}

impl Stream {
    /// A stream of a name, without a greatest length.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name.
    pub fn new(name: &str) -> Result<Self> {
        check_name("a stream", name)?;
        Ok(Self::of(StreamSpec { name: name.into(), maxlen: 0, full: Full::Refuse }, Settings::default()))
    }

    fn of(spec: StreamSpec, settings: Settings) -> Self {
        let inner = Inner::new(&settings, &[], &[], Some(&spec), None);
        Self { inner: Arc::new(inner), spec, settings, turn: Arc::default() }
    }

    /// The greatest length of all shards together; each takes its part, rounded up. 0 is none.
    #[must_use]
    pub fn maxlen(self, maxlen: u64) -> Self {
        Self::of(StreamSpec { maxlen, ..self.spec }, self.settings)
    }

    /// What happens at that length. The default is [`Full::Refuse`].
    #[must_use]
    pub fn full(self, full: Full) -> Self {
        Self::of(StreamSpec { full, ..self.spec }, self.settings)
    }

    /// Where its keys are, and what it does without the server, when it stands alone. In a gate that is the gate's to say.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a setting that makes no sense.
    pub fn settings(self, settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self::of(self.spec, settings))
    }

    /// As a part of a gate.
    ///
    /// # Errors
    /// `Value` for what the gate would ignore.
    pub(super) fn placed(self, gate: &Settings) -> Result<Self> {
        let what = format!("stream '{}'", self.spec.name);
        gate.check_part(&what, &self.settings, None)?;
        Ok(Self::of(self.spec, gate.clone()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The keys of its shards on the server.
    #[must_use]
    pub fn keys(&self, conn: &Connection) -> Vec<String> {
        self.keys_like(conn, "")
    }

    /// The keys of its shards' dead letters.
    #[must_use]
    pub fn dead_keys(&self, conn: &Connection) -> Vec<String> {
        self.keys_like(conn, ":dead")
    }

    fn keys_like(&self, conn: &Connection, end: &str) -> Vec<String> {
        let space = Space::new(&self.settings.prefix);
        let middle = format!("}}:s:{}{end}", self.spec.name);
        (0..self.settings.shards).map(|shard| space.text(conn.key_head(), shard, &middle)).collect()
    }

    /// Whether it is the same stream: of one name, under one prefix, with as many shards.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let (here, there) = (&self.settings, &other.settings);
        self.spec.name == other.spec.name && (&here.prefix, here.shards) == (&there.prefix, there.shards)
    }

    /// Appends an entry. A full stream refuses it; so does an outage, since it could not be stored.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a payload above [`Settings::max_payload`] and a scope that cannot
    /// be written; the server's errors that are no outage.
    pub fn add<'a>(
        &'a self,
        conn: &'a Connection,
        event: impl Into<Event<'a>>,
    ) -> impl Future<Output = Result<Decision>> + Send {
        let event = event.into();
        async move {
            let mut plan = self.plan(conn, event)?;
            plan.admit(conn).await
        }
    }

    fn plan<'a>(&'a self, conn: &'a Connection, event: Event<'a>) -> Result<Plan<'a>> {
        let mut admission = Admission::new(event.scope.unwrap_or(&NO_SCOPE)).payload(event.payload);
        admission.dedupe = event.dedupe;
        Plan::new(&self.inner, conn.key_head(), &admission, self.shard(&event)?)
    }

    /// The shard of an entry without an owner.
    fn shard(&self, event: &Event<'_>) -> Result<Option<u32>> {
        let shards = self.settings.shards;
        if (event.scope.is_some() && self.settings.owner.is_some()) || shards == 1 {
            return Ok(None);
        }
        if event.dedupe.is_some() {
            return Err(Error::value(format!(
                "stream '{}' has {shards} shards, and a dedupe id counts within one: give the stream an owner, and the entry \
                 a scope, so that they say which",
                self.spec.name
            )));
        }
        Ok(Some(self.turn.fetch_add(1, Ordering::Relaxed) % shards))
    }

    /// Appends entries in order, in one round trip, each as [`Stream::add`] does; the ids, `None` for what found no room.
    /// They are one transaction neither with each other nor with an error: what was written before it stays. They have the
    /// time of the connection's `response_timeout`.
    ///
    /// # Errors
    /// As for [`Stream::add`], before anything is sent; the connection's: after those it is not known which entries were
    /// written.
    pub async fn add_many(&self, conn: &Connection, events: &[Event<'_>]) -> Result<Vec<Option<String>>> {
        let plans = events.iter().map(|event| self.plan(conn, *event)).collect::<Result<Vec<_>>>()?;
        let mut ids: Vec<Option<String>> = vec![None; plans.len()];
        let mut open: Vec<usize> = (0..plans.len()).collect();
        // If any needs the script, all go by it: else a server that does not know it yet would store the others first.
        let plain = plans.iter().all(|plan| self.plain(plan).is_some());
        let counters = &self.inner.counters;
        for round in 0..MOST_ROUNDS {
            if open.is_empty() {
                break;
            }
            let packet = self.batch(&plans, &open, plain, round > 0)?;
            let replies = match conn.exchange(packet, None).await? {
                Value::Array(replies) if open.len() > 1 => replies,
                single => vec![single],
            };
            let mut unknown = Vec::new();
            for (at, reply) in open.iter().zip(replies) {
                if is_unknown(&reply) && round + 1 < MOST_ROUNDS {
                    unknown.push(*at);
                    continue;
                }
                let reply = conn.check(reply)?;
                let counter;
                (ids[*at], counter) = match reply {
                    Value::BulkString(id) if plain => {
                        (Some(String::from_utf8_lossy(&id).into_owned()), &counters.admitted)
                    }
                    reply => match decided(reply)? {
                        (0, _) => (None, &counters.refused),
                        (2, id) => (id, &counters.duplicates),
                        (_, id) => (id, &counters.admitted),
                    },
                };
                counter.count();
            }
            open = unknown;
        }
        Ok(ids)
    }

    /// One packet of some of the entries. With `loads` the first of them brings the script.
    fn batch(&self, plans: &[Plan<'_>], open: &[usize], plain: bool, loads: bool) -> Result<Packet> {
        let mut packet = Packet::pipeline();
        for (place, at) in open.iter().enumerate() {
            let plan = &plans[*at];
            let head = Head::of(&ADMIT);
            let head = if loads && place == 0 { head.by_text() } else { head };
            match self.plain(plan).filter(|_| plain) {
                Some(maxlen) => self.append_plain(&mut packet, plan, maxlen)?,
                None => {
                    let receipt = plan.receipt()?;
                    plan.append(&mut packet, head, receipt.as_ref().map_or("", |receipt| receipt.as_str()))?;
                }
            }
        }
        Ok(packet)
    }

    /// Whether there is nothing to decide about an entry: to what length its stream is trimmed, 0 for none.
    fn plain(&self, plan: &Plan<'_>) -> Option<i64> {
        let stream = plan.inner.stream.as_ref()?;
        let decided = plan.dedupe.is_some() || (stream.maxlen > 0 && stream.full == Full::Refuse);
        (!decided).then_some(stream.maxlen)
    }

    fn append_plain(&self, packet: &mut Packet, plan: &Plan<'_>, maxlen: i64) -> Result<()> {
        let fields = 2 + 2 * plan.scope.iter().len();
        packet.then("XADD", 2 + fields + if maxlen > 0 { 3 } else { 0 });
        packet.arg_with(|out| {
            plan.inner.space.write(
                plan.key_head,
                plan.shard,
                format!("}}:s:{}", self.spec.name).as_bytes(),
                out,
            );
            Ok::<_, Error>(())
        })?;
        if maxlen > 0 {
            packet.arg(b"MAXLEN").arg(b"~").int(maxlen);
        }
        packet.arg(b"*");
        append_fields(packet, plan.payload.unwrap_or_default(), plan.scope);
        Ok(())
    }

    /// How many entries its shards have together.
    ///
    /// # Errors
    /// The connection's.
    pub async fn length(&self, conn: &Connection) -> Result<u64> {
        let mut packet = Packet::pipeline();
        for key in self.keys(conn) {
            packet.then("XLEN", 1).arg(key.as_bytes());
        }
        let replies = match conn.exchange(packet, None).await? {
            Value::Array(replies) => replies,
            single => vec![single],
        };
        let mut length = 0;
        for reply in replies {
            match conn.check(reply)? {
                Value::Int(entries) => length += u64::try_from(entries).unwrap_or(0),
                other => return Err(Error::value(format!("XLEN was answered with {other:?}"))),
            }
        }
        Ok(length)
    }

    /// What it has counted in this process, standing alone.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.inner.counters.read()
    }
}

/// The verdict that the script answered, and the id, of which a refusal has none.
fn decided(reply: Value) -> Result<(i64, Option<String>)> {
    let mut reply = Packed::of(reply)?;
    let (verdict, _rule, _now, _depth) = (reply.int()?, reply.int()?, reply.int()?, reply.int()?);
    let (id, _) = reply.texts()?;
    Ok((verdict, (!id.is_empty()).then(|| id.to_owned())))
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("name", &self.spec.name)
            .field("maxlen", &self.spec.maxlen)
            .field("full", &self.spec.full)
            .finish_non_exhaustive()
    }
}
