//! HTTP/1.1 for hot routes below ASGI. The reader takes a strict subset, in which a message has one length and one
//! only. All else it leaves to the server's own parser, which gets the bytes as they came: no message is framed in
//! two ways.
//!
//! | module | is for |
//! |---|---|
//! | [`line`] | the request line, by which a hot route is told from others |
//! | [`head`] | the headers: what they say of the length, and of the connection |
//! | [`framer`] | where a message ends, over bytes that come in pieces |
//! | [`reader`] | the class that Python feeds |
//! | [`direct`] | hot paths that are called without Python's part of a route |
//! | [`request`] | the class that a hot route gets |
//! | [`response`] | a response as bytes |

mod direct;
mod framer;
mod head;
mod line;
mod reader;
mod request;
mod response;

pub(crate) use head::header_in;
pub(crate) use reader::HotReader;
pub(crate) use request::HotRequest;

pub use framer::fuzz_cuts;
