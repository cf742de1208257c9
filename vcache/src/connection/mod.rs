//! The handle that everybody uses: [`Connection`]. It is cheap to clone and stands for "the connection of this alias in
//! this process": it connects on first use, reconnects by itself, and starts afresh in a forked child.
//!
//! What is behind it is either the driver in this very library, or, in a separate extension module, the wheel's, by
//! way of the table in [`crate::abi`]. Callers see no difference.
//!
//! | module | is for |
//! |---|---|
//! | [`command`], [`words`] | one request as it goes onto the wire, and how it is read back |
//! | [`policy`], [`refusal`] | what is known of each command, and what to do when the server refuses one |
//! | `commands` | the most usual commands as methods |
//! | [`limits`] | how long a call may take |
//! | [`slot`] | where a call waits for its reply |
//! | [`reply_future`] | the future of one call |
//! | `primaries` | the nodes of a cluster, one by one |
//! | `local`, `registry` | handles on this library's own connections, and their names |
//! | `topology` | the connection of an alias in this process |
//! | `cluster` | many servers: which node a packet goes to, and on from one that does not take it |
//! | `driver`, `state` | one connection, and the steps that move it on |
//! | `in_flight`, `waiting`, `link` | what it knows: calls under way, calls that wait, the link itself |
//! | `receiver` | who gets a reply |
//! | `recording` | what was sent, for tests that count round trips |
//! | `push`, `changes`, `changed` | what the server says without being asked; who waits for which key; waiting for one |
//! | `dial`, `race`, `handshake` | making a connection, on a thread for that |
//! | `transport`, `socket`, `resp` | bytes and replies |

#[cfg(feature = "driver")]
mod changed;
#[cfg(feature = "driver")]
mod changes;
#[cfg(feature = "driver")]
mod cluster;
pub(crate) mod command;
mod commands;
#[cfg(feature = "driver")]
mod dial;
#[cfg(feature = "driver")]
pub(crate) mod driver;
#[cfg(feature = "driver")]
mod exchange;
#[cfg(feature = "driver")]
mod handshake;
#[cfg(feature = "driver")]
mod in_flight;
#[cfg(feature = "driver")]
mod keys;
pub(crate) mod limits;
#[cfg(feature = "driver")]
mod link;
#[cfg(feature = "driver")]
pub(crate) mod local;
pub(crate) mod policy;
mod primaries;
#[cfg(feature = "driver")]
mod push;
#[cfg(feature = "driver")]
mod race;
#[cfg(feature = "driver")]
pub(crate) mod receiver;
#[cfg(feature = "driver")]
mod recording;
#[cfg(feature = "driver")]
mod refusal;
#[cfg(feature = "driver")]
mod registry;
#[cfg(feature = "driver")]
mod renewal;
mod reply_future;
#[cfg(feature = "driver")]
mod resp;
#[cfg(feature = "driver")]
mod sentinel;
pub(crate) mod slot;
#[cfg(feature = "driver")]
mod socket;
#[cfg(feature = "driver")]
mod state;
#[cfg(feature = "driver")]
mod tls;
#[cfg(feature = "driver")]
mod topology;
#[cfg(feature = "driver")]
mod transport;
#[cfg(feature = "driver")]
mod waiting;
mod words;

#[cfg(all(feature = "driver", feature = "python"))]
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::ConnectionLike;
use redis::{Cmd, RedisFuture, Value};

#[cfg(feature = "driver")]
pub use changed::Watched;
pub use command::Packet;
use limits::Limits;
#[cfg(feature = "driver")]
use local::Handle;
use policy::Blocking;
pub use primaries::Primaries;
#[cfg(feature = "driver")]
pub use recording::{RoundTrip, record_round_trips, recorded_round_trips, stop_recording_round_trips};
#[cfg(feature = "driver")]
pub use registry::{configure, publish, unconfigure};
pub use reply_future::ReplyFuture;

#[cfg(not(feature = "driver"))]
use crate::abi::guest::Handle;
#[cfg(feature = "driver")]
use crate::config::Config;
use crate::error::{Error, Result};
#[cfg(all(feature = "driver", feature = "python"))]
use crate::reactor::waiter::Waiter;
#[cfg(all(feature = "driver", feature = "python"))]
use crate::scope::Driving;

