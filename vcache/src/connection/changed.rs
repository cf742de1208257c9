//! Waiting for a key to change, without asking again and again: the server says so, once it was asked for the key under
//! `CLIENT TRACKING ON OPTIN`.
//!
//! One look is one write: `CLIENT CACHING YES`, `GET`, `PTTL`. The wait begins in the moment at which its reply is read,
//! so no message can be missed between the two. The server is late with keys that expire, so a wait also ends when the time
//! to live is over, and looks again. So it does when the connection is lost, and with it what would have been said. A server
//! that refuses tracking is asked again and again after all.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use redis::Value;

use super::Connection;
use super::changes::{Ended, Tracking, Wait};
use super::command::Packet;
use super::driver::Driver;
use super::local::{Call, forked};
use super::policy::Blocking;
use super::receiver::{Outcome, Receiver};
use super::slot::Slot;
use crate::error::{Error, Result};
use crate::reactor::waiter::{UnderWay, Waiter};
use crate::scope::{self, Driving};

/// How often a server without tracking is asked at first; the pauses double.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often a key is followed to another node.
const MOST_MOVES: usize = 5;
/// A key is looked at so long after its time to live, which the server rounds.
const AFTER_EXPIRY: Duration = Duration::from_millis(2);

/// Takes the replies of a look. It is filled in the order of the stream: what is heard after it is about this look.
struct Look {
    slot: Arc<Slot<Outcome>>,
    wait: Arc<Wait>,
}

impl Receiver for Look {
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker> {
        if outcome.result.is_ok() {
            self.wait.begin();
        }
        Slot::fill(&self.slot, outcome)
    }

    fn is_abandoned(&self) -> bool {
        self.slot.is_abandoned()
    }

    fn is_tied(&self) -> bool {
        true
    }
}

/// A key as it was when it was looked at, and the wait for its change.
///
/// Dropping it ends the wait. See [`Connection::watch`].
pub struct Watched {
    connection: Connection,
    driver: Arc<Driver>,
    key: Box<[u8]>,
    value: Value,
    /// When it expires.
    expires: Option<Instant>,
    wait: Arc<Wait>,
    is_tracked: bool,
}

impl Watched {
    /// What `GET` answered: the value, `Nil` for a key that is not there, or the server's error for one that holds no string.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether the server says when the key changes. Where it refuses to, it is asked again and again.
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        self.is_tracked
    }

    /// Waits until the key changes, is created, deleted or expires, or for so long. `false`: it did not change.
    ///
    /// A change back between two looks, which follow on a lost connection, is not seen; a key that holds no string counts as
    /// changed then. A server may also say that a key changed that did not: it tracks names without their database, and
    /// forgets keys of which it has too many.
    ///
    /// # Errors
    /// Those of a call: the server is looked for again after the connection was lost.
    pub async fn changed(mut self, timeout: Option<Duration>) -> Result<bool> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut pause = FIRST_PAUSE;
        loop {
            let look_again = if self.is_tracked {
                self.expires.map(|expires| expires + AFTER_EXPIRY)
            } else {
                let next = Instant::now() + pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                Some(next)
            };
            let ended = self.wait_until(look_again.into_iter().chain(until).min()).await?;
            if ended == Ended::Changed {
                return Ok(true);
            }
            let is_over = until.is_some_and(|until| until <= Instant::now());
            let before = fingerprint(&self.value);
            let again = self.connection.watch(&self.key).await?;
            let after = fingerprint(&again.value);
            // What the server says of a key that holds no string cannot be compared: a change is then heard of, or missed with
            // a connection that was lost.
            if before != after || (after.is_none() && ended == Ended::Lost) {
                return Ok(true);
            }
            if is_over {
                return Ok(false);
            }
            self = again;
        }
    }

    async fn wait_until(&self, until: Option<Instant>) -> Result<Ended> {
        // The loop or thread watches the connection meanwhile.
        let mut under_way: Option<UnderWay> = None;
        let mut is_told = false;
        std::future::poll_fn(|cx| {
            if self.driver.is_stale() {
                return Poll::Ready(Err(forked().with_alias(self.connection.alias())));
            }
            under_way = under_way.take().or_else(|| scope::waiter().as_ref().map(Waiter::begin));
            let polled = self.wait.poll(until, cx).map(Ok);
            if polled.is_pending() && scope::driving() == Driving::Loop {
                // It may wait without end, and cannot wait for its end to learn that it is not wanted.
                scope::want_prompt_cancel();
            }
            if polled.is_pending() && !std::mem::replace(&mut is_told, true) {
                self.driver.come_by(until);
            }
            polled
        })
        .await
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.driver.is_stale() {
            // With the last reference the wait is over.
            self.wait = Arc::default();
            self.driver.changes().tidy(&self.key);
        }
    }
}

