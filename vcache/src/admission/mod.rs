//! What an ingest endpoint decides and writes: [`allow`], a throttle, and [`enqueue`], an entry on a stream.

mod stream;
mod throttle;

pub use stream::enqueue;
pub use throttle::{Allowance, allow};