/// A handle to the shared connection of one alias.
///
/// It implements redis-rs's [`ConnectionLike`], so [`AsyncCommands`](redis::AsyncCommands), [`pipe()`](redis::pipe) and
/// [`Script`](redis::Script) work on it. Calls of all clones, in all threads, are pipelined on one socket.
///
/// ```no_run
/// use vcache::AsyncCommands;
///
/// # async fn example() -> vcache::Result<()> {
/// let mut conn = vcache::connection()?;
/// let visits: i64 = conn.incr("visits", 1).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Connection {
    handle: Handle,
    timeout: Option<Duration>,
    /// When the calls of a hot path with its own time-out must be over.
    deadline: Option<Instant>,
    /// In a cluster: the slot whose node all calls go to.
    slot: Option<u16>,
}

impl Connection {
    /// A connection of its own settings, under a name that its errors will show. Connections with equal configs share
    /// one socket. Nothing is sent before the first call.
    #[cfg(feature = "driver")]
    #[must_use]
    pub fn new(alias: &str, config: Config) -> Self {
        Self::on(Handle::new(alias, config, String::new()))
    }

    /// The same connection with a prefix for the keys that this crate makes: those of [`admission`](crate::admission). So
    /// applications and stages that share a server do not share limits. It changes no other key.
    ///
    /// Braces, percent signs and what cannot be seen are percent-encoded.
    ///
    /// ```
    /// use vcache::{Config, Connection};
    ///
    /// let config = Config::from_url("redis://localhost/1")?;
    /// let conn = Connection::new("default", config).with_key_prefix("staging");
    /// # Ok::<(), vcache::Error>(())
    /// ```
    #[cfg(feature = "driver")]
    #[must_use]
    pub fn with_key_prefix(&self, prefix: &str) -> Self {
        let handle = Handle::new(self.alias(), self.config().clone(), keys::head(prefix));
        Self { handle, ..self.clone() }
    }

    /// What keys begin with that this crate makes.
    #[cfg(any(feature = "driver", feature = "admission"))]
    pub(crate) fn key_head(&self) -> &[u8] {
        self.handle.key_head().as_bytes()
    }

    pub(crate) fn on(handle: Handle) -> Self {
        Self { handle, timeout: None, deadline: None, slot: None }
    }

    #[cfg(all(feature = "driver", feature = "python"))]
    pub(crate) fn into_handle(self) -> Handle {
        self.handle
    }