/// What of a value can be compared later; `None` for what cannot.
fn fingerprint(value: &Value) -> Option<u64> {
    match value {
        Value::Nil => Some(0),
        Value::BulkString(bytes) => {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            Some(hasher.finish() | 1)
        }
        _ => None,
    }
}

impl Connection {
    /// Waits until a key changes, is created, deleted or expires.
    ///
    /// ```no_run
    /// # async fn example() -> vcache::Result<()> {
    /// vcache::connection()?.changed("lock:report").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of a call.
    pub async fn changed(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.watch(key).await?.changed(None).await.map(|_| ())
    }

    /// Looks at a key, and from then on watches it: what it changes after the look ends [`Watched::changed`], also if that is
    /// called later.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn watch(&self, key: impl AsRef<[u8]>) -> Result<Watched> {
        let key: Box<[u8]> = key.as_ref().into();
        self.look_at(key).await.map_err(|error| error.with_alias(self.alias()))
    }

    async fn look_at(&self, key: Box<[u8]>) -> Result<Watched> {
        let mut moves = 0;
        loop {
            let limits = self.limits(Blocking::No)?;
            let route = self.handle.route_to_watch(&key)?;
            let driver = Arc::clone(route.driver());
            let tracking = driver.changes().tracking();
            let packet = look(&key, tracking);
            let mut watched = Watched {
                connection: self.clone(),
                driver,
                key: key.clone(),
                value: Value::Nil,
                expires: None,
                wait: Arc::default(),
                is_tracked: tracking != Tracking::Refused,
            };
            watched.driver.changes().add(&key, &watched.wait);
            let asked = Instant::now();
            let slot = Arc::new(Slot::new());
            let look = Arc::new(Look { slot: Arc::clone(&slot), wait: Arc::clone(&watched.wait) });
            route.submit(packet, look, limits, false)?;
            let mut call = Call::new(slot, route);
            let outcome = std::future::poll_fn(|cx| call.poll(cx)).await;
            if self.is_elsewhere(&watched, outcome.as_ref().ok(), &mut moves)? {
                continue;
            }
            let replies = match outcome? {
                Value::Array(replies) => replies,
                single => vec![single],
            };
            if watched.value_is_lent(&replies) {
                return watched.poll_instead().await;
            }
            if watched.read(replies, tracking, asked)? {
                return Ok(watched);
            }
        }
    }

    /// Whether a key turned out to be on another connection than the one that was asked: a cluster was found, or the slot
    /// moved. It is looked at there then.
    fn is_elsewhere(&self, watched: &Watched, replies: Option<&Value>, moves: &mut usize) -> Result<bool> {
        let was_moved = matches!(replies, Some(Value::Array(replies)) if replies.iter().any(|reply| {
            matches!(reply, Value::ServerError(error) if error.code() == "MOVED")
        }));
        if replies.is_some() && !was_moved {
            return Ok(false);
        }
        *moves += 1;
        let route = self.handle.route_to_watch(&watched.key)?;
        Ok(*moves <= MOST_MOVES && !Arc::ptr_eq(route.driver(), &watched.driver))
    }
}

