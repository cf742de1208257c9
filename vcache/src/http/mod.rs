//! The request and the answer of a hot route: what a hot path sees of HTTP. It knows neither Django nor asyncio, and
//! reads no socket: a [`Request`] is made of what a server has parsed, and a [`Response`] is given to one.
//!
//! ```
//! # fn main() {}
//! use serde::{Deserialize, Serialize};
//! use vcache::Error;
//! use vcache::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Vote<'a> {
//!     choice: &'a str,
//! }
//!
//! #[derive(Serialize)]
//! struct Count {
//!     votes: u64,
//! }
//!
//! async fn vote(conn: &mut Connection, request: Request, poll: u64) -> vcache::Result<Response> {
//!     let Vote { choice } = request.json()?;
//!     if choice.len() > 40 {
//!         return Err(Error::request(400, "a choice has at most 40 characters"));
//!     }
//!     let votes = conn.incr(format!("votes:{poll}:{choice}"), 1).await?;
//!     Response::new(200).header("Cache-Control", "no-store")?.json(&Count { votes })
//! }
//! ```
//!
//! | module | is for |
//! |---|---|
//! | `request` | [`Request`]: what the client has sent |
//! | `builder` | [`Builder`]: requests for tests |
//! | `headers` | [`Headers`]: in one buffer, looked up without case |
//! | `client` | the client's address behind proxies |
//! | `decode` | [`decoded`]: bodies that are compressed, within a limit |
//! | `response` | [`Response`] |

mod builder;
mod client;
mod decode;
mod headers;
mod request;
mod response;

pub use builder::Builder;
pub use decode::decoded;
pub use headers::Headers;
pub use request::Request;
#[cfg(feature = "python")]
pub(crate) use request::{Body, Parts, known_method, known_scheme};
pub use response::Response;