    /// The same connection with another deadline for each call than the config's `response_timeout`.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self.clone() }
    }

    /// The same connection with a moment after which its calls fail with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout),
    /// all of them: so many calls share one budget. An earlier deadline of this handle stays.
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |earlier| earlier.min(deadline));
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// The alias that this handle was made for.
    #[must_use]
    pub fn alias(&self) -> &str {
        self.handle.alias()
    }

    /// The config it connects with.
    #[cfg(feature = "driver")]
    #[must_use]
    pub fn config(&self) -> &Config {
        self.handle.config()
    }

    /// Sends an encoded packet. One command gives its reply, a pipeline a [`Value::Array`] of them; an error reply is a
    /// [`Value::ServerError`] inside, so that one failed command does not hide the others' results.
    pub fn send(&self, packet: Packet) -> ReplyFuture {
        ReplyFuture::new(self.clone(), packet)
    }

    /// Sends one redis-rs command, with the checks that the shared connection needs.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a command that would change the connection for others.
    pub fn send_command(&self, command: &Cmd) -> Result<ReplyFuture> {
        Ok(self.send(self.checked(command)?))
    }

    fn checked(&self, command: &Cmd) -> Result<Packet> {
        Packet::try_from(command).map_err(|error| error.with_alias(self.alias()))
    }

    /// Sends a packet and waits for its reply, no longer than this handle waits anyway, and than `patience`, which does not
    /// run while a long reply to another call is arriving. Unlike [`Connection::send`] it needs no handle for itself.
    pub(crate) async fn exchange(&self, packet: Packet, patience: Option<Duration>) -> Result<Value> {
        let call = self.limits(packet.blocking).and_then(|limits| {
            let patience = limits.patience.into_iter().chain(patience).min();
            self.handle.call(packet, Limits { patience, ..limits })
        });
        let reply = match call {
            Ok(mut call) => std::future::poll_fn(|cx| call.poll(cx)).await,
            Err(error) => Err(error),
        };
        reply.map_err(|error| error.with_alias(self.alias()))
    }

    /// Begins a call whose outcome goes straight to its receiver.
    #[cfg(all(feature = "driver", feature = "python"))]
    pub(crate) fn begin(
        &self,
        packet: Packet,
        receiver: Arc<dyn receiver::Receiver>,
        driving: Driving,
        waiter: &Arc<Waiter>,
    ) -> Result<(local::Route, driver::Submitted)> {
        packet.check()?;
        let limits = self.limits(packet.blocking)?;
        let route = self.handle.route_for(&packet, Some(waiter))?;
        let submitted = route.hand_over(packet, receiver, limits, driving)?;
        Ok((route, submitted))
    }

    /// Whether the time of the hot path that this handle is of is over: what fails then says nothing about the server.
    #[cfg(feature = "admission")]
    pub(crate) fn is_out_of_time(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// One connection for each primary of a cluster, whose calls go to that node: for what has to be asked of each, such as
    /// `SCAN`. Of one server it is this connection alone.
    ///
    /// The nodes are those that have slots now. Compare two answers to learn whether slots moved between them.
    ///
    /// ```no_run
    /// # async fn example() -> vcache::Result<()> {
    /// let conn = vcache::connection()?;
    /// for node in conn.primaries().await?.connections() {
    ///     let keys = node.send(vcache::Packet::command("DBSIZE", 0)).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of a call: if there is no connection yet, one is made. In an extension module,
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if the installed django-vcache is too old for it.
    pub async fn primaries(&self) -> Result<Primaries> {
        let mut owners = self.handle.owners()?;
        if owners.is_empty() {
            // Whether it is one is known when there is a connection.
            self.check(self.send(Packet::ping()).await?)?;
            owners = self.handle.owners()?;
        }
        Ok(Primaries::new(self, owners))
    }

    /// The reply, or the error that it is.
    ///
    /// # Errors
    /// [`ErrorKind::Response`](crate::ErrorKind::Response) with the server's words and this alias.
    pub fn check(&self, reply: Value) -> Result<Value> {
        match reply {
            Value::ServerError(error) => Err(Error::response(&error).with_alias(self.alias())),
            reply => Ok(reply),
        }
    }

    /// How long a call that begins now may take.
    pub(crate) fn limits(&self, blocking: Blocking) -> Result<Limits> {
        let usual = self.timeout.unwrap_or(self.handle.response_timeout());
        let timeout = match blocking {
            Blocking::No => Some(usual),
            Blocking::Yes(None) => None,
            Blocking::Yes(Some(seconds)) => {
                Some(usual.saturating_add(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
            }
        };
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::timeout("the time for this call's hot path is over; nothing was sent"));
        }
        Ok(Limits { timeout, patience: None, deadline: self.deadline, slot: self.slot })
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.handle)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let mut call = self.checked(cmd).map(reply_future::State::New);
        let connection = &*self;
        Box::pin(async move {
            let call = match &mut call {
                Ok(call) => call,
                Err(error) => return Err(error.clone().into()),
            };
            // Not a `ReplyFuture`, which would keep a handle of its own.
            std::future::poll_fn(|cx| call.poll(connection, cx)).await?.extract_error()
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let packet = Packet::received(pipeline.get_packed_pipeline(), false)
            .map_err(|error| error.with_alias(self.alias()));
        let reply = packet.map(|packet| self.send(packet));
        Box::pin(async move {
            let replies = match reply?.await? {
                Value::Array(replies) => replies,
                single => vec![single],
            };
            // What made the server refuse the transaction says more than that it did. redis-rs would see neither.
            if pipeline.is_transaction()
                && let Some(Value::ServerError(error)) =
                    replies.iter().find(|reply| matches!(reply, Value::ServerError(_)))
            {
                return Err(Error::response(error).into());
            }
            Ok(replies.into_iter().skip(offset).take(count).collect())
        })
    }

    fn get_db(&self) -> i64 {
        self.handle.db()
    }
}

/// The connection of the alias `default`.
///
/// # Errors
/// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if it is not configured.
pub fn connection() -> Result<Connection> {
    connection_for("default")
}

/// The connection of an alias. Under Django these are the names in `CACHES`, elsewhere those given to `configure`.
///
/// # Errors
/// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if there is no such alias.
pub fn connection_for(alias: &str) -> Result<Connection> {
    Handle::find(alias).map(Connection::on)
}
