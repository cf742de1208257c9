//! **vcache**: one Valkey (or Redis) connection per process, driven by its callers.
//!
//! It is for two kinds of programs: an extension module with **hot paths**, async functions that Django views call, and
//! a Rust program without Python. What a [`Connection`] does is the same in both.
//!
//! # An extension module
//!
//! The crate's default features are a small client of the connection that the wheel `django-vcache` holds in the
//! process. `python -m django_vcache new shop_hot` writes such a crate, with its build and its tests. This is a whole
//! module:
//!
//! ```no_run
//! //! src/lib.rs
//!
//! /// The hot paths of a shop.
//! #[vcache::module]
//! mod _native {
//!     use vcache::Error;
//!     use vcache::prelude::*;
//!
//!     /// Take `count` of a product off the stock, and return how many are left.
//!     #[hotpath(signature = (sku, count = 1), timeout = "250ms")]
//!     pub async fn reserve(conn: &mut Connection, sku: &str, count: u32) -> vcache::Result<i64> {
//!         let key = format!("stock:{sku}");
//!         let left: i64 = conn.decr(&key, count).await?;
//!         if left < 0 {
//!             let _: i64 = conn.incr(&key, count).await?;
//!             return Err(Error::raising("shop.errors.SoldOut", format!("too few of {sku} are left")));
//!         }
//!         Ok(left)
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Python calls it as `reserve("A-1")`, which blocks with the GIL released, or awaits `areserve("A-1", count=2)` on its
//! asyncio loop, on the connection that `CACHES["default"]` has. `#[hotpath]` says what a hot path takes and gives, the
//! [guide](https://github.com/vcache/vcache/blob/main/docs/topics/hotpaths.md) leads the way there.
//!
//! # A Rust program
//!
//! With `default-features = false, features = ["driver"]` the crate is the connection itself. There is no I/O thread:
//! the caller that waits for a reply polls it. That is a tokio runtime or a blocking thread ([`block_on`]), any number of them at
//! a time, all on one socket.
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
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `python` (default) | `hotpath` and `module`: functions that Python calls |
//! | `driver` | the connection itself: `configure`, `Config`. Not in an extension module, which would have its own |
//! | `admission` | `admission`: throttles, quotas and streams, and the gate that joins them in one round trip |
//! | `testing` | `testing::Server` and `#[vcache::test]`; for `[dev-dependencies]`, as it enables `driver` |
//! | `http` | `http`: `Request` and `Response` of hot routes, with `Json<T>` |
//! | `json` | `Json<T>`: parameters and results that are JSON on Python's side |
//! | `dict` | `FromDict<T>`, `ToDict<T>`: plain Python objects by serde |
//! | `awaitable` | `Awaitable`: a hot path awaits a coroutine |
//! | `spawn` | `#[hotpath(spawn)]`: bodies on a tokio runtime |
//! | `aws-lc-rs` | TLS by aws-lc, in place of ring; with `driver` |
//! | `tokio` | awaits in a tokio runtime; part of `driver` and `spawn` |
//!
//! # Inside
//!
//! | module | is for |
//! |---|---|
//! | `config` | a URL and options become a validated [`Config`] |
//! | `connection` | the handle, the driver, the socket, connecting and reconnecting |
//! | `reactor` | the pollers of the process, deadlines, and who waits |
//! | `notes` | warnings from threads that have no caller |
//! | `scope` | who drives the future that is polled on this thread |
//! | `blocking`, `tokio_driver`, `python` | the three who drive |
//! | `abi` | the connection of the wheel, for extension modules of their own |
//! | `admission` | throttles, quotas, streams, and the gate that joins them |
//! | `http` | a request and its answer, with the feature of that name |
//! | `json` | JSON by sonic-rs, its nesting bounded |
//! | `testing` | servers for tests, with the feature of that name |
//! | `fork` | what a forked child must know |

#[cfg(not(any(feature = "driver", feature = "python")))]
compile_error!(
    "enable `python` (the default: an extension module that shares the connection of the wheel django-vcache) or `driver` (a \
     program that connects itself)"
);

#[cfg(feature = "python")]
pub mod abi;
pub mod admission;
#[cfg(feature = "driver")]
mod blocking;
#[cfg(feature = "driver")]
mod config;
mod connection;
mod error;
mod fork;
#[cfg(feature = "http")]
pub mod http;
#[cfg(any(feature = "json", feature = "http"))]
mod json;
#[cfg(feature = "driver")]
mod notes;
#[cfg(feature = "python")]
pub mod python;
#[cfg(feature = "driver")]
mod reactor;
#[cfg(feature = "driver")]
mod scope;
#[cfg(any(feature = "driver", feature = "tokio", feature = "python"))]
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tokio")]
mod tokio_driver;
#[cfg(any(feature = "json", feature = "dict", feature = "http"))]
mod wrapper;

#[cfg(all(feature = "python", not(feature = "driver")))]
pub use abi::guest::block_on;
#[cfg(feature = "driver")]
pub use blocking::block_on;
#[cfg(feature = "driver")]
pub use config::{Config, CredentialProvider, Credentials, Options, SslOptions};
pub use connection::{Connection, Packet, Primaries, ReplyFuture, connection, connection_for};
#[cfg(feature = "driver")]
pub use connection::{
    RoundTrip, Watched, configure, publish, record_round_trips, recorded_round_trips,
    stop_recording_round_trips, unconfigure,
};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "testing")]
pub use hotpath_macros::test;
#[cfg(feature = "python")]
pub use hotpath_macros::{hotpath, module};
#[cfg(any(feature = "json", feature = "http"))]
pub use json::Json;
#[cfg(feature = "driver")]
pub use notes::set_notes;
#[cfg(feature = "python")]
pub use pyo3;
#[cfg(feature = "awaitable")]
pub use python::Awaitable;
#[cfg(feature = "dict")]
pub use python::{FromDict, ToDict};
pub use redis::{self, AsyncCommands, FromRedisValue, ToRedisArgs, Value};

/// What the file of a hot path begins with: `use vcache::prelude::*;`.
pub mod prelude {
    pub use redis::{AsyncCommands, FromRedisValue, ToRedisArgs};

    pub use crate::connection::Connection;
    #[cfg(feature = "http")]
    pub use crate::http::{Request, Response};
    #[cfg(any(feature = "json", feature = "http"))]
    pub use crate::json::Json;
    #[cfg(feature = "awaitable")]
    pub use crate::python::Awaitable;
    #[cfg(feature = "dict")]
    pub use crate::python::{FromDict, ToDict};
    #[cfg(feature = "python")]
    pub use crate::{hotpath, module};
}
