//! Where what was admitted is put, for a batch job to find.

use crate::connection::Connection;
use crate::error::Result;

use super::decision::Decision;
use super::metrics::Metrics;
use super::scope::Scope;
use super::settings::Settings;

/// What happens to a stream at its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Full {
    /// It takes no more until something was consumed.
    Refuse,
    /// The oldest entries are dropped (`MAXLEN ~`), also those that nobody has read.
    Trim,
}

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

    /// Whom it is of: each entry of the scope becomes a field, and the owner chooses the shard. Without one the shards take
    /// turns.
    #[must_use]
    pub fn scope(self, scope: &'a Scope<'a>) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// An id under which it is written once only. It counts within its shard, so it needs a scope if there are several.
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
#[derive(Clone, Debug)]
pub struct Stream {
    name: String,
}

impl Stream {
    /// A stream of a name, without a greatest length.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned() })
    }

    /// The greatest length of all shards together; each takes its part. 0 is none.
    #[must_use]
    pub fn maxlen(self, maxlen: u64) -> Self {
        let _ = maxlen;
        todo!()
    }

    /// What happens at that length. The default is [`Full::Refuse`].
    #[must_use]
    pub fn full(self, full: Full) -> Self {
        let _ = full;
        todo!()
    }

    /// Where its keys are, and what it does without the server, when it stands alone: in a gate, the gate's count.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a setting that makes no sense.
    pub fn settings(self, settings: Settings) -> Result<Self> {
        let _ = settings;
        todo!()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keys of its shards on the server.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        todo!()
    }

    /// The keys of its shards' dead letters.
    #[must_use]
    pub fn dead_keys(&self) -> Vec<String> {
        todo!()
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
        let _ = (conn, event.into());
        async { todo!() }
    }

    /// Appends entries in order, in one round trip, each as [`Stream::add`] does; the ids, `None` for what found no room.
    /// They are one transaction neither with each other nor with an error: what was written before it stays.
    ///
    /// # Errors
    /// As for [`Stream::add`], and the connection's: after those it is not known which entries were written.
    pub fn add_many<'a>(
        &'a self,
        conn: &'a Connection,
        events: &'a [Event<'a>],
    ) -> impl Future<Output = Result<Vec<Option<String>>>> + Send {
        let _ = (conn, events);
        async { todo!() }
    }

    /// How many entries its shards have together.
    ///
    /// # Errors
    /// The connection's.
    pub fn length<'a>(&'a self, conn: &'a Connection) -> impl Future<Output = Result<u64>> + Send {
        let _ = conn;
        async { todo!() }
    }

    /// What it has counted in this process, standing alone.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        todo!()
    }
}
