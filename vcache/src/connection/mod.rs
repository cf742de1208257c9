//! The handle that everybody uses: [`Connection`]. It is cheap to clone and stands for "the connection of this alias in
//! this process": it connects on first use, reconnects by itself, and starts afresh in a forked child.
//!
//! | module | is for |
//! |---|---|
//! | [`command`] | one request as it goes onto the wire |
//! | [`slot`] | where a call waits for its reply |
//! | [`driver`], [`state`] | one connection, and the steps that move it on |
//! | [`connect`] | making a connection, off everybody's thread |
//! | [`socket`], [`resp`] | bytes and replies |
//! | [`request`] | the future of one call |

pub(crate) mod command;
mod connect;
mod driver;
mod request;
mod resp;
mod slot;
mod socket;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use redis::aio::ConnectionLike;
use redis::{Cmd, RedisFuture, Value};

use command::Blocking;
pub use command::Packet;
pub(crate) use driver::Driver;
pub use request::Request;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::fork;
use crate::reactor::reactor;

/// Connections for blocking commands that are kept for the next one.
const SPARE_CONNECTIONS: usize = 4;

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
    shared: Arc<Shared>,
    timeout: Option<Duration>,
    /// When the calls of a hot path with a time-out of its own must be over.
    deadline: Option<Instant>,
}

struct Shared {
    alias: Arc<str>,
    config: Arc<Config>,
    /// This process's driver, and after a fork, until the first use, still the parent's.
    driver: ArcSwap<Driver>,
    /// Idle connections that served blocking commands.
    spare: Mutex<Vec<Arc<Driver>>>,
}

impl Connection {
    /// A connection of its own settings, under a name that its errors will show. Connections with equal configs share
    /// one socket. Nothing is sent before the first call.
    #[must_use]
    pub fn new(alias: &str, config: Config) -> Self {
        let config = Arc::new(config);
        Self {
            shared: Arc::new(Shared {
                alias: alias.into(),
                driver: ArcSwap::new(reactor().driver(&config)),
                config,
                spare: Mutex::default(),
            }),
            timeout: None,
            deadline: None,
        }
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
        &self.shared.alias
    }

    /// The config it connects with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Sends an encoded packet. One command gives its reply, a pipeline a [`Value::Array`] of them; an error reply is a
    /// [`Value::ServerError`] inside, so that one failed command does not hide the others' results.
    pub fn send(&self, packet: Packet) -> Request {
        Request::new(self.clone(), packet)
    }

    /// Sends one redis-rs command, with the checks that the shared connection needs.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a command that would change the connection for others.
    pub fn send_command(&self, command: &Cmd) -> Result<Request> {
        let packet = Packet::checked(command.get_packed_command(), [command], false)
            .map_err(|error| error.with_alias(&self.shared.alias))?;
        Ok(self.send(packet))
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

    /// How long a call that begins now may take; `None` is for as long as it takes.
    fn time_left(&self, blocking: Blocking) -> Result<Option<Duration>> {
        let usual = self.timeout.unwrap_or(self.shared.config.response_timeout);
        let alone = match blocking {
            Blocking::No => Some(usual),
            Blocking::Yes(None) => None,
            Blocking::Yes(Some(seconds)) => {
                Some(usual.saturating_add(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
            }
        };
        let Some(deadline) = self.deadline else { return Ok(alone) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::timeout("the time for this call's hot path is over; nothing was sent"));
        }
        Ok(Some(alone.map_or(left, |alone| alone.min(left))))
    }

    /// This process's driver.
    fn driver(&self) -> Arc<Driver> {
        let driver = self.shared.driver.load();
        if driver.epoch() == fork::epoch() {
            return Arc::clone(&driver);
        }
        self.after_fork()
    }

    #[cold]
    fn after_fork(&self) -> Arc<Driver> {
        let fresh = reactor().driver(&self.shared.config);
        self.shared.driver.store(Arc::clone(&fresh));
        fresh
    }

    /// A driver for one blocking command.
    fn dedicated_driver(&self) -> Arc<Driver> {
        let epoch = fork::epoch();
        // NOTE: try_lock, because a fork may have happened while another thread of the parent held it.
        let spare = self.shared.spare.try_lock().ok().and_then(|mut spare| {
            spare.retain(|driver| driver.epoch() == epoch);
            spare.pop()
        });
        spare.unwrap_or_else(|| reactor().dedicated_driver(&self.shared.config))
    }

    fn give_back(&self, driver: Arc<Driver>) {
        if driver.epoch() == fork::epoch()
            && driver.is_idle()
            && let Ok(mut spare) = self.shared.spare.try_lock()
            && spare.len() < SPARE_CONNECTIONS
        {
            spare.push(driver);
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection('{}' at {})", self.shared.alias, self.shared.config)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let request = self.send_command(cmd);
        Box::pin(async move { request?.await?.extract_error() })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let packet =
            Packet::checked(pipeline.get_packed_pipeline(), pipeline.cmd_iter(), pipeline.is_transaction())
                .map_err(|error| error.with_alias(&self.shared.alias));
        let request = packet.map(|packet| self.send(packet));
        Box::pin(async move {
            let replies = match request?.await? {
                Value::Array(replies) => replies,
                single => vec![single],
            };
            Ok(replies.into_iter().skip(offset).take(count).collect())
        })
    }

    fn get_db(&self) -> i64 {
        self.shared.config.db
    }
}

type Aliases = HashMap<String, Connection>;

/// NOTE: an `ArcSwap` and not a mutex: it stays usable in a child that was forked while another thread wrote to it.
fn aliases() -> &'static ArcSwap<Aliases> {
    static ALIASES: OnceLock<ArcSwap<Aliases>> = OnceLock::new();
    ALIASES.get_or_init(ArcSwap::default)
}

/// Gives `alias` its config and returns its connection. The same config again changes nothing; another one replaces it
/// for those who ask from then on.
///
/// ```
/// use vcache::Config;
///
/// vcache::configure("default", Config::from_url("redis://localhost/1")?);
/// assert_eq!(vcache::connection()?.alias(), "default");
/// # Ok::<(), vcache::Error>(())
/// ```
pub fn configure(alias: &str, config: Config) -> Connection {
    if let Some(known) = aliases().load().get(alias)
        && *known.config() == config
    {
        return known.clone();
    }
    let connection = Connection::new(alias, config);
    aliases().rcu(|aliases| {
        let mut aliases = Aliases::clone(aliases);
        aliases.insert(alias.to_owned(), connection.clone());
        aliases
    });
    connection
}

/// The connection of the alias `default`.
///
/// # Errors
/// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if nobody configured it.
pub fn connection() -> Result<Connection> {
    connection_for("default")
}

/// The connection of an alias.
///
/// # Errors
/// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) that lists the aliases there are.
pub fn connection_for(alias: &str) -> Result<Connection> {
    let aliases = aliases().load();
    aliases.get(alias).cloned().ok_or_else(|| {
        let mut known: Vec<_> = aliases.keys().map(String::as_str).collect();
        known.sort_unstable();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Error::configuration(format!("no cache alias '{alias}' is configured (configured: {known})"))
    })
}