/// The commands of one look.
fn look(key: &[u8], tracking: Tracking) -> Packet {
    // Reading twice does no harm; and a link without tracking says so.
    let mut packet = Packet::unchecked().repeatable(true);
    if tracking == Tracking::Unknown {
        packet.then("CLIENT", 3).arg(b"TRACKING").arg(b"ON").arg(b"OPTIN");
    }
    if tracking != Tracking::Refused {
        packet.then("CLIENT", 2).arg(b"CACHING").arg(b"YES");
    }
    packet.then("GET", 1).arg(key);
    packet.then("PTTL", 1).arg(key);
    packet
}

impl Watched {
    /// Whether the answer came from a node that has the slot for a while only, or cannot answer now. What such a node says is
    /// not tracked there.
    fn value_is_lent(&self, replies: &[Value]) -> bool {
        let cannot = |reply: &Value| matches!(reply, Value::ServerError(error) if matches!(error.code(), "ASK" | "TRYAGAIN" | "CLUSTERDOWN"));
        self.driver.cluster().is_some() && replies.iter().any(cannot)
    }

    /// Looks by ordinary calls, which find their way, and again and again until the slot is in one place.
    async fn poll_instead(mut self) -> Result<Self> {
        let asked = Instant::now();
        let mut get = Packet::command("GET", 1);
        get.arg(&self.key);
        self.value = self.connection.exchange(get, None).await?;
        let mut left = Packet::command("PTTL", 1);
        left.arg(&self.key);
        let left = self.connection.exchange(left, None).await?;
        if let Value::ServerError(error) = &self.value
            && error.code() != "WRONGTYPE"
        {
            return Err(Error::response(error));
        }
        self.expires_after(&left, asked);
        self.is_tracked = false;
        Ok(self)
    }

    /// Notes when the key expires, by what `PTTL` answered.
    fn expires_after(&mut self, left: &Value, asked: Instant) {
        if let Value::Int(left) = left
            && let Ok(left) = u64::try_from(*left)
        {
            self.expires = Some(asked + Duration::from_millis(left));
        }
    }

    /// Takes the replies of a look in. `false`: it has to be repeated, because tracking was not what it was thought to be.
    ///
    /// # Errors
    /// What the server answers in place of the value, unless the key holds no string; and why it cannot say now whether it
    /// tracks the key.
    fn read(&mut self, mut replies: Vec<Value>, tracking: Tracking, asked: Instant) -> Result<bool> {
        let expires = replies.pop();
        self.value = replies.pop().unwrap_or(Value::Nil);
        if let Value::ServerError(error) = &self.value
            && error.code() != "WRONGTYPE"
        {
            return Err(Error::response(error));
        }
        if let Some(Value::ServerError(error)) = replies.iter().find(|reply| is_not_now(reply)) {
            return Err(Error::response(error));
        }
        self.expires_after(&expires.unwrap_or(Value::Nil), asked);
        let refused = replies.iter().any(|reply| matches!(reply, Value::ServerError(_)));
        match (tracking, refused) {
            (Tracking::Unknown, false) => self.driver.changes().set(Tracking::On),
            (Tracking::Unknown, true) => {
                self.driver.changes().set(Tracking::Refused);
                self.is_tracked = false;
            }
            // The link is a new one.
            (Tracking::On, true) => {
                self.driver.changes().set(Tracking::Unknown);
                return Ok(false);
            }
            (Tracking::On, false) | (Tracking::Refused, _) => {}
        }
        Ok(true)
    }
}

/// Whether it is an error that is no answer to whether the server tracks keys: that is `NOPERM`, or that it does not know the
/// command.
fn is_not_now(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if !matches!(error.code(), "NOPERM" | "ERR"))
}
