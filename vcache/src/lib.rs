//! **vcache**: one Valkey (or Redis) connection per process, driven by its callers.
//!
//! There is no I/O thread: whoever waits for a reply polls the connection. That is an asyncio loop, a blocking thread
//! ([`block_on`]) or a tokio runtime, any number of them at a time, all on one socket. See [`Connection`].
//!
//! ```
//! use vcache::{AsyncCommands, Config};
//!
//! #[tokio::main]
//! async fn main() -> vcache::Result<()> {
//! # // `make test` starts a server for this.
//! # if std::env::var_os("VCACHE_URL").is_none() { return Ok(()) }
//!     let url = std::env::var("VCACHE_URL").unwrap_or("redis://localhost/1".into());
//!     vcache::configure("default", Config::from_url(&url)?);
//!     let mut conn = vcache::connection()?;
//!     let () = conn.set("greeting", "hello").await?;
//!     let greeting: String = conn.get("greeting").await?;
//!     assert_eq!(greeting, "hello");
//!     Ok(())
//! }
//! ```
//!
//! With the feature `python` the crate also turns async functions into functions that Python calls, blocking and on
//! the running asyncio loop: the macros `hotpath` and `module`.
//!
//! | module | is for |
//! |---|---|
//! | `config` | a URL and options become a validated [`Config`] |
//! | `connection` | the handle, the driver, the socket, connecting and reconnecting |
//! | `reactor` | the one poller of the process, and who drives it |
//! | `blocking`, `tokio_driver`, `python` | the three who drive |
//! | `admission` | throttles and streams |
//! | `testing` | servers for tests, with the feature of that name |
//! | `fork` | what a forked child must know |

#[cfg(not(any(feature = "driver", feature = "python")))]
compile_error!(
    "enable `python` (the default: an extension module that shares the connection of the wheel django-vcache) or `driver` (a \
     program with a connection of its own)"
);

#[cfg(feature = "python")]
pub mod abi;
pub mod admission;
#[cfg(feature = "driver")]
mod blocking;
#[cfg(feature = "driver")]
mod config;
mod connection;
#[cfg(feature = "driver")]
mod context;
mod error;
#[cfg(feature = "driver")]
mod fork;
#[cfg(feature = "python")]
pub mod python;
#[cfg(feature = "driver")]
mod reactor;
#[cfg(any(feature = "driver", feature = "tokio", feature = "awaitable"))]
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tokio")]
mod tokio_driver;

#[cfg(all(feature = "python", not(feature = "driver")))]
pub use abi::guest::block_on;
#[cfg(feature = "driver")]
pub use blocking::block_on;
#[cfg(feature = "driver")]
pub use config::{Config, Options};
#[cfg(feature = "driver")]
pub use connection::configure;
pub use connection::{Connection, Packet, Request, connection, connection_for};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "testing")]
pub use hotpath_macros::test;
#[cfg(feature = "python")]
pub use hotpath_macros::{hotpath, module};
#[cfg(feature = "python")]
pub use pyo3;
#[cfg(feature = "awaitable")]
pub use python::Awaitable;
#[cfg(feature = "json")]
pub use python::Json;
#[cfg(feature = "dict")]
pub use python::{FromDict, ToDict};
pub use redis::{self, AsyncCommands, FromRedisValue, ToRedisArgs, Value};

/// What the file of a hot path begins with: `use vcache::prelude::*;`.
pub mod prelude {
    pub use redis::{AsyncCommands, FromRedisValue, ToRedisArgs};

    pub use crate::connection::Connection;
    #[cfg(feature = "awaitable")]
    pub use crate::python::Awaitable;
    #[cfg(feature = "json")]
    pub use crate::python::Json;
    #[cfg(feature = "dict")]
    pub use crate::python::{FromDict, ToDict};
    #[cfg(feature = "python")]
    pub use crate::{hotpath, module};
}
